"""Networks. Each takes an ``operations`` namespace (default ``torch.nn``), ``dtype`` and ``device``."""

from .latte import LatteVideo
from .neural_prior import NeuralPrior

__all__ = ["LatteVideo", "NeuralPrior"]
