/** Keys, while the canvas has the focus. */

import * as edits from "./edits.mjs";
import { NONE } from "./model.mjs";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const FAR = 10; // image pixels with Shift, instead of one
const BRUSH_STEP = 1.15;
const NEW_POINT_OFFSET = [0.08, 0];

/**
 * @param {HTMLElement} target has the focus
 * @param {{model: import("./model.mjs").Model, imageSize: () => {width: number, height: number},
 *          cancelGesture: () => boolean, togglePlay: () => void, step: (frames: number) => void}} editor
 */
export function listenToKeys(target, editor) {
  target.addEventListener("keydown", (event) => {
    const command = event.ctrlKey || event.metaKey;
    if (event.altKey || editor.model.problem) return;
    const done = command ? onCommand(event, editor) : onKey(event, editor);
    // What is not ours (Ctrl+Enter runs the graph) goes on; plain keys never do: Delete would delete the node.
    if (done) event.preventDefault();
    if (done || (!command && event.key !== "Tab")) event.stopPropagation();
  });
  // The target can take text so that the graph leaves Ctrl+Z to it, but none shall arrive.
  target.addEventListener("beforeinput", (event) => event.preventDefault());
}

function onCommand(event, { model }) {
  const key = event.key.toLowerCase();
  if (key === "z" && !event.shiftKey) model.undo();
  else if (key === "y" || key === "z") model.redo();
  else return false;
  return true;
}

function onKey(event, editor) {
  const { model } = editor;
  const { key } = event;
  if (key in ARROWS) return nudge(editor, ARROWS[key], event.shiftKey ? FAR : 1);
  if (key === "Tab") return model.cycle(event.shiftKey ? -1 : 1); // beyond the last track, on to the next control
  if (key === "]") model.cycle(1);
  else if (key === "[") model.cycle(-1);
  else if (key === "Delete" || key === "Backspace") remove(model);
  else if (key === "Escape") editor.cancelGesture() || model.select(NONE);
  else if (key === "Enter") model.select(NONE);
  else if (key === " ") editor.togglePlay();
  else if (key === ",") editor.step(-1);
  else if (key === ".") editor.step(1);
  else if (key === "a" || key === "Insert") addPoint(model);
  else if (key === "p") nextPoint(model);
  else if (key === "+" || key === "=") model.set({ radius: Math.min(model.radius * BRUSH_STEP, 0.5) });
  else if (key === "-") model.set({ radius: Math.max(model.radius / BRUSH_STEP, 0.002) });
  else return false;
  return true;
}

function nudge({ model, imageSize }, [x, y], pixels) {
  if (!model.track) return true;
  const { selected, point } = model;
  const size = imageSize();
  const [du, dv] = [(x * pixels) / size.width, (y * pixels) / size.height];
  model.edit((drawing) => {
    if (point === NONE) return edits.moveTrack(drawing, selected, du, dv);
    const [u, v] = drawing.tracks[selected].points[point];
    return edits.movePoint(drawing, selected, point, [u + du, v + dv]);
  }, `nudge ${selected} ${point}`);
  return true;
}

function remove(model) {
  if (!model.track) return;
  if (model.point === NONE || model.track.points.length === 1) model.removeSelected();
  else model.removePoint(model.selected, model.point);
}

/** Without a pointer: the first point in the middle, each further one beside the last. */
function addPoint(model) {
  const track = model.track;
  const at = track?.points.length ?? 0;
  const point = at ? track.points[at - 1].map((share, axis) => share + NEW_POINT_OFFSET[axis]) : [0.5, 0.5];
  const index = at ? model.selected : model.drawing.tracks.length;
  model.edit((drawing) => (at ? edits.insertPoint(drawing, index, at, point) : edits.addTrack(drawing, [point])));
  model.select(index, at, true);
}

function nextPoint(model) {
  if (model.track) model.select(model.selected, (model.point + 1) % model.track.points.length, model.extending);
}
