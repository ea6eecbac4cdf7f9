"""The workflows of EMG: a photo animated along drawn tracks, the same with SVD and MOFA-Video's adapter, long clips."""

from ._graph import Graph
from ._motion_workflows import document, video

TRACKS_NOTE = """## Animate a photo along drawn tracks

Draw in the *Track Editor*; the motion adapter makes a frozen image-to-video model follow (EMG). It runs as it is: the
model comes with the pack.

* *Motion from Tracks* spreads the tracks by a formula, *radius* in pixels of the small picture. Wire the other output
  of *Load Motion Adapter* to *network*, and a learned one does it.
* *Frames* of the *Track Editor* stay at 16, the model makes no other length; for more there is `long_clip_chain`. The
  tracks are for this picture: draw your own on yours.
* *Apply Motion Adapter*, *strength* 0: the model without the adapter, which moves things as it likes.
* *Video* is the model's, *Pure warp* the photo carried along, without any model: look at what comes into view.

The model is small (2.5 million weights, trained at 64 x 64 pixels; multiples of 8 run): it shows the method on any CPU,
mends what the warp smears, and hardly invents. For real photos at full size there is `animate_svd_mofa`.
"""
SVD_NOTE = """## Stable Video Diffusion along drawn tracks (MOFA-Video)

Files for this graph:

* `models/checkpoints/svd_xt.safetensors`: Stable Video Diffusion for 25 frames (stable-video-diffusion-img2vid-xt)
* `models/aqueduct/mofa_controlnet.safetensors`: MOFA-Video's trajectory adapter (MyNiuuu/MOFA-Video-Traj, its
  `controlnet/diffusion_pytorch_model.safetensors`, 1.4 GB; give it any name and choose it)
* `models/aqueduct/ckpt_iter_42000.pth.tar`: CMP, its sparse-to-dense network (same place)

Draw in the *Track Editor*. CMP guesses how the rest moves from the tracks and the picture; unwire *network* and the
*densifier* does it by a formula. *Size*: 512 x 320 to 768 x 512, multiples of 64.
"""
CHAIN_NOTE = """## A hundred frames, in windows of sixteen

EMG's chain (eq. 13): every window starts from the last frame of the one before, carried along the motion; where the
first frame is still in view, its own pixels are used (*anchor*), so nothing drifts there.

* *Video* is the chain with the shipped model and its motion adapter, *Pure warp* the same chain without any model.
* White in *Seen since the start*: what the first frame shows; black: what the model has made up.
* *Metrics*: likeness to the first frame, sharpness and error along the motion, frame by frame.
* The chain re-aims whatever follows the motion at each window: the adapter, guidance, warped noise, and the start image
  of image-to-video models (SVD, Wan). Memory does not grow with the number of frames.
"""

SWING = [
    {"name": "left ear", "points": [[0.20, 0.10], [0.12, 0.19], [0.10, 0.30]], "ease": "in-out"},
    {"name": "right ear", "points": [[0.81, 0.10], [0.89, 0.19], [0.92, 0.30]], "ease": "in-out"},
    {"name": "left hand", "points": [[0.28, 0.482], [0.28, 0.40], [0.33, 0.33]], "ease": "in-out"},
    {"name": "right hand", "points": [[0.75, 0.465], [0.78, 0.52], [0.75, 0.60]], "ease": "in-out"},
    {"name": "face", "points": [[0.50, 0.31]]},
    {"name": "waist", "points": [[0.49, 0.62]]},
]
GROUND = [{"points": [[0.05, 0.85], [0.95, 0.85]], "radius": 0.1, "erase": False}]
MODEL, SIDE, WINDOW = "animate_photos.safetensors", 64, 16


def small_photo(g: Graph, at=(40, 60)):
    """The photo at the shipped model's size."""
    x, y = at
    photo = g.add("LoadImage", (x, y), image="example.png")
    return g.add(
        "ImageScale", (x, y + 460), title="Size", image=photo[0], upscale_method="area", width=SIDE, height=SIDE,
        crop="center",
    )  # fmt: skip


def shown(g: Graph, images, title: str, at, name: str) -> None:
    """A small clip, enlarged and saved."""
    x, y = at
    large = g.add(
        "ImageScaleBy", (x, y), title=f"{title}, to look at", image=images, upscale_method="bicubic", scale_by=5.0
    )
    video(g, large[0], title, (x, y + 160), name, 10.0)


def bridge_run(g: Graph, model, bridge, at, steps: int):
    """(guider, sampler, sigmas) of the shipped bridge."""
    x, y = at
    words = g.add("AqueductMotionClass", (x, y), title="No class", motion="none")
    guider = g.add("BasicGuider", (x, y + 140), model=model, conditioning=words[0])
    sampler = g.add("AqueductBridgeSampler", (x, y + 280), bridge=bridge)
    times = g.add("AqueductBridgeTimes", (x, y + 460), bridge=bridge, steps=steps)
    return guider, sampler, times


def animate_along_tracks(info: dict) -> Graph:
    g = Graph(info)
    g.note(TRACKS_NOTE, (40, -260), (700, 270))
    small = small_photo(g)
    drawn = g.add(
        "AqueductTrackEditor", (400, 60), box=(420, 620), image=small[0], frames=WINDOW,
        document=document(SWING, GROUND),
    )  # fmt: skip
    loader = g.add("AqueductLoadBridgeModel", (40, 740), file=MODEL)
    adapter = g.add("AqueductLoadMotionAdapter", (40, 980), file=MODEL)
    motion = g.add(
        "AqueductMotionFromTracks", (860, 60), image=small[0], tracks=drawn["tracks"], pinned=drawn["pinned"],
        densifier="gaussian", radius=9.0,
    )  # fmt: skip
    adapted = g.add(
        "AqueductApplyMotionAdapter", (860, 580), model=loader["model"], adapter=adapter["adapter"], motion=motion[0],
        image=small[0],
    )  # fmt: skip
    warped = g.add("AqueductAdvect", (860, 860), image=small[0], motion=motion[0])
    prior = g.add("VAEEncode", (1220, 880), title="Start: carried photo", pixels=warped["images"], vae=loader["vae"])
    guider, sampler, times = bridge_run(g, adapted[0], loader["bridge"], (1220, 60), 12)
    noise = g.add("RandomNoise", (1220, 700), noise_seed=1)
    sampled = g.add(
        "SamplerCustomAdvanced", (1580, 60), noise=noise[0], guider=guider[0], sampler=sampler[0], sigmas=times[0],
        latent_image=prior[0],
    )  # fmt: skip
    images = g.add("VAEDecode", (1580, 280), samples=sampled["output"], vae=loader["vae"])
    shown(g, images[0], "Video", (1940, 60), "animate")
    shown(g, warped["images"], "Pure warp", (1940, 740), "animate_warp")
    g.add("AqueductMotionPreview", (1580, 440), title="Arrows", motion=motion[0], images=images[0], style="arrows")
    return g


def animate_svd_mofa(info: dict) -> Graph:
    g = Graph(info)
    g.note(SVD_NOTE, (40, -240), (760, 250))
    svd = g.add("ImageOnlyCheckpointLoader", (40, 60), title="SVD", ckpt_name="svd_xt.safetensors")
    photo = g.add("LoadImage", (40, 260), image="example.png")
    sized = g.add(
        "ImageScale", (40, 720), title="Size", image=photo[0], upscale_method="lanczos", width=512, height=512,
        crop="center",
    )  # fmt: skip
    drawn = g.add(
        "AqueductTrackEditor", (400, 60), box=(420, 620), image=sized[0], frames=25, document=document(SWING, GROUND)
    )
    control = g.add("AqueductLoadMotionAdapter", (400, 740), title="MOFA", file="mofa_controlnet.safetensors")
    cmp = g.add("AqueductLoadMotionAdapter", (400, 920), title="CMP", file="ckpt_iter_42000.pth.tar")
    motion = g.add(
        "AqueductMotionFromTracks", (860, 60), image=sized[0], tracks=drawn["tracks"], pinned=drawn["pinned"],
        network=cmp["densifier"],
    )  # fmt: skip
    adapted = g.add(
        "AqueductApplyMotionAdapter", (860, 580), model=svd["MODEL"], adapter=control["adapter"], motion=motion[0],
        image=sized[0],
    )  # fmt: skip
    linear = g.add("VideoLinearCFGGuidance", (1220, 60), model=adapted[0], min_cfg=1.0)
    start = g.add(
        "SVD_img2vid_Conditioning", (1220, 220), clip_vision=svd["CLIP_VISION"], init_image=sized[0], vae=svd["VAE"],
        width=512, height=512, video_frames=25, motion_bucket_id=127, fps=7, augmentation_level=0.02,
    )  # fmt: skip
    sampled = g.add(
        "KSampler", (1580, 60), model=linear[0], positive=start["positive"], negative=start["negative"],
        latent_image=start["latent"], seed=1, steps=25, cfg=3.0, sampler_name="euler", scheduler="karras",
    )  # fmt: skip
    images = g.add("VAEDecode", (1580, 460), samples=sampled[0], vae=svd["VAE"])
    video(g, images[0], "Video", (1940, 60), "svd_mofa", 7.0)
    g.add("AqueductMotionPreview", (1220, 580), title="Arrows", motion=motion[0], images=sized[0], style="arrows")
    return g


def long_clip_chain(info: dict) -> Graph:
    g = Graph(info)
    g.note(CHAIN_NOTE, (40, -240), (760, 250))
    small = small_photo(g)
    loader = g.add("AqueductLoadBridgeModel", (40, 740), file=MODEL)
    adapter = g.add("AqueductLoadMotionAdapter", (40, 980), file=MODEL)
    camera = g.add("AqueductCameraMotion", (400, 60), image=small[0], frames=100, pan_x=-0.1, zoom=1.15, roll=4.0)
    adapted = g.add(
        "AqueductApplyMotionAdapter", (760, 60), model=loader["model"], adapter=adapter["adapter"], motion=camera[0],
        image=small[0],
    )  # fmt: skip
    guider, sampler, times = bridge_run(g, adapted[0], loader["bridge"], (760, 340), 8)
    noise = g.add("RandomNoise", (760, 980), noise_seed=1)
    chain = g.add(
        "AqueductEulerianChain", (1120, 60), image=small[0], motion=camera[0], guider=guider[0], sampler=sampler[0],
        sigmas=times[0], noise=noise[0], vae=loader["vae"], window=WINDOW, overlap=4, structure="carried",
    )  # fmt: skip
    shown(g, chain["images"], "Video", (1480, 60), "long_clip")
    warped = g.add("AqueductEulerianChain", (1120, 500), title="Pure warp, chained", image=small[0], motion=camera[0])
    shown(g, warped["images"], "Pure warp", (1480, 740), "long_clip_warp")
    seen = g.add("MaskToImage", (1840, 60), mask=chain["seen"])
    shown(g, seen[0], "Seen since the start", (1840, 180), "long_clip_seen")
    metrics = g.add("AqueductVideoMetrics", (1120, 940), images=chain["images"], motion=camera[0])
    g.add("PreviewImage", (1840, 740), title="Metrics", images=metrics["plot"])
    return g
