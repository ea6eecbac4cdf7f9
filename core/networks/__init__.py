"""Networks. Each takes an ``operations`` namespace (default ``torch.nn``), ``dtype`` and ``device``."""

from .cmp import Cmp
from .exemplar_attention import ExemplarAttention
from .exemplar_unet import ExemplarNetwork, ExemplarUNet, Style
from .latte import LatteVideo
from .motion_adapter import MotionAdapter
from .neural_prior import NeuralPrior
from .restorer import Restorer
from .sparse_to_dense import SparseToDense
from .style_encoder import StyleEncoder
from .unet import UNet
from .video_unet import VideoMotionAdapter, VideoUNet

__all__ = [
    "Cmp",
    "ExemplarAttention",
    "ExemplarNetwork",
    "ExemplarUNet",
    "LatteVideo",
    "MotionAdapter",
    "NeuralPrior",
    "Restorer",
    "SparseToDense",
    "Style",
    "StyleEncoder",
    "UNet",
    "VideoMotionAdapter",
    "VideoUNet",
]
