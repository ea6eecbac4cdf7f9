"""What a MODEL or a CONDITIONING carries, as JSON: another text wherever it could act in another way.

Patches are functions, closures and objects of anybody's. A function is its name, its code and what it holds; an object
is its kind and its attributes. What can be looked into no further is noted: nothing can be said to be the same as it.
"""

import enum
import functools
import hashlib
import json
import re
import types
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import comfy.model_base
import numpy as np
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from .dataset import weights_digest

LONGEST, TABLE = 1000, 5000  # characters of a piece of JSON, and of a table, that are told whole and not summed up
DEEPEST, MOST = 50, 50_000  # objects within objects, and of them in all, that are looked into
WHOLE = (type(None), bool, int, str)
BY_TEXT = (float, complex, range, enum.Enum, Path, re.Pattern, torch.dtype, torch.device, np.generic)
BY_NAME = (type, types.ModuleType, types.MethodDescriptorType, types.WrapperDescriptorType)
# What a patcher holds of its MODEL besides the weights themselves.
CARRIED = (
    "patches", "object_patches", "weight_wrapper_patches", "model_options", "wrappers", "callbacks", "injections",
    "attachments", "additional_models", "hook_patches", "forced_hooks",
)  # fmt: skip
OF_MODULES = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules"}  # hooks, as PyTorch counts them
# Attributes of networks and their layers while ComfyUI has them in memory, and from then on; the second line is of
# dynamic VRAM.
OF_LOADING = re.compile(
    r"device$|current_|(prev_)?comfy_|(weight|bias)_function$|(model|lowvram)_\w*(memory|lowvram|counter)$"
    r"|_v(_\w+)?$|_pins$|_pin_state$|_prefetch$|seed_key$|(weight|bias)_lowvram_function$|dynamic_(vbars|pins|patchers)$"
)


class Identity:
    """``of(anything)`` -> JSON. ``unknown``: kinds of what could not be looked into."""

    def __init__(self):
        self.unknown: list[str] = []
        self._told: dict[int, Any] = {}
        self._held: list[Any] = []  # else an id might come to be another's
        self._depth = 0

    def of(self, thing: Any) -> Any:
        if isinstance(thing, BY_TEXT):
            return repr(thing)
        if isinstance(thing, WHOLE):
            return thing
        if isinstance(thing, BY_NAME):
            return _name(thing)
        if id(thing) not in self._told:
            self._held.append(thing)
            self._told[id(thing)] = "what it lies in"
            self._told[id(thing)] = _short(self._looked_into(thing))
        return self._told[id(thing)]

    def carried(self, patcher: ModelPatcher) -> dict:
        """What lies on a MODEL."""
        found = {name: filled(getattr(patcher, name, None)) for name in CARRIED}
        return {name: self.of(thing) for name, thing in found.items() if thing is not None}

    def _looked_into(self, thing: Any) -> Any:
        if self._depth == DEEPEST or len(self._held) > MOST:
            return self._unknown(thing)
        self._depth += 1
        try:
            return next((told for kinds, told in KINDS if isinstance(thing, kinds)), Identity._object)(self, thing)
        finally:
            self._depth -= 1

    def _unknown(self, thing: Any) -> str:
        self.unknown.append(_name(type(thing)))
        return f"some {_name(type(thing))}"

    def _patcher(self, patcher: ModelPatcher) -> dict:
        return {"MODEL": self.of(patcher.model), **self.carried(patcher)}

    def _model(self, model: comfy.model_base.BaseModel) -> dict:
        levels = self.of(model.model_sampling)
        return {"kind": _name(type(model)), "weights": weights_digest(model.diffusion_model), "levels": levels}

    def _module(self, module: nn.Module) -> dict:
        names = [name for name in vars(module) if name not in OF_MODULES and not OF_LOADING.match(name)]
        own = {name: vars(module)[name] for name in names}
        return {"kind": _kinds(module), **self._pairs(own)}

    def _tensor(self, x: Tensor) -> Any:
        if type(x) not in (Tensor, nn.Parameter) or x.layout != torch.strided:
            return self._unknown(x)
        content = x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        return f"{x.dtype} {list(x.shape)} {_digest(content.data)}"

    def _array(self, x: np.ndarray) -> Any:
        return self._all(x.tolist()) if x.dtype.hasobject else f"{x.dtype} {list(x.shape)} {_digest(x.tobytes())}"

    def _pairs(self, table: dict) -> Any:
        if all(isinstance(key, str) for key in table):
            return {key: self.of(value) for key, value in table.items()}
        return sorted(([self.of(key), self.of(value)] for key, value in table.items()), key=json.dumps)

    def _all(self, things: Iterable) -> list:
        return [self.of(thing) for thing in things]

    def _set(self, things: Iterable) -> list:
        return sorted(self._all(things), key=json.dumps)

    def _function(self, function: types.FunctionType) -> dict:
        cells = [_content(cell) for cell in function.__closure__ or ()]
        held = dict(zip(function.__code__.co_freevars, cells, strict=True))
        defaults = self._all((function.__defaults__, function.__kwdefaults__))
        return {"kind": _name(function), "code": _code(function.__code__), "defaults": defaults, **self._pairs(held)}

    def _method(self, method: types.MethodType | types.BuiltinMethodType) -> dict:
        return {"kind": method.__name__, "of": self._all((getattr(method, "__func__", None), method.__self__))}

    def _partial(self, one: functools.partial) -> dict:
        return {"kind": self.of(one.func), "given": self._all(one.args), **self._pairs(one.keywords)}

    def _object(self, thing: Any) -> Any:
        names = [name for kind in type(thing).__mro__ for name in _slots(kind) if hasattr(thing, name)]
        if not names and not hasattr(thing, "__dict__"):
            return self._unknown(thing)
        return {"kind": _kinds(thing), **self._pairs({name: getattr(thing, name) for name in names} | vars_of(thing))}


# The first that it is one of.
KINDS: tuple[tuple[Any, Callable[[Identity, Any], Any]], ...] = (
    (ModelPatcher, Identity._patcher),
    (comfy.model_base.BaseModel, Identity._model),
    (nn.Module, Identity._module),
    (Tensor, Identity._tensor),
    (np.ndarray, Identity._array),
    (dict, Identity._pairs),
    ((list, tuple), Identity._all),
    ((set, frozenset), Identity._set),
    ((bytes, bytearray), lambda _, data: _digest(data)),
    (uuid.UUID, lambda *_: "a UUID"),  # by which ComfyUI tells what is loaded: another each time, and of no effect
    (types.FunctionType, Identity._function),
    ((types.MethodType, types.BuiltinMethodType), Identity._method),
    (functools.partial, Identity._partial),
)


def vars_of(thing: Any) -> dict[str, Any]:
    return dict(getattr(thing, "__dict__", {}))


def _name(thing: Any) -> str:
    name = getattr(thing, "__qualname__", thing.__name__)
    return ".".join(filter(None, (getattr(thing, "__module__", None), name)))


def _kinds(thing: Any) -> str:
    """The class and what it is made of: one that a function puts together is called the same each time."""
    return " ".join(_name(kind) for kind in type(thing).__mro__ if kind not in (object, nn.Module))


def _slots(kind: type) -> list[str]:
    slots = vars(kind).get("__slots__", ())
    return [name for name in ([slots] if isinstance(slots, str) else slots) if name not in ("__dict__", "__weakref__")]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # of a function that is still being put together
        return None


def _code(code: types.CodeType) -> str:
    constants = [_code(one) if isinstance(one, types.CodeType) else _constant(one) for one in code.co_consts]
    return _digest(code.co_code + repr([constants, code.co_names]).encode())


def _constant(one: Any) -> str:
    return repr(sorted(map(repr, one)) if isinstance(one, frozenset) else one)  # a set has no order


def _digest(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def filled(thing: Any) -> Any:
    """None for what there is nothing in: a patcher begins with tables of empty lists."""
    if type(thing) is dict:
        thing = {key: full for key, value in thing.items() if (full := filled(value)) is not None}
    return None if type(thing) in (dict, list) and not thing else thing


def _short(told: Any) -> Any:
    """What is long by its digest."""
    text = json.dumps(told)
    return (
        told
        if len(text) <= (TABLE if isinstance(told, dict) else LONGEST)
        else f"{len(text)} characters {_digest(text.encode())}"
    )
