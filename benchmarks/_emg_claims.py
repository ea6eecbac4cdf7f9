"""EMG's claims against this run's numbers: (claim, what was measured, whether it holds or None where it is open).

A difference is taken clip by clip, so that what all ways have in common drops out; it holds when the whole 95% interval
of its mean lies on the right side, does not when the whole of it lies on the other, and is open in between.
"""

import random
import statistics
from collections.abc import Iterator

DRAWS = 2000
BAR_PX, SAME_GREY = 1.5, 1.0
LAGRANGIAN, PLAIN, FORWARD, BGC = (
    "Lagrangian", "Eulerian, no mask", "Eulerian, forward-only mask", "Eulerian, BGC"
)  # fmt: skip
Claim = tuple[str, str, bool | None]


def claims(result: dict) -> Iterator[Claim]:
    for section in (_ablation, _alphas, _control, _late, _flow):
        yield from section(result)


def part(result: dict, start: str) -> dict:
    """The rows of the part whose name begins so."""
    return next((rows for name, rows in result.items() if name.startswith(start)), {})


def bootstrap(values: list[float]) -> tuple[float, float, float]:
    """Mean, and its 95% interval by redrawing the values."""
    known = [value for value in values if value == value]
    if not known:
        return (float("nan"),) * 3
    draw = random.Random(0)
    means = sorted(statistics.fmean(draw.choices(known, k=len(known))) for _ in range(DRAWS))
    return statistics.fmean(known), means[round(0.025 * DRAWS)], means[round(0.975 * DRAWS) - 1]


def interval(values: list[float], form: str) -> str:
    mean, low, high = bootstrap(values)
    return f"{mean:{form}}" if len(values) < 2 else f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def _difference(claim: str, first: list[float], second: list[float], form: str, higher: bool) -> Claim:
    """Is ``first`` better than ``second``, clip by clip?"""
    paired = [(one - other) * (1 if higher else -1) for one, other in zip(first, second, strict=True)]
    _, low, high = bootstrap(paired)
    plain = [one - other for one, other in zip(first, second, strict=True)]
    verdict = None if len(paired) < 2 or low <= 0 <= high else low > 0
    return claim, f"{interval(plain, form.replace('.', '+.'))} clip by clip", verdict


def _ablation(result: dict) -> Iterator[Claim]:
    rows = part(result, "ablation of")
    measures = (
        ("perceptual", "perceptual distance", ".4f", False), ("warping", "warping error x 1000", ".4f", False),
        ("psnr", "PSNR, dB", ".3f", True),
    )  # fmt: skip
    for first, second in ((PLAIN, LAGRANGIAN), (FORWARD, PLAIN), (BGC, FORWARD), (BGC, PLAIN), (BGC, LAGRANGIAN)):
        if first in rows and second in rows:
            for key, name, form, higher in measures:
                claim = f"{first} is better than {second}: {name}"
                yield _difference(claim, rows[first][key], rows[second][key], form, higher)
    order = [name for name in (BGC, FORWARD, PLAIN, LAGRANGIAN) if name in rows]
    if len(order) == 4:
        found = [rows[name]["frechet"] for name in order]
        told = ", ".join(f"{name} {value[0]:.3g}" for name, value in zip(order, found, strict=True))
        apart = all(one[2] < other[1] for one, other in zip(found[:-1], found[1:], strict=True))
        against = any(one[1] > other[2] for one, other in zip(found[:-1], found[1:], strict=True))
        verdict = True if apart else False if against else None
        yield "Frechet distance: BGC least, then forward-only, no mask, Lagrangian", told, verdict


def _alphas(result: dict) -> Iterator[Claim]:
    rows = part(result, "alphas of")
    default = rows.get("0.01, 0.5")
    if default is None:
        return
    means = {name: statistics.fmean(row["perceptual"]) for name, row in rows.items()}
    spread = max(means.values()) / min(means.values()) - 1
    best = min(means, key=means.get)
    told = f"perceptual distances within {spread:.1%}; least at {best}"
    yield "robust to alpha1 and alpha2 (the paper: LPIPS within 4.6%), at sampling", told, spread < 0.046


def _control(result: dict) -> Iterator[Claim]:
    for name, row in part(result, "control of").items():
        if name == "zero tracks":
            change = statistics.fmean(row["adapter"]["between mean"])
            told = f"neighbouring frames differ by {change:.2f} grey levels of 255 on average"
            yield f"zero tracks give a still clip (under {SAME_GREY:g} grey level)", told, change < SAME_GREY
            continue
        ends, floor = (statistics.median(row[made]["end"]) for made in ("adapter", "pure warp"))
        told = f"{ends:.2f} px; the tracker on the pure warp: {floor:.2f} px"
        yield f"drawn tracks are followed, {name}: median error at the end under {BAR_PX:g} px", told, ends < BAR_PX


def _late(result: dict) -> Iterator[Claim]:
    """The long clips. A clip that is smoother than the truth is not better than it: what counts is the error's excess
    over the truth's own."""
    chain, anchored = "Eulerian + BGC", "Eulerian + BGC, anchored"
    pairs = ((chain, "Lagrangian"), (anchored, "Lagrangian"), (chain, "Eulerian, no mask"), (anchored, chain))
    for name, rows in result.items():
        if not name.startswith("drift of"):
            continue
        truth = rows["truth"]["late"]["warping"] if "truth" in rows else None
        for better, other in pairs:
            if truth is None or len(truth) < 2 or better not in rows or other not in rows:
                continue
            claim = f"{name[9:]}, frames 50 to 99: {better} is better than {other}"
            late = [rows[way]["late"] for way in (better, other)]
            excess = [[max(0.0, one - own) for one, own in zip(row["warping"], truth, strict=True)] for row in late]
            yield _difference(f"{claim}: warping error x 1000 beyond the truth's", *excess, ".4f", False)
            yield _difference(f"{claim}: identity to frame 0", *(row["identity"] for row in late), ".4f", True)


def _flow(result: dict) -> Iterator[Claim]:
    for name, row in part(result, "flow").items():
        if name.endswith(", 24 frames"):
            told = f"{row['ratio']:.2f} times ({min(row['ratios']):.2f} to {max(row['ratios']):.2f})"
            yield f"flow in one batch is faster, {name} (the paper: 2.7, on a GPU)", told, row["ratio"] > 1
