"""Turn a workflow as the editor saves it into the API prompt that the server runs.

The editor does this in the browser when a graph is queued; doing it here lets tests and the demo run the very files
that ship. Follows the front end's rules (graphToPrompt) for what shipped files contain, and refuses the rest by name.
"""

from typing import Any

from ._client import Prompt
from ._console import HouseError
from ._widgets import WorkflowError, widget_values

MUTED, BYPASSED = 2, 4
# Nodes that exist in the editor alone.
NOTES = ("Note", "MarkdownNote")
REROUTE, PRIMITIVE = "Reroute", "PrimitiveNode"


def to_prompt(workflow: dict, object_info: dict[str, dict]) -> Prompt:
    """Convert `workflow` for the server that answered `object_info`. Raises WorkflowError naming node and input."""
    graph = _Graph(workflow)
    prompt = {}
    for node in graph.nodes.values():
        if node["type"] in (*NOTES, REROUTE, PRIMITIVE) or node.get("mode") in (MUTED, BYPASSED):
            continue
        info = object_info.get(node["type"])
        if info is None:
            raise WorkflowError(f"{describe(node)}: the server has no such node{_subgraph_hint(node, workflow)}")
        prompt[str(node["id"])] = {
            "class_type": node["type"],
            "inputs": _inputs(graph, node, info),
            "_meta": {"title": node.get("title") or info.get("display_name") or node["type"]},
        }
    return prompt


def set_input(prompt: Prompt, node: str, name: str, value: Any) -> None:
    """Set input `name` of the one node whose class or title is `node`."""
    matches = find_nodes(prompt, node)
    if len(matches) != 1:
        present = ", ".join(sorted(f'{entry["class_type"]} "{entry["_meta"]["title"]}"' for entry in prompt.values()))
        problem = f"nodes {', '.join(matches)} match; use a title" if matches else "no node matches"
        raise HouseError(f'cannot set {name} of "{node}": {problem}. The workflow has {present}')
    inputs = prompt[matches[0]]["inputs"]
    if name not in inputs:
        raise HouseError(f'cannot set {name} of "{node}": its inputs are {", ".join(inputs)}')
    inputs[name] = value


def find_nodes(prompt: Prompt, node: str) -> list[str]:
    """The ids of the nodes whose class or title is `node`."""
    return [key for key, entry in prompt.items() if node in (entry["class_type"], entry["_meta"]["title"])]


def describe(node: dict) -> str:
    title = node.get("title")
    return f'node {node["id"]} ({node["type"]}, "{title}")' if title else f"node {node['id']} ({node['type']})"


def _inputs(graph: "_Graph", node: dict, info: dict) -> dict[str, Any]:
    """Widget values first; a link then replaces the value of the widget it is plugged into."""
    values = widget_values(node, info, describe(node))
    for entry in node.get("inputs") or []:
        if entry.get("link") is not None:
            source = graph.resolve(entry["link"], node, entry["name"])
            if source is not None:
                values[entry["name"]] = source
    missing = [name for name in info["input"].get("required", {}) if name not in values]
    if missing:
        raise WorkflowError(f"{describe(node)}: required input {missing[0]} has neither a link nor a value")
    return {name: {"__value__": value} if _is_plain_list(value) else value for name, value in values.items()}


def _is_plain_list(value: Any) -> bool:
    """The server takes a bare list for a link, so a list that is data travels wrapped."""
    return isinstance(value, list) and not isinstance(value, _Source)


class _Source(list):
    """[node id, output slot]: a link of the API format, told apart from a list that is a widget's value."""


class _Graph:
    """Nodes and links of a workflow, with the editor-only nodes seen through."""

    def __init__(self, workflow: dict):
        if "nodes" not in workflow:
            raise WorkflowError("this is no editor workflow (it has no nodes); an API prompt needs no conversion")
        self.nodes = {node["id"]: node for node in workflow["nodes"]}
        self._origins = dict(_origin(link) for link in workflow.get("links") or [])

    def resolve(self, link: int, node: dict, name: str) -> Any:
        """What link `link` into `node` carries: a _Source, a primitive's value, or None if its source is muted."""
        for _ in range(len(self.nodes) + 1):
            if link not in self._origins:
                raise WorkflowError(f"{describe(node)}: input {name} has link {link}, which the workflow lacks")
            origin, slot = self._origins[link]
            if origin not in self.nodes:
                raise WorkflowError(f"{describe(node)}: input {name} comes from node {origin}, which does not exist")
            source = self.nodes[origin]
            if source.get("mode") == MUTED:
                return None
            if source["type"] == PRIMITIVE:
                return source["widgets_values"][0]
            if source["type"] != REROUTE and source.get("mode") != BYPASSED:
                return _Source([str(origin), slot])
            link = _passed_link(source, slot)
            if link is None:
                return None
        raise WorkflowError(f"{describe(node)}: input {name} comes from a loop of reroutes")


def _origin(link: list | dict) -> tuple[int, tuple[int, int]]:
    """link id -> (node, slot) for both formats: arrays (schema 0.4) and objects (schema 1)."""
    if isinstance(link, dict):
        return link["id"], (link["origin_id"], link["origin_slot"])
    return link[0], (link[1], link[2])


def _passed_link(node: dict, slot: int) -> int | None:
    """The input link that a reroute or bypassed node hands on to output `slot`: same position, else same type."""
    inputs = node.get("inputs") or []
    if node["type"] == REROUTE:
        return inputs[0].get("link") if inputs else None
    wanted = node["outputs"][slot]["type"]
    ordered = inputs[slot : slot + 1] + inputs
    return next((entry.get("link") for entry in ordered if entry["type"] == wanted), None)


def _subgraph_hint(node: dict, workflow: dict) -> str:
    subgraphs = workflow.get("definitions", {}).get("subgraphs", [])
    if any(subgraph.get("id") == node["type"] for subgraph in subgraphs):
        return "; it is a subgraph: unpack it before saving the workflow"
    return ""
