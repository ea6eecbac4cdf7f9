"""By example: pictures in the style of another one, from a control that says where things are (EBDM)."""

from comfy_api.latest import io

from ._comfy.control import control_prior
from ._comfy.exemplar import Settings
from ._comfy.exemplar_encode import encoded
from ._comfy.exemplar_model import styled, takes_exemplars
from ._comfy.reference import referenced
from ._comfy.schema import CATEGORY, EXEMPLAR, Schema


class AqueductExemplarEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductExemplarEncode",
            display_name="Exemplar Encode",
            category=f"{CATEGORY}/exemplar",
            description="A picture whose style is to be taken over, as the networks that do so see it (EBDM).",
            search_aliases=["style reference", "reference image", "ip-adapter", "ebdm", "style transfer"],
            inputs=[
                io.Image.Input("image", tooltip=(
                    "The exemplar, at any size; cut to whole cells of the VAE around its middle (at most 7 pixels of a "
                    "side with Stable Diffusion's). A batch holds one exemplar for each picture of the LATENT"
                )),
                io.Vae.Input("vae", tooltip="VAE of the MODEL that the exemplar goes to"),
                io.ClipVision.Input("clip_vision", optional=True, tooltip=(
                    "DINOv2, for a MODEL that takes its global token from it (paper: DINOv2); the file goes into "
                    "models/clip_vision. Sees the whole picture, squeezed to 518 x 518 pixels. Not needed for the "
                    "shipped model and for MODELs not made for exemplars"
                )),
                io.Mask.Input("mask", optional=True, tooltip=(
                    "The part of the exemplar to take the style from: 0.5 and above counts. Any size of its aspect "
                    "ratio; one for all exemplars, or one for each. Load Image's mask is 1 where a picture is "
                    "transparent: invert it"
                )),
            ],
            outputs=[EXEMPLAR.Output(display_name="exemplar")],
        )  # fmt: skip

    @classmethod
    def execute(cls, image, vae, clip_vision=None, mask=None):
        return io.NodeOutput(encoded(image, vae, clip_vision, mask))


class AqueductApplyExemplar(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductApplyExemplar",
            display_name="Apply Exemplar",
            category=f"{CATEGORY}/exemplar",
            description=(
                "Makes a MODEL take over the style of an exemplar: by its own exemplar network (EBDM), or, for other "
                "MODELs, by attending to what they see in it themselves. Nothing is trained."
            ),
            search_aliases=["style reference", "reference only", "reference attention", "ip-adapter", "ebdm"],
            inputs=[
                io.Model.Input("model", tooltip="Any MODEL that can take exemplars; it is not changed"),
                EXEMPLAR.Input("exemplar", tooltip=(
                    "From AqueductExemplarEncode, with the MODEL's VAE. Several can follow each other: where they "
                    "overlap they share"
                )),
                io.Float.Input("strength", default=1.0, min=0.0, max=10.0, step=0.01, tooltip=(
                    "What the exemplar adds is multiplied by this, no unit; 0 changes nothing at all, much "
                    "more than 1 breaks the picture. Paper: 1"
                )),
                io.Float.Input("start_percent", default=0.0, min=0.0, max=1.0, step=0.001, tooltip=(
                    "From where on it counts, as a share of the MODEL's noise levels (as ControlNets), 0 to 1. Paper: 0"
                )),
                io.Float.Input("end_percent", default=1.0, min=0.0, max=1.0, step=0.001, tooltip=(
                    "Up to where it counts, as a share of the MODEL's noise levels, 0 to 1. Paper: 1"
                )),
                io.String.Input("blocks", default="", tooltip=(
                    "MODELs not made for exemplars: which blocks attend to it, e.g. middle, output 3-5. Empty: all, "
                    "as in the paper"
                )),
                io.Float.Input("reference_percent", default=1.0, min=0.0, max=1.0, step=0.01, tooltip=(
                    "MODELs not made for exemplars: how far denoised they are shown it, as a share of their noise "
                    "levels, 0 to 1; 1 is clean. Not read with each_step. Paper: 1 (t_ref = 0)"
                )),
                io.Boolean.Input("each_step", default=False, tooltip=(
                    "MODELs not made for exemplars: look at the exemplar anew at every step, at the step's own level, "
                    "which doubles the time. Paper: off, once at t_ref"
                )),
                io.Boolean.Input("positive_only", default=False, tooltip=(
                    "Leave the exemplar out of the negative branch of CFG, so that CFG strengthens it too. Paper: off, "
                    "there is no CFG"
                )),
                io.Mask.Input("mask", optional=True, tooltip=(
                    "Where in the picture it acts, 0 to 1, at any size of the picture's aspect ratio; one for all "
                    "pictures, or one for each. Without it everywhere, as in the paper"
                )),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, exemplar, start_percent, end_percent, **others):
        settings = Settings(start=start_percent, end=end_percent, **others)
        apply = styled if takes_exemplars(model) else referenced
        return io.NodeOutput(apply(model, exemplar, settings))


class AqueductControlPrior(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductControlPrior",
            display_name="Control Prior",
            category=f"{CATEGORY}/prior",
            description="z_T of EBDM: the latent of a control image (edges, masks, a pose); the bridge starts from it.",
            search_aliases=["edge to photo", "mask to photo", "canny", "control image", "ebdm"],
            inputs=[
                io.Image.Input("image", tooltip=(
                    "The control, or with canny the picture to take the edges of. Width and height: multiples of the "
                    "VAE's stride (1 or 8 pixels) and of what the MODEL says it takes. One channel is repeated to three"
                )),
                io.Vae.Input("vae", tooltip="VAE of the bridge MODEL"),
                io.Boolean.Input("canny", default=False, tooltip=(
                    "Find the Canny edges of the image first (a Gaussian of 1 pixel, then the length of the Sobel "
                    "gradient of its grey values); needs the Python package opencv-python-headless"
                )),
                io.Float.Input("low_threshold", default=25.5, min=0.0, max=2048.0, step=0.5, tooltip=(
                    "Canny: edges go on above this gradient, grey levels of 0 to 255 as cv2 counts; 255 times that of "
                    "core's Canny node (its 0.4 is 102). Paper: no value; the one it follows, CoCosNet, has 25.5"
                )),
                io.Float.Input("high_threshold", default=51.0, min=0.0, max=2048.0, step=0.5, tooltip=(
                    "Canny: edges begin above this gradient, the same unit. Paper: no value; CoCosNet 51"
                )),
            ],
            outputs=[io.Latent.Output(display_name="latent"), io.Image.Output(display_name="control")],
        )  # fmt: skip

    @classmethod
    def execute(cls, image, vae, canny, low_threshold, high_threshold):
        return io.NodeOutput(*control_prior(image, vae, canny, low_threshold, high_threshold))


NODES = [AqueductExemplarEncode, AqueductApplyExemplar, AqueductControlPrior]
