"""How the shipped workflows lie in the editor, from their files alone."""

import json
from itertools import combinations
from pathlib import Path

import pytest

WORKFLOWS = sorted((Path(__file__).resolve().parents[2] / "workflows").glob("*.json"))
TITLE = 30  # pixels above a node's position


def boxes(path: Path) -> dict[str, tuple[float, float, float, float]]:
    """Left, top, right, bottom of each node with its title, as saved."""
    found = {}
    for node in json.loads(path.read_text())["nodes"]:
        (x, y), (width, height) = node["pos"], node["size"]
        found[f"{node['type']} {node['id']}"] = (x, y - TITLE, x + width, y + height)
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_places_and_sizes_are_numbers(path):
    """With another size the editor says that the file is invalid, and draws no such node."""
    for node in json.loads(path.read_text())["nodes"]:
        assert [type(value) for value in (*node["pos"], *node["size"])] == 4 * [int], node["type"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_node_lies_on_another(path):
    for (one, a), (other, b) in combinations(boxes(path).items(), 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, f"{one} and {other}"
