/** The pinned background, as a veil of slanted lines over the image. */

const VEIL = "rgba(120, 190, 255, 0.30)";
const HATCH = "rgba(225, 240, 255, 0.55)";
const HATCH_STEP = 9;

/** @param {CanvasRenderingContext2D} context */
export function drawPins(context, view, model) {
  const { pins } = model.drawing;
  if (!pins.length) return;
  const painted = layerLike(context, view);
  for (const pin of pins) stamp(painted, view, pin);
  const veil = layerLike(context, view);
  hatch(veil, view);
  veil.globalCompositeOperation = "destination-in";
  veil.drawImage(painted.canvas, 0, 0, view.canvas.width, view.canvas.height);
  context.save();
  context.beginPath();
  context.rect(view.left, view.top, view.width, view.height);
  context.clip();
  context.drawImage(veil.canvas, 0, 0, view.canvas.width, view.canvas.height);
  context.restore();
}

/** An empty canvas of the same size and scale, as its context. */
function layerLike(context, view) {
  const ratio = context.getTransform().a;
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(view.canvas.width * ratio));
  canvas.height = Math.max(1, Math.round(view.canvas.height * ratio));
  const layer = canvas.getContext("2d");
  layer.scale(ratio, ratio);
  return layer;
}

function stamp(layer, view, pin) {
  layer.globalCompositeOperation = pin.erase ? "destination-out" : "source-over";
  layer.lineJoin = layer.lineCap = "round";
  layer.lineWidth = 2 * pin.radius * view.width;
  const [first, ...others] = pin.points.map((point) => view.toScreen(point));
  layer.beginPath();
  layer.arc(...first, layer.lineWidth / 2, 0, 2 * Math.PI); // a line without length would not be drawn
  layer.fill();
  layer.beginPath();
  layer.moveTo(...first);
  for (const corner of others) layer.lineTo(...corner);
  layer.stroke();
}

function hatch(veil, view) {
  veil.fillStyle = VEIL;
  veil.fillRect(0, 0, view.canvas.width, view.canvas.height);
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
