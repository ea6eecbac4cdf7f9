"""Motion of a camera over a picture."""

import json

from comfy_api.latest import io

from ..core.motion.camera import Keyframe, Shake, camera_motion
from ..core.motion.track_document import EASES
from ._comfy.schema import CATEGORY, MOTION, Schema

KEYS = ("time", "pan_x", "pan_y", "zoom", "roll", "ease")


class AqueductCameraMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductCameraMotion",
            display_name="Camera Motion",
            category=f"{CATEGORY}/motion",
            description=(
                "How a picture moves under a camera that pans, zooms about a point, rolls and shakes; exact in both "
                "directions. The widgets say where the camera is at the end; keyframes say more."
            ),
            search_aliases=["pan zoom", "ken burns", "dolly", "camera shake"],
            inputs=[
                io.Image.Input("image", optional=True, tooltip=(
                    "The picture, for its size. Without it, width and height count"
                )),
                io.Int.Input("frames", default=25, min=2, max=10_000, tooltip="Length of the motion, frames"),
                io.Int.Input("width", default=512, min=1, max=16384, tooltip="Pixels; an image's size comes first"),
                io.Int.Input("height", default=512, min=1, max=16384, tooltip="Pixels; an image's size comes first"),
                io.Float.Input("pan_x", default=0.0, min=-10.0, max=10.0, step=0.001, round=False, tooltip=(
                    "Where the camera looks at the end, shares of the picture's width; above 0 it goes right, and the "
                    "content left"
                )),
                io.Float.Input("pan_y", default=0.0, min=-10.0, max=10.0, step=0.001, round=False, tooltip=(
                    "The same, shares of the height; above 0 it goes down, and the content up"
                )),
                io.Float.Input("zoom", default=1.2, min=0.01, max=100.0, step=0.001, round=False, tooltip=(
                    "Factor at the end: above 1 closer, below 1 further away. It grows evenly"
                )),
                io.Float.Input("roll", default=0.0, min=-3600.0, max=3600.0, step=0.5, tooltip=(
                    "Degrees at the end; above 0 the camera turns clockwise, and the content counterclockwise"
                )),
                io.Combo.Input("ease", options=list(EASES), default="in-out", tooltip=(
                    "How it starts and stops: linear, in (starts slowly), out (ends slowly), in-out"
                )),
                io.Float.Input("centre_x", default=0.5, min=-10.0, max=10.0, step=0.001, round=False, tooltip=(
                    "Point that zoom and roll leave where it is, shares of the width from the left edge"
                )),
                io.Float.Input("centre_y", default=0.5, min=-10.0, max=10.0, step=0.001, round=False, tooltip=(
                    "The same, shares of the height from the top edge"
                )),
                io.Float.Input("shake", default=0.0, min=0.0, max=1e4, step=0.5, tooltip=(
                    "An unsteady hand: at most so many pixels from its place, in x and in y"
                )),
                io.Float.Input("shake_cycles", default=4.0, min=0.1, max=1e4, step=0.5, tooltip=(
                    "Its fastest part, cycles per clip; at most half the frames"
                )),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True, tooltip=(
                    "Of the shake: the same seed shakes the same way"
                )),
                io.String.Input("keyframes", default="", multiline=True, tooltip=(
                    'In place of pan, zoom, roll and ease above: JSON like [{"time": 0}, {"time": 0.5, "zoom": 1.3, '
                    '"ease": "in-out"}, {"time": 1, "pan_x": 0.1}]; time is a share of the clip, ease leads to the next'
                )),
            ],
            outputs=[MOTION.Output(display_name="motion")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, keyframes):
        try:
            if keyframes is not None and keyframes.strip():  # None: another node hands them in
                read_keyframes(keyframes)
        except ValueError as problem:
            return str(problem)
        return True

    @classmethod
    def execute(
        cls, frames, width, height, pan_x, pan_y, zoom, roll, ease, centre_x, centre_y, shake, shake_cycles, seed,
        keyframes, image=None,
    ):  # fmt: skip
        if image is not None:
            height, width = image.shape[1:3]
        keys = [Keyframe(0.0, ease=ease), Keyframe(1.0, pan_x, pan_y, zoom, roll)]
        motion = camera_motion(
            frames, height, width, read_keyframes(keyframes) if keyframes.strip() else keys, (centre_x, centre_y),
            Shake(shake, shake_cycles, seed) if shake else None,
        )  # fmt: skip
        return io.NodeOutput(motion)


def read_keyframes(text: str) -> list[Keyframe]:
    """Keyframes of the widget's JSON. Raises ValueError, which names the place or the keyframe."""
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as problem:
        raise ValueError(f"keyframes: {problem.msg} in line {problem.lineno}, column {problem.colno}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError('keyframes: expected a list like [{"time": 0}, {"time": 1, "zoom": 1.3}]')
    keys = [_keyframe(number, entry) for number, entry in enumerate(entries, start=1)]
    if len(keys) == 1 and keys[0] != Keyframe(keys[0].time, ease=keys[0].ease):
        raise ValueError('keyframe 1 is the only one: the camera stays there; start from another, such as {"time": 0}')
    return keys


def _keyframe(number: int, entry: dict) -> Keyframe:
    foreign = [name for name in entry if name not in KEYS]
    if foreign or "time" not in entry:
        wrong = f"has no {', '.join(map(repr, foreign))}" if foreign else "needs a 'time'"
        raise ValueError(f"keyframe {number} {wrong}; it may say {', '.join(KEYS)}")
    for name, value in entry.items():
        expected = str if name == "ease" else (int, float)
        if not isinstance(value, expected) or isinstance(value, bool):
            raise ValueError(
                f"keyframe {number}: {name} is {'a name' if name == 'ease' else 'a number'}, got {value!r}"
            )
    try:
        return Keyframe(**entry)
    except ValueError as problem:
        raise ValueError(f"keyframe {number}: {problem}") from None


NODES = [AqueductCameraMotion]
