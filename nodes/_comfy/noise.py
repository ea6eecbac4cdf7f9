"""NOISE that follows a motion, in the shape of whatever LATENT it is asked to fill; and that of Gaussian fields."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.motion import MotionField
from ...core.motion.algebra import concatenated
from ...core.motion.retime import retimed
from ...core.noise import FullRank, GaussianField, finest_length_scale, flat, truncated_normal, warp_noise
from ...core.noise.draws import derived_seed
from ...core.noise.maps import latent_motion, latent_times, renewed
from .images import mask_frames, motion_mask

# (channels, motion at the latent's size and frames, seed) -> [F, C, h, w]
Frames = Callable[[int, MotionField, int], Tensor]
Report = Callable[[int, int], None]
SPECTRA = {"truncated normal": truncated_normal, "flat": flat}
RENEWAL = 0x52454E4557  # sets the seed of what is renewed apart from that of what is carried


@dataclass(frozen=True)
class Layout:
    """How a LATENT lies: ``frames`` of ``clips``, and which of them are wanted."""

    clips: int
    channels: int
    frames: int
    height: int
    width: int
    video: bool  # [B, C, T, h, w], else frames are the batch, [F, C, h, w]
    index: tuple[int, ...] | None  # batch_index: of frames, or of clips in a video

    @property
    def last(self) -> int:
        """The highest frame asked for."""
        return self.frames - 1 if self.video or self.index is None else max(self.index)


def layout_of(latent: dict) -> Layout:
    """Raises ValueError for LATENTs that are neither."""
    samples = latent["samples"]
    if getattr(samples, "is_nested", False):
        raise ValueError("a LATENT of several parts (audio and video) cannot follow one motion; separate them first")
    index = latent.get("batch_index")
    index = None if index is None else tuple(int(entry) for entry in index)
    if samples.dim() == 4:
        return Layout(1, samples.shape[1], samples.shape[0], *samples.shape[2:], False, index)
    if samples.dim() == 5:
        clips, channels, frames, height, width = samples.shape
        return Layout(clips, channels, frames, height, width, True, index)
    raise ValueError(f"expected LATENT [F,C,h,w] or [B,C,T,h,w], got {list(samples.shape)}")


@dataclass(frozen=True)
class MotionNoise:
    """NOISE: `make` gives the frames of one clip, along `motion` at the latent's own size and frames.

    ``share``: how much is renewed, 0..1, everywhere or where ``mask`` (at any size) says.
    ``since``: the way from a frame before, in one step, if the noise is that frame's, gone on.
    """

    seed: int
    motion: MotionField
    make: Frames
    renew: Frames
    share: float = 0.0
    mask: Tensor | None = None
    since: MotionField | None = None

    def windowed(self, start: int, stop: int) -> "MotionNoise":
        """The same for frames ``start`` to ``stop - 1``, as a clip of their own: what was noise of frame 0 goes on."""
        mask = self.mask
        if mask is not None and len(mask_frames(mask)) > 1:
            mask = mask[start:stop]
        since = retimed(self.motion, [0, start]) if start else None
        return replace(self, motion=self.motion.sliced(start, stop), mask=mask, since=since)

    def generate_noise(self, latent: dict) -> Tensor:
        """Noise like ``latent["samples"]``. Raises ValueError when the motion has another number of frames."""
        layout = layout_of(latent)
        compression = compression_of(self.motion, layout)
        motion = motion_for(self.motion, latent)
        wanted = range(layout.clips) if not layout.video or layout.index is None else layout.index
        clips = [self._clip(layout, motion, compression, clip) for clip in wanted]
        if layout.video:
            return torch.stack(clips).movedim(2, 1)
        return clips[0] if layout.index is None else clips[0][list(layout.index)]

    def _clip(self, layout: Layout, motion: MotionField, compression: int, clip: int) -> Tensor:
        seed = derived_seed(self.seed, clip) if clip else self.seed
        noise = self._along(self.make, layout, motion, seed)
        if not self.share:
            return noise
        fresh = self._along(self.renew, layout, motion, derived_seed(seed, RENEWAL))
        return renewed(noise, fresh, self._shares(layout, compression))

    def _along(self, frames: Frames, layout: Layout, motion: MotionField, seed: int) -> Tensor:
        if self.since is None:
            return frames(layout.channels, motion, seed)
        since = self.since.resized(layout.height, layout.width)
        return frames(layout.channels, concatenated(since, motion), seed)[1:]

    def _shares(self, layout: Layout, compression: int) -> Tensor:
        if self.mask is None:
            return torch.full((1, layout.height, layout.width), self.share)
        mask = motion_mask(self.mask, self.motion.frames).float()
        if len(mask) > 1:
            mask = mask[latent_times(self.motion.frames, compression)]
        small = F.interpolate(mask[:, None], (layout.height, layout.width), mode="bilinear", antialias=True)[:, 0]
        return (self.share * small).clamp(0, 1)


def motion_for(motion: MotionField, latent: dict) -> MotionField:
    """``motion`` from frame to frame of ``latent``, at its size. Raises ValueError when the frames do not fit."""
    layout = layout_of(latent)
    return latent_motion(motion, compression_of(motion, layout)).resized(layout.height, layout.width)


def compression_of(motion: MotionField, layout: Layout) -> int:
    """Frames of the motion per latent frame. Raises ValueError naming both numbers."""
    if not layout.video:
        if motion.frames < layout.last + 1 or (layout.index is None and motion.frames != layout.frames):
            raise ValueError(
                f"the motion has {motion.frames} frames, the LATENT {layout.last + 1}: make them equal (batch_size of "
                f"an empty LATENT, Repeat Latent Batch, or the pace of the motion in AqueductComposeMotion)"
            )
        return 1
    steps = layout.frames - 1
    if steps < 1 or (motion.frames - 1) % steps:
        lengths = f"{steps} + 1, {4 * steps} + 1 (Wan) or {8 * steps} + 1 (LTXV) frames"
        fits = lengths if steps else "no frames: one alone does not move"
        raise ValueError(
            f"the motion has {motion.frames} frames, the LATENT {layout.frames} latent frames; motion for it has {fits}"
        )
    return (motion.frames - 1) // steps


@dataclass(frozen=True)
class StillNoise:
    """NOISE without a motion: every frame is drawn on its own, by ``make(channels, (height, width), seed)``."""

    seed: int
    make: Callable[[int, tuple[int, int], int], Tensor]

    def generate_noise(self, latent: dict) -> Tensor:
        layout = layout_of(latent)
        size = layout.height, layout.width

        def clip(frames, seed: int) -> Tensor:
            return torch.stack([self.make(layout.channels, size, derived_seed(seed, frame)) for frame in frames])

        if not layout.video:
            return clip(range(layout.frames) if layout.index is None else layout.index, self.seed)
        wanted = range(layout.clips) if layout.index is None else layout.index
        return torch.stack([clip(range(layout.frames), derived_seed(self.seed, one)) for one in wanted]).movedim(2, 1)


@dataclass(frozen=True)
class Fields:
    """Gaussian fields by the widgets of AqueductGPNoise: ``length_scale`` in latent pixels, 0 for the shortest."""

    length_scale: float
    features: int
    full_rank: bool
    spectrum: str = "truncated normal"

    def __call__(self, channels: int, size: tuple[int, int], seed: int) -> GaussianField:
        own = self.length_scale / size[1], self.length_scale / size[0]
        scale = own if self.length_scale else finest_length_scale(*size)
        waves = FullRank() if self.full_rank else self.features
        return GaussianField(seed, channels, scale, waves, spectrum=SPECTRA[self.spectrum])

    def still(self, seed: int) -> StillNoise:
        """A field of its own for every frame."""
        return StillNoise(seed, lambda channels, size, of: self(channels, size, of).grid(*size))

    def moving(
        self, seed: int, motion: MotionField, share: float = 0.0, mask: Tensor | None = None,
        report: Callable[[], Report | None] = lambda: None,
    ) -> MotionNoise:  # fmt: skip
        """One field, read where the motion, which has both directions, leads. ``report()``: asked when it is made."""

        def carried(how: str) -> Frames:
            return lambda channels, way, of: warp_noise(self(channels, way.size, of), way, how, of, report())

        return MotionNoise(seed, motion, carried("gp"), carried("resample"), share, mask)
