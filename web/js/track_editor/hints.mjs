/** The line below the editor: what is wrong, what just happened, or what the pointer can do now. */

import { nameOf } from "./track_list.mjs";

/** @param {import("./model.mjs").Model} model */
export function hint(model) {
  if (model.problem || model.notice) return model.problem || model.notice;
  if (model.tool === "pin") return "Paint the background that shall not move.";
  if (model.tool === "erase") return "Paint over pinned background to free it.";
  if (model.tool === "static") return "Click a place that shall stay where it is.";
  if (!model.track) return "Click for points, or press and draw a path. Click a track to select it.";
  const name = nameOf(model.track, model.selected);
  if (model.extending) return `Click adds a point to ${name}; Enter or Escape ends it. Double-click removes a point.`;
  if (model.track.points.length === 1) return `${name} stays where it is. Drag it, or double-click to remove it.`;
  return `${name}: drag its points or its curve; click the curve for a new point; double-click removes one.`;
}
