/** When a track is where: the same as `core/motion/track_document.py`. Times are shares of the clip, 0..1. */

const SAME_TIME = 1e-9;

const EASED = {
  linear: (s) => s,
  in: (s) => s * s,
  out: (s) => 1 - (1 - s) * (1 - s),
  "in-out": (s) => s * s * (3 - 2 * s),
};

/** Frame k of F is at k/(F-1); a single frame is the first. */
export const timeOfFrame = (frame, frames) => (frames > 1 ? frame / (frames - 1) : 0);

/** Share of its length that a track has behind it. Where start and end coincide it jumps. */
export function travelled(track, time) {
  const span = track.end - track.start;
  if (span <= SAME_TIME) return time >= track.end - SAME_TIME ? 1 : 0;
  return EASED[track.ease](Math.min(Math.max((time - track.start) / span, 0), 1));
}

export function isVisible(track, time) {
  return track.hold || (time >= track.start - SAME_TIME && time <= track.end + SAME_TIME);
}
