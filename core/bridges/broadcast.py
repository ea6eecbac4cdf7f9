"""Scalars of a process (float64, one per batch item or one for all) against tensors of any dtype and rank."""

from torch import Tensor


def scalars_like(like: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """Each of ``values`` ([] or [batch]) in ``like``'s dtype and device, shaped to multiply it from the left.

    Raises ValueError if a value is neither a scalar nor as long as the batch.
    """
    return tuple(_one(like, value) for value in values)


def _one(like: Tensor, value: Tensor) -> Tensor:
    if value.dim() == 0:
        return value.to(device=like.device, dtype=like.dtype)
    if value.dim() != 1 or value.shape[0] not in (1, like.shape[0]):
        raise ValueError(
            f"times are a scalar or one per batch item; got shape {list(value.shape)} for a batch of {like.shape[0]}"
        )
    return value.to(device=like.device, dtype=like.dtype).reshape(-1, *[1] * (like.dim() - 1))
