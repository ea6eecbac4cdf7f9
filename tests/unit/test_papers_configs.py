"""The papers' settings as files: published sizes, and the same trainings in tiny sizes on a tiny prepared data set."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aqueduct.core import checkpoints
from aqueduct.core.bridges import sample_bridge, times
from aqueduct.core.data.shards import Clip, write_dataset
from aqueduct.core.networks.diffusers_hosts import CogVideo, SdxlUNet
from aqueduct.core.networks.neural_prior import make_prior
from aqueduct.core.networks.video_bridge import VideoBridge
from aqueduct.core.training.config import CONFIGS, Files, read
from aqueduct.core.training.ema import Ema
from aqueduct.core.training.loop import train_task

PAPERS = CONFIGS / "papers"
DATA = Path(__file__).resolve().parents[1] / "data"


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def job_of(name: str):
    return read(PAPERS / f"{name}.toml").job


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# --- published sizes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(PAPERS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_file_can_be_read(path):
    recipe = read(path)
    assert recipe.name == path.stem and recipe.about


@pytest.mark.parametrize(
    ("name", "released"),
    [
        ("framebridge_ucf101", "S2_vanilla"),
        ("framebridge_ucf101_neural_prior", "S2_prior"),
        ("framebridge_ucf101_prior", "nwarp_S2"),
    ],
)
def test_latte_is_the_released_one_tensor_by_tensor(name, released):
    lines = (DATA / f"framebridge_latte_{released}.txt").read_text(encoding="ascii").splitlines()
    theirs = {
        key.replace("nwarp_model.", "network."): tuple(json.loads(f"[{shape.strip('()').rstrip(',')}]"))
        for key, shape, _ in (line.split("\t") for line in lines)
    }
    ours = job_of(name).network.build(device="meta").state_dict()
    assert {key: tuple(value.shape) for key, value in ours.items()} == theirs


def test_cogvideo_has_the_parameters_of_cogvideox_2b():
    """Added up from the architecture (CogVideoX section 2.2, its released configuration); as float16 they are the
    3.39 GB of the released file."""
    pytest.importorskip("diffusers")
    d, time, text, layers, patch = 1920, 512, 4096, 30, 4
    modulated = time * 6 * d + 6 * d + 2 * d
    attention = 4 * (d * d + d) + 2 * 2 * 64
    feed_forward = 2 * 4 * d * d + 4 * d + d
    entry = 16 * patch * d + d + text * d + d
    clock = d * time + time + time * time + time
    leaving = 2 * d + time * 2 * d + 2 * d + 2 * d + d * 16 * patch + 16 * patch
    host = layers * (2 * modulated + attention + feed_forward) + entry + clock + leaving
    assert host == 1_693_783_872
    prior = 16 * patch * d  # the prior's channels
    assert count(job_of("framebridge_webvid_cogvideox").network.build(device="meta")) == host + prior


def test_sdxl_has_its_parameters():
    """2.6 B (Podell et al. 2024, table 1); to the last one, the 2567463684 of the released file."""
    pytest.importorskip("diffusers")
    observed = 4 * 320 * 9
    assert count(job_of("warped_diffusion_sdxl").network.build(device="meta")) == 2_567_463_684 + observed


def test_ebdm_has_the_parameters_of_table_5():
    network = job_of("ebdm_f4_stage1").network
    assert count(network.build(device="meta")) == pytest.approx(382.49e6, rel=0.005)


# --- the same in tiny sizes -------------------------------------------------------------------------------------------

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


def tiny(name: str, *more: str):
    changes = [*TINY[name], "data.batch=4", f"run.steps={STEPS}", "run.learning_rate=1e-2", "run.save_every=1000"]
    return read(PAPERS / f"{name}.toml", [*changes, *more])


def released(host, arguments: dict, folder: Path) -> None:
    """A folder as diffusers writes it, with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        host(**arguments).network.save_pretrained(folder)


def trained(recipe, files: Files) -> tuple[float, float, object]:
    """The loss of one fixed batch before and after, and the task; what was trained lies where it is looked for."""
    task = recipe.job.make(recipe, files)
    probe = task.draw(torch.Generator().manual_seed(5), 0)
    with torch.no_grad():
        before = float(task.loss(probe))
    ema = None if recipe.ema is None else Ema(task.parameters, recipe.ema)
    progress = train_task(task, recipe.run, torch.Generator().manual_seed(recipe.data_seed), ema=ema)
    assert len(progress.losses) == STEPS
    with torch.no_grad():
        after = float(task.loss(probe))
    checkpoints.save(dict(task.parts), files.folder / f"{recipe.name}.safetensors", task.config)
    return before, after, task


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


def test_framebridge_with_its_neural_prior(files):
    before, after, _ = trained(tiny("framebridge_ucf101_prior"), files)
    assert after < 0.95 * before
    recipe = tiny("framebridge_ucf101_neural_prior")
    before, after, task = trained(recipe, files)
    assert after < 0.95 * before and set(task.parts) == {"model", "prior"}
    check_file(recipe, task, files)


def test_framebridge_out_of_cogvideox(files):
    pytest.importorskip("diffusers")
    recipe = tiny("framebridge_webvid_cogvideox")
    host = {**recipe.job.network.arguments, "in_channels": 16}
    released(CogVideo, host, files.folder / recipe.job.start.released)
    before, after, task = trained(recipe, files)
    assert after < 0.95 * before
    check_file(recipe, task, files)
    network, config = checkpoints.load(files.model(recipe.name))
    assert bool(sampled(network.float(), config).isfinite().all())


def sampled(network: torch.nn.Module, config: dict) -> torch.Tensor:
    """As docs/scaling.md has it."""
    first, context = normal(1, 16, 4, 4, seed=3), normal(1, 3, 8, seed=4)
    video, z_T = VideoBridge.from_config(config), make_prior(None, first, None, frames=2)
    denoiser = video.denoiser(network, z_T, first, {"context": context}, normal(*z_T.shape, seed=5))
    noise = lambda t, t_next: normal(*z_T.shape, seed=6)  # noqa: E731
    with torch.no_grad():
        return sample_bridge(denoiser, z_T, times(video.bridge, 4), video.bridge, noise_sampler=noise)


def test_sdxl_with_gp_noise(files):
    diffusers = pytest.importorskip("diffusers")
    recipe = tiny("warped_diffusion_sdxl")
    released(SdxlUNet, {**recipe.job.network.arguments, "in_channels": 4}, files.folder / recipe.job.start.released)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = diffusers.AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, norm_num_groups=4,
            block_out_channels=[4, 4, 4, 4], layers_per_block=1,
        )  # fmt: skip
    vae.save_pretrained(files.folder / recipe.job.damage.vae)
    before, after, task = trained(recipe, files)
    assert after < 0.95 * before
    check_file(recipe, task, files)


def test_ebdm_in_two_stages(files):
    before, after, _ = trained(tiny("ebdm_f4_stage1"), files)
    assert after < before
    recipe = tiny("ebdm_f4_stage2")
    before, after, task = trained(recipe, files)
    assert after < before and set(task.parts) == {"model", "exemplar"}
    check_file(recipe, task, files)


def test_a_lora_beside_cogvideox_has_the_librarys_names(files):
    """The host stays as it was; the file holds what diffusers reads, and the prior's channels beside."""
    pytest.importorskip("diffusers")
    recipe = tiny("framebridge_webvid_cogvideox", "lora.rank=2", "start.released=lora-start")
    released(CogVideo, {**recipe.job.network.arguments, "in_channels": 16}, files.folder / "lora-start")
    before, after, task = trained(recipe, files)
    assert after < before
    keys = set(task.parts["transformer"].state_dict())
    layers = ["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj", "ff.net.2"]
    assert keys == {
        f"transformer_blocks.{n}.{layer}.lora_{side}.weight" for n in range(2) for layer in layers for side in "AB"
    }
    assert set(task.parts["entry"].state_dict()) == {"network.patch_embed.proj.weight"}
    up = task.parts["transformer"].get_parameter("transformer_blocks.1.attn1.to_v.lora_B.weight")
    assert up.shape == (32, 2) and bool(up.any())


def test_a_lora_beside_what_is_no_host(files):
    with pytest.raises(ValueError, match="LatteVideo is trained whole"):
        recipe = tiny("framebridge_ucf101", "lora.rank=2")
        recipe.job.make(recipe, files)
