/** The picture under the drawing: what is wired in, else what the last run sent, else none. */

import { upstreamPicture, viewUrl } from "./upstream.mjs";

const SENT = "aqueduct_background"; // nodes/track_editor.py
const ASPECT = "aqueduct_image_size"; // kept with the node, so that a reopened workflow has its proportions at once
const UNKNOWN_SIZE = { width: 1024, height: 576 };

export class Background {
  /** @param {{node: object, input: string, app: object, onChange: () => void}} owner */
  constructor({ node, input, app, onChange }) {
    Object.assign(this, { node, input, app, onChange });
    this.picture = undefined; // an image or a video element, ready to be painted
    this.size = savedSize(node) ?? UNKNOWN_SIZE;
    this.known = Boolean(savedSize(node));
    this.from = "";
    this.key = undefined;
    this.refresh();
  }

  /** Look again; load what is new. */
  refresh() {
    const wired = upstreamPicture(this.node, this.input, this.app.rootGraph ?? this.app.graph);
    const sent = this.#sent();
    const source = wired?.exact ? wired : (sent ?? wired);
    if (source?.key === this.key) return;
    this.key = source?.key;
    if (!source) this.#show(undefined, "");
    else if (source.element) this.#show(source.element, source.from);
    else this.#load(source);
  }

  /** The node ran: the picture it sent is exact. */
  executed(output) {
    this.output = output?.[SENT]?.[0];
    this.refresh();
  }

  /** Another source is wired: what the last run sent is no longer true. */
  rewired() {
    this.output = undefined;
    this.refresh();
  }

  /** The graph around the node has been set up, its saved size with it. */
  configured() {
    const size = savedSize(this.node);
    if (size && !this.picture) [this.size, this.known] = [size, true];
    this.refresh();
    this.onChange();
  }

  #sent() {
    if (!this.output) return undefined;
    return { key: JSON.stringify(this.output), url: viewUrl(this.output), from: "the last run" };
  }

  #load({ key, url, video, from }) {
    const element = document.createElement(video ? "video" : "img");
    const ready = () => this.key === key && this.#show(element, from);
    element.addEventListener(video ? "loadeddata" : "load", ready, { once: true });
    element.addEventListener("error", () => this.key === key && this.#show(undefined, ""), { once: true });
    if (video) Object.assign(element, { muted: true, preload: "auto", playsInline: true });
    element.src = this.app.api?.apiURL(url) ?? url;
  }

  #show(picture, from) {
    [this.picture, this.from] = [picture, from];
    const width = picture?.naturalWidth || picture?.videoWidth;
    const height = picture?.naturalHeight || picture?.videoHeight;
    if (width && height) {
      [this.size, this.known] = [{ width, height }, true];
      this.node.properties ??= {};
      this.node.properties[ASPECT] = [width, height];
    }
    this.onChange();
  }
}

function savedSize(node) {
  const [width, height] = node.properties?.[ASPECT] ?? [];
  return width > 0 && height > 0 ? { width, height } : undefined;
}
