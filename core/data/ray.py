"""Ray Data as a runner: this machine, or all those of a cluster.

The machines of a cluster see the sources, the output folder, the VAE and this pack under the same paths, as on a shared
file system.
"""

import os
import pickle
import runpy
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from ..optional import need
from .workers import ENTER, PACK

A, B = TypeVar("A"), TypeVar("B")
BLOCKS = 10_000  # Ray keeps books of each: of more pieces of work, several go into one


class OnRay:
    """A `Runner`: ``with OnRay() as runner``. Ray is started and stopped with it, unless it runs already.

    ``address``: of a cluster ("auto", "ray://head:10001", "10.0.0.1:6379"); empty starts Ray on this machine alone,
    with ``processes`` processors (0: all) and ``store_mb`` MiB of shared memory. ``cpus, gpus``: what one piece of
    work takes that is not light.
    """

    def __init__(self, address: str = "", cpus: float = 1, gpus: float = 0, processes: int = 0, store_mb: int = 256):
        self.address, self.cpus, self.gpus = address, cpus, gpus
        self.processes, self.store_mb = processes, store_mb

    def __enter__(self) -> "OnRay":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone
        ray = need("ray", "Preparing data on Ray")
        need("ray.data", "Preparing data on Ray")
        self._started = not ray.is_initialized()
        if self._started and self.address:
            self._connect(ray)
        elif self._started:
            ray.init(
                "local", num_cpus=self.processes or None, object_store_memory=self.store_mb * 2**20,
                include_dashboard=False, log_to_driver=False,
            )  # fmt: skip
        return self

    def _connect(self, ray) -> None:
        try:
            ray.init(self.address, log_to_driver=False)
        except ConnectionError as error:
            raise ConnectionError(
                f"{error}: is it running there (ray start --head)? One that was started where ~/.ray/auth_token lies "
                f"asks for it: set RAY_AUTH_MODE=token, and have the same file on every machine"
            ) from error

    def __exit__(self, *error) -> None:
        if self._started:
            need("ray", "Preparing data on Ray").shutdown()

    def __call__(self, function: Callable[[A], B], items: Iterable[A], light: bool = False) -> Iterator[B]:
        data = need("ray.data", "Preparing data on Ray")
        rows = [{"number": number, "item": pickle.dumps(item)} for number, item in enumerate(items)]
        if not rows:
            return
        work = data.from_items(rows, override_num_blocks=min(len(rows), BLOCKS)).map(
            _entering(pickle.dumps(function)), num_cpus=1 if light else self.cpus, num_gpus=0 if light else self.gpus
        )
        early, due = {}, 0
        for row in work.iter_rows():
            early[row["number"]] = row["result"]
            while due in early:
                yield pickle.loads(early.pop(due))
                due += 1


def _entering(function: bytes) -> Callable[[dict], dict]:
    """``function`` for a process that does not know the pack yet: Ray sends this by value, as it is defined in here."""
    enter, pack = str(ENTER), PACK

    def work(row: dict) -> dict:
        runpy.run_path(enter, {"PACK": pack})
        return {"number": row["number"], "result": pickle.dumps(pickle.loads(function)(pickle.loads(row["item"])))}

    return work
