"""Small exemplar networks to test on: all weights drawn, so that nothing is zero and every input shows."""

import torch

from aqueduct.core.networks.exemplar_unet import ExemplarNetwork, ExemplarUNet, Style, remember

UNET = {"in_channels": 3, "out_channels": 2, "channels": 8, "multipliers": [1, 2, 3], "blocks": 1}
SIZES = {**UNET, "head_channels": 4, "groups": 4, "features": 5, "context": 6, "expansion": 2}
SITES = [(1,), (2, 0), (0, 1, 2), ()]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def randomised(network: torch.nn.Module, seed: int = 1) -> torch.nn.Module:
    """Weights that keep values near one."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        spread = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.5
        parameter.data = torch.randn(parameter.shape, generator=generator) * spread
    return network.eval().requires_grad_(False)


def denoiser(**sizes) -> ExemplarUNet:
    return randomised(ExemplarUNet(**{**SIZES, **sizes}))


def network(**sizes) -> ExemplarNetwork:
    return randomised(ExemplarNetwork(**{**SIZES, **sizes}), seed=2)


def style(model: ExemplarUNet, n: int = 1, seed: int = 0, **sizes) -> Style:
    """Of ``n`` drawn exemplars; ``sizes`` as of ``model``."""
    return remember(model, network(**sizes), draw(n, 3, 8, 8, seed=seed + 10), draw(n, 5, seed=seed + 11))
