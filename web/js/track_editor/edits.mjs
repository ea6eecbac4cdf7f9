/** Edits of a drawing: each takes one and returns another. Points are shares of the image. */

import { newTrack } from "./document.mjs";

const replaced = (items, index, ...others) => [...items.slice(0, index), ...others, ...items.slice(index + 1)];
const shifted = ([u, v], du, dv) => [u + du, v + dv];

export const addTracks = (drawing, tracks) => ({ ...drawing, tracks: [...drawing.tracks, ...tracks] });
export const addTrack = (drawing, points, settings) => addTracks(drawing, [newTrack(points, settings)]);
export const removeTrack = (drawing, index) => ({ ...drawing, tracks: replaced(drawing.tracks, index) });

/** @param {object} change some of a track's keys */
export function changeTrack(drawing, index, change) {
  return { ...drawing, tracks: replaced(drawing.tracks, index, { ...drawing.tracks[index], ...change }) };
}

export function insertPoint(drawing, index, at, point) {
  const points = drawing.tracks[index].points;
  return changeTrack(drawing, index, { points: [...points.slice(0, at), point, ...points.slice(at)] });
}

export function movePoint(drawing, index, at, point) {
  return changeTrack(drawing, index, { points: replaced(drawing.tracks[index].points, at, point) });
}

/** Without its last point a track is gone. */
export function removePoint(drawing, index, at) {
  const points = replaced(drawing.tracks[index].points, at);
  return points.length ? changeTrack(drawing, index, { points }) : removeTrack(drawing, index);
}

export function moveTrack(drawing, index, du, dv) {
  return changeTrack(drawing, index, { points: drawing.tracks[index].points.map((point) => shifted(point, du, dv)) });
}

export const addPin = (drawing, pin) => ({ ...drawing, pins: [...drawing.pins, pin] });

/** Start and end between 0 and 1; the one that is moved pushes the other before it. */
export function changeTiming(drawing, index, field, share) {
  const { start, end } = drawing.tracks[index];
  const time =
    field === "start" ? { start: share, end: Math.max(end, share) } : { end: share, start: Math.min(start, share) };
  return changeTrack(drawing, index, time);
}
