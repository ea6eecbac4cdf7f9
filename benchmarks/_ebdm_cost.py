"""Multiplications of one step and of fifty, and parameters: the small models', and at the paper's sizes (Tables 5, 6).

Networks of the paper's sizes are made on the meta device, which has shapes and no numbers.
"""

import time
from collections.abc import Callable

import torch
from _ebdm_host_sizes import comfyui, host_networks
from _ebdm_models import OURS, PAPER_STEPS, SHIPPED, Models, Translator
from _ebdm_scenes import SIZE, edge_scenes
from _emg_store import Store
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from aqueduct.core.networks.exemplar_unet import ExemplarNetwork, ExemplarUNet, Style, remember

PAPER_SIZES = {"in_channels": 3, "out_channels": 3, "channels": 128, "multipliers": (1, 4, 8)}


def flops(run: Callable[[], object]) -> int:
    """Two for each multiplication with its addition, in convolutions and matrix products, attention's among them.

    Norms, activations, softmax and resampling are not counted (`torch.utils.flop_counter`), and attention only on the
    meta device, which takes it apart: networks and inputs have to be there.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops()


def weights_in(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def measure_cost(models: Models, store: Store, quick: bool) -> None:
    """The compared models, what running the exemplar network once is worth, and the paper's sizes."""
    part = "cost"
    for name, row in models.rows().items():
        store.once(part, name, models.digest(*row.files), lambda name=name: small_cost(models.translator(name)))
    if models.path(SHIPPED) is not None:
        runs = lambda: exemplar_runs(models.translator(OURS), 2 if quick else PAPER_STEPS)  # noqa: E731
        store.once("exemplar network", "runs", models.digest(SHIPPED), runs)
    for name, row in paper_sizes().items():
        store.once("paper sizes", name, str(row["flops"] + row["parameters"]), lambda row=row: row)


def small_cost(translate: Translator) -> dict:
    """FLOPs of the exemplar side and of one step for one picture; parameters of what runs."""
    networks = [n for n in (translate.denoiser, translate.network, translate.encode) if isinstance(n, nn.Module)]
    for network in networks:
        network.to("meta")
    with torch.device("meta"):
        z, exemplar = (torch.zeros(1, channels, SIZE, SIZE) for channels in (translate.denoiser.in_channels, 3))
        t = torch.zeros(1)
    made: list[Style] = []
    once = flops(lambda: made.extend(translate.styles(exemplar)))
    step = flops(lambda: translate.denoiser(z, t, made))
    parameters = sum(map(weights_in, networks))
    return {"once": once, "step": step, "parameters": parameters, "trained": translate.trained}


def exemplar_runs(translate: Translator, steps: int) -> dict:
    """How often the exemplar network and the denoiser run while one picture is made, and how long both ways take."""
    asked, counts = edge_scenes(1), {"exemplar network": 0, "denoiser": 0}
    features, forward = translate.network.features, translate.denoiser.forward

    def counted(name: str, function: Callable) -> Callable:
        def run(*arguments):
            counts[name] += 1
            return function(*arguments)

        return run

    translate.network.features = counted("exemplar network", features)
    translate.denoiser.forward = counted("denoiser", forward)
    started = time.perf_counter()
    translate(asked.control, asked.exemplar, [0], steps)
    took, found = time.perf_counter() - started, dict(counts)
    with torch.no_grad():
        started = time.perf_counter()
        for _ in range(steps):
            translate.styles(asked.exemplar)
    return {
        "steps": steps,
        **found,
        "seconds": took,
        "seconds of as many exemplar sides": time.perf_counter() - started,
    }


def ebdm_f4() -> dict[str, dict]:
    """The default configuration: 64 x 64 latents of 3 channels."""
    with torch.device("meta"):
        denoiser, network = ExemplarUNet(**PAPER_SIZES), ExemplarNetwork(**PAPER_SIZES)
        z, cls, t = torch.zeros(1, 3, 64, 64), torch.zeros(1, denoiser.features), torch.zeros(1)
    made: list[Style] = []
    return {
        "exemplar network": {
            "flops": flops(lambda: made.append(remember(denoiser, network, z, cls))), "parameters": weights_in(network),
        },
        "denoiser": {"flops": flops(lambda: denoiser(z, t, made)), "parameters": weights_in(denoiser)},
        "bridge U-Net without sites": {"flops": 0, "parameters": weights_in(denoiser.unet)},
    }  # fmt: skip


def paper_sizes() -> dict[str, dict]:
    """Every network of Tables 5 and 6 by itself: FLOPs of one run for one picture, and parameters.

    Without a ComfyUI nothing of Stable Diffusion, the autoencoders and the image encoders.
    """
    rows = ebdm_f4()
    folder = comfyui()
    if folder is None:
        print("paper sizes: no ComfyUI, so nothing of Stable Diffusion: set COMFYUI_PATH", flush=True)
        return rows
    for name, (network, run) in host_networks(folder).items():
        parameters = weights_in(network)
        rows[name] = {"parameters": parameters, "flops": flops(run)}
    return rows
