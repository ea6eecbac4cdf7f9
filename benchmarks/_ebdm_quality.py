"""EBDM's Table 1 on held-out questions: structure, style and distribution of what each model answers."""

from collections.abc import Callable
from functools import partial

import torch
from _ebdm_models import OURS, ROWS, SHIPPED, SOLVER, Models
from _ebdm_scenes import SEED, SETS, Asked, one_layout_in_families
from _emg_quality import bootstrapped
from _emg_store import Store
from _model_files import EYES
from torch import Tensor

from aqueduct.core.controls import canny
from aqueduct.core.metrics.diversity import diversity, spread
from aqueduct.core.metrics.edges import edge_scores
from aqueduct.core.metrics.palette import colour_distance, palette_distance
from aqueduct.core.metrics.perceptual import feature_distance
from aqueduct.core.metrics.restoration import psnr, ssim
from aqueduct.core.metrics.texture import texture_distance

PICTURES, SWEPT = 48, 24
LAYOUTS, FAMILIES, SEEDS = 4, 3, 4  # of the diversity
# How far an answer's style is from an exemplar's, by name.
STYLE = {"colours": colour_distance, "palette": palette_distance, "texture": texture_distance}
CONTROL, EXEMPLAR = "the control itself", "the exemplar itself"
COUNTS, SOLVERS = (1, 2, 5, 10, 20, 50), ("bbdm", "ode", "dbim-2")


class Judge:
    """Scores pictures ``[n, 3, H, W]`` in 0..1 against what was asked: a value for each, and a Frechet distance."""

    def __init__(self, questions: Asked, eyes):
        self.questions, self.eyes = questions, eyes
        self.truth, self.own, self.others = (
            x / 2 + 0.5 for x in (questions.photo, questions.exemplar, questions.others)
        )
        self.seen = features_of(self.truth, eyes)

    def __call__(self, pictures: Tensor) -> dict:
        edges = edge_scores(canny(pictures) > 0, self.questions.edges)
        scores = {
            "ssim": ssim(pictures, self.truth), "psnr": psnr(pictures, self.truth).clamp(max=99),
            "precision": edges.precision, "recall": edges.recall, "edge F1": edges.f1,
        }  # fmt: skip
        found = {key: value.tolist() for key, value in scores.items()}
        for name, distance in STYLE.items():
            found[name] = [distance(*pair) for pair in zip(pictures, self.own, strict=True)]
            found[f"{name}, other"] = [distance(*pair) for pair in zip(pictures, self.others, strict=True)]
        return found | {"frechet": bootstrapped(features_of(pictures, self.eyes), self.seen)}


def features_of(pictures: Tensor, eyes) -> Tensor:
    """``[n, C]``: means over the picture of the deepest features of a network that no compared model shares."""
    return torch.cat([eyes(part)[-1].mean((2, 3)) for part in pictures.split(16)])


def measure_ablation(models: Models, store: Store, quick: bool) -> None:
    """Every model on every set; the truth, the control and the exemplar as answers say what the scores are worth."""
    eyes = models.eyes()
    for name, make in SETS.items():
        questions = make(4 if quick else PICTURES)
        judge = Judge(questions, eyes)
        part = f"{name}, {len(questions)} pictures"
        given = {"truth": judge.truth, CONTROL: questions.control / 2 + 0.5, EXEMPLAR: judge.own}
        makers = {row: lambda pictures=pictures: pictures for row, pictures in given.items()}
        files: dict[str, tuple[str, ...]] = dict.fromkeys(given, ())
        for row, made_by in models.rows().items():
            files[row] = made_by.files
            makers[row] = partial(answered, models, row, questions, 2 if quick else made_by.steps)
        for row, made in makers.items():
            store.once(part, row, models.digest(EYES, *files[row]), lambda judge=judge, made=made: judge(made()))
        floor = partial(unlike, judge, make, eyes)
        store.once(part, "other true pictures", models.digest(EYES), lambda floor=floor: {"frechet": floor()})


def unlike(judge: Judge, make: Callable[..., Asked], eyes) -> list[float]:
    """How far two sets of true pictures are apart by being different pictures: the floor of the Frechet distance."""
    others = make(len(judge.truth), seed=SEED + 1)
    return bootstrapped(features_of(others.photo / 2 + 0.5, eyes), judge.seen)


def answered(models: Models, row: str, questions: Asked, steps: int, solver: str = SOLVER) -> Tensor:
    """What a model answers; picture n by the seed n, whichever the model."""
    return models.translator(row)(questions.control, questions.exemplar, range(len(questions)), steps, solver)


def measure_diversity(models: Models, store: Store, quick: bool) -> None:
    """How far apart answers to one question are, by seed, and answers to one control, by exemplar."""
    eyes = models.eyes()
    layouts, seeds = (1, 2) if quick else (LAYOUTS, SEEDS)
    questions = one_layout_in_families(layouts, FAMILIES)
    part = f"diversity of {layouts} controls, {FAMILIES} exemplars each, {seeds} seeds"

    def measured(pictures: Callable[[int], Tensor], count: int) -> dict:
        made = torch.stack([pictures(seed) for seed in range(count)], dim=1).unflatten(0, (layouts, FAMILIES))
        seen = [[[eyes(one[None]) for one in group] for group in groups] for groups in made]
        within = [_mean([diversity(g, _apart) for g in groups]) for groups in seen] if count > 1 else [0.0] * layouts
        return {"diversity": within, "spread": [spread(groups, _apart) for groups in seen]}

    truth = questions.photo / 2 + 0.5
    store.once(part, "truth", models.digest(EYES), lambda: measured(lambda seed: truth, 1))
    for row, made_by in models.rows().items():
        translate, steps = models.translator(row), 2 if quick else made_by.steps

        def pictures(seed: int, translate=translate, steps=steps) -> Tensor:
            own = range(1000 * seed, 1000 * seed + len(questions))
            return translate(questions.control, questions.exemplar, own, steps)

        store.once(part, row, models.digest(EYES, *ROWS[row].files), lambda p=pictures: measured(p, seeds))


def _apart(one: list[Tensor], other: list[Tensor]) -> float:
    return feature_distance(one, other).item()


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def measure_steps(models: Models, store: Store, quick: bool) -> None:
    """Quality of our model against the number of steps, by solver."""
    if models.path(SHIPPED) is None:
        return print("steps: no shipped model", flush=True)
    questions = SETS["scenes by their edges"](4 if quick else SWEPT)
    judge = Judge(questions, models.eyes())
    part = f"steps, {len(questions)} scenes by their edges"
    for solver in SOLVERS:
        for steps in COUNTS[:2] if quick else COUNTS:
            made = partial(answered, models, OURS, questions, steps, solver)
            store.once(part, f"{solver}, {steps}", models.digest(EYES, SHIPPED), lambda made=made: judge(made()))
