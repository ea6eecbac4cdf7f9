"""The tables of `warped_diffusion.py`, from its JSON."""

import math
import statistics

BARS = {"lowered": 10.0, "psnr_change": -0.3, "white_to_gp": -0.3}
PAPER_STEP, PAPER_STEPS = 4.32 / 1.62, 2  # appendix F.3: iterations a second without and with guidance; 25 and 50 steps
PROBLEM = {"superres": "Super-resolution", "inpaint": "Inpainting"}
HEADLINE = {"inpaint": "2, 0", "superres": "8, 0"}
GP, FULL, BOTH = "GP warp", "GP warp + full", "GP warp + full, both"
HALF, X0, OUTER = "GP warp + full, lambda 0.5", "GP warp + x0", "GP warp + outer"


def report(result: dict) -> str:
    sections = (_head, _claims, _frames, _shifts, _video, _settings, _cost)
    return "\n".join(line for section in sections for line in [*section(result), ""]).rstrip() + "\n"


def _head(result: dict) -> list[str]:
    frames, cost = result["frames"], _ratios(result["cost"])
    minutes = sum(result["took_s"].values()) / 60
    took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result["took_s"].items())
    lines = [
        "# Warped Diffusion at a small scale",
        "",
        f"`{result['command']}` on {result['machine']}, torch {result['torch']}, one thread; {minutes:.0f} minutes "
        f"({took}). Image models of 64 x 64 pixels in pixel space: **the latent space is the pixel space**, so the "
        "paper's four warping errors are two here. Errors are of values in 0..1, squared, mean over channels and "
        "compared pixels. ± is the standard error over clips or pictures unless it says deviation. Seeds are fixed.",
        "",
        "![Self-warping error against frame, and PSNR](warped_diffusion.png)",
        "",
        "Against the GP warp alone; brackets: least and greatest of the clips.",
        "",
    ]
    rows = []
    wanted = f"at least {BARS['lowered']:g} times, PSNR within {-BARS['psnr_change']:g} dB"
    for short, shift in HEADLINE.items():
        case = result["shifts"][short][shift]
        for way in (FULL, HALF, BOTH, X0):
            lower = [_lowered(case, GP, way, key) for key in ("to_previous", "to_first")]
            change = _paired(case, GP, way, "psnr")
            met = all(ratio >= BARS["lowered"] for ratio, _, _ in lower) and _mean(change) >= BARS["psnr_change"]
            cells = [f"{ratio:.0f} ({least:.0f} to {most:.0f})" for ratio, least, most in lower]
            verdict = f"{wanted}: {'met' if met else '**missed**'}"
            rows.append([f"{PROBLEM[short]}, ({shift}) px a frame: {way}", *cells, _pm(change, "+.2f"), verdict])
    titles = ["error to the previous frame, times lower", "to the first, times lower", "PSNR, dB", "wanted"]
    lines += [*_table(["", *titles], rows), ""]
    rows = []
    for short, title in PROBLEM.items():
        change = _pm(_paired(frames[short], "white", "GP", "psnr"), "+.2f")
        about = f"{title}, single pictures: PSNR of GP less that of white noise, dB"
        rows.append([about, change, f"at least {BARS['white_to_gp']:g}"])
    about = "cost of full guidance, times the GP warp alone"
    rows.append([about, _range(cost[FULL]), f"{PAPER_STEP:.2f} in the paper"])
    return lines + _table(["", "measured", "wanted"], rows)


def _claims(result: dict) -> list[str]:
    """What the paper claims, in numbers of this run."""
    cost, lines = _ratios(result["cost"]), ["## The paper's claims", ""]
    for short, shift in HEADLINE.items():
        case = result["shifts"][short][shift]
        errors = {name: _mean(row["to_first"]) for name, row in case.items()}
        left = math.sqrt(errors[GP]) * 255
        lines.append(
            f"- {PROBLEM[short]}, ({shift}) px a frame. The paper: warped noise is not enough. Here, against "
            f"fresh noise in every frame, it lowers the error to the first frame "
            f"{errors['resample, GP'] / errors[GP]:.1f} times (white: "
            f"{errors['resample'] / errors['white warp']:.1f}) and leaves {left:.1f} grey levels of 255 (RMS). "
            f"The paper: guidance removes the rest. Here: {math.sqrt(errors[FULL]) * 255:.2f} grey levels with full, "
            f"{math.sqrt(errors[X0]) * 255:.2f} with x0, {math.sqrt(errors[OUTER]) * 255:.2f} with outer. Guidance "
            f"without the warp (fresh GP noise): {math.sqrt(errors['resample, GP + full']) * 255:.2f}."
        )
        removed = {name: 1 - errors[name] / errors[GP] for name in (FULL, X0, OUTER)}
        lines.append(
            f"- The same: x0 removes {removed[X0]:.1%} of the warp's error and outer {removed[OUTER]:.1%}, full "
            f"{removed[FULL]:.1%}; beyond the GP warp alone x0 costs {_share(cost, X0)} of what full costs, outer "
            f"{_share(cost, OUTER)}."
        )
    return lines


def _frames(result: dict) -> list[str]:
    frames = result["frames"]
    lines = [
        "## Single pictures (the paper's Table 1)",
        "",
        f"{frames['count']} crops of held-out pictures and {frames['count']} of held-out video, 20 steps. Mean ± "
        "deviation over pictures, as in the paper; the loss ± standard error over groups of 8. Losses of white and GP "
        "noise are of different tasks and not to be compared. *Off the measurement*: RMS in the small frame or in the "
        "known pixels, of 1. *Sharpness*: RMS of the Laplacian over the truth's. *Of the mean*: of the first "
        "prediction, the average of all answers, which no draw of noise disturbs. White and GP went on from one white "
        "model for the same number of steps.",
        "",
    ]
    columns = {"psnr": ("PSNR, dB", ".2f"), "psnr_holes": ("in the holes", ".2f"), "psnr_mean": ("of the mean", ".2f"),
               "ssim": ("SSIM", ".3f"), "sharpness": ("sharpness", ".2f"),
               "off_measurement": ("off the measurement", ".4f")}  # fmt: skip
    rows = []
    for short, title in PROBLEM.items():
        for name, row in frames[short].items():
            cells = [_deviation(row[key], form) if key in row else "" for key, (_, form) in columns.items()]
            rows.append([f"{title}, {name}", *cells, _pm(row["loss"], ".3f")])
    lines += _table(["", *(heading for heading, _ in columns.values()), "denoising loss"], rows)
    for short, title in PROBLEM.items():
        changes = {key: _pm(_paired(frames[short], "white", "GP", key), form) for key, form in
                   (("psnr", "+.2f"), ("psnr_mean", "+.2f"), ("ssim", "+.4f"))}  # fmt: skip
        lines += [
            "",
            f"{title}, GP less white, picture by picture: PSNR {changes['psnr']} dB, of the mean "
            f"{changes['psnr_mean']} dB, SSIM {changes['ssim']}.",
        ]
    return lines


def _shifts(result: dict) -> list[str]:
    shifts = result["shifts"]
    lines = [
        "## A view that moves over a still picture (Figure 3, Table 2)",
        "",
        f"{shifts['clips']} clips of 6 frames, {shifts['steps']} steps. The view moves over a held-out picture by so "
        "many pixels (x, y) a frame; a hole moves with the picture. The motion is exact: thirds of a pixel come from a "
        "picture three times as large. Shrinking by 8 commutes with shifts by 8 alone; at other shifts what was "
        "measured does not move along. Truth at thirds of a pixel shows what bilinear reading leaves. *First guess*: "
        "what the model starts from, the small frames enlarged or the holes filled smoothly. *As printed*: the paper's "
        "step, of fixed length, where the others stop at an error of zero. *Both*: each frame is held against the "
        "previous and the first, in the other rows against the previous, as in the paper.",
    ]
    for short, title in PROBLEM.items():
        for shift in shifts[short]:
            lines += _ways(f"{title}, ({shift}) px a frame", shifts[short][shift])
    return lines


def _video(result: dict) -> list[str]:
    video = result["video"]
    lines = [
        "## Real video (Table 3)",
        "",
        f"{video['clips']} windows of 64 x 64 pixels and 6 frames of each held-out video, {video['steps']} steps; of "
        "12 windows at random the one where most pixels move. The flow is DIS of what a user has: super-resolution, "
        "all the small frames, enlarged by bicubic interpolation; inpainting, with a hole that rests on the screen, "
        "the frames filled by OpenCV's Telea method. Errors are measured along the flow of the true video where it "
        "passes the cycle test; *of truth* is the error to the previous frame over that of the truth. The last rows "
        "are given the flow of the true video: an upper bound.",
    ]
    for short, title in PROBLEM.items():
        for name, case in video[short].items():
            about = f"{_mean(case['flow_off_px']):.2f} px off the true video's, of {_mean(case['moved_px']):.2f} px"
            lines += _ways(f"{title}, {name} (flow {about})", case["rows"], relative=True)
    return lines


def _settings(result: dict) -> list[str]:
    settings = result["settings"]
    lines = [
        "## Settings",
        "",
        f"{settings['clips']} clips each that the other parts do not use. Everything is one change away from what is "
        "used above: full, lambda 1, bounded, previous frame, all of 20 steps.",
    ]
    for short, shift in HEADLINE.items():
        lines += _ways(f"{PROBLEM[short]}, ({shift}) px a frame", settings[short], base="no guidance", model="GP")
    return lines


def _cost(result: dict) -> list[str]:
    cost = result["cost"]
    ratios = _ratios(cost)
    lines = [
        "## Cost",
        "",
        f"Processor seconds a frame of 64 x 64, {cost['steps']} steps, noise included, the ways in turns: median of "
        f"{cost['rounds']} rounds (least and greatest), and the ratio to the GP warp of the same round. The paper's "
        f"guided step takes {PAPER_STEP:.2f} times as long and it makes {PAPER_STEPS} times as many.",
        "",
    ]
    seconds = cost["seconds_per_frame"]
    rows = [[name, _range(own, ".3f"), _range(ratios[name])] for name, own in seconds.items()]
    return lines + _table(["", "seconds a frame", "times the GP warp alone"], rows)


def _model(name: str) -> str:
    return "" if name in ("truth", "first guess") else "GP" if "GP" in name else "white"


def _ways(heading: str, rows: dict, relative: bool = False, base: str = GP, model: str | None = None) -> list[str]:
    """A heading and a row for every way."""
    holes = "psnr_holes" in rows["truth"]
    titles = ["", "model", "to previous", "to first", "RMS to first, grey levels", "PSNR, dB", "in the holes", "SSIM",
              "sharpness", "off the measurement", "of truth"]  # fmt: skip
    kept = [title for title in titles if (holes or title != "in the holes") and (relative or title != "of truth")]
    table = []
    for name, row in rows.items():
        grey = 255 * math.sqrt(_mean(row["to_first"]))
        cells = [f"**{name}**" if name == base else name, _model(name) and (model or _model(name))]
        cells += [_pm(row["to_previous"], ".1e"), _pm(row["to_first"], ".1e")]
        cells += [f"{grey:.2f}", "" if name == "truth" else _pm(row["psnr"], ".2f")]
        cells += ["" if name == "truth" else _pm(row["psnr_holes"], ".2f")] if holes else []
        cells += [_pm(row["ssim"], ".3f"), _pm(row["sharpness"], ".2f"), _pm(row["off_measurement"], ".4f")]
        pairs = zip(row["to_previous"], rows["truth"]["to_previous"], strict=True)
        cells += [_pm([one / true for one, true in pairs], ".2f")] if relative else []
        table.append(cells)
    return ["", f"### {heading}", "", *_table(kept, table)]


def _table(titles: list[str], rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(cells) + " |" for cells in (titles, *rows)]
    return [lines[0], "|---" * len(titles) + "|", *lines[1:]]


def _lowered(rows: dict, base: str, way: str, key: str) -> tuple[float, float, float]:
    """Ratio of the mean errors; least and greatest of the clips' own."""
    before, after = rows[base][key], rows[way][key]
    single = [a / b if b else math.inf for a, b in zip(before, after, strict=True)]
    return sum(before) / sum(after) if sum(after) else math.inf, min(single), max(single)


def _paired(rows: dict, base: str, way: str, key: str) -> list[float]:
    return [b - a for a, b in zip(rows[base][key], rows[way][key], strict=True)]


def _ratios(cost: dict) -> dict[str, list[float]]:
    times = cost["seconds_per_frame"]
    return {name: [a / b for a, b in zip(own, times[GP], strict=True)] for name, own in times.items()}


def _share(cost: dict[str, list[float]], way: str) -> str:
    extra = {name: statistics.median(cost[name]) - 1 for name in (way, FULL)}
    return f"{extra[way] / extra[FULL]:.0%}"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _pm(values: list[float], form: str) -> str:
    """Mean ± standard error."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{_mean(values):{form}} ± {error:{form.lstrip('+')}}"


def _deviation(values: list[float], form: str) -> str:
    return f"{_mean(values):{form}} ± {statistics.stdev(values):{form}}"


def _range(values: list[float], form: str = ".2f") -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"
