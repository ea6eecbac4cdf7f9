/** Paint the canvas: image, pinned places, tracks, and where everything is in the frame on show. */

import { placeAt } from "./curves.mjs";
import { drawPins } from "./draw_pins.mjs";
import { drawFrameMarks } from "./draw_marks.mjs";
import { isVisible, timeOfFrame, travelled } from "./timing.mjs";

/** Apart in hue and lightness, on light and dark images, also for most colour-blind eyes. */
const COLOURS = ["#56c7f5", "#ffb02e", "#7be07b", "#ff7fb0", "#c4a4ff", "#f7ec59", "#ff7759", "#52e3c2"];
const HALO = "rgba(10, 12, 16, 0.72)";
const WHITE = "#ffffff";
const GRID_CELLS = 8;
/** With more tracks than this the unselected ones are bare lines: ten thousand are still drawn at once. */
const MOST_DETAILED = 300;

export const colourOf = (index) => COLOURS[index % COLOURS.length];

/** @param {CanvasRenderingContext2D} context scaled to CSS pixels */
export function draw(context, { view, model, picture, hover, stroke }) {
  context.clearRect(0, 0, view.canvas.width, view.canvas.height);
  drawGround(context, view, picture);
  drawPins(context, view, model);
  const { tracks } = model.drawing;
  if (tracks.length > MOST_DETAILED) drawBareLines(context, view, tracks);
  else tracks.forEach((track, i) => i !== model.selected && drawTrack(context, view, model, track, i));
  if (model.track) drawTrack(context, view, model, model.track, model.selected);
  if (model.track) drawFrameMarks(context, view, model);
  if (model.frame > 0 || model.playing) tracks.forEach((track, i) => drawMover(context, view, model, track, i));
  if (stroke) line(context, stroke, colourOf(tracks.length), 2.5);
  if (hover) drawHover(context, view, model, hover);
}

function drawGround(context, view, picture) {
  const { left, top, width, height } = view;
  if (picture) {
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, left, top, width, height);
  } else {
    context.fillStyle = "#3a3d42";
    context.fillRect(left, top, width, height);
    context.strokeStyle = "rgba(255, 255, 255, 0.07)";
    context.lineWidth = 1;
    context.beginPath();
    const cell = Math.max(width, height) / GRID_CELLS;
    for (let x = cell; x < width; x += cell) (context.moveTo(left + x, top), context.lineTo(left + x, top + height));
    for (let y = cell; y < height; y += cell) (context.moveTo(left, top + y), context.lineTo(left + width, top + y));
    context.stroke();
  }
  context.strokeStyle = "rgba(255, 255, 255, 0.25)";
  context.lineWidth = 1;
  context.strokeRect(left - 0.5, top - 0.5, width + 1, height + 1);
}

function drawBareLines(context, view, tracks) {
  context.lineWidth = 1;
  COLOURS.forEach((colour, offset) => {
    context.strokeStyle = colour;
    context.beginPath();
    for (let i = offset; i < tracks.length; i += COLOURS.length) {
      const { points } = view.shape(tracks[i]);
      points.forEach(([x, y], k) => (k ? context.lineTo(x, y) : context.moveTo(x, y)));
      if (points.length === 1) context.rect(points[0][0] - 1, points[0][1] - 1, 2, 2);
    }
    context.stroke();
  });
}

function drawTrack(context, view, model, track, index) {
  const selected = index === model.selected;
  const { points, line: corners } = view.shape(track);
  const colour = colourOf(index);
  context.globalAlpha = track.enabled ? 1 : 0.35;
  if (points.length > 1) {
    line(context, corners, colour, selected ? 3 : 2);
    arrowHead(context, corners, colour, selected ? 11 : 9);
  }
  if (points.length === 1) cross(context, points[0], colour, selected);
  else points.forEach((point, i) => disc(context, point, handleRadius(i, selected), i === 0 ? HALO : colour, colour));
  if (selected && points[model.point]) ring(context, points[model.point], 8);
  context.globalAlpha = 1;
}

const handleRadius = (i, selected) => (selected ? (i === 0 ? 5 : 4.5) : i === 0 ? 3.5 : 2);

/** Where the track is in the frame on show. */
function drawMover(context, view, model, track, index) {
  const time = timeOfFrame(model.frame, model.frames);
  if (!track.enabled || !isVisible(track, time)) return;
  const place = placeAt(view.shape(track).curve, travelled(track, time));
  if (model.drawing.tracks.length > MOST_DETAILED) {
    context.fillStyle = colourOf(index);
    context.fillRect(place[0] - 1.5, place[1] - 1.5, 3, 3);
    return;
  }
  disc(context, place, 6, WHITE, HALO, 1.5);
  disc(context, place, 3.5, colourOf(index), colourOf(index));
}

/** What a click would do: a dashed line to where the next point would go, or the brush. */
function drawHover(context, view, model, hover) {
  if (model.tool === "pin" || model.tool === "erase") {
    ring(context, hover.place, Math.max(model.radius * view.width, 1), 1.5);
  } else if (model.tool === "draw" && model.extending && model.track && !hover.hit) {
    context.setLineDash([4, 5]);
    line(context, [view.shape(model.track).points.at(-1), hover.place], colourOf(model.selected), 1.5);
    context.setLineDash([]);
  }
}

function line(context, corners, colour, width) {
  context.lineJoin = context.lineCap = "round";
  context.beginPath();
  corners.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  for (const [style, extra] of [
    [HALO, 2.5],
    [colour, 0],
  ]) {
    context.strokeStyle = style;
    context.lineWidth = width + extra;
    context.stroke();
  }
}

function arrowHead(context, corners, colour, size) {
  const [x, y] = corners.at(-1);
  const before = corners.findLast(([a, b]) => Math.hypot(x - a, y - b) > size / 2) ?? corners[0];
  const angle = Math.atan2(y - before[1], x - before[0]);
  context.beginPath();
  context.moveTo(x + size * Math.cos(angle), y + size * Math.sin(angle));
  for (const side of [2.4, -2.4]) context.lineTo(x + size * Math.cos(angle + side), y + size * Math.sin(angle + side));
  context.closePath();
  filled(context, colour, HALO, 1);
}

function disc(context, [x, y], radius, fill, edge, width = 2) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  filled(context, fill, edge, width);
}

function filled(context, fill, edge, width) {
  context.fillStyle = fill;
  context.strokeStyle = edge;
  context.lineWidth = width;
  context.fill();
  context.stroke();
}

function ring(context, [x, y], radius, width = 2) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  for (const [style, extra] of [
    [HALO, 2],
    [WHITE, 0],
  ]) {
    context.strokeStyle = style;
    context.lineWidth = width + extra;
    context.stroke();
  }
}

/** A static point: a disc with a cross through it, as on a surveyor's map. */
function cross(context, [x, y], colour, selected) {
  const arm = selected ? 10 : 8;
  line(
    context,
    [
      [x - arm, y],
      [x + arm, y],
    ],
    colour,
    2,
  );
  line(
    context,
    [
      [x, y - arm],
      [x, y + arm],
    ],
    colour,
    2,
  );
  disc(context, [x, y], selected ? 5 : 4, colour, HALO, 1.5);
}
