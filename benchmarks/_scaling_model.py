"""The model of docs/scaling.md: from what a row costs to steps on 8 and 64 GPUs. Formulas as in the document.

Hardware figures are the vendor's data sheet (NVIDIA H100 SXM), nothing here was measured on one.
"""

from dataclasses import dataclass

PEAK, ROOM, NVLINK = 989e12, 80e9, 450e9  # bfloat16 FLOP/s without sparsity; bytes; bytes/s in one direction
FAST, SLOW = 8 * 50e9, 12.5e9  # bytes/s of a node: eight ports of 400 Gb/s, or one of 100 Gb/s
UTILISATION = 0.35
NODE = 8


@dataclass(frozen=True)
class Training:
    """A file of configs/papers as the model sees it: ``beside``: FLOPs of frozen networks a row; ``again``: whether
    blocks are computed twice; ``average``: whether there is an EMA; ``read``: bytes a row."""

    config: str
    batch: int
    steps: int
    again: bool
    read: int
    beside: float = 0.0
    accumulate: int = 1
    average: bool = False


def trainings(found: dict) -> list[Training]:
    picture = found["encoders"]["picture_1024"]["flops"]
    return [
        Training("framebridge_ucf101", 40, 400_000, False, 131072),
        Training("framebridge_webvid_cogvideox", 64, 20_000, True, 163840 + 1851392),
        Training("warped_diffusion_sdxl", 64, 100_000, True, 131072 + 3145728 + 315392 + 2560, beside=picture),
        Training("ebdm_f4_stage1", 8, 200_000, False, 2 * 24576 + 1536, accumulate=2, average=True),
    ]


def exchange(parameters: int, gpus: int, node: float, passes: int) -> float:
    """Seconds of ``passes`` ring passes of float32 over ``gpus``: 2 of an all-reduce, 3 of FSDP."""
    rate = NVLINK if gpus <= NODE else min(NVLINK, node)
    return passes * (gpus - 1) / gpus * 4 * parameters / rate


def step(one: Training, cost: dict, gpus: int) -> dict:
    """Seconds of one optimiser step."""
    rows = max(1, one.batch // gpus)  # a batch that is too small grows
    work = cost["flops_both"] + one.again * cost["flops_forward"] + one.beside
    compute = one.accumulate * rows * work / (UTILISATION * PEAK)
    each = {node: exchange(cost["parameters"], gpus, rate, 2) for node, rate in (("fast", FAST), ("slow", SLOW))}
    sharded = one.accumulate * exchange(cost["parameters"], gpus, FAST, 3)
    return {"rows": rows, "compute": compute, **each, "fsdp": sharded, "read": one.accumulate * rows * gpus * one.read}


def memory(one: Training, cost: dict, gpus: int) -> tuple[float, float]:
    """Bytes on a GPU under DDP and FSDP; activations in float32, at most."""
    state = (4 + 4 + 8 + 4 * one.average) * cost["parameters"]
    activations = max(1, one.batch // gpus) * cost["recomputed" if one.again else "kept"]
    return state + activations, state / gpus + activations


def tables(found: dict) -> str:
    if not {"networks", "encoders"} <= found.keys():
        return ""
    lines = ["| network | parameters | forward | with backward | kept | recomputed |", "|---|---|---|---|---|---|"]
    for name, cost in found["networks"].items():
        flop = [f"{cost[key] / 1e12:.3g} TFLOP" for key in ("flops_forward", "flops_both")]
        kept = [f"{cost[key] / 1e9:.2f} GB" for key in ("kept", "recomputed")]
        lines.append(" | ".join([f"| {name}", f"{cost['parameters'] / 1e6:.1f} M", *flop, *kept]) + " |")
    lines += ["", "| config | GPUs | rows each | compute | all-reduce | at 100 Gb/s | FSDP | run | read | DDP | FSDP |"]
    lines.append("|---|---|---|---|---|---|---|---|---|---|---|")
    for one in trainings(found):
        cost = found["networks"][one.config]
        for gpus in (8, 64):
            if gpus > 2 * one.batch:
                continue
            s, (ddp, fsdp) = step(one, cost, gpus), memory(one, cost, gpus)
            longest = max(s["compute"], s["fast"])
            ms = [f"{1e3 * s[key]:.0f} ms" for key in ("compute", "fast", "slow", "fsdp")]
            run, rate = f"{one.steps * longest / 3600:.1f} h", f"{s['read'] / longest / 1e9:.2f} GB/s"
            room = [f"{size / 1e9:.1f} GB" for size in (ddp, fsdp)]
            lines.append(" | ".join([f"| {one.config}", str(gpus), f"{s['rows']:g}", *ms, run, rate, *room]) + " |")
    return "\n".join(lines)
