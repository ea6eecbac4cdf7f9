"""The same motion in every layout it may arrive in."""

import numpy as np
import pytest
import torch

from aqueduct.core.motion.flow_formats import motion_from_flow

FLOW = torch.randn(3, 2, 5, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("given", [
    FLOW, FLOW.movedim(1, 3), [one.permute(1, 2, 0).numpy() for one in FLOW],
    [one.permute(1, 2, 0).double() for one in FLOW], tuple(one.numpy() for one in FLOW),
], ids=["NCHW", "NHWC", "list of numpy HWC", "list of float64 HWC", "list of numpy CHW"])  # fmt: skip
def test_every_layout_is_the_same_motion(given):
    motion = motion_from_flow(given)
    assert torch.equal(motion.forward, FLOW) and motion.backward is None


def test_one_field_is_two_frames():
    assert motion_from_flow(FLOW[0].permute(1, 2, 0)).frames == 2


@pytest.mark.parametrize("given, error, message", [
    ([], TypeError, "empty list"),
    (object(), TypeError, "AqueductOpticalFlow"),
    (torch.zeros(3, 5, 8), ValueError, r"\[1, 3, 5, 8\]"),
    (torch.zeros(3, 2, 8, 2), ValueError, "second or last"),
    ([np.zeros((4, 5, 2)), np.zeros((4, 6, 2))], ValueError, r"\(4, 5, 2\), \(4, 6, 2\)"),
    ([np.full((4, 5, 2), np.nan)], ValueError, "not finite"),
])  # fmt: skip
def test_what_is_no_flow_says_so(given, error, message):
    with pytest.raises(error, match=message):
        motion_from_flow(given)
