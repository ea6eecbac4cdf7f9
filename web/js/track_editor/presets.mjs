/** Ready motions over the whole image, made of plain tracks. */

import { newTrack } from "./document.mjs";

const COLUMNS = [0.2, 0.5, 0.8];
const CENTRE = [0.5, 0.5];
const PAN = 0.2;
const ZOOM = 1.35;
const TURN = Math.PI / 3;
const TURN_POINTS = 6;

const grid = COLUMNS.flatMap((v) => COLUMNS.map((u) => [u, v]));
const isCentre = ([u, v]) => u === CENTRE[0] && v === CENTRE[1];
const along = (starts, move) => starts.map((start) => newTrack([start, move(start)], { curve: "straight" }));
const panned = (by) => along(grid, ([u, v]) => [u + by, v]);
const fromCentre = ([u, v], factor) => [CENTRE[0] + (u - CENTRE[0]) * factor, CENTRE[1] + (v - CENTRE[1]) * factor];

function zoomed(first, last) {
  return grid.map((point) =>
    isCentre(point)
      ? newTrack([point])
      : newTrack([fromCentre(point, first), fromCentre(point, last)], { curve: "straight" }),
  );
}

/** A turn about the centre: in pixels, or it would be an ellipse on an image that is not square. */
function swirled(aspect) {
  return grid.map((point) => {
    if (isCentre(point)) return newTrack([point]);
    const [x, y] = [(point[0] - CENTRE[0]) * aspect, point[1] - CENTRE[1]];
    const turned = Array.from({ length: TURN_POINTS }, (_, k) => {
      const angle = (TURN * k) / (TURN_POINTS - 1);
      const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
      return [CENTRE[0] + (x * cos - y * sin) / aspect, CENTRE[1] + x * sin + y * cos];
    });
    return newTrack(turned);
  });
}

function parted() {
  const halves = [
    [0.4, 0.22],
    [0.6, 0.78],
  ];
  return COLUMNS.flatMap((v) =>
    halves.map(([from, to]) =>
      newTrack(
        [
          [from, v],
          [to, v],
        ],
        { ease: "in-out" },
      ),
    ),
  );
}

/** name -> what the menu says, and the tracks for an image of an aspect (width / height) */
export const PRESETS = {
  "pan-left": { label: "Pan: all to the left", tracks: () => panned(-PAN) },
  "pan-right": { label: "Pan: all to the right", tracks: () => panned(PAN) },
  "zoom-in": { label: "Zoom in", tracks: () => zoomed(1, ZOOM) },
  "zoom-out": { label: "Zoom out", tracks: () => zoomed(ZOOM, 1) },
  swirl: { label: "Swirl about the centre", tracks: swirled },
  part: { label: "Part to both sides", tracks: parted },
};
