/** Sheets that cover the canvas for a moment: help, text to copy or paste, and a drawing that cannot be read. */

import { make } from "./dom.mjs";

const GESTURES = [
  ["Click", "begin a track, then add points at its end"],
  ["Press and draw", "a free-hand track"],
  ["Drag a point, a curve", "move the point, the whole track"],
  ["Click the selected curve", "add a point there"],
  ["Double-click a point", "remove it"],
  ["Enter, Escape", "end the track"],
  ["Space  ,  .", "play, a frame back, a frame on"],
  ["Tab  ]  [", "next track, the one before"],
  ["Arrows, with Shift", "move by 1 pixel, by 10"],
  ["p  a  Delete", "next point, add a point, remove"],
  ["Ctrl+Z  Ctrl+Y", "undo, redo"],
  ["Ctrl+C  Ctrl+V", "copy, paste KJNodes JSON"],
  ["+  -", "brush size"],
];

/** One sheet at a time over the canvas. */
export function sheetHolder() {
  const element = make("div", { class: "att-sheet", hidden: true, onkeydown });

  function onkeydown(event) {
    if (event.key === "Escape") close();
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
  }
  function show(...content) {
    element.replaceChildren(...content);
    element.hidden = false;
    (element.querySelector("textarea") ?? element.querySelector("button"))?.focus({ preventScroll: true });
  }
  function close() {
    element.hidden = true;
    element.replaceChildren();
  }
  return { element, show, close, isOpen: () => !element.hidden };
}

export function helpSheet(close) {
  const rows = GESTURES.map(([what, does]) => make("tr", {}, make("th", { text: what }), make("td", { text: does })));
  return [
    make("table", {}, ...rows),
    make("button", { type: "button", "data-action": "close", text: "Close", onclick: close }),
  ];
}

/** Where the browser keeps its clipboard from pages, the text is shown. */
export function copySheet(text, close) {
  const area = make("textarea", {
    readonly: true,
    "aria-label": "Tracks as KJNodes JSON",
    onfocus: () => area.select(),
  });
  area.value = text;
  return [
    make("p", { text: "Copy this text:" }),
    area,
    make("button", { type: "button", "data-action": "close", text: "Close", onclick: close }),
  ];
}

/** @param {(text: string) => void} onText */
export function pasteSheet(onText, close) {
  const area = make("textarea", { "aria-label": "KJNodes JSON to add", placeholder: '[{"x": 12, "y": 30}, ...]' });
  const add = make("button", {
    type: "button",
    "data-action": "paste-add",
    text: "Add tracks",
    onclick: () => onText(area.value),
  });
  return [
    make("p", { text: "Paste coordinate JSON of KJNodes, WanVideo or ATI:" }),
    area,
    make(
      "div",
      { class: "att-group" },
      add,
      make("button", { type: "button", "data-action": "close", text: "Cancel", onclick: close }),
    ),
  ];
}

export function problemSheet(problem, text, onReset) {
  const area = make("textarea", { readonly: true, "aria-label": "The drawing as it was saved" });
  area.value = text;
  return [
    make("p", { class: "att-problem", text: problem }),
    make("p", { text: "It is kept as it was saved. Fix it where it came from, or start anew:" }),
    area,
    make("button", { type: "button", "data-action": "reset", text: "Start anew", onclick: onReset }),
  ];
}
