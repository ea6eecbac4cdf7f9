/** Fewer points for a drawn line, in the unit of its coordinates (screen or image pixels). */

import { curveThrough, nearestOnLine, outline } from "./curves.mjs";

/** Corners of a polyline that keep it within `tolerance`. Source: Ramer 1972; Douglas and Peucker 1973. */
export function simplified(points, tolerance) {
  const keep = new Set([0, points.length - 1]);
  const parts = [[0, points.length - 1]];
  while (parts.length) {
    const [first, last] = parts.pop();
    let [farthest, far] = [-1, tolerance];
    for (let i = first + 1; i < last; i++) {
      const off = nearestOnLine([points[first], points[last]], points[i]).distance;
      if (off > far) [farthest, far] = [i, off];
    }
    if (farthest > 0) {
      keep.add(farthest);
      parts.push([first, farthest], [farthest, last]);
    }
  }
  return points.filter((_, i) => keep.has(i));
}

/** Control points whose smooth curve stays within `tolerance` of a free-hand stroke: as few as halving finds. */
export function controlPoints(stroke, tolerance) {
  let points = stroke;
  for (let coarse = 8 * tolerance; coarse >= tolerance / 2; coarse /= 2) {
    points = simplified(stroke, coarse);
    const drawn = outline(curveThrough(points, true));
    if (stroke.every((point) => nearestOnLine(drawn, point).distance <= tolerance)) break;
  }
  return points;
}
