"""Make the pack importable as `aqueduct`; the checkout itself never lands on `sys.path` (see scripts/_pack.py)."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _load_pack():
    spec = importlib.util.spec_from_file_location("_aqueduct_pack", ROOT / "scripts" / "_pack.py")
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    return loader.load_pack()


_load_pack()
