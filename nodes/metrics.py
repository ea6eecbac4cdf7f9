"""How good a clip is, in numbers, frame by frame."""

import comfy.model_management as mm
import torch
from comfy_api.latest import io
from torch import Tensor

from ..core import checkpoints
from ..core.metrics.drift import advected_psnr, identity, sharpness, warping_error
from ..core.metrics.perceptual import RestorerFeatures
from ..core.metrics.restoration import psnr, ssim
from ..core.motion.carry import carry
from ..core.plots.frames import frame_curves
from ._comfy.files import SHIPPED
from ._comfy.images import to_clip
from ._comfy.progress import reporter
from ._comfy.schema import CATEGORY, MOTION, Schema

EYES = SHIPPED / "warped_diffusion_superres_gp.safetensors"


class AqueductVideoMetrics(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductVideoMetrics",
            display_name="Video Metrics",
            category=f"{CATEGORY}/motion",
            description="How a clip wears from frame to frame: identity, sharpness, warping error, PSNR. Table, plot.",
            search_aliases=["temporal consistency", "warping error", "psnr", "ssim", "drift", "flicker"],
            inputs=[
                io.Image.Input("images", tooltip="The clip to measure"),
                io.Image.Input("reference", optional=True, tooltip=(
                    "What it should be: adds PSNR and SSIM. As many frames as the clip, or one for all; the same size"
                )),
                MOTION.Input("motion", optional=True, tooltip=(
                    "How the clip should move: adds identity to the first frame and warping error. Of the clip's size"
                )),
            ],
            outputs=[io.String.Output(display_name="table"), io.Image.Output(display_name="plot")],
        )  # fmt: skip

    @classmethod
    def execute(cls, images, reference=None, motion=None):
        clip = to_clip(images).cpu()
        curves = {"sharpness (share of frame 0's)": sharpness(clip)}
        if motion is not None:
            curves = along(clip, motion.to("cpu")) | curves
        if reference is not None:
            truth = fitting(to_clip(reference).cpu(), clip)
            curves |= {"PSNR to the reference (dB)": psnr(clip, truth), "SSIM to the reference": ssim(clip, truth)}
        return io.NodeOutput(as_table(curves), frame_curves(curves))


def along(clip: Tensor, motion) -> dict[str, Tensor]:
    """What is measured along the motion; it is found backwards where only forward fields are known."""
    motion = motion.bidirectional()
    errors = warping_error(clip, motion)  # first: it refuses what does not fit
    network, config = checkpoints.load(EYES)
    eyes = RestorerFeatures(network.to(mm.get_torch_device()), config)
    way = carry(motion, report=reporter())
    same = identity(clip, way, lambda pictures: eyes(pictures.to(mm.get_torch_device())), reporter(), eyes.step)
    return {
        "identity to frame 0 (similarity)": same,
        "PSNR to frame 0 carried along (dB)": advected_psnr(clip, way),
        "warping error to the frame before": errors,
    }


def fitting(truth: Tensor, clip: Tensor) -> Tensor:
    """Raises ValueError, which names both sides, unless ``truth`` can be held against ``clip``."""
    if len(truth) not in (1, len(clip)):
        raise ValueError(f"the images have {len(clip)} frames, the reference {len(truth)}: give one frame or as many")
    if truth.shape[-2:] != clip.shape[-2:]:
        (height, width), (h, w) = clip.shape[-2:], truth.shape[-2:]
        raise ValueError(f"the images are {width} x {height} pixels, the reference {w} x {h}: resize one of them")
    return truth.expand_as(clip)


def as_table(curves: dict[str, Tensor]) -> str:
    """Markdown: the mean of what is finite, then a row for each frame."""
    rows = [["frame", *curves], ["---"] * (1 + len(curves))]
    rows.append(["mean", *(_spelled(values[values.isfinite()].mean().item()) for values in curves.values())])
    for t, values in enumerate(torch.stack(list(curves.values()), 1).tolist()):
        rows.append([str(t), *(_spelled(value) for value in values)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _spelled(value: float) -> str:
    return "" if value != value else f"{value:.4g}"


NODES = [AqueductVideoMetrics]
