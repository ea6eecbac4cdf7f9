"""The track editor: paths drawn over the image, and places pinned, right on the node."""

from comfy_api.latest import io, ui

from ..core.motion.track_document import TrackDocument, read_document
from ..core.motion.track_formats import coordinates_json, to_core
from ._comfy.schema import CATEGORY, TRACKS, Schema, TracksDocument

# Read by the widget alone: under ComfyUI's own key, "images", the node would show the picture a second time.
BACKGROUND = "aqueduct_background"


class AqueductTrackEditor(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductTrackEditor",
            display_name="Track Editor",
            category=f"{CATEGORY}/motion",
            description="Draw over the image how its parts move: several tracks with timing, and pinned places.",
            search_aliases=["spline editor", "draw motion", "trajectory", "drag", "motion brush", "paths"],
            inputs=[
                io.Image.Input("image", tooltip=(
                    "The image to draw over; its first frame gives the size in pixels. Shown as soon as it is wired "
                    "if it comes from a file, otherwise after the first run"
                )),
                io.Int.Input("frames", default=25, min=1, max=10_000, tooltip=(
                    "Length of the motion, in frames. Timing is kept as shares of the clip, so this may change later"
                )),
                TracksDocument.Input("document", default=TrackDocument().to_json(), socketless=True, tooltip=(
                    "The drawing, as JSON in coordinates of 0 to 1. Drawn in the editor; the ? there lists the gestures"
                )),
            ],
            outputs=[
                TRACKS.Output(display_name="tracks"),
                io.String.Output(display_name="track_json"),
                io.Mask.Output(display_name="pinned"),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, document):
        """Say what is wrong with the drawing on the node, before anything runs."""
        try:
            read_document(document).enabled()
        except ValueError as problem:
            return str(problem)
        return True

    @classmethod
    def execute(cls, image, frames, document):
        drawing, size = read_document(document), tuple(image.shape[1:3])
        tracks = drawing.tracks(size, frames)
        picture = ui.PreviewImage(image[:1]).as_dict()["images"]
        return io.NodeOutput(
            to_core(tracks), coordinates_json(tracks), drawing.pinned(size)[None], ui={BACKGROUND: picture}
        )


NODES = [AqueductTrackEditor]
