"""The workflows of Warped Diffusion: videos restored with image models, and a core model that is guided."""

from ._graph import Graph
from ._motion_workflows import video

SUPERRES_NOTE = """## A video, eight times as large, with an image model

**Warped Diffusion**: an image model restores every frame. Its noise follows the motion of the video (*Gaussian Process
Noise*), and *Warped Diffusion Sampler* pulls each frame's prediction towards the one before, along that motion.
The model comes with the pack; choose a film in *Load Video* (`python3 scripts/demo.py` fetches this one and runs the
graph). With a film of your own, set *Frames* (first frame, how many) and *Size* (multiples of 8).

* *Restored* is Warped Diffusion, *Without* the same model frame by frame: noise of every frame's own, no guidance.
* *Time slice*: one row of every frame, time downwards. Flicker is stripes; what moves smoothly leaves smooth lines.
* *strength* 0 leaves the warped noise alone; *mode* x0 is nearly as fast as no guidance, full is the paper's.
* The motion is measured in the small frames, enlarged: nothing here has seen the large film.

The model is small (2 million weights, trained on 64 x 64 pixels): it shows the method, it is no upscaler of today.
"""
INPAINT_NOTE = """## Take something out of a video, with an image model

White in *Hole* is missing. The image model fills it in every frame; noise that follows the motion and guidance keep
what it invents in place from frame to frame. Choose a film in *Load Video*, and another place for the hole (*Where*; or
paint a mask with *Load Image*). *Size* and the *Solid Mask* called *All* must be the same, in multiples of 8.

* *Without* is the same model frame by frame: what it invents flickers.
* *Time slice*: one row of every frame, time downwards, through the hole.
* The motion is measured in the film as it is. If what you remove moves on its own, draw the motion behind it instead
  (*Track Editor*, *Camera Motion*).
"""
GUIDED_NOTE = """## Any model, guided along the motion

A film is redrawn by Stable Diffusion 1.5, frame by frame: the noise follows the film's motion (*Warp Noise*, which
stays white, as the model expects), and *Equivariance Guidance* pulls every prediction towards the one before, along the
motion. It takes a MODEL (as here) or a GUIDER and leaves sampler, scheduler and the rest as they are: video models
(Wan, LTXV) and bridges are guided the same way. Choose a film in *Load Video*.

File for this graph: `models/checkpoints/v1-5-pruned-emaonly-fp16.safetensors`

* *mode* x0 costs next to nothing. full takes the gradient through the model: about three times the time, and memory for
  all frames at once (fewer frames, or outer, if it does not fit).
* *strength*: raise it (10, 100) if the frames still differ.
* *share*: of the steps that are guided; *end_percent* 0.7 leaves the last, fine steps free.
* *denoise* in *Basic Scheduler*: how much is redrawn.
"""


# file, first frame, frames, (width, height)
SUPERRES_FILM = ("bikes.mp4", 120, 12, (192, 80))
INPAINT_FILM = ("carphone.mp4", 0, 12, (128, 104))
HOLE = {"x": 12, "y": 64, "width": 40, "height": 24}


def film_frames(g: Graph, file: str, first: int, count: int, size: tuple[int, int]):
    film = g.add("LoadVideo", (40, 60), file=file)
    parts = g.add("GetVideoComponents", (40, 430), video=film[0])
    taken = g.add("ImageFromBatch", (40, 570), title="Frames", image=parts["images"], batch_index=first, length=count)
    width, height = size
    return g.add(
        "ImageScale", (40, 730), title="Size", image=taken[0], upscale_method="area", width=width, height=height,
        crop="center",
    )  # fmt: skip


def restored(g: Graph, loader, condition, run, noise, sampler, at):
    """SamplerCustomAdvanced, decoded; ``run``: guider and levels."""
    x, y = at
    guider, sigmas = run
    sampled = g.add(
        "SamplerCustomAdvanced", (x, y), noise=noise[0], guider=guider[0], sampler=sampler[0], sigmas=sigmas[0],
        latent_image=condition["latent"],
    )  # fmt: skip
    return g.add("VAEDecode", (x, y + 180), samples=sampled["output"], vae=loader["vae"])


def compared(g: Graph, loader, condition, motion, at, name: str):
    """The clip by Warped Diffusion and by the same model frame by frame: videos and time slices of both."""
    x, y = at
    run = (
        g.add("BasicGuider", (x + 360, y + 360), model=loader["model"], conditioning=condition["positive"]),
        g.add("BasicScheduler", (x + 360, y + 480), model=loader["model"], scheduler="karras", steps=20, denoise=1.0),
    )
    noise = g.add("AqueductGPNoise", (x, y), motion=motion[0], seed=1)
    sampler = g.add("AqueductWarpedDiffusionSampler", (x, y + 320), motion=motion[0])
    ours = restored(g, loader, condition, run, noise, sampler, (x + 360, y))
    alone = g.add("AqueductGPNoise", (x, y + 720), title="Noise of every frame", seed=1)
    euler = g.add("KSamplerSelect", (x, y + 1040), sampler_name="euler")
    plain = restored(g, loader, condition, run, alone, euler, (x + 360, y + 720))
    for n, (title, images) in enumerate((("Restored", ours), ("Without", plain))):
        large = g.add(
            "ImageScaleBy", (x + 720, y + 720 * n), title=f"{title}, to look at", image=images[0],
            upscale_method="nearest-exact", scale_by=3.0,
        )  # fmt: skip
        video(g, large[0], title, (x + 1080, y + 720 * n), f"{name}_{title.lower()}", 12.0)
        slices = g.add("AqueductTimeSlice", (x + 720, y + 720 * n + 160), images=images[0], title=f"{title}, slice")
        g.add("PreviewImage", (x + 720, y + 720 * n + 340), title=f"Time slice, {title.lower()}", images=slices[0])


def warped_diffusion_superres(info: dict) -> Graph:
    g = Graph(info)
    g.note(SUPERRES_NOTE, (40, -250), (760, 250))
    frames = film_frames(g, *SUPERRES_FILM)
    small = g.add(
        "ImageScaleBy", (40, 950), title="Small", image=frames[0], upscale_method="area", scale_by=0.125
    )
    g.add("PreviewImage", (40, 1100), title="What the model gets", images=small[0])
    large = g.add("ImageScaleBy", (400, 60), title="Enlarged", image=small[0], upscale_method="bicubic", scale_by=8.0)
    motion = g.add("AqueductOpticalFlow", (400, 220), images=large[0])
    loader = g.add("AqueductLoadRestorationModel", (400, 480), file="warped_diffusion_superres_gp.safetensors")
    condition = g.add("AqueductRestorationCondition", (400, 640), model=loader["model"], images=small[0])
    compared(g, loader, condition, motion, (820, 60), "superres")
    return g


def warped_diffusion_inpaint(info: dict) -> Graph:
    g = Graph(info)
    g.note(INPAINT_NOTE, (40, -200), (760, 220))
    frames = film_frames(g, *INPAINT_FILM)
    width, height = INPAINT_FILM[-1]
    empty = g.add("SolidMask", (40, 950), title="All", value=0.0, width=width, height=height)
    spot = g.add("SolidMask", (40, 1130), title="Spot", value=1.0, width=HOLE["width"], height=HOLE["height"])
    hole = g.add(
        "MaskComposite", (400, 840), title="Where", destination=empty[0], source=spot[0], x=HOLE["x"], y=HOLE["y"],
        operation="add",
    )
    g.add("MaskPreview", (400, 1060), title="Hole", mask=hole[0])
    motion = g.add("AqueductOpticalFlow", (400, 60), images=frames[0])
    loader = g.add("AqueductLoadRestorationModel", (400, 480), file="warped_diffusion_inpaint_gp.safetensors")
    condition = g.add(
        "AqueductRestorationCondition", (400, 640), model=loader["model"], images=frames[0], mask=hole[0]
    )
    compared(g, loader, condition, motion, (820, 60), "inpaint")
    return g


def guided_host_model(info: dict) -> Graph:
    g = Graph(info)
    g.note(GUIDED_NOTE, (40, -280), (760, 280))
    frames = film_frames(g, "bikes.mp4", 0, 16, (640, 272))
    motion = g.add("AqueductOpticalFlow", (400, 580), images=frames[0])
    loader = g.add("CheckpointLoaderSimple", (400, 60), ckpt_name="v1-5-pruned-emaonly-fp16.safetensors")
    positive = g.add(
        "CLIPTextEncode", (400, 240), title="Positive", clip=loader["CLIP"], text="an oil painting of a street market"
    )
    negative = g.add("CLIPTextEncode", (400, 400), title="Negative", clip=loader["CLIP"], text="blurry, watermark")
    latent = g.add("VAEEncode", (760, 60), pixels=frames[0], vae=loader["VAE"])
    noise = g.add("AqueductWarpNoise", (760, 190), motion=motion[0], strategy="white", seed=1, renew=0.0)
    guided = g.add(
        "AqueductEquivarianceGuidance", (760, 440), model=loader["MODEL"], motion=motion[0], mode="x0", end_percent=0.7
    )
    guider = g.add(
        "CFGGuider", (1120, 60), model=guided["model"], positive=positive[0], negative=negative[0], cfg=6.0
    )
    sampler = g.add("KSamplerSelect", (1120, 240), sampler_name="dpmpp_2m")
    sigmas = g.add("BasicScheduler", (1120, 370), model=loader["MODEL"], scheduler="karras", steps=20, denoise=0.6)
    sampled = g.add(
        "SamplerCustomAdvanced", (1480, 60), noise=noise[0], guider=guider[0], sampler=sampler[0], sigmas=sigmas[0],
        latent_image=latent[0],
    )  # fmt: skip
    decoded = g.add("VAEDecode", (1480, 260), samples=sampled["output"], vae=loader["VAE"])
    video(g, decoded[0], "Video", (1840, 60), "guided", 16.0)
    slices = g.add("AqueductTimeSlice", (1480, 400), images=decoded[0])
    g.add("PreviewImage", (1480, 600), title="Time slice", images=slices[0])
    return g
