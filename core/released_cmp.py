"""CMP as its authors release it and MOFA-Video passes it on: `ckpt_iter_42000.pth.tar`, 455 tensors."""

from .networks.cmp import Cmp
from .released_layout import Released

CMP = Released(
    "CMP, the sparse-to-dense network of MOFA-Video (ResNet-50)", "densifier", Cmp, renamed=(("module.", ""),)
)
