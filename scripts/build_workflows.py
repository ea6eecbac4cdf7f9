#!/usr/bin/env python3
"""Write `workflows/*.json` from the graphs described here, with the node definitions of a real ComfyUI.

Run after a node's inputs change: saved widget values are positional, so files written by hand would drift.
"""

import json
from pathlib import Path

from _pack import ROOT, load_pack

load_pack()

from aqueduct.scripts._animation_workflows import animate_along_tracks, animate_svd_mofa, long_clip_chain
from aqueduct.scripts._console import readable_errors, step
from aqueduct.scripts._environment import prepare
from aqueduct.scripts._exemplar_workflows import exemplar_edges, exemplar_host_sdxl, exemplar_mask, exemplar_video
from aqueduct.scripts._graph import Graph
from aqueduct.scripts._motion_workflows import camera_motion, draw_motion, video_motion
from aqueduct.scripts._noise_workflows import warped_noise_any_model
from aqueduct.scripts._restoration_workflows import (
    guided_host_model,
    warped_diffusion_inpaint,
    warped_diffusion_superres,
)
from aqueduct.scripts._server import ComfyServer
from aqueduct.scripts._train_workflows_host import bridge_lora, train_bridge, train_gp_noise, train_saf_lora
from aqueduct.scripts._train_workflows_native import TRAININGS

START = """## From one image to a video

A **bridge** starts from the image itself, repeated for every frame, and walks to a video.
Queue it as it is: model and image come with the pack.

* other digit or motion: *Example Image*, *Motion Class*
* your own image: a *Load Image* node in place of *Example Image*. This small model knows one thing: a light handwritten
  digit on black.
* fewer steps, other solver: *Bridge Times*, *Bridge Sampler*
"""
PRIOR_NOTE = """## A better start: the neural prior

The **neural prior** guesses the whole clip in one step (*Neural prior*). The bridge then starts from the guess instead
of a still and only corrects it (*Video*). *Load Neural Prior* reads a prior from a file of its own or, as here, from
the bridge's file; *Load Bridge Model* also hands out the prior of its file directly.
"""
HOST_NOTE = """## Any image-to-video model as a bridge

*SNR Align* shows the host model, at every bridge state, a state of its own process with the same signal-to-noise ratio.
Files for this graph (all from ComfyUI's Wan 2.1 page):

* `models/diffusion_models/wan2.1_i2v_480p_14B_fp8_scaled.safetensors`
* `models/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors`
* `models/vae/wan_2.1_vae.safetensors`

*Posterior Mean Prior* is the host's own prediction at full noise, a coarse guess of the clip without training; it is
shown as *Coarse guess*. A host that was not fine-tuned takes nothing from the prior: SNR alignment subtracts it
exactly, so the video shows what the host makes of the image (use an image-to-video host). After FrameBridge's
fine-tuning (SAF) the prior counts. SD1.5, SDXL, SVD, LTXV and Flux models go into *SNR Align* the same way.
"""


def sampling(g: Graph, model, bridge, positive, negative, prior, *, cfg: float, steps: int, seed: int):
    """Noise, guider, sampler, times and SamplerCustomAdvanced, as every bridge graph has them."""
    x, y = 1120, 60
    noise = g.add("RandomNoise", (x, y), noise_seed=seed)
    guider = g.add("CFGGuider", (x, y + 160), model=model, positive=positive, negative=negative, cfg=cfg)
    sampler = g.add("AqueductBridgeSampler", (x, y + 350), bridge=bridge, solver="sde")
    times = g.add("AqueductBridgeTimes", (x, y + 520), bridge=bridge, steps=steps)
    return times, g.add(
        "SamplerCustomAdvanced", (x + 360, y + 160), noise=noise[0], guider=guider[0], sampler=sampler[0],
        sigmas=times[0], latent_image=prior,
    )  # fmt: skip


def show(g: Graph, latent, vae, title: str, at, name: str):
    """Decode a clip, enlarge it with hard pixels and save it as an animation."""
    x, y = at
    images = g.add("VAEDecode", (x, y), samples=latent, vae=vae)
    large = g.add("ImageScale", (x, y + 130), image=images[0], upscale_method="nearest-exact", width=256, height=256)
    g.add(
        "SaveAnimatedWEBP", (x, y + 340), images=large[0], title=title, filename_prefix=f"aqueduct/{name}",
        fps=8.0, lossless=True,
    )  # fmt: skip


def example(g: Graph, loader):
    """The example image, brought to the model's size and encoded."""
    image = g.add("AqueductExampleImage", (40, 320), name="digit 3")
    small = g.add("ImageScale", (40, 460), image=image[0], upscale_method="area", width=32, height=32, crop="center")
    return g.add("VAEEncode", (400, 460), pixels=small[0], vae=loader["vae"])


def framebridge(info: dict) -> Graph:
    g = Graph(info)
    g.note(START, (40, -180), (560, 220))
    loader = g.add("AqueductLoadBridgeModel", (40, 90), file="framebridge_digits.safetensors")
    latent = example(g, loader)
    prior = g.add("AqueductReplicatePrior", (760, 420), latent=latent[0], frames=8)
    positive = g.add("AqueductMotionClass", (760, 90), title="Motion", motion="up-right")
    negative = g.add("AqueductMotionClass", (760, 250), title="No motion (for CFG)", motion="none")
    times, sampled = sampling(
        g, loader["model"], loader["bridge"], positive[0], negative[0], prior[0], cfg=1.5, steps=20, seed=1
    )
    curves = g.add("AqueductBridgeCurves", (1480, 480), bridge=loader["bridge"], sigmas=times[0])
    g.add("PreviewImage", (1480, 600), title="Bridge curves", images=curves[0])
    show(g, sampled["output"], loader["vae"], "Video", (1840, 60), "framebridge")
    return g


def framebridge_neural_prior(info: dict) -> Graph:
    g = Graph(info)
    g.note(PRIOR_NOTE, (40, -120), (560, 160))
    loader = g.add("AqueductLoadBridgeModel", (40, 90), file="framebridge_np_digits.safetensors")
    latent = example(g, loader)
    positive = g.add("AqueductMotionClass", (760, 90), title="Motion", motion="left")
    negative = g.add("AqueductMotionClass", (760, 250), title="No motion (for CFG)", motion="none")
    network = g.add("AqueductLoadNeuralPrior", (400, 320), file="framebridge_np_digits.safetensors")
    prior = g.add("AqueductNeuralPrior", (760, 420), prior=network[0], latent=latent[0], conditioning=positive[0])
    _, sampled = sampling(
        g, loader["model"], loader["bridge"], positive[0], negative[0], prior[0], cfg=1.0, steps=10, seed=1
    )
    show(g, prior[0], loader["vae"], "Neural prior", (1480, 480), "neural_prior")
    show(g, sampled["output"], loader["vae"], "Video", (1840, 60), "framebridge_np")
    return g


def snr_align_host_model(info: dict) -> Graph:
    g = Graph(info)
    g.note(HOST_NOTE, (40, -320), (620, 320))
    files = {
        "UNETLoader": {"unet_name": "wan2.1_i2v_480p_14B_fp8_scaled.safetensors"},
        "CLIPLoader": {"clip_name": "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "type": "wan"},
        "VAELoader": {"vae_name": "wan_2.1_vae.safetensors"},
    }
    unet = g.add("UNETLoader", (40, 60), **files["UNETLoader"])
    clip = g.add("CLIPLoader", (40, 220), **files["CLIPLoader"])
    vae = g.add("VAELoader", (40, 400), **files["VAELoader"])
    image = g.add("LoadImage", (40, 530), image="example.png")
    positive = g.add("CLIPTextEncode", (400, 60), title="Positive", clip=clip[0], text="a paper boat drifts on a canal")
    negative = g.add("CLIPTextEncode", (400, 280), title="Negative", clip=clip[0], text="blurry, static, watermark")
    start = g.add(
        "WanImageToVideo", (760, 60), positive=positive[0], negative=negative[0], vae=vae[0], start_image=image[0],
        width=480, height=480, length=33,
    )  # fmt: skip
    bridge = g.add("AqueductBridge", (400, 500), kind="bridge-gmax")
    aligned = g.add("AqueductSNRAlign", (760, 380), model=unet[0], bridge=bridge["bridge"])
    prior = g.add(
        "AqueductPosteriorMeanPrior", (760, 520), model=unet[0], conditioning=start["positive"], latent=start["latent"]
    )
    _, sampled = sampling(
        g, aligned[0], bridge["bridge"], start["positive"], start["negative"], prior[0], cfg=6.0, steps=30, seed=1
    )
    guess = g.add("VAEDecode", (1120, 740), samples=prior[0], vae=vae[0])
    g.add("PreviewImage", (1480, 740), title="Coarse guess", images=guess[0])
    frames = g.add("VAEDecode", (1840, 60), samples=sampled["output"], vae=vae[0])
    video = g.add("CreateVideo", (1840, 190), images=frames[0], fps=16.0)
    g.add("SaveVideo", (1840, 340), title="Video", video=video[0], filename_prefix="aqueduct/snr_align")
    return g


BRIDGES = (framebridge, framebridge_neural_prior, snr_align_host_model, bridge_lora)
MOTIONS = (draw_motion, video_motion, camera_motion)
NOISES = (warped_noise_any_model, warped_diffusion_superres, warped_diffusion_inpaint, guided_host_model)
ANIMATIONS = (animate_along_tracks, animate_svd_mofa, long_clip_chain)
HOST_TRAININGS = (train_bridge, train_saf_lora, train_gp_noise)
EXEMPLARS = (exemplar_edges, exemplar_mask, exemplar_host_sdxl, exemplar_video)


def main() -> None:
    environment = prepare(tools=False)
    with step("Asking ComfyUI for its nodes"), ComfyServer(environment.python, environment.comfyui) as server:
        info = server.object_info()
    for build in BRIDGES + MOTIONS + NOISES + ANIMATIONS + EXEMPLARS + TRAININGS + HOST_TRAININGS:
        path = Path(ROOT) / "workflows" / f"{build.__name__}.json"
        path.write_text(json.dumps(build(info).to_json(), indent=1) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    with readable_errors():
        main()
