"""A MODEL made for exemplars: the graph computes what core computes, once per exemplar, and leaves no trace."""

import dataclasses

import pytest
import torch
from torch import Tensor

from aqueduct.core import checkpoints
from aqueduct.core.bridges import brownian, sample_bridge
from aqueduct.core.networks.exemplar_attention import shared
from aqueduct.core.networks.exemplar_unet import remember
from aqueduct.core.networks.video_bridge import VideoBridge
from aqueduct.tests.comfy import bridge_files, exemplar_files
from aqueduct.tests.comfy.exemplar_files import SIDE, STEP, picture
from aqueduct.tests.comfy.graph import bridge_times, run, run_one, sample_bridge_graph, sample_stock

CLOSE = {"rtol": 1e-4, "atol": 2e-5}
CONDITIONING = [[torch.zeros(1, 1, 1), {}]]


@pytest.fixture(scope="module")
def folder(comfy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exemplars")
    for name in exemplar_files.KINDS:
        exemplar_files.write(folder, name)
    bridge_files.offer(folder)
    return folder


@pytest.fixture(scope="module")
def own(folder) -> tuple:
    """(MODEL, VAE, bridge) of a file with its own encoder."""
    return run("AqueductLoadBridgeModel", file="own.safetensors")[:3]


def encoded(own: tuple, image: Tensor | None = None, **inputs):
    image = picture(seed=1) if image is None else image
    return run_one("AqueductExemplarEncode", image=image, vae=own[1], **inputs)


def applied(own: tuple, exemplar=None, model=None, **inputs):
    exemplar = encoded(own) if exemplar is None else exemplar
    return run_one("AqueductApplyExemplar", model=own[0] if model is None else model, exemplar=exemplar, **inputs)


def control(own: tuple, image: Tensor | None = None) -> dict:
    image = picture(seed=2) if image is None else image
    return run_one("AqueductControlPrior", image=image, vae=own[1])


def sample(own: tuple, model=None, prior: dict | None = None, steps: int = 3, **options) -> Tensor:
    prior = control(own) if prior is None else prior
    options = {"positive": CONDITIONING, "times": bridge_times(own[2], steps), **options}
    return sample_bridge_graph(own[0] if model is None else model, own[2], prior, **options)


class Core:
    """The same file without ComfyUI."""

    def __init__(self, folder, name: str = "own"):
        path = folder / f"{name}.safetensors"
        self.parts = {part: checkpoints.load(path, part)[0] for part in checkpoints.read_config(path)["parts"]}

    def style(self, image: Tensor, keep: Tensor | None = None, seen: Tensor | None = None):
        """Of an IMAGE; the encoder sees ``seen`` in its place."""
        z, seen = (2 * one.movedim(-1, 1) - 1 for one in (image, image if seen is None else seen))
        return remember(self.parts["model"], self.parts["exemplar"], z, self.parts["encoder"](seen), keep)

    def sample(self, prior: dict, styles, steps: int = 3, seed: int = 0) -> Tensor:
        from aqueduct.core.bridges import times
        from aqueduct.nodes._comfy.sampler import step_noise

        z_T, bridge = prior["samples"][:, :, None], brownian()
        video = VideoBridge.from_config(exemplar_files.described(("model",), "part", 12))
        denoiser = video.denoiser(
            lambda x, t, y: self.parts["model"](x[:, :, 0], t, styles)[:, :, None], z_T, z_T[:, :, 0], None
        )
        draw = step_noise(run_one("RandomNoise", noise_seed=seed).generate_noise(prior), seed)
        return sample_bridge(
            denoiser, z_T, times(bridge, steps), bridge, "sde", 1.0, lambda s, t: draw(s, t)[:, :, None]
        )[:, :, 0]


def counted(model) -> list:
    """One entry for each exemplar that the MODEL's exemplar network reads from now on."""
    from aqueduct.nodes._comfy.exemplar_model import READER_KEY

    reads, network = [], model.get_attachment(READER_KEY).network.model
    network.unet.time_embed.register_forward_hook(lambda *_: reads.append(None))
    return reads


# --- the same numbers as core -----------------------------------------------------------------------------------------


def test_without_an_exemplar_it_is_the_bare_bridge(folder, own):
    prior = control(own)
    expected = Core(folder).sample(prior, ())
    torch.testing.assert_close(sample(own, prior=prior), expected, **CLOSE)
    assert (expected - prior["samples"]).abs().mean() > 0.01


def test_with_one_the_graph_equals_core(folder, own):
    core, prior = Core(folder), control(own)
    expected = core.sample(prior, [core.style(picture(seed=1))])
    torch.testing.assert_close(sample(own, applied(own), prior), expected, **CLOSE)
    assert (expected - core.sample(prior, ())).abs().mean() > 0.01


def test_strength_and_mask_equal_core(folder, own):
    core, prior = Core(folder), control(own)
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, :, SIDE // 2 :] = 0.9
    expected = core.sample(prior, [core.style(picture(seed=1)).weighted(0.7 * mask[:, None])])
    torch.testing.assert_close(sample(own, applied(own, strength=0.7, mask=mask), prior), expected, **CLOSE)
    large = mask.repeat_interleave(4, 1).repeat_interleave(4, 2)
    scaled = sample(own, applied(own, strength=0.7, mask=large), prior)
    assert (scaled - expected).abs().mean() < 0.1 * (expected - core.sample(prior, ())).abs().mean()


def test_two_share_as_core_says(folder, own):
    core, prior, images = Core(folder), control(own), [picture(seed=seed) for seed in (1, 3)]
    weights = shared([torch.full((1, 1, 1, 1), weight) for weight in (1.0, 0.5)])
    styles = [core.style(image).weighted(weight) for image, weight in zip(images, weights, strict=True)]
    both = applied(own, encoded(own, images[1]), applied(own, encoded(own, images[0])), strength=0.5)
    torch.testing.assert_close(sample(own, both, prior), core.sample(prior, styles), **CLOSE)


def test_the_part_that_counts(folder, own):
    """What lies outside of it is seen by no attention, and its colour fills what the encoder sees of the rectangle."""
    core, prior, image = Core(folder), control(own), picture(seed=1)
    mask = torch.zeros(SIDE, SIDE)
    mask[4:12, 2:10] = 1
    mask[4:6, 2:6] = 0
    keep = mask[None].bool()
    inside = image[:, 4:12, 2:10].clone()
    inside[:, :2, :4] = image[0][mask.bool()].mean(0)
    expected = core.sample(prior, [core.style(image, keep, inside)])
    model = applied(own, encoded(own, image, mask=mask))
    torch.testing.assert_close(sample(own, model, prior), expected, **CLOSE)
    assert not torch.allclose(expected, core.sample(prior, [core.style(image)]), atol=1e-3)


def test_another_size_of_exemplar(folder, own):
    core, prior, image = Core(folder), control(own), picture(24, 8, seed=4)
    model = applied(own, encoded(own, image))
    torch.testing.assert_close(sample(own, model, prior), core.sample(prior, [core.style(image)]), **CLOSE)


def test_latents_are_in_the_models_own_scale(own, monkeypatch):
    """As the LATENT is: here the one of pixels has none, so it is given one."""
    prior, exemplar = control(own), encoded(own)
    expected = sample(own, applied(own, exemplar), prior)
    monkeypatch.setattr(own[0].model.latent_format, "scale_factor", 0.5)
    twice = dataclasses.replace(exemplar, latent=2 * exemplar.latent)
    scaled = sample(own, applied(own, twice), {"samples": 2 * prior["samples"]})
    torch.testing.assert_close(scaled, 2 * expected, **CLOSE)


# --- batches and CFG --------------------------------------------------------------------------------------------------


def by_pictures(own: tuple, model, priors: dict, **options) -> list[Tensor]:
    """Each picture of a batch sampled alone, with the noise it had in the batch."""
    from aqueduct.tests.comfy.graph import FixedNoise

    noise = run_one("RandomNoise", noise_seed=0).generate_noise(priors)
    alone = [{"samples": one} for one in priors["samples"].split(1)]
    return [
        sample(own, model[n] if isinstance(model, list) else model, one, noise=FixedNoise(noise[n : n + 1]), **options)
        for n, one in enumerate(alone)
    ]


@pytest.mark.parametrize("cfg", [1.0, 2.0])
def test_one_exemplar_for_each_picture(own, cfg):
    """The rows of both branches of CFG find their own. `ode` draws nothing, so that a batch is its pictures."""
    images, priors = picture(seed=1, batch=2), control(own, picture(seed=2, batch=2))
    options = {"cfg": cfg, "solver": "ode", "negative": [[torch.ones(1, 1, 1), {}]]}
    together = sample(own, applied(own, encoded(own, images)), priors, **options)
    models = [applied(own, encoded(own, one)) for one in images.split(1)]
    expected = torch.cat(by_pictures(own, models, priors, **options))
    torch.testing.assert_close(together, expected, **CLOSE)
    swapped = sample(own, applied(own, encoded(own, images.flip(0))), priors, **options)
    assert not torch.allclose(swapped, expected, atol=1e-3)


def test_positive_only_is_cfg_over_the_exemplar(own):
    """In the negative branch it is as if there were none: at CFG 0 nothing is left of it."""
    negative = [[torch.ones(1, 1, 1), {}]]
    model = applied(own, positive_only=True)
    bare, styled = sample(own), sample(own, applied(own))
    at = {cfg: sample(own, model, cfg=cfg, negative=negative, steps=1) for cfg in (0.0, 1.0, 2.0)}
    torch.testing.assert_close(at[0.0], sample(own, steps=1), **CLOSE)
    torch.testing.assert_close(at[2.0] - at[1.0], at[1.0] - at[0.0], **CLOSE)
    assert not torch.allclose(at[2.0], at[1.0], atol=1e-3) and not torch.equal(bare, styled)
    both = sample(own, applied(own), cfg=2.0, negative=negative)
    torch.testing.assert_close(both, styled, **CLOSE)  # in both branches: CFG has nothing to add


def test_the_negative_branch_by_name(own):
    """core's DualCFGGuider asks for its negative condition first: it is the one left alone."""
    inputs = {"cond1": CONDITIONING, "cond2": CONDITIONING, "negative": [[torch.ones(1, 1, 1), {}]]}

    def sampled(model, cfg: float) -> Tensor:
        at = {"cfg_conds": 0.0, "cfg_cond2_negative": cfg, "style": "regular"}
        outputs = run(
            "SamplerCustomAdvanced", noise=run_one("RandomNoise", noise_seed=0), sigmas=bridge_times(own[2], 3),
            guider=run_one("DualCFGGuider", model=model, **inputs, **at), latent_image=control(own),
            sampler=run_one("AqueductBridgeSampler", bridge=own[2], solver="sde", eta=1.0),
        )  # fmt: skip
        return outputs[0]["samples"]

    bare, model = own[0], applied(own, positive_only=True)
    torch.testing.assert_close(sampled(model, 0.0), sampled(bare, 0.0), **CLOSE)
    assert not torch.allclose(sampled(model, 1.5), sampled(bare, 1.5), atol=1e-3)


# --- what it costs, and that it leaves no trace -----------------------------------------------------------------------


def test_the_exemplar_is_read_once_in_a_run(own):
    model, reads = applied(own), counted(own[0])
    sample(own, model, steps=50, cfg=2.0, negative=[[torch.ones(1, 1, 1), {}]])
    assert len(reads) == 1
    sample(own, model)
    assert len(reads) == 2


def test_no_strength_is_the_bare_model(own):
    reads = counted(own[0])
    assert torch.equal(sample(own, applied(own, strength=0.0)), sample(own))
    assert reads == []


def test_when_it_counts(folder, own):
    """Levels of a Brownian bridge are its times: percent p is t = 1 - p."""
    times = bridge_times(own[2], 4)
    assert times.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]  # the network is asked at all but the last
    bare = sample(own, times=times)
    for start, end, counts in ((0.0, 0.0, True), (0.75, 1.0, True), (0.76, 1.0, False), (0.3, 0.4, False)):
        some = applied(own, start_percent=start, end_percent=end)
        assert torch.equal(sample(own, some, times=times), bare) != counts


def test_nothing_of_the_model_changes(own):
    model, _, _ = own
    before = {key: value.clone() for key, value in model.model.state_dict().items()}
    bare, styled = sample(own), applied(own)
    first = sample(own, styled)
    assert torch.equal(sample(own, styled), first) and torch.equal(sample(own), bare)
    assert all(torch.equal(value, before[key]) for key, value in model.model.state_dict().items())
    assert model.wrappers.get("diffusion_model", {}) == {}


def test_what_reads_it_is_loaded_and_freed_with_the_model(own):
    import comfy.model_management as mm

    from aqueduct.nodes._comfy.exemplar_model import READER_KEY

    styled = applied(own, model=applied(own))
    first = sample(own, styled)
    held = [one.model.model for one in mm.current_loaded_models]
    for patcher in own[0].get_attachment(READER_KEY).models():
        assert sum(one is patcher.model for one in held) == 1
    with torch.inference_mode():
        mm.unload_all_models()
    assert torch.equal(sample(own, styled), first)


def test_an_interrupt_leaves_everything_usable(own):
    import comfy.model_management as mm

    model, seen = applied(own), []
    expected = sample(own, model)

    def stop(*_):
        seen.append(None)
        mm.interrupt_current_processing(len(seen) == 2)

    remove = own[0].model.diffusion_model.unet.time_embed.register_forward_hook(stop).remove
    with pytest.raises(mm.InterruptProcessingException):
        sample(own, model)
    remove()
    mm.interrupt_current_processing(False)
    assert torch.equal(sample(own, model), expected)


def test_gradients_pass_through(own):
    """What the first step remembers, in inference mode, is fit for the gradients of the others."""
    from aqueduct.nodes._comfy.gradients import gradients_through

    model, norms = applied(own), []

    def steered(executor, x, timestep, model_options, seed):
        if float(timestep) == 1:
            return executor(x, timestep, model_options, seed)
        with gradients_through(executor.class_obj) as usable, torch.enable_grad():
            given = usable(x).detach().requires_grad_(True)
            out = executor(given, usable(timestep), usable(model_options), seed)
            norms.append(float(torch.autograd.grad(out.square().sum(), given)[0].norm()))
        return out.detach()

    model = model.clone()
    model.add_wrapper_with_key("predict_noise", "steered", steered)
    expected = sample(own, applied(own))
    torch.testing.assert_close(sample(own, model), expected, **CLOSE)
    assert len(norms) == 2 and min(norms) > 0


# --- files and mistakes -----------------------------------------------------------------------------------------------


def refused(message: str):
    return pytest.raises(ValueError, match=f"(?s){message}")


def test_files_without_a_part(folder, own):
    bare, _, bridge, _ = run("AqueductLoadBridgeModel", file="bare.safetensors")
    with refused("bare.safetensors holds no exemplar network .part 'exemplar'.*sampled without an exemplar"):
        applied(own, model=bare)
    assert sample((bare, own[1], bridge)).isfinite().all()
    broken = run_one("AqueductLoadBridgeModel", file="broken.safetensors")
    with refused("broken.safetensors says that it brings its own encoder, and has no part 'encoder'"):
        applied(own, model=broken)
    with refused("encoder.safetensors holds encoder alone: no node loads that"):
        run("AqueductLoadBridgeModel", file="encoder.safetensors")
    for node_id in ("AqueductLoadMotionAdapter", "AqueductLoadRestorationModel"):
        with refused("own.safetensors holds a bridge model: load it with AqueductLoadBridgeModel"):
            run(node_id, file="own.safetensors")


def test_dinov2_is_asked_for_by_width(folder, own, tmp_path):
    model, vae, bridge, _ = run("AqueductLoadBridgeModel", file="dino.safetensors")
    dino = model, vae, bridge
    with refused("dino.safetensors takes its global token from DINOv2: wire a CLIP_VISION.*of width 64 .models/clip_"):
        applied(dino)
    exemplar = encoded(dino, clip_vision=exemplar_files.vision(tmp_path, "dinov2"))
    styled = sample(dino, applied(dino, exemplar))
    assert not torch.allclose(styled, sample(dino), atol=1e-3)
    other = dataclasses.replace(exemplar, cls=exemplar.cls.flip(1))
    assert not torch.allclose(sample(dino, applied(dino, other)), styled, atol=1e-3)
    with refused("takes a .CLS. of 64 numbers, this exemplar's has 63: encode it with the DINOv2 of that width"):
        applied(dino, dataclasses.replace(exemplar, cls=exemplar.cls[:, 1:]))


def test_sizes_and_batches_that_do_not_fit(own):
    with refused("the exemplar is 18 x 16 pixels.*takes multiples of 4 there: scale it to 16 x 16 .ImageScale"):
        applied(own, encoded(own, picture(16, 18)))
    three = applied(own, encoded(own, picture(batch=3)))
    with refused("3 exemplars for a LATENT of 2: encode one exemplar for all of them, or one for each"):
        sample(own, three, control(own, picture(batch=2)))
    near = "the nearest it takes is 16 wide and 16 high: scale"
    with refused(rf"takes a LATENT .pictures, 3, height, width .multiples of {STEP}.., got .1, 3, 18, 16.; {near}"):
        sample(own, prior={"samples": torch.zeros(1, 3, 18, 16)})
    exemplar = encoded(own)
    with refused("the exemplar's latent has 4 channels, this MODEL's have 3: encode it with the MODEL's own VAE"):
        applied(own, dataclasses.replace(exemplar, latent=torch.zeros(1, 4, 8, 8)))


def test_an_exemplar_far_beyond_the_training_size(own):
    """Four times the side is taken, whatever the shape; a photograph is not, for it would take hours."""
    side = 4 * SIDE
    applied(own, encoded(own, picture(side, side)))
    applied(own, encoded(own, picture(side // 2, 2 * side)))
    with refused(f"{2 * side} x {side} pixels.*trained on pictures of {SIDE}.*Scale it to about {2 * SIDE} x {SIDE} "):
        applied(own, encoded(own, picture(side, 2 * side)))


def test_settings_of_other_hosts(own):
    for inputs, told in (
        ({"blocks": "middle"}, "blocks 'middle'"),
        ({"reference_percent": 0.5}, "reference_percent 0.5"),
        ({"each_step": True}, "each_step True"),
    ):
        with refused(f"{told} is for MODELs that were not made for exemplars"):
            applied(own, **inputs)
    with refused("start_percent 0.6 and end_percent 0.4"):
        applied(own, start_percent=0.6, end_percent=0.4)


def test_masks_of_the_picture(own):
    with refused("the mask marks nothing, so the exemplar would act nowhere"):
        applied(own, mask=torch.zeros(1, 64, 64))
    with refused("the mask is 32 x 16 pixels, the LATENT 16 x 16 cells, another aspect ratio"):
        sample(own, applied(own, mask=torch.ones(16, 32)))
    with refused("expected one MASK .height, width. or 1, one for each"):
        sample(own, applied(own, mask=torch.ones(2, 16, 16)))


def test_parts_of_the_picture_are_refused_and_masks_of_prompts_are_not(own):
    area = [[torch.zeros(1, 1, 1), {"area": (8, 8, 0, 0), "strength": 1.0}]]
    with pytest.raises(ValueError, match="asked for all of its LATENT .*ConditioningSetMask"):
        sample(own, applied(own), positive=area)
    mask = [[torch.zeros(1, 1, 1), {"mask": torch.ones(1, SIDE, SIDE), "mask_strength": 1.0}]]
    torch.testing.assert_close(sample(own, applied(own), positive=mask), sample(own, applied(own)), **CLOSE)


def test_stock_samplers_are_refused(own):
    with refused("a bridge MODEL starts from its prior, not from noise"):
        sample_stock(applied(own), control(own)["samples"], CONDITIONING)
