/** The pinned background, as a veil of slanted lines over the image. */

const VEIL = "rgba(120, 190, 255, 0.30)";
const HATCH = "rgba(214, 235, 255, 0.75)";
const HATCH_STEP = 9;

/** @param {CanvasRenderingContext2D} context */
export function drawPins(context, view, model) {
  const { pins } = model.drawing;
  if (!pins.length) return;
  const ratio = context.getTransform().a;
  const layer = document.createElement("canvas");
  layer.width = Math.max(1, Math.round(view.canvas.width * ratio));
  layer.height = Math.max(1, Math.round(view.canvas.height * ratio));
  const veil = layer.getContext("2d");
  veil.scale(ratio, ratio);
  for (const pin of pins) stamp(veil, view, pin);
  // Within what is painted alone: first the colour, then the lines.
  veil.globalCompositeOperation = "source-in";
  veil.fillStyle = VEIL;
  veil.fillRect(0, 0, view.canvas.width, view.canvas.height);
  veil.globalCompositeOperation = "source-atop";
  hatch(veil, view);
  context.save();
  context.beginPath();
  context.rect(view.left, view.top, view.width, view.height);
  context.clip();
  context.drawImage(layer, 0, 0, view.canvas.width, view.canvas.height);
  context.restore();
}

function stamp(veil, view, pin) {
  veil.globalCompositeOperation = pin.erase ? "destination-out" : "source-over";
  veil.lineJoin = veil.lineCap = "round";
  veil.lineWidth = 2 * pin.radius * view.width;
  veil.beginPath();
  const corners = pin.points.map((point) => view.toScreen(point));
  veil.moveTo(...corners[0]);
  // A line to where it began draws the round cap alone: a dab.
  for (const corner of corners.length > 1 ? corners.slice(1) : corners) veil.lineTo(...corner);
  veil.stroke();
}

function hatch(veil, view) {
  const reach = view.canvas.width + view.canvas.height;
  veil.strokeStyle = HATCH;
  veil.lineWidth = 1;
  veil.beginPath();
  for (let x = -view.canvas.height; x < reach; x += HATCH_STEP) {
    veil.moveTo(x, view.canvas.height);
    veil.lineTo(x + view.canvas.height, 0);
  }
  veil.stroke();
}
