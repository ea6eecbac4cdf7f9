"""Import the pack under a fixed name, whatever its folder is called and without touching `sys.path`.

ComfyUI loads a pack by file location, because folder names hold dashes and because a pack root on `sys.path` would
shadow ComfyUI's own `nodes`. Scripts, benchmarks and tests need the same: after `load_pack()` they write
`from aqueduct.core.bridges import Bridge`.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


def load_pack(name: str = "aqueduct") -> ModuleType:
    """Register the pack in `sys.modules` as `name` (once) and return it. Loads no torch and no ComfyUI."""
    if sys.version_info < (3, 10):  # noqa: UP036 - said here, before a newer syntax says it worse
        raise SystemExit(f"This is Python {sys.version.split()[0]}, but Aqueduct needs 3.10 or newer.")
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
