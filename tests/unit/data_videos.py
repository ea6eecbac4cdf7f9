"""Tiny videos for tests: every frame shows its own number, and files are broken where they are told to be."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

av = pytest.importorskip("av")

CODECS = {
    ".mp4": "libx264", ".mov": "mpeg4", ".webm": "libvpx-vp9", ".mkv": "libx264", ".gif": "gif", ".avi": "mpeg4",
}  # fmt: skip
STEP = 4  # of grey from frame to frame


def write_video(
    path: Path, frames=24, size=(32, 48), fps=8, times=None, options=None, rotation=0, noise=0, codec=None
) -> Path:  # fmt: skip
    """Frame n is grey ``STEP n``, with a brighter upper left quarter; every eighth is a key frame.

    ``times``: in 1/1000 s, when each is shown.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = codec or CODECS[path.suffix]
    generator = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(kind, rate=fps)
        stream.height, stream.width = size
        stream.pix_fmt = "rgb8" if kind == "gif" else "yuv420p"
        exact = {"libx264": {"crf": "10", "sc_threshold": "0"}, "mpeg4": {"qmin": "1", "qmax": "2"}}
        stream.options = {"g": "8"} | exact.get(kind, {}) | (options or {})
        if rotation:
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for n in range(frames):
            picture = np.full((*size, 3), STEP * n, np.int64)
            picture[: size[0] // 2, : size[1] // 2] += 60
            picture += generator.integers(0, noise + 1, picture.shape)
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[n], Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def numbers(frames) -> list[int]:
    """Which frame each of ``[3, h, w]`` shows, from its lower right quarter."""
    corners = [frame[:, frame.shape[1] // 2 + 2 :, frame.shape[2] // 2 + 2 :] for frame in frames]
    grey = torch.stack([corner.float().mean() for corner in corners])
    return (grey / STEP).round().int().tolist()


def packets(path: Path) -> list[tuple[int, int]]:
    """(position, size) of the packets in the file, in the order of the file."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def damage(path: Path, packet: int) -> Path:
    """Overwrite most of a packet with zeros, the rest of the file as it is."""
    position, size = packets(path)[packet]
    content = bytearray(path.read_bytes())
    content[position + size // 4 : position + size] = bytes(size - size // 4)
    path.write_bytes(content)
    return path


def cut(path: Path, packet: int) -> Path:
    """End the file in the middle of a packet."""
    position, size = packets(path)[packet]
    path.write_bytes(path.read_bytes()[: position + size // 2])
    return path
