"""What is learnt is what is sampled: the losses ask a host as samplers do."""

import pytest
import torch

from aqueduct.core.bridges import bridge_gmax, brownian
from aqueduct.core.training.objectives import uniform_weight
from aqueduct.tests.comfy.graph import FixedNoise, run_one, sample_bridge_graph
from aqueduct.tests.comfy.guided_hosts import clip_latent
from aqueduct.tests.comfy.host_training import asking, clips_like, close, data_of, lively
from aqueduct.tests.comfy.hosts import HOSTS, Host, normal
from aqueduct.tests.comfy.test_hosts import Recorder

GMAX = bridge_gmax()


@pytest.fixture(scope="module", params=HOSTS)
def host(request, comfy) -> Host:
    return HOSTS[request.param]()


@pytest.fixture(scope="module")
def clips(host, tmp_path_factory):
    return clips_like(host, tmp_path_factory.mktemp("clips"))


def patches(model, entry: str, bridge=GMAX):
    """(a function that makes a MODEL a bridge, whose prior input sees something)"""
    from aqueduct.nodes._comfy.alignment import align_model
    from aqueduct.nodes._comfy.bridge_lora import ENTRIES
    from aqueduct.nodes._comfy.prior_input import prior_input, show_prior

    seen = prior_input(model.model)
    lively(seen)

    def patched(clone):
        aligned = align_model(clone, bridge, ENTRIES[entry])
        show_prior(aligned, seen)
        return aligned

    return patched


@pytest.mark.parametrize("entry", ["aligned", "as it is"])
@pytest.mark.parametrize("bridge", [GMAX, brownian()], ids=["gmax", "brownian"])
def test_the_loss_asks_as_sampling_does(host, clips, entry, bridge):
    """The z0 predicted in the loss is that of AqueductBridgeSampler's run, at the same z_t, t, z_T and noise."""
    from aqueduct.nodes._comfy.host_loss import BridgeLoss

    patched, noise = patches(host.model, entry, bridge), normal(*clip_latent(host).shape, seed=4)
    latent = clips.tensor(0, "latent")[:, :1].expand_as(clips.tensor(0, "latent"))
    prior = latent[None] if clip_latent(host).dim() == 5 else latent.movedim(1, 0)
    recorder = Recorder(host.model)
    listed = torch.tensor([1.0, 0.7, 0.2, 0.0])
    model = patched(recorder.model)
    sample_bridge_graph(model, bridge, {"samples": prior}, host.positive, noise=FixedNoise(noise), times=listed)

    def body(asked):
        loss = BridgeLoss(asked, bridge, uniform_weight)
        z_T = asked.z_T(clips.tensor(0, "latent"))
        return [
            loss.predict(0, z_t, t.double(), z_T, noise, 0).detach()
            for t, (z_t, _) in zip(listed[:-1], recorder.states, strict=True)
        ]

    found = asking(host, clips, body, patched)
    assert len(found) == len(recorder.outputs) == 3
    for mine, theirs in zip(found, recorder.outputs, strict=True):
        assert close(mine, theirs)


class Seen:
    """What the host's network was given, and what it put out, call by call."""

    def __init__(self, asked):
        self.given, self.out = [], []
        network = asked.model.diffusion_model
        self.hooks = [
            network.register_forward_pre_hook(lambda _, given: self.given.append([value.clone() for value in given])),
            network.register_forward_hook(lambda _, given, out: self.out.append(out.detach())),
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()


def test_without_saf_the_network_is_given_the_state_itself(host, clips):
    from aqueduct.nodes._comfy.alignment import align_model, as_it_is
    from aqueduct.nodes._comfy.host_loss import BridgeLoss

    def body(asked):
        loss = BridgeLoss(asked, GMAX, uniform_weight)
        _, z_T, eps = loss.ends(0, 5)
        sampling, z_t = asked.model.model_sampling, normal(*z_T.shape, seed=6)
        for share in (1.0, 0.5, 0.01):
            with Seen(asked) as seen:
                loss.predict(0, z_t, torch.tensor(share, dtype=torch.float64), z_T, eps, 5)
            (x, timestep), channels = seen.given[0][:2], z_t.shape[1]
            assert close(x[:, :channels], z_t, 1e-5)
            top = float(sampling.timestep(sampling.sigma_max))
            expected = sampling.timestep(torch.tensor([max(float(sampling.percent_to_sigma(1 - share)), 0.0)]))
            assert float(timestep.flatten()[0]) == pytest.approx(top if share == 1 else float(expected[0]), rel=1e-4)

    asking(host, clips, body, lambda clone: align_model(clone, GMAX, as_it_is))


def test_a_hosts_own_loss_is_on_what_its_network_puts_out(host, clips):
    """eps of SD1.5, velocity of rectified flow, v of SVD: the mean squared difference from what it should have been."""
    from aqueduct.nodes._comfy.host_loss import OwnLoss

    def body(asked):
        loss = OwnLoss(asked, lambda seed, like: normal(*like.shape, seed=seed))
        batch = loss.draw(torch.tensor([0, 1, 1]), torch.Generator().manual_seed(3))
        with Seen(asked) as seen:
            found = loss(batch).detach()
        errors, sampling = [], asked.model.model_sampling
        for n, out in enumerate(seen.out):
            z_0 = loss.data(int(batch["clip"][n]), float(batch["frame"][n]))
            eps, share = normal(*z_0.shape, seed=int(batch["seed"][n])), float(batch["share"][n])
            sigma = float(sampling.percent_to_sigma(1 - share))
            if host.flow:
                target = eps - z_0
            elif type(asked.model).__name__ == "SVD_img2vid":
                target = ((z_0 + sigma * eps) / (sigma**2 + 1) - z_0) * (sigma**2 + 1) ** 0.5 / sigma
            else:
                target = eps
                assert len(z_0) == 1  # one picture of the clip
            errors.append((out - target).square().mean())
        torch.testing.assert_close(found, torch.stack(errors).mean(), rtol=1e-3, atol=0)

    asking(host, clips, body)


def test_gaussian_fields_are_those_that_are_sampled_with(host, clips):
    """As AqueductGPNoise makes them: the same seed gives the same noise in training and in sampling."""
    from aqueduct.nodes._comfy.noise import Fields

    like = torch.zeros_like(clip_latent(host))
    for settings in ({}, {"length_scale": 2.0, "full_rank": True}, {"spectrum": "flat"}):
        theirs = run_one("AqueductGPNoise", seed=7, features=20, **settings).generate_noise({"samples": like})
        widgets = {"length_scale": 0.0, "features": 20, "full_rank": False, **settings}
        assert torch.equal(Fields(**widgets).still(7).generate_noise({"samples": like}), theirs)


def test_image_to_video_hosts_are_told_the_first_frame(comfy, tmp_path):
    from aqueduct.nodes._comfy.host_conds import told_of

    svd, wan = HOSTS["svd"](), HOSTS["wan-i2v"]()
    clips = clips_like(svd, tmp_path / "svd")
    told = told_of(svd.model.model, data_of(clips), [[normal(1, 1, 64), {"fps": 12}]], None, None)(1)
    ((embedded, values),) = told
    assert torch.equal(values["concat_latent_image"], clips.tensor(1, "latent")[:, 0][None])
    assert values["fps"] == 12 and values["motion_bucket_id"] == 127 and torch.equal(embedded, normal(1, 1, 64))
    with pytest.raises(ValueError, match="wire clip_vision"):
        told_of(svd.model.model, data_of(clips), None, None, None)

    class Vae:
        """Says what it was shown."""

        def encode(self, pixels):
            self.shown = pixels
            return torch.zeros(1, 16, 2, *(side // 8 for side in pixels.shape[1:3]))

    clips, vae = clips_like(wan, tmp_path / "wan"), Vae()
    ((_, values),) = told_of(wan.model.model, data_of(clips), wan.positive, vae, None)(0)
    assert vae.shown.shape[0] == 5 and bool((vae.shown[1:] == 0.5).all())
    torch.testing.assert_close(vae.shown[0], clips.tensor(1, "first").movedim(0, -1) / 255)  # the last one asked for
    assert values["concat_mask"].flatten(3).mean(-1).flatten().tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="wire vae"):
        told_of(wan.model.model, data_of(clips), wan.positive, None, None)
