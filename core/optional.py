"""Libraries that only some parts need: imported when used, missed with a message that helps."""

import importlib
from types import ModuleType

INSTALL = {"cv2": "opencv-python-headless", "sklearn": "scikit-learn"}


def need(module: str, purpose: str) -> ModuleType:
    """Import ``module``, or raise ImportError naming the package to install and what it is for."""
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        package = INSTALL.get(module.split(".")[0], module.split(".")[0])
        raise ImportError(
            f"{purpose} needs the Python package {package!r}, which cannot be imported ({missing}). "
            f"Install it into ComfyUI's Python: python -m pip install {package}"
        ) from missing
