"""One's own clips, prepared in pixel space, as the data of image-to-video bridges and motion adapters."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...data.dataset import LatentDataset, Order
from ...motion.carry import Carry
from ..clip_tasks import Adapted, AdapterObjective, adapter_task, draw_seeds, motions, noise
from ..config import Files, Recipe
from ..objectives import draw_between
from ..task import Batch
from .animation_loss import Training
from .animation_worlds import PIXELS
from .prepared import folders_named, open_prepared


@dataclass(frozen=True)
class Prepared:
    """Clips that ``python -m aqueduct.prepare`` wrote to ``folder``, or to several, relative to that of runs.

    ``batch`` of them a step, all of one size.
    """

    folder: str | tuple[str, ...]
    batch: int = 4

    def open(self, recipe: Recipe, files: Files) -> "PreparedClips":
        """Raises FileNotFoundError for what was not prepared, ValueError for latents of a VAE."""
        clips = open_prepared(files, self.folder)
        for clip in clips.index.clips:
            if clip.shapes["latent"][0] != 3 or clip.shapes["latent"][-2:] != clip.shapes["first"][-2:]:
                raise ValueError(
                    f"{clip.path} in {folders_named(self.folder)} is latents {list(clip.shapes['latent'])} of a VAE, "
                    f"and these networks see pixels: prepare the clips in pixel space, without a VAE"
                )
        return PreparedClips(self, clips, recipe.data_seed, files.device)


@dataclass(frozen=True, eq=False)
class PreparedClips:
    """The opened clips: which ones a batch has follows from ``seed`` and its number, the noise from seeds it draws."""

    table: Prepared
    clips: LatentDataset
    seed: int
    device: torch.device
    channels, latent = 3, PIXELS

    @property
    def frames(self) -> int:
        return max(shape[1] for shape in self.clips.buckets)

    @property
    def largest(self) -> int:
        """Number of the batch that takes the most memory."""
        return self._order.first_with(self.clips.largest)

    @property
    def told(self) -> dict:
        return {"data": f"{len(self.clips)} clips of {folders_named(self.table.folder)}", "batch": self.table.batch}

    def draw(self, generator: torch.Generator, n: int) -> Batch:
        """``clip`` numbers, times ``t`` and the ``noise``'s seeds."""
        rows = self._order.rows(n)
        t = draw_between(len(rows), generator)
        return {"clip": rows, "t": t, "noise": draw_seeds(len(rows), generator)}

    def read(self, drawn: Batch, device: torch.device) -> tuple[Tensor, Tensor, Carry | None]:
        """``z_0`` and noise ``[b, 3, F, H, W]``, and the way back to the first frame if anything is carried along it.

        Raises ValueError if it is, and a clip was prepared without its motion.
        """
        z_0 = self.clips.batch(drawn["clip"])["latent"].to(device)
        way = self._motions(drawn["clip"])[1] if "carried" in drawn else None
        return z_0, noise(drawn["noise"], z_0), way

    def adapter(self, adapted: Adapted, objective: AdapterObjective, device: torch.device) -> Training:
        """That of the trainer node, too."""
        task = adapter_task(adapted, self.clips, objective, self.table.batch, self.seed, {})
        return task.draw, task.loss

    @cached_property
    def _order(self) -> Order:
        return self.clips.order(self.table.batch, self.seed)

    @cached_property
    def _motions(self):
        return motions(self.clips, self.device)
