"""MODELs that compute in half precision, or store their weights in a quarter of it, are learnt beside all the same."""

import pytest
import torch
from torch import Tensor

from aqueduct.core.training.settings import LoopSettings
from aqueduct.tests.comfy.host_training import clips_like
from aqueduct.tests.comfy.hosts import HOSTS, Host
from aqueduct.tests.comfy.test_host_training_nodes import places, train  # noqa: F401

TINY = 1e-4  # of the loss, as clips 10000 times as large have it: gradients of float16 below 6e-8 are nothing


@pytest.fixture(scope="module")
def plain(comfy) -> Host:
    return HOSTS["wan-t2v"]()


@pytest.fixture(scope="module")
def clips(plain, tmp_path_factory):
    return clips_like(plain, tmp_path_factory.mktemp("clips"), count=1)


def like(plain: Host, weights: torch.dtype, cast: torch.dtype | None) -> Host:
    """The same MODEL with weights of that type, as ComfyUI loads them."""
    import comfy.sd

    state = {key: value.clone() for key, value in plain.model.model.diffusion_model.state_dict().items()}
    with torch.inference_mode():
        model = comfy.sd.load_diffusion_model_state_dict(state, model_options={"dtype": weights})
    model.model.manual_cast_dtype = cast
    return Host(model, *[getattr(plain, name) for name in ("positive", "negative", "latent", "frames", "compression")],
                plain.flow)  # fmt: skip


def gradient(monkeypatch, host: Host, clips, weight: float, run: str = "run") -> Tensor:
    """Of the first step, as the optimiser gets it, for a loss that is ``weight`` times the usual."""
    from aqueduct.nodes._comfy.host_loss import WEIGHTS

    seen, clip = [], torch.nn.utils.clip_grad_norm_

    def watched(parameters, most):
        seen.append(torch.cat([p.grad.flatten().double() for p in parameters]))
        return clip(parameters, most)

    name = "scaled down"
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", watched)
        patch.setitem(WEIGHTS, name, lambda bridge, t: torch.full_like(t, weight))
        train(host, clips, steps=1, weight=name, resume=False, layers="attn", filename_prefix=run)
    return seen[0]


def alike(one: Tensor, other: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one, other, 0))


def test_small_gradients_come_through_a_model_in_float16(places, plain, clips, monkeypatch):  # noqa: F811
    """Measured: 0.9999999 with the loss scaled, 0.72 without."""
    wanted = gradient(monkeypatch, plain, clips, TINY)
    half = like(plain, torch.float16, None)
    made = gradient(monkeypatch, half, clips, TINY)
    assert alike(made, wanted) > 0.999 and made.norm() / wanted.norm() == pytest.approx(1, abs=0.01)
    monkeypatch.setattr("aqueduct.nodes._comfy.training.computes_in", lambda model: torch.float32)
    without = gradient(monkeypatch, half, clips, TINY, "without")
    assert alike(without, wanted) < 0.9


@pytest.mark.parametrize("cast", [torch.float16, torch.float32])
def test_weights_in_float8_count_as_what_they_are_cast_to(places, plain, clips, monkeypatch, cast):  # noqa: F811
    """Against the same weights, as float8 has them, in a MODEL of float32."""
    small = like(plain, torch.float8_e4m3fn, cast)
    rounded = like(plain, torch.float32, None)
    with torch.inference_mode():
        for weight in rounded.model.model.diffusion_model.parameters():
            weight.copy_(weight.to(torch.float8_e4m3fn).float())
    made, wanted = (gradient(monkeypatch, host, clips, TINY) for host in (small, rounded))
    assert alike(made, wanted) > 0.999 and made.norm() / wanted.norm() == pytest.approx(1, abs=0.01)


def test_the_type_a_model_computes_in_decides(plain):
    from aqueduct.nodes._comfy.training import computes_in

    hosts = [like(plain, *types).model.model for types in (
        (torch.float16, None), (torch.float8_e4m3fn, torch.float16), (torch.float16, torch.float32),
    )]  # fmt: skip
    assert [computes_in(model) == torch.float16 for model in hosts] == [True, True, False]
    assert LoopSettings(1, scaled=True).scales_loss and LoopSettings(1, precision="float16").scales_loss
    assert not LoopSettings(1, precision="bfloat16").scales_loss
