/** Play the motion. Frames are asked for only while it plays. */

const FRAMES_PER_SECOND = 16;

/** @param {import("./model.mjs").Model} model @returns {{toggle: () => void, stop: () => void}} */
export function playback(model) {
  let request, began;

  function next(now) {
    began ??= now;
    const frame = Math.floor(((now - began) / 1000) * FRAMES_PER_SECOND) % model.frames;
    if (frame !== model.frame) model.set({ frame });
    request = requestAnimationFrame(next);
  }

  function stop() {
    cancelAnimationFrame(request);
    [request, began] = [undefined, undefined];
    if (model.playing) model.set({ playing: false });
  }

  function start() {
    model.set({ playing: true, frame: 0 });
    request = requestAnimationFrame(next);
  }

  return { stop, toggle: () => (model.playing ? stop() : start()) };
}
