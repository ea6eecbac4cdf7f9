"""What data cost: bytes of a clip, of the index and of opening a shard; seconds of decoding and of flow."""

import json
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from aqueduct.core.data.clips import find
from aqueduct.core.data.dataset import LatentDataset, Order
from aqueduct.core.data.encoders import Pixels
from aqueduct.core.data.prepare import MotionSettings, PrepareSettings, prepare
from aqueduct.core.data.shards import INDEX, SHARD_BYTES, Clip, read_index, write_dataset
from aqueduct.core.data.survey import ClipSettings
from aqueduct.core.training.resumable import write

half, pixels = torch.float16, torch.uint8
FLOW = ((15, 2, 32, 32), half)
MOTION = {"forward": FLOW, "backward": FLOW, "mask": (FLOW[0], torch.bool)}
UCF101 = {"latent": ((4, 16, 32, 32), half), "first": ((3, 256, 256), pixels)}
CLIPS = {
    "ucf101": UCF101,
    "ucf101 with motion": UCF101 | MOTION,
    "webvid for CogVideoX": {"latent": ((16, 5, 32, 32), half), "first": ((3, 256, 256), pixels)},
    "the same with T5's context": {
        "latent": ((16, 5, 32, 32), half), "first": ((3, 256, 256), pixels), "context": ((226, 4096), half),
    },
    "coyo for SDXL": {
        "latent": ((4, 1, 128, 128), half), "first": ((3, 1024, 1024), pixels), "context": ((77, 2048), half),
        "pooled": ((1280,), half),
    },
    "celeba-hq for EBDM-f4": {
        "latent": ((3, 1, 64, 64), half), "control": ((3, 1, 64, 64), half), "cls": ((768,), half),
        "first": ((3, 256, 256), pixels),
    },
}  # fmt: skip
Tensors = dict[str, tuple[tuple[int, ...], torch.dtype]]


def bytes_of_clips() -> dict[str, dict]:
    """Files of eight clips each; the index line beside."""
    return {name: _written(tensors) for name, tensors in CLIPS.items()}


def _clips(tensors: Tensors, count: int) -> Iterator[tuple[Clip, dict[str, Tensor]]]:
    for n in range(count):
        made = {name: torch.zeros(shape, dtype=dtype) for name, (shape, dtype) in tensors.items()}
        yield Clip(f"class_{n % 101:03d}/video_{n:08d}.mp4", 0, 45, "a caption of about ten words, as they are"), made


def _written(tensors: Tensors) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), _clips(tensors, 8), {})
        shards = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
        return {"shard_bytes": shards // 8, "index_bytes": (Path(folder) / INDEX).stat().st_size // 8}


def index_cost(clips: int = 20000) -> dict:
    """Reading an index of so many clips, a clip: its file, CPU time, the memory that stays and the most of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = {key: ((1,), dtype) for key, (_, dtype) in UCF101.items()}
        write_dataset(folder, _clips(small, clips), {}, limit=2**40)
        size, start = (folder / INDEX).stat().st_size, time.process_time()
        index = read_index(folder)
        seconds = time.process_time() - start
        del index
        tracemalloc.start()
        index = read_index(folder)
        stays, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(index.clips) == clips
        total = {"file_bytes": size, "memory_bytes": stays, "most_bytes": most, "microseconds": 1e6 * seconds}
        return {"clips": clips} | {name: value / clips for name, value in total.items()}


def order_cost(clips: int = 1_000_000) -> dict:
    """An epoch's order of so many clips of one bucket."""
    order = Order([torch.arange(clips)], 64, 0)
    return {"clips": clips, "seconds": _seconds(lambda: order.rows(0)), "bytes": 8 * clips}


def shard_cost() -> dict:
    """A clip out of a shard with as many tensors as a full one has, when the shard is mapped already, and when not."""
    count = SHARD_BYTES // (131072 + 196608)
    small = {key: ((64,), dtype) for key, (_, dtype) in UCF101.items()}
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), _clips(small, count), {})
        first = LatentDataset.open(folder)
        opened = min(_seconds(lambda: LatentDataset(first.folder, first.index).tensor(7, "latent")) for _ in range(5))
        again = min(_seconds(lambda n=n: first.tensor(n, "latent")) for n in range(5))
        return {"clips": count, "opening": opened, "mapped": again}


def checkpoint(size: int = 2**28) -> dict:
    """CPU seconds of writing a checkpoint of ``size`` bytes, a GB."""
    with tempfile.TemporaryDirectory() as folder:
        state = {"parameters": list(torch.randn(8, size // 32))}
        return {"bytes": size, "seconds_of_a_gb": _seconds(lambda: write(state, Path(folder) / "x.pt")) / size * 1e9}


def preparation(videos: int = 2) -> dict:
    """CPU seconds a clip of 16 frames of 256 x 256 at stride 3, out of H.264 of 640 x 360: without flow, and with."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for n in range(videos):
            _video(folder / f"{n}.mp4", frames=150, seed=n)
        found = {}
        for kind, motion in (("decoded", None), ("with flow", MotionSettings())):
            settings = PrepareSettings(clips=ClipSettings(lengths=(16,), stride=3), motion=motion)
            start = time.process_time()
            index = prepare(find(folder), settings, Pixels(), folder / f"out {kind}")
            found[kind] = (time.process_time() - start) / len(index.clips)
        return found | {"clips": len(index.clips)}


def _video(path: Path, frames: int, seed: int) -> None:
    """A smooth texture that slides: something for the coder and for the flow."""
    import av

    coarse = torch.rand(1, 3, 45, 100, generator=torch.Generator().manual_seed(seed))
    wide = torch.nn.functional.interpolate(coarse, (360, 1000), mode="bicubic").clamp(0, 1)[0].mul(255).byte()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for n in range(frames):
            view = wide[:, :, 2 * n : 2 * n + 640].permute(1, 2, 0).contiguous().numpy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode())


def _seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


PARTS: dict[str, Callable[[], dict]] = {
    "bytes of a clip": bytes_of_clips,
    "index": index_cost,
    "order": order_cost,
    "shard": shard_cost,
    "checkpoint": checkpoint,
    "preparation": preparation,
}

if __name__ == "__main__":
    print(json.dumps({name: run() for name, run in PARTS.items()}, indent=1))
