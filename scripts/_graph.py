"""Build an editor workflow (schema 0.4) from code: nodes by class, links by output, widgets by name."""

from dataclasses import dataclass
from typing import Any

from ._console import HouseError
from ._widgets import PRIMITIVES, SEED_NAMES

ALWAYS, MUTED = 0, 2  # when a node runs, as the editor saves it
Slot = tuple[int, int, str]  # node, output position, type
# Heights, in pixels, of nodes that hold more than rows (pictures, films, texts), as the editor draws them.
TALL = {
    "AqueductApplyExemplar": 302, "AqueductBridge": 330, "AqueductCameraMotion": 490, "AqueductLoadBridgeLoRA": 158,
    "AqueductLoadMotionAdapter": 130, "AqueductMotionClass": 94, "AqueductMotionFromTracks": 430,
    "AqueductSaveMotion": 122, "AqueductTrainBridge": 726, "AqueductTrainExemplar": 766, "AqueductTrainGPNoise": 694,
    "AqueductVideoDataset": 458, "AqueductWarpedDiffusionSampler": 302, "CLIPTextEncode": 102, "LoadImage": 322,
    "LoadVideo": 330, "PreviewAny": 138, "SaveWEBM": 178,
}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """A node that was added; `node[0]` or `node["vae"]` is an output to link from."""

    id: int
    outputs: list[tuple[str, str]]

    def __getitem__(self, key: int | str) -> Slot:
        position = key if isinstance(key, int) else [name for name, _ in self.outputs].index(key)
        return self.id, position, self.outputs[position][1]


class Graph:
    """``object_info`` is what the server says of its nodes."""

    WIDTH = 320

    def __init__(self, object_info: dict[str, dict]):
        self._info = object_info
        self._nodes: list[dict] = []
        self._links: list[list] = []

    def add(
        self, kind: str, at: tuple[int, int], /, *, title: str | None = None, box: tuple[int, int] | None = None,
        muted: bool = False, **inputs: Any,
    ) -> Node:  # fmt: skip
        """Add a node; ``inputs`` are outputs of other nodes (links) or values of widgets. A muted one does not run;
        ``box`` is its width and height, of its own if not given.

        Raises HouseError for an input the node does not have.
        """
        info = self._info[kind]
        definitions = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        unknown = inputs.keys() - definitions.keys()
        if unknown:
            raise HouseError(f"{kind} has no input {', '.join(sorted(unknown))}; it has {', '.join(definitions)}")
        identity = len(self._nodes) + 1
        entries, values = [], []
        for name, spec in definitions.items():
            given = inputs.get(name)
            linked = isinstance(given, tuple)
            widget = _has_widget(spec)
            entry = {"name": name, "type": _type(spec), "link": None}
            if linked:
                entry["link"] = self._link(given, identity, len(entries))
            if widget:
                entry["widget"] = {"name": name}
                values += _saved_values(name, spec, given if given is not None and not linked else _default(spec))
            entries.append(entry)
        outputs = list(zip(info["output_name"], info["output"], strict=True))
        size = box or (self.WIDTH, max(_height(entries, outputs, values), TALL.get(kind, 0)))
        node = self._record(identity, kind, at, size, values, title)
        node["mode"] = MUTED if muted else ALWAYS
        node["inputs"] = entries
        node["outputs"] = [{"name": name, "type": of, "links": []} for name, of in outputs]
        if info.get("python_module", "").startswith("custom_nodes"):
            node["properties"]["cnr_id"] = "aqueduct"
        return Node(identity, outputs)

    def note(self, text: str, at: tuple[int, int], size: tuple[int, int]) -> None:
        self._record(len(self._nodes) + 1, "MarkdownNote", at, size, [text], None)

    def to_json(self) -> dict:
        for identity, source, slot, *_ in self._links:
            self._nodes[source - 1]["outputs"][slot]["links"].append(identity)
        return {
            "last_node_id": len(self._nodes),
            "last_link_id": len(self._links),
            "nodes": self._nodes,
            "links": self._links,
            "groups": [],
            "config": {},
            "extra": {"ds": {"scale": 0.7, "offset": [60, 360]}},
            "version": 0.4,
        }

    def _record(self, identity: int, kind: str, at, size, values: list, title: str | None) -> dict:
        node = {
            "id": identity, "type": kind, "pos": list(at), "size": list(size), "flags": {}, "order": identity - 1,
            "mode": ALWAYS, "inputs": [], "outputs": [], "properties": {"Node name for S&R": kind},
            "widgets_values": values,
        }  # fmt: skip
        if title:
            node["title"] = title
        self._nodes.append(node)
        return node

    def _link(self, source: Slot, target: int, slot: int) -> int:
        node, position, kind = source
        self._links.append([len(self._links) + 1, node, position, target, slot, kind])
        return len(self._links)


def _type(spec: list) -> str:
    return "COMBO" if isinstance(spec[0], list) else spec[0]


def _options(spec: list) -> dict:
    return spec[1] if len(spec) > 1 else {}


def _has_widget(spec: list) -> bool:
    options = _options(spec)
    return (_type(spec) in PRIMITIVES or "socketless" in options) and not options.get("forceInput")


def _default(spec: list) -> Any:
    options = _options(spec)
    if "default" in options:
        return options["default"]
    choices = spec[0] if isinstance(spec[0], list) else options.get("options") or [None]
    return choices[0] if choices else None


def _saved_values(name: str, spec: list, value: Any) -> list:
    """A widget's value and the companions the editor saves behind it (see `_widgets.py`)."""
    declared = _options(spec).get("control_after_generate")
    if declared or (declared is None and spec[0] == "INT" and name in SEED_NAMES):
        return [value, "fixed"]
    return [value, "image"] if _options(spec).get("image_upload") else [value]


def _height(entries: list, outputs: list, values: list) -> int:
    sockets = max(sum("widget" not in entry for entry in entries), len(outputs))
    return 40 + 22 * sockets + 26 * len(values)
