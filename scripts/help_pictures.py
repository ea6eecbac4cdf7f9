"""Draw the pictures of the help pages and of `docs/concepts.md`, with the code they describe.

    python3 scripts/help_pictures.py

Needs torch, Pillow, scipy and scikit-learn: the interpreter that `scripts/test.py --python` prints has them. Same code,
same pictures; nothing is trained. The sample film is fetched from the package registry (`_media.py`).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from _pack import ROOT, load_pack

load_pack()
import _animation_pictures as animation
import _exemplar_pictures as exemplar
import _motion_pictures as motion
import _restoration_pictures as restoration
import _workflow_pictures as workflow
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from aqueduct.core.bridges import PROCESSES, bridge_gmax, make_bridge, times
from aqueduct.core.plots.curves import bridge_curves
from aqueduct.core.training.digits import DIRECTIONS, MovingDigits, load_glyphs

ASSETS, DOCS = ROOT / "web" / "docs" / "assets", ROOT / "docs"
INK, PAPER = (40, 44, 52), (255, 255, 255)
ZOOM, GAP, LEFT, TOP = 40, 4, 64, 56


def save(picture: Image.Image, path: Path) -> None:
    """A plot as .png in a palette of 64 colours, which is all it needs; a photograph as .jpg. The pages stay small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jpg":
        picture.save(path, quality=72, optimize=True, subsampling=1)
    else:
        picture.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1000:.0f} kB")


def curves() -> None:
    width, height = 420, 260
    sheet = Image.new("RGB", (2 * width, 3 * height), PAPER)
    for i, kind in enumerate(PROCESSES):
        sheet.paste(as_picture(bridge_curves(make_bridge(kind), None, width, height)), (i % 2 * width, i // 2 * height))
    save(sheet, ASSETS / "curves.png")
    bridge = bridge_gmax()
    marked = bridge_curves(bridge, times(bridge, 12, "half_log_snr"), width=480, height=300)
    save(as_picture(marked), ASSETS / "times-half_log_snr.png")


def as_picture(image: torch.Tensor) -> Image.Image:
    return Image.fromarray((image[0].numpy() * 255).round().astype(np.uint8))


def states() -> None:
    """One clip on its bridge: what the prior and the video contribute, and the noisy state a network sees."""
    glyphs, _ = load_glyphs(held_out=True)
    world = MovingDigits(glyphs)
    digit, direction = torch.tensor([3]), torch.tensor([DIRECTIONS.index("down-right")])
    z_0 = world.clips(digit, direction, torch.tensor([[8.0, 8.0]])).video[0]
    z_T = z_0[:, :1].expand_as(z_0)
    eps = torch.randn(z_0.shape, generator=torch.Generator().manual_seed(0)).mean(0, keepdim=True) * 3**0.5
    bridge, shown = bridge_gmax(), [1.0, 0.9, 0.5, 0.2, 0.1, 0.03, 0.0]
    width = LEFT + 2 * 8 * ZOOM + 5 * GAP
    canvas = Image.new("RGB", (width, TOP + len(shown) * (ZOOM + GAP)), PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    draw.text((LEFT, 8), "mean: a z_0 + b z_T, frames 1 to 8", fill=INK, font=font)
    draw.text((LEFT + 8 * ZOOM + 5 * GAP, 8), "state: mean + c eps (contrast reduced to fit)", fill=INK, font=font)
    draw.text((8, TOP - 20), "t", fill=INK, font=font)
    for row, t in enumerate(shown):
        a, b, c = (value.item() for value in bridge.coefficients(t))
        mean = a * z_0 + b * z_T
        state = (mean + c * eps) / (1 + c)
        y = TOP + row * (ZOOM + GAP)
        draw.text((8, y + ZOOM / 2), f"{t:g}", fill=INK, font=font, anchor="lm")
        for panel, clip in enumerate((mean, state)):
            x = LEFT + panel * (8 * ZOOM + 5 * GAP)
            for frame in range(8):
                canvas.paste(tile(clip[:, frame]), (x + frame * ZOOM, y))
    save(canvas, DOCS / "bridge-states.png")


def tile(frame: torch.Tensor) -> Image.Image:
    pixels = ((frame.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(pixels).resize((ZOOM - 2, ZOOM - 2), Image.Resampling.NEAREST)


def motions() -> None:
    save(motion.previews(), ASSETS / "motion-preview.jpg")
    save(motion.cycle(), ASSETS / "cycle-mask.jpg")
    save(motion.densifiers(), ASSETS / "densifiers.jpg")
    save(motion.advected(), ASSETS / "advect.jpg")
    save(motion.cameras(), ASSETS / "camera.jpg")
    save(motion.composed(), ASSETS / "compose.jpg")
    save(motion.chain(), DOCS / "motion.jpg")


def workflows() -> None:
    save(workflow.animated(), DOCS / "animated.jpg")
    restored = restoration.pictures()
    save(restored["warped_diffusion_superres"], DOCS / "warped_diffusion.jpg")
    for name, picture in (workflow.thumbnails() | restored).items():
        save(picture, ROOT / "workflows" / f"{name}.jpg")


def animations() -> None:
    for name, picture in animation.pictures().items():
        save(picture, (DOCS if name == "animated_model" else ROOT / "workflows") / f"{name}.jpg")


def exemplars() -> None:
    for name, picture in exemplar.pictures().items():
        save(picture, ROOT / "workflows" / f"{name}.jpg")


if __name__ == "__main__":
    curves()
    states()
    motions()
    workflows()
    animations()
    exemplars()
