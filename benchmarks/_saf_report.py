"""The tables of `saf.py`, from its JSON: learning curves as numbers, and what the paper says beside what is found."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from _saf_training import ARMS, DIFFUSION, RAW, RESCALED, SAF

PAPER_4 = {DIFFUSION: (177, 55.22, 0.7700), RAW: (157, 37.65, 0.7498), SAF: (148, 55.60, 0.8198)}
LOSS, FRECHET = "loss", "fvd"


@dataclass(frozen=True)
class Measure:
    """A column: its title, how a number is written, and whether high is good. ``read`` takes it from a row."""

    title: str
    form: str
    high: bool
    read: Callable[[dict], float]


def _plain(key: str, title: str, form: str, high: bool) -> Measure:
    return Measure(title, form, high, lambda row: row[key])


MEASURES = {
    LOSS: Measure("held-out loss x 1000", ".1f", False, lambda row: 1000 * statistics.mean(row["loss"])),
    FRECHET: _plain("fvd", "Frechet distance", ".0f", False),
    "direction": _plain("direction", "direction right", ".0%", True),
    "centroid_px": _plain("centroid_px", "centroid error, px", ".2f", False),
    "similarity": _plain("similarity", "similarity to input", ".3f", True),
    "first_frame_psnr": _plain("first_frame_psnr", "frame 0 PSNR, dB", ".1f", True),
}
QUALITY = {key: measure for key, measure in MEASURES.items() if key != LOSS}
Curve = dict[int, float]


def curves(result: dict, arm: str, key: str) -> list[Curve]:
    """One curve, iteration -> value, for every seed whose training has come to its end."""
    read, last = MEASURES[key].read, result["plan"]["points"][-1]
    rows = (result.get(f"{arm}, seed {seed}", {}) for seed in ARMS[arm].seeds)
    return [{int(point): read(row) for point, row in own.items()} for own in rows if str(last) in own]


def reached(curve: Curve, bar: float, high: bool) -> float:
    """The iteration from which on a curve is at least as good as ``bar``, between its points by straight lines.

    0 if it always is, infinity if it is not at its end.
    """
    points = sorted(curve)
    margin = {point: (curve[point] - bar) * (1 if high else -1) for point in points}
    worse = [point for point in points if margin[point] < 0]
    if not worse:
        return 0.0
    if worse[-1] == points[-1]:
        return math.inf
    before, after = worse[-1], points[points.index(worse[-1]) + 1]
    return before + (after - before) * margin[before] / (margin[before] - margin[after])


def report(result: dict) -> str:
    sections = (_head, _claims, _ends, _faster, _curves, _quarters)
    return "\n".join(line for section in sections for line in section(result)).rstrip() + "\n"


def _head(result: dict) -> list[str]:
    plan, effort = result["plan"], result["effort"]
    return [
        "# What SNR-aligned fine-tuning buys, at a small scale", "",
        f"`python3 benchmarks/saf.py` on {result['machine']}, torch {result['torch']}. A class-to-video diffusion of "
        f"moving digits ({plan['host_steps']} steps, batch {plan['host_batch']}; 8 frames of 32 x 32 pixels, no VAE) "
        f"is fine-tuned for {plan['points'][-1]} iterations (batch {plan['batch']}, peak rate "
        f"{plan['learning_rate']:g}, decayed on a cosine, no average of weights) to a bridge from the repeated first "
        "frame, which also enters on new channels that start at zero. *With SAF* the network sees (z_t - b z_T) / "
        "sqrt(a^2 + c^2) at the host's time of equal SNR; *without* it sees z_t and t as they are. Seeds are of clips, "
        "times and noise, and the same in all. *I2V diffusion*: the host fine-tuned as the diffusion it is, with the "
        "same channels. *Input rescaled only*: z_t / sqrt(1 + c^2) at its own time, with the prior left in it, so that "
        "nothing is aligned but the size of what enters. Everything is measured on held-out scans, with the same clips "
        f"and noise for every row: curves on {effort['curve'][0]} clips in {effort['curve'][1]} evaluations, the end "
        f"on {effort['end'][0]} in {effort['end'][1]}; the first-order stochastic solver, no guidance. Cells: mean "
        "over seeds (least to most). What the columns are: [framebridge.md](framebridge.md).", "",
        "![Learning curves](saf.png)", "",
    ]  # fmt: skip


def _claims(result: dict) -> list[str]:
    last = result["plan"]["points"][-1]
    rows = [
        _compared(result, FRECHET, SAF, RAW, "SAF improves quality at the same budget (Table 4: FVD 157 to 148; "
                  "Table 1, zero-shot: 433 to 312 and 229 to 99)"),
        _compared(result, "similarity", SAF, RAW, "SAF keeps closer to the image (Table 4: PIC 0.750 to 0.820)"),
        _compared(result, FRECHET, SAF, DIFFUSION, "the bridge with SAF is better than its diffusion counterpart at "
                  "the same budget (Table 4: FVD 177 to 148; Figure 6)"),
        _compared(result, "similarity", SAF, DIFFUSION, "and closer to the image (Table 4: PIC 0.770 to 0.820)"),
        _compared(result, FRECHET, SAF, RESCALED, "what helps is the alignment, more than the size of the input (not "
                  "compared in the paper)"),
    ]  # fmt: skip
    rows = [row for row in rows if row]
    about = f"At iteration {last}. *Holds*: the worst seed of the one is better than the best of the other."
    return ["## What holds here", "", about, "", *_table(["the paper", "measured", ""], rows), ""] if rows else []


def _compared(result: dict, key: str, better: str, worse: str, claim: str) -> list[str]:
    """One line of claims: which of two arms is better in the end, and whether all seeds agree."""
    ends = [_end_values(result, arm, key) for arm in (better, worse)]
    if not all(ends):
        return []
    measure = MEASURES[key]
    sign = 1 if measure.high else -1
    one, other = ([sign * value for value in values] for values in ends)
    verdict = "**holds**" if min(one) > max(other) else "does not hold" if max(one) <= min(other) else "open"
    told = (f"{arm} {_cell(values, measure)}" for arm, values in zip((better, worse), ends, strict=True))
    return [claim, f"{measure.title}: {' against '.join(told)}", verdict]


def _ends(result: dict) -> list[str]:
    rows = []
    for arm in ARMS:
        if values := _end_values(result, arm, FRECHET):
            cells = [_cell(_end_values(result, arm, key), measure) for key, measure in QUALITY.items()]
            told = "{:g} / {:g} / {:g}".format(*PAPER_4[arm]) if arm in PAPER_4 else ""
            rows.append([arm, str(len(values)), *cells, told])
    floors = result.get("floors", {}).get("end", {})
    for name in ("still image", "other true clips"):
        if name in floors:
            cells = [format(floors[name][key], m.form) if key in floors[name] else "" for key, m in QUALITY.items()]
            rows.append([name, "", *cells, ""])
    about = (
        "The paper fine-tunes Latte-XL/2 on UCF-101 for 20 000 iterations. Its diffusion is VDT-I2V, another "
        "network; ours is the same one. *Other true clips*: the distance by sampling alone. *Still image*: the first "
        "frame, repeated."
    )
    titles = ["", "seeds", *(measure.title for measure in QUALITY.values()), "the paper: FVD / IS / PIC"]
    return ["## Table 4: the end of the budget", "", about, "", *_table(titles, rows), ""] if rows else []


def _faster(result: dict) -> list[str]:
    """How soon SAF is where its absence ends."""
    budget, rows = result["plan"]["points"][-1], []
    for key, measure in MEASURES.items():
        bars = [curve[budget] for curve in curves(result, RAW, key)]
        if not bars:
            continue
        bar = statistics.mean(bars)
        needed = [reached(curve, bar, measure.high) for curve in curves(result, SAF, key)]
        middle = statistics.median(needed)
        ratio = f"{budget / middle:.1f}" if middle not in (0, math.inf) else ""
        cells = ", ".join("never" if value == math.inf else f"{value:.0f}" for value in needed)
        rows.append([measure.title, format(bar, measure.form), cells, ratio])
    titles = ["", f"without SAF, iteration {budget}", "with SAF from iteration on, by seed", "times fewer, median"]
    about = (
        "The iteration from which on every seed with SAF stays at least as good as the mean without SAF at its end. "
        "The rate falls to zero over the budget, so that both are half trained on the way; the paper gives no such "
        "number."
    )
    return ["## Iterations to the same quality", "", about, "", *_table(titles, rows), ""] if rows else []


def _curves(result: dict) -> list[str]:
    lines = ["## Learning curves", ""]
    for key in (LOSS, FRECHET, "direction", "similarity"):
        by_arm = {arm: found for arm in _comparable(key) if (found := curves(result, arm, key))}
        points = sorted(next(iter(by_arm.values()))[0]) if by_arm else []
        rows = [
            [arm, *(_cell([curve[point] for curve in found], MEASURES[key]) for point in points)]
            for arm, found in by_arm.items()
        ]
        lines += [*_table([f"{MEASURES[key].title}, iteration", *map(str, points)], rows), ""] if rows else []
    return lines if len(lines) > 2 else []


def _quarters(result: dict) -> list[str]:
    points, rows = result["plan"]["points"], []
    chosen = dict.fromkeys((points[0], points[len(points) // 3], points[-1]))
    for arm in _comparable(LOSS):
        for point in chosen:
            found = [result.get(f"{arm}, seed {seed}", {}).get(str(point)) for seed in ARMS[arm].seeds]
            if losses := [row["loss"] for row in found if row]:
                cells = [format(1000 * statistics.mean(quarter), ".1f") for quarter in zip(*losses, strict=True)]
                rows.append([f"{arm}, iteration {point}", *cells])
    about = (
        "Held-out loss x 1000, mean over seeds, by quarter of bridge time. With SAF, iteration 0 is the host itself, "
        "at the noise it was trained on; without, the host is shown what it has never seen."
    )
    titles = ["", "0 to 1/4 (data)", "1/4 to 1/2", "1/2 to 3/4", "3/4 to 1 (first frame)"]
    return ["## Loss over time", "", about, "", *_table(titles, rows)] if rows else []


def _comparable(key: str) -> list[str]:
    """The diffusion's loss is of another process, hence of other inputs: no number to set beside a bridge's."""
    return [arm for arm in ARMS if key != LOSS or arm != DIFFUSION]


def _end_values(result: dict, arm: str, key: str) -> list[float]:
    rows = (result.get("end", {}).get(f"{arm}, seed {seed}") for seed in ARMS[arm].seeds)
    return [MEASURES[key].read(row) for row in rows if row]


def _cell(values: list[float], measure: Measure) -> str:
    mean = format(statistics.mean(values), measure.form)
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):{measure.form}} to {max(values):{measure.form}})"


def _table(titles: list[str], rows: list[list[str]]) -> list[str]:
    line = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    return line + [f"| {' | '.join(row)} |" for row in rows]
