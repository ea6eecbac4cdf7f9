"""Motion from tracks: a few points that someone drew or a tracker found."""

import inspect

from comfy_api.latest import io

from ..core.motion.densify import DENSIFIERS, motion_from_tracks
from ..core.motion.flow_formats import motion_from_flow
from ..core.motion.track_formats import from_core, parse_tracks
from ._comfy.images import mask_frames, to_clip
from ._comfy.progress import reporter
from ._comfy.schema import CATEGORY, DENSIFIER, MOTION, OPTICAL_FLOW, RAFT_FLOW, TRACKS, Schema

DENSIFIER_TOOLTIP = (
    "How the space between tracks is filled. gaussian: motion fades away from the tracks, the rest stands still. "
    "nearest: each track moves a disc around it as one piece. rigid: the picture turns, zooms and shifts as most "
    "tracks do, the others deviate from it. thin-plate: one smooth bend through all tracks, everywhere. edge-aware: "
    "spreads up to the edges of the image (wire it)"
)
RADIUS_TOOLTIP = (
    "How far a track reaches, pixels; 0 takes the densifier's own (64; edge-aware: 4 times the longer side). gaussian, "
    "rigid: 1 standard deviation. nearest: the disc. edge-aware: where no edge stops it. Not read by thin-plate"
)
SOME_SIZE = (512, 512)  # to read a text before the image is there: what is wrong with it does not depend on the size


class AqueductMotionFromTracks(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductMotionFromTracks",
            display_name="Motion from Tracks",
            category=f"{CATEGORY}/motion",
            description=(
                "Spreads the motion of a few tracks over the whole picture, in both directions (EMG, section 4.4). "
                "Tracks that stand still pin their surroundings."
            ),
            search_aliases=["drag", "trajectory to flow", "sparse to dense", "ATI", "spline to motion"],
            inputs=[
                io.Image.Input("image", optional=True, tooltip=(
                    "First frame: gives the size, and what edge-aware and a network follow. Without it, width and "
                    "height count"
                )),
                TRACKS.Input("tracks", optional=True, tooltip="From AqueductTrackEditor or a core node, in pixels"),
                io.Mask.Input("pinned", optional=True, tooltip=(
                    "1 where nothing shall move, at the image's size: from AqueductTrackEditor, or painted"
                )),
                io.MultiType.Input("flow", types=[OPTICAL_FLOW, RAFT_FLOW], optional=True, tooltip=(
                    "In place of tracks: flow fields that another pack made, frame to next frame. The motion has their "
                    "size; the way back is inverted. (To measure flow yourself: AqueductOpticalFlow)"
                )),
                DENSIFIER.Input("network", optional=True, tooltip=(
                    "From AqueductLoadMotionAdapter: a network that has learned what moves together in a picture takes "
                    "the densifier's place. It needs the image; radius, smoothing, feather and edges are not read"
                )),
                io.String.Input("track_json", default="", multiline=True, tooltip=(
                    "In place of tracks: coordinates as KJNodes, WanVideo and ATI write them, one track or many, in "
                    "pixels, or the track editor's document. ATI's 121 points are 121 frames, unless set below"
                )),
                io.Combo.Input("densifier", options=list(DENSIFIERS), default="gaussian", tooltip=DENSIFIER_TOOLTIP),
                io.Int.Input("frames", default=0, min=0, max=10_000, tooltip=(
                    "Length of the motion, frames; tracks of another length are stretched to it. 0: as long as they are"
                )),
                io.Int.Input("width", default=512, min=1, max=16384, tooltip="Pixels; an image's size comes first"),
                io.Int.Input("height", default=512, min=1, max=16384, tooltip="Pixels; an image's size comes first"),
                io.Float.Input("radius", default=0.0, min=0.0, max=1e5, step=1.0, tooltip=RADIUS_TOOLTIP),
                io.Float.Input("smoothing", default=1e-3, min=0.0, max=1e3, step=1e-4, round=False, tooltip=(
                    "How far the field may miss the tracks, no unit: 0 meets them, 0.001 nearly, more calms tracks "
                    "that contradict each other. Not read by nearest"
                )),
                io.Float.Input("feather", default=32.0, min=0.0, max=1e5, step=1.0, tooltip=(
                    "nearest: pixels over which the disc's motion fades to rest"
                )),
                io.Float.Input("edges", default=2.0, min=0.0, max=1e3, step=0.1, tooltip=(
                    "edge-aware: how strongly edges of the image stop motion, no unit; 0 ignores them"
                )),
            ],
            outputs=[MOTION.Output(display_name="motion")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, track_json):
        """Say what is wrong with a text on the node, before anything runs; a wired one comes later."""
        try:
            if track_json and track_json.strip():
                parse_tracks(track_json, SOME_SIZE, frames=2)
        except ValueError as problem:
            return str(problem)
        return True

    @classmethod
    def execute(
        cls, track_json, densifier, frames, width, height, image=None, tracks=None, pinned=None, flow=None,
        network=None, **settings,
    ):  # fmt: skip
        check_one_source(
            {"tracks": tracks is not None, "track_json": bool(track_json.strip()), "flow": flow is not None}
        )
        if flow is not None:
            return io.NodeOutput(motion_from_flow(flow).bidirectional(reporter()))
        if pinned is not None and len(mask_frames(pinned)) > 1:
            raise ValueError(f"pinned is one mask for the whole clip, got {len(pinned)}: wire a single one")
        picture = None if image is None else to_clip(image[:1])[0]
        size = (height, width) if picture is None else tuple(picture.shape[-2:])
        found = _tracks(tracks, track_json, size, frames)
        settings = _own(densifier, settings) if network is None else {}
        motion = motion_from_tracks(
            found, densifier if network is None else network.densifier(), image=picture,
            pinned=None if pinned is None else mask_frames(pinned)[0], report=reporter(), **settings,
        )  # fmt: skip
        return io.NodeOutput(motion)


def check_one_source(given: dict[str, bool]) -> None:
    """ValueError unless exactly one of the sources is given."""
    found = [name for name, present in given.items() if present]
    if len(found) != 1:
        raise ValueError(f"give one of {', '.join(given)}, got {' and '.join(found) or 'none'}")


def _tracks(tracks: dict | None, text: str, size: tuple[int, int], frames: int):
    """The tracks of either source, ``frames`` long (0: as long as they are)."""
    if tracks is None:
        return parse_tracks(text, size, frames or None)
    found = from_core(tracks, size)
    return found.resampled(frames) if frames else found


def _own(densifier: str, settings: dict) -> dict:
    """Those of the widgets that this densifier reads."""
    settings = {name: value for name, value in settings.items() if (name, value) != ("radius", 0)}
    known = inspect.signature(DENSIFIERS[densifier]).parameters
    return {name: value for name, value in settings.items() if name in known}


NODES = [AqueductMotionFromTracks]
