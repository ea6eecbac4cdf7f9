"""The parts of `warped_diffusion.py`: every function measures one of them and returns what goes into the JSON."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from _warped_scenes import (
    PROBLEMS,
    SHIFTS,
    SIZE,
    VIDEOS,
    Scene,
    frame_pictures,
    shift_scene,
    single_pictures,
    still_scene,
    video_scene,
)  # fmt: skip
from _warped_ways import GUIDED, STEPS, WAYS, Judge, Models, Way, processor_seconds, restoration, restore, sampled
from torch import Tensor

from aqueduct.core.guidance import x0
from aqueduct.core.training.restoration import NOISES, Levels, denoising_loss

CLIPS, VIDEO_CLIPS, PICTURES, DRAWS, ROUNDS = 4, 3, 32, 4, 4  # PICTURES of either kind
# Settings of the guidance were chosen on clips of seeds 100 and 101; "shifts" and "settings" are other clips.
SEEDS = {"frames": 1, "shifts": 300, "video": 200, "settings": 500, "slices": 904}
# What Table 1 compares: (model, noise)
SINGLE = {"white": ("white", "white"), "GP": ("gp", "gp"), "white model given GP noise": ("white", "gp")}
TRUE_FLOW = ("GP warp", "GP warp + full", "GP warp + x0")
CHOSEN = {"inpaint": (2, 0), "superres": (8, 0)}  # the shift on which settings are compared, on clips of their own


def measure_frames(models: Models, quick: bool) -> dict:
    """Table 1: single pictures. Per picture, so that means, deviations and paired differences can be had."""
    count = 4 if quick else PICTURES
    pictures = {"pictures": single_pictures(count, SEEDS["frames"]), "video": frame_pictures(count, SEEDS["frames"])}
    result: dict = {"count": count}
    for short in PROBLEMS:
        scenes = {kind: still_scene(short, some, SEEDS["frames"]) for kind, some in pictures.items()}
        result[short] = {name: _singles(models, short, scenes, *both) for name, both in SINGLE.items()}
        print(short, {name: _mean(row["psnr"]) for name, row in result[short].items()}, flush=True)
    return result


def _singles(models: Models, short: str, scenes: dict[str, Scene], model: str, noise: str) -> dict:
    """Scores of every picture, those of `scenes` after one another, and the denoising loss of groups of pictures."""
    rows = []
    for scene in scenes.values():
        generator = torch.Generator().manual_seed(scene.seed)
        drawn = NOISES[noise](generator, len(scene.truth), SIZE, SIZE)
        answers = sampled(models, short, scene, Way(model, noise), drawn)
        expected = sampled(models, short, scene, Way(model, noise, steps=1), drawn)  # E[z_0 | what was measured]
        for n, (answer, mean) in enumerate(zip(answers.split(1), expected.split(1), strict=True)):
            one = _one(scene, n)
            rows.append(restoration(answer, one) | {"psnr_mean": restoration(mean, one)["psnr"]})
    losses = [loss for scene in scenes.values() for loss in _losses(models, short, scene, model, noise)]
    return _columns(rows) | {"loss": losses}


def _one(scene: Scene, n: int) -> Scene:
    """Picture n of a still scene by itself."""
    part = slice(n, n + 1)
    if scene.missing is None:
        return replace(scene, truth=scene.truth[part], condition=scene.condition[part])
    left = 1 - scene.missing[part]
    return replace(
        scene, truth=scene.truth[part], condition=scene.condition[part], known=lambda picture: picture * left,
        missing=scene.missing[part],
    )  # fmt: skip


def _losses(models: Models, short: str, scene: Scene, model: str, noise: str, group: int = 8) -> Iterable[float]:
    """The loss of the training, each group of pictures at `DRAWS` draws of level and noise."""
    generator = torch.Generator().manual_seed(scene.seed + 1)
    network, precondition = models.networks[short][model], models.preconditions[short]
    for z_0, condition in zip(scene.truth.split(group), scene.condition.split(group), strict=True):
        loss = 0.0
        for _ in range(DRAWS):
            sigma = Levels().draw(len(z_0), precondition.std, generator)
            eps = NOISES[noise](generator, len(z_0), SIZE, SIZE)
            with torch.no_grad():
                loss += denoising_loss(network, precondition, z_0, eps, sigma, condition).item() / DRAWS
        yield loss


def measure_shifts(models: Models, quick: bool) -> dict:
    """Figure 3 and Table 2: exact motion."""
    clips = 1 if quick else CLIPS
    result: dict = {"clips": clips, "steps": STEPS}
    for short, shifts in SHIFTS.items():
        result[short] = {}
        for name, shift in shifts.items():
            scenes = [shift_scene(short, shift, SEEDS["shifts"] + n) for n in range(clips)]
            result[short][name] = compared_ways(models, short, scenes)
            print(short, name, _short(result[short][name]), flush=True)
    return result


def measure_video(models: Models, quick: bool) -> dict:
    """Table 3: flow that a user can estimate; and with the flow of the video itself, which bounds it from above."""
    clips = 1 if quick else VIDEO_CLIPS
    result: dict = {"clips": clips, "steps": STEPS}
    for short in PROBLEMS:
        result[short] = {}
        for video in VIDEOS:
            scenes = [video_scene(short, video, SEEDS["video"] + n) for n in range(clips)]
            rows = compared_ways(models, short, scenes)
            exact = [scene.given(scene.true) for scene in scenes]
            known = compared_ways(models, short, exact, {name: WAYS[name] for name in TRUE_FLOW})
            rows |= {f"{name}, flow of the true video": known[name] for name in TRUE_FLOW}
            off = [(scene.motion.forward - scene.true.forward).norm(dim=1).mean().item() for scene in scenes]
            moved = [scene.true.forward.norm(dim=1).mean().item() for scene in scenes]
            result[short][video] = {"rows": rows, "flow_off_px": off, "moved_px": moved}
            print(short, video, _short(rows), flush=True)
    return result


def compared_ways(models: Models, short: str, scenes: list[Scene], ways: dict[str, Way] | None = None) -> dict:
    """name -> measure -> a value for each scene. Also the truth, and what the network starts from."""
    ways = WAYS if ways is None else ways
    judges = [Judge.of(scene) for scene in scenes]
    rows = {"truth": _columns([judge(judge.scene.truth) for judge in judges])}
    guess = PROBLEMS[short].guess
    rows["first guess"] = _columns([judge(guess(judge.scene.condition).clamp(-1, 1)) for judge in judges])
    for name, way in ways.items():
        rows[name] = _columns([judge(restore(models, short, judge.scene, way)) for judge in judges])
    return rows


def variations(quick: bool) -> dict[str, Way]:
    """The settings of guidance, one or two away from what is used."""

    def guided(steps: int = STEPS, **changes) -> Way:
        return Way("gp", "gp", replace(GUIDED, **changes), steps)

    ways = {"no guidance": Way("gp", "gp"), "full": guided()}
    for strength in (0.25, 0.5, 1.0, 2.0, 4.0, 16.0):
        ways[f"full, lambda {strength:g}"] = guided(strength=strength)
    for strength in (0.25, 1.0, 4.0, 16.0):
        ways[f"as printed, lambda {strength:g}"] = guided(strength=strength, bounded=False)
    for strength in (0.25, 1.0, 4.0):
        ways[f"x0, lambda {strength:g}"] = guided(strength=strength, mode=x0)
    del ways["full, lambda 1"]  # is "full"
    ways |= {f"reference: {name}": guided(reference=name) for name in ("first frame", "both")}
    ways |= {
        "first half of the steps": guided(end=0.5), "last half of the steps": guided(start=0.5),
        "every second step": guided(share=0.5),
    }  # fmt: skip
    for steps in (10, 50):
        ways[f"{steps} steps, no guidance"] = Way("gp", "gp", None, steps)
        ways[f"{steps} steps, full"] = guided(steps)
    return dict(list(ways.items())[:4]) if quick else ways


def measure_settings(models: Models, quick: bool) -> dict:
    """The settings against each other, on shifts, on clips that the other parts do not use."""
    clips = 1 if quick else 2
    result: dict = {"clips": clips}
    for short, shift in CHOSEN.items():
        scenes = [shift_scene(short, shift, SEEDS["settings"] + n) for n in range(clips)]
        result[short] = compared_ways(models, short, scenes, variations(quick))
        print(short, _short(result[short]), flush=True)
    return result


def measure_cost(models: Models, quick: bool) -> dict:
    """Processor seconds a frame of every way, one torch thread, the ways taken in turns; noise included."""
    rounds = 1 if quick else ROUNDS
    scene = shift_scene("inpaint", CHOSEN["inpaint"], SEEDS["settings"])
    times: dict = {name: [] for name in WAYS}
    for n in range(rounds + 1):
        for name, way in WAYS.items():
            few = replace(way, steps=2) if n == 0 else way  # the first round warms up
            seconds = processor_seconds(lambda few=few: restore(models, "inpaint", scene, few))
            if n:
                times[name].append(seconds / len(scene.truth))
    return {"rounds": rounds, "steps": STEPS, "seconds_per_frame": times}


def slices(models: Models, frames: int) -> dict[str, list[Tensor]]:
    """title -> one row of pixels ``[3, F, W]`` of truth, input, GP warp and guided GP warp over time.

    The middle row, or the one where most is missing.
    """
    seed = SEEDS["slices"]
    scenes = {
        "inpainting, 1 px a frame": ("inpaint", shift_scene("inpaint", (1, 0), seed, frames)),
        "super-resolution, 1 px a frame": ("superres", shift_scene("superres", (1, 0), seed, frames)),
        "super-resolution, carphone": ("superres", video_scene("superres", "carphone", seed, frames)),
    }
    found = {}
    for title, (short, scene) in scenes.items():
        answers = [restore(models, short, scene, WAYS[name]) for name in ("GP warp", "GP warp + full")]
        clips = [scene.truth, scene.condition[:, :3].clamp(-1, 1), *answers]
        row = SIZE // 2 if scene.missing is None else int(scene.missing.sum((0, 1, 3)).argmax())
        found[title] = [clip[:, :, row].movedim(0, 1) for clip in clips]
    return found


def _columns(rows: list[dict]) -> dict[str, list]:
    return {key: [row[key] for row in rows] for key in rows[0]}


def _short(rows: dict) -> dict[str, str]:
    return {name: f"{_mean(row['to_first']):.1e}, {_mean(row['psnr']):.2f} dB" for name, row in rows.items()}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
