/** Mouse, pen and touch on the canvas: what is under the pointer and the tool decide which gesture begins. */

import { distance } from "./curves.mjs";
import * as edits from "./edits.mjs";
import { NONE } from "./model.mjs";
import { controlPoints, simplified } from "./simplify.mjs";

/** A press that moves less than this, in canvas pixels, is a click. */
const CLICK = 4;
/** How far a free-hand track may be from the stroke, and a brush stroke from the brush, in canvas pixels. */
const STROKE_TOLERANCE = 2.5;
const BRUSH_TOLERANCE = 0.75;

/**
 * @typedef {{move: (place: number[]) => void, end: (place: number[], moved: boolean) => void}} Gesture
 * @param {{canvas: HTMLCanvasElement, model: import("./model.mjs").Model, view: () => import("./view.mjs").View,
 *          show: (overlay: {hover?: object, stroke?: number[][]}) => void, focus: () => void}} editor
 * @returns {() => boolean} cancels the gesture under way, if any
 */
export function listenToPointer({ canvas, model, view, show, focus }) {
  let gesture, from, moved;

  function cancel() {
    if (!gesture) return false;
    gesture = undefined;
    show({});
    model.cancel();
    return true;
  }

  function down(event) {
    if (event.button !== 0 || model.problem) return;
    taken(event);
    focus();
    capture(canvas, event.pointerId);
    [from, moved] = [placeOf(canvas, event), false];
    gesture = begin(model, view(), from, show);
  }

  function move(event) {
    const place = placeOf(canvas, event);
    if (gesture) {
      taken(event);
      moved ||= distance(from, place) >= CLICK;
      if (moved) gesture.move(place);
    } else if (!event.buttons && !model.problem) {
      const hit = view().hit(model, place);
      canvas.style.cursor = cursorFor(model, hit);
      show(isBrush(model.tool) || model.extending ? { hover: { place, hit } } : {});
    }
  }

  function up(event) {
    if (!gesture) return;
    taken(event);
    const done = gesture;
    gesture = undefined;
    show({});
    done.end(placeOf(canvas, event), moved);
  }

  function doubleClick(event) {
    taken(event);
    const hit = view().hit(model, placeOf(canvas, event));
    if (hit?.point !== undefined && !isBrush(model.tool)) model.removePoint(hit.track, hit.point);
  }

  canvas.addEventListener("pointerdown", down);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", cancel);
  canvas.addEventListener("lostpointercapture", cancel);
  canvas.addEventListener("pointerleave", () => gesture || show({}));
  canvas.addEventListener("dblclick", doubleClick);
  canvas.addEventListener("contextmenu", taken);
  return cancel;
}

const isBrush = (tool) => tool === "pin" || tool === "erase";

function taken(event) {
  event.preventDefault();
  event.stopPropagation();
}

function capture(canvas, pointer) {
  try {
    canvas.setPointerCapture(pointer);
  } catch {
    // The pointer is gone already, or was never a real one: then its events come without capture, or not at all.
  }
}

/** In canvas pixels, whatever zoom the graph has: the box is measured on the screen, the canvas in its own pixels. */
function placeOf(canvas, event) {
  const box = canvas.getBoundingClientRect();
  const scale = [canvas.clientWidth / box.width, canvas.clientHeight / box.height];
  return [(event.clientX - box.left) * scale[0], (event.clientY - box.top) * scale[1]];
}

function cursorFor(model, hit) {
  if (isBrush(model.tool)) return "none";
  if (hit?.point !== undefined) return "grab";
  if (hit) return hit.track === model.selected ? "copy" : "pointer";
  return "crosshair";
}

/** @returns {Gesture} */
function begin(model, view, place, show) {
  if (isBrush(model.tool)) return brush(model, view, place);
  const hit = view.hit(model, place);
  if (hit?.point !== undefined) return dragPoint(model, view, hit);
  if (hit) return dragTrack(model, view, hit, place);
  return model.tool === "static" ? setStatic(model, view) : drawTrack(model, view, place, show);
}

function dragPoint(model, view, { track, point }) {
  const last = point === model.drawing.tracks[track].points.length - 1;
  model.select(track, point, last);
  return {
    move: (place) => model.show((drawing) => edits.movePoint(drawing, track, point, view.toShares(place))),
    end: () => model.commit(),
  };
}

/** A drag moves the track; a click selects it, or, if it is selected already, adds a point. */
function dragTrack(model, view, { track, at }, from) {
  const selected = track === model.selected;
  model.select(track, NONE, true);
  return {
    move([x, y]) {
      const [du, dv] = [(x - from[0]) / view.width, (y - from[1]) / view.height];
      model.show((drawing) => edits.moveTrack(drawing, track, du, dv));
    },
    end(place, moved) {
      model.commit();
      if (moved || !selected) return;
      model.edit((drawing) => edits.insertPoint(drawing, track, at, view.toShares(from)));
      model.select(track, at);
    },
  };
}

function setStatic(model, view) {
  return {
    move() {},
    end(place) {
      model.edit((drawing) => edits.addTrack(drawing, [view.toShares(place)]));
      model.select(model.drawing.tracks.length - 1, 0);
    },
  };
}

/** A stroke is a new track; a click adds a point to the track that is being drawn, or begins one. */
function drawTrack(model, view, from, show) {
  const stroke = [from];
  return {
    move(place) {
      stroke.push(place);
      show({ stroke });
    },
    end(place, moved) {
      if (moved) addStroke(model, view, stroke);
      else addClick(model, view.toShares(from));
    },
  };
}

function addStroke(model, view, stroke) {
  const points = controlPoints(stroke, STROKE_TOLERANCE).map((corner) => view.toShares(corner));
  model.edit((drawing) => edits.addTrack(drawing, points));
  model.select(model.drawing.tracks.length - 1);
}

function addClick(model, point) {
  const track = model.extending ? model.selected : model.drawing.tracks.length;
  const at = model.extending ? model.track.points.length : 0;
  model.edit((drawing) => (at ? edits.insertPoint(drawing, track, at, point) : edits.addTrack(drawing, [point])));
  model.select(track, at, true);
}

function brush(model, view, from) {
  const stroke = [from];
  const pin = (corners) => ({
    points: corners.map((corner) => view.toShares(corner)),
    radius: model.radius,
    erase: model.tool === "erase",
  });
  model.show((drawing) => edits.addPin(drawing, pin(stroke)));
  return {
    move(place) {
      stroke.push(place);
      model.show((drawing) => edits.addPin(drawing, pin(stroke)));
    },
    end() {
      model.edit((drawing) => edits.addPin(drawing, pin(simplified(stroke, BRUSH_TOLERANCE))));
    },
  };
}
