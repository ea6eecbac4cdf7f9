"""V3 schema as every version from 0.3.75 on takes it, and the sockets of the pack."""

import inspect

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

BRIDGE = io.Custom("AQUEDUCT_BRIDGE")
PRIOR = io.Custom("AQUEDUCT_PRIOR")
MOTION = io.Custom("AQUEDUCT_MOTION")
ADAPTER = io.Custom("AQUEDUCT_ADAPTER")
DENSIFIER = io.Custom("AQUEDUCT_DENSIFIER")
EXEMPLAR = io.Custom("AQUEDUCT_EXEMPLAR")
DATASET = io.Custom("AQUEDUCT_DATASET")
# Core's own: positions of points over time, and (in spite of its name) a network that estimates flow. 0.3.75 has no
# names for them in its API.
TRACKS = io.Custom("TRACKS")
OPTICAL_FLOW = io.Custom("OPTICAL_FLOW")
RAFT_FLOW = io.Custom("RAFT_FLOW")  # fields, in another pack

CATEGORY = "Aqueduct"


@io.comfytype(io_type="AQUEDUCT_TRACKS_DOCUMENT")
class TracksDocument(io.ComfyTypeI):
    """The track editor's JSON. The widget that edits it is `web/js/aqueduct_track_editor.js`."""

    Type = str

    class Input(io.WidgetInput):
        pass


def Schema(**fields) -> io.Schema:
    """`io.Schema` without the fields this ComfyUI does not know yet (0.3.75 has no search_aliases, for example)."""
    known = inspect.signature(io.Schema).parameters
    return io.Schema(**{name: value for name, value in fields.items() if name in known})


def blocked(message: str) -> ExecutionBlocker:
    """For an output there is nothing to give on: nodes wired to it do not run, and the user reads ``message``."""
    return ExecutionBlocker(message)
