/**
 * The drawing as JSON, version 1. `core/motion/track_document.py` says the same on the server: a change belongs in
 * both.
 *
 * @typedef {[number, number]} Point  shares of the image, 0..1 between its outer edges; may lie outside
 * @typedef {{points: Point[], curve: string, start: number, end: number, ease: string, hold: boolean,
 *            enabled: boolean, name: string}} Track  one point is a static track; times are shares of the clip
 * @typedef {{points: Point[], radius: number, erase: boolean}} Pin  a brush stroke; radius as a share of image width
 * @typedef {{tracks: Track[], pins: Pin[]}} Drawing  never changed in place: every edit makes a new one
 */

export const VERSION = 1;
export const EASES = ["linear", "in", "out", "in-out"];
export const CURVES = ["smooth", "straight"];
export const EMPTY = Object.freeze({ tracks: Object.freeze([]), pins: Object.freeze([]) });

/** Beyond this a coordinate is no track that leaves the frame: somebody wrote pixels. */
const FARTHEST = 20;
/** A ten-thousandth of a percent of the image: below a hundredth of a pixel up to 10,000 pixels. */
const DIGITS = 6;

/** @returns {Track} */
export function newTrack(points, settings = {}) {
  const plain = { curve: "smooth", start: 0, end: 1, ease: "linear", hold: true, enabled: true, name: "" };
  return { points, ...plain, ...settings };
}

/** @param {string} text @returns {Drawing} Throws an Error that says where and what. */
export function readDocument(text) {
  let data;
  try {
    data = JSON.parse(text);
  } catch (error) {
    throw new Error(`The drawing is not JSON: ${error.message}`);
  }
  typed(data, "object", "The drawing");
  if (data.version !== VERSION) {
    const found = "version" in data ? `has version ${brief(data.version)}` : "names no version";
    throw new Error(`The drawing ${found}; this Aqueduct reads version ${VERSION}.`);
  }
  known(data, ["version", "tracks", "pins"], "The drawing");
  return {
    tracks: list(data.tracks ?? [], "tracks").map((item, i) => readTrack(item, `tracks[${i}]`)),
    pins: list(data.pins ?? [], "pins").map((item, i) => readPin(item, `pins[${i}]`)),
  };
}

/** @param {Drawing} drawing */
export function writeDocument(drawing) {
  const points = (item) => item.points.map((point) => point.map(rounded));
  const tracks = drawing.tracks.map((track) => ({ ...track, points: points(track) }));
  const pins = drawing.pins.map((pin) => ({ ...pin, points: points(pin), radius: rounded(pin.radius) }));
  return JSON.stringify({ version: VERSION, tracks, pins });
}

function readTrack(item, where) {
  typed(item, "object", where);
  if (item.name && typeof item.name === "string") where += ` ("${item.name}")`;
  const track = newTrack([]);
  known(item, Object.keys(track), where);
  Object.assign(track, item, { points: readPoints(item.points, where) });
  choice(track.curve, CURVES, `${where}: curve`);
  choice(track.ease, EASES, `${where}: ease`);
  number(track.start, 0, 1, `${where}: start`);
  number(track.end, 0, 1, `${where}: end`);
  typed(track.hold, "boolean", `${where}: hold`);
  typed(track.enabled, "boolean", `${where}: enabled`);
  typed(track.name, "string", `${where}: name`);
  if (track.start > track.end) throw new Error(`${where}: it ends before it starts.`);
  return track;
}

function readPin(item, where) {
  typed(item, "object", where);
  known(item, ["points", "radius", "erase"], where);
  const pin = { points: readPoints(item.points, where), radius: item.radius, erase: item.erase ?? false };
  number(pin.radius, 0, FARTHEST, `${where}: radius`);
  if (pin.radius === 0) throw new Error(`${where}: radius is 0.`);
  typed(pin.erase, "boolean", `${where}: erase`);
  return pin;
}

function readPoints(value, where) {
  list(value, `${where}: points`);
  if (!value.length) throw new Error(`${where}: points is empty.`);
  return value.map((point, i) => {
    if (!Array.isArray(point) || point.length !== 2) throw new Error(`${where}: points[${i}] is not [u, v].`);
    point.forEach((share) => number(share, -FARTHEST, FARTHEST, `${where}: points[${i}]`));
    return [point[0], point[1]];
  });
}

function number(value, low, high, what) {
  if (typeof value === "number" && value >= low && value <= high) return;
  throw new Error(`${what} is a number from ${low} to ${high}, got ${brief(value)}.`);
}

function choice(value, options, what) {
  if (!options.includes(value)) throw new Error(`${what} is one of ${options.join(", ")}, got ${brief(value)}.`);
}

function typed(value, type, what) {
  const fits = typeof value === type && value !== null && !Array.isArray(value);
  if (!fits) throw new Error(`${what} is no ${type}: ${brief(value)}.`);
}

function list(value, what) {
  if (!Array.isArray(value)) throw new Error(`${what} is no list: ${brief(value)}.`);
  return value;
}

function known(item, keys, where) {
  const unknown = Object.keys(item).find((key) => !keys.includes(key));
  if (unknown) throw new Error(`${where} has no "${unknown}" in version ${VERSION}.`);
}

function brief(value) {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

const rounded = (share) => Number(share.toFixed(DIGITS));
