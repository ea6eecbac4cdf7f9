/** Copy and paste of coordinate JSON: through the clipboard where the browser allows it, else through a sheet. */

import { readCoordinates, writeCoordinates } from "./interchange.mjs";
import { copySheet, pasteSheet } from "./sheets.mjs";

/** @param {{model: object, sheet: object, background: object, keys: HTMLElement}} editor */
export function clipboard({ model, sheet, background, keys }) {
  const coordinates = () => writeCoordinates(model.drawing.tracks, background.size, model.frames);

  /** Coordinates are pixels, but of which image? */
  function ofImage() {
    const { width, height } = background.size;
    return `in pixels of ${width} \u00d7 ${height}${background.known ? "" : ", a guess: no image is wired yet"}`;
  }

  function add(text) {
    let tracks;
    try {
      tracks = readCoordinates(text, background.size);
    } catch (error) {
      model.say(error.message);
      return false;
    }
    sheet.close();
    model.addTracks(tracks);
    const points = tracks.reduce((sum, track) => sum + track.points.length, 0);
    model.say(`Pasted ${tracks.length} track${tracks.length === 1 ? "" : "s"} of ${points} points, ${ofImage()}.`);
    return true;
  }

  async function copy() {
    const text = coordinates();
    try {
      await navigator.clipboard.writeText(text);
      model.say(`Copied, ${model.frames} points a track, ${ofImage()}.`);
    } catch {
      sheet.show(...copySheet(text, sheet.close)); // no clipboard on a page without https, or not allowed
    }
  }

  async function paste() {
    let text = "";
    try {
      text = await navigator.clipboard.readText();
    } catch {
      // Not allowed, or no clipboard here: the sheet takes the text.
    }
    if (text && add(text)) return;
    sheet.show(...pasteSheet(add, sheet.close));
  }

  keys.addEventListener("copy", (event) => {
    if (!model.drawing.tracks.some((track) => track.enabled)) return;
    event.clipboardData.setData("text/plain", coordinates());
    model.say(`Copied, ${model.frames} points a track, ${ofImage()}.`);
    event.preventDefault();
    event.stopPropagation();
  });
  keys.addEventListener("paste", (event) => {
    if (!model.problem) add(event.clipboardData.getData("text/plain"));
    event.preventDefault();
    event.stopPropagation();
  });
  return { copy, paste };
}
