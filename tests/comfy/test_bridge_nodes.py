"""The small nodes around a bridge model, each run as ComfyUI runs it."""

import pytest
import torch
from einops import rearrange

from aqueduct.core import checkpoints
from aqueduct.core.bridges import PROCESSES, SOLVERS, SPACINGS, checked_times, make_bridge, times
from aqueduct.tests.comfy import bridge_files
from aqueduct.tests.comfy.bridge_files import FRAMES, NAMES, NULL
from aqueduct.tests.comfy.graph import defaults, node_class, run, run_one


@pytest.fixture(scope="module", autouse=True)
def folder(comfy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("aqueduct")
    for variant in ("shipped", "with-image", "no-class"):
        bridge_files.write(folder, variant)
    bridge_files.write_prior(folder)
    bridge_files.offer(folder)
    return folder


# --- process, times, sampler ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PROCESSES)
def test_bridge_has_the_papers_constants(kind):
    bridge, picture = run("AqueductBridge", kind=kind)
    paper = {"ve": {"sigma_max": 80.0}}.get(kind, {})
    assert bridge == make_bridge(kind, **paper)
    assert picture.shape == (1, 400, 640, 3) and picture.dtype == torch.float32
    assert picture.min() >= 0 and picture.max() <= 1 and picture.std() > 0.05


def test_bridge_reads_its_own_constants_only():
    bridge = run_one("AqueductBridge", kind="vp", vp_beta_min=0.2, vp_beta_d=3.0, ve_sigma_max=5.0, lbm_noise=0.1)
    assert bridge == make_bridge("vp", beta_min=0.2, beta_d=3.0)


def test_bridge_shows_its_curves_in_the_editor():
    with torch.inference_mode():
        shown = node_class("AqueductBridge").execute(**defaults("AqueductBridge")).ui.as_dict()
    assert [image["type"] for image in shown["images"]] == ["temp"]


def test_curves_mark_the_schedule():
    bridge = make_bridge("brownian")
    plain = run_one("AqueductBridgeCurves", bridge=bridge)
    marked = run_one("AqueductBridgeCurves", bridge=bridge, sigmas=times(bridge, 5).float())
    assert plain.shape == marked.shape == (1, 400, 640, 3)
    assert not torch.equal(plain, marked)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("kind", PROCESSES)
def test_times_are_cores_and_fit_every_sampler(kind, spacing):
    """Also where float32 is too coarse: LBM's times crowd within 1e-8 of T."""
    bridge = run_one("AqueductBridge", kind=kind)
    for steps in (1, 2, 20):
        sigmas = run_one("AqueductBridgeTimes", bridge=bridge, steps=steps, spacing=spacing)
        assert sigmas.dtype == torch.float32 and sigmas.shape == (steps + 1,)
        assert sigmas[-1] == 0
        given = checked_times(sigmas)
        torch.testing.assert_close(given, times(bridge, steps, spacing), rtol=0, atol=steps * 6e-8)


@pytest.mark.parametrize("solver", SOLVERS)
def test_sampler_reads_eta_where_the_solver_has_one(solver):
    bridge = make_bridge("brownian")
    sampler = run_one("AqueductBridgeSampler", bridge=bridge, solver=solver, eta=0.3)
    assert (sampler.bridge, sampler.solver) == (bridge, solver)
    assert sampler.eta == (0.3 if solver in ("dbim-1", "bbdm") else SOLVERS[solver].eta)


# --- replicated prior -------------------------------------------------------------------------------------------------


def replicate(frames: int, compression: int = 1, **latent) -> dict:
    return run_one("AqueductReplicatePrior", latent=latent, frames=frames, temporal_compression=compression)


def test_replicate_puts_frames_into_the_batch_axis():
    images = torch.randn(2, 4, 6, 8)
    out = replicate(3, samples=images)["samples"]
    assert torch.equal(out, torch.stack([images[i] for i in (0, 0, 0, 1, 1, 1)]))


@pytest.mark.parametrize("frames, compression, length", [(1, 4, 1), (5, 4, 2), (81, 4, 21), (9, 8, 2), (7, 1, 7)])
def test_replicate_fills_a_time_axis(frames, compression, length):
    images = torch.randn(2, 16, 1, 4, 4)
    out = replicate(frames, compression, samples=images)["samples"]
    assert out.shape == (2, 16, length, 4, 4)
    assert torch.equal(out, images.expand(-1, -1, length, -1, -1))


def test_replicate_keeps_what_else_the_latent_holds():
    samples, mask = torch.randn(2, 4, 8, 8), torch.rand(2, 1, 8, 8)
    given = {"samples": samples, "noise_mask": mask, "batch_index": [3, 4], "type": "x"}
    before = {**given}
    out = replicate(3, **given)
    assert torch.equal(out["noise_mask"], mask.repeat_interleave(3, dim=0))
    assert out["type"] == "x"
    assert "batch_index" not in out  # it counts images; core's RandomNoise would make noise for those alone
    assert given.keys() == before.keys() and all(given[key] is before[key] for key in given)


@pytest.mark.parametrize("mask", [torch.rand(8, 8), torch.rand(1, 8, 8), torch.rand(1, 1, 8, 8)])
def test_replicate_leaves_a_mask_for_all_alone(mask):
    assert replicate(3, samples=torch.randn(2, 4, 8, 8), noise_mask=mask)["noise_mask"] is mask


def test_replicate_keeps_a_mask_of_a_clip():
    mask = torch.rand(1, 1, 1, 8, 8)
    assert replicate(5, 4, samples=torch.randn(1, 16, 1, 8, 8), noise_mask=mask)["noise_mask"] is mask


# --- classes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, clips, expected",
    [
        ("down", 1, [1]),
        ("Down ", 2, [1, 1]),
        ("2", 1, [2]),
        ("right, 2", 2, [0, 2]),
        ("right, left", 4, [0, 0, 2, 2]),
        ("none", 1, [NULL]),
        ("none, left", 2, [NULL, 2]),
    ],
)
def test_motion_class_forms(words, clips, expected):
    from aqueduct.nodes._comfy.classes import class_indices
    from aqueduct.nodes._comfy.model import CLASS_KEY

    [[tensor, values]] = run_one("AqueductMotionClass", motion=words)
    assert isinstance(tensor, torch.Tensor)
    assert class_indices(values[CLASS_KEY], NAMES, clips).tolist() == expected


def test_motion_class_carries_an_image():
    from aqueduct.nodes._comfy.model import IMAGE_KEY

    image = torch.randn(1, 3, 8, 8)
    [[_, values]] = run_one("AqueductMotionClass", image={"samples": image})
    assert values[IMAGE_KEY] is image
    assert IMAGE_KEY not in run_one("AqueductMotionClass")[0][1]


# --- neural prior -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["shipped-float32.safetensors", "prior.safetensors"])
@pytest.mark.parametrize("keep_image", [True, False])
def test_neural_prior_equals_core(folder, file, keep_image):
    """Of a bridge's file and of a file of its own; two images, one class each."""
    images = bridge_files.image("shipped", clips=2)
    prior = run_one("AqueductLoadNeuralPrior", file=file)
    conditioning = run_one("AqueductMotionClass", motion="down, left")
    out = run_one(
        "AqueductNeuralPrior", prior=prior, latent={"samples": images}, conditioning=conditioning, keep_image=keep_image
    )["samples"]
    network = checkpoints.load(folder / file, part="prior")[0].float()
    expected = network(images, torch.tensor([1, 2]))
    assert (expected[:, :, 0] - images).abs().max() > 0.05
    if keep_image:
        expected[:, :, 0] = images
    torch.testing.assert_close(out, rearrange(expected, "b c f h w -> (b f) c h w"), rtol=1e-5, atol=1e-5)


def test_a_bridges_own_prior_comes_with_it(folder):
    own = run("AqueductLoadBridgeModel", file="shipped-float32.safetensors")[3]
    latent = {"samples": bridge_files.image("shipped")}
    conditioning = run_one("AqueductMotionClass", motion="left")
    results = [
        run_one("AqueductNeuralPrior", prior=prior, latent=latent, conditioning=conditioning)["samples"]
        for prior in (own, run_one("AqueductLoadNeuralPrior", file="shipped-float32.safetensors"))
    ]
    assert torch.equal(*results)


def test_a_prior_without_classes_takes_any_conditioning(folder):
    prior = run_one("AqueductLoadNeuralPrior", file="no-class-float32.safetensors")
    latent = {"samples": bridge_files.image("no-class")}
    out = run_one("AqueductNeuralPrior", prior=prior, latent=latent, conditioning=[[torch.zeros(1, 1, 1), {}]])
    assert out["samples"].shape == (FRAMES, 3, 8, 8)


# --- files and VAEs ---------------------------------------------------------------------------------------------------


def test_a_pixel_model_needs_no_vae():
    _, vae, bridge, prior = run("AqueductLoadBridgeModel", file="shipped-float32.safetensors")
    image = torch.rand(2, 32, 32, 3)
    with torch.inference_mode():
        latent = vae.encode(image)
        torch.testing.assert_close(vae.decode(latent), image, rtol=0, atol=1e-3)
    torch.testing.assert_close(latent, image.movedim(-1, 1) * 2 - 1, rtol=0, atol=1e-3)
    assert bridge == make_bridge("bridge-gmax") and prior is not None


def test_a_latent_model_takes_the_vae_that_is_chosen(folder, monkeypatch):
    import folder_paths
    from safetensors.torch import save_file

    save_file({"pixel_space_vae": torch.tensor(1.0)}, folder / "stand-in-vae.safetensors")
    folder_paths.add_model_folder_path("vae", str(folder))
    model, vae, _, prior = run(
        "AqueductLoadBridgeModel", file="with-image-float32.safetensors", vae="stand-in-vae.safetensors"
    )
    assert vae.first_stage_model is not None
    assert prior is None
    assert model.model.latent_format.scale_factor == 0.18215


def test_the_list_of_files_follows_the_folder(folder):
    from aqueduct.nodes._comfy.files import model_files

    assert {"prior.safetensors", "shipped-float32.safetensors"} <= set(model_files())
    (folder / "notes.txt").write_text("not a model")
    new = bridge_files.write(folder, "aligned")
    try:
        assert new in model_files() and "notes.txt" not in model_files()
    finally:
        (folder / new).unlink()


def test_registering_the_folder_keeps_the_users_own(folder):
    import folder_paths

    from aqueduct.nodes._comfy.files import FOLDER, SHIPPED, register_folder

    for _ in range(2):
        register_folder()
    paths = folder_paths.get_folder_paths(FOLDER)
    assert len(paths) == len(set(paths))
    assert {str(folder), str(SHIPPED)} <= set(paths)
