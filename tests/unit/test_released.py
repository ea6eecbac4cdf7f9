"""FrameBridge's released files for UCF-101: recognised by their tensors, run as their authors run them.

The files here have random weights and exactly the released names and shapes (`tests/data/*.txt`).
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aqueduct.core import checkpoints
from aqueduct.core.bridges import PARAMETERISATIONS, PRECONDITIONS, NetworkDenoiser, guided, make_bridge, sample_bridge
from aqueduct.core.bridges import times as bridge_times
from aqueduct.core.networks import LatteVideo, NeuralPrior
from aqueduct.core.networks.layout import InputLayout
from aqueduct.core.ucf101 import UCF101_CLASSES

DATA = Path(__file__).resolve().parents[1] / "data"
VANILLA, WITH_PRIOR, PRIOR = "S2_vanilla", "S2_prior", "nwarp_S2"
POOL = 1 << 21


def layout_of(name: str) -> dict[str, tuple[int, ...]]:
    lines = (DATA / f"framebridge_latte_{name}.txt").read_text(encoding="ascii").splitlines()
    return {key: tuple(json.loads(shape.replace("(", "[").replace(",)", ")").replace(")", "]")))
            for key, shape, _ in (line.split("\t") for line in lines)}  # fmt: skip


def weights(name: str) -> dict[str, torch.Tensor]:
    """Random tensors, all windows of one pool of numbers, so that a file takes 8 MB instead of 130."""
    generator = torch.Generator().manual_seed(len(name))
    pool = torch.randn(POOL, generator=generator) * 0.05
    state = {}
    for key, shape in layout_of(name).items():
        count = torch.Size(shape).numel()
        start = int(torch.randint(POOL - count, (1,), generator=generator))
        state[key] = pool[start : start + count].view(shape)
    return state


def described(content: dict, path: Path) -> dict:
    torch.save(content, path)
    return checkpoints.read_config(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("released")
    wrapped = {VANILLA: "ema", WITH_PRIOR: "model", PRIOR: "ema"}
    for name, key in wrapped.items():
        torch.save({key: weights(name)}, folder / f"{name}.pt")
    return {name: folder / f"{name}.pt" for name in wrapped}


# --- recognition ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "part", "kind"),
    [(VANILLA, "model", LatteVideo), (WITH_PRIOR, "model", LatteVideo), (PRIOR, "prior", NeuralPrior)],
)
def test_weights_arrive(files, name, part, kind):
    network, config = checkpoints.load(files[name], part=part)
    assert type(network) is kind and list(config["parts"]) == [part] and not network.training
    assert config == checkpoints.read_config(files[name])
    own = network.state_dict()
    expected = weights(name)
    assert len(own) == len(expected)
    for key, value in expected.items():
        ours = key.replace("nwarp_model.", "network.")
        assert torch.equal(own[ours], value), key


def test_configurations(files):
    vanilla, with_prior, prior = (checkpoints.read_config(files[name]) for name in (VANILLA, WITH_PRIOR, PRIOR))
    for config in (vanilla, with_prior):
        assert config["bridge"] == {"kind": "bridge-gmax", "constants": {"beta_min": 0.01, "beta_max": 50.0}}
        assert (config["parameterisation"], config["precondition"]) == ("psi", "frame_index")
        assert config["parts"]["model"]["arguments"]["frames"] == 17
    for config in (vanilla, with_prior, prior):
        assert config["latent"] == {"format": "sd15", "channels": 4, "vae": "sd-vae-ft-ema", "scale": 0.18215}
        assert config["format"] == 1 and config["class_names"] == list(UCF101_CLASSES)
        json.dumps(config)
    assert vanilla["layout"] == vars(InputLayout(prepend_first_frame=True))
    assert vanilla["image_condition"] == "first frame of the prior" and "separate_parts" not in vanilla
    assert with_prior["layout"] == vars(InputLayout(concat_prior=True, prepend_first_frame=True))
    assert with_prior["image_condition"] == "image" and "neural prior" in with_prior["separate_parts"]["prior"]
    assert prior["parts"]["prior"]["arguments"]["frames"] == 16 and "bridge" not in prior


def test_configurations_are_not_shared(files):
    checkpoints.read_config(files[VANILLA])["latent"]["scale"] = 0
    checkpoints.read_config(files[VANILLA])["parts"]["model"]["arguments"].clear()
    assert checkpoints.read_config(files[VANILLA])["latent"]["scale"] == 0.18215
    checkpoints.load(files[VANILLA])


def test_classes():
    """Numbered by folder names in code-point order, as the released code does."""
    assert len(UCF101_CLASSES) == 101 and list(UCF101_CLASSES) == sorted(set(UCF101_CLASSES))
    assert UCF101_CLASSES.index("ApplyEyeMakeup") == 0 and UCF101_CLASSES.index("YoYo") == 100
    assert UCF101_CLASSES.index("HammerThrow") == UCF101_CLASSES.index("Hammering") - 1 == 34
    assert UCF101_CLASSES.index("JumpRope") == UCF101_CLASSES.index("JumpingJack") - 1 == 46


def test_ways_of_wrapping(tmp_path):
    """EMA weights win over the others; keys of the neural prior may lack their prefix."""
    state, other = weights(VANILLA), {"irrelevant": torch.zeros(1)}
    about = described({"model": other, "ema": state}, tmp_path / "both.pt")["about"]
    for content in ({"model": state, "step": 4}, state):
        assert described(content, tmp_path / "a.pt")["about"] == about
    prior = weights(PRIOR)
    bare = {key.removeprefix("nwarp_model."): value for key, value in prior.items()}
    beside = {**prior, "diffusion_model.pos_embed": torch.zeros(2)}
    configs = [described({"ema": content}, tmp_path / "a.pt") for content in (prior, bare, beside)]
    assert configs[0] == configs[1] == configs[2] and "neural prior for UCF-101" in configs[0]["about"]
    torch.save(bare, tmp_path / "bare.pt")
    network, _ = checkpoints.load(tmp_path / "bare.pt", part="prior")
    assert torch.equal(network.network.temp_embed, prior["nwarp_model.temp_embed"])


def test_safetensors_without_our_metadata_and_back_to_a_native_file(tmp_path):
    """What a cautious user has after converting the pickle; saved again it is a native file."""
    state = {key: value.half().clone() for key, value in weights(PRIOR).items()}
    save_file(state, tmp_path / "prior.safetensors")
    network, config = checkpoints.load(tmp_path / "prior.safetensors", part="prior", dtype=torch.float16)
    checkpoints.save({"prior": network}, tmp_path / "native.safetensors", config)
    again, native = checkpoints.load(tmp_path / "native.safetensors", part="prior", dtype=torch.float16)
    assert native == config
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    for file in tmp_path.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("blocks.7.mlp.fc2.bias"), r"without neural prior .*1 missing \(blocks.7.mlp.fc2.bias\)"),
        (lambda s: s.update(stray=torch.zeros(1)), r"1 unexpected \(stray\)"),
        # Latte's own model for UCF-101 is a diffusion model that also predicts variances
        (
            lambda s: s.update({"final_layer.linear.bias": torch.zeros(32), "temp_embed": torch.zeros(1, 16, 384)}),
            r"2 of another shape \(final_layer.linear.bias: got \(32,\), expected \(16,\), temp_embed: got",
        ),
    ],
)
def test_near_misses_are_explained(tmp_path, change, told):
    state = weights(VANILLA)
    change(state)
    with pytest.raises(ValueError, match=f"no checkpoint known here: 13. tensors.*Closest: FrameBridge.*{told}"):
        described({"ema": state}, tmp_path / "a.pt")


def test_unknown_file(tmp_path):
    with pytest.raises(ValueError) as caught:
        described({"model": {f"layers.{k}": torch.zeros(1) for k in range(9)}}, tmp_path / "a.pt")
    message = str(caught.value)
    assert "a.pt is no checkpoint known here: 9 tensors (layers.0, layers.1, layers.2, ...)" in message
    assert "Closest" not in message and all(title in message for title in ("without", "with", "neural prior for"))


def test_a_bridge_file_has_no_prior_inside(files):
    with pytest.raises(ValueError, match="no 'prior'; its parts are model"):
        checkpoints.load(files[WITH_PRIOR], part="prior")


# --- sampling ---------------------------------------------------------------------------------------------------------


class Recorder:
    """Runs a network and keeps every call."""

    def __init__(self, network, layout: InputLayout, z_T, image):
        self.network, self.layout, self.z_T, self.image, self.calls = network, layout, z_T, image, []

    def predict(self, y: int):
        def predict(entering, timestep):
            joined = self.layout.join(entering, self.z_T, self.image)
            output = self.network(joined, timestep, torch.tensor([y]))
            self.calls.append((joined, timestep, y, output))
            return self.layout.crop(output)

        return predict


def released_sampler(z_T, calls, noise, scale):
    """The same walk from recorded outputs, by the formulas of FrameBridge section 4.1: psi, then its posterior."""
    z = z_T.double()
    for k in range(0, len(calls), 2):
        index = calls[k][1].item()
        var_s = 0.5 * (50 - 0.01) * ((index + 1) / 1001) ** 2 + 0.01 * (index + 1) / 1001
        without, given = calls[k][3][:, :, 1:].double(), calls[k + 1][3][:, :, 1:].double()
        z_0 = z - var_s**0.5 * (without + scale * (given - without))
        if k + 2 == len(calls):
            return z_0
        time = (calls[k + 2][1].item() + 1) / 1001
        var_t = 0.5 * (50 - 0.01) * time**2 + 0.01 * time
        z = var_t / var_s * z + (1 - var_t / var_s) * z_0 + (var_t * (1 - var_t / var_s)) ** 0.5 * noise.double()


@pytest.mark.parametrize(("name", "steps"), [(VANILLA, 1), (WITH_PRIOR, 2)])
@torch.inference_mode()
def test_sampling(files, name, steps):
    """A few steps with guidance: what the network is given, and where its outputs lead."""
    network, config = checkpoints.load(files[name])
    generator = torch.Generator().manual_seed(0)
    image, noise = torch.randn(1, 4, 32, 32, generator=generator), torch.randn(1, 4, 16, 32, 32, generator=generator)
    if name == WITH_PRIOR:
        z_T = checkpoints.load(files[PRIOR], part="prior")[0](image, torch.tensor([2]))
        assert z_T.shape == (1, 4, 16, 32, 32) and z_T.std() > 0.01
    else:
        z_T = image[:, :, None].repeat(1, 1, 16, 1, 1)
    recorder = Recorder(network, InputLayout(**config["layout"]), z_T, image)
    bridge = make_bridge(config["bridge"]["kind"], **config["bridge"]["constants"])

    def branch(y: int) -> NetworkDenoiser:
        conventions = PARAMETERISATIONS[config["parameterisation"]], PRECONDITIONS[config["precondition"]]
        return NetworkDenoiser(recorder.predict(y), bridge, *conventions, z_T)

    denoiser = guided(branch(2), branch(len(config["class_names"])), config["sampling"]["guidance"])
    schedule = bridge_times(bridge, steps, config["sampling"]["spacing"])
    solver = config["sampling"]["solver"]
    sampled = sample_bridge(denoiser, z_T, schedule, bridge, solver, noise_sampler=lambda s, t: noise)

    evaluated = [(y, round(timestep.item(), 3)) for _, timestep, y, _ in recorder.calls]
    assert evaluated == [(101, 999), (2, 999), (101, 0), (2, 0)][: 2 * steps]  # from 999 to 0, both included
    for joined, *_ in recorder.calls:
        assert joined.shape == (1, 8 if name == WITH_PRIOR else 4, 17, 32, 32)
        # the clean first frame on every channel group of the frame before the clip, for both branches
        assert all(torch.equal(group, image) for group in joined[:, :, 0].split(4, dim=1))
        if name == WITH_PRIOR:
            assert torch.equal(joined[:, 4:, 1:], z_T)
    torch.testing.assert_close(recorder.calls[0][0][:, :4, 1:], z_T)
    expected = released_sampler(z_T, recorder.calls, noise, 7.0)
    assert bool(torch.isfinite(sampled).all()) and (expected - z_T).std() > 0.1
    torch.testing.assert_close(sampled.double(), expected, rtol=1e-4, atol=1e-3)
