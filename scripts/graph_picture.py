"""Photograph whole workflows in the editor, for those that nothing can be run of here: `workflows/NAME.jpg`.

    python3 scripts/test.py --python   # prints the interpreter to run this with; Chromium must be there
    <interpreter> scripts/graph_picture.py train_saf_lora train_gp_noise
"""

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from _pack import ROOT, load_pack

load_pack()
from aqueduct.scripts._browser import find_chromium, playwright_packages
from aqueduct.scripts._console import readable_errors
from aqueduct.scripts._environment import prepare
from aqueduct.scripts._places import cache_root
from aqueduct.scripts._server import ComfyServer
from aqueduct.tests.browser.conftest import FLAGS
from aqueduct.tests.browser.editor import opened

WIDTH = 1160
VIEW = {"width": 3200, "height": 1700}
# The graph below its note at a zoom that still shows text, and the box it fills on the page.
SHOW = """
() => {
    app.graph._nodes.filter((n) => n.type.includes("Note")).forEach((n) => app.graph.remove(n));
    const nodes = app.graph._nodes;
    const left = Math.min(...nodes.map((n) => n.pos[0])), top = Math.min(...nodes.map((n) => n.pos[1] - 40));
    const right = Math.max(...nodes.map((n) => n.pos[0] + n.size[0]));
    const bottom = Math.max(...nodes.map((n) => n.pos[1] + n.size[1]));
    const scale = Math.min(1, 3000 / (right - left), 1400 / (bottom - top));
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [-left + 100 / scale, -top + 200 / scale];
    app.canvas.setDirty(true, true);
    const style = document.createElement("style");
    style.textContent = ".p-toast, .p-dialog, .graph-canvas-panel, .p-overlay-mask { display: none !important; }";
    document.head.append(style);
    const [x, y] = [app.canvas.canvas.getBoundingClientRect().left, app.canvas.canvas.getBoundingClientRect().top];
    return [x + 80, y + 180, x + 120 + (right - left) * scale, y + 220 + (bottom - top) * scale];
}
"""


def main(names: list[str]) -> None:
    environment, python = prepare(tools=True), Path(sys.executable)
    sys.path.append(str(playwright_packages(cache_root(), python)))
    from playwright.sync_api import sync_playwright

    with (
        ComfyServer(environment.python, environment.comfyui) as server,
        sync_playwright() as playwright,
        tempfile.TemporaryDirectory() as folder,
    ):
        browser = playwright.chromium.launch(executable_path=str(find_chromium()), args=FLAGS)
        with opened(browser, server, False, "picture", Path(folder)) as editor:
            for name in names:
                photograph(editor, name, Path(folder) / f"{name}.png")
        browser.close()


def photograph(editor, name: str, page: Path) -> None:
    from PIL import Image

    editor.page.set_viewport_size(VIEW)
    editor.clear()
    editor.load(json.loads((ROOT / "workflows" / f"{name}.json").read_text()))
    box = editor.evaluate(SHOW)
    editor.page.wait_for_timeout(1500)
    editor.page.screenshot(path=page)
    target = ROOT / "workflows" / f"{name}.jpg"
    with Image.open(page) as picture:
        shown = picture.convert("RGB").crop([round(side) for side in box])
        shown.resize((WIDTH, round(WIDTH * shown.height / shown.width))).save(target, quality=85, optimize=True)
    print(f"{target.relative_to(ROOT)}  {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    with readable_errors():
        main(sys.argv[1:])
