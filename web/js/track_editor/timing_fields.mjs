/** When and how the selected track moves. */

import { CURVES, EASES } from "./document.mjs";
import { make } from "./dom.mjs";
import * as edits from "./edits.mjs";
import { nameOf } from "./track_list.mjs";

/** A third of 30 frames is frame 10, however it was rounded. */
const SAME_FRAME = 1e-6;

/** Show a value, but leave alone what somebody is typing that means the same, or nothing yet. */
function fill(input, value) {
  const typing = input === document.activeElement && input.value === "";
  if (input.type === "checkbox") input.checked = value;
  else if (input.type !== "number") {
    if (input.value !== value) input.value = value;
  } else if (!typing && (input.value === "" || Number(input.value) !== value)) input.value = Number(value.toFixed(4));
}

/** @param {import("./model.mjs").Model} model */
export function timingFields(model) {
  const field = (name) => (event) => {
    const { target } = event;
    const value = target.type === "checkbox" ? target.checked : target.value;
    if (name === "start" || name === "end") setTime(name, target);
    else
      model.edit(
        (drawing) => edits.changeTrack(drawing, model.selected, { [name]: value }),
        `${name} ${model.selected}`,
      );
  };

  function setTime(name, target) {
    const share = Number(target.value);
    if (target.value === "" || !(share >= 0 && share <= 1)) {
      model.say(`${name} is a share of the clip: 0 (first frame) to 1 (last frame).`);
      return;
    }
    model.edit((drawing) => edits.changeTiming(drawing, model.selected, name, share), `${name} ${model.selected}`);
  }

  const share = (name, title) =>
    make("input", { type: "number", min: 0, max: 1, step: 0.01, "data-field": name, title, oninput: field(name) });
  const tick = (name, title) => make("input", { type: "checkbox", "data-field": name, title, onchange: field(name) });
  const choice = (name, options, title) =>
    make(
      "select",
      { "data-field": name, title, onchange: field(name) },
      ...options.map((text) => make("option", { value: text, text })),
    );
  const inputs = {
    name: make("input", {
      type: "text",
      "data-field": "name",
      title: "What the list calls it",
      oninput: field("name"),
    }),
    start: share("start", "When it begins to move, as a share of the clip: 0 is the first frame"),
    end: share("end", "When it has arrived, as a share of the clip: 1 is the last frame"),
    ease: choice("ease", EASES, "How its speed changes on the way"),
    curve: choice("curve", CURVES, "Smooth through the points, or straight from point to point"),
    hold: tick("hold", "Visible also before its start and after its end, resting"),
    enabled: tick("enabled", "Part of the motion"),
  };
  const frames = make("span", { class: "att-frames" });
  const label = (text, ...parts) => make("label", {}, make("span", { text }), ...parts);
  const fields = make(
    "div",
    { class: "att-fields" },
    label("Name", inputs.name),
    label("Start", inputs.start),
    label("End", inputs.end),
    frames,
    label("Ease", inputs.ease),
    label("Curve", inputs.curve),
    label("Hold", inputs.hold),
    label("On", inputs.enabled),
  );
  const note = make("div", { class: "att-note", text: "Select a track to set its timing" });

  function refresh() {
    const { track } = model;
    fields.hidden = !track;
    note.hidden = Boolean(track);
    if (!track) return;
    for (const [name, input] of Object.entries(inputs)) fill(input, track[name]);
    inputs.name.placeholder = nameOf({ name: "" }, model.selected);
    const last = model.frames - 1;
    const [first, arrived] = [Math.ceil(track.start * last - SAME_FRAME), Math.floor(track.end * last + SAME_FRAME)];
    frames.textContent = `frames ${first}\u2013${arrived} of 0\u2013${last}`;
  }
  return { element: make("div", { class: "att-timing" }, fields, note), refresh };
}
