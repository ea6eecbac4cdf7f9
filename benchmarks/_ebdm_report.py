"""The tables of `ebdm.py`, from its JSON, beside the paper's."""

import random
import statistics

from _ebdm_models import DIFFUSION_STEPS, OURS, STEPS
from _ebdm_report_cost import operations, sizes, small_cost, table
from _emg_claims import interval, part

BAR_EDGES, BAR_PALETTE = 0.8, 3.0
DRAWS = 2000
SETS = ("scenes by their edges", "scenes by their masks", "crops of photographs by their edges")
PAPER_1 = (
    "baseline 0.831 / 16.31 / 0.531, + CLIP 0.632 / 23.42 / 0.752, + DINO 0.754 / 21.32 / 0.786, "
    "ours 0.901 / 11.84 / 0.920"
)


def report(result: dict) -> str:
    sections = (_head, _bars, _ablation, _diversity, _steps, small_cost, sizes, operations)
    return "\n".join(line for section in sections for line in section(result)).rstrip() + "\n"


def ratio(row: dict, name: str) -> tuple[float, float, float]:
    """Mean distance to another exemplar over that to the own one, and its 95% interval by redrawing pictures."""
    own, other = row[name], row[f"{name}, other"]
    draw, found = random.Random(0), []
    for _ in range(DRAWS):
        chosen = draw.choices(range(len(own)), k=len(own))
        found.append(sum(other[n] for n in chosen) / sum(own[n] for n in chosen))
    found.sort()
    return sum(other) / sum(own), found[round(0.025 * DRAWS)], found[round(0.975 * DRAWS) - 1]


def _head(result: dict) -> list[str]:
    took = sum(row.get("took_s", 0) for rows in result.values() if isinstance(rows, dict) for row in rows.values())
    return [
        "# EBDM at a small scale", "",
        f"`python3 benchmarks/ebdm.py` on {result['machine']}, torch {result['torch']}; {took / 60:.0f} minutes. "
        "Pictures of 64 x 64 pixels, no VAE; layouts, texture families and photographs that no training showed; "
        f"{STEPS} steps, solver bbdm (the diffusion: {DIFFUSION_STEPS}, ancestral). Brackets are 95% intervals, by "
        "bootstrap over pictures, of one training each.", "",
        "![Controls against exemplars](ebdm_grid.jpg)", "",
    ]  # fmt: skip


def _bars(result: dict) -> list[str]:
    lines = []
    for name in SETS:
        rows = part(result, name)
        if OURS not in rows:
            continue
        ours, truth, beside = rows[OURS], rows["truth"], rows["the exemplar itself"]
        if "edges" in name:
            reached = statistics.fmean(ours["edge F1"]) >= BAR_EDGES
            lines.append([
                f"{name}: edge F1 against the control at least {BAR_EDGES}", interval(ours["edge F1"], ".3f"),
                _reached(reached), f"{statistics.fmean(beside['edge F1']):.3f}",
            ])  # fmt: skip
        for measure, told in (("colours", "by pixels"), ("palette", "every colour once")):
            found = ratio(ours, measure)
            lines.append([
                f"{name}: palette, {told}, at least {BAR_PALETTE:g} times nearer to the exemplar than to another",
                _with_interval(found, ".2f"), _reached(found[0] >= BAR_PALETTE),
                f"truth {ratio(truth, measure)[0]:.2f}",
            ])  # fmt: skip
    titles = ["", "measured", "", "beside it"]
    about = (
        "*Beside it*: of the edges, what the exemplar gets, whose structure is another; lines are matched within a "
        "pixel, so where edges are dense much agrees by chance. Of the palette, what the true pictures get."
    )
    return ["## What the shipped model is to reach", "", about, "", *table(titles, lines), ""] if lines else []


def _reached(yes: bool) -> str:
    return "**reached**" if yes else "not reached"


def _ablation(result: dict) -> list[str]:
    lines = []
    for name in SETS:
        found = next((key for key in result if key.startswith(f"{name}, ")), None)
        if found is not None:
            lines += [f"### {found[0].upper()}{found[1:]}", "", *_scores(result[found]), ""]
    if not lines:
        return []
    about = (
        "*SSIM*, *PSNR*: to the true picture. *Edge F1*: Canny edges of the answer against those of the control (of a "
        "mask: the boundaries of its classes), within a pixel. *Colours*, *palette*, *texture*: distance to the "
        "exemplar and how many times farther another question's is: `core/metrics/palette.py` (CIELAB; by pixels, and "
        "with every colour counted once, however little there is of it), `texture.py` (0 to 1). *Palette* and "
        "*texture* were settled on true pictures, before there was a model; *colours* was added when it had been seen "
        "that in-between colours of blurred edges and grain, a few pixels each, decide *palette*. *Frechet*: on "
        "pooled features (96, more than there are pictures: compare rows, not papers) of this pack's super-resolution "
        "model: a Frechet distance, not FID; *other true pictures* is what different pictures alone make of it. "
        "*Truth* is the best that can be expected, *the exemplar itself* what style without structure gets, *the "
        "control itself* what structure without style does. The paper's Table 1, SSIM / FID / semantic: "
        f"{PAPER_1}."
    )
    picture = "![The same questions, all models](ebdm_ablation.jpg)"
    return ["## Table 1: the ablation", "", about, "", picture, "", *lines]


def _scores(rows: dict) -> list[str]:
    cells = []
    for name, row in rows.items():
        frechet = _with_interval([round(value, 3) + 0.0 for value in row["frechet"]], ".3g")
        if "ssim" not in row:
            cells.append([name, *[""] * 9, frechet])
            continue
        cells.append([
            name, interval(row["ssim"], ".3f"), _psnr(row["psnr"]), interval(row["edge F1"], ".3f"),
            interval(row["colours"], ".2f"), _times_farther(row, "colours"),
            interval(row["palette"], ".2f"), _times_farther(row, "palette"),
            interval(row["texture"], ".3f"), _times_farther(row, "texture"), frechet,
        ])  # fmt: skip
    titles = ["", "SSIM, high", "PSNR dB, high", "edge F1, high", "colours, low", "other / own, high",
              "palette, low", "other / own, high", "texture, low", "other / own, high", "Frechet, low"]  # fmt: skip
    return table(titles, cells)


def _times_farther(row: dict, name: str) -> str:
    return _with_interval(ratio(row, name), ".2f") if any(row[name]) else ""


def _psnr(values: list[float]) -> str:
    return "exact" if min(values) >= 99 else interval(values, ".2f")


def _diversity(result: dict) -> list[str]:
    found = next((name for name in result if name.startswith("diversity of")), None)
    if found is None:
        return []
    rows = [
        [name, interval(row["diversity"], ".3f"), interval(row["spread"], ".3f"),
         f"{sum(row['diversity']) / sum(row['spread']):.2f}"] for name, row in result[found].items()
    ]  # fmt: skip
    about = (
        f"{found[0].upper()}{found[1:]}; scenes by their edges; perceptual distance (`core/metrics/perceptual.py`). "
        "*By seed*: between answers to the same control and exemplar. *By exemplar*: between answers to the same "
        "control and different exemplars; the truth has one answer to each. A model that does not look at the exemplar "
        "has a ratio of 1."
    )
    return ["## Diversity", "", about, "", *table(["", "by seed", "by exemplar", "ratio"], rows), ""]


def _steps(result: dict) -> list[str]:
    found = next((name for name in result if name.startswith("steps, ")), None)
    if found is None:
        return []
    rows = [
        [name, *(f"{statistics.fmean(row[key]):{form}}" for key, form in (
            ("ssim", ".3f"), ("edge F1", ".3f"), ("colours", ".2f"), ("palette", ".2f"), ("texture", ".3f")
        )), f"{row['frechet'][0]:.3g}"] for name, row in result[found].items()
    ]  # fmt: skip
    titles = ["solver, steps", "SSIM", "edge F1", "colours", "palette", "texture", "Frechet"]
    about = f"The shipped model, {found.removeprefix('steps, ')}; means."
    return [
        "## Steps and solvers",
        "",
        about,
        "",
        "![Quality against steps](ebdm_steps.png)",
        "",
        *table(titles, rows),
        "",
    ]


def _with_interval(found, form: str) -> str:
    value, low, high = found
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"
