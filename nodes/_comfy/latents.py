"""LATENT dictionaries: one image to one clip."""

import torch


def replicate(latent: dict, frames: int, temporal_compression: int = 1) -> dict:
    """The latent of one image per clip repeated over ``frames``, other entries of the dictionary kept.

    ``[b, c, h, w] -> [b * T, c, h, w]`` (frames in the batch axis) and ``[b, c, 1, h, w] -> [b, c, T, h, w]`` with
    ``T = (frames - 1) / temporal_compression + 1``. Raises ValueError for anything else, with what was given.
    """
    samples = latent["samples"]
    if frames < 1 or (frames - 1) % temporal_compression:
        raise ValueError(
            f"frames must be 1 plus a multiple of the temporal compression {temporal_compression}, got {frames}"
        )
    length = (frames - 1) // temporal_compression + 1
    if samples.dim() == 4:
        return {**_per_frame(latent, length), "samples": samples.repeat_interleave(length, dim=0)}
    if samples.dim() == 5 and samples.shape[2] == 1:
        return {**latent, "samples": samples.repeat(1, 1, length, 1, 1)}
    raise ValueError(
        f"expected the latent of single images, [B,C,h,w] or [B,C,1,h,w], got {list(samples.shape)}: "
        f"it holds a clip already"
    )


def _per_frame(latent: dict, length: int) -> dict:
    """Entries that go with the batch axis, repeated like it: a mask per image, and no stale batch indices."""
    kept = {key: value for key, value in latent.items() if key != "batch_index"}
    mask = kept.get("noise_mask")
    if isinstance(mask, torch.Tensor) and mask.dim() >= 3 and mask.shape[0] == latent["samples"].shape[0] > 1:
        kept["noise_mask"] = mask.repeat_interleave(length, dim=0)
    return kept
