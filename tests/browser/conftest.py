"""The real front end in Chromium: two versions of it, each with classic and with Vue nodes.

One browser, one server per front end and one tab per combination serve the whole folder; a test starts from an empty
graph and fails if anything of ours has complained by its end. Screenshots go to `AQUEDUCT_SCREENSHOTS`, else into the
cache. What the machine lacks (a browser, the network for a first download) skips the tests and is said at the end.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aqueduct.scripts._browser import (
    NEWER_FRONT_END,
    NO_CHROMIUM,
    find_chromium,
    front_end,
    playwright_packages,
)
from aqueduct.scripts._console import HouseError
from aqueduct.scripts._places import cache_root
from aqueduct.scripts._server import ComfyServer
from aqueduct.tests.browser.editor import Editor, opened
from aqueduct.tests.browser.track_editor import TrackEditor, make_picture

HERE = Path(__file__).parent
# No sandbox: containers lack the namespaces it needs. No QUIC, no GPU: neither is there, and both delay the start.
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic")
# The front end that the ComfyUI in use came with and a newer one, with classic (LiteGraph) and with Vue nodes.
COMBINATIONS = [(front, nodes) for front in ("shipped", "newer") for nodes in ("classic", "vue")]
SKIPPED, PICTURES = pytest.StashKey[str](), pytest.StashKey[Path]()
FAILED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("browser")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if SKIPPED in config.stash:
        terminalreporter.write_line(f"BROWSER TESTS WERE SKIPPED: {config.stash[SKIPPED]}", yellow=True)
    if PICTURES in config.stash:
        terminalreporter.write_line(f"Screenshots of the browser tests: {config.stash[PICTURES]}")


def skip(config: pytest.Config, reason: str) -> None:
    config.stash[SKIPPED] = reason
    pytest.skip(reason)


@pytest.fixture(scope="package")
def browser(comfyui_path: Path, pytestconfig: pytest.Config) -> Iterator[Any]:
    """Chromium, driven by Playwright."""
    try:
        chromium = find_chromium() or skip(pytestconfig, NO_CHROMIUM)
        packages = fetched(pytestconfig, playwright_packages)
    except HouseError as error:
        skip(pytestconfig, str(error))
    sys.path.append(str(packages))  # at the end: what the environment itself has comes first
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(chromium), args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="package")
def pictures(pytestconfig: pytest.Config) -> Path:
    """The folder for screenshots, without the failures of an earlier run."""
    folder = Path(os.environ.get("AQUEDUCT_SCREENSHOTS") or cache_root() / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("failed-*.png"):
        old.unlink()
    pytestconfig.stash[PICTURES] = folder
    return folder


@pytest.fixture(scope="package")
def newer_server(comfyui_path: Path, pytestconfig: pytest.Config) -> Iterator[ComfyServer]:
    """The same ComfyUI with a newer front end: `AQUEDUCT_FRONTEND` (a version, or "newest"), else the one named."""
    version = os.environ.get("AQUEDUCT_FRONTEND") or NEWER_FRONT_END
    try:
        static = fetched(pytestconfig, front_end, version)
    except HouseError as error:
        skip(pytestconfig, f"the front end {version} is not to be had: {error}")
    with ComfyServer(sys.executable, comfyui_path, arguments=("--front-end-root", str(static))) as running:
        yield running


def fetched(config: pytest.Config, fetch: Any, *arguments: str) -> Path:
    """A first download takes a while: its progress must not vanish into the captured output."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return fetch(cache_root(), Path(sys.executable), *arguments)


@pytest.fixture(scope="package", params=COMBINATIONS, ids="-".join)
def tab(
    request: pytest.FixtureRequest, browser: Any, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Editor]:
    """The editor of one front end with one kind of nodes."""
    front, nodes = request.param
    server = request.getfixturevalue({"shipped": "server", "newer": "newer_server"}[front])
    server.upload_image(make_picture(tmp_path_factory.mktemp("picture")))  # before the editor lists the files
    with opened(browser, server, nodes == "vue", f"{front}-{nodes}", pictures) as editor:
        assert editor.evaluate("() => !!LiteGraph.vueNodesMode") == (nodes == "vue")
        yield editor


@pytest.fixture
def editor(tab: Editor, request: pytest.FixtureRequest) -> Iterator[Editor]:
    """An empty graph in a tab of this combination."""
    tab.clear()
    yield tab
    if request.node.stash.get(FAILED, False):
        tab.shoot(f"failed-{request.node.originalname}")
    assert tab.errors == []


@pytest.fixture
def drawing(editor: Editor) -> TrackEditor:
    """A track editor over a wired picture, nothing drawn yet."""
    return TrackEditor(editor)
