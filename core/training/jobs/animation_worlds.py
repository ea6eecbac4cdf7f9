"""Clips of worlds cut from photographs, made once, with their exact motion or as an estimator sees it."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ...motion.carry import Carry
from ...motion.estimators import DisEstimator
from ...tables import unknown
from ..clip_tasks import Adapted, AdapterObjective
from ..config import Files, Recipe
from ..geometric import MASKS, Pairing, adjacent, counts, from_first, geometric_consistency, total_loss
from ..motion_clips import MotionClips, PhotoWorlds, estimated_clip, world_clip
from ..objectives import draw_between
from ..task import Batch
from .animation_loss import Training, bridge_loss, with_carried

FRAMES, SIDE = 16, 64
LARGEST = 200  # pixels of the shorter side: of larger pictures a window of 64 sees too little
PIXELS = {"format": "pixel", "channels": 3, "vae": "pixel_space"}
# An animation film is among the pictures, too.
SOURCE = (
    "worlds cut from 9 of 10 pictures of comfyui-workflow-templates-media-image 0.3.160 (MIT), two photos of "
    "scikit-learn (CC BY 2.0) and 22 frames of Big Buck Bunny (CC BY 3.0)"
)


@dataclass(frozen=True)
class Motion:
    """What is known of how worlds move.

    ``clips(worlds, count)`` draws them. ``pairing``: the frames that eq. 10 compares in an adapter's training, and
    ``flow``: theirs, forward and backward.
    """

    clips: Callable[[PhotoWorlds, int], list[MotionClips]]
    pairing: Pairing = adjacent
    flow: Callable[[MotionClips], tuple[Tensor, Tensor]] = lambda clips: (clips.forward, clips.backward)


def exact(worlds: PhotoWorlds, count: int) -> list[MotionClips]:
    generator = torch.Generator().manual_seed(71)
    return [world_clip(worlds.draw(generator)) for _ in range(count)]


def estimated(worlds: PhotoWorlds, count: int, reference_anchored: bool = False) -> list[MotionClips]:
    """The same clips for both: motion as DIS sees it, frame to frame or from the first frame."""
    generator, estimate = torch.Generator().manual_seed(72), DisEstimator(threads=1)
    videos = [worlds.draw(generator).clip() for _ in range(count)]
    return [estimated_clip(video, estimate, reference_anchored) for video in videos]


MOTIONS = {
    "exact": Motion(exact),
    "eulerian": Motion(estimated),
    "lagrangian": Motion(
        lambda worlds, count: estimated(worlds, count, reference_anchored=True), from_first,
        lambda clips: (clips.onward[:, 1:], clips.back[:, 1:]),
    ),
}  # fmt: skip


def small(pictures: list[Tensor]) -> list[Tensor]:
    """Those a 64-pixel window sees much of."""
    return [picture for picture in pictures if min(picture.shape[1:]) <= LARGEST]


def film_pieces(clip: Callable[..., Tensor], count: int) -> list[MotionClips]:
    """64 x 64 pixels of Big Buck Bunny at random places and times, with estimated motion."""
    generator, estimate = torch.Generator().manual_seed(73), DisEstimator(threads=1)
    film = clip("bigbuckbunny", range(132), width=160)
    limits = (132 - FRAMES, film.shape[2] - SIDE, 160 - SIDE)
    pieces = []
    for _ in range(count):
        start, top, left = (int(torch.randint(n, (), generator=generator)) for n in limits)
        video = film[start : start + FRAMES, :, top : top + SIDE, left : left + SIDE]
        pieces.append(estimated_clip(video, estimate))
    return pieces


@dataclass(frozen=True)
class Worlds:
    """So many ``worlds`` with ``motion``, in `MOTIONS`, and so many ``pieces`` of a film; ``batch`` clips a step."""

    motion: str
    worlds: int
    pieces: int = 0
    batch: int = 4

    def __post_init__(self):
        if self.motion not in MOTIONS:
            raise ValueError(unknown("motion", self.motion, list(MOTIONS)))

    def open(self, recipe: Recipe, files: Files) -> "WorldClips":
        kept = files.kept(f"clips_{self.motion}_{self.worlds}_{self.pieces}", lambda: self._made(files))
        return WorldClips(self, MotionClips(**kept))

    def _made(self, files: Files) -> dict[str, Tensor]:
        clips = MOTIONS[self.motion].clips(PhotoWorlds(small(files.pictures())), self.worlds)
        joined = MotionClips.joined(clips + (film_pieces(files.clip, self.pieces) if self.pieces else []))
        return {field.name: getattr(joined, field.name) for field in fields(joined)}


@dataclass(frozen=True, eq=False)
class WorldClips:
    """The opened clips, all of one size; a batch names its own, and the loss reads them."""

    table: Worlds
    clips: MotionClips
    channels, frames, latent, largest = 3, FRAMES, PIXELS, 0

    @property
    def told(self) -> dict:
        """For the file that is trained: what the data are, and whose."""
        film = f", {self.table.pieces} pieces of that film" if self.table.pieces else ""
        return {"data": f"{self.table.worlds} {SOURCE}{film}", "batch": self.table.batch}

    def draw(self, generator: torch.Generator, n: int) -> Batch:
        """``clip`` numbers, times ``t`` and noise ``eps``."""
        count = self.table.batch
        which = torch.randint(len(self.clips), (count,), generator=generator)
        t = draw_between(count, generator)
        return {"clip": which, "t": t, "eps": torch.randn(count, *self.clips.video.shape[1:], generator=generator)}

    def read(self, drawn: Batch, device: torch.device) -> tuple[Tensor, Tensor, Carry]:
        """``z_0`` and noise ``[b, 3, F, H, W]``, and the way back to the first frame."""
        part = self._part(drawn)
        return part.pictures().to(device), drawn["eps"].to(device), part.carry().to(device)

    def adapter(self, adapted: Adapted, objective: AdapterObjective, device: torch.device) -> Training:
        """Eq. 10 divides by all that counts in a batch, so its masks are made where the whole batch is known."""
        motion, mask = MOTIONS[self.table.motion], MASKS[objective.mask]

        def draw(generator: torch.Generator, n: int) -> Batch:
            drawn = with_carried(self.draw(generator, n), objective.carried, generator)
            masks = mask(*(flow.float() for flow in motion.flow(self._part(drawn))))
            return drawn | {"mask": masks, "counted": counts(masks).mean().expand(len(masks))}

        def loss(drawn: Batch) -> Tensor:
            z_0, eps, way = self.read(drawn, device)
            forward, masks, counted = motion.flow(self._part(drawn))[0], drawn["mask"], drawn["counted"]
            denoiser = lambda z_T, first: adapted.denoiser(z_T, first, way)  # noqa: E731
            own, prediction = bridge_loss(adapted.video.bridge, denoiser, z_0, eps, way, drawn)
            consistency = geometric_consistency(
                prediction, forward.float().to(device), masks.to(device), pairing=motion.pairing, counted=counted
            )
            return total_loss(own, consistency, objective.weight)

        return draw, loss

    def _part(self, drawn: Batch) -> MotionClips:
        return self.clips[drawn["clip"].cpu()]
