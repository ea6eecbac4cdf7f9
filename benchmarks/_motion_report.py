"""The tables of `motion.py`, from its JSON."""

BARS = {
    "f1_exact": 0.9,
    "f1_dis": 0.6,
    "bikes_ratio": 3.0,
    "memory_gib": 4.0 * 1e9 / 2**30,
}


def report(result: dict) -> str:
    sections = (_head, _masks, _horizon, _video, _batching, _memory)
    return "\n".join(line for section in sections for line in [*section(result), ""]).rstrip() + "\n"


def _head(result: dict) -> list[str]:
    sources, video = result["masks"]["sources"], result["video"]
    default = video["default_preset"]
    measured = {
        "F1 of occluded pixels, exact flow": (sources["exact flow"]["f1"], BARS["f1_exact"], "at least"),
        f"F1 of occluded pixels, DIS {default}": (sources[f"DIS {default}"]["f1"], BARS["f1_dis"], "at least"),
        f"bikes at 320 px: error lowered, times (DIS {default})":
            (video["clips"]["bikes"][default]["ratio"], BARS["bikes_ratio"], "at least"),
        f"peak memory, {result['memory']['frames']} frames at 512 x 512, GiB":
            (result["memory"]["peak_gib"], BARS["memory_gib"], "under"),
    }  # fmt: skip
    return [
        "# Motion: masks, horizons, real video, cost",
        "",
        f"`{result['command']}` on {result['machine']}, torch {result['torch']}, OpenCV {result['opencv']}.",
        "![Six plots of the tables below](motion.png)",
        "",
        "| | measured | wanted |",
        "|---|---|---|",
        *(f"| {name} | {value:.3f} | {kind} {bar:.3g} |" for name, (value, bar, kind) in measured.items()),
    ]


def _masks(result: dict) -> list[str]:
    masks = result["masks"]
    height, width = masks["size"]
    lines = [
        "## Cycle test against true occlusion",
        "",
        f"{masks['worlds']} exact worlds of {width} x {height} pixels and {masks['frames']} frames, textured shapes at "
        f"{masks['speed']:g} px a frame over a background at a quarter of that; both directions pooled. *Occluded*: "
        "hidden in the other frame, or outside of it. Endpoint error: where it is seen in both. "
        "alpha1 = 0.01, alpha2 = 0.5 px^2.",
        "",
        "![One scene](motion_masks.png)",
        "",
        "| flow from | precision | recall | F1 | false alarms beside a hidden pixel | endpoint error, px |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in masks["sources"].items():
        lines.append(
            f"| {name} | {row['precision']:.3f} | {row['recall']:.3f} | **{row['f1']:.3f}** | "
            f"{row['alarms_beside_truth']:.0%} | {row['endpoint_error_px']:.3f} |"
        )
    lines += [
        "",
        "The precision with exact flow is below 1 because the flow back is read between pixels, which mixes two "
        "motions across an outline. That error is a ring of a pixel, while what is really hidden is as wide as the "
        "motion, so fast motion scores better. What moves by less than sqrt(alpha2) = 0.7 px against its neighbours "
        "is missed.",
        "",
        "| speed, px a frame | occluded | F1, exact flow | F1, DIS flow | recall, DIS flow |",
        "|---|---|---|---|---|",
    ]
    for speed, row in masks["speeds"].items():
        exact, dis = row["exact flow"], row["DIS flow"]
        lines.append(
            f"| {speed} | {row['occluded']:.1%} | {exact['f1']:.3f} | {dis['f1']:.3f} | {dis['recall']:.3f} |"
        )
    for source, rows in masks["grid"].items():
        lines += ["", f"F1 with {source} (down: alpha1; across: alpha2 in px^2):", ""]
        lines += ["| | " + " | ".join(f"{a:g}" for a in masks["alpha2"]) + " |", "|---|" + "---|" * len(rows[0])]
        for alpha1, row in zip(masks["alpha1"], rows, strict=True):
            cells = (_marked(cell["f1"], alpha1, a2) for cell, a2 in zip(row, masks["alpha2"], strict=True))
            lines.append(f"| {alpha1:g} | " + " | ".join(cells) + " |")
    return [*lines, "", "Bold: the defaults."]


def _marked(value: float, alpha1: float, alpha2: float) -> str:
    return f"**{value:.3f}**" if (alpha1, alpha2) == (0.01, 0.5) else f"{value:.3f}"


def _horizon(result: dict) -> list[str]:
    horizon = result["horizon"]
    world = horizon["world"]
    columns = {
        "direct 0 to t": "direct_px", "composed 0 to t": "composed_px", "one step, t-1 to t": "step_px",
        "direct, passing the test": "direct_valid_px", "composed, passing": "composed_valid_px",
    }  # fmt: skip
    shares = {
        "truly seen in t": "truly_seen", "direct valid": "direct_valid", "composed valid": "composed_valid",
        "one step valid": "step_valid",
    }  # fmt: skip
    lines = [
        "## Lagrangian against Eulerian",
        "",
        f"{horizon['worlds']} exact worlds of {horizon['size'][1]} x {horizon['size'][0]} pixels at "
        f"{horizon['speed']:g} px a frame, DIS. *Direct* (Lagrangian) estimates frame 0 to t from the two images; "
        "*composed* follows the adjacent fields; *one step* is a single adjacent field, which EMG supervises with. "
        "Endpoint error in px over the pixels of frame 0 that stay visible up to t (one step: seen in both frames), "
        "mean ± standard error over worlds; then the shares of all pixels.",
        "",
        *_by_horizon(world, columns, "{:.2f}"),
        "",
        *_by_horizon(world, shares, "{:.0%}"),
        "",
        "On the worlds EMG's claim holds as stated: the error of one step stays where it is, that of the direct "
        "estimate grows fast once the motion outgrows the estimator's search. Followed from step to step, errors add "
        "up slowly. On real video, where little moves far, the direct estimate is the better one at most distances.",
        "",
        "The same on real video, from several starting frames: difference to frame 0 of frame t warped onto it (8-bit "
        "grey levels, pixels valid both ways), and the share of pixels that pass the cycle test.",
    ]
    video = {
        "unwarped": ("still_error", "{:.2f}"), "direct": ("direct_error", "{:.2f}"),
        "composed": ("composed_error", "{:.2f}"), "direct valid": ("direct_valid", "{:.0%}"),
        "composed valid": ("composed_valid", "{:.0%}"), "one step valid": ("step_valid", "{:.0%}"),
    }  # fmt: skip
    for name, values in horizon["video"].items():
        ts = list(values["still_error"])
        lines += ["", f"| {name}, t = | " + " | ".join(ts) + " |", "|---|" + "---|" * len(ts)]
        for title, (key, form) in video.items():
            lines.append(f"| {title} | " + " | ".join(_shown(values[key][t][0], form) for t in ts) + " |")
    return lines


def _by_horizon(values: dict, columns: dict[str, str], form: str) -> list[str]:
    lines = ["| t | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for t in next(iter(values.values())):
        cells = (" ± ".join(_shown(number, form) for number in values[key][t]) for key in columns.values())
        lines.append(f"| {t} | " + " | ".join(cells) + " |")
    return lines


def _shown(value: float | None, form: str) -> str:
    return "none" if value is None else form.format(value)


def _video(result: dict) -> list[str]:
    video = result["video"]
    times = video["ms_per_pair"]
    lines = [
        "## Real video",
        "",
        "Mean absolute difference to the later frame of each pair (8-bit grey levels), over the pixels that pass the "
        "cycle test: the previous frame as it is, warped along the motion of the pair before, and warped along its own "
        "motion. *Ratio*: as it is / own motion, over those pixels and over all. Time: of one processor, at "
        "512 x 218 pixels.",
        "",
        "| clip | preset | previous frame | last motion | own motion | ratio | ratio, all pixels | valid | ms a pair |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, clip in video["clips"].items():
        for preset, ms in times.items():
            row = clip[preset]
            lines.append(
                f"| {name} ({clip['frames']} frames, {clip['size'][1]} x {clip['size'][0]}) | {preset} | "
                f"{row['still']:.2f} | {row['last_motion']:.2f} | {row['warped']:.2f} | **{row['ratio']:.2f}** | "
                f"{row['ratio_all_pixels']:.2f} | {row['valid']:.1%} | {ms:.1f} (x{ms / times['ultrafast']:.1f}) |"
            )
    lines += [
        "",
        f"What the cap on the longest side of the estimation costs: bigbuckbunny at 1280 x 720, DIS "
        f"{video['default_preset']}, pairs spread over the clip (time of one processor, with resizing).",
        "",
        "| longest side | previous frame | own motion | ratio | valid | ms a pair |",
        "|---|---|---|---|---|---|",
    ]
    for cap, row in video["caps"].items():
        lines.append(
            f"| {cap} | {row['still']:.2f} | {row['warped']:.2f} | {row['ratio']:.2f} | {row['valid']:.1%} | "
            f"{row['ms_per_pair']:.0f} |"
        )
    return lines


def _batching(result: dict) -> list[str]:
    batching = result["batching"]
    lines = [
        "## One batch against a loop over pairs",
        "",
        f"{batching['frames']} frames, both directions: {2 * (batching['frames'] - 1)} pairs, taken in turns; medians. "
        f"DIS on the CPU: one pair after the other against pairs on {batching['dis_threads']} threads. RAFT on "
        f"{batching['device']} (random weights, 12 updates, {batching['torch_threads']} torch thread; on the CPU its "
        "processor time, which neighbours do not touch). Two processors, load average "
        f"{batching['load'][0]:.1f} to {batching['load'][1]:.1f}. EMG reports 2.7x "
        "for a training step of 24 frames on a GPU; a single CPU thread has no idle units for a batch to fill.",
        "",
        "| | size | loop, s | batch, s | loop / batch |",
        "|---|---|---|---|---|",
    ]
    for name, row in batching["cases"].items():
        size = f"{row['size'][1]} x {row['size'][0]}"
        lines.append(f"| {name} | {size} | {row['loop']:.2f} | {row['batch']:.2f} | {row['ratio']:.2f} |")
    for name, seconds in batching["lengths"].items():
        lines += ["", f"| {name}, frames | " + " | ".join(seconds) + " |", "|---|" + "---|" * len(seconds)]
        lines.append("| s | " + " | ".join(f"{value:.2f}" for value in seconds.values()) + " |")
    return lines


def _memory(result: dict) -> list[str]:
    memory = result["memory"]
    return [
        "## Memory",
        "",
        f"A fresh process, {memory['frames']} frames of {memory['size']} x {memory['size']} pixels on the CPU, both "
        "directions. Peak resident memory in GiB, cumulative:",
        "",
        "| the clip itself | at the start | estimated | masked | advected |",
        "|---|---|---|---|---|",
        f"| {memory['clip_gib']:.2f} | {memory['at_start_gib']:.2f} | {memory['after_estimation_gib']:.2f} | "
        f"{memory['after_masks_gib']:.2f} | **{memory['peak_gib']:.2f}** |",
        "",
        f"Estimation took {memory['estimation_s']:.0f} s, advecting {memory['advect_s']:.0f} s.",
    ]
