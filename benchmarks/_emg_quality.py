"""EMG's Tables 3 and 4 on held-out worlds: what the motion's form and the mask are worth."""

import functools
from collections.abc import Callable

import torch
from _emg_models import BACKBONE, FRAMES, SHIPPED, SIZE, Models, animate, held_out_pictures
from _emg_store import Store
from _model_files import EYES
from torch import Tensor

from aqueduct.core.guidance import Pairs, previous_frame
from aqueduct.core.metrics.consistency import self_warping_error
from aqueduct.core.metrics.frechet import frechet_distance
from aqueduct.core.metrics.perceptual import clip_features, feature_distance, neighbour_similarity
from aqueduct.core.metrics.restoration import psnr
from aqueduct.core.motion.carry import Carry, carry, direct_carry
from aqueduct.core.motion.estimators import DisEstimator
from aqueduct.core.motion.field import MotionField
from aqueduct.core.training.motion_clips import PhotoWorlds
from aqueduct.core.training.worlds import LayeredWorld

CLIPS, SUBSET = 64, 32
SEED, OTHER_SEED = 9001, 9002  # of the worlds measured on, and of those that tell how far two sets of truths are apart
DRAWS = 200  # of the bootstrap over clips
ALPHAS = ((0.005, 0.5), (0.01, 0.5), (0.05, 0.5), (0.01, 0.1), (0.01, 1.0))
# Table 3: row -> (file, form of the motion)
VARIANTS = {
    "Lagrangian": ("emg_lagrangian", "direct"),
    "Eulerian, no mask": ("emg_eulerian", "chain"),
    "Eulerian, forward-only mask": ("emg_forward_only", "chain"),
    "Eulerian, BGC": ("emg_bgc", "chain"),
    "shipped adapter, from the repeated picture": (SHIPPED, "chain"),
}


class Scenes:
    """Held-out worlds with what is known of them, made once. ``truth [n, F, 3, H, W]`` in 0..1."""

    def __init__(self, count: int, seed: int = SEED, frames: int = FRAMES):
        generator = torch.Generator().manual_seed(seed)
        source = PhotoWorlds(held_out_pictures(), SIZE, SIZE, frames)
        self.seed, self.worlds = seed, [source.draw(generator) for _ in range(count)]
        self.truth = torch.stack([world.clip().clamp(0, 1) for world in self.worlds])

    @property
    def first(self) -> Tensor:
        return self.truth[:, 0]

    @property
    def seeds(self) -> range:
        return range(1000 * self.seed, 1000 * self.seed + len(self.truth))

    @functools.cached_property
    def pairs(self) -> list[Pairs]:
        """Neighbouring frames along the exact motion, where nothing is hidden."""
        return [exact_pairs(world) for world in self.worlds]

    @functools.cached_property
    def estimated(self) -> list[MotionField]:
        estimate = DisEstimator(threads=1)
        return [MotionField(estimate(v[:-1], v[1:]), estimate(v[1:], v[:-1])) for v in self.truth]

    def chain(self, **alphas) -> Carry:
        """The Eulerian way back to frame 0, of the estimated motion."""
        return joined(carry(motion, **alphas) for motion in self.estimated)

    def direct(self) -> Carry:
        """The Lagrangian one."""
        estimate = DisEstimator(threads=1)
        return joined(lagrangian(video, estimate) for video in self.truth)


def lagrangian(video: Tensor, estimate) -> Carry:
    first = video[:1].expand_as(video[1:])
    return direct_carry(estimate(first, video[1:]), estimate(video[1:], first))


def exact_pairs(world: LayeredWorld) -> Pairs:
    motion = world.motion()
    hidden, uncovered = world.occlusions()
    return previous_frame(MotionField(motion.forward, forward_valid=~hidden))


def joined(ways) -> Carry:
    ways = list(ways)
    return Carry(*(torch.cat([getattr(way, name) for way in ways]) for name in ("points", "seen", "onward")))


class Judge:
    """Scores sets of clips ``[n, F, 3, H, W]`` against the truth of ``scenes``, a value for each clip."""

    def __init__(self, scenes: Scenes, eyes):
        self.scenes, self.eyes = scenes, eyes
        self.features = self.features_of(scenes.truth)

    def __call__(self, clips: Tensor) -> dict:
        rows, features = [], []
        for clip, true, pair in zip(clips, self.scenes.truth, self.scenes.pairs, strict=True):
            seen = self.eyes(clip)
            rows.append({
                "perceptual": feature_distance(seen, self.eyes(true))[1:].mean().item(),
                "warping": 1e3 * self_warping_error(clip, pair).nanmean().item(),
                "psnr": psnr(clip[1:], true[1:]).clamp(max=99).mean().item(),
                "similarity": neighbour_similarity(seen[-1]),
            })  # fmt: skip
            features.append(clip_features(seen[-1]))
        scores = {key: [row[key] for row in rows] for key in rows[0]}
        return scores | {"frechet": bootstrapped(torch.stack(features), self.features)}

    def features_of(self, clips: Tensor) -> Tensor:
        return torch.stack([clip_features(self.eyes(clip)[-1]) for clip in clips])


def bootstrapped(one: Tensor, other: Tensor) -> list[float]:
    """Frechet distance with its 95% interval: both sets redrawn by clip, around the distance (a redrawn set repeats
    clips, which by itself drives two sets apart: the interval is moved back by the median excess)."""
    distance = frechet_distance(one, other)
    generator = torch.Generator().manual_seed(0)
    draws = []
    for _ in range(DRAWS):
        chosen = torch.randint(len(one), (len(one),), generator=generator)
        draws.append(frechet_distance(one[chosen], other[chosen]))
    draws = torch.tensor(draws, dtype=torch.float64)
    low, high = (draws - draws.median()).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return [distance, distance + low, distance + high]


def measure_ablation(models: Models, store: Store, quick: bool) -> None:
    """Table 3, and what it is to be seen against."""
    scenes = Scenes(2 if quick else CLIPS)
    judge = Judge(scenes, models.eyes())
    backbone = models.backbone()
    part = f"ablation of {len(scenes.truth)} clips"
    chain = functools.cache(scenes.chain)
    direct = functools.cache(scenes.direct)
    ways = {"chain": chain, "direct": direct}

    def generated(adapter, way: Carry, prior=None) -> Tensor:
        return animate(models, backbone, adapter, scenes.first, way, scenes.seeds, prior)

    rows: dict[str, tuple[tuple[str, ...], Callable[[], Tensor]]] = {
        "truth": ((), lambda: scenes.truth),
        "pure warp": ((), lambda: chain().stretched(scenes.first)),
        "pure warp, Lagrangian": ((), lambda: direct().stretched(scenes.first)),
        "backbone alone": ((BACKBONE,), lambda: generated(None, chain())),
        "bridge from the carried picture": (
            (BACKBONE,), lambda: generated(None, chain(), chain().stretched(scenes.first))
        ),
    }  # fmt: skip
    for name, (file, form) in VARIANTS.items():
        if models.has(file):
            rows[name] = ((BACKBONE, file), lambda f=file, w=form: generated(models.adapter(f), ways[w]()))
    if models.has(SHIPPED):
        rows["shipped adapter, from the carried picture"] = (
            (BACKBONE, SHIPPED), lambda: generated(models.adapter(SHIPPED), chain(), chain().stretched(scenes.first))
        )  # fmt: skip
    for name, (files, make) in rows.items():
        store.once(part, name, models.digest(EYES, *files), lambda make=make: judge(make()))
    other = Scenes(len(scenes.truth), OTHER_SEED)
    apart = lambda: {"frechet": bootstrapped(judge.features_of(other.truth), judge.features)}  # noqa: E731
    store.once(part, "other worlds", models.digest(EYES), apart)


def measure_alphas(models: Models, store: Store, quick: bool) -> None:
    """Table 4 without retraining: what the thresholds let through, and the same adapter shown other masks."""
    scenes = Scenes(2 if quick else SUBSET)
    judge = Judge(scenes, models.eyes())
    backbone = models.backbone()
    hidden = torch.stack([world.occlusions()[0] for world in scenes.worlds])
    part = f"alphas of {len(scenes.truth)} clips"
    name = "emg_bgc"
    if not models.has(name):
        return print(f"alphas: no {name}.safetensors", flush=True)
    adapter = models.adapter(name)
    for alpha1, alpha2 in ALPHAS:

        def measured(alphas=None) -> dict:
            masks = torch.stack([motion.checked(**alphas).forward_valid for motion in scenes.estimated])
            way = scenes.chain(**alphas)
            clips = animate(models, backbone, adapter, scenes.first, way, scenes.seeds)
            return judge(clips) | rejected(~masks, hidden) | {"seen": way.seen[:, 1:].float().mean().item()}

        alphas = {"alpha1": alpha1, "alpha2": alpha2}
        digest = models.digest(EYES, BACKBONE, name)
        store.once(part, f"{alpha1:g}, {alpha2:g}", digest, functools.partial(measured, alphas))


def rejected(found: Tensor, hidden: Tensor) -> dict:
    """How well what the test rejects is what is hidden: ``[n, F-1, H, W]`` bool, both."""
    both = (found & hidden).sum().item()
    return {
        "rejected": found.float().mean().item(),
        "precision": both / max(1, found.sum().item()),
        "recall": both / max(1, hidden.sum().item()),
    }
