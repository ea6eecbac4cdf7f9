"""Several processes under Accelerate: each with the whole network (DDP), or each with a share of it (FSDP2)."""

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from ..optional import need
from .ema import Ema
from .processes import Alone, Stopped, moving
from .recompute import blocks
from .task import Batch, Task, count_rows, rows


def join() -> "Replicated":
    """Meet the other processes of the launch."""
    sharded = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if sharded and os.environ.get("FSDP_VERSION", "1") != "2":
        raise ValueError("FSDP is of version 2 here, and the launch asks for the older one: add --fsdp_version 2")
    accelerate = need("accelerate", "training in several processes")
    # With a view gradients lie in the buckets that are sent, else both are kept.
    ddp = accelerate.DistributedDataParallelKwargs(find_unused_parameters=True, gradient_as_bucket_view=True)
    # The loop casts, and it averages: a launch that asks for mixed precision means the settings' `precision`.
    accelerator = accelerate.Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available(), kwargs_handlers=[ddp])
    return Sharded(accelerator) if sharded else Replicated(accelerator)


class Loss(nn.Module):
    """A task's loss as one module, whose submodules are all that runs: what DDP and FSDP wrap.

    ``beside``: what moves and lies in none of them.
    """

    def __init__(self, task: Task):
        super().__init__()
        self.running = nn.ModuleList(task.running)
        inside = {id(p) for p in self.running.parameters()}
        self.beside = nn.ParameterList(p for p in moving(task) if id(p) not in inside)
        self.loss = task.loss

    def forward(self, batch: Callable[[], Batch]) -> Tensor:
        """``batch`` is closed, because DDP and FSDP move what they see to their device; alone, it stays as drawn."""
        return self.loss(batch())


class Replicated(Alone):
    """Each process has the whole network; gradients are averaged as the backward pass finds them (DDP)."""

    has = "the whole network (DDP)"

    def __init__(self, accelerator):
        self.accelerator, self.module = accelerator, None
        self.rank, self.count = accelerator.process_index, accelerator.num_processes
        self.main = accelerator.is_main_process

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def about(self) -> str:
        return f"{self.count} processes on {self.device.type}, each with {self.has}"

    @contextmanager
    def sharing(self, task: Task, ema: Ema | None) -> Iterator[Sequence[nn.Parameter]]:
        self.module = self.accelerator.prepare_model(Loss(task))
        try:
            yield moving(task)
        finally:
            self.module = None

    def loss(self, task: Task, batch: Batch) -> Tensor:
        own = rows(batch, self.portion(count_rows(batch)))
        return self.module(lambda: own)

    def portion(self, n: int) -> slice:
        each, left = divmod(n, self.count)
        if left or not each:
            raise ValueError(
                f"a batch of {n} rows cannot be shared equally by {self.count} processes: take a multiple of "
                f"{self.count}, or start as many processes as divide {n}"
            )
        return slice(self.rank * each, (self.rank + 1) * each)

    def averaging(self, now: bool) -> AbstractContextManager:
        return nullcontext() if now else self.module.no_sync()

    def mean(self, value: Tensor) -> Tensor:
        return self.accelerator.reduce(value.detach(), reduction="mean")

    def agree(self, error: BaseException | None) -> None:
        stopped = self.accelerator.reduce(torch.tensor(float(error is not None), device=self.device))
        if error is not None:
            raise error
        if stopped:
            raise Stopped(f"{int(stopped)} of the {self.count} processes stopped; see what it says")

    def close(self) -> None:
        self.accelerator.end_training()


class Sharded(Replicated):
    """Each process has a share of every weight, gradient and moment; those of a block meet where it runs (FSDP2).

    When the training is done the parts have their whole weights again on the main process, on the CPU; on the others
    they are empty, since there may be no room for them. After an error they are in pieces. ``report`` cannot run them,
    and the loss must come to the same weights in every process, whatever the rows.
    """

    replicated, has = False, "a share of the network (FSDP)"

    def __init__(self, accelerator):
        super().__init__(accelerator)
        plugin = getattr(accelerator.state, "fsdp_plugin", None)  # Accelerate makes none on CPUs
        self.how = {"mesh": init_device_mesh(self.device.type, (self.count,))}
        if plugin is not None:
            self.how |= {"reshard_after_forward": plugin.reshard_after_forward, "offload_policy": plugin.cpu_offload}

    @contextmanager
    def sharing(self, task: Task, ema: Ema | None) -> Iterator[Sequence[nn.Parameter]]:
        self.module = Loss(task)
        if len(self.module.beside):
            raise ValueError(
                f"{len(self.module.beside)} trained tensors lie in none of the parts ({', '.join(task.parts)}) and "
                f"networks, and FSDP shares out these alone: start without --use_fsdp"
            )
        for parameter in self.module.parameters():
            parameter.data = parameter.data.contiguous()  # of channels_last and others FSDP knows nothing
        pieces = Pieces(self.module)
        for module in (*(block for one in task.running for block in blocks(one)), self.module):
            fully_shard(module, **self.how)
            pieces.release()
        parameters = [pieces.of(p) for p in moving(task)]
        if ema is not None:
            average = [self.share(whole, like) for whole, like in zip(ema.average, parameters, strict=True)]
            ema.parameters, ema.average = parameters, average
        yield parameters
        pieces.join(self.whole)
        if ema is not None:
            ema.parameters, ema.average = moving(task), [self.whole(average) for average in ema.average]
        self.module = None

    def loss(self, task: Task, batch: Batch) -> Tensor:
        before = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)  # which would keep all weights whole, in half precision
        try:
            return super().loss(task, batch)
        finally:
            torch.set_autocast_cache_enabled(before)

    def averaging(self, now: bool) -> AbstractContextManager:
        return nullcontext()  # every time: summed up first, gradients would be kept whole

    def whole(self, tensor: Tensor) -> Tensor:
        if not isinstance(tensor, DTensor):
            return tensor.detach()
        whole = tensor.detach().full_tensor()
        return whole.cpu() if self.main else whole[:0].clone()  # one at a time: there may be no room for all

    def share(self, whole: Tensor, like: Tensor) -> Tensor:
        if not isinstance(like, DTensor) or whole.shape != like.shape:  # a count of steps is everybody's
            return super().share(whole, like)
        return distribute_tensor(whole.to(self.device), like.device_mesh, like.placements, src_data_rank=None)


class Pieces:
    """A module before and after `fully_shard`, which puts other parameters in the place of those it finds, for good."""

    def __init__(self, module: nn.Module):
        self.before = [(m, type(m), {k: copy.copy(v) for k, v in vars(m).items()}) for m in module.modules()]
        self.places = [(m, name, p) for m in module.modules() for name, p in m._parameters.items() if p is not None]

    def of(self, parameter: nn.Parameter) -> nn.Parameter:
        """What stands in its place now."""
        return next(m._parameters[name] for m, name, p in self.places if p is parameter)

    def release(self) -> None:
        """Free the memory of those that have been replaced."""
        for module, name, parameter in self.places:
            if module._parameters[name] is not parameter:
                parameter.data = parameter.data.new_empty(0)

    def join(self, whole: Callable[[Tensor], Tensor]) -> None:
        """Everything as it was before, but for the weights, which are those of now."""
        for module, name, parameter in self.places:
            parameter.data = whole(module._parameters[name])
        for module, kind, attributes in self.before:
            module.__class__ = kind
            for name in [name for name in vars(module) if name not in attributes]:
                del module.__dict__[name]
            for name, value in attributes.items():
                now = module.__dict__[name]
                if isinstance(now, dict):  # in place: handles of hooks know the very object
                    now.clear()
                    now.update(value)
                else:
                    module.__dict__[name] = value
