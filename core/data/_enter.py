"""Registers the pack as ``PACK`` in a process that has just started; run by path, with PACK given (`runpy.run_path`).

The pack's folder may have any name and lies on no path, so a new process could not import what it is sent.
"""

import importlib.util
import sys
from pathlib import Path

if PACK not in sys.modules:  # noqa: F821
    root = Path(__file__).resolve().parents[2]
    spec = importlib.util.spec_from_file_location(PACK, root / "__init__.py", submodule_search_locations=[str(root)])  # noqa: F821
    sys.modules[PACK] = importlib.util.module_from_spec(spec)  # noqa: F821
    spec.loader.exec_module(sys.modules[PACK])  # noqa: F821
