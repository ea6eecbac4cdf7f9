"""What a wrapper around a MODEL's network knows of the run of a sampler that it is called in."""

import inspect
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from comfy.patcher_extension import WrappersMP

RUN_KEY = "aqueduct_run"  # in transformer_options, which each run has anew
Value = TypeVar("Value")


@dataclass(eq=False)
class Run:
    """One run of a sampler: the MODEL's levels, the guider's conditions by name, the shape of what is made, and what
    was computed once for all steps."""

    sampling: Any
    conds: dict[str, list[dict]] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    kept: dict[Hashable, Any] = field(default_factory=dict)

    def once(self, key: Hashable, make: Callable[[], Value]) -> Value:
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]


@dataclass(frozen=True)
class Span:
    """A part of a MODEL's levels, ``start`` to ``end`` of 0 to 1, as ControlNets count it. Raises ValueError."""

    start: float
    end: float

    def __post_init__(self):
        if not 0 <= self.start <= self.end <= 1:
            raise ValueError(
                f"start_percent {self.start} and end_percent {self.end} must be 0 to 1, the start before the end"
            )

    def holds(self, run: Run, options: dict) -> bool:
        """Whether the network is asked at a level in it; ``options``: the call's transformer_options."""
        level = float(options["sigmas"].flatten()[0])
        first, last = (run.sampling.percent_to_sigma(percent) for percent in (self.start, self.end))
        return float(last) <= level <= float(first)


def negatives(run: Run, options: dict) -> list[bool]:
    """Of each condition that a call asks under, in the order of its rows, whether it is a negative one.

    What a guider calls it says so. Regions of a picture can bear the name of another; where names do not decide, the
    place does that CFG gives to each.
    """

    def negative(place: int, key) -> bool:
        names = [name for name, conds in run.conds.items() if any(cond.get("uuid") == key for cond in conds or ())]
        return names == ["negative"] if len(names) == 1 else place == 1

    places = options.get("cond_or_uncond") or [0]
    return [negative(*pair) for pair in zip(places, options.get("uuids") or [None] * len(places), strict=True)]


def watch(clone) -> None:
    """Have a `Run` in the transformer_options of this MODEL while a sampler runs."""
    if not clone.get_wrappers(WrappersMP.SAMPLER_SAMPLE, RUN_KEY):
        clone.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, RUN_KEY, _running)


def run_of(options: dict, what: str) -> Run:
    """The run that a MODEL with ``what`` is in. Raises ValueError where it is called by something else."""
    if RUN_KEY not in options:
        raise ValueError(f"a MODEL with {what} is to be sampled by a GUIDER (KSampler or any other node)")
    return options[RUN_KEY]


def bound(executor, args: tuple, kwargs: dict) -> inspect.BoundArguments:
    """A network's call by the names of its arguments, those left out included."""
    call = inspect.signature(executor.original).bind(*args, **kwargs)
    call.apply_defaults()
    return call


def _running(executor, guider, sigmas, extra_args, callback, noise, *args, **kwargs):
    options = extra_args["model_options"].setdefault("transformer_options", {})
    options[RUN_KEY] = Run(guider.inner_model.model_sampling, getattr(guider, "conds", {}), tuple(noise.shape))
    try:
        return executor(guider, sigmas, extra_args, callback, noise, *args, **kwargs)
    finally:
        del options[RUN_KEY]
