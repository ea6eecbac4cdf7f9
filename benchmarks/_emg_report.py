"""The tables of `emg.py`, from its JSON; what the paper claims is set against the numbers in `_emg_claims.py`."""

import statistics
from collections.abc import Iterable

from _emg_claims import claims, interval, part

PAPER_3 = {
    "Lagrangian": (0.224, 85.12, 0.935), "Eulerian, no mask": (0.178, 79.45, 0.951),
    "Eulerian, forward-only mask": (0.165, 77.80, 0.955), "Eulerian, BGC": (0.156, 76.18, 0.959),
}  # fmt: skip
PAPER_4 = {
    "0.005, 0.5": (0.1581, 77.05), "0.01, 0.5": (0.1562, 76.18), "0.05, 0.5": (0.1634, 78.42),
    "0.01, 0.1": (0.1578, 79.11), "0.01, 1": (0.1610, 77.85),
}  # fmt: skip


def report(result: dict) -> str:
    sections = (_head, _claims, _ablation, _alphas, _control, _drift, _flow)
    return "\n".join(line for section in sections for line in section(result)).rstrip() + "\n"


def _head(result: dict) -> list[str]:
    minutes = sum(row["took_s"] for rows in _parts(result) for row in rows.values()) / 60
    return [
        "# EMG at a small scale", "",
        f"`python3 benchmarks/emg.py` on {result['machine']}, torch {result['torch']}; {minutes:.0f} minutes. Clips of "
        "64 x 64 pixels, 16 frames, from held-out pictures (nine, of templates that no "
        "training picture shows); the backbone is a bridge in pixels, and there is no VAE. "
        "12 bridge steps, solver sde. Motion is what DIS estimates, unless it says exact. Brackets are 95% intervals: "
        "bootstrap over clips. *Perceptual* and *Frechet* rest on features of this pack's super-resolution model, "
        "*similarity* is of the pooled features of neighbouring frames: made as LPIPS, FVD and CLIP-Cons are, on "
        "another scale than theirs.", "",
        "![Drift, endpoint errors and the cost of flow](emg.png)", "",
    ]  # fmt: skip


def _claims(result: dict) -> list[str]:
    rows = [[claim, found, "**holds**" if holds else "does not hold" if holds is not None else "open"]
            for claim, found, holds in claims(result)]  # fmt: skip
    return ["## What holds here", "", *_table(["the paper, or the aim", "measured", ""], rows), ""] if rows else []


def _ablation(result: dict) -> list[str]:
    rows = []
    for name, row in part(result, "ablation of").items():
        paper = PAPER_3.get(name)
        told = "" if paper is None else " / ".join(f"{value:g}" for value in paper)
        cells = [interval(row[key], form) if key in row else "" for key, form in (
            ("perceptual", ".3f"), ("warping", ".3f"), ("psnr", ".2f"), ("similarity", ".5f")
        )]  # fmt: skip
        frechet = "{:.3g} [{:.3g}, {:.3g}]".format(*row["frechet"])
        rows.append([name, cells[0], frechet, *cells[1:], told])
    titles = ["", "perceptual, low", "Frechet, low", "warping error x 1000, low", "PSNR dB, high", "similarity, high",
              "the paper: LPIPS / FVD / CLIP-Cons"]  # fmt: skip
    about = (
        "The variants are adapters of one frozen backbone, trained alike; each is given motion of its own form. "
        "*Pure warp*, *backbone alone* and *bridge from the carried picture* have no adapter. *Truth* is the floor of "
        "the warping error, *other worlds* that of the Frechet distance: as many true clips of other worlds. The "
        "warping error is along the exact motion, where nothing is hidden; values are 0..1."
    )
    return ["## Table 3: form of the motion, and mask", "", about, "", *_table(titles, rows), ""] if rows else []


def _alphas(result: dict) -> list[str]:
    rows = []
    for name, row in part(result, "alphas of").items():
        frechet = "{:.3g} [{:.3g}, {:.3g}]".format(*row["frechet"])
        told = " / ".join(f"{value:g}" for value in PAPER_4.get(name, ()))
        rows.append([
            name, f"{row['rejected']:.1%}", f"{row['precision']:.2f}", f"{row['recall']:.2f}", f"{row['seen']:.1%}",
            interval(row["perceptual"], ".3f"), frechet, interval(row["warping"], ".3f"), interval(row["psnr"], ".2f"),
            told,
        ])  # fmt: skip
    titles = ["alpha1, alpha2", "rejected", "precision", "recall", "seen of frame 0", "perceptual", "Frechet",
              "warping error x 1000", "PSNR dB", "the paper: LPIPS / FVD"]  # fmt: skip
    about = (
        "**Nothing was trained again**: the adapter with the bidirectional mask is shown the first frame with the mask "
        "of each pair of thresholds. The paper trains with each. *Rejected*: share of the pixels of neighbouring "
        "frames that fails the test; *precision*, *recall*: against what is truly hidden. *Seen of frame 0*: what the "
        "adapter is shown, over frames 1 to 15."
    )
    return ["## Table 4: the thresholds", "", about, "", *_table(titles, rows), ""] if rows else []


def _control(result: dict) -> list[str]:
    rows, found = [], part(result, "control of")
    for name, row in found.items():
        for made in () if name == "zero tracks" else row:
            if isinstance(row[made], dict):
                ends, means = row[made]["end"], row[made]["mean"]
                rows.append([
                    f"{name}: {made}", str(len(ends)), f"{statistics.median(ends):.2f}",
                    f"{_share(ends):.0%}", f"{statistics.median(means):.2f}",
                    f"{statistics.median(row[made]['length']):.1f}",
                ])  # fmt: skip
    if not rows:
        return []
    still = {made: {key: max(values) if key.endswith("max") else statistics.mean(values) for key, values in row.items()}
             for made, row in found.get("zero tracks", {}).items() if isinstance(row, dict)}  # fmt: skip
    about = (
        "1 to 3 points on objects of a held-out picture, where a tracker can hold on (texture in "
        "both directions), along straight, curved and stopping paths, and 4 points that "
        "hold the ground; made dense, animated, and tracked in the answer: DIS at 4 times the size, chained. The pure "
        "warp shows what that tracker misses by itself. *Adapter*: as it ships and in the workflow, from the carried "
        "picture; the repeated picture is where EMG's adapters start, and those of Table 3."
    )
    titles = ["densifier: made by", "tracks", "median error at the end, px", "under 1.5 px", "median over the way, px",
              "median length, px"]  # fmt: skip
    lines = ["## Control", "", about, "", *_table(titles, rows), ""]
    for made, row in still.items():
        lines.append(
            f"- Zero tracks, {made}: neighbouring frames differ by {row['between mean']:.2f} grey levels of 255 on "
            f"average ({row['between max']:.0f} at most), frames and the picture by {row['to picture mean']:.2f} "
            f"({row['to picture max']:.0f})."
        )
    return [*lines, ""]


def _drift(result: dict) -> list[str]:
    lines = []
    for name, rows in result.items():
        if name.startswith("drift of"):
            cells = []
            for way, row in rows.items():
                late = row["late"]
                cells.append([way, *(interval(late[key], form) for key, form in (
                    ("identity", ".3f"), ("sharpness", ".2f"), ("warping", ".3f"), ("psnr", ".2f")
                ))])  # fmt: skip
            titles = ["", "identity", "sharpness", "warping error x 1000", "PSNR dB"]
            lines += [f"### {name[9:].capitalize()}", "", *_table(titles, cells), ""]
    about = (
        "Means over frames 50 to 99; worlds along their exact motion, videos along what DIS sees in them, which "
        "favours whatever is made from that. Windows of 16 frames, overlapping by 4. *Lagrangian*: every window is "
        "frame 0 and 15 later frames, carried straight from it. *Anchored*: a window's start is read from frame 0 "
        "where that is still seen; else windows know the last frame alone. A blurred clip has a warping error below "
        "the truth's own: look at the sharpness beside it."
    )
    return ["## Drift over 100 frames", "", about, "", *lines] if lines else []


def _flow(result: dict) -> list[str]:
    rows = []
    for name, row in part(result, "flow").items():
        step = row["seconds"].get("training step")
        share = "" if step is None else f"{row['seconds']['batched'] / step:.1%}"
        rows.append([name, f"{row['ratio']:.2f} ({min(row['ratios']):.2f} to {max(row['ratios']):.2f})", share])
    name = next((name for name in result if name.startswith("flow")), "")
    about = (
        f"{name}: time one pair after the other, over time in one batch; medians of interleaved rounds, of wall time "
        "on a machine that others use. The paper's 2.7 at 24 frames is RAFT on a GPU, where pairs run side by side; "
        "DIS has as many side by side as there are threads."
    )
    titles = ["clip", "sequential / batched", "batched flow, share of an adapter's training step"]
    return ["## Flow of a training clip", "", about, "", *_table(titles, rows), ""] if rows else []


def _share(ends: list[float], bar: float = 1.5) -> float:
    return sum(end < bar for end in ends) / len(ends)


def _parts(result: dict) -> Iterable[dict]:
    return (rows for rows in result.values() if isinstance(rows, dict))


def _table(titles: list[str], rows: list[list[str]]) -> list[str]:
    line = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    return line + [f"| {' | '.join(row)} |" for row in rows]
