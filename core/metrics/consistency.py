"""Whether a clip moves along with the motion it should have."""

from torch import Tensor

from ..guidance import Pairs


def self_warping_error(clip: Tensor, pairs: Pairs) -> Tensor:
    """Mean squared difference per compared value, ``[N]``, of each later frame, warped back, and its earlier one.

    ``clip [F, C, H, W]``; ``pairs`` says what is compared (`core.guidance.REFERENCES`: the previous frame, the first),
    along which flow and where. Zero for a clip that moves exactly so by whole pixels; between pixels bilinear reading
    leaves a remainder, which the true clip has as well. Where nothing can be compared: nan.

    Source: Warped Diffusion section 4.2, the self-warping error of the generated frames. Raises ValueError when clip
    and pairs differ in length or size.
    """
    return pairs.errors(clip) / pairs.values(clip.shape[1])
