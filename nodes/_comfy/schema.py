"""V3 schema as every version from 0.3.75 on takes it, and the sockets of the pack."""

import inspect

from comfy_api.latest import io

BRIDGE = io.Custom("AQUEDUCT_BRIDGE")
PRIOR = io.Custom("AQUEDUCT_PRIOR")

CATEGORY = "Aqueduct"


def Schema(**fields) -> io.Schema:
    """`io.Schema` without the fields this ComfyUI does not know yet (0.3.75 has no search_aliases, for example)."""
    known = inspect.signature(io.Schema).parameters
    return io.Schema(**{name: value for name, value in fields.items() if name in known})
