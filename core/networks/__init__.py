"""Networks. Each takes an ``operations`` namespace (default ``torch.nn``), ``dtype`` and ``device``."""

from .cmp import Cmp
from .latte import LatteVideo
from .motion_adapter import MotionAdapter
from .neural_prior import NeuralPrior
from .restorer import Restorer
from .sparse_to_dense import SparseToDense
from .unet import UNet
from .video_unet import VideoMotionAdapter, VideoUNet

__all__ = [
    "Cmp",
    "LatteVideo",
    "MotionAdapter",
    "NeuralPrior",
    "Restorer",
    "SparseToDense",
    "UNet",
    "VideoMotionAdapter",
    "VideoUNet",
]
