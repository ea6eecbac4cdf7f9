"""The model of docs/scaling.md: from what a row costs to steps on 8 and 64 GPUs. Formulas as in the document.

Hardware figures are the vendor's data sheet (NVIDIA H100 SXM), nothing here was measured on one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from aqueduct.core.data.dataset import OPEN_SHARDS

HALF, CONVOLUTIONS, SINGLE = 989e12, 494.5e12, 67e12
"""FLOP/s without sparsity: bfloat16; float32 as PyTorch does it, convolutions in TF32 and matrix products not."""
TRAFFIC, NVLINK = 3.35e12, 450e9  # bytes/s of a GPU's memory; of NVLink in one direction
FAST, SLOW = 8 * 50e9, 12.5e9  # bytes/s of a node: eight ports of 400 Gb/s, or one of 100 Gb/s
DISK = 1e9  # bytes/s that each process reads: an assumption
UTILISATION = 0.35
NODE = 8


@dataclass(frozen=True)
class Data:
    """``kind``: a name in the measured bytes of a clip; ``read``: bytes of it that a row takes; ``shard``: MiB."""

    kind: str
    clips: int
    read: int
    shard: int = 256


@dataclass(frozen=True)
class Training:
    """A file of configs/papers as the model sees it: ``again``: whether blocks are computed twice; ``average``: whether
    there is an EMA; ``vae``: whether each row is encoded, in float32; ``half``: the precision."""

    config: str
    batch: int
    steps: int
    save_every: int
    data: Data
    again: bool = False
    accumulate: int = 1
    average: bool = False
    vae: bool = False
    half: bool = True


UCF = Data("ucf101", 13320, 131072)
WEBVID = Data("the same with T5's context", 2_500_000, 163840 + 1851392, shard=1024)
COYO = Data("coyo for SDXL", 10_000_000, 131072 + 3145728 + 315392 + 2560, shard=1024)
CELEBA = Data("celeba-hq for EBDM-f4", 30_000, 2 * 24576 + 1536)
TRAININGS = (
    Training("framebridge_ucf101", 40, 400_000, 5000, UCF),
    Training("framebridge_webvid_cogvideox", 64, 20_000, 2000, WEBVID, again=True),
    Training("warped_diffusion_sdxl", 64, 100_000, 2000, COYO, again=True, vae=True),
    Training("ebdm_f4_stage1", 8, 200_000, 10_000, CELEBA, accumulate=2, average=True, half=False),
)

NAMES = {
    "framebridge_ucf101": "Latte-S/2, 16 x 256 x 256",
    "framebridge_webvid_cogvideox": "CogVideoX-2B, 17 x 256 x 256",
    "warped_diffusion_sdxl": "SDXL's U-Net, 1024 x 1024",
    "ebdm_f4_stage1": "EBDM-f4, stage 1",
}


def single(cost: dict) -> float:
    """Seconds of a forward pass in float32."""
    products = cost["flops"] - cost["convolutions"]
    return (cost["convolutions"] / CONVOLUTIONS + products / SINGLE) / UTILISATION


def half(flops: float) -> float:
    return flops / HALF / UTILISATION


def exchange(parameters: int, gpus: int, node: float, passes: int) -> float:
    """Seconds of ``passes`` ring passes of float32 over ``gpus``: 2 of an all-reduce, 3 of FSDP."""
    rate = NVLINK if gpus <= NODE else min(NVLINK, node)
    return passes * (gpus - 1) / gpus * 4 * parameters / rate


def reading(data: Data, found: dict) -> float:
    """Seconds of a row: its bytes, and a shard to open if there are more than stay open."""
    clip, shard = found["data"]["bytes of a clip"][data.kind]["shard_bytes"], found["data"]["shard"]
    each = data.shard * 2**20 / clip
    opening = shard["opening"] * each / shard["clips"] if data.clips / each > OPEN_SHARDS else shard["mapped"]
    return opening + data.read / DISK


def step(one: Training, found: dict, gpus: int) -> dict:
    """Seconds of one optimiser step under DDP, and what is read in it, bytes."""
    cost, shares = found["networks"][one.config], found["shares"][one.config]
    rows = one.accumulate * max(1, one.batch // gpus)  # a batch that is too small grows
    passes = (cost["flops_both"] + one.again * cost["flops_forward"]) / cost["flops_forward"]
    row = passes * (half(cost["flops_forward"]) if one.half else single(shares))
    vae = one.vae * single(found["encoders"]["picture_1024"])
    each = {node: exchange(cost["parameters"], gpus, rate, 2) for node, rate in (("fast", FAST), ("slow", SLOW))}
    return {
        "compute": rows * (row + vae),
        "vae": rows * vae,
        **each,
        "fsdp": one.accumulate * exchange(cost["parameters"], gpus, FAST, 3),
        "optimiser": (40 + 12 * one.average) * cost["parameters"] / TRAFFIC,
        "reading": rows * reading(one.data, found),
        "bytes": rows * gpus * one.data.read,
    }


def duration(s: dict, way: str = "fast") -> float:
    """Of a step: compute and exchange overlap, the rest does not."""
    return max(s["compute"], s[way]) + s["optimiser"] + s["reading"]


def checkpoint(one: Training, found: dict) -> tuple[float, float]:
    """Bytes of the file, and seconds of the main process, for which the others wait."""
    size = (12 + 4 * one.average) * found["networks"][one.config]["parameters"]
    return size, size / 1e9 * found["data"]["checkpoint"]["seconds_of_a_gb"]


def memory(one: Training, found: dict, gpus: int) -> tuple[float, float]:
    """Bytes on a GPU under DDP and FSDP; activations in float32, at most."""
    cost, shares = found["networks"][one.config], found["shares"][one.config]
    state = (16 + 4 * one.average) * cost["parameters"]
    # Under FSDP a block, its gradient and the next block; what lies in none; and what is cast.
    whole = 12 * shares["block"] + 8 * shares["rest"]
    cast = 2 * one.half * (shares["block"] if one.again else cost["parameters"])
    activations = max(1, one.batch // gpus) * cost["recomputed" if one.again else "kept"]
    return state + 2 * one.half * cost["parameters"] + activations, state / gpus + whole + cast + activations


def tables(found: dict) -> list[str]:
    """Those of the document."""
    if not {"networks", "shares", "encoders", "seconds", "data"} <= found.keys():
        return []
    parts = (_networks, _trainings, _memory, _measured, _preparation, _storage)
    return ["\n".join("| " + " | ".join(cells) + " |" for cells in part(found)) for part in parts]


Rows = Iterator[list[str]]


def _head(*names: str) -> Rows:
    yield list(names)
    yield ["---"] * len(names)


def _networks(found: dict) -> Rows:
    names = ("parameters", "largest block", "forward", "with backward", "A, float32", "A, recomputed")
    yield from _head("network", *names)
    for config, name in NAMES.items():
        cost, block = found["networks"][config], found["shares"][config]["block"]
        millions = [f"{size / 1e6:.1f} M" for size in (cost["parameters"], block)]
        flop = [f"{cost[key] / 1e12:.3g} TFLOP" for key in ("flops_forward", "flops_both")]
        yield [name, *millions, *flop, *(f"{cost[key] / 1e9:.2f} GB" for key in ("kept", "recomputed"))]


def _cases() -> Iterator[tuple[Training, int, str]]:
    for one in TRAININGS:
        for gpus in (8, 64):
            if gpus <= 2 * one.batch:
                yield one, gpus, f"`{one.config}`" + f", batch {gpus}" * (gpus > one.batch)


def _trainings(found: dict) -> Rows:
    columns = ("compute", "fast", "slow", "fsdp", "optimiser", "reading")
    names = ("compute", "all-reduce", "at 100 Gb/s", "FSDP", "AdamW", "reading")
    yield from _head("config", "GPUs", "rows", *names, "a step", "a checkpoint", "run", "read")
    for one, gpus, name in _cases():
        s, (_, saving) = step(one, found, gpus), checkpoint(one, found)
        a_step = duration(s)
        share = saving / (saving + one.save_every * a_step)
        run = one.steps * (a_step + saving / one.save_every)
        times = [_time(s[key]) for key in columns]
        told = [_time(a_step), f"{_time(saving)}, {100 * share:.0f} %", f"{run / 3600:.1f} h"]
        rows = str(max(1, one.batch // gpus))
        yield [name, str(gpus), rows, *times, *told, f"{s['bytes'] / a_step / 1e9:.2f} GB/s"]


def _memory(found: dict) -> Rows:
    yield from _head("config", "GPUs", "DDP", "FSDP", "checkpoint")
    for one, gpus, name in _cases():
        sizes = (*memory(one, found, gpus), checkpoint(one, found)[0])
        yield [name, str(gpus), *(f"{size / 1e9:.1f} GB" for size in sizes)]


def _measured(found: dict) -> Rows:
    seconds, data = found["seconds"], found["data"]
    shard, index = data["shard"], data["index"]
    yield from _head("on one thread of a CPU", "")
    yield ["a row of Latte-S/2, forward and back", _time(seconds["latte_s2_row"])]
    yield ["a step of `framebridge_digits`, of `neural_prior_digits`",
           ", ".join(_time(seconds[name]) for name in ("framebridge_digits", "neural_prior_digits"))]  # fmt: skip
    yield ["a field of 3000 waves on 4 x 128 x 128 latents", _time(seconds["gp_noise_row"])]
    yield ["a clip of a shard that is open", _time(shard["mapped"])]
    yield [f"opening a shard of {shard['clips']} clips", _time(shard["opening"])]
    yield ["an epoch's order of 10^6 clips", _time(data["order"]["seconds"])]
    yield ["a clip of the index: on the disk, read, in memory, at most",
           f"{index['file_bytes']:.0f} B, {index['microseconds']:.0f} us, {index['memory_bytes'] / 1e3:.1f} kB, "
           f"{index['most_bytes'] / 1e3:.1f} kB"]  # fmt: skip
    yield ["writing a GB of a checkpoint", _time(data["checkpoint"]["seconds_of_a_gb"])]


def _preparation(found: dict) -> Rows:
    made, cpu = found["encoders"], found["data"]["preparation"]
    yield from _head("", "a clip", "10^7 clips")
    flow = cpu["with flow"] - cpu["decoded"]
    for name, each in (
        ("decode, crop, write (measured)", cpu["decoded"]),
        ("flow and masks, `dis-fine` (measured)", flow),
    ):
        hours = 1e7 * each / 3600
        yield [name, f"{_time(each)} of a CPU", f"{hours:.0f} h of a CPU: {hours / 64:.1f} h on 64 cores"]
    kinds = (
        ("Stable Diffusion's VAE, 16 frames, float32", "frame_256", 16, single),
        ("CogVideoX's VAE, 17 frames, float16", "clip_17_256", 1, _half),
        ("SDXL's VAE, one picture of 1024 x 1024, float32", "picture_1024", 1, single),
        ("T5-XXL, 226 tokens, bfloat16", "caption_226", 1, _half),
        ("SDXL's two text encoders, 77 tokens, float32", "caption_77", 1, single),
    )
    for name, key, count, way in kinds:
        each, flops = count * way(made[key]), count * made[key]["flops"]
        yield [name, f"{flops / 1e12:.3g} TFLOP, {_time(each)} of an H100", f"{1e7 * each / 3600:.0f} h of an H100"]


def _storage(found: dict) -> Rows:
    yield from _head("data set", "a clip", "10^7 clips")
    for name, size in found["data"]["bytes of a clip"].items():
        told = (
            f"{size['shard_bytes'] / 1e6:.2f} MB"
            if size["shard_bytes"] > 1e6
            else f"{size['shard_bytes'] / 1e3:.0f} kB"
        )
        yield [name, told, f"{size['shard_bytes'] / 1e5:.1f} TB"]


def _half(cost: dict) -> float:
    return half(cost["flops"])


def _time(seconds: float) -> str:
    """Two digits in the unit that fits, three from a hundred on."""
    for unit, name in ((1, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= unit * 0.95 or name == "us":
            value = seconds / unit
            return f"{value:.0f} {name}" if value >= 9.95 else f"{value:.1f} {name}"
