"""The cycle test for latents: a disc over a ground at rest, of which it is known pixel by pixel what it hides."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aqueduct.core.data import prepare
from aqueduct.core.data.encoders import Pixels
from aqueduct.core.guidance import REFERENCES
from aqueduct.core.motion import MotionField, cycle_mask
from aqueduct.core.motion.trusted import trusted_cells

SIDE, CELL, RADIUS, START = 256, 8, 52, (90, 120)


def disc(x: float) -> np.ndarray:
    """bool ``[SIDE, SIDE]``: where a disc is whose centre has got to ``x``."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (columns - x) ** 2 + (rows - START[1]) ** 2 <= RADIUS**2


def sliding(frames: int, speed: int) -> MotionField:
    """The exact motion of the disc, whole pixels to the right, and of the ground, none."""
    flow = torch.zeros(2, frames - 1, 2, SIDE, SIDE)
    for t in range(frames - 1):
        flow[0, t, 0] = torch.from_numpy(disc(START[0] + t * speed)) * float(speed)
        flow[1, t, 0] = torch.from_numpy(disc(START[0] + (t + 1) * speed)) * -float(speed)
    return MotionField(*flow)


def hidden_share(frame: int, others: list[int], speed: int) -> np.ndarray:
    """``[cells, cells]``: the share of each cell that shows ground in ``frame`` which the disc covers in some of
    ``others``. The disc itself stays in view."""
    covered = np.any([disc(START[0] + t * speed) for t in others], 0) & ~disc(START[0] + frame * speed)
    return covered.reshape(SIDE // CELL, CELL, SIDE // CELL, CELL).mean((1, 3))


@pytest.mark.parametrize(("speed", "stride"), [(4, 1), (6, 1), (8, 1), (4, 4), (2, 4)])
def test_a_cell_is_trusted_unless_half_of_it_is_hidden(speed, stride):
    frames = 2 * stride + 1
    mask = trusted_cells(sliding(frames, speed), SIDE // CELL, SIDE // CELL, stride)
    assert mask.shape == (2, 2, SIDE // CELL, SIDE // CELL) and mask.dtype == torch.bool
    for step in range(2):
        start, end = step * stride, (step + 1) * stride
        forward = hidden_share(start, list(range(start + 1, end + 1)), speed)
        backward = hidden_share(end, list(range(start, end)), speed)
        for found, share in zip(mask[step], (forward, backward), strict=True):
            assert np.array_equal(found.numpy(), share < 0.5)
            assert (~found).any()


def test_of_flow_on_the_cells_themselves_the_test_finds_nothing():
    """What is wrong about it: 4 pixels are half a cell, and alpha2 then forgives 0.7 cells."""
    small = sliding(2, 4).resized(SIDE // CELL, SIDE // CELL)
    assert cycle_mask(small.forward, small.backward).all()


@pytest.mark.parametrize("reference", REFERENCES)
def test_guidance_of_latents_leaves_out_at_least_as_much(reference):
    """It makes the test at the motion's size too, and takes a cell only if all of its pixels passed."""
    frames, speed = 4, 6
    pairs = REFERENCES[reference](sliding(frames, speed)).resized(SIDE // CELL, SIDE // CELL)
    for later, earlier, mask in zip(pairs.later, pairs.earlier, pairs.mask.numpy(), strict=True):
        share = hidden_share(earlier, list(range(earlier + 1, later + 1)), speed)
        assert not mask[share >= 0.5].any() and (share >= 0.5).any()
        assert mask.mean() > 0.8


def test_prepared_clips_have_the_masks_of_the_size_of_estimation():
    """Twice as large as it is estimated at, through a VAE of 8 x 8 pixels and 4 frames to a latent."""
    speed, frames, seen = 4, 9, []

    class Exact:
        """Reads off the pictures where the disc is."""

        name, needs = "exact", SimpleNamespace(device=torch.device("cpu"), smallest=16, pairs=4)

        def __call__(self, first, second):
            seen.append(tuple(first.shape[-2:]))
            here, there = ((picture[:, 0] > 0.5).double() for picture in (first, second))
            columns = torch.arange(SIDE).double()
            centre = lambda disc: (disc.sum(1) @ columns) / disc.sum((1, 2))  # noqa: E731
            moved = (centre(there) - centre(here)).round()
            return torch.stack([here * moved[:, None, None], torch.zeros_like(here)], 1).float()

    class Vae(Pixels):
        multiple, temporal = 16, 4

        def shape(self, frames, height, width):
            return 3, (frames - 1) // 4 + 1, height // 16, width // 16

        def __call__(self, video):
            return torch.zeros(1, *self.shape(video.shape[2], *video.shape[-2:]))

    discs = np.stack([disc(START[0] + t * speed) for t in range(frames)])
    clip = torch.from_numpy(discs).repeat_interleave(2, 1).repeat_interleave(2, 2)[:, None].expand(-1, 3, -1, -1)
    settings = replace(prepare.PrepareSettings(), motion=prepare.MotionSettings(max_side=SIDE), dtype="float32")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(prepare, "_estimator", lambda *_: Exact())
        kept = prepare.clip_tensors(clip.to(torch.uint8) * 255, settings, Vae())
    assert set(seen) == {(SIDE, SIDE)}
    assert kept["forward"].shape == (frames - 1, 2, 32, 32) and kept["mask"].shape == (2, 2, 32, 32)
    exact = trusted_cells(sliding(frames, speed), 32, 32, 4)
    assert torch.equal(kept["mask"], exact) and not exact.all()
