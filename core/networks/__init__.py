"""Networks. Each takes an ``operations`` namespace (default ``torch.nn``), ``dtype`` and ``device``."""

from .cmp import Cmp
from .latte import LatteVideo
from .neural_prior import NeuralPrior
from .restorer import Restorer
from .sparse_to_dense import SparseToDense
from .unet import UNet

__all__ = ["Cmp", "LatteVideo", "NeuralPrior", "Restorer", "SparseToDense", "UNet"]
