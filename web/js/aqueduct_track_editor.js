/** Offers the track editor as the widget of AQUEDUCT_TRACKS_DOCUMENT inputs. Everything else is in track_editor/. */

import { app } from "../../../scripts/app.js";
import { TrackEditor } from "./track_editor/editor.mjs";

const TYPE = "AQUEDUCT_TRACKS_DOCUMENT";
/** Of a new node; it can be made smaller, down to the widget's own minimum. */
const FIRST_WIDTH = 620;
const FIRST_HEIGHT = 760;
const MIN_HEIGHT = 520;
/** Edits in a row (a slider, held arrows) are one change of the workflow. */
const PAUSE = 400;

app.registerExtension({
  name: "Aqueduct.TrackEditor",
  init() {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = new URL("./track_editor/style.css", import.meta.url).href;
    document.head.append(style);
  },
  getCustomWidgets: () => ({ [TYPE]: trackWidget }),
});

function trackWidget(node, name) {
  let widget, pending;
  const changed = () => {
    widget.callback?.(widget.value);
    // As for any edit of the graph: this marks the workflow as modified, and lets the graph undo it.
    app.canvas?.emitBeforeChange?.();
    app.canvas?.emitAfterChange?.();
  };
  const editor = new TrackEditor({
    node,
    app,
    imageInput: "image",
    frames: () => Number(node.widgets?.find((other) => other.name === "frames")?.value ?? 1),
    onEdit(kind) {
      clearTimeout(pending);
      if (kind) pending = setTimeout(changed, PAUSE);
      else changed();
    },
  });
  widget = node.addDOMWidget(name, TYPE, editor.element, {
    getValue: () => editor.model.text,
    setValue: (text) => editor.model.load(String(text)),
    getMinHeight: () => MIN_HEIGHT,
    hideOnZoom: false,
    hideInPanel: true, // one canvas cannot be in two places
  });
  follow(node, editor);
  return { widget, minWidth: FIRST_WIDTH, minHeight: FIRST_HEIGHT };
}

/** Keep the editor informed of what happens to its node, and let go when the node goes. */
function follow(node, editor) {
  const look = () => editor.background.refresh();
  const frames = node.widgets?.find((other) => other.name === "frames");
  if (frames) chain(frames, "callback", () => editor.refresh());
  chain(node, "onAdded", () => {
    app.api?.addEventListener("graphChanged", look);
    editor.start();
  });
  chain(node, "onConnectionsChange", () => queueMicrotask(() => editor.background.rewired()));
  chain(node, "onConfigure", () => queueMicrotask(() => editor.background.configured()));
  chain(node, "onExecuted", (output) => editor.background.executed(output));
  chain(node, "onRemoved", () => {
    app.api?.removeEventListener("graphChanged", look);
    editor.stop();
  });
  passToGraph(editor.canvas);
}

/** On the classic canvas the editor lies above the graph: wheel and middle button are the graph's, to zoom and pan. */
function passToGraph(canvas) {
  const MIDDLE = {
    pointerdown: (e) => e.button === 1,
    pointermove: (e) => e.buttons & 4,
    pointerup: (e) => e.button === 1,
  };
  const handlers = { pointerdown: "processMouseDown", pointermove: "processMouseMove", pointerup: "processMouseUp" };
  const isClassic = () => !globalThis.LiteGraph?.vueNodesMode;
  for (const [type, isMiddle] of Object.entries(MIDDLE)) {
    canvas.addEventListener(type, (event) => isClassic() && isMiddle(event) && app.canvas[handlers[type]](event));
  }
  canvas.addEventListener("wheel", (event) => isClassic() && app.canvas.processMouseWheel(event));
}

/** Call `extra` after what a callback of this one object did so far. */
function chain(owner, name, extra) {
  const before = owner[name];
  owner[name] = function (...given) {
    const answer = before?.apply(this, given);
    extra(...given);
    return answer;
  };
}
