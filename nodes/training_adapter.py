"""Training of motion adapters."""

import torch
from comfy_api.latest import io

from ..core import checkpoints
from ..core.networks.video_unet import VideoMotionAdapter, start_from
from ..core.training.clip_tasks import LAMBDA_GEO, Adapted, AdapterObjective, adapter_task, check_one_size, motions
from ..core.training.geometric import MASKS
from ._comfy.adapters import LoadedAdapter, load_adapter
from ._comfy.backbones import backbone_of
from ._comfy.host_training import Host
from ._comfy.schema import ADAPTER, CATEGORY, DATASET, Schema
from ._comfy.training import Common, common_inputs, run_training, trainable, trained_outputs
from ._comfy.training_adapter_host import check_hosted, train_adapter_beside
from ._comfy.training_data import compared, identity, latent_of, shown
from ._comfy.training_models import architecture_of, arguments_of, bridge_config, copied, described, digest

STEPS = 8  # of the bridge, for samples


class AqueductTrainMotionAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductTrainMotionAdapter",
            display_name="Train Motion Adapter",
            category=f"{CATEGORY}/training",
            description=(
                "Trains a network beside an image-to-video MODEL that makes it follow a motion (EMG section 4, "
                "MOFA-Video): the MODEL's own loss, and that its frames agree along the motion wherever it closes."
            ),
            search_aliases=["emg", "mofa", "flow controlnet training", "train motion control"],
            inputs=[
                io.Model.Input("model", tooltip=(
                    "The MODEL that the adapter is for; it is frozen. The video U-Net of this pack "
                    "(animate_photos.safetensors in AqueductLoadBridgeModel), with nothing on it; Wan; Stable Video "
                    "Diffusion with an adapter to train on. Paper: Stable Video Diffusion"
                )),
                DATASET.Input("dataset", tooltip=(
                    "From AqueductVideoDataset with motion on. For the video U-Net in pixel space, clips as long as "
                    "the MODEL's (16 frames); for others with their VAE"
                )),
                ADAPTER.Input("adapter", optional=True, tooltip=(
                    "An adapter for this MODEL to train on. Without: a new one, a copy of the MODEL's encoder"
                )),
                io.Conditioning.Input("conditioning", optional=True, tooltip=(
                    "For Wan and Stable Video Diffusion: what they are told of every clip, if the dataset has no "
                    "captions"
                )),
                io.Vae.Input("vae", optional=True, tooltip=(
                    "For Wan and Stable Video Diffusion: the VAE of the dataset, to show samples, and for an "
                    "image-to-video Wan to see the first frame"
                )),
                io.ClipVision.Input("clip_vision", optional=True, tooltip=(
                    "For MODELs that see the first frame through CLIP, too: SVD, image-to-video Wan 2.1"
                )),
                io.Combo.Input("mask", options=list(MASKS), default="bidirectional", tooltip=(
                    "Which pixels must agree along the motion. bidirectional: those whose way there and back closes "
                    "(eq. 9); forward-only: all but the fastest; none: all that stay in the frame. Paper: bidirectional"
                )),
                io.Float.Input("consistency", default=LAMBDA_GEO, min=0.0, max=100.0, step=0.01, tooltip=(
                    "Weight of the agreement along the motion (eq. 10) in the loss, no unit. Shipped model: 0.1. "
                    "Paper: not said"
                )),
                io.Float.Input("carried", default=0.0, min=0.0, max=1.0, step=0.01, tooltip=(
                    "Share of the clips that start from the picture carried along the motion, as AqueductAdvect makes "
                    "it, not from the repeated picture. Shipped model: 0, then 0.7. Paper: 0"
                )),
                *common_inputs(
                    "motion_adapter", steps=1000, learning_rate=1e-3, batch=4, sample_every=250, paper="rate 2e-5"
                ),
            ],
            outputs=[
                ADAPTER.Output(display_name="adapter"),
                *trained_outputs(),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, dataset, mask, consistency, carried, adapter=None, conditioning=None, vae=None, clip_vision=None,
        **common,
    ):  # fmt: skip
        given, clips, objective = Common(**common), dataset.latents, AdapterObjective(mask, consistency, carried)
        if architecture_of(model) is None:
            check_hosted(model)
            host = Host(model, dataset, conditioning, vae, clip_vision)
            trained = train_adapter_beside(host, adapter, objective, given)
            return io.NodeOutput(load_adapter(str(trained.path)), *trained.outputs())
        _check(model, clips)
        arguments = arguments_of(model) | {"features": _features(model)}
        if adapter is not None:
            arguments = _arguments_of(adapter, model)
        told = {"mask": mask, "lambda_geo": consistency, "carried_priors": carried, "data": dataset.about}
        config = {
            "about": f"motion adapter (EMG), trained on {dataset.about}",
            "latent": latent_of(clips),
            "parts": {"adapter": {"architecture": "VideoMotionAdapter", "arguments": arguments}},
            **bridge_config(model.model),
            "training": {**given.told(), **told, "loss": "mean squared error in z_0, and EMG eq. 10"},
        }
        with trainable(given.seed) as device:
            backbone, network = copied(model, device), VideoMotionAdapter(**arguments)
            if adapter is None:
                start_from(network, backbone, torch.Generator().manual_seed(given.seed))
            else:
                network.load_state_dict({k: v.float() for k, v in adapter.network.state_dict().items()})
            adapted = Adapted(backbone, network.to(device), model.model.video)
            task = adapter_task(adapted, clips, objective, given.batch, given.seed, config)
            trained = run_training(
                task, given, folder="aqueduct", alone=True, of=identity(clips) | {"backbone": digest(backbone)},
                save=lambda path: checkpoints.save(dict(task.parts), path, config),
                sample=_sampler(adapted, clips, device),
            )  # fmt: skip
        return io.NodeOutput(load_adapter(str(trained.path)), *trained.outputs())


def _check(model, clips) -> None:
    """ValueError for a MODEL that no adapter can be trained for here, and for clips that do not fit it."""
    if architecture_of(model) != "VideoUNet":
        raise ValueError(
            f"motion adapters are for the video U-Net of this pack, Wan and Stable Video Diffusion; this MODEL is "
            f"{described(model)}: wire animate_photos.safetensors (AqueductLoadBridgeModel)"
        )
    network, shape = model.model.diffusion_model, next(iter(clips.buckets))
    if latent_of(clips)["format"] != "pixel":
        raise ValueError(
            f"this MODEL works on pixels, and these clips are latents of {shape[0]} channels: give "
            f"AqueductVideoDataset the MODEL's own VAE"
        )
    _, _, *size = shape
    height, width = network.nearest(*size)
    check_one_size(clips, (network.out_channels, network.clip_frames, height, width), "this MODEL")


def _features(model) -> list[int]:
    """Widths of the first frame's features: at full size, where a pixel has few, and at each level."""
    return [12, *model.model.diffusion_model.widths]


def _arguments_of(adapter: LoadedAdapter, model) -> dict:
    """Those an adapter was made with. Raises ValueError unless it is for this MODEL."""
    backbone_of(model.model, adapter.network)
    return adapter.config["parts"]["adapter"]["arguments"]


def _sampler(adapted: Adapted, clips, device):
    """Some clips of the data, made anew from their first frames along their motion, below them."""
    rows, ways = shown(clips), motions(clips, device)

    def sample(step: int):
        _, way = ways(torch.tensor(rows))
        first = clips.batch(rows)["latent"][:, :, 0].to(device)
        return compared(clips, list(adapted.sample(first, way, STEPS, seed=0)), rows, {"format": "pixel"}, None, step)

    return sample


NODES = [AqueductTrainMotionAdapter]
