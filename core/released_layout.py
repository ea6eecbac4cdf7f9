"""What a released checkpoint of another project is recognised by, and what it becomes."""

import copy
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from torch import nn

from .tensor_file import Shapes, shapes_of


def _bare(layer: type[nn.Module]) -> type[nn.Module]:
    """The layer without initialisation, whose first use on the meta device takes seconds of imports."""
    return type(layer.__name__, (layer,), {"reset_parameters": lambda self: None})


_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.Embedding)
_BARE = SimpleNamespace(**{layer.__name__: _bare(layer) for layer in _LAYERS})


@dataclass(frozen=True)
class Released:
    """One known file, whose network becomes ``part``; ``settings`` are the rest of its configuration.

    ``renamed``: pairs of beginnings of keys, (theirs, ours), of which the first that fits holds; keys that none fits
    stay. Keys beginning with one of ``beside`` are of another network that may lie in the same file and is not needed.
    ``refused``: entries of the checkpoint beside its weights with which this is another model -> what they stand for.
    """

    title: str
    part: str
    architecture: type[nn.Module]
    arguments: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    renamed: tuple[tuple[str, str], ...] = ()
    beside: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        parts = {self.part: {"architecture": self.architecture.__name__, "arguments": dict(self.arguments)}}
        return {"about": self.title, "parts": parts, **copy.deepcopy(self.settings)}

    def names(self, shapes: Shapes) -> dict[str, str]:
        """Our name of each tensor -> its name in the file."""
        return {self._ours(key): key for key in shapes if not key.startswith(self.beside)}

    def _ours(self, key: str) -> str:
        for theirs, ours in self.renamed:
            if key.startswith(theirs):
                return ours + key.removeprefix(theirs)
        return key

    @cached_property
    def shapes(self) -> Shapes:
        network = self.architecture(**self.arguments, operations=_BARE, device="meta")
        return shapes_of(network.state_dict())
