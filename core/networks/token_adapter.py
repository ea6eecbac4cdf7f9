"""A motion adapter for video transformers: no copy of the backbone, but features of the first frame for its tokens.

Copying half of a transformer of billions of weights is out of reach of most who would train an adapter. What the
first frame shows, carried along the motion to every latent frame, goes through a small network that knows the time,
and from there to chosen blocks of the backbone, each through a projection of its own that starts at zero.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .latte import sinusoidal
from .motion_adapter import FirstFrameFeatures, MotionAdapter, Site


class TokenBranch(nn.Module):
    """Carried features ``[b f, features, h, w]`` -> one state ``[b f, hidden, h, w]`` for each of ``sites`` sites.

    Two layers, token by token; time scales and shifts what lies between them (adaLN, as in DiT).
    """

    def __init__(self, features: int, hidden: int, sites: int, *, operations=nn, dtype=None, device=None):
        super().__init__()
        own = {"dtype": dtype, "device": device}
        self.hidden, self.sites = hidden, sites
        self.time_embed = nn.Sequential(
            operations.Linear(hidden, hidden, **own), nn.SiLU(), operations.Linear(hidden, 2 * hidden, **own)
        )
        self.enter = operations.Linear(features, hidden, **own)
        self.norm = operations.LayerNorm(hidden, elementwise_affine=False, **own)
        self.leave = operations.Linear(hidden, hidden, **own)

    def forward(self, entering: Tensor, timesteps: Tensor, carried: Sequence[Tensor]) -> list[Tensor]:
        """``entering [b, ...]``: only its type counts. ``timesteps [b]``, or ``[b, 1 or f]`` (levels of each frame)."""
        (features,) = carried
        clips = len(timesteps)
        frames = len(features) // clips
        times = timesteps.reshape(clips, -1).expand(clips, frames).flatten()
        scale, shift = self.time_embed(sinusoidal(times, self.hidden).to(entering.dtype))[:, None, None].chunk(2, -1)
        tokens = features.to(entering.dtype).movedim(1, -1)
        tokens = self.norm(F.silu(self.enter(tokens))) * (1 + scale) + shift
        state = self.leave(F.silu(tokens)).movedim(-1, 1)
        return [state] * self.sites


class TokenMotionAdapter(MotionAdapter):
    """Residuals ``[b f, width, h, w]`` of the tokens after chosen blocks of a transformer, f in latent frames.

    Args:
        width, depth: of the backbone: channels of its tokens, number of its blocks.
        blocks: numbers of the blocks behind which a residual is added, from 0.
        patch: latent pixels to a token, a side.
        stride: pixels of the film to a token, a side: the VAE's stride times ``patch``. Wan 2.1: 8 x 2.
        features, hidden: widths of the first frame's features and of the layers.

    Raises ValueError for blocks that are not there.
    """

    def __init__(
        self, *, width: int, depth: int, blocks: Sequence[int], patch: int = 2, stride: int = 16, features: int = 128,
        hidden: int = 256, operations=nn, dtype=None, device=None,
    ):  # fmt: skip
        if not blocks or len(set(blocks)) < len(blocks) or min(blocks) < 0 or max(blocks) >= depth:
            raise ValueError(f"blocks are different numbers from 0 to {depth - 1}, got {list(blocks)}")
        own = {"operations": operations, "dtype": dtype, "device": device}
        super().__init__(
            FirstFrameFeatures([features], [stride], **own),
            TokenBranch(features, hidden, len(blocks), **own),
            [Site(width, stride)] * len(blocks),
            entering=[hidden] * len(blocks),
            **own,
        )
        self.width, self.depth, self.blocks = width, depth, tuple(blocks)
        self.patch, self.stride = patch, stride
