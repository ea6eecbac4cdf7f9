/** Below the canvas: the list of tracks, and the timing of the selected one. */

import { CURVES, EASES } from "./document.mjs";
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
    element.replaceChildren(...rows);
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
  const eye = make("button", { type: "button", class: "att-eye", title: eyeTitle, "aria-label": eyeTitle, "aria-pressed": String(track.enabled),
    onclick(event) {
      event.stopPropagation();
      model.edit((drawing) => edits.changeTrack(drawing, index, { enabled: !track.enabled }));
    } }, icon(track.enabled ? ICONS.shown : ICONS.hidden));
  const span = make("span", { class: "att-span" });
  if (track.points.length > 1) {
    const moving = make("i");
    moving.style.left = `${track.start * 100}%`;
    moving.style.width = `${Math.max((track.end - track.start) * 100, 2)}%`;
    span.append(moving);
  }
  const kind = track.points.length > 1 ? "" : "static";
  const element = make("div", { class: "att-row", role: "option", "data-track": index, "aria-selected": String(index === model.selected),
    onclick: () => model.select(index, NONE, true) },
    make("span", { class: "att-swatch" }), make("span", { class: "att-name", text: nameOf(track, index) }),
    make("span", { class: "att-kind", text: kind }), span, eye);
  element.style.setProperty("--att-colour", colourOf(index));
  element.classList.toggle("att-off", !track.enabled);
  return element;
}

/** @param {import("./model.mjs").Model} model */
export function timingFields(model) {
  const field = (name) => (event) => {
    const { target } = event;
    const value = target.type === "checkbox" ? target.checked : target.value;
    if (name === "start" || name === "end") setTime(name, target);
    else model.edit((drawing) => edits.changeTrack(drawing, model.selected, { [name]: value }), `${name} ${model.selected}`);
  };

  function setTime(name, target) {
    const share = Number(target.value);
    if (target.value === "" || !(share >= 0 && share <= 1)) {
      model.say(`${name} is a share of the clip: 0 (first frame) to 1 (last frame).`);
      return;
    }
    model.edit((drawing) => edits.changeTiming(drawing, model.selected, name, share), `${name} ${model.selected}`);
  }

  const share = (name, title) => make("input", { type: "number", min: 0, max: 1, step: 0.01, "data-field": name, title, oninput: field(name) });
  const tick = (name, title) => make("input", { type: "checkbox", "data-field": name, title, onchange: field(name) });
  const choice = (name, options, title) =>
    make("select", { "data-field": name, title, onchange: field(name) }, ...options.map((text) => make("option", { value: text, text })));
  const inputs = {
    name: make("input", { type: "text", "data-field": "name", title: "What the list calls it", oninput: field("name") }),
    start: share("start", "When it begins to move, as a share of the clip: 0 is the first frame"),
    end: share("end", "When it has arrived, as a share of the clip: 1 is the last frame"),
    ease: choice("ease", EASES, "How its speed changes on the way"),
    curve: choice("curve", CURVES, "Smooth through the points, or straight from point to point"),
    hold: tick("hold", "Visible also before its start and after its end, resting"),
    enabled: tick("enabled", "Part of the motion"),
  };
  const frames = make("span", { class: "att-frames" });
  const label = (text, ...parts) => make("label", {}, make("span", { text }), ...parts);
  const fields = make("div", { class: "att-fields" },
    label("Name", inputs.name), label("Start", inputs.start), label("End", inputs.end), frames,
    label("Ease", inputs.ease), label("Curve", inputs.curve),
    label("Hold", inputs.hold), label("On", inputs.enabled));
  const note = make("div", { class: "att-note", text: "Select a track to set its timing" });

  function refresh() {
    const { track } = model;
    fields.hidden = !track;
    note.hidden = Boolean(track);
    if (!track) return;
    for (const [name, input] of Object.entries(inputs)) {
      if (input.type === "checkbox") input.checked = track[name];
      else if (input.value !== String(track[name]) && !(input === document.activeElement && Number(input.value) === track[name])) {
        input.value = name === "start" || name === "end" ? Number(track[name].toFixed(4)) : track[name];
      }
    }
    inputs.name.placeholder = nameOf({ name: "" }, model.selected);
    const last = model.frames - 1;
    frames.textContent = `frames ${Math.ceil(track.start * last - 1e-9)}\u2013${Math.floor(track.end * last + 1e-9)} of 0\u2013${last}`;
  }
  return { element: make("div", { class: "att-timing" }, fields, note), refresh };
}
