/** Where things are on the canvas, in CSS pixels: the image lies in the middle with ground around it to draw on. */

import { clamp, curveThrough, distance, nearestOnLine, outline } from "./curves.mjs";

const MARGIN = 18;
const NEAR_POINT = 10;
const NEAR_CURVE = 7;

export class View {
  /** @param {{width: number, height: number}} canvas @param {{width: number, height: number}} image */
  constructor(canvas, image) {
    const room = { width: Math.max(canvas.width - 2 * MARGIN, 1), height: Math.max(canvas.height - 2 * MARGIN, 1) };
    const scale = Math.min(room.width / image.width, room.height / image.height);
    Object.assign(this, { canvas, scale, width: image.width * scale, height: image.height * scale });
    this.left = (canvas.width - this.width) / 2;
    this.top = (canvas.height - this.height) / 2;
    this.shapes = new WeakMap(); // of tracks, which are never changed in place
    this.veil = undefined; // of the pinned places, kept while they are the same
  }

  toScreen([u, v]) {
    return [this.left + u * this.width, this.top + v * this.height];
  }

  toShares([x, y]) {
    return [(x - this.left) / this.width, (y - this.top) / this.height];
  }

  /** A track on the canvas: its control points, its curve, and a polyline along it. */
  shape(track) {
    let shape = this.shapes.get(track);
    if (!shape) {
      shape = shapeOf(
        track.points.map((point) => this.toScreen(point)),
        track.curve === "smooth",
      );
      this.shapes.set(track, shape);
    }
    return shape;
  }

  /**
   * What lies under a place: `{track, point}` for a control point, `{track, at}` for a curve (`at`: where a point
   * would be inserted), or undefined. The selected track comes first, then those drawn last.
   */
  hit(model, place) {
    const { tracks } = model.drawing;
    const order = [...tracks.keys()].reverse().filter((i) => i !== model.selected);
    if (model.track) order.unshift(model.selected);
    const close = order.filter((i) => !this.shape(tracks[i]).isFar(place));
    return this.#hitPoint(tracks, close, place) ?? this.#hitCurve(tracks, close, place);
  }

  #hitPoint(tracks, order, place) {
    for (const track of order) {
      const near = this.shape(tracks[track]).points.map((point) => distance(point, place));
      const least = Math.min(...near);
      if (least <= NEAR_POINT) return { track, point: near.lastIndexOf(least) };
    }
  }

  #hitCurve(tracks, order, place) {
    for (const track of order) {
      const { line, curve } = this.shape(tracks[track]);
      const near = nearestOnLine(line, place);
      if (near.distance > NEAR_CURVE) continue;
      return { track, at: insertAt(tracks[track].points.length, curve.segments.length, near.piece, line.length - 1) };
    }
  }
}

/** Curve and polyline are worked out when asked for: of ten thousand tracks few are looked at closely. */
function shapeOf(points, smooth) {
  let curve, line;
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  return {
    points,
    get curve() {
      return (curve ??= curveThrough(points, smooth));
    },
    get line() {
      return (line ??= outline(this.curve));
    },
    /** Whether a place is so far from all control points that it is on no part of the track. */
    isFar([x, y]) {
      const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
      const reach = NEAR_POINT + right - left + bottom - top;
      return x < left - reach || x > right + reach || y < top - reach || y > bottom + reach;
    },
  };
}

/** Before which control point a new one belongs. Repeated points have no segment, which shifts the count a little. */
function insertAt(points, segments, piece, pieces) {
  return clamp(Math.floor((piece * segments) / pieces) + 1, 1, points);
}
