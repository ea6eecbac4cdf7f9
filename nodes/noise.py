"""Noise that flows: Gaussian fields and warped noise as core NOISE, and a look at any NOISE."""

from comfy_api.latest import io

from ..core.noise import STRATEGIES, GaussianField, drawn, finest_length_scale, noise_statistics, warp_noise
from ..core.noise.draws import FIRST
from ..core.plots.noise import noise_picture
from ._comfy.images import latent_frames
from ._comfy.noise import SPECTRA, Fields, MotionNoise, layout_of, motion_for
from ._comfy.progress import reporter
from ._comfy.schema import CATEGORY, MOTION, Schema

SEED = {"default": 0, "min": 0, "max": 0xFFFFFFFFFFFFFFFF, "control_after_generate": True}
RENEW_TOOLTIP = (
    "Share of the noise that is drawn anew in every frame, 0 (all follows the motion) to 1 (none does); the variance "
    "stays 1. No unit"
)
RENEW_MASK_TOOLTIP = "Where it is renewed: multiplies renew, at any size, one for all frames or one per frame"


class AqueductWarpNoise(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductWarpNoise",
            display_name="Warp Noise",
            category=f"{CATEGORY}/noise",
            description="NOISE that moves with the picture, for any sampler: one draw, carried along a motion.",
            search_aliases=["warped noise", "go with the flow", "temporal noise", "how i warped your noise"],
            inputs=[
                MOTION.Input("motion", tooltip=(
                    "How the frames move, at the video's size; with temporal compression (Wan, LTXV) of all video "
                    "frames. It is composed and resized for the LATENT"
                )),
                io.Mask.Input("renew_mask", optional=True, tooltip=RENEW_MASK_TOOLTIP),
                io.Combo.Input("strategy", options=list(STRATEGIES), default="white", tooltip=(
                    "white: stays white noise in every frame, for any model. gp: Warped Diffusion's Gaussian field, "
                    "for models trained on it. fixed, resample, nearest, bilinear: the paper's baselines; nearest and "
                    "bilinear are not white, and bilinear loses variance"
                )),
                io.Int.Input("seed", **SEED, tooltip="The same seed gives the same noise, on every device"),
                io.Float.Input("renew", default=0.0, min=0.0, max=1.0, step=0.01, tooltip=RENEW_TOOLTIP),
            ],
            outputs=[io.Noise.Output(display_name="noise")],
        )  # fmt: skip

    @classmethod
    def execute(cls, motion, strategy, seed, renew, renew_mask=None):
        motion = motion.bidirectional(reporter())

        def source(channels, moving, of):
            if strategy == "gp":
                return GaussianField(of, channels, finest_length_scale(*moving.size))
            return drawn((channels, *moving.size), of, FIRST)

        def carried(how):
            return lambda channels, moving, of: warp_noise(source(channels, moving, of), moving, how, of, reporter())

        return io.NodeOutput(MotionNoise(seed, motion, carried(strategy), carried("resample"), renew, renew_mask))


class AqueductGPNoise(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductGPNoise",
            display_name="Gaussian Process Noise",
            category=f"{CATEGORY}/noise",
            description=(
                "NOISE of Warped Diffusion: a Gaussian field on the whole plane, read where the motion leads, never "
                "interpolated. It is not white (neighbours correlate 0.34): the model must be trained on it."
            ),
            search_aliases=["random fourier features", "GP noise", "warped diffusion noise"],
            inputs=[
                MOTION.Input("motion", optional=True, tooltip=(
                    "How the frames move, at the video's size. Without it every frame has a field of its own"
                )),
                io.Mask.Input("renew_mask", optional=True, tooltip=RENEW_MASK_TOOLTIP),
                io.Int.Input("seed", **SEED, tooltip="The same seed gives the same field, on every device"),
                io.Float.Input("length_scale", default=0.0, min=0.0, max=1000.0, step=0.01, tooltip=(
                    "Of the covariance, latent pixels; 0 takes the shortest the grid can hold. The paper's is that: "
                    "2 / pi = 0.64"
                )),
                io.Int.Input("features", default=3000, min=0, max=1_000_000, tooltip=(
                    "Random waves. Warped Diffusion: 3000, which is low-rank at 128 x 128; 0 is an error unless "
                    "full_rank is on"
                )),
                io.Boolean.Input("full_rank", default=False, tooltip=(
                    "One wave for every cell of the frequency plane in place of random ones: no rank defect"
                )),
                io.Combo.Input("spectrum", options=list(SPECTRA), default="truncated normal", tooltip=(
                    "truncated normal: the paper's. flat: white at rest and under translation, with the same bounds"
                )),
                io.Float.Input("renew", default=0.0, min=0.0, max=1.0, step=0.01, tooltip=RENEW_TOOLTIP),
            ],
            outputs=[io.Noise.Output(display_name="noise")],
        )  # fmt: skip

    @classmethod
    def execute(cls, seed, length_scale, features, full_rank, spectrum, renew, motion=None, renew_mask=None):
        fields = Fields(length_scale, features, full_rank, spectrum)
        if motion is None:
            return io.NodeOutput(fields.still(seed))
        motion = motion.bidirectional(reporter())
        return io.NodeOutput(fields.moving(seed, motion, renew, renew_mask, reporter))


class AqueductNoiseReport(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductNoiseReport",
            display_name="Noise Report",
            category=f"{CATEGORY}/noise",
            description="Is a NOISE white, of unit variance, and does it follow the motion? As text and picture.",
            search_aliases=["noise statistics", "whiteness", "noise preview"],
            inputs=[
                io.Noise.Input("noise", tooltip="Any NOISE, also of core and other packs"),
                io.Latent.Input("latent", tooltip="The LATENT it would fill; of a video's clips the first is reported"),
                MOTION.Input("motion", optional=True, tooltip=(
                    "To measure the correlation along it: of as many frames as the LATENT has, or as its video has"
                )),
            ],
            outputs=[io.Image.Output(display_name="picture"), io.String.Output(display_name="text")],
        )  # fmt: skip

    @classmethod
    def execute(cls, noise, latent, motion=None):
        made = noise.generate_noise(latent)
        layout = layout_of({"samples": made})
        frames = made[0].movedim(1, 0) if layout.video else latent_frames({"samples": made})
        along = None if motion is None else motion_for(motion.bidirectional(), {"samples": made})
        statistics = noise_statistics(frames.float().cpu(), along)
        return io.NodeOutput(noise_picture(statistics), statistics.text())


NODES = [AqueductWarpNoise, AqueductGPNoise, AqueductNoiseReport]
