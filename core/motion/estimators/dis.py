"""Dense inverse search: optical flow on the CPU that needs no weights.

Source: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016, as OpenCV implements it.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...optional import need
from .estimate import Needs

# name -> OpenCV's preset and what is changed in it, coarse to fine; benchmarks/results/motion.md measures what they
# trade. "fine" goes down to full resolution, where OpenCV's own stop at half or a quarter and interpolate the rest.
PRESETS: dict[str, tuple[str, dict[str, int]]] = {
    "ultrafast": ("DISOPTICAL_FLOW_PRESET_ULTRAFAST", {}),
    "fast": ("DISOPTICAL_FLOW_PRESET_FAST", {}),
    "medium": ("DISOPTICAL_FLOW_PRESET_MEDIUM", {}),
    "fine": ("DISOPTICAL_FLOW_PRESET_MEDIUM", {"setFinestScale": 0}),
}
DEFAULT_PRESET = "fine"
PATCH = 8  # side of the patches that are matched; smaller images hold none
# Below 32 pixels OpenCV picks a pyramid level on which a patch does not fit: it refuses tiny images, and reads outside
# of wide, low ones (16 x 100 ends the process with a segmentation fault in 5.0).
SAFE_SIDE = 32
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as cv2.cvtColor
PAIRS_PER_THREAD = 8  # long enough to keep the threads busy, short enough to stop soon


class DisEstimator:
    """OpenCV's DIS on 8-bit luma. An `Estimator`.

    ``preset`` is a name in PRESETS. ``threads`` pairs are worked on at once (None: one per processor, at most 8);
    the result does not depend on it. Raises ImportError without OpenCV, ValueError for an unknown preset.
    """

    def __init__(self, preset: str = DEFAULT_PRESET, threads: int | None = None):
        if preset not in PRESETS:
            raise ValueError(f"unknown DIS preset {preset!r}; the presets are {', '.join(PRESETS)}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self._cv2 = need("cv2", "the DIS optical flow")
        self.preset = preset
        self.threads = threads or min(_processors(), 8)
        self.name = f"DIS ({preset})"

    @property
    def needs(self) -> Needs:
        return Needs(torch.device("cpu"), PATCH, self.threads * PAIRS_PER_THREAD, lambda h, w: 100 * h * w)

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        height, width = first.shape[-2:]
        before, after = (_luma(images).numpy() for images in (first, second))
        # An array, not a tensor: one made in inference mode could not be written to from another thread.
        flow = np.empty((*before.shape, 2), dtype=np.float32)

        def share(worker: int) -> None:
            flow_of = self._create()  # one per thread: it works in buffers of its own
            finest = flow_of.getFinestScale()
            for index in range(worker, len(before), self.threads):
                flow_of.setFinestScale(finest)  # small images make it choose another, which it would keep
                flow[index] = flow_of.calc(before[index], after[index], None)

        with single_threaded(self._cv2), ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(share, range(min(self.threads, len(before)))))
        return torch.from_numpy(flow)[:, :height, :width].permute(0, 3, 1, 2)

    def _create(self):
        constant, changes = PRESETS[self.preset]
        flow_of = self._cv2.DISOpticalFlow_create(getattr(self._cv2, constant))
        for setter, value in changes.items():
            getattr(flow_of, setter)(value)
        return flow_of


@contextmanager
def single_threaded(cv2) -> Iterator[None]:
    """OpenCV on one thread, and back: pairs side by side keep every processor busier than DIS on its own threads."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _luma(images: Tensor) -> Tensor:
    """uint8 ``[N, h, w]``, its border repeated to the right and below where a side is under SAFE_SIDE."""
    grey = sum(weight * images[:, channel] for channel, weight in enumerate(LUMA))
    grey = (grey * 255).round_().clamp_(0, 255)
    missing = [max(0, SAFE_SIDE - side) for side in images.shape[-2:]]
    if any(missing):
        grey = F.pad(grey[:, None], (0, missing[1], 0, missing[0]), mode="replicate")[:, 0]
    return grey.to(torch.uint8)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
