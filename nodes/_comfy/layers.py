"""Layers of ComfyUI that have weights from the start, as the pack's networks expect of theirs.

With dynamic VRAM newer versions give some layers none before a file is read into them: a network could then neither set
its first weights nor be compared with a file. They leave out layers that read files in a way of their own.
"""

import inspect

from torch import nn


def with_weights(operations: type) -> type:
    """A namespace of ``comfy.ops``, as ``manual_cast``, whose layers have weights before any are loaded."""
    layers = inspect.getmembers(operations, lambda one: inspect.isclass(one) and issubclass(one, nn.Module))
    return type(operations.__name__, (operations,), {name: _with_weights(layer) for name, layer in layers})


def _with_weights(layer: type[nn.Module]) -> type[nn.Module]:
    class Whole(layer):
        def _load_from_state_dict(self, *args, **kwargs):
            return super()._load_from_state_dict(*args, **kwargs)

    Whole.__name__ = layer.__name__
    return Whole
