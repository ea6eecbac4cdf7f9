"""Photograph the track editor for the README: the newer front end, Vue nodes, a drawing on a photo, one track selected.

    python3 scripts/test.py --python   # prints the interpreter to run this with; Chromium must be there

The photograph in it is scikit-learn's china.jpg, by danielbuechele, CC BY 2.0.
"""

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from _pack import ROOT, load_pack

load_pack()
from _workflow_pictures import DRAWING

from aqueduct.scripts import _media
from aqueduct.scripts._browser import NEWER_FRONT_END, find_chromium, front_end, playwright_packages
from aqueduct.scripts._console import readable_errors
from aqueduct.scripts._environment import prepare
from aqueduct.scripts._places import cache_root
from aqueduct.scripts._server import ComfyServer
from aqueduct.tests.browser.conftest import FLAGS
from aqueduct.tests.browser.editor import opened

NODES = [
    ("photo", "LoadImage", [40, 90], [300, 320], {"image": "china.jpg"}),
    ("editor", "AqueductTrackEditor", [400, 90], [620, 720], {"frames": 25, "document": json.dumps(DRAWING)}),
]
LINKS = [("photo", 0, "editor", "image")]
TARGET = ROOT / "docs" / "track-editor.jpg"


def main() -> None:
    environment, python = prepare(tools=True), Path(sys.executable)
    sys.path.append(str(playwright_packages(cache_root(), python)))
    from playwright.sync_api import sync_playwright

    static = front_end(cache_root(), python, NEWER_FRONT_END)
    arguments = ("--front-end-root", str(static))
    with (
        ComfyServer(environment.python, environment.comfyui, arguments=arguments) as server,
        sync_playwright() as playwright,
        tempfile.TemporaryDirectory() as folder,
    ):
        server.upload_image(_media.photo_path("china", environment.python))
        browser = playwright.chromium.launch(executable_path=str(find_chromium()), args=FLAGS)
        with opened(browser, server, True, "picture", Path(folder)) as editor:
            photograph(editor, Path(folder) / "page.png")
        browser.close()


def photograph(editor, page: Path) -> None:
    from PIL import Image

    made = editor.build(NODES, LINKS)
    editor.look_at(made["editor"], 120, 130, 1.0)
    editor.page.wait_for_timeout(1500)
    editor.page.locator("[data-track='0']").click()
    scrub = editor.page.locator(".aqueduct-track-editor [data-action='scrub']")
    scrub.fill("12")
    editor.settle()
    editor.page.screenshot(path=page)
    node = editor.page.locator(f"[data-node-id='{made['editor']}']").first.bounding_box()
    left, top = node["x"], node["y"]
    with Image.open(page) as picture:
        box = [round(value) for value in (left, top, left + node["width"], top + node["height"])]
        picture.convert("RGB").crop(box).save(TARGET, quality=85, optimize=True)
    print(f"{TARGET.relative_to(ROOT)}  {TARGET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    with readable_errors():
        main()
