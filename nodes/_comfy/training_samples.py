"""Pictures of what a training makes on its way."""

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import pad

from ...core.whole_file import replaced

Sample = Callable[[int], Tensor]  # steps that are done -> IMAGE [1, h, w, 3]


class Samples:
    """Made after every ``every`` steps and when all are done, and kept in ``file``, so that a training that goes on has
    those of before, too; of ``make`` None or ``every`` 0 there are none.

    They are rounded to what the file can hold, so that it makes no difference whether one was ever in it.
    """

    def __init__(self, make: Sample | None, every: int, steps: int, file: Path):
        self.make, self.every, self.steps, self.file = make, every, steps, file
        self.made: dict[int, Tensor] = _read(file)

    def before(self, step: int) -> None:
        """Step number ``step`` is about to be made, so as many are done."""
        if self.make is not None and self.every and step and step % self.every == 0:
            self._take(step)

    def all(self) -> Tensor | None:
        """In order, and last what comes out now that the training has ended."""
        if self.make is None or not self.every:
            return None
        self._take(self.steps)
        height, width = (max(picture.shape[axis] for picture in self.made.values()) for axis in (1, 2))
        return torch.cat([_on_paper(self.made[step], height, width) for step in sorted(self.made)]).float() / 255

    @property
    def latest(self) -> Tensor | None:
        return self.made[max(self.made)].float() / 255 if self.made else None

    def _take(self, step: int) -> None:
        if step in self.made:
            return
        self.made[step] = (self.make(step) * 255).round().byte().contiguous()
        try:
            with replaced(self.file) as beside:
                save_file({str(step): picture for step, picture in self.made.items()}, beside)
        except (OSError, SafetensorError) as error:
            logging.warning(f"the samples could not be kept in {self.file} ({error})")


def _on_paper(picture: Tensor, height: int, width: int) -> Tensor:
    """Larger numbers of steps may take more room than the first."""
    return pad(picture, (0, 0, 0, width - picture.shape[2], 0, height - picture.shape[1]), value=255)


def _read(file: Path) -> dict[int, Tensor]:
    if not file.exists():
        return {}
    try:
        with safe_open(file, "pt") as opened:
            return {int(step): opened.get_tensor(step) for step in opened.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        logging.warning(f"the samples that were made before are lost: {file} cannot be read ({error})")
        return {}
