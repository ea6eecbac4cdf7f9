"""ComfyUI's editor in a browser tab, as the tests use it: load a graph, build one, look at it, queue it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aqueduct.scripts._server import ComfyServer

WEB = Path(__file__).resolve().parents[2] / "web"
SCRIPTS = sorted(path.name for path in WEB.rglob("*.*js"))
VIEWPORT = {"width": 1600, "height": 1000}
READY_MS = 120_000
READY = "node => !!(window.app?.extensionManager && app.graph && LiteGraph.registered_node_types[node])"
BUILD = """
([nodes, links]) => {
    app.graph.clear();
    const made = {};
    for (const [name, type, pos, size, values] of nodes) {
        const node = LiteGraph.createNode(type);
        node.pos = pos;
        app.graph.add(node);
        if (size) node.setSize(size);
        for (const [key, value] of Object.entries(values)) {
            const widget = node.widgets.find((each) => each.name === key);
            widget.value = value;
            widget.callback?.(value);
        }
        made[name] = node;
    }
    for (const [from, output, to, input] of links) {
        made[from].connect(output, made[to], made[to].inputs.findIndex((each) => each.name === input));
    }
    return Object.fromEntries(Object.entries(made).map(([name, node]) => [name, node.id]));
}
"""
# Put a node's corner at a place of the view, under a zoom. The offset is in graph units.
LOOK_AT = """
([id, x, y, scale]) => {
    const node = app.graph.getNodeById(id);
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [x / scale - node.pos[0], y / scale - node.pos[1]];
    app.canvas.setDirty(true, true);
}
"""
# All nodes in the view, for a picture of the whole graph.
FIT = """
() => {
    const nodes = app.graph._nodes;
    const left = Math.min(...nodes.map((n) => n.pos[0])), top = Math.min(...nodes.map((n) => n.pos[1] - 40));
    const right = Math.max(...nodes.map((n) => n.pos[0] + n.size[0]));
    const bottom = Math.max(...nodes.map((n) => n.pos[1] + n.size[1]));
    const scale = Math.min(1, 1450 / (right - left), 850 / (bottom - top));
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [-left + 90 / scale, -top + 90 / scale];
    app.canvas.setDirty(true, true);
}
"""
# Two frames: the first lays out what has changed, the second has drawn it.
SETTLE = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"


class Editor:
    """One tab with the editor of `server`. `errors` collects what went wrong in our files (see `_is_ours`)."""

    def __init__(self, page: Any, server: ComfyServer, name: str, pictures: Path):
        self.page, self.server, self.name = page, server, name
        self.errors: list[str] = []
        self._pictures = pictures
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self._note(f"{error}\n{getattr(error, 'stack', '')}"))
        page.on("requestfailed", lambda request: self._note(f"request failed: {request.url}"))
        page.on("response", lambda answer: answer.ok or self._note(f"{answer.status}: {answer.url}"))

    def open(self) -> None:
        self.page.goto(self.server.url)
        # The pack's nodes are registered last, after every extension has been imported.
        self.page.wait_for_function(READY, arg="AqueductBridge", timeout=READY_MS)
        self.settle()

    def evaluate(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    @property
    def vue(self) -> bool:
        return self.evaluate("() => !!LiteGraph.vueNodesMode")

    def settle(self) -> None:
        self.evaluate(SETTLE)

    def close_dialogs(self) -> None:
        """Away with what the editor tells of a failed run: it lies over the graph."""
        for _ in range(20):
            if not self.page.locator("[role='dialog']:visible").count():
                return
            self.page.keyboard.press("Escape")
            self.page.wait_for_timeout(100)
        raise AssertionError("a dialog does not close")

    def clear(self) -> None:
        self.close_dialogs()
        # `clean` forgets what earlier nodes of the same ids have shown.
        self.evaluate("() => { app.graph.clear(); app.clean(); }")
        self.settle()
        self.errors.clear()

    def load(self, graph: dict) -> None:
        self.evaluate("async (graph) => { await app.loadGraphData(graph); }", graph)
        self.settle()

    def build(self, nodes: list[tuple], links: list[tuple] = ()) -> dict[str, int]:
        """Make a graph from `(name, type, position, size, values)` and `(from, output, to, input)`; return the ids."""
        ids = self.evaluate(BUILD, [nodes, links])
        self.settle()
        return ids

    def look_at(self, node_id: int, x: float = 120, y: float = 130, scale: float = 1.0) -> None:
        """Bring the node's upper left corner to (x, y) of the window, at this zoom."""
        self.evaluate(LOOK_AT, [node_id, x, y, scale])
        self.settle()

    def fit(self) -> None:
        self.evaluate(FIT)
        self.settle()

    def serialized(self) -> dict:
        return self.evaluate("() => JSON.parse(JSON.stringify(app.graph.serialize()))")

    def prompt(self) -> dict:
        """The API prompt that the editor would queue."""
        return self.evaluate("async () => (await app.graphToPrompt()).output")

    def run(self) -> dict:
        """Queue the graph as the button does, and return the server's history entry once it has finished."""
        before = set(self.server.prompt_ids())
        self.evaluate("async () => { await app.queuePrompt(0); }")
        for _ in range(100):
            if new := set(self.server.prompt_ids()) - before:
                return self.server.wait(new.pop(), timeout=60)
            self.page.wait_for_timeout(100)
        raise AssertionError("the editor queued nothing")

    def shoot(self, name: str) -> Path:
        path = self._pictures / f"{name}-{self.name}.png"
        self.page.screenshot(path=str(path))
        return path

    def _note_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            where = (message.location or {}).get("url", "")
            self._note(f"{message.type}: {message.text} ({where})")

    def _note(self, text: str) -> None:
        if self._is_ours(text):
            self.errors.append(text)

    def _is_ours(self, text: str) -> bool:
        """The front end has complaints of its own (1.58 asks an old server for a Jobs API); ours name our files."""
        return f"/extensions/{self.server.pack_name}/" in text or any(name in text for name in SCRIPTS)


@contextlib.contextmanager
def opened(browser: Any, server: ComfyServer, vue: bool, name: str, pictures: Path) -> Iterator[Editor]:
    """The editor with classic (LiteGraph) or Vue nodes, in a tab with nothing remembered. `name` marks its pictures."""
    # The map of the graph would lie over it.
    settings = {"Comfy.VueNodes.Enabled": vue, "Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False}
    for key, value in settings.items():
        server.change_setting(key, value)
    context = browser.new_context(viewport=VIEWPORT)
    try:
        editor = Editor(context.new_page(), server, name, pictures)
        editor.open()
        yield editor
    finally:
        context.close()
