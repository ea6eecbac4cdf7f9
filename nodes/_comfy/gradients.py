"""A gradient through a MODEL while it samples.

ComfyUI runs nodes in inference mode and loads weights in it, and autograd takes no part of either: the mode is left,
and every tensor made in it is replaced by an ordinary one on the same storage, so that nothing is copied. Networks
that edit activations in place, and those whose kernels have no gradient unless told that a training runs, are seen to.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import comfy.conds
import comfy.model_management
import comfy.ops
import comfy.samplers
import torch
from torch import Tensor, nn

from ...core.recomputation import entries, recomputed

Usable = Callable[[Any], Any]
WAY_OUT = "use mode x0, which needs no gradient"
DYNAMIC = (
    "this MODEL's weights come and go while it runs (dynamic VRAM), so no gradient goes through it: {}start ComfyUI "
    "with --disable-dynamic-vram"
)


@contextlib.contextmanager
def gradients_through(guider, checkpointed: bool = False) -> Iterator[Usable]:
    """Within it ``guider.predict_noise`` and ``guider.inner_model`` can be differentiated in their input.

    ``guider`` is sampling (it has ``inner_model`` and ``conds``). Forward and backward pass both belong inside. It
    gives ``usable(tree)``: what else enters, as ``model_options`` or a noise mask, made fit for autograd.
    ``checkpointed``: the network's blocks keep their inputs only and are computed again in the backward pass.

    Weights need no gradient in it. Everything is as before on the way out, also after an interrupt or an error. Raises
    ValueError for weights that change within one step, or that a backward pass would find overwritten.
    """
    _check_loaded(guider)
    _check_hooks(guider.conds)
    models = [guider.inner_model, *(patcher.model for patcher in guider.loaded_models if hasattr(patcher, "model"))]
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(_replaced(comfy.model_management.__dict__, {"in_training": True}))
        stack.enter_context(_replaced(guider.__dict__, {"conds": usable(guider.conds)}))
        for module in (module for model in models if isinstance(model, nn.Module) for module in model.modules()):
            for table in (module._parameters, module._buffers, module.__dict__):
                stack.enter_context(_replaced(table, _ordinary(table)))
        if checkpointed:
            for block in entries(guider.inner_model.diffusion_model):
                stack.enter_context(_replaced(block.__dict__, {"forward": _recomputed(block.forward)}))
        else:
            stack.enter_context(torch.autograd.graph.allow_mutation_on_saved_tensors())
        yield usable


def clone_for_gradients(model, way_out: str | None = WAY_OUT):
    """A clone of the MODEL whose weights stay in memory while it runs: newer versions let them come and go.

    Raises ValueError, with ``way_out`` of it, where ComfyUI does not know how to load the model again for that.
    """
    if not _dynamic(model):
        return model.clone()
    try:
        return model.clone(disable_dynamic=True)
    except RuntimeError as error:
        raise ValueError(DYNAMIC.format(_or(way_out))) from error


def check_differentiable(model, way_out: str | None = WAY_OUT) -> None:
    """ValueError unless a backward pass through the MODEL is possible, naming what stands against it, and ``way_out``.

    Weights in a form of their own (quantised, GGUF) and most of 8 bits or less are computed with in ways that have no
    gradient, or not the right one; float8 is all right where each layer casts its own to a larger type.
    """
    if _dynamic(model):
        raise ValueError(DYNAMIC.format(_or(way_out)))
    for name, weight in model.model.named_parameters():
        packed = type(weight) not in (nn.Parameter, Tensor)
        if packed or not (weight.is_floating_point() or weight.is_complex()) or _small(model.model, name, weight):
            form = type(weight).__name__ if packed else str(weight.dtype).removeprefix("torch.")
            raise ValueError(
                f"no gradient goes through quantised weights ({name} is {form}): {_or(way_out)}load the model as "
                f"float16, bfloat16 or float32"
            )


def _small(model: nn.Module, name: str, weight: Tensor) -> bool:
    """Of 8 bits or less, and computed with as such."""
    kinds = type(model.get_submodule(name.rpartition(".")[0])).__mro__
    core = [kind.__qualname__ for kind in kinds if kind.__module__ == comfy.ops.__name__]
    cast = not core or core[0].startswith(comfy.ops.manual_cast.__name__)
    return weight.dtype.itemsize < 2 and (model.manual_cast_dtype is None or not cast)


def usable(tree: Any) -> Any:
    """Tensors of inference mode, in dicts, lists, tuples and conditioning, as ordinary ones on the same storage."""
    return mapped(tree, _outside_inference)


def mapped(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """``change`` for every tensor; containers are new, other objects the same."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, comfy.conds.CONDRegular):
        return tree._copy_with(mapped(tree.cond, change))
    if type(tree) is dict:
        return {key: mapped(value, change) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(mapped(value, change) for value in tree)
    return tree


def _outside_inference(x: Tensor) -> Tensor:
    if not x.is_inference():
        return x
    with torch.inference_mode(False):
        fresh = torch.empty(0, dtype=x.dtype, device=x.device)
        return fresh.set_(x.untyped_storage(), x.storage_offset(), x.size(), x.stride())


def _ordinary(table: dict[str, Any]) -> dict[str, Tensor]:
    """Of a module's parameters, buffers or attributes those autograd must see differently."""
    found = {}
    for name, value in table.items():
        if isinstance(value, nn.Parameter):
            found[name] = nn.Parameter(_outside_inference(value.detach()), requires_grad=False)
        elif isinstance(value, Tensor) and value.is_inference():
            found[name] = _outside_inference(value)
    return found


def _recomputed(forward: Callable) -> Callable:
    """``forward``, computed again in the backward pass. It sees clones, since it may edit its inputs, and options as
    they are now: the network writes the next block's number into them before the backward pass comes. What the network
    itself edits later, as a U-Net the features it has kept, is cloned beforehand too."""

    def run(*args, **kwargs):
        args, kwargs = mapped(args, _own), mapped(kwargs, _own)
        return recomputed(lambda: forward(*mapped(args, torch.clone), **mapped(kwargs, torch.clone)))

    return run


def _own(x: Tensor) -> Tensor:
    return x.clone() if x.requires_grad else x


@contextlib.contextmanager
def _replaced(table: dict, values: dict) -> Iterator[None]:
    """Other ``values`` in a dict for a while. What somebody else has put there meanwhile stays."""
    before = {key: table[key] for key in values if key in table}
    table.update(values)
    try:
        yield
    finally:
        for key, value in values.items():
            if table.get(key) is not value:
                continue
            if key in before:
                table[key] = before[key]
            else:
                del table[key]


def _or(way_out: str | None) -> str:
    return f"{way_out}, or " if way_out else ""


def _dynamic(model) -> bool:
    return hasattr(model, "is_dynamic") and model.is_dynamic()


def _check_loaded(guider) -> None:
    """Newer versions (those that know `in_training`) cast offloaded weights through one buffer for all."""
    if not hasattr(comfy.model_management, "in_training"):
        return
    networks = [getattr(one, "model", None) for one in (guider.model_patcher, *guider.loaded_models)]
    offloaded = [type(one).__name__ for one in networks if getattr(one, "model_lowvram", False)]
    if offloaded:
        raise ValueError(
            f"this MODEL, with its adapters, did not fit into memory whole ({', '.join(offloaded)}), and offloaded "
            f"weights cannot be kept for a gradient: {WAY_OUT}, or make the LATENT smaller or shorter"
        )


def _check_hooks(conds: dict) -> None:
    groups = comfy.samplers.get_total_hook_groups_in_conds(conds)
    if groups > 1:
        raise ValueError(
            f"the CONDITIONING swaps weights within a step ({groups} groups of hooks), which a gradient would not "
            f"survive: {WAY_OUT}"
        )
