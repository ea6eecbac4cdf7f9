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
            is_output_node=True,  # or a run that ends here, to see a computed image, would not be one
            inputs=[
                io.Image.Input("image", tooltip=(
                    "The image to draw over; its first frame gives the size in pixels. Shown as soon as it is wired "
                    "if it comes from a file, otherwise after the first run"
                )),
                io.Int.Input("frames", default=25, min=2, max=10_000, tooltip=(
                    "Length of the motion, in frames. Timing is kept as shares of the clip, so this may change later"
                )),
                TracksDocument.Input("document", default=TrackDocument().to_json(), socketless=True, tooltip=(
                    "What is drawn, as JSON. The ? button lists gestures and keys"
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
        """Say on the node, before anything runs, what is wrong with the text.

        A drawing without tracks passes: an image that is computed comes to the editor by a run. So does one that
        another node will hand in, which is None here.
        """
        try:
            if document is not None:
                read_document(document)
        except ValueError as problem:
            return str(problem)
        return True

    @classmethod
    def execute(cls, image, frames, document):
        drawing, size = read_document(document), tuple(image.shape[1:3])
        shown = {BACKGROUND: ui.PreviewImage(image[:1]).as_dict()["images"]}
        try:
            tracks = drawing.tracks(size, frames)
        except ValueError as nothing_drawn:
            return io.NodeOutput(None, None, None, ui=shown, block_execution=str(nothing_drawn))
        return io.NodeOutput(to_core(tracks), coordinates_json(tracks), drawing.pinned(size)[None], ui=shown)


NODES = [AqueductTrackEditor]
