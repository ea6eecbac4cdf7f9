"""Where benchmarks find trained models, and how they tell that these have changed."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from aqueduct.core import checkpoints
from aqueduct.core.metrics.perceptual import RestorerFeatures
from aqueduct.scripts._pack import ROOT

EYES = "warped_diffusion_superres_gp"  # whose features the perceptual measures look with


@dataclass(frozen=True, eq=False)
class ModelFiles:
    """Files are looked up by name in ``folders``, first come first served."""

    folders: tuple[Path, ...]

    def path(self, name: str) -> Path | None:
        found = (folder / f"{name}.safetensors" for folder in self.folders)
        return next((path for path in found if path.is_file()), None)

    def content(self, *names: str) -> bytes:
        paths = [self.path(name) for name in names]
        return b"".join(path.read_bytes() if path else b"-" for path in paths)

    def digest(self, *names: str) -> str:
        """Of the files' content: what was measured with others is measured again."""
        return hashlib.sha256(self.content(*names)).hexdigest()[:12]

    def load(self, name: str, part: str = "model"):
        path = self.path(name)
        if path is None:
            where = ", ".join(map(str, self.folders))
            raise FileNotFoundError(f"no {name}.safetensors in {where}: python3 scripts/train_small.py {name}")
        network, config = checkpoints.load(path, part)
        return network.float(), config

    def eyes(self) -> RestorerFeatures:
        return RestorerFeatures(*self.load(EYES))


def folders(models: Path | None) -> tuple[Path, ...]:
    """Where to look: ``models``, what `train_small.py` writes, and the models that ship."""
    return tuple(folder for folder in (models, ROOT / "runs", ROOT / "models") if folder is not None)
