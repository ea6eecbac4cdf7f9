"""Networks of the diffusers library behind this project's call, ``network(x, timesteps, conditions)``.

Their weights lie in folders that the library writes (``config.json`` and safetensors). Inside ours everything keeps the
library's names, behind ``network.``. The library is imported when a network is built; it is no requirement.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..optional import need

VAE_STRIDE = 8
Conditions = Mapping[str, Tensor]


class DiffusersHost(nn.Module):
    """A network of the library; subclasses name it and call it.

    ``conditions``: names of the tensors it is conditioned on. ``sizes``: the library's own arguments. ``operations`` is
    for signatures' sake: the library makes its layers itself.
    """

    kind: str
    conditions: tuple[str, ...]

    def __init__(self, *, operations=nn, dtype=None, device=None, **sizes):
        super().__init__()
        library = getattr(need("diffusers", f"The network {self.kind}"), self.kind)
        try:
            with torch.device("cpu" if device is None else device):
                self.network = library(**sizes)
        except TypeError as error:
            raise ValueError(f"{self.kind} of the diffusers library: {error}") from error
        if dtype is not None:
            self.to(dtype)

    @property
    def in_channels(self) -> int:
        return self.network.config.in_channels

    @property
    def out_channels(self) -> int:
        return self.network.config.out_channels

    @classmethod
    def released(cls, folder: Path | str) -> dict[str, Tensor]:
        """The weights in a folder of the library (of the network itself, often ``transformer`` or ``unet``), float32,
        under our names. Raises FileNotFoundError for a folder without a ``config.json``."""
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(
                f"{folder} holds no config.json: give the folder of the network itself, in a pipeline's folder "
                f"'transformer' or 'unet'"
            )
        library = getattr(need("diffusers", f"The network {cls.kind}"), cls.kind)
        network = library.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
        return {f"network.{name}": value for name, value in network.state_dict().items()}

    def _read(self, x: Tensor, conditions: Conditions, sizes: Mapping[str, tuple[int, ...]]) -> list[Tensor]:
        """The conditions, in order; ``sizes``: each row's shape. Raises ValueError naming what does not fit."""
        for name in self.conditions:
            found = tuple(conditions[name].shape[1:]) if name in conditions else None
            if found is None or len(conditions[name]) != len(x) or found != sizes[name]:
                wanted = f"[{len(x)}, {', '.join(map(str, sizes[name]))}]"
                got = "is missing" if found is None else f"is {list(conditions[name].shape)}"
                raise ValueError(f"{self.kind} takes the condition {name!r} {wanted}, which {got}")
        return [conditions[name].to(x) for name in self.conditions]


class CogVideo(DiffusersHost):
    """CogVideoX: ``x [b, c, f, h, w]``, timesteps ``[b]`` (0..999), ``context [b, 226, 4096]`` of T5 -> ``x``'s size.

    The defaults of ``sizes`` are CogVideoX-2B's, which predicts v.
    """

    kind = "CogVideoXTransformer3DModel"
    conditions = ("context",)

    def forward(self, x: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        config = self.network.config
        shape = (config.max_text_seq_length, config.text_embed_dim)
        (context,) = self._read(x, conditions, {"context": shape})
        return self.network(x.transpose(1, 2), context, timesteps, return_dict=False)[0].transpose(1, 2)


class SdxlUNet(DiffusersHost):
    """SDXL's U-Net: ``x [b, c, h, w]``, timesteps ``[b]`` (0..999), ``context [b, tokens, 2048]`` of both text encoders
    and ``pooled [b, 1280]`` of the second -> ``[b, 4, h, w]``: eps.

    Its picture sizes (Podell et al. 2024, section 2.2) are told as those of ``x`` in pixels, nothing cropped.
    """

    kind = "UNet2DConditionModel"
    conditions = ("context", "pooled")

    def forward(self, x: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        config = self.network.config
        ids = 6 * config.addition_time_embed_dim
        tokens = conditions["context"].shape[1] if "context" in conditions else 77
        sizes = {
            "context": (tokens, config.cross_attention_dim),
            "pooled": (config.projection_class_embeddings_input_dim - ids,),
        }
        context, pooled = self._read(x, conditions, sizes)
        height, width = (VAE_STRIDE * side for side in x.shape[-2:])
        size = x.new_tensor([height, width, 0, 0, height, width]).expand(len(x), -1)
        added = {"text_embeds": pooled, "time_ids": size}
        return self.network(x, timesteps, context, added_cond_kwargs=added, return_dict=False)[0]
