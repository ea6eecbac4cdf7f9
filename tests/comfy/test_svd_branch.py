"""SVD's control branch beside ComfyUI's own SVD: the same encoder, and ComfyUI's layers inside it."""

import re

import pytest
import torch

from aqueduct.core.networks.mofa import SvdAdapter
from aqueduct.core.networks.svd_branch import SvdBranch
from aqueduct.core.tensor_file import shapes_of
from aqueduct.tests.unit.svd_reference import drawn

WIDTHS, HEAD, FRAMES = (32, 64, 64, 64), 16, 3
BRANCH = {"widths": WIDTHS, "heads": [width // HEAD for width in WIDTHS], "context": 48, "added": 48}

# ComfyUI's names, those of SVD's own release, for diffusers'.
NAMES = {
    "linear_1": "0", "linear_2": "2", "time_embedding": "time_embed", "add_embedding": "label_emb.0",
    "conv_in": "input_blocks.0.0", "temporal_transformer_blocks": "time_stack",
    "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2", "downsamplers.0.conv": "downsamplers.0.op",
}  # fmt: skip
IN_RESIDUALS = {
    "spatial_res_block.": "", "temporal_res_block.": "time_stack.", "norm1": "in_layers.0", "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}  # fmt: skip


def comfy_name(key: str) -> str:
    for ours, theirs in {**NAMES, **(IN_RESIDUALS if "_res_block." in key else {})}.items():
        key = key.replace(ours, theirs)

    def block(match: re.Match) -> str:
        level, kind, n = int(match[1]), match[2], int(match[3])
        number, part = (3, 0) if kind == "downsamplers" else (1 + n, int(kind == "attentions"))
        return f"input_blocks.{3 * level + number}.{part}"

    return re.sub(r"down_blocks\.(\d)\.(\w+)\.(\d)", block, key)


def host() -> torch.nn.Module:
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    return UNetModel(
        image_size=32, in_channels=8, model_channels=32, out_channels=4, num_res_blocks=[2] * 4,
        channel_mult=[1, 2, 2, 2], num_head_channels=HEAD, num_heads=-1, use_spatial_transformer=True,
        transformer_depth=[1, 1, 1, 1, 1, 1, 0, 0], transformer_depth_middle=1,
        transformer_depth_output=[0, 0, 0] + [1] * 9,
        context_dim=48, use_linear_in_transformer=True, num_classes="sequential", adm_in_channels=48,
        use_temporal_resblock=True, extra_ff_mix_layer=True, use_spatial_context=True, use_temporal_attention=True,
        merge_strategy="learned_with_images", merge_factor=0.0, video_kernel_size=[3, 1, 1], dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
    ).eval()  # fmt: skip


def arguments() -> dict:
    generator = torch.Generator().manual_seed(2)
    shape = {"x": (2 * FRAMES, 8, 16, 24), "timesteps": (2 * FRAMES,), "context": (2 * FRAMES, 1, 48)}
    return {name: torch.randn(size, generator=generator) for name, size in {**shape, "y": (2 * FRAMES, 48)}.items()}


@pytest.fixture(scope="module")
def branch() -> SvdBranch:
    network = SvdBranch(**BRANCH).eval().requires_grad_(False)
    network.load_state_dict(drawn(shapes_of(network.state_dict())))
    return network


def ours(network, given: dict, **more):
    return network(given["x"], given["timesteps"], context=given["context"], added=given["y"], frames=FRAMES, **more)


@torch.no_grad()
def test_states_are_those_of_comfyui(comfy, branch):
    """ComfyUI's norms have the larger epsilon everywhere, which is all that tells the two apart."""
    model, seen = host(), []
    state = {comfy_name(key): value for key, value in branch.state_dict().items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and not [key for key in missing if key.startswith(("input_", "middle_", "time_", "label_"))]
    for block in (*model.input_blocks, model.middle_block):
        block[-1].register_forward_hook(lambda _, __, output: seen.append(output))
    given = arguments()
    model(**given, num_video_frames=FRAMES)
    for found, expected in zip(ours(branch, given), seen, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_with_comfyuis_casting_layers(comfy):
    """Weights in half precision, computation in the type of the input."""
    import comfy.ops

    network = SvdAdapter(**BRANCH, operations=comfy.ops.manual_cast, dtype=torch.float16).eval()
    network.load_state_dict(drawn(shapes_of(network.state_dict())))
    plain = SvdAdapter(**BRANCH).eval()
    plain.load_state_dict({key: value.float() for key, value in network.state_dict().items()})
    assert network.branch.conv_in.weight.dtype == torch.float16
    carried = network.features(torch.rand(2 * FRAMES, 3, 128, 192))
    expected = ours(plain, arguments(), carried=carried)
    for found, wanted in zip(ours(network, arguments(), carried=carried), expected, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
