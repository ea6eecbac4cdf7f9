"""What a user sees of a training while it runs: bar, curve, the latest sample, log; and their stop button."""

import logging
import time
from pathlib import Path

import comfy.model_management as mm
import comfy.utils
from PIL import Image
from torch import Tensor

from ...core.plots.loss_curve import loss_curve
from ...core.training.settings import Progress, spelled_time
from .training_samples import Samples

SHOW_EVERY, LOG_EVERY = 2.0, 15.0  # seconds
DRAWING = 0.02  # of the time, at most, goes into pictures of the curve
AVERAGED = 20  # losses
PREVIEW = (512, 320)  # pixels


class Report:
    """``report(step, progress)`` of `core.training.loop`.

    ``resumed``: the checkpoint that the run goes on from, or None.
    """

    def __init__(self, name: str, steps: int, resumed: Path | None, samples: Samples):
        self.name, self.steps, self.resumed, self.samples = name, steps, resumed, samples
        self._bar = comfy.utils.ProgressBar(steps)
        self._began, self._first = time.monotonic(), None
        self._logged = self._show_next = float("-inf")

    def __call__(self, step: int, progress: Progress) -> None:
        """Raises ComfyUI's interrupt when the user stopped."""
        now, done = time.monotonic(), step + 1
        if self._first is None:
            self._first = step
            if self.resumed is not None:
                logging.info(f"{self.name}: goes on from step {step} of {self.steps} ({self.resumed})")
        last = done == self.steps
        if last or now - self._logged >= LOG_EVERY:
            self._logged = now
            logging.info(f"{self.name}: {self._told(done, progress.losses, now)}")
        self._bar.update_absolute(done, self.steps, self._preview(progress) if last or now > self._show_next else None)
        mm.throw_exception_if_processing_interrupted()

    def _preview(self, progress: Progress) -> tuple:
        began = time.monotonic()
        picture = _picture(loss_curve(progress.losses, self.steps, *PREVIEW), self.samples.latest)
        ended = time.monotonic()
        self._show_next = ended + max(SHOW_EVERY, (ended - began) / DRAWING)
        return "JPEG", picture, max(picture.size)

    def _told(self, done: int, losses: list[float], now: float) -> str:
        recent = losses[-AVERAGED:]
        each = (now - self._began) / (done - self._first)
        left = spelled_time(each * (self.steps - done))
        return f"step {done} of {self.steps}, loss {sum(recent) / len(recent):.5g}, {each:.3g} s a step, {left} left"


def _picture(curve: Tensor, sample: Tensor | None) -> Image.Image:
    """The curve, and below it the sample, no larger than the curve is wide."""
    above = _image(curve)
    if sample is None:
        return above
    below = _image(sample)
    scale = above.width / max(below.size)
    below = below.resize([max(1, round(scale * side)) for side in below.size])
    both = Image.new("RGB", (above.width, above.height + below.height), "white")
    both.paste(above)
    both.paste(below, (0, above.height))
    return both


def _image(image: Tensor) -> Image.Image:
    return Image.fromarray((image[0] * 255).round().byte().numpy())
