"""The track editor as a hand sees it: places are found on the picture, gestures are made with the mouse.

Where a point of the image lies on the screen is measured in screenshots of the picture itself (it is magenta to its
edges, which nothing else is), so that the tests know nothing of how the widget maps one to the other.
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .editor import Editor

WIDTH, HEIGHT = 320, 200  # of the picture: neither square nor the shape of the widget
PICTURE = "aqueduct_scene.png"
MAGENTA = (255, 0, 255)
PIXEL = 1.0  # how near what arrives is to where the mouse was, in pixels of the picture
NODE_SIZE = [560, 760]

WIDGET = "(id) => app.graph.getNodeById(id).widgets.find((each) => each.name === 'document')"

CORNER = """
(id) => {
    const { pos, size } = app.graph.getNodeById(id), { scale, offset } = app.canvas.ds;
    const box = app.canvas.canvas.getBoundingClientRect();
    const at = [0, 1].map((axis) => (pos[axis] + size[axis] - 3 + offset[axis]) * scale);
    return [box.left + at[0], box.top + at[1]];
}
"""


def make_picture(folder: Path) -> Path:
    path = folder / PICTURE
    Image.new("RGB", (WIDTH, HEIGHT), MAGENTA).save(path)
    return path


def pixels(u: float, v: float) -> tuple[float, float]:
    """Normalised coordinates in pixels of the picture: 0 and 1 are its outer edges, pixel centres are integers."""
    return u * WIDTH - 0.5, v * HEIGHT - 0.5


def assert_near(points, expected, tolerance=PIXEL):
    """Both normalised; compared in pixels of the picture."""
    __tracebackhide__ = True
    there = np.array([pixels(*point) for point in points])
    wanted = np.array([pixels(*point) for point in expected])
    assert there.shape == wanted.shape, f"{len(points)} points instead of {len(expected)}: {points}"
    assert np.abs(there - wanted).max() <= tolerance, f"\n{there}\ninstead of\n{wanted}"


class TrackEditor:
    """The track editor of one node, in a graph that runs: image -> editor -> pinned mask and coordinates shown."""

    def __init__(self, editor: Editor, scale: float = 1.0, size: list[int] = NODE_SIZE):
        self.editor, self.page = editor, editor.page
        self.ids = editor.build(
            [
                ("photo", "LoadImage", [-500, 0], None, {"image": PICTURE}),
                ("drawing", "AqueductTrackEditor", [0, 0], size, {}),
                ("mask", "MaskToImage", [700, 0], None, {}),
                ("preview", "PreviewImage", [1000, 0], None, {}),
                ("text", "PreviewAny", [700, 300], None, {}),
            ],
            [
                ("photo", 0, "drawing", "image"),
                ("drawing", 2, "mask", "mask"),
                ("mask", 0, "preview", "images"),
                ("drawing", 1, "text", "source"),
            ],
        )
        self.id = self.ids["drawing"]
        self.root = self.page.locator(".aqueduct-track-editor")
        self.canvas = self.page.locator(".aqueduct-track-canvas")
        self.look(scale)

    def look(self, scale: float = 1.0) -> None:
        """See the node at this zoom and find the picture in it."""
        self.editor.look_at(self.id, scale=scale)
        self.canvas.wait_for(state="visible")
        self.find_picture()

    def find_picture(self) -> None:
        """Wait until the picture is on the canvas and stays where it is, and measure where that is."""
        last = None
        for _ in range(60):
            box = self._magenta_box()
            if box is not None and box == last:
                self.left, self.top, self.right, self.bottom = box
                return
            last = box
            self.page.wait_for_timeout(100)
        raise AssertionError("the wired picture is not shown on the canvas" if last is None else "it keeps moving")

    def _magenta_box(self) -> tuple[float, float, float, float] | None:
        box = self.canvas.bounding_box()
        seen = self.seen().astype(int)
        magenta = (seen[..., 0] > 60) & (seen[..., 2] > 60) & (seen[..., 1] * 3 < seen[..., 0])
        rows, columns = np.flatnonzero(magenta.mean(1) > 0.2), np.flatnonzero(magenta.mean(0) > 0.2)
        if not len(rows):
            return None
        x, y = box["x"], box["y"]
        return x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1

    def seen(self) -> np.ndarray:
        """The canvas on the screen, [height, width, 3]."""
        box = self.canvas.bounding_box()
        picture = Image.open(io.BytesIO(self.page.screenshot(clip=box))).convert("RGB")
        return np.asarray(picture)

    # --- gestures -----------------------------------------------------------------------------------------------------

    def at(self, u: float, v: float) -> tuple[float, float]:
        """Where (u, v) of the picture lies in the window."""
        return self.left + u * (self.right - self.left), self.top + v * (self.bottom - self.top)

    def click(self, u: float, v: float) -> None:
        self.page.mouse.click(*self.at(u, v))

    def double_click(self, u: float, v: float) -> None:
        self.page.mouse.dblclick(*self.at(u, v))

    def drag(self, *path: tuple[float, float], steps: int = 4) -> None:
        self.page.mouse.move(*self.at(*path[0]))
        self.page.mouse.down()
        for place in path[1:]:
            self.page.mouse.move(*self.at(*place), steps=steps)
        self.page.mouse.up()

    def resize(self, wider: float, higher: float) -> None:
        """Drag the node's lower right corner. A Vue node is an element; a classic one is painted on the graph."""
        if self.editor.vue:
            box = self.page.locator(f"[data-node-id='{self.id}']").bounding_box()
            corner = (box["x"] + box["width"] - 3, box["y"] + box["height"] - 3)
        else:
            corner = self.editor.evaluate(CORNER, self.id)
        self.page.mouse.move(*corner)
        self.page.mouse.down()
        self.page.mouse.move(corner[0] + wider, corner[1] + higher, steps=5)
        self.page.mouse.up()
        self.editor.settle()

    def press(self, action: str) -> None:
        self.root.locator(f"[data-action='{action}']").click()

    def key(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def field(self, name: str) -> Any:
        return self.root.locator(f"[data-field='{name}']")

    def draw(self, *places: tuple[float, float]) -> None:
        """A new track by clicks."""
        self.press("draw")
        for place in places:
            self.click(*place)

    # --- what is there ------------------------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        return self.editor.evaluate(f"(id) => ({WIDGET})(id).value", self.id)

    @text.setter
    def text(self, text: str) -> None:
        """What loading a graph or pasting into the field of another tool does."""
        self.editor.evaluate(f"([id, text]) => {{ ({WIDGET})(id).value = text; }}", [self.id, text])
        self.editor.settle()

    @property
    def document(self) -> dict:
        return json.loads(self.text)

    @property
    def tracks(self) -> list[dict]:
        return self.document.get("tracks", [])

    @property
    def pins(self) -> list[dict]:
        return self.document.get("pins", [])

    @property
    def message(self) -> str:
        return self.root.locator("[data-role='message']").inner_text()

    def place(self) -> list:
        """Where the node is and what the window shows of the graph: drawing must change neither."""
        script = "(id) => [...app.graph.getNodeById(id).pos, app.canvas.ds.scale, ...app.canvas.ds.offset]"
        return self.editor.evaluate(script, self.id)

    def per_pixel(self) -> float:
        """Pixels of the picture in one of the screen."""
        return WIDTH / (self.right - self.left)
