"""Everything the pack ships shows up in the editor: nodes, their help and the workflows."""

import json
import urllib.request
from pathlib import Path

import pytest

from aqueduct.scripts._workflow import to_prompt

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))

UNKNOWN = """
() => app.graph._nodes.map((node) => node.type)
    .filter((type) => !["MarkdownNote", "Note"].includes(type) && !LiteGraph.registered_node_types[type])
"""


def test_every_node_of_the_pack_can_be_added(editor):
    ours = sorted(name for name in editor.server.object_info() if name.startswith("Aqueduct"))
    assert len(ours) >= 6
    registered = editor.evaluate("() => Object.keys(LiteGraph.registered_node_types)")
    assert [name for name in ours if name not in registered] == []
    nodes = [(name, name, [40 + 420 * (i % 4), 60 + 420 * (i // 4)], None, {}) for i, name in enumerate(ours)]
    assert len(editor.build(nodes)) == len(ours)
    editor.fit()
    editor.shoot("nodes")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_loads_and_queues_what_the_tests_queue(editor, path):
    """`to_prompt` stands in for the editor in the demo and in the tests without a browser."""
    graph = json.loads(path.read_text(encoding="utf-8"))
    editor.load(graph)
    assert editor.evaluate("() => app.graph._nodes.length") == len(graph["nodes"])
    assert editor.evaluate(UNKNOWN) == []
    info = editor.server.object_info()
    shown = {key: (node["class_type"], known_inputs(node, info)) for key, node in editor.prompt().items()}
    ours = to_prompt(graph, info)
    assert {key: (node["class_type"], node["inputs"]) for key, node in ours.items()} == shown
    editor.fit()
    editor.shoot(path.stem)


def known_inputs(node: dict, info: dict) -> dict:
    """Without what no node has asked for: the player under a video that the server has is queued as `video-preview`."""
    kinds = info[node["class_type"]]["input"].values()
    return {name: value for name, value in node["inputs"].items() if any(name in inputs for inputs in kinds)}


def test_help_pages_are_served(editor):
    for page in (ROOT / "web" / "docs").glob("*.md"):
        address = f"{editor.server.url}/extensions/{editor.server.pack_name}/docs/{page.name}"
        with urllib.request.urlopen(address) as answer:
            assert answer.read().decode() == page.read_text(encoding="utf-8")
