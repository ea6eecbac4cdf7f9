/** The track editor as one element: its parts, and who tells whom. Knows the graph only through `host`. */

import { Background } from "./background.mjs";
import { clipboard } from "./clipboard.mjs";
import { icon, make } from "./dom.mjs";
import { draw } from "./draw.mjs";
import { hint } from "./hints.mjs";
import { ICONS } from "./icons.mjs";
import { listenToKeys } from "./keyboard.mjs";
import { Model } from "./model.mjs";
import { playback } from "./playback.mjs";
import { listenToPointer } from "./pointer.mjs";
import { helpSheet, problemSheet, sheetHolder } from "./sheets.mjs";
import { timingFields } from "./timing_fields.mjs";
import { button, radiusSlider, toolbar } from "./toolbar.mjs";
import { trackList } from "./track_list.mjs";
import { View } from "./view.mjs";

/** Zoomed in, the canvas is painted finer, up to this many device pixels for one of its own. */
const FINEST = 4;
const KEYS_LABEL =
  "Track canvas. Tab goes through the tracks, arrows move, a adds a point, Delete removes, Space plays.";

export class TrackEditor {
  /**
   * @param {{node: object, app: object, imageInput: string, frames: () => number,
   *          onEdit: (kind?: string) => void}} host  `kind` is given when edits of that kind may come in a row
   */
  constructor(host) {
    this.host = host;
    this.model = new Model({ onChange: () => this.refresh(), onEdit: host.onEdit });
    this.overlay = {};
    this.#build();
    this.background = new Background({
      node: host.node,
      input: host.imageInput,
      app: host.app,
      onChange: () => this.#reshape(),
    });
    this.#connect();
    this.resizing = new ResizeObserver(() => this.#reshape());
    this.#reshape();
  }

  /** The node is in a graph. */
  start() {
    this.resizing.observe(this.stage);
  }

  /** The node has left it: let go of everything outside the element. */
  stop() {
    this.resizing.disconnect();
    this.player.stop();
    cancelAnimationFrame(this.request);
    this.request = undefined;
  }

  /** Something changed: bring every part up to date, the canvas with the next picture of the screen. */
  refresh() {
    const { model } = this;
    if (!this.background) return; // still being put together
    model.frames = Math.max(1, Math.round(this.host.frames()) || 1);
    model.frame = Math.min(model.frame, model.frames - 1);
    this.bar.refresh();
    this.radius.refresh();
    this.list.refresh();
    this.timing.refresh();
    this.#refreshPlayer();
    this.#refreshProblem();
    this.message.textContent = hint(model);
    this.message.classList.toggle("att-problem", Boolean(model.problem));
    this.#requestDraw();
  }

  // --- parts -----------------------------------------------------------------------------------------------------

  #build() {
    const { model } = this;
    this.actions = {
      undo: () => model.undo(),
      redo: () => model.redo(),
      delete: () => model.removeSelected(),
      clear: () => model.clear(),
      help: () => (this.sheet.isOpen() ? this.sheet.close() : this.sheet.show(...helpSheet(this.sheet.close))),
    };
    this.bar = toolbar(model, this.actions, (preset) => this.#addPreset(preset));
    this.canvas = make("canvas", { class: "aqueduct-track-canvas", tabindex: -1, "aria-hidden": "true" });
    // It has the focus instead of the canvas, because the graph leaves Ctrl+Z to text fields alone.
    this.keys = make("input", { class: "att-keys", inputmode: "none", autocomplete: "off", "aria-label": KEYS_LABEL });
    this.sheet = sheetHolder();
    this.radius = radiusSlider(model);
    this.stage = make("div", { class: "att-stage" }, this.canvas, this.keys, this.radius.element, this.sheet.element);
    this.play = button("play", "Play (Space)", () => this.player.toggle());
    this.scrub = make("input", {
      type: "range",
      min: 0,
      step: 1,
      value: 0,
      "data-action": "scrub",
      "aria-label": "Frame",
      oninput: () => (this.player.stop(), model.set({ frame: Number(this.scrub.value) })),
    });
    this.frame = make("output", { class: "att-frame" });
    this.list = trackList(model);
    this.timing = timingFields(model);
    this.message = make("div", { "data-role": "message", role: "status", "aria-live": "polite" });
    this.source = make("div", { class: "att-source" });
    // "widget-expands" is how the front end of 2025 knows which widget takes the height that a node has to spare.
    this.element = make(
      "div",
      { class: "aqueduct-track-editor widget-expands", title: "" },
      this.bar.element,
      this.stage,
      make("div", { class: "att-play" }, this.play, this.scrub, this.frame),
      make("div", { class: "att-bottom" }, this.list.element, this.timing.element),
      make("div", { class: "att-foot" }, this.message, this.source),
    );
  }

  #connect() {
    const { model, canvas, keys } = this;
    this.player = playback(model);
    const focus = () => this.#focus();
    const cancelGesture = listenToPointer({
      canvas,
      model,
      focus,
      view: () => this.view,
      show: (overlay) => this.#show(overlay),
    });
    listenToKeys(keys, {
      model,
      cancelGesture,
      imageSize: () => this.background.size,
      togglePlay: () => this.player.toggle(),
      step: (by) => (this.player.stop(), model.set({ frame: (model.frame + by + model.frames) % model.frames })),
    });
    canvas.addEventListener("focus", focus);
    Object.assign(this.actions, clipboard({ model, sheet: this.sheet, background: this.background, keys }));
    this.element.addEventListener("pointerenter", () => (this.background.refresh(), this.refresh()));
    this.element.addEventListener("keydown", keepFromGraph);
    this.element.addEventListener("click", (event) => this.#afterClick(event));
    for (const type of ["pointerdown", "pointerup", "wheel"]) {
      this.element.addEventListener(type, (event) => event.target !== canvas && event.stopPropagation());
    }
  }

  /** After a click on a button or a row the keys go to the canvas; who came by keyboard (detail 0) stays there. */
  #afterClick(event) {
    const elsewhere = this.sheet.isOpen() || document.activeElement?.closest(".att-menu");
    if (event.detail && !elsewhere && event.target.closest(".att-bar button, .att-row")) this.#focus();
  }

  #focus() {
    this.keys.focus({ preventScroll: true });
  }

  #addPreset({ label, tracks }) {
    const { width, height } = this.background.size;
    const made = tracks(width / height);
    this.model.addTracks(made);
    this.model.say(`${label}: ${made.length} tracks.`);
    this.#focus();
  }

  #refreshPlayer() {
    const { model, play, scrub } = this;
    if (this.playShown !== model.playing) play.replaceChildren(icon(model.playing ? ICONS.pause : ICONS.play));
    this.playShown = model.playing;
    play.setAttribute("aria-pressed", String(model.playing));
    scrub.max = model.frames - 1;
    scrub.value = model.frame;
    this.frame.textContent = `frame ${model.frame} / ${model.frames - 1}`;
  }

  #refreshProblem() {
    const { problem } = this.model;
    if (problem === this.problemShown) return;
    this.problemShown = problem;
    if (problem) this.sheet.show(...problemSheet(problem, this.model.text, () => this.model.reset()));
    else this.sheet.close();
  }

  // --- the canvas ------------------------------------------------------------------------------------------------

  #reshape() {
    const { canvas, background } = this;
    if (!background) return;
    this.view = new View({ width: this.stage.clientWidth || 1, height: this.stage.clientHeight || 1 }, background.size);
    const { width, height } = background.size;
    const size = `${width} \u00d7 ${height}`;
    this.source.textContent = background.picture
      ? `${background.from}, ${size}`
      : background.known
        ? size
        : "no image yet";
    canvas.setAttribute("title", "");
    this.refresh();
  }

  /** What the pointer adds to the picture for a moment: a brush, a line under way. */
  #show(overlay) {
    const nothing = !Object.keys(overlay).length && !Object.keys(this.overlay).length;
    this.overlay = overlay;
    if (!nothing) this.#requestDraw();
  }

  #requestDraw() {
    this.request ??= requestAnimationFrame(() => {
      this.request = undefined;
      this.#draw();
    });
  }

  #draw() {
    const { canvas, view, model, background } = this;
    const zoom = canvas.getBoundingClientRect().width / view.canvas.width || 1;
    const ratio = Math.min(Math.ceil(devicePixelRatio * Math.max(zoom, 1) * 2) / 2, FINEST);
    const [width, height] = [Math.round(view.canvas.width * ratio), Math.round(view.canvas.height * ratio)];
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    draw(context, { view, model, picture: background.picture, ...this.overlay });
  }
}

/** Keys typed into a field are no commands for the graph. */
function keepFromGraph(event) {
  if (!event.ctrlKey && !event.metaKey && event.key !== "Tab") event.stopPropagation();
}
