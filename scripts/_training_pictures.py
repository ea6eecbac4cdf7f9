"""What the small models are trained on besides formulas: pictures of the registry (`_media`), and those held out."""

from pathlib import Path

from torch import Tensor

from ..core.training.restoration import pyramid
from ._media import photo_path, picture_paths, read_clip, read_picture

SMALLEST, SHORTEST = 64, (80, 128, 192, 256)  # of the shorter side, pixels: the least, and what pictures are reduced to
# Of other templates, yet of a subject that is in training (found by eye).
SAME_SUBJECT = {"api_elevenLabs_speech_to_text", "templates-1_click_multiple_scene_angles-v1.0"}
HELD_OUT_EVERY = 10  # of the pictures; the videos bikes and carphone are held out whole


def training_pictures(held_out: bool = False, unrelated: bool = False) -> list[Tensor]:
    """uint8 ``[3, h, w]`` at several sizes: pictures, two photos and an animation film; or those held out of all.

    Some held-out pictures have a sister in training: another result of the same template. ``unrelated`` leaves those
    out of the held-out ones, and what shows the same subject.
    """
    paths = picture_paths()
    chosen = [path for n, path in enumerate(paths) if (n % HELD_OUT_EVERY == 0) == held_out]
    if held_out and unrelated:
        known = {template_of(path) for n, path in enumerate(paths) if n % HELD_OUT_EVERY} | SAME_SUBJECT
        chosen = [path for path in chosen if template_of(path) not in known]
    pictures = [read_picture(path) for path in chosen]
    if not held_out:
        pictures += [read_picture(photo_path(name)) for name in ("china", "flower")]
        film = read_clip("bigbuckbunny", range(0, 132, 6), width=480)
        pictures += list((film * 255).round().byte())
    return [level for picture in pictures for level in pyramid(picture, SHORTEST) if min(level.shape[1:]) >= SMALLEST]


def template_of(path: Path) -> str:
    """The file's name without the number of the result."""
    return path.stem.rpartition("-")[0]
