/**
 * Curves through control points, travelled at an even speed. The same maths as `core/motion/curves.py`: centripetal
 * Catmull-Rom cubics (Barry and Goldman 1988; Yuksel, Schaefer and Keyser 2011) or straight pieces, with a table of
 * chord lengths. Their shape does not change when both axes are scaled alike, so screen pixels serve as well as image
 * pixels.
 *
 * @typedef {{origin: number[], segments: number[][], reached: Float64Array}} Curve
 *   `segments`: x then y coefficients of 1, u, u^2, u^3; `reached`: the length up to each chord's start, and the whole
 */

const CHORDS = 32;
const SAME_POINT = 1e-6;

/** @param {number[][]} points @param {boolean} smooth @returns {Curve} */
export function curveThrough(points, smooth) {
  const apart = points.filter((point, i) => i === 0 || distance(point, points[i - 1]) >= SAME_POINT);
  const segments = [];
  for (let i = 0; i + 1 < apart.length; i++) {
    const [here, there] = [apart[i], apart[i + 1]];
    segments.push(
      smooth
        ? catmullRom(apart[i - 1] ?? mirrored(there, here), here, there, apart[i + 2] ?? mirrored(here, there))
        : [here[0], there[0] - here[0], 0, 0, here[1], there[1] - here[1], 0, 0],
    );
  }
  return { origin: points[0], segments, reached: lengths(segments) };
}

/** The place at a share 0..1 of the curve's length. */
export function placeAt(curve, share) {
  const { segments, reached, origin } = curve;
  if (!segments.length) return origin;
  const target = share * reached[reached.length - 1];
  const chord = lastAtMost(reached, target, reached.length - 2);
  const inside = clamp((target - reached[chord]) / (reached[chord + 1] - reached[chord]), 0, 1);
  return evaluate(segments[Math.floor(chord / CHORDS)], ((chord % CHORDS) + inside) / CHORDS);
}

/** Corners of a polyline to draw: `count` pieces for each segment. */
export function outline(curve, count = 14) {
  const corners = [curve.origin];
  for (const segment of curve.segments) for (let k = 1; k <= count; k++) corners.push(evaluate(segment, k / count));
  return corners;
}

/** The nearest place of a polyline: how far, and on which of its pieces. */
export function nearestOnLine(corners, [x, y]) {
  let best = { distance: Infinity, piece: -1 };
  for (let i = 0; i + 1 < corners.length; i++) {
    const [[ax, ay], [bx, by]] = [corners[i], corners[i + 1]];
    const [dx, dy] = [bx - ax, by - ay];
    const along = clamp(((x - ax) * dx + (y - ay) * dy) / Math.max(dx * dx + dy * dy, 1e-12), 0, 1);
    const far = Math.hypot(x - ax - along * dx, y - ay - along * dy);
    if (far < best.distance) best = { distance: far, piece: i };
  }
  return best;
}

export const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

const mirrored = (point, at) => [2 * at[0] - point[0], 2 * at[1] - point[1]];

function catmullRom(p0, p1, p2, p3) {
  const [d01, d12, d23] = [Math.sqrt(distance(p0, p1)), Math.sqrt(distance(p1, p2)), Math.sqrt(distance(p2, p3))];
  return [0, 1].flatMap((axis) => {
    const [a, b, c, d] = [p0[axis], p1[axis], p2[axis], p3[axis]];
    const step = c - b;
    const tangent1 = d12 * ((b - a) / d01 - (c - a) / (d01 + d12)) + step;
    const tangent2 = d12 * ((d - c) / d23 - (d - b) / (d12 + d23)) + step;
    return [b, tangent1, 3 * step - 2 * tangent1 - tangent2, tangent1 + tangent2 - 2 * step];
  });
}

function evaluate(c, u) {
  return [c[0] + u * (c[1] + u * (c[2] + u * c[3])), c[4] + u * (c[5] + u * (c[6] + u * c[7]))];
}

function lengths(segments) {
  const reached = new Float64Array(segments.length * CHORDS + 1);
  segments.forEach((segment, i) => {
    let corner = evaluate(segment, 0);
    for (let k = 1; k <= CHORDS; k++) {
      const next = evaluate(segment, k / CHORDS);
      reached[i * CHORDS + k] = reached[i * CHORDS + k - 1] + distance(corner, next);
      corner = next;
    }
  });
  return reached;
}

/** Index of the last entry not above `target`, at most `highest`. */
function lastAtMost(sorted, target, highest) {
  let [low, high] = [0, highest];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (sorted[middle] <= target) low = middle;
    else high = middle - 1;
  }
  return low;
}
