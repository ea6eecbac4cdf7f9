"""Small SVD branches with weights anybody can draw again, and what other people's code makes of them.

``tests/data/svd_reference.json`` was recorded once, with the weights and inputs of this module: ``encoder`` from the
blocks of diffusers 0.42.1 (`UNetSpatioTemporalConditionModel`), ``adapter`` from MOFA-Video's public Flow-ControlNet on
the same diffusers, its softmax splatting replaced by a double loop of the same formula.
"""

import ast
import json
from pathlib import Path

import torch
from torch import Tensor

DATA = Path(__file__).resolve().parents[1] / "data"
TINY = {"widths": (32, 64, 64, 64), "heads": (2, 4, 4, 8), "context": 48, "added": 48}
UNNORMED = ("controlnet_cond_embedding", "flow_encoder")
CLIPS, FRAMES, HEIGHT, WIDTH = 2, 3, 16, 24  # of the latent


def released_shapes() -> dict[str, tuple[int, ...]]:
    """Of MOFA-Video's trajectory Flow-ControlNet, as published."""
    lines = (DATA / "mofa_traj_flowcontrolnet.txt").read_text(encoding="ascii").splitlines()
    return {key: ast.literal_eval(shape) for key, shape, _ in (line.split("\t") for line in lines)}


def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights that keep activations near 1, drawn in the order of their names, which are those of the release."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key in sorted(shapes):
        shape = shapes[key]
        uniform = 2 * torch.rand(shape, generator=generator) - 1
        gain = 6 if key.startswith(UNNORMED) else 1  # where no norm keeps the picture from fading
        spread = uniform * (gain / uniform[0].numel()) ** 0.5 if uniform.ndim > 1 else uniform / 2
        state[key] = spread + ("norm" in key and key.endswith("weight"))
    return state


def inputs() -> dict[str, Tensor]:
    """What the backbone is given, by clip: ``added_ids`` still to be embedded; ``image`` in 0..1, ``onward`` pixels."""
    generator = torch.Generator().manual_seed(1)

    def uniform(*shape: int, reach: float = 1.7) -> Tensor:
        return (2 * torch.rand(shape, generator=generator) - 1) * reach

    coarse = uniform(CLIPS * (FRAMES - 1), 2, 8, 8, reach=40.0)
    onward = torch.nn.functional.interpolate(coarse, (8 * HEIGHT, 8 * WIDTH), mode="bilinear")
    return {
        "entering": uniform(CLIPS, FRAMES, 8, HEIGHT, WIDTH),
        "timesteps": torch.tensor([0.37, 0.37]),
        "context": uniform(CLIPS, 2, 48),
        "added_ids": uniform(CLIPS, 3, reach=5.0),
        "image": torch.rand(CLIPS, 3, 8 * HEIGHT, 8 * WIDTH, generator=generator),
        "onward": onward.unflatten(0, (CLIPS, FRAMES - 1)),
    }


def probed(states: list[Tensor]) -> list[list[float]]:
    """Ten numbers of each state, spread over all of it."""
    return [state.flatten()[torch.linspace(0, state.numel() - 1, 10).long()].tolist() for state in states]


def recorded(name: str) -> list[list[float]]:
    return json.loads((DATA / "svd_reference.json").read_text(encoding="ascii"))[name]
