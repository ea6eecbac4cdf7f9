"""What captions are to a network: the output of the text encoders of a pipeline that diffusers saved."""

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..optional import need
from .encoders import file_digest
from .shards import put

NULL = "null.safetensors"  # in a prepared folder: what an empty caption is
PURPOSE = "Encoding captions"


@dataclass(frozen=True)
class TextEncoder:
    """Of the pipeline in ``folder``: text_encoder and tokenizer, and those whose names end in more of ``parts`` ("_2").

    A caption gives ``context [tokens, width]``, the encoders side by side, and, where the last of them has a
    projection, ``pooled [width]``. ``skip``: hidden layers left out at the end (SDXL: 1). ``masked``: padding is not
    looked at and its output is zero (Wan), else it is text like any other (CogVideoX, SDXL). Longer captions are cut.
    ``precision``: of the arithmetic; ``device``: empty for the accelerator if there is one.
    """

    folder: str
    parts: tuple[str, ...] = ("",)
    tokens: int = 77
    skip: int = 0
    masked: bool = False
    precision: str = "float32"
    device: str = ""

    def __post_init__(self):
        if self.precision not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"precision is float32, bfloat16 or float16, got {self.precision!r}")
        if not self.parts or self.tokens < 1 or self.skip < 0:
            raise ValueError(f"one part and one token at least are needed, got {self.parts} and {self.tokens}")

    @cached_property
    def configs(self) -> list[dict]:
        """Raises FileNotFoundError that says which folder has no text encoder."""
        return [json.loads(self._file(part).read_text(encoding="utf-8")) for part in self.parts]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        widths = [config.get("d_model") or config["hidden_size"] for config in self.configs]
        last = self.configs[-1]
        pooled = {"pooled": (last["projection_dim"],)} if last["architectures"][0].endswith("WithProjection") else {}
        return {"context": (self.tokens, sum(widths)), **pooled}

    def describe(self) -> dict:
        """JSON: what the conditions depend on, and nothing of where it lies."""
        files = [path for part in self.parts for path in sorted(self._file(part).parent.glob("*.safetensors"))]
        said = {"tokens": self.tokens, "skip": self.skip, "masked": self.masked, "precision": self.precision}
        return said | {"weights": {f"{path.parent.name}/{path.name}": file_digest(path) for path in files}}

    @torch.no_grad()
    def __call__(self, caption: str) -> dict[str, Tensor]:
        """float32, on the CPU."""
        outputs = [self._encoded(part, caption) for part in _loaded(self)]
        told = {"context": torch.cat([context for context, _ in outputs], -1), "pooled": outputs[-1][1]}
        return {name: value[0].float().cpu() for name, value in told.items() if value is not None}

    def _encoded(self, part: tuple, caption: str) -> tuple[Tensor, Tensor | None]:
        tokenizer, network = part
        words = tokenizer([caption], padding="max_length", max_length=self.tokens, truncation=True, return_tensors="pt")
        mask = words.attention_mask.to(network.device) if self.masked else None
        output = network(words.input_ids.to(network.device), attention_mask=mask, output_hidden_states=self.skip > 0)
        context = output.hidden_states[-1 - self.skip] if self.skip else output.last_hidden_state
        return context if mask is None else context * mask[..., None], getattr(output, "text_embeds", None)

    def _file(self, part: str) -> Path:
        path = Path(self.folder) / f"text_encoder{part}" / "config.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: folder is where diffusers saved a whole pipeline")
        return path


def write_null(_: str, text: TextEncoder, out: Path, dtype: torch.dtype) -> None:
    """`NULL` in ``out``: the conditions of an empty caption. One that is there and of this encoder stays."""
    path, said = Path(out) / NULL, json.dumps(text.describe(), sort_keys=True)
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("text") == said:
                return
    except (OSError, SafetensorError):
        pass  # not there, or damaged
    put(path, save({name: value.to(dtype) for name, value in text("").items()}, {"text": said}))


@lru_cache(1)  # a process prepares many shards with the same encoders
def _loaded(text: TextEncoder) -> list[tuple]:
    transformers = need("transformers", PURPOSE)
    device = text.device or ("cuda" if torch.cuda.is_available() else "cpu")
    found = []
    for part, config in zip(text.parts, text.configs, strict=True):
        kind = getattr(transformers, config["architectures"][0])
        folder, dtype = Path(text.folder), getattr(torch, text.precision)
        network = kind.from_pretrained(folder / f"text_encoder{part}", local_files_only=True, dtype=dtype)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder / f"tokenizer{part}", local_files_only=True)
        found.append((tokenizer, network.to(device).eval().requires_grad_(False)))
    return found
