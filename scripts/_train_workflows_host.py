"""The workflows that train bridges, from scratch and beside core MODELs, and MODELs on Gaussian-process noise."""

from ._graph import Graph
from ._motion_workflows import video
from ._restoration_workflows import film_frames
from ._train_workflows import dataset, watched

BRIDGE_NOTE = """## Train a bridge from scratch

**FrameBridge**: a bridge from the first frame, repeated, to the clip. With no MODEL wired *Train Bridge* trains a small
network of this pack; here on pixels, from one film, in a few minutes on a CPU. It shows the way rather than a result.

* Your own data: a folder of videos in *Video Dataset* (subfolders are classes), without `images`. Larger pictures: wire
  an image VAE to both nodes, and choose Latte-S/2 on a GPU.
* *Samples*: clips, and below each what the bridge makes of its first frame. *Losses*: every step, and their mean.
* **Stop** whenever you like: queue again and it goes on exactly. Finished with the same inputs, it is found again.
* *Video*: the trained bridge, sampled. The file is in `models/aqueduct`; *Load Bridge Model* lists it after pressing R.

Choose a film in *Load Video* (`python3 scripts/demo.py` fetches this one).
"""
SAF_NOTE = """## Fine-tune Wan to a bridge (SAF)

**SNR-aligned fine-tuning** (FrameBridge, 4.3): a text-to-video MODEL becomes image-to-video. At every state of the
bridge it is shown one of its own process with the same signal-to-noise ratio, and its first layer sees the image too.
What is trained is a LoRA. Files for this graph (all from ComfyUI's Wan 2.1 page), and a GPU:

* `models/diffusion_models/wan2.1_t2v_1.3B_fp16.safetensors` (16 bits: quantised weights have no gradient)
* `models/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors`, `models/vae/wan_2.1_vae.safetensors`

LTXV, SD1.5, SDXL and SVD go in the same way.

* *Video Dataset*: a `folder` of your videos in place of `images`; with *Load CLIP* wired to it, a caption for each.
* *saf* off, for comparison: z_t as it is. *prior_input* off: a plain LoRA, for MODELs that see the image by themselves.
* The file is in `models/loras`: *Load Bridge LoRA* makes the bridge of it; core's *Load LoRA* takes the LoRA alone.
* *Video* is sampled with the trained MODEL: from the first frame of the film, by *Replicate Frame as Prior*.
"""
LORA_NOTE = """## An image to a video with what was trained

*train_saf_lora* leaves `models/loras/my_bridge_lora_00001.safetensors`: the LoRA, the prior's input, the alignment and
the process it was trained for. *Load Bridge LoRA* puts them on the MODEL it was trained on. Files for this graph:

* the LoRA: your own, out of *train_saf_lora* (press R if the list lacks it)
* `models/diffusion_models/wan2.1_t2v_1.3B_fp16.safetensors`, `models/vae/wan_2.1_vae.safetensors`,
  `models/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors`: those it was trained with, from ComfyUI's Wan 2.1 page

The image comes in as the prior alone: encoded, repeated for every frame. *Size* and *frames* as in training; its LATENT
goes to the sampler. No *SNR Align*: the file aligns the MODEL as in training. Text as in training.

* **LTXV**: *Load Checkpoint*, and *Load CLIP* of type ltxv; *temporal_compression* 8, sides in multiples of 32.
* **SD1.5, SDXL**: *Load Checkpoint*; *temporal_compression* 1. The frames are a batch, and the MODEL sees each alone.
* *strength* 0 is the MODEL as it was, aligned: what the training has brought shows beside it.
"""
GP_NOTE = """## Teach a MODEL Gaussian-process noise

**Warped Diffusion**, 4.1: noise that can be carried along any motion is not white, and a MODEL must have learnt it.
Here SDXL does, as a LoRA, from frames of a film; pictures in a folder do as well. A GPU, and
`models/checkpoints/sd_xl_base_1.0.safetensors`.

* *Picture*: the trained MODEL on Gaussian-process noise. *Before*: the MODEL as it was, on the same noise.
* The file is in `models/loras` and holds nothing but the LoRA: core's *Load LoRA* takes it.
* Then: *Gaussian Process Noise* with a motion, or *Warp Noise* with strategy gp, and any sampler.
"""
FILM = "carphone.mp4"


def still_of(g: Graph, film, vae, at: tuple[int, int], *, frames: int, compression: int):
    """z_T: the film's first frame, encoded and repeated."""
    x, y = at
    first = g.add("ImageFromBatch", (x, y), title="First frame", image=film[0], batch_index=0, length=1)
    return repeated(g, first, vae, (x, y + 160), frames=frames, compression=compression)


def repeated(g: Graph, image, vae, at: tuple[int, int], *, frames: int, compression: int):
    """z_T: an image, encoded and repeated."""
    x, y = at
    latent = g.add("VAEEncode", (x, y), pixels=image[0], vae=vae)
    return g.add(
        "AqueductReplicatePrior", (x, y + 140), latent=latent[0], frames=frames, temporal_compression=compression
    )


def bridged(g: Graph, trained, prior, positive, at: tuple[int, int], steps: int, negative=None, cfg: float = 1.0):
    """The trained bridge, sampled."""
    x, y = at
    noise = g.add("RandomNoise", (x, y), noise_seed=1)
    if negative is None:
        guider = g.add("BasicGuider", (x, y + 160), model=trained["model"], conditioning=positive)
    else:
        guider = g.add("CFGGuider", (x, y + 160), model=trained["model"], positive=positive, negative=negative, cfg=cfg)
    sampler = g.add("AqueductBridgeSampler", (x, y + 350), bridge=trained["bridge"], solver="sde")
    times = g.add("AqueductBridgeTimes", (x, y + 520), bridge=trained["bridge"], steps=steps)
    return g.add(
        "SamplerCustomAdvanced", (x + 360, y), noise=noise[0], guider=guider[0], sampler=sampler[0], sigmas=times[0],
        latent_image=prior[0],
    )  # fmt: skip


def train_bridge(info: dict) -> Graph:
    g = Graph(info)
    g.note(BRIDGE_NOTE, (40, -320), (760, 340))
    film = film_frames(g, FILM, 0, 96, (40, 32))
    data = dataset(g, film, (400, 60), width=32, height=32, frames=8)
    trained = g.add(
        "AqueductTrainBridge", (780, 60), dataset=data["dataset"], weight="even", steps=400, batch=8,
        learning_rate=2e-3, sample_every=100, filename_prefix="my_bridge",
    )  # fmt: skip
    watched(g, trained, (1160, 60))
    vae = g.add("VAELoader", (1540, 60), vae_name="pixel_space")
    size = g.add(
        "ImageScale", (1540, 180), title="Square", image=film[0], upscale_method="area", width=32, height=32,
        crop="center",
    )  # fmt: skip
    prior = still_of(g, size, vae[0], (1540, 380), frames=8, compression=1)
    words = g.add("AqueductMotionClass", (1540, 860), title="No class", motion="none")
    sampled = bridged(g, trained, prior, words[0], (1900, 60), steps=20)
    frames = g.add("VAEDecode", (2260, 280), samples=sampled["output"], vae=vae[0])
    large = g.add("ImageScaleBy", (2260, 410), image=frames[0], upscale_method="nearest-exact", scale_by=8.0)
    video(g, large[0], "Video", (2620, 60), "train_bridge", 12.0)
    return g


def train_saf_lora(info: dict) -> Graph:
    g = Graph(info)
    g.note(SAF_NOTE, (40, -320), (760, 340))
    film = film_frames(g, FILM, 0, 99, (320, 256))
    unet = g.add("UNETLoader", (400, 60), unet_name="wan2.1_t2v_1.3B_fp16.safetensors")
    clip = g.add("CLIPLoader", (400, 220), clip_name="umt5_xxl_fp8_e4m3fn_scaled.safetensors", type="wan")
    vae = g.add("VAELoader", (400, 400), vae_name="wan_2.1_vae.safetensors")
    positive = g.add("CLIPTextEncode", (400, 530), title="Positive", clip=clip[0], text="a man talks in a moving car")
    negative = g.add("CLIPTextEncode", (400, 740), title="Negative", clip=clip[0], text="blurry, static, watermark")
    data = dataset(g, film, (780, 60), width=320, height=256, frames=33, vae=vae[0])
    trained = g.add(
        "AqueductTrainBridge", (1160, 60), dataset=data["dataset"], model=unet[0], vae=vae[0],
        conditioning=positive[0], steps=1000, precision="bfloat16", recompute=True, sample_every=250,
        filename_prefix="my_bridge_lora",
    )  # fmt: skip
    watched(g, trained, (1540, 60))
    prior = still_of(g, film, vae[0], (1900, 60), frames=33, compression=4)
    sampled = bridged(g, trained, prior, positive[0], (2260, 60), steps=30, negative=negative[0], cfg=5.0)
    frames = g.add("VAEDecode", (2620, 280), samples=sampled["output"], vae=vae[0])
    video(g, frames[0], "Video", (2980, 60), "train_saf_lora", 16.0)
    return g


def bridge_lora(info: dict) -> Graph:
    g = Graph(info)
    g.note(LORA_NOTE, (40, -350), (760, 370))
    image = g.add("LoadImage", (40, 60), image="example.png")
    size = g.add(
        "ImageScale", (40, 520), title="Size", image=image[0], upscale_method="area", width=320, height=256,
        crop="center",
    )  # fmt: skip
    unet = g.add("UNETLoader", (400, 60), unet_name="wan2.1_t2v_1.3B_fp16.safetensors")
    clip = g.add("CLIPLoader", (400, 220), clip_name="umt5_xxl_fp8_e4m3fn_scaled.safetensors", type="wan")
    vae = g.add("VAELoader", (400, 400), vae_name="wan_2.1_vae.safetensors")
    trained = g.add("AqueductLoadBridgeLoRA", (760, 60), model=unet[0], file="my_bridge_lora_00001.safetensors")
    positive = g.add("CLIPTextEncode", (760, 270), title="Positive", clip=clip[0], text="a man talks in a moving car")
    negative = g.add("CLIPTextEncode", (760, 480), title="Negative", clip=clip[0], text="blurry, static, watermark")
    prior = repeated(g, size, vae[0], (400, 530), frames=33, compression=4)
    sampled = bridged(g, trained, prior, positive[0], (1120, 60), steps=30, negative=negative[0], cfg=5.0)
    frames = g.add("VAEDecode", (1480, 260), samples=sampled["output"], vae=vae[0])
    made = g.add("CreateVideo", (1480, 400), images=frames[0], fps=16.0)
    g.add("SaveVideo", (1840, 60), title="Video", video=made[0], filename_prefix="aqueduct/bridge_lora")
    return g


def train_gp_noise(info: dict) -> Graph:
    g = Graph(info)
    g.note(GP_NOTE, (40, -320), (760, 340))
    film = film_frames(g, FILM, 0, 96, (640, 512))
    loader = g.add("CheckpointLoaderSimple", (400, 60), ckpt_name="sd_xl_base_1.0.safetensors")
    positive = g.add("CLIPTextEncode", (400, 240), title="Positive", clip=loader["CLIP"], text="a man in a car")
    negative = g.add("CLIPTextEncode", (400, 450), title="Negative", clip=loader["CLIP"], text="blurry, watermark")
    data = dataset(g, film, (780, 60), width=640, height=512, frames=1, vae=loader["VAE"])
    trained = g.add(
        "AqueductTrainGPNoise", (1160, 60), model=loader["MODEL"], dataset=data["dataset"], vae=loader["VAE"],
        conditioning=positive[0], steps=1000, precision="bfloat16", recompute=True, sample_every=250,
        filename_prefix="my_gp_noise_lora",
    )  # fmt: skip
    watched(g, trained, (1540, 60))
    noise = g.add("AqueductGPNoise", (1900, 60), seed=1)
    empty = g.add("EmptyLatentImage", (1900, 420), width=640, height=512, batch_size=1)
    sampler = g.add("KSamplerSelect", (1900, 610), sampler_name="euler")
    levels = g.add("BasicScheduler", (1900, 740), model=loader["MODEL"], scheduler="normal", steps=25, denoise=1.0)
    for n, (title, model) in enumerate((("Picture", trained["model"]), ("Before", loader["MODEL"]))):
        y = 60 + 480 * n
        guider = g.add(
            "CFGGuider", (2260, y), title=f"{title}, guider", model=model, positive=positive[0], negative=negative[0],
            cfg=6.0,
        )  # fmt: skip
        sampled = g.add(
            "SamplerCustomAdvanced", (2260, y + 170), title=f"{title}, sampled", noise=noise[0], guider=guider[0],
            sampler=sampler[0], sigmas=levels[0], latent_image=empty[0],
        )  # fmt: skip
        picture = g.add("VAEDecode", (2620, y), samples=sampled["output"], vae=loader["VAE"])
        g.add(
            "SaveImage", (2620, y + 130), title=title, images=picture[0],
            filename_prefix=f"aqueduct/gp_noise_{title.lower()}",
        )  # fmt: skip
    return g
