"""Warped Diffusion whole, as workflows have it: a restoration MODEL under the SAMPLER is core's loop on the file."""

import pytest
import torch

from aqueduct.core.guidance import Guidance, full, previous_frame, sample_warped_diffusion, x0
from aqueduct.core.restoration import make_problem
from aqueduct.tests.comfy import bridge_files, restoration_files
from aqueduct.tests.comfy.graph import run, run_one
from aqueduct.tests.comfy.restoration_files import PROBLEMS, core_denoiser
from aqueduct.tests.unit.shift_worlds import ShiftWorld

WORLD = ShiftWorld(frames=4, channels=3, height=16, width=24, step=(2, -1))
PICTURES = torch.rand(4, 16, 24, 3, generator=torch.Generator().manual_seed(0))
HOLES = torch.zeros(4, 16, 24)
for frame in range(4):
    HOLES[frame, 4:12, 5 + frame : 15 + frame] = 1


@pytest.fixture(scope="module")
def folder(comfy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("restoration")
    for name in PROBLEMS:
        restoration_files.write(folder, name)
    bridge_files.offer(folder)
    return folder


def graph(name, mode, size):
    """(result, noise, SIGMAS, LATENT, the network's condition) of the whole graph."""
    model = run_one("AqueductLoadRestorationModel", file=f"{name}.safetensors")
    problem = make_problem(PROBLEMS[name])
    if name == "inpaint":
        given = {"images": PICTURES, "mask": HOLES}
        condition = problem.condition(PICTURES.movedim(-1, 1) * 2 - 1, HOLES[:, None])
    else:
        given = {"images": PICTURES[:, :4, :6]}
        condition = problem.condition(PICTURES[:, :4, :6].movedim(-1, 1) * 2 - 1)
    positive, negative, latent = run("AqueductRestorationCondition", model=model, **given)
    noise = run_one("AqueductGPNoise", motion=WORLD.motion(), seed=3)
    # From below the model's highest level: at that one ComfyUI scales noise by sqrt(1 + sigma^2) instead of sigma.
    sigmas = run_one("BasicScheduler", model=model, scheduler="karras", steps=5, denoise=1.0)[1:]
    sampler = run_one("AqueductWarpedDiffusionSampler", motion=WORLD.motion(), mode=mode, frames_at_once=size)
    guider = run_one("CFGGuider", model=model, positive=positive, negative=negative, cfg=1.0)
    wired = {"noise": noise, "guider": guider, "sampler": sampler, "sigmas": sigmas, "latent_image": latent}
    out = run_one("SamplerCustomAdvanced", **wired)
    return out["samples"], noise.generate_noise(latent), sigmas, latent, condition


@pytest.mark.parametrize("size", [0, 3])
@pytest.mark.parametrize("mode, through", [("full", full), ("outer", full), ("x0", x0)])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_graph_is_cores_loop_on_the_file(folder, name, mode, through, size):
    found, noise, sigmas, given, condition = graph(name, mode, size)
    latent = given["samples"].clone()  # out of inference mode, where nodes ran
    m = given["noise_mask"].clone() if "noise_mask" in given else torch.ones(len(latent), 1, 1, 1)
    noise, sigmas = noise.clone(), sigmas.clone()
    network = core_denoiser(folder / f"{name}.safetensors", condition, outer=mode == "outer")

    def mixed(z, sigma, frames):
        """Where a noise mask keeps the LATENT, it has it in place of the prediction."""
        z = m[frames] * z + (1 - m[frames]) * (latent[frames] + sigma * noise[frames])
        return m[frames] * network(z.float(), sigma, frames) + (1 - m[frames]) * latent[frames]

    def masked(denoise, z, sigma):
        prediction, pull = through(denoise, z, sigma)
        return prediction, lambda v: pull(v) * m

    start = sigmas[0] * noise + latent
    pairs = previous_frame(WORLD.motion())
    expected = sample_warped_diffusion(mixed, start, sigmas, Guidance(pairs, 1.0, masked, bounded=True))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-4)
    plain = sample_warped_diffusion(mixed, start, sigmas, Guidance(pairs, 0.0))
    assert (plain - found).abs().max() > 0.01
    kept = (m == 0).expand_as(found)
    torch.testing.assert_close(found[kept], latent[kept])
