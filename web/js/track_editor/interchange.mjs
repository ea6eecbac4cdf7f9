/**
 * KJNodes' coordinate JSON, which WanVideoWrapper and ATI read too: one track `[{"x": 12, "y": 30}, ...]` or a list of
 * tracks, one point per frame, in pixels of the image.
 */

import { curveThrough, placeAt } from "./curves.mjs";
import { newTrack, readDocument } from "./document.mjs";
import { simplified } from "./simplify.mjs";
import { timeOfFrame, travelled } from "./timing.mjs";

/** How far, in pixels, a pasted track may be from its points once they are few. */
const PASTE_TOLERANCE = 0.5;

/** @param {{width: number, height: number}} size @returns {import("./document.mjs").Track[]} */
export function readCoordinates(text, size) {
  const data = parsed(text);
  if (!Array.isArray(data)) return [...readDocument(text).tracks];
  if (!data.length) throw new Error("The clipboard holds an empty list: no track in it.");
  const tracks = Array.isArray(data[0]) && !isPair(data[0]) ? data : [data];
  return tracks.map((points, i) => readTrack(points, i, size));
}

/** Every enabled track, frame by frame, to a hundredth of a pixel. */
export function writeCoordinates(tracks, size, frames) {
  const hundredth = (value) => Math.round(value * 100) / 100;
  const told = tracks
    .filter((track) => track.enabled)
    .map((track) => {
      const curve = curveThrough(
        track.points.map((point) => toPixels(point, size)),
        track.curve === "smooth",
      );
      return Array.from({ length: frames }, (_, k) => {
        const [x, y] = placeAt(curve, travelled(track, timeOfFrame(k, frames)));
        return { x: hundredth(x), y: hundredth(y) };
      });
    });
  return JSON.stringify(told);
}

/** Pixel centres are whole numbers: the image's edges lie at -0.5 and width - 0.5. */
export const toPixels = ([u, v], { width, height }) => [u * width - 0.5, v * height - 0.5];
export const toShares = ([x, y], { width, height }) => [(x + 0.5) / width, (y + 0.5) / height];

function parsed(text) {
  const attempts = [text, text.replaceAll("'", '"').replaceAll("True", "true").replaceAll("False", "false")];
  for (const attempt of attempts) {
    try {
      return JSON.parse(attempt);
    } catch {
      continue; // The next spelling, or the message below.
    }
  }
  throw new Error('This is no coordinate JSON; it looks like [{"x": 12, "y": 30}, ...].');
}

function readTrack(points, index, size) {
  const places = Array.isArray(points) ? points.map((point) => (isPair(point) ? point : [point?.x, point?.y])) : [];
  if (!places.length) throw new Error(`Track ${index} of the clipboard has no points.`);
  const broken = places.findIndex((place) => !place.slice(0, 2).every(Number.isFinite));
  if (broken >= 0) throw new Error(`Track ${index} of the clipboard has no x and y at point ${broken}.`);
  const resting = places.every((place) => place[0] === places[0][0] && place[1] === places[0][1]);
  const few = resting ? places.slice(0, 1) : simplified(places, PASTE_TOLERANCE);
  return newTrack(
    few.map((place) => toShares(place, size)),
    { curve: "straight" },
  );
}

const isPair = (point) => Array.isArray(point) && typeof point[0] === "number";
