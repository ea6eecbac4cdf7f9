"""The papers' trainings (`configs/papers`) in tiny sizes, on a tiny prepared data set."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from aqueduct.core import checkpoints
from aqueduct.core.bridges import sample_bridge, times
from aqueduct.core.data.dataset import LatentDataset
from aqueduct.core.data.shards import Clip, write_dataset
from aqueduct.core.networks.diffusers_hosts import CogVideo, SdxlUNet
from aqueduct.core.networks.neural_prior import make_prior
from aqueduct.core.networks.video_bridge import VideoBridge
from aqueduct.core.training.config import CONFIGS, Files, read
from aqueduct.core.training.ema import Ema
from aqueduct.core.training.jobs import gp_noise
from aqueduct.core.training.jobs.exemplar_latents import _partners
from aqueduct.core.training.jobs.prepared import without
from aqueduct.core.training.loop import train_task
from aqueduct.core.training.memory import estimate
from aqueduct.core.training.recompute import recomputing
from aqueduct.core.training.task import rows

PAPERS = CONFIGS / "papers"


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LATTE = [
    f"network.arguments.{size}" for size in ("height=8", "width=8", "hidden=32", "depth=2", "heads=2", "classes=3")
]
COG = [
    f"network.arguments.{size}"
    for size in ("num_attention_heads=2", "attention_head_dim=16", "num_layers=2", "time_embed_dim=16",
                 "text_embed_dim=8", "max_text_seq_length=3", "sample_height=4", "sample_width=4", "sample_frames=5")
]  # fmt: skip
SDXL = [
    f"network.arguments.{size}"
    for size in (
        "sample_size=8", 'down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"]',
        'up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"]', "block_out_channels=[32, 64]", "layers_per_block=1",
        "transformer_layers_per_block=[1, 1]", "attention_head_dim=[2, 4]", "cross_attention_dim=16",
        "addition_time_embed_dim=8", "projection_class_embeddings_input_dim=56",
    )
]  # fmt: skip
EBDM = [
    f"network.arguments.{size}"
    for size in ("channels=8", "multipliers=[1, 2]", "blocks=1", "sites=[1]", "head_channels=8", "groups=4",
                 "features=6", "context=8", "expansion=1")
]  # fmt: skip
TINY = {
    "framebridge_ucf101": [*LATTE, "network.arguments.frames=5"],
    "framebridge_ucf101_prior": [*LATTE, "network.arguments.frames=4"],
    "framebridge_ucf101_neural_prior": [*LATTE, "network.arguments.frames=5"],
    "framebridge_webvid_cogvideox": COG,
    "warped_diffusion_sdxl": [*SDXL, "noise.length_scale=0.08", "noise.features=50"],
    "ebdm_f4_stage1": EBDM,
    "ebdm_f4_stage2": [],
}
STEPS = 12


def tensors_of(name: str, seed: int) -> dict[str, torch.Tensor]:
    """What the data set of a configuration holds of each clip, tiny."""
    latent = {"ucf101_latents": (4, 4, 8, 8), "webvid_t5": (16, 2, 4, 4), "coyo_text": (4, 1, 8, 8),
              "celeba_hq_f4": (3, 1, 8, 8)}[name]  # fmt: skip
    more: dict[str, Callable] = {
        "ucf101_latents": dict,
        "webvid_t5": lambda: {"context": normal(3, 8, seed=seed)},
        "coyo_text": lambda: {
            "context": normal(5, 16, seed=seed), "pooled": normal(8, seed=seed),
            "first": torch.randint(256, (3, 64, 64), generator=torch.Generator().manual_seed(seed)).byte(),
        },
        "celeba_hq_f4": lambda: {"control": normal(*latent, seed=seed + 50), "cls": normal(6, seed=seed)},
    }  # fmt: skip
    return {"latent": 5 * normal(*latent, seed=seed + 100), **more[name]()}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Files:
    folder = tmp_path_factory.mktemp("papers")
    for name in ("ucf101_latents", "webvid_t5", "coyo_text", "celeba_hq_f4"):

        def samples(name: str = name) -> Iterator:
            for n in range(4):
                yield Clip(f"{n}.mp4", label=n // 2), tensors_of(name, n)

        write_dataset(folder / name, samples(), {"classes": ["a", "b"]})
    save_file({"context": normal(3, 8, seed=9)}, folder / "webvid_t5" / "null.safetensors")
    return Files(folder)


@pytest.fixture(scope="module")
def hosts(files) -> Files:
    """The released folders as diffusers writes them, with random weights."""
    diffusers = pytest.importorskip("diffusers")
    for name, host, channels in (
        ("framebridge_webvid_cogvideox", CogVideo, 16),
        ("warped_diffusion_sdxl", SdxlUNet, 4),
    ):
        job = tiny(name).job
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = host(**{**job.network.arguments, "in_channels": channels})
        network.network.save_pretrained(files.folder / job.start.released)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = diffusers.AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, norm_num_groups=4,
            block_out_channels=[4, 4, 4, 4], layers_per_block=1,
        )  # fmt: skip
    vae.save_pretrained(files.folder / tiny("warped_diffusion_sdxl").job.damage.vae)
    return files


def tiny(name: str, *more: str):
    changes = [*TINY[name], "data.batch=4", f"run.steps={STEPS}", "run.learning_rate=1e-2", "run.save_every=1000"]
    return read(PAPERS / f"{name}.toml", [*changes, *more])


def trained(recipe, files: Files) -> tuple[float, float, object]:
    """The loss of one fixed batch before and after, and the task; what was trained lies where it is looked for."""
    task = recipe.job.make(recipe, files)
    before, after = descended(task, recipe)
    checkpoints.save(dict(task.parts), files.folder / f"{recipe.name}.safetensors", task.config)
    return before, after, task


def descended(task, recipe) -> tuple[float, float]:
    probe = task.draw(torch.Generator().manual_seed(5), 0)
    with torch.no_grad():
        before = float(task.loss(probe))
    ema = None if recipe.ema is None else Ema(task.parameters, recipe.ema)
    progress = train_task(task, recipe.run, torch.Generator().manual_seed(recipe.data_seed), ema=ema)
    assert len(progress.losses) == STEPS
    with torch.no_grad():
        return before, float(task.loss(probe))


def check_file(recipe, task, files: Files) -> None:
    """What was written is read again."""
    for part, network in task.parts.items():
        found, _ = checkpoints.load(files.model(recipe.name), part=part)
        for key, value in network.state_dict().items():
            torch.testing.assert_close(found.state_dict()[key], value.half(), check_dtype=False)


def test_framebridge_on_ucf101(files):
    recipe = tiny("framebridge_ucf101")
    before, after, task = trained(recipe, files)
    assert after < 0.95 * before
    check_file(recipe, task, files)
    assert task.config["class_names"] == ["a", "b"] and task.config["training"]["batch"] == 4
    assert task.config["training"]["loss"].endswith("own output, psi (FrameBridge eq. 6)")


def test_framebridge_with_its_neural_prior(files):
    before, after, _ = trained(tiny("framebridge_ucf101_prior"), files)
    assert after < 0.95 * before
    recipe = tiny("framebridge_ucf101_neural_prior")
    before, after, task = trained(recipe, files)
    assert after < 0.95 * before and set(task.parts) == {"model", "prior"}
    check_file(recipe, task, files)


def test_a_fine_tuning_begins_with_the_host(hosts):
    """The prior's channels do nothing yet."""
    recipe = tiny("framebridge_webvid_cogvideox")
    network = recipe.job.make(recipe, hosts).parts["model"]
    host = CogVideo(**{**recipe.job.network.arguments, "in_channels": 16})
    host.load_state_dict(CogVideo.released(hosts.folder / recipe.job.start.released))
    x, z_T, told = normal(2, 16, 2, 4, 4, seed=1), normal(2, 16, 2, 4, 4, seed=2), {"context": normal(2, 3, 8, seed=3)}
    with torch.no_grad():
        expected = host(x, torch.tensor([5.0, 900.0]), told)
        torch.testing.assert_close(network(torch.cat([x, z_T], 1), torch.tensor([5.0, 900.0]), told), expected)


def test_framebridge_out_of_cogvideox(hosts):
    files, recipe = hosts, tiny("framebridge_webvid_cogvideox")
    before, after, task = trained(recipe, files)
    assert after < 0.95 * before
    check_file(recipe, task, files)
    network, config = checkpoints.load(files.model(recipe.name))
    assert config["training"]["loss"].endswith("own output, v")
    assert bool(sampled(network.float(), config).isfinite().all())


def sampled(network: torch.nn.Module, config: dict) -> torch.Tensor:
    """As docs/scaling.md has it."""
    first, context = normal(1, 16, 4, 4, seed=3), normal(1, 3, 8, seed=4)
    video, z_T = VideoBridge.from_config(config), make_prior(None, first, None, frames=2)
    denoiser = video.denoiser(network, z_T, first, {"context": context}, normal(*z_T.shape, seed=5))
    noise = lambda t, t_next: normal(*z_T.shape, seed=6)  # noqa: E731
    with torch.no_grad():
        return sample_bridge(denoiser, z_T, times(video.bridge, 4), video.bridge, noise_sampler=noise)


def test_sdxl_with_gp_noise(hosts):
    recipe = tiny("warped_diffusion_sdxl")
    before, after, task = trained(recipe, hosts)
    assert after < 0.95 * before
    check_file(recipe, task, hosts)


def test_what_is_left_of_pictures_is_encoded_as_the_data_were(hosts):
    """In the VAE's precision, whatever the training's is."""
    recipe = tiny("warped_diffusion_sdxl", "run.precision=bfloat16")
    observed = recipe.job.observed(recipe.job.data.open(hosts, recipe.job.latent), hosts)
    drawn = {"clip": torch.arange(4), "damage": torch.arange(4)}
    with recipe.run.autocast(hosts.device):
        found = observed(drawn)
    assert found.dtype == torch.float32 and torch.equal(found, observed(drawn))


def test_ebdm_in_two_stages(files):
    before, after, _ = trained(tiny("ebdm_f4_stage1"), files)
    assert after < before
    recipe = tiny("ebdm_f4_stage2")
    before, after, task = trained(recipe, files)
    assert after < before and set(task.parts) == {"model", "exemplar"}
    check_file(recipe, task, files)


def test_a_lora_beside_cogvideox_has_the_librarys_names(hosts):
    """The host stays as it was; the file holds what diffusers reads, and the prior's channels beside."""
    recipe = tiny("framebridge_webvid_cogvideox", "lora.rank=2")
    task = recipe.job.make(recipe, hosts)
    before, after = descended(task, recipe)
    assert after < before
    keys = set(task.parts["transformer"].state_dict())
    layers = ["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj", "ff.net.2"]
    assert keys == {
        f"transformer_blocks.{n}.{layer}.lora_{side}.weight" for n in range(2) for layer in layers for side in "AB"
    }
    assert set(task.parts["entry"].state_dict()) == {"network.patch_embed.proj.weight"}
    up = task.parts["transformer"].get_parameter("transformer_blocks.1.attn1.to_v.lora_B.weight")
    assert up.shape == (32, 2) and bool(up.any())


def kept_and_gradients(task, batch, again: bool) -> tuple[int, list[torch.Tensor]]:
    """Bytes that autograd holds between forward and backward pass, weights aside, and the gradients."""
    held: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for one in task.running for p in (*one.parameters(), *one.buffers())}

    def keep(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            held[storage.data_ptr()] = storage.nbytes()
        return x

    for parameter in task.parameters:
        parameter.grad = None
    with recomputing(task.running) if again else nullcontext():
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            loss = task.loss(batch)
        loss.backward()
    return sum(held.values()), [p.grad.clone() for p in task.parameters]


@pytest.mark.parametrize("name", ["framebridge_webvid_cogvideox", "warped_diffusion_sdxl"])
def test_a_frozen_host_is_recomputed_under_its_lora(hosts, name):
    """The same gradients from fewer activations, and an estimate that has the host's weights."""
    recipe = tiny(name, "lora.rank=2", "lora.layers=attn.*to_[qkv]")
    task = recipe.job.make(recipe, hosts)
    for parameter in task.parameters:
        torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(parameter.numel()))
    batch = task.draw(torch.Generator().manual_seed(3), 0)
    (kept, expected), (less, found) = (kept_and_gradients(task, batch, again) for again in (False, True))
    assert less < 0.6 * kept
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert all(bool(one.any()) for one in expected)
    host = task.networks[0]
    plain, again = (estimate(task, replace(recipe.run, recompute=again), 4) for again in (False, True))
    assert again.activations < plain.activations
    assert plain.weights == sum(
        p.nbytes for p in (*host.parameters(), *host.buffers(), *task.parts[_lora(task)].parameters())
    )


def test_memory_is_that_of_the_largest_clips(hosts, tmp_path):
    """One wide clip among many narrow ones, which begin: the estimate is that of wide clips alone."""
    recipe, estimates = tiny("framebridge_webvid_cogvideox", "data.batch=2"), {}
    (tmp_path / "CogVideoX-2b").symlink_to((hosts.folder / recipe.job.start.released).parent)
    for name, widths in {"mixed": [4] * 9 + [8] + [4] * 9, "wide": [8], "narrow": [4]}.items():
        more = {"context": normal(3, 8, seed=0)}
        write_dataset(
            tmp_path / name, [(Clip("a.mp4"), {"latent": normal(16, 2, 4, w, seed=w), **more}) for w in widths], {}
        )
        asked = tiny("framebridge_webvid_cogvideox", "data.batch=2", f"data.folder={name}")
        asked = replace(asked, job=replace(asked.job, data=replace(asked.job.data, null=None)))
        estimates[name] = estimate(asked.job.make(asked, Files(tmp_path)), asked.run, 2).activations
    assert estimates["mixed"] == estimates["wide"] > 1.3 * estimates["narrow"]


def _lora(task) -> str:
    return next(name for name in task.parts if name != "entry")


def test_a_lora_beside_what_is_no_host(files):
    recipe = tiny("framebridge_ucf101", "lora.rank=2")
    with pytest.raises(ValueError, match="LatteVideo is trained whole"):
        recipe.job.make(recipe, files)


# --- what several processes rely on, and bad input --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["framebridge_ucf101", "framebridge_webvid_cogvideox", "warped_diffusion_sdxl", "ebdm_f4_stage1"]
)
def test_the_loss_of_a_batch_is_the_mean_of_its_halves(hosts, name):
    recipe = tiny(name)
    task = recipe.job.make(recipe, hosts)
    for parameter in task.parameters:
        torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(parameter.numel()))
    batch = task.draw(torch.Generator().manual_seed(3), 0)
    with torch.no_grad():
        whole, *halves = (float(task.loss(rows(batch, part))) for part in (slice(4), slice(2), slice(2, 4)))
    assert whole == pytest.approx(sum(halves) / 2, rel=1e-4)
    assert abs(halves[0] - halves[1]) > 1e-3 * whole  # the rows differ


@pytest.mark.parametrize(
    "name", [name for name in TINY if name not in ("framebridge_ucf101_neural_prior", "ebdm_f4_stage2")]
)
def test_networks_that_are_shared_out_wait_on_the_cpu(hosts, name, monkeypatch):
    """And what is not, a VAE, goes to the device at once. The device without numbers stands for one with no room."""
    recipe, places = tiny(name), {}
    monkeypatch.setattr(gp_noise, "DiffusersVae", lambda folder, device: places.setdefault("vae", device))
    for shared_out in (False, True):
        task = recipe.job.make(recipe, replace(hosts, device=torch.device("meta"), shared_out=shared_out))
        expected = "cpu" if shared_out else "meta"
        assert {x.device.type for one in task.running for x in (*one.parameters(), *one.buffers())} == {expected}
    assert places == ({"vae": "meta"} if name == "warped_diffusion_sdxl" else {})


def test_what_dropped_rows_are_told():
    told = {"class": torch.tensor([0, 1, 2]), "context": torch.ones(3, 2, 2), "pooled": torch.ones(3, 4)}
    dropped = torch.tensor([True, False, True])
    null = {"context": torch.full((2, 2), 7.0)}
    found = without(told, dropped, null, classes=5)
    assert found["class"].tolist() == [5, 1, 5]
    assert found["context"][:, 0, 0].tolist() == [7, 1, 7] and found["pooled"][:, 0].tolist() == [0, 1, 0]


def test_an_exemplar_is_another_of_its_class(files):
    """Each as likely; the picture itself only where it is alone."""
    clips = LatentDataset.open(files.folder / "celeba_hq_f4")  # classes 0, 0, 1, 1
    partner = _partners(clips)
    assert [partner(row, share) for row in range(4) for share in (0.0, 0.99)] == [1, 1, 0, 0, 3, 3, 2, 2]
    labels = iter([0, 0, 0, 1])
    alone = tuple(replace(clip, label=next(labels)) for clip in clips.index.clips)
    partner = _partners(LatentDataset(clips.folder, replace(clips.index, clips=alone)))
    assert partner(3, 0.5) == 3
    drawn = [partner(1, (n + 0.5) / 100) for n in range(100)]
    assert (drawn.count(0), drawn.count(2)) == (50, 50)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("framebridge_ucf101", "network.arguments.frames=6", r"5, 8, 8\].*4 are \[4, 4, 8, 8\]"),
        ("framebridge_ucf101", "network.arguments.in_channels=8", "takes 8 channels and gives 4.*has to take 4"),
        ("framebridge_ucf101", "network.arguments.head=2", "LatteVideo: .*'head'"),
        ("framebridge_ucf101", "network.architecture=LatteVid", "did you mean 'LatteVideo'"),
        ("framebridge_ucf101", "data.folder=webvid_t5", "scale|channels"),
        ("ebdm_f4_stage1", "data.folder=ucf101_latents", "without control, cls"),
    ],
)
def test_bad_input(files, name, change, says):
    with pytest.raises(ValueError, match=says):
        recipe = tiny(name, change)
        recipe.job.make(recipe, files)


def test_another_scale_than_the_data_have(files, tmp_path):
    clip = (Clip("a.mp4", label=0), {"latent": torch.zeros(4, 4, 8, 8)})
    write_dataset(tmp_path / "ucf101_latents", [clip], {"latents": {"std": 1 / 0.13025}})
    recipe = tiny("framebridge_ucf101")
    with pytest.raises(ValueError, match=r"scale 0.13025, and \[latent\] says 0.18215"):
        recipe.job.make(recipe, Files(tmp_path))
