"""Long clips: EMG's autoregressive chain."""

import comfy.model_management as mm
import torch
from comfy_api.latest import io

from ..core.animation import eulerian_chain, window_starts
from ._comfy.chain import STRUCTURES, WindowSampler, check_noise, check_vae
from ._comfy.images import to_clip
from ._comfy.progress import reporter
from ._comfy.schema import CATEGORY, MOTION, Schema

ALL_OR_NONE = "Wire guider, sampler, sigmas, noise and vae, or none of them: then the clip is the warp alone. "


class AqueductEulerianChain(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductEulerianChain",
            display_name="Eulerian Chain",
            category=f"{CATEGORY}/motion",
            description=(
                "Long clips along a motion, window by window over any image-to-video MODEL: each window starts from "
                "the last frame, and from the first one where that can still be seen (EMG, eq. 13)."
            ),
            search_aliases=["long video", "sliding window", "autoregressive", "context window", "eulerian motion"],
            inputs=[
                io.Image.Input("image", tooltip="The first frame (the first image of a batch is taken)"),
                MOTION.Input("motion", tooltip="How the whole clip moves, at the image's size: the clip is as long"),
                io.Guider.Input("guider", optional=True, tooltip=(
                    ALL_OR_NONE + "Its guidance, adapters and start image are aimed at each window"
                )),
                io.Sampler.Input("sampler", optional=True, tooltip=(
                    ALL_OR_NONE + "Bridge models: AqueductBridgeSampler; others: any sampler"
                )),
                io.Sigmas.Input("sigmas", optional=True, tooltip=(
                    ALL_OR_NONE + "The same for every window. With denoise < 1 the structure shows through"
                )),
                io.Noise.Input("noise", optional=True, tooltip=(
                    ALL_OR_NONE + "Window k takes seed + k; noise that follows the motion goes on along it"
                )),
                io.Vae.Input("vae", optional=True, tooltip=ALL_OR_NONE + "The MODEL's"),
                io.Int.Input("window", default=16, min=2, max=4096, tooltip=(
                    "Frames the MODEL makes at once. Shipped animation model: 16; SVD: 14 or 25; Wan: 4 n + 1, up to 81"
                )),
                io.Int.Input("overlap", default=4, min=1, max=4095, tooltip=(
                    "Frames that two windows have in common; the later one fades in. Its first frame is one of them"
                )),
                io.Boolean.Input("anchor", default=True, tooltip=(
                    "Where the first frame can still be seen, windows start from it instead of from what was made of "
                    "it, so that errors do not add up there"
                )),
                io.Combo.Input("structure", options=list(STRUCTURES), default="carried", tooltip=(
                    "What the sampling of a window starts from. carried: its first frame moved along the motion (the "
                    "shipped animation model; hosts with denoise < 1). repeated: its first frame, still (FrameBridge's "
                    "models). start kept: as carried, with the first frame left as it is by a noise mask (LTXV, Wan "
                    "2.2 5B)"
                )),
            ],
            outputs=[io.Image.Output(display_name="images"), io.Mask.Output(display_name="seen")],
        )  # fmt: skip

    @classmethod
    def execute(cls, image, motion, window, overlap, anchor, structure, **sampling):
        first = to_clip(image[:1])[0]
        check_size(first, motion)
        window_starts(motion.frames, window, overlap)
        generate = generator(STRUCTURES[structure], window, first, motion, **sampling)
        motion = motion.bidirectional(reporter())
        report = None if isinstance(generate, WindowSampler) else reporter()
        device = mm.intermediate_device()
        images = torch.empty(motion.frames, *motion.size, len(first), device=device)
        seen = torch.empty(motion.frames, *motion.size, device=device)
        chain = eulerian_chain(first, motion, generate, window, overlap, anchor, report)
        for t, (frame, from_first) in enumerate(chain):
            images[t] = frame.movedim(0, -1)
            seen[t] = from_first
        return io.NodeOutput(images, seen)


def generator(structure, window: int, first, motion, **sampling):
    """What makes a window's frames. Raises ValueError where some of ``sampling`` is wired and some is not."""
    names = ("guider", "sampler", "sigmas", "noise", "vae")
    missing = [name for name in names if sampling.get(name) is None]
    if len(missing) == len(names):
        return lambda window: window.prior
    if missing:
        raise ValueError(f"{', '.join(missing)} is not wired. {ALL_OR_NONE.strip()}")
    check_vae(sampling["vae"], window, *first.shape[-2:])
    check_noise(sampling["noise"], motion)
    return WindowSampler(structure=structure, report=reporter(), **sampling)


def check_size(first, motion) -> None:
    height, width = first.shape[-2:]
    if (height, width) == motion.size:
        return
    alike = abs(width * motion.height - height * motion.width) <= max(height, width)
    raise ValueError(
        f"the image is {width} x {height} pixels, the motion {motion.width} x {motion.height}"
        + (": " if alike else ", another aspect ratio: crop the image (ImageScale with crop center), or ")
        + f"take the motion to {width} x {height} (AqueductResizeMotion)"
    )


NODES = [AqueductEulerianChain]
