/** The list of tracks: selects them where they lie on top of each other, switches them off, shows when they move. */

import { icon, make } from "./dom.mjs";
import { colourOf } from "./draw.mjs";
import * as edits from "./edits.mjs";
import { ICONS } from "./icons.mjs";
import { NONE } from "./model.mjs";
import { timeOfFrame } from "./timing.mjs";

/** More rows than this slow the page; of ten thousand tracks those around the selected one are listed. */
const MOST_ROWS = 200;

export const nameOf = (track, index) => track.name || `Track ${index + 1}`;

/** @param {import("./model.mjs").Model} model */
export function trackList(model) {
  const element = make("div", { class: "att-list", role: "listbox", tabindex: 0, "aria-label": "Tracks", onkeydown });
  let shown = {};

  function onkeydown(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) model.cycle(step);
    else if (event.key === "Delete") model.removeSelected();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function refresh() {
    const { tracks } = model.drawing;
    if (tracks !== shown.tracks || model.selected !== shown.selected) rebuild(tracks);
    element.style.setProperty("--att-now", timeOfFrame(model.frame, model.frames));
    shown = { tracks, selected: model.selected };
  }

  function rebuild(tracks) {
    const first = Math.max(0, Math.min(model.selected - MOST_ROWS / 2, tracks.length - MOST_ROWS));
    const rows = tracks.slice(first, first + MOST_ROWS).map((track, i) => row(model, track, first + i));
    const more = tracks.length - rows.length;
    if (more > 0) rows.push(make("div", { class: "att-note", text: `and ${more} more around these` }));
    if (!rows.length) rows.push(make("div", { class: "att-note", text: "No tracks yet" }));
    const held = element.contains(document.activeElement) && document.activeElement.closest("[data-track]");
    element.replaceChildren(...rows);
    if (held) element.querySelector(`[data-track="${held.dataset.track}"] .att-eye`)?.focus({ preventScroll: true });
    const chosen = element.querySelector('[aria-selected="true"]');
    if (chosen) element.scrollTop = clampScroll(element, chosen);
  }
  return { element, refresh };
}

/** Scroll the list alone: scrollIntoView would move the page and the graph with it. */
function clampScroll(list, rowElement) {
  const top = rowElement.offsetTop;
  return Math.min(Math.max(list.scrollTop, top + rowElement.offsetHeight - list.clientHeight), top);
}

function row(model, track, index) {
  const eyeTitle = track.enabled ? "Switch the track off" : "Switch the track on";
  const eye = make(
    "button",
    {
      type: "button",
      class: "att-eye",
      title: eyeTitle,
      "aria-label": eyeTitle,
      "aria-pressed": String(track.enabled),
      onclick: () => model.edit((drawing) => edits.changeTrack(drawing, index, { enabled: !track.enabled })),
    },
    icon(track.enabled ? ICONS.shown : ICONS.hidden),
  );
  const span = make("span", { class: "att-span" });
  if (track.points.length > 1) {
    const moving = make("i");
    moving.style.left = `${track.start * 100}%`;
    moving.style.width = `${Math.max((track.end - track.start) * 100, 2)}%`;
    span.append(moving);
  }
  const kind = track.points.length > 1 ? "" : "static";
  const element = make(
    "div",
    {
      class: "att-row",
      role: "option",
      "data-track": index,
      "aria-selected": String(index === model.selected),
      onclick: (event) => eye.contains(event.target) || model.select(index, NONE, true),
    },
    make("span", { class: "att-swatch" }),
    make("span", { class: "att-name", text: nameOf(track, index) }),
    make("span", { class: "att-kind", text: kind }),
    span,
    eye,
  );
  element.style.setProperty("--att-colour", colourOf(index));
  element.classList.toggle("att-off", !track.enabled);
  return element;
}
