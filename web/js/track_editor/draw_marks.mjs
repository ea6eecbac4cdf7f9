/** Frame marks along the selected curve: their spacing is the speed, their numbers are the frames. */

import { distance, placeAt } from "./curves.mjs";
import { timeOfFrame, travelled } from "./timing.mjs";

const TICK = 5;
const MOST_MARKS = 240;
const LABEL_ROOM = 34;
const SAME_PLACE = 0.75;

/** @param {CanvasRenderingContext2D} context */
export function drawFrameMarks(context, view, model) {
  const { curve } = view.shape(model.track);
  if (!curve.segments.length) return;
  const marks = frameMarks(curve, model.track, model.frames);
  context.lineCap = "butt";
  marks.forEach((mark, i) => tick(context, mark.place, normalAt(marks, i)));
  for (const i of labelled(marks)) label(context, marks[i], normalAt(marks, i));
}

/** Which marks have room for their number: first where the track rests and ends, then along the way. */
function labelled(marks) {
  const urgent = (i) => (marks[i].last > marks[i].first || i === 0 || i === marks.length - 1 ? 0 : 1);
  const chosen = [];
  for (const i of [...marks.keys()].sort((a, b) => urgent(a) - urgent(b) || a - b)) {
    if (chosen.every((other) => distance(marks[other].place, marks[i].place) >= LABEL_ROOM)) chosen.push(i);
  }
  return chosen;
}

/** Frames at one place are one mark: `{place, first, last}`. */
function frameMarks(curve, track, frames) {
  const step = Math.max(1, Math.ceil(frames / MOST_MARKS));
  const marks = [];
  for (let frame = 0; frame < frames; frame += step) {
    const place = placeAt(curve, travelled(track, timeOfFrame(frame, frames)));
    const before = marks.at(-1);
    if (before && distance(before.place, place) < SAME_PLACE) before.last = frame;
    else marks.push({ place, first: frame, last: frame });
  }
  return marks;
}

function normalAt(marks, i) {
  const [a, b] = [marks[Math.max(i - 1, 0)].place, marks[Math.min(i + 1, marks.length - 1)].place];
  const length = distance(a, b) || 1;
  return [-(b[1] - a[1]) / length, (b[0] - a[0]) / length];
}

function tick(context, [x, y], [nx, ny]) {
  context.beginPath();
  context.moveTo(x - nx * TICK, y - ny * TICK);
  context.lineTo(x + nx * TICK, y + ny * TICK);
  for (const [style, width] of [
    ["rgba(10, 12, 16, 0.6)", 3],
    ["#ffffff", 1.2],
  ]) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.stroke();
  }
}

function label(context, { place: [x, y], first, last }, [nx, ny]) {
  const text = last > first ? `${first}\u2013${last}` : `${first}`;
  const side = ny > 0 ? -1 : 1; // above the curve
  context.font = "10px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = 3;
  context.strokeStyle = "rgba(10, 12, 16, 0.8)";
  context.fillStyle = "#ffffff";
  const at = [x + side * nx * (TICK + 9), y + side * ny * (TICK + 9)];
  context.strokeText(text, ...at);
  context.fillText(text, ...at);
}
