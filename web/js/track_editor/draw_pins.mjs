/** The pinned background, as a veil of slanted lines over the image. */

const VEIL = "rgba(120, 190, 255, 0.30)";
const HATCH = "rgba(225, 240, 255, 0.55)";
const HATCH_STEP = 9;

/** @param {CanvasRenderingContext2D} context */
export function drawPins(context, view, model) {
  const { pins } = model.drawing;
  if (!pins.length) return;
  const ratio = context.getTransform().a;
  if (view.veil?.pins !== pins || view.veil.ratio !== ratio)
    view.veil = { pins, ratio, canvas: veilOf(pins, view, ratio) };
  context.save();
  context.beginPath();
  context.rect(view.left, view.top, view.width, view.height);
  context.clip();
  context.drawImage(view.veil.canvas, 0, 0, view.canvas.width, view.canvas.height);
  context.restore();
}

function veilOf(pins, view, ratio) {
  const painted = layer(view, ratio);
  for (const pin of pins) stamp(painted, view, pin);
  const veil = layer(view, ratio);
  hatch(veil, view);
  veil.globalCompositeOperation = "destination-in";
  veil.drawImage(painted.canvas, 0, 0, view.canvas.width, view.canvas.height);
  return veil.canvas;
}

/** An empty canvas of the view's size, as its context. */
function layer(view, ratio) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(view.canvas.width * ratio));
  canvas.height = Math.max(1, Math.round(view.canvas.height * ratio));
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return context;
}

function stamp(context, view, pin) {
  context.globalCompositeOperation = pin.erase ? "destination-out" : "source-over";
  context.lineJoin = context.lineCap = "round";
  context.lineWidth = 2 * pin.radius * view.width;
  const [first, ...others] = pin.points.map((point) => view.toScreen(point));
  context.beginPath();
  context.arc(...first, context.lineWidth / 2, 0, 2 * Math.PI); // a line without length would not be drawn
  context.fill();
  context.beginPath();
  context.moveTo(...first);
  for (const corner of others) context.lineTo(...corner);
  context.stroke();
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
