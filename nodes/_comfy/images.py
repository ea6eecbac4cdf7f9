"""IMAGE, MASK and LATENT as ComfyUI passes them; clips as core takes them."""

from torch import Tensor
from torch.nn import functional as F


def to_clip(images: Tensor) -> Tensor:
    """IMAGE ``[F, H, W, C]`` -> float32 ``[F, 3, H, W]``: alpha is left out, grey is repeated."""
    if images.dim() != 4 or images.shape[-1] not in (1, 3, 4):
        raise ValueError(f"expected IMAGE [frames, height, width, 1, 3 or 4 channels], got {list(images.shape)}")
    return images[..., :3].float().movedim(-1, 1).expand(-1, 3, -1, -1).contiguous()


def with_alpha(images: Tensor) -> Tensor:
    """IMAGE ``[F, H, W, C]`` -> float32 ``[F, C, H, W]`` with the channels it has: what moves keeps alpha."""
    if images.dim() != 4:
        raise ValueError(f"expected IMAGE [frames, height, width, channels], got {list(images.shape)}")
    return images.float().movedim(-1, 1).contiguous()


def to_image(clip: Tensor) -> Tensor:
    """``[F, C, H, W]`` -> IMAGE ``[F, H, W, C]`` on the CPU."""
    return clip.movedim(1, -1).contiguous().cpu()


def to_mask(flags: Tensor) -> Tensor:
    """bool ``[F, H, W]`` -> MASK, 1 where True."""
    return flags.float().cpu()


def mask_frames(mask: Tensor) -> Tensor:
    """MASK ``[H, W]`` or ``[F, H, W]`` -> ``[F, H, W]``."""
    return mask[None] if mask.dim() == 2 else mask


def motion_mask(mask: Tensor, frames: int, name: str = "mask") -> Tensor:
    """MASK for a motion of so many frames -> ``[1 or frames, H, W]``. Raises ValueError for another number."""
    mask = mask_frames(mask)
    if len(mask) not in (1, frames):
        raise ValueError(f"the motion has {frames} frames, the {name} {len(mask)}: give one or as many")
    return mask


def fitted_mask(mask: Tensor, clip: Tensor) -> Tensor:
    """MASK, one or one per frame, scaled to ``clip [F, C, H, W]``: ``[F, 1, H, W]``. Raises ValueError otherwise."""
    frames = mask_frames(mask).float()
    if frames.dim() != 3 or len(frames) not in (1, len(clip)):
        raise ValueError(
            f"expected one MASK [height, width] or {len(clip)}, one for each frame, got {list(mask.shape)}: "
            f"make it as many frames as the images, or leave one"
        )
    if frames.shape[1:] != clip.shape[2:]:
        frames = F.interpolate(frames[:, None], clip.shape[2:], mode="bilinear", antialias=True)[:, 0]
    return frames[:, None].to(clip.device).expand(len(clip), -1, -1, -1)


def latent_frames(latent: dict) -> Tensor:
    """LATENT ``[F, C, h, w]``, or ``[1, C, F, h, w]`` -> ``[F, C, h, w]``. Raises ValueError for several clips."""
    samples = latent["samples"]
    if samples.dim() == 5 and len(samples) == 1:
        return samples[0].movedim(1, 0)
    if samples.dim() == 4:
        return samples
    raise ValueError(f"expected one clip, LATENT [F,C,h,w] or [1,C,F,h,w], got {list(samples.shape)}")


def like_latent(frames: Tensor, latent: dict) -> dict:
    """``[F, C, h, w]`` in the layout of ``latent``; what belonged to its frames one by one is left out."""
    kept = {key: value for key, value in latent.items() if key not in ("samples", "noise_mask", "batch_index")}
    return {**kept, "samples": frames if latent["samples"].dim() == 4 else frames.movedim(0, 1)[None]}


def same_shape(size: tuple[int, int], cells: tuple[int, int]) -> bool:
    """Whether some scale takes frames of this height and width to so many cells, each side to within one of them."""
    sides = list(zip(size, cells, strict=True))
    return max(side / (n + 1) for side, n in sides) < min(side / max(n - 1, 1e-9) for side, n in sides)


def check_aspect(what: str, size: tuple[int, int], cells: tuple[int, int], way_out: str) -> None:
    """ValueError, naming both, unless a scale takes ``size`` to the LATENT's ``cells``, to within one of them."""
    if not same_shape(size, cells):
        raise ValueError(
            f"the {what} is {size[1]} x {size[0]} pixels, the LATENT {cells[1]} x {cells[0]} cells, another "
            f"aspect ratio: {way_out}"
        )
