"""DIS on real video: what is left of the difference between neighbouring frames once the earlier one is warped."""

import time

import torch

from aqueduct.core.motion import MotionField, cycle_mask, warp
from aqueduct.core.motion.estimators import DEFAULT_PRESET, PRESETS, DisEstimator, estimate_motion
from aqueduct.scripts._media import read_clip

# name -> (frames, width); carphone is 176 pixels wide by itself
CLIPS = {"bikes": (250, 320), "bigbuckbunny": (132, 320), "carphone": (120, None)}
CAPS = (256, 384, 512, 768, 1280)


def errors(clip: torch.Tensor, motion: MotionField) -> dict:
    """Mean absolute differences on the grid of the later frame, in 8-bit grey levels.

    Over the pixels that pass the cycle test: *still* of the earlier frame as it is, *warped* along this motion, and
    *last_motion* along the motion of the pair before (what already moved so goes on so).
    """
    valid = cycle_mask(motion.backward, motion.forward)
    later, earlier = clip[1:], clip[:-1]
    last = torch.cat([torch.zeros_like(motion.backward[:1]), motion.backward[:-1]])
    kinds = {"still": earlier, "last_motion": warp(earlier, last), "warped": warp(earlier, motion.backward)}
    difference = {name: 255 * (image - later).abs().mean(1) for name, image in kinds.items()}
    result = {name: values[valid].mean().item() for name, values in difference.items()}
    return result | {
        "ratio": result["still"] / result["warped"],
        "ratio_all_pixels": (difference["still"].mean() / difference["warped"].mean()).item(),
        "valid": valid.float().mean().item(),
    }


def measure_video(quick: bool) -> dict:
    """Every preset on every clip, with times taken in turns; then how the cap on the estimation size trades."""
    result = {"clips": {}, "caps": {}, "default_preset": DEFAULT_PRESET}
    for name, (frames, width) in CLIPS.items():
        clip = read_clip(name, range(20 if quick else frames), width)
        result["clips"][name] = {"frames": len(clip), "size": list(clip.shape[-2:])}
        for preset in PRESETS:
            motion = estimate_motion(clip, DisEstimator(preset))
            result["clips"][name][preset] = errors(clip, motion)
    result["ms_per_pair"] = _times(quick)
    caps = CAPS[:2] if quick else CAPS
    starts = range(0, 130, 65 if quick else 13)
    clips = [read_clip("bigbuckbunny", range(start, start + 2)) for start in starts]
    for cap in caps:
        started = time.process_time()
        motions = [estimate_motion(clip, DisEstimator(), max_side=cap) for clip in clips]
        seconds = (time.process_time() - started) / (2 * len(clips))
        whole = torch.cat(clips)
        joined = MotionField(torch.cat([m.forward for m in motions]), torch.cat([m.backward for m in motions]))
        result["caps"][str(cap)] = _pair_errors(whole, joined) | {"ms_per_pair": 1000 * seconds}
    return result


def _pair_errors(pairs: torch.Tensor, motion: MotionField) -> dict:
    """`errors` for separate pairs: ``pairs [2n, 3, H, W]``."""
    earlier, later = pairs[0::2], pairs[1::2]
    valid = cycle_mask(motion.backward, motion.forward)
    still = 255 * (earlier - later).abs().mean(1)
    warped = 255 * (warp(earlier, motion.backward) - later).abs().mean(1)
    return {
        "still": still[valid].mean().item(), "warped": warped[valid].mean().item(),
        "ratio": (still[valid].mean() / warped[valid].mean()).item(), "valid": valid.float().mean().item(),
    }  # fmt: skip


def _times(quick: bool) -> dict[str, float]:
    """Median milliseconds of processor time per pair at 512 x 218, the presets in turns."""
    clip = read_clip("bikes", range(60, 64), 512)
    estimators = {preset: DisEstimator(preset, threads=1) for preset in PRESETS}
    rounds = {preset: [] for preset in PRESETS}
    for _ in range(2 if quick else 7):
        for preset, estimator in estimators.items():
            started = time.process_time()
            estimator(clip[:-1], clip[1:])
            rounds[preset].append((time.process_time() - started) / (len(clip) - 1))
    return {preset: 1000 * torch.tensor(times).median().item() for preset, times in rounds.items()}
