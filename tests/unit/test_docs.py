"""The written pages against the code: every node has its page, and what the pages point at exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "web" / "docs").glob("*.md"))
PAPERS = ROOT / "docs" / "papers.md"


def node_ids() -> set[str]:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "nodes").glob("*.py")]
    return {name for source in sources for name in re.findall(r'node_id="(\w+)"', source)}


def names_in(path: Path) -> set[str]:
    """Functions, classes and constants of a module, methods as `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            found.add(node.name)
        found |= {target.id for target in getattr(node, "targets", [getattr(node, "target", None)])
                  if isinstance(target, ast.Name)}  # fmt: skip
    return found


def test_every_node_has_a_page_and_every_page_a_node():
    assert {page.stem for page in PAGES} == node_ids()


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.stem)
def test_pictures_and_files_exist(page):
    text = page.read_text(encoding="utf-8")
    linked = [page.parent / link for link in re.findall(r"\]\((?!https?:)([^)#]+)", text)]
    linked += [ROOT / path for path in re.findall(r"`((?:core|nodes|scripts)/[\w/]+\.py)\b", text)]
    assert [str(path) for path in linked if not path.exists()] == []


def test_pictures_are_small():
    for ending, most in (("*.png", 300_000), ("*.jpg", 600_000)):
        assert sum(path.stat().st_size for path in (ROOT / "web" / "docs").rglob(ending)) < most


def test_the_paper_map_names_functions_that_exist():
    missing = []
    for cell in re.findall(r"`([\w/]+\.py): ([^`]+)`", PAPERS.read_text(encoding="utf-8")):
        path = ROOT / cell[0] if "/" in cell[0] else ROOT / "core" / "bridges" / cell[0]
        known = names_in(path)
        missing += [f"{cell[0]}: {name}" for name in re.findall(r"[A-Za-z_][\w.]*", re.sub(r"\[.*?\]", "", cell[1]))
                    if name not in known]  # fmt: skip
    assert missing == []


def test_the_paper_map_names_tests_that_exist():
    missing = []
    for row in PAPERS.read_text(encoding="utf-8").splitlines():
        file = ""
        for path, name in re.findall(r"`([\w/]*(?:\.py)?)::(\w+)`", row):
            file = path or file
            at = ROOT / file if "/" in file else ROOT / "tests" / "unit" / file
            if not at.exists() or name not in names_in(at):
                missing.append(f"{file}::{name}")
    assert missing == []
