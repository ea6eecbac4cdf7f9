"""The preparation of a data set as a TOML file; `configs/prepare` holds examples."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path

from ..tables import fill, read_table
from .encoders import DiffusersVae, Pixels
from .prepare import PrepareSettings, Runner, in_turn
from .ray import OnRay
from .workers import Pool


@dataclass(frozen=True)
class RaySettings:
    """Table ``[ray]``: on Ray Data in place of processes of its own; see `OnRay`."""

    address: str = ""
    cpus: float = 1
    gpus: float = 0
    processes: int = 0
    store_mb: int = 256


@dataclass(frozen=True, kw_only=True)
class Preparation(PrepareSettings):
    """``source``: the folder of videos, ``output``: that of the shards. ``processes``: of this machine, without Ray."""

    source: str
    output: str
    encoder: Pixels | DiffusersVae = Pixels()
    processes: int = 1
    ray: RaySettings | None = None

    @property
    def settings(self) -> PrepareSettings:
        return PrepareSettings(**{one.name: getattr(self, one.name) for one in fields(PrepareSettings)})

    def runner(self) -> AbstractContextManager[Runner]:
        if self.ray is not None:
            return OnRay(**vars(self.ray))
        return nullcontext(in_turn) if self.processes == 1 else Pool(self.processes)


def read(path: str | Path, changes: Sequence[str] = ()) -> Preparation:
    """The preparation in a TOML file; ``changes`` such as ``size.width=512`` come before it.

    Paths in it are relative to where the command is run. Raises ValueError naming file, table and key.
    """
    return fill(Preparation, read_table(path, changes), str(path))
