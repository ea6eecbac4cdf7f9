"""The workflows of noise that follows a motion."""

from ._graph import Graph
from ._motion_workflows import video

ANY_NOTE = """## Noise that moves like a film, in any model

*Optical Flow* measures how the film moves; *Warp Noise* lets one draw of noise move along. Every frame's noise stays
white, so any model takes it, and the motion of the noise leads the motion of the video.
Files for this graph (all from ComfyUI's Wan 2.1 page):

* `models/diffusion_models/wan2.1_i2v_480p_14B_fp8_scaled.safetensors`
* `models/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors`
* `models/vae/wan_2.1_vae.safetensors`

* *renew* lets the model decide more: 0 follows the film closely, 1 is ordinary noise.
* *Noise Report* says whether the noise is white and whether it follows.
* *Gaussian Process Noise* (muted) is Warped Diffusion's own, for models that were trained on it.
* The motion may as well be drawn (*Track Editor*) or a camera's (*Camera Motion*).
"""
FRAMES = 33


def warped_noise_any_model(info: dict) -> Graph:
    g = Graph(info)
    g.note(ANY_NOTE, (40, -460), (640, 360))
    film = g.add("LoadVideo", (40, -60), file="bikes.mp4")
    parts = g.add("GetVideoComponents", (40, 320), video=film[0])
    taken = g.add("ImageFromBatch", (40, 470), title="Frames", image=parts["images"], batch_index=0, length=FRAMES)
    frames = g.add(
        "ImageScale", (40, 630), title="Size", image=taken[0], upscale_method="area", width=480, height=480,
        crop="center",
    )  # fmt: skip
    first = g.add("ImageFromBatch", (40, 840), title="First frame", image=frames[0], batch_index=0, length=1)
    motion = g.add("AqueductOpticalFlow", (400, 560), images=frames[0])
    noise = g.add("AqueductWarpNoise", (760, 560), motion=motion[0], strategy="white", seed=1, renew=0.1)
    g.add("AqueductGPNoise", (760, 800), muted=True, motion=motion[0], seed=1)
    unet = g.add("UNETLoader", (400, -60), unet_name="wan2.1_i2v_480p_14B_fp8_scaled.safetensors")
    clip = g.add("CLIPLoader", (400, 100), clip_name="umt5_xxl_fp8_e4m3fn_scaled.safetensors", type="wan")
    vae = g.add("VAELoader", (400, 290), vae_name="wan_2.1_vae.safetensors")
    positive = g.add("CLIPTextEncode", (760, -60), title="Positive", clip=clip[0], text="a street seen from above")
    negative = g.add("CLIPTextEncode", (760, 160), title="Negative", clip=clip[0], text="blurry, static, watermark")
    start = g.add(
        "WanImageToVideo", (1120, -60), positive=positive[0], negative=negative[0], vae=vae[0], start_image=first[0],
        width=480, height=480, length=FRAMES,
    )  # fmt: skip
    guider = g.add(
        "CFGGuider", (1120, 260), model=unet[0], positive=start["positive"], negative=start["negative"], cfg=6.0
    )
    sampler = g.add("KSamplerSelect", (1120, 440), sampler_name="euler")
    times = g.add("BasicScheduler", (1120, 570), model=unet[0], scheduler="simple", steps=20, denoise=1.0)
    sampled = g.add(
        "SamplerCustomAdvanced", (1480, 90), noise=noise[0], guider=guider[0], sampler=sampler[0], sigmas=times[0],
        latent_image=start["latent"],
    )  # fmt: skip
    report = g.add("AqueductNoiseReport", (1120, 760), noise=noise[0], latent=start["latent"], motion=motion[0])
    g.add("PreviewImage", (1480, 760), title="Report", images=report["picture"])
    decoded = g.add("VAEDecode", (1480, 290), samples=sampled["output"], vae=vae[0])
    video(g, decoded[0], "Video", (1840, 90), "warped_noise", 16.0)
    return g
