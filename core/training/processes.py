"""One process or several that train one network together."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Alone:
    """This process is the only one."""

    rank: int = 0
    count: int = 1
    main: bool = True

    @property
    def device(self) -> torch.device:
        """Where its networks belong, if nobody says otherwise."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


ALONE = Alone()


def launched() -> Alone:
    """The processes this one was started with."""
    return ALONE
