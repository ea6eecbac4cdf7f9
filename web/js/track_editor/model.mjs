/** What the editor shows and edits. Everything that changes goes through here, and every change is announced. */

import { EMPTY, readDocument, writeDocument } from "./document.mjs";
import * as edits from "./edits.mjs";
import { History } from "./history.mjs";

export const NONE = -1;

export class Model {
  /** @param {{onChange: () => void, onEdit: (kind?: string) => void}} listeners to redraw, and to tell the graph */
  constructor({ onChange, onEdit }) {
    Object.assign(this, { onChange, onEdit });
    this.history = new History(EMPTY);
    this.preview = null; // the drawing while a gesture lasts
    this.tool = "draw";
    this.radius = 0.06; // of the brush, as a share of image width
    this.frame = 0;
    this.frames = 1;
    this.playing = false;
    this.#select(NONE, NONE, false);
    this.problem = ""; // why the text could not be read; it is then kept as it came
    this.notice = ""; // said once, until the next change
    this.written = { drawing: null, text: "" };
  }

  /** @returns {import("./document.mjs").Drawing} */
  get drawing() {
    return this.preview ?? this.history.value;
  }

  /** The selected track, if any. */
  get track() {
    return this.drawing.tracks[this.selected];
  }

  // --- the text --------------------------------------------------------------------------------------------------

  get text() {
    if (this.problem) return this.unread;
    if (this.written.drawing !== this.history.value) {
      this.written = { drawing: this.history.value, text: writeDocument(this.history.value) };
    }
    return this.written.text;
  }

  /**
   * Take a text from the graph. It stays as it is, to the letter, until the first edit: opening a workflow changes
   * nothing. One that cannot be read is kept too, so that saving the workflow loses nothing.
   */
  load(text) {
    if (text === this.text) return;
    this.preview = null;
    this.notice = "";
    try {
      this.history.reset(readDocument(text));
      this.problem = "";
      this.written = { drawing: this.history.value, text };
    } catch (error) {
      this.history.reset(EMPTY);
      [this.problem, this.unread] = [error.message, text];
    }
    this.#select(NONE, NONE, false);
    this.onChange();
  }

  /** Give up a text that cannot be read, and begin anew. */
  reset() {
    this.problem = "";
    this.#finished();
  }

  // --- edits -----------------------------------------------------------------------------------------------------

  /** Make one edit, a step to undo. Edits of one `kind` in a row count as one. */
  edit(change, kind) {
    this.preview = null;
    if (this.problem) return; // it would be lost: the unread text is what counts
    const next = change(this.history.value);
    if (next === this.history.value) return;
    this.history.push(next, kind);
    this.#finished(kind);
  }

  /** Show an edit while a gesture lasts; `commit` keeps it, `cancel` does not. */
  show(change) {
    this.preview = change(this.history.value);
    this.#changed();
  }

  commit() {
    const shown = this.preview;
    if (shown) this.edit(() => shown);
  }

  cancel() {
    this.preview = null;
    this.#changed();
  }

  undo() {
    this.#travel(() => this.history.undo());
  }

  redo() {
    this.#travel(() => this.history.redo());
  }

  addTracks(tracks) {
    this.edit((drawing) => edits.addTracks(drawing, tracks));
    this.select(this.drawing.tracks.length - 1);
  }

  removePoint(track, point) {
    this.edit((drawing) => edits.removePoint(drawing, track, point));
    this.select(this.selected, Math.min(point, (this.track?.points.length ?? 0) - 1));
  }

  removeSelected() {
    if (!this.track) return;
    this.edit((drawing) => edits.removeTrack(drawing, this.selected));
    this.select(NONE);
  }

  clear() {
    this.edit(() => EMPTY);
    this.select(NONE);
  }

  // --- what is chosen ----------------------------------------------------------------------------------------------

  /** Select a track and one of its points. `extending`: further clicks add points at its end. */
  select(track, point = NONE, extending = false) {
    this.#select(track, point, extending);
    this.#changed();
  }

  /** The next track of the list; whether there was one. */
  cycle(step) {
    const last = this.drawing.tracks.length - 1;
    const next = this.selected === NONE ? (step > 0 ? 0 : last) : this.selected + step;
    if (next < 0 || next > last) return false;
    this.select(next, NONE, true);
    return true;
  }

  set(settings) {
    Object.assign(this, settings);
    this.#changed();
  }

  say(notice) {
    this.notice = notice;
    this.onChange();
  }

  #select(track, point, extending) {
    const exists = track >= 0 && track < (this.history?.value.tracks.length ?? 0);
    [this.selected, this.point, this.extending] = exists ? [track, point, extending] : [NONE, NONE, false];
  }

  #travel(step) {
    if (this.problem) return;
    this.preview = null;
    step();
    if (!this.track) this.#select(NONE, NONE, false);
    else if (this.point >= this.track.points.length) this.point = NONE;
    this.#finished();
  }

  #changed() {
    this.notice = "";
    this.onChange();
  }

  #finished(kind) {
    this.#changed();
    this.onEdit(kind);
  }
}
