"""Networks. Each takes an ``operations`` namespace (default ``torch.nn``), ``dtype`` and ``device``."""

from .latte import LatteVideo
from .neural_prior import NeuralPrior
from .restorer import Restorer
from .unet import UNet

__all__ = ["LatteVideo", "NeuralPrior", "Restorer", "UNet"]
