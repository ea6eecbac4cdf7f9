/** Buttons above the canvas. */

import { icon, make } from "./dom.mjs";
import { ICONS } from "./icons.mjs";
import { PRESETS } from "./presets.mjs";

const TOOLS = {
  draw: ["Draw", "Draw tracks: click for points, or press and draw free-hand"],
  static: ["Static", "Static points: one click, one place that stays"],
  pin: ["Pin", "Pin the background: paint what shall not move"],
  erase: ["Erase", "Erase pinned background"],
};
const ACTIONS = {
  undo: "Undo (Ctrl+Z)",
  redo: "Redo (Ctrl+Shift+Z)",
  delete: "Delete the selected track (the Delete key removes its chosen point first)",
  clear: "Clear: remove all tracks and pins",
  presets: "Presets: ready motions over the whole image",
  copy: "Copy all tracks as KJNodes JSON, frame by frame",
  paste: "Paste tracks from KJNodes, WanVideo or ATI JSON",
  help: "Gestures and keys",
};

/**
 * @param {import("./model.mjs").Model} model
 * @param {Record<string, () => void>} actions  what each action button does
 * @param {(preset: {label: string, tracks: (aspect: number) => object[]}) => void} onPreset
 */
export function toolbar(model, actions, onPreset) {
  const tools = Object.entries(TOOLS).map(([name, [label, title]]) =>
    button(name, title, () => model.set({ tool: name }), label),
  );
  const other = Object.fromEntries(
    Object.entries(ACTIONS).map(([name, title]) => [name, button(name, title, () => actions[name]())]),
  );
  other.presets.append(make("span", { text: "Presets" }));
  const menu = presetMenu(other.presets, onPreset);
  actions.presets = menu.toggle;
  const bar = make(
    "div",
    { class: "att-bar", role: "toolbar", "aria-label": "Track editor tools" },
    group(...tools),
    group(other.undo, other.redo),
    group(other.delete, other.clear),
    make("div", { class: "att-group att-menu-holder" }, other.presets, menu.element),
    group(other.copy, other.paste),
    group(other.help),
  );

  function refresh() {
    tools.forEach((tool) => tool.setAttribute("aria-pressed", tool.dataset.action === model.tool));
    other.undo.disabled = !model.history.past.length;
    other.redo.disabled = !model.history.future.length;
    other.delete.disabled = !model.track;
    other.clear.disabled = !model.drawing.tracks.length && !model.drawing.pins.length;
    other.presets.disabled = other.paste.disabled = Boolean(model.problem);
    other.copy.disabled = !model.drawing.tracks.some((track) => track.enabled);
  }
  return { element: bar, refresh };
}

/** `label` is shown beside the icon where there is room. */
export function button(name, title, onclick, label = "") {
  const made = make(
    "button",
    { type: "button", title, "aria-label": title, "data-action": name, onclick },
    icon(ICONS[name]),
  );
  if (label) made.append(make("span", { text: label }));
  return made;
}

const group = (...buttons) => make("div", { class: "att-group" }, ...buttons);

/** How wide the brush is; lies over the canvas while there is a brush. @param {import("./model.mjs").Model} model */
export function radiusSlider(model) {
  const input = make("input", {
    type: "range",
    min: 0.002,
    max: 0.25,
    step: 0.001,
    "data-field": "radius",
    title: "Brush radius (+ and -)",
    "aria-label": "Brush radius, as a share of the image width",
    oninput: () => model.set({ radius: Number(input.value) }),
  });
  const element = make("label", { class: "att-radius" }, make("span", { text: "Brush" }), input);
  function refresh() {
    element.hidden = model.tool !== "pin" && model.tool !== "erase";
    input.value = model.radius;
  }
  return { element, refresh };
}

function presetMenu(opener, onPreset) {
  const items = Object.entries(PRESETS).map(([name, preset]) =>
    make("button", {
      type: "button",
      role: "menuitem",
      "data-preset": name,
      text: preset.label,
      onclick: () => (close(), onPreset(preset)),
    }),
  );
  const element = make("div", { class: "att-menu", role: "menu", hidden: true, onkeydown, onfocusout }, ...items);
  opener.setAttribute("aria-haspopup", "menu");
  opener.setAttribute("aria-expanded", "false");

  function toggle() {
    if (element.hidden) open();
    else close();
  }
  function open() {
    element.hidden = false;
    opener.setAttribute("aria-expanded", "true");
    items[0].focus();
  }
  function close() {
    element.hidden = true;
    opener.setAttribute("aria-expanded", "false");
  }
  function onfocusout(event) {
    if (!element.contains(event.relatedTarget) && event.relatedTarget !== opener) close();
  }
  function onkeydown(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) items.at((items.indexOf(document.activeElement) + step) % items.length).focus();
    else if (event.key === "Escape") (close(), opener.focus());
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
  return { element, toggle };
}
