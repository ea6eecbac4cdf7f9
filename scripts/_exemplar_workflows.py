"""The workflows of EBDM: edges and masks in the style of exemplars, a core model by reference, a styled video."""

from ._graph import Graph
from ._motion_workflows import video
from ._restoration_workflows import film_frames

EDGES_NOTE = """## Edges in, a picture in the style of an exemplar out

**EBDM**: a bridge from a control image (here the *Canny* edges of the photo) to a picture; all it is told besides is an
exemplar, which says what things look like. It runs as it is: model and exemplars come with the pack.

* Four exemplars, four pictures: *Exemplar Encode* takes them as a batch, one for each picture of the LATENT.
* Other exemplars: *Load Image* in place of *Example Image*, 32 pixels or so (*Upscale Image*; at most 128 x 128).
* *Control Prior* can find the edges itself (*canny*); here the core node does it. *Size*: multiples of 8.
* *strength* of *Apply Exemplar* 0: the bridge without any exemplar, which invents a look.

The model is small (2 million weights, trained on 32 x 32 pixels: scenes of simple shapes, and crops of pictures): it
shows the method on any CPU.
"""
MASK_NOTE = """## Classes in, two exemplars, each in its place

The control is a mask map: a colour for each kind of thing. It says *what* is where, the exemplars say how each kind of
thing looks: a star in the map gets the texture of the stars in the exemplar, wherever those stand.

* Two *Apply Exemplar* in a row, each with a mask: *Left* takes after one exemplar, *Right* after the other. Where masks
  overlap, exemplars share.
* *Left alone* is the same graph with one exemplar and no mask.
* Other scenes: *Example Image*; the number of a mask map is that of its scene.
"""
HOST_NOTE = """## Stable Diffusion XL in the style of a picture, without training

For a MODEL that was not made for exemplars, *Apply Exemplar* is reference attention: the MODEL looks at the exemplar
itself, and its self-attention attends to what it saw there. It goes onto SD1.5, SDXL, Wan and LTXV, with any sampler.

File for this graph: `models/checkpoints/sd_xl_base_1.0.safetensors`. Choose your exemplar in *Exemplar*.

* *strength*: 1 attends to the exemplar as to the picture itself; 0 is the MODEL as it is, to the bit.
* *blocks*: empty is all; "output 3-5" (the middle resolution of the decoder) takes colours and textures and less of the
  exemplar's content.
* *end_percent* 0.6 leaves the last steps to the MODEL; *positive_only* lets CFG strengthen the exemplar.
* *each_step*: the exemplar is looked at anew at each noise level, at twice the time.
* *mask*: where in the picture it acts. On *Exemplar Encode*: which part of the exemplar counts.
"""
VIDEO_NOTE = """## A film in the style of a picture: all four papers in one graph

* **EBDM**: the bridge goes from the edges of each frame to a picture; one exemplar holds for all frames.
* **Warped Diffusion**: *Warp Noise* is one draw of noise that moves with the film.
* **EMG**: *Geometric Consistency* pulls neighbouring frames together along the motion, wherever its cycle closes.
* **FrameBridge**: *Bridge Sampler* and *Bridge Times* walk from the prior to the clip. Solver ode: it draws noise once,
  at the start, so the noise that moves is all the noise there is.

*Without* is the same model with noise of every frame's own and no guidance. *Time slice*: one row of every frame, time
downwards; flicker is stripes. Choose a film in *Load Video* (`python3 scripts/demo.py` fetches this one).
"""
MODEL = "exemplar_scenes.safetensors"
PHOTO, SIDE, SCENES = "example.png", 128, ("scene 1", "scene 2", "scene 3", "scene 4")
FILM = ("carphone.mp4", 0, 12, (160, 128))


def scenes(g: Graph, names, at):
    """Example scenes as one batch."""
    x, y = at
    batch = None
    for n, name in enumerate(names):
        one = g.add("AqueductExampleImage", (x, y + 120 * n), title=f"Exemplar {n + 1}", name=name)
        batch = one if batch is None else g.add("ImageBatch", (x + 360, y + 120 * n), image1=batch[0], image2=one[0])
    return batch


def walk(g: Graph, loader, at, *, steps: int, solver: str):
    """Condition, sampler and times of the shipped bridge, for all runs of a graph."""
    x, y = at
    return (
        g.add("AqueductMotionClass", (x, y), title="No class", motion="none"),
        g.add("AqueductBridgeSampler", (x, y + 140), bridge=loader["bridge"], solver=solver),
        g.add("AqueductBridgeTimes", (x, y + 300), bridge=loader["bridge"], steps=steps),
    )


def bridged(g: Graph, model, loader, prior, walked, noise, at):
    """SamplerCustomAdvanced over the shipped bridge, decoded."""
    (x, y), (words, sampler, times) = at, walked
    guider = g.add("BasicGuider", (x, y), model=model, conditioning=words[0])
    sampled = g.add(
        "SamplerCustomAdvanced", (x, y + 130), noise=noise[0], guider=guider[0], sampler=sampler[0], sigmas=times[0],
        latent_image=prior,
    )  # fmt: skip
    return g.add("VAEDecode", (x, y + 320), samples=sampled["output"], vae=loader["vae"])


def kept(g: Graph, images, title: str, at, name: str, factor: float):
    x, y = at
    large = g.add(
        "ImageScaleBy", (x, y), title=f"{title}, to look at", image=images, upscale_method="nearest-exact",
        scale_by=factor,
    )  # fmt: skip
    return g.add("SaveImage", (x, y + 160), title=title, images=large[0], filename_prefix=f"aqueduct/{name}")


def exemplar_edges(info: dict) -> Graph:
    g = Graph(info)
    g.note(EDGES_NOTE, (40, -300), (760, 310))
    photo = g.add("LoadImage", (40, 60), image=PHOTO)
    sized = g.add(
        "ImageScale", (40, 520), title="Size", image=photo[0], upscale_method="area", width=SIDE, height=SIDE,
        crop="center",
    )  # fmt: skip
    edges = g.add("Canny", (40, 720), image=sized[0], low_threshold=0.4, high_threshold=0.8)
    loader = g.add("AqueductLoadBridgeModel", (400, 60), file=MODEL)
    control = g.add("AqueductControlPrior", (400, 300), image=edges[0], vae=loader["vae"])
    g.add("PreviewImage", (400, 560), title="Control", images=control["control"])
    batch = scenes(g, SCENES, (760, 60))
    shown = g.add("AqueductExemplarEncode", (1120, 560), image=batch[0], vae=loader["vae"])
    styled = g.add("AqueductApplyExemplar", (1120, 740), model=loader["model"], exemplar=shown[0])
    four = g.add("RepeatLatentBatch", (1480, 720), samples=control["latent"], amount=len(SCENES))
    walked = walk(g, loader, (1480, 60), steps=5, solver="bbdm")
    noise = g.add("RandomNoise", (1480, 560), noise_seed=1)
    pictures = bridged(g, styled[0], loader, four[0], walked, noise, (1840, 60))
    kept(g, pictures[0], "Pictures", (2200, 60), "exemplar_edges", 3.0)
    g.add("PreviewImage", (2200, 520), title="Exemplars", images=batch[0])
    return g


def half(g: Graph, title: str, x_from: int, at, side: int):
    """A mask that is one on half of a square picture."""
    x, y = at
    nothing = g.add("SolidMask", (x, y), title=f"{title}: none", value=0.0, width=side, height=side)
    strip = g.add("SolidMask", (x, y + 180), title=f"{title}: half", value=1.0, width=side // 2, height=side)
    return g.add(
        "MaskComposite", (x, y + 360), title=title, destination=nothing[0], source=strip[0], x=x_from, y=0,
        operation="add",
    )  # fmt: skip


def exemplar_mask(info: dict) -> Graph:
    g = Graph(info)
    side = 64
    g.note(MASK_NOTE, (40, -240), (760, 250))
    classes = g.add("AqueductExampleImage", (40, 60), title="Mask map", name="mask map 1")
    loader = g.add("AqueductLoadBridgeModel", (40, 200), file=MODEL)
    control = g.add("AqueductControlPrior", (40, 440), image=classes[0], vae=loader["vae"])
    g.add("PreviewImage", (40, 700), title="Control", images=control["control"])
    model, first = loader, None
    for n, (name, title, x_from) in enumerate((("scene 2", "Left", 0), ("scene 4", "Right", side // 2))):
        x = 400 + 360 * n
        scene = g.add("AqueductExampleImage", (x, 60), title=f"Exemplar, {title.lower()}", name=name)
        shown = g.add("AqueductExemplarEncode", (x, 200), image=scene[0], vae=loader["vae"])
        mask = half(g, title, x_from, (x, 730), side)
        first = first or shown
        model = g.add(
            "AqueductApplyExemplar", (x, 380), title=f"Apply, {title.lower()}", model=model[0], exemplar=shown[0],
            mask=mask[0],
        )  # fmt: skip
    walked = walk(g, loader, (1140, 60), steps=5, solver="bbdm")
    noise = g.add("RandomNoise", (1140, 560), noise_seed=1)
    both = bridged(g, model[0], loader, control["latent"], walked, noise, (1500, 60))
    kept(g, both[0], "Both", (1840, 60), "exemplar_mask", 5.0)
    alone = g.add(
        "AqueductApplyExemplar", (1140, 720), title="Apply, everywhere", model=loader["model"], exemplar=first[0]
    )
    one = bridged(g, alone[0], loader, control["latent"], walked, noise, (1500, 720))
    kept(g, one[0], "Left alone", (1840, 720), "exemplar_mask_alone", 5.0)
    return g


def exemplar_host_sdxl(info: dict) -> Graph:
    g = Graph(info)
    g.note(HOST_NOTE, (40, -300), (760, 310))
    loader = g.add("CheckpointLoaderSimple", (40, 60), ckpt_name="sd_xl_base_1.0.safetensors")
    picture = g.add("LoadImage", (40, 240), title="Exemplar", image=PHOTO)
    sized = g.add(
        "ImageScale", (40, 700), title="Size", image=picture[0], upscale_method="lanczos", width=1024, height=1024,
        crop="center",
    )  # fmt: skip
    shown = g.add("AqueductExemplarEncode", (400, 60), image=sized[0], vae=loader["VAE"])
    styled = g.add(
        "AqueductApplyExemplar", (400, 240), model=loader["MODEL"], exemplar=shown[0], end_percent=0.8
    )
    positive = g.add(
        "CLIPTextEncode", (400, 590), title="Positive", clip=loader["CLIP"], text="a lighthouse on a cliff by the sea"
    )
    negative = g.add("CLIPTextEncode", (400, 760), title="Negative", clip=loader["CLIP"], text="blurry, watermark")
    empty = g.add("EmptyLatentImage", (780, 590), width=1024, height=1024, batch_size=1)
    for n, (title, model) in enumerate((("Styled", styled[0]), ("Without", loader["MODEL"]))):
        sampled = g.add(
            "KSampler", (1160, 60 + 480 * n), title=title + ", sampled", model=model, positive=positive[0],
            negative=negative[0], latent_image=empty[0], seed=1, steps=25, cfg=6.0, sampler_name="dpmpp_2m",
            scheduler="karras",
        )  # fmt: skip
        decoded = g.add("VAEDecode", (1500, 60 + 480 * n), samples=sampled[0], vae=loader["VAE"])
        g.add(
            "SaveImage", (1500, 190 + 480 * n), title=title, images=decoded[0],
            filename_prefix=f"aqueduct/exemplar_{title.lower()}",
        )  # fmt: skip
    return g


def exemplar_video(info: dict) -> Graph:
    g = Graph(info)
    g.note(VIDEO_NOTE, (40, -280), (760, 290))
    frames = film_frames(g, *FILM)
    edges = g.add("Canny", (40, 950), image=frames[0], low_threshold=0.2, high_threshold=0.5)
    motion = g.add("AqueductOpticalFlow", (400, 60), images=frames[0])
    loader = g.add("AqueductLoadBridgeModel", (400, 320), file=MODEL)
    control = g.add("AqueductControlPrior", (400, 560), image=edges[0], vae=loader["vae"])
    g.add("PreviewImage", (400, 820), title="Control", images=control["control"])
    scene = g.add("AqueductExampleImage", (760, 60), title="Exemplar", name="scene 4")
    shown = g.add("AqueductExemplarEncode", (760, 200), image=scene[0], vae=loader["vae"])
    styled = g.add("AqueductApplyExemplar", (760, 380), model=loader["model"], exemplar=shown[0])
    guided = g.add("AqueductGeometricConsistency", (760, 730), model=styled[0], motion=motion[0])
    noise = g.add("AqueductWarpNoise", (760, 1090), motion=motion[0], strategy="white", seed=1, renew=0.0)
    fresh = g.add("RandomNoise", (1140, 720), title="Noise of every frame", noise_seed=1)
    walked = walk(g, loader, (1140, 60), steps=5, solver="ode")
    ours = bridged(g, guided["model"], loader, control["latent"], walked, noise, (1500, 60))
    plain = bridged(g, styled[0], loader, control["latent"], walked, fresh, (1500, 720))
    for n, (title, images) in enumerate((("Video", ours), ("Without", plain))):
        large = g.add(
            "ImageScaleBy", (1840, 60 + 900 * n), title=f"{title}, to look at", image=images[0],
            upscale_method="nearest-exact", scale_by=3.0,
        )  # fmt: skip
        video(g, large[0], title, (1840, 220 + 900 * n), f"exemplar_{title.lower()}", 12.0)
        slices = g.add("AqueductTimeSlice", (2200, 60 + 900 * n), images=images[0], title=f"{title}, slice")
        g.add("PreviewImage", (2200, 240 + 900 * n), title=f"Time slice, {title.lower()}", images=slices[0])
    return g
