"""The joint attention of a host with an exemplar: against the same written out, and beside what other packs do."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from aqueduct.tests.comfy.exemplar_guidance import exemplar, guided, plain, predicted, sharp
from aqueduct.tests.comfy.hosts import Host, normal

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
HEARD = 1e-3  # what has an effect has one this large: the hosts' predictions are between 0.03 and 6
SIZES = {  # of the exemplar's latent
    "sd15": (10, 6), "inpainting": (6, 12), "sdxl": (6, 10), "wan-t2v": (7, 10), "wan-i2v": (8, 6), "ltxv": (5, 3),
    "svd": (6, 9),
}  # fmt: skip
FAMILIES = pytest.mark.parametrize("host", SIZES, indirect=True)
SETTINGS = {
    "clean": ({}, {}),
    "half noise, half strength": ({"reference_percent": 0.5, "strength": 0.5}, {"percent": 0.5, "weight": 0.5}),
    "each step": ({"each_step": True}, {"percent": None}),
}


@pytest.fixture(scope="module")
def hosts(comfy) -> dict[str, Host]:
    return {name: sharp(name) for name in SIZES}


@pytest.fixture
def host(request, hosts) -> Host:
    return hosts[request.param]


@pytest.fixture
def sd15(hosts) -> Host:
    return hosts["sd15"]


def apart(found: list[Tensor], other: list[Tensor]) -> float:
    return min(float((a - b).abs().max()) for a, b in zip(found, other, strict=True))


def same(found: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, other, strict=True))


# --- the attention itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS)
@FAMILIES
def test_joint_attention_is_as_written_out(request, host, settings):
    """Both branches of CFG at once, as ComfyUI asks them; two pictures in the LATENT of U-Nets; sizes of their own."""
    own, written = SETTINGS[settings]
    given = exemplar(host, size=SIZES[request.node.callspec.params["host"]])
    found = predicted(host, guided(host, given, **own))
    torch.testing.assert_close(found, plain(host, given, **written), **CLOSE)
    assert apart(found, predicted(host)) > HEARD


@pytest.mark.parametrize("host", ["sd15", "wan-t2v"], indirect=True)
def test_a_part_of_the_exemplar(host):
    """Its left half: tokens are an eighth of the picture's side on both, or a sixteenth."""
    keep = torch.zeros(1, 64, 96, dtype=torch.bool)
    keep[..., :48] = True
    given = exemplar(host, keep=keep, size=(8, 12))
    columns = 12 if host.latent.dim() == 4 else 6
    tokens = torch.arange(8 * 12 // (12 // columns) ** 2) % columns < columns // 2
    found = predicted(host, guided(host, given))
    torch.testing.assert_close(found, plain(host, given, tokens=tokens), **CLOSE)
    assert apart(found, predicted(host, guided(host, exemplar(host, size=(8, 12))))) > HEARD


@pytest.mark.parametrize("host", ["sd15", "wan-t2v"], indirect=True)
def test_a_mask_of_any_values(host):
    """The strength of a token is the mask's mean over it, in every frame."""
    mask = torch.rand(64, 64, generator=torch.Generator().manual_seed(5))
    cells, frames = (8, 1) if host.latent.dim() == 4 else (4, 2)
    mean = mask.reshape(cells, 64 // cells, cells, 64 // cells).mean((1, 3)).flatten().repeat(frames)
    found = predicted(host, guided(host, mask=mask, strength=0.8))
    torch.testing.assert_close(found, plain(host, exemplar(host), weight=0.8 * mean[:, None].double()), **CLOSE)


def only(i: int, given):
    """One picture of a batch of exemplars."""
    return type(given)(**{name: value if value is None else value[i : i + 1] for name, value in vars(given).items()})


def test_one_exemplar_for_each_picture(sd15):
    """Each picture gets what it would from its own alone, also where they keep different numbers of tokens."""
    keep = torch.zeros(2, 80, 48, dtype=torch.bool)
    keep[0, :8], keep[1, 40:] = True, True
    for kept in (None, keep):
        found = predicted(sd15, guided(sd15, exemplar(sd15, 2, keep=kept)))
        for i in range(2):
            alone = predicted(sd15, guided(sd15, only(i, exemplar(sd15, 2, keep=kept))))
            torch.testing.assert_close([branch[i] for branch in found], [branch[i] for branch in alone], **CLOSE)
            assert apart([branch[1 - i] for branch in found], [branch[1 - i] for branch in alone]) > HEARD
    with pytest.raises(ValueError, match="batch of 3 pictures, the LATENT one of 2"):
        predicted(sd15, guided(sd15, exemplar(sd15, 3)))


def test_each_picture_has_the_exemplar_under_its_own_text(sd15):
    both = 20 * normal(2, 8, 64, seed=1)
    hosts = [replace(sd15, positive=[[texts, {}]]) for texts in (both, both[:1], both[1:])]
    found, *alone = (predicted(host, guided(host))[0] for host in hosts)
    torch.testing.assert_close(found, torch.stack([alone[0][0], alone[1][1]]), **CLOSE)
    assert apart([alone[0]], [alone[1]]) > HEARD


# --- where, and how strongly ------------------------------------------------------------------------------------------


class Attended:
    """What comes out of a network's first self-attention, the last time that it was asked."""

    def __init__(self, host: Host):
        from aqueduct.tests.comfy.plain_reference import self_attentions

        module = self_attentions(host.model.model.diffusion_model)[0]
        self.hook = (module.o if hasattr(module, "o") else module.to_out).register_forward_pre_hook(self._note)

    def _note(self, module, inputs):
        self.out = inputs[0].clone()

    def of(self, host: Host, model=None) -> Tensor:
        predicted(host, model)
        return self.out


@pytest.fixture
def attended(request, sd15):
    found = Attended(sd15)
    yield lambda model=None: found.of(sd15, model).unflatten(1, (8, 8))
    found.hook.remove()


def halves() -> tuple[Tensor, Tensor]:
    left = torch.zeros(64, 64)
    left[:, :32] = 1
    return left, 1 - left


def test_a_mask_leaves_the_rest_as_it_was(sd15, attended):
    left, _ = halves()
    found, full, own = attended(guided(sd15, mask=left)), attended(guided(sd15)), attended()
    assert torch.equal(found[:, :, 4:], own[:, :, 4:])
    torch.testing.assert_close(found[:, :, :4], full[:, :, :4], **CLOSE)
    assert apart([found[:, :, :4]], [own[:, :, :4]]) > HEARD


def test_two_exemplars_apart_act_as_each_alone(sd15, attended):
    left, right = halves()
    one, other = exemplar(sd15), exemplar(sd15, seed=12, size=(6, 6))
    alone = [attended(guided(sd15, one)), attended(guided(sd15, other))]
    found = attended(guided(sd15, other, guided(sd15, one, mask=left), mask=right))
    torch.testing.assert_close(found[:, :, :4], alone[0][:, :, :4], **CLOSE)
    torch.testing.assert_close(found[:, :, 4:], alone[1][:, :, 4:], **CLOSE)
    assert apart([alone[0]], [alone[1]]) > HEARD


def test_two_exemplars_share_the_stronger_ones_weight(sd15, attended):
    one, other = exemplar(sd15), exemplar(sd15, seed=12)
    own, a, b = attended(), attended(guided(sd15, one)), attended(guided(sd15, other))
    found = attended(guided(sd15, other, guided(sd15, one), strength=0.5))
    torch.testing.assert_close(found, own + 2 / 3 * (a - own) + 1 / 3 * (b - own), **CLOSE)
    twice = attended(guided(sd15, one, guided(sd15, one)))
    torch.testing.assert_close(twice, a, **CLOSE)


def test_blocks_are_those_named(sd15, attended):
    """The first self-attention is in input 1; what lies behind it still sees the exemplar where it is not named."""
    behind = guided(sd15, blocks="output 0-1")
    assert torch.equal(attended(behind), attended())
    assert apart(predicted(sd15, behind), predicted(sd15)) > HEARD
    both = guided(sd15, model=behind, blocks="input")
    torch.testing.assert_close(predicted(sd15, both), predicted(sd15, guided(sd15)), **CLOSE)
    with pytest.raises(ValueError, match='"middle" names none .* in input 1, output 0-1'):
        guided(sd15, blocks="input 1, middle")


def test_the_negative_branch_can_be_left_alone(sd15):
    model = guided(sd15, positive_only=True)
    own, both, found = predicted(sd15), predicted(sd15, guided(sd15)), predicted(sd15, model)
    torch.testing.assert_close(found, [both[0], own[1]], **CLOSE)
    assert torch.equal(found[1], own[1])
    assert same(predicted(sd15, model, branches=["negative"]), predicted(sd15, branches=["negative"]))


@FAMILIES
def test_branches_asked_apart_get_the_same(host):
    """In the order that other guiders ask them too (core's DualCFGGuider has the negative one first)."""
    for settings in ({}, {"positive_only": True}):
        model = guided(host, exemplar(host, size=(4, 4)), **settings)
        together = predicted(host, model)
        torch.testing.assert_close(predicted(host, model, together=False), together, **CLOSE)
        torch.testing.assert_close(predicted(host, model, branches=["negative", "positive"]), together[::-1], **CLOSE)


# --- beside what other packs do ---------------------------------------------------------------------------------------


def options_of(model) -> dict:
    return model.model_options["transformer_options"]


def test_an_override_that_was_there_is_asked_each_time(sd15):
    """For all attention: first as the host asks, then, in self-attention, with the exemplar's tokens behind its own."""
    asked = []

    def before(attend, q, k, v, *args, **kwargs):
        asked.append((q.shape[1], k.shape[1]))
        return 0.5 * attend(q, k, v, *args, **kwargs)

    model = sd15.model.clone()
    options_of(model)["optimized_attention_override"] = before
    own = predicted(sd15, model)
    assert asked == 3 * [(64, 64), (64, 8)]
    asked.clear()
    found = predicted(sd15, guided(sd15, model=model))
    joint = (64, 64 + 60)  # asked for each branch's rows
    assert asked == 3 * [(64, 64), joint, joint, (64, 8)]
    assert apart(found, own) > HEARD and apart(found, predicted(sd15, guided(sd15))) > HEARD


def test_patches_of_others_act_on_the_picture_and_not_on_the_exemplar(sd15):
    """What enters self-attention is theirs to change; what leaves it too, last of all."""
    asked = []

    def entering(q, k, v, extra):
        asked.append((*extra["block"], len(q)))
        return q, 2 * k, v

    def leaving(out, extra):
        asked.append("out")
        return 0 * out

    model = sd15.model.clone()
    model.set_model_attn1_patch(entering)
    own = predicted(sd15, model)
    asked.clear()
    found = predicted(sd15, guided(sd15, model=model))
    assert asked == [("input", 1, 4), ("output", 0, 4), ("output", 1, 4)]
    assert apart(found, own) > HEARD and apart(found, predicted(sd15, guided(sd15))) > HEARD
    model.set_model_attn1_output_patch(leaving)
    asked.clear()
    found = predicted(sd15, guided(sd15, model=model))
    assert asked.count("out") == 3
    assert same(found, predicted(sd15, model))


def test_self_attention_that_another_replaced_stays_theirs(sd15):
    """Also where it is not asked at all: cross-attention, which comes next, is not taken for it."""
    model = sd15.model.clone()
    for block in (("input", 1), ("output", 0), ("output", 1)):
        model.set_model_attn1_replace(lambda q, k, v, extra: v, *block)
    assert same(predicted(sd15, guided(sd15, model=model)), predicted(sd15, model))


def test_a_controlnet_acts_on_the_picture_and_not_on_the_exemplar(sd15):
    """What a ControlNet adds: the exemplar's keys and values are the same with it and without."""
    from comfy.patcher_extension import WrappersMP

    from aqueduct.nodes._comfy.runs import RUN_KEY

    def controlled(executor, x, timesteps, context, y, control, options, **kwargs):
        shift = normal(len(x), 64, 8, 8)  # another for each picture, which does not have it shown to each
        return executor(
            x, timesteps, context, y, {"input": [shift, shift], "output": [shift, shift]}, options, **kwargs
        )

    def features(*, control: bool):
        kept, model = [], sd15.model.clone()
        if control:
            model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "control", controlled)

        def inside(executor, *args, **kwargs):
            kept.extend(part for seen in args[5][RUN_KEY].kept.values() for part in seen.parts)
            return executor(*args, **kwargs)

        model = guided(sd15, model=model)
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "inside", inside)
        found = predicted(sd15, model)
        return found, [pair for part in kept for pair in part.features.values()]

    with_it, without = features(control=True), features(control=False)
    torch.testing.assert_close(with_it[1], without[1], rtol=0, atol=0)
    assert len(with_it[1]) == 6 and apart(with_it[0], without[0]) > HEARD


@pytest.mark.parametrize("host", ["wan-t2v", "ltxv"], indirect=True)
def test_a_replaced_block_stays_replaced(host):
    asked = []

    def doubled(inputs, extra):
        asked.append(len(inputs["img"]))
        return {"img": 1.5 * extra["original_block"](inputs)["img"]}

    def skipped(inputs, extra):
        return {"img": inputs["img"]}

    for replacement, heard in ((doubled, True), (skipped, False)):
        model = host.model.clone()
        model.set_model_patch_replace(replacement, "dit", "double_block", 0)
        own, asked[:] = predicted(host, model), []
        found = predicted(host, guided(host, model=model))
        assert asked == ([2] if heard else [])  # not for the exemplar
        assert (apart(found, own) > HEARD) == heard


def test_self_attention_that_the_host_leaves_out_is_not_looked_for(hosts):
    """Newer versions tell LTXV's blocks so in their options (spatio-temporal guidance)."""
    from aqueduct.nodes._comfy.reference_hosts import SKIPPED, Turn, family_of

    family, turn, coming = family_of(hosts["ltxv"].model.model), Turn(frozenset({("", 0)})), []
    marked = family.marked({}, turn)["patches_replace"]["dit"]["double_block", 0]
    for options in ({}, {SKIPPED: False}, {SKIPPED: True}):
        original = {
            "original_block": lambda inputs: coming.append(turn.take(family.site(inputs["transformer_options"])))
        }
        marked({"transformer_options": options}, original)
    assert coming == [("", 0, 0), ("", 0, 0), None]


def test_merged_tokens_go_with_an_exemplar_and_regrouped_ones_do_not(sd15):
    model = sd15.model.clone()
    model.set_model_attn1_patch(lambda q, k, v, extra: (q[:, ::2], k, v))
    model.set_model_attn1_output_patch(lambda out, extra: out.repeat_interleave(2, 1))
    assert apart(predicted(sd15, guided(sd15, model=model)), predicted(sd15, model)) > HEARD
    with pytest.raises(ValueError, match="has 32 tokens, the LATENT 64"):
        predicted(sd15, guided(sd15, model=model, mask=halves()[0]))
    model = sd15.model.clone()
    model.set_model_attn1_patch(lambda q, k, v, extra: tuple(y.reshape(-1, 32, y.shape[-1]) for y in (q, k, v)))
    model.set_model_attn1_output_patch(lambda out, extra: out.reshape(-1, 64, out.shape[-1]))
    predicted(sd15, model)
    with pytest.raises(ValueError, match="another patch on this MODEL changes its self-attention"):
        predicted(sd15, guided(sd15, model=model))


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused(hosts, sd15):
    from aqueduct.tests.comfy.exact_host import exact_host

    other = Host(exact_host("FLOW"), [], [], normal(1, 4, 8, 8), 1, 1, True)
    with pytest.raises(ValueError, match="goes onto Stable Diffusion .*; this MODEL is ExactModel around Exact: wire"):
        guided(other, exemplar(other))
    with pytest.raises(ValueError, match="has 16 channels, this MODEL takes 4"):
        guided(sd15, exemplar(hosts["wan-t2v"]))
    with pytest.raises(ValueError, match="nothing of the exemplar is kept"):
        guided(sd15, exemplar(sd15, keep=torch.zeros(1, 80, 48, dtype=torch.bool)))
    for mask, message in ((torch.ones(3, 64, 64), "or 2, one for each picture"), (torch.ones(64, 96), "aspect ratio")):
        with pytest.raises(ValueError, match=message):
            predicted(sd15, guided(sd15, mask=mask))
    with pytest.raises(ValueError, match="to be sampled by a GUIDER"):
        sd15.model.model.diffusion_model(
            normal(1, 4, 8, 8), torch.ones(1), normal(1, 8, 64), None, None, {"wrappers": guided(sd15).wrappers}
        )
