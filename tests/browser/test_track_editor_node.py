"""The track editor as a node: its drawing is saved, queued and pasted, its picture is shown, its size follows."""

import json

import numpy as np
import pytest
from PIL import Image

from aqueduct.tests.browser.track_editor import HEIGHT, PIXEL, WIDTH, TrackEditor, assert_near, pixels

# A picture three times as wide as high, from a node that makes it, in place of the one from the file.
COMPUTED = """
(id) => {
    const made = LiteGraph.createNode("EmptyImage"), node = app.graph.getNodeById(id);
    made.pos = [-500, 500];
    app.graph.add(made);
    const values = { width: 300, height: 100, color: 0xff00ff };
    for (const [name, value] of Object.entries(values)) made.widgets.find((each) => each.name === name).value = value;
    made.connect(0, node, node.inputs.findIndex((each) => each.name === "image"));
}
"""


# --- documents --------------------------------------------------------------------------------------------------------


def test_saved_and_loaded_graph_keeps_the_drawing(drawing):
    drawing.draw((0.2, 0.3), (0.5, 0.7), (0.8, 0.4))
    drawing.press("pin")
    drawing.drag((0.2, 0.8), (0.8, 0.8), steps=6)
    text, saved = drawing.text, drawing.editor.serialized()
    drawing.editor.clear()
    assert drawing.editor.evaluate("() => app.graph._nodes.length") == 0
    drawing.editor.load(json.loads(json.dumps(saved)))
    assert drawing.text == text
    drawing.look()
    drawing.drag((0.2, 0.3), (0.3, 0.3))  # and it can be edited on
    assert_near(drawing.tracks[0]["points"][:1], [(0.3, 0.3)], 1.5)


def test_invalid_document_is_kept_and_explained(drawing):
    for text, said in (
        ("no JSON {", "not JSON"),
        ('{"version": 7, "tracks": []}', "version 7"),
        ('{"version": 1, "tracks": [{}]}', "tracks[0]"),
    ):
        drawing.text = text
        assert drawing.text == text
        assert said in drawing.message
        drawing.page.mouse.click(*drawing.at(0.5, 0.2))  # no gesture may overwrite it
        saved = drawing.editor.serialized()
        (node,) = [node for node in saved["nodes"] if node["type"] == "AqueductTrackEditor"]
        assert text in node["widgets_values"]
    drawing.editor.shoot("invalid")
    drawing.text = '{"version": 1, "tracks": [{"points": [[0.5, 0.5]]}]}'
    assert len(drawing.tracks) == 1 and said not in drawing.message


def test_copy_and_paste_of_coordinates(drawing):
    """What KJNodes' spline editor writes goes in, and the same goes out: pixels of the picture, one point a frame."""
    drawing.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    line = [{"x": 20 + 8 * k, "y": 100 + 2 * k} for k in range(25)]
    drawing.editor.evaluate("(text) => navigator.clipboard.writeText(text)", json.dumps([line]))
    drawing.press("paste")
    drawing.page.wait_for_timeout(200)  # the clipboard answers when it likes
    (track,) = drawing.tracks
    ends = [((line[k]["x"] + 0.5) / WIDTH, (line[k]["y"] + 0.5) / HEIGHT) for k in (0, -1)]
    assert_near([track["points"][0], track["points"][-1]], ends, 0.01)
    drawing.press("copy")
    drawing.page.wait_for_timeout(200)
    (copied,) = json.loads(drawing.editor.evaluate("() => navigator.clipboard.readText()"))
    assert len(copied) == 25
    np.testing.assert_allclose([[p["x"], p["y"]] for p in copied], [[p["x"], p["y"]] for p in line], atol=0.1)


# --- the node ---------------------------------------------------------------------------------------------------------


def test_picture_is_shown_before_any_run(editor):
    """The canvas shows the wired picture in its own shape as soon as it is wired."""
    runs = editor.server.prompt_ids()
    drawing = TrackEditor(editor)
    assert editor.server.prompt_ids() == runs
    aspect = (drawing.right - drawing.left) / (drawing.bottom - drawing.top)
    assert aspect == pytest.approx(WIDTH / HEIGHT, rel=0.02)
    assert drawing.right - drawing.left > 300


def test_canvas_grows_with_the_node(editor):
    """By its corner, in both directions; the drawing stays where it is on the picture."""
    drawing = TrackEditor(editor, scale=0.7)
    drawing.draw((0.2, 0.3), (0.8, 0.4))
    small, text = drawing.canvas.bounding_box(), drawing.text
    drawing.resize(260, 180)
    drawing.find_picture()
    large = drawing.canvas.bounding_box()
    assert large["width"] - small["width"] == pytest.approx(260, abs=25)
    assert large["height"] - small["height"] == pytest.approx(180, abs=25)
    assert drawing.text == text
    drawing.drag((0.2, 0.3), (0.3, 0.6))
    assert_near(drawing.tracks[0]["points"], [(0.3, 0.6), (0.8, 0.4)], 2)
    drawing.editor.shoot("resized")


def test_server_receives_what_was_drawn(drawing, tmp_path):
    """The history holds the drawing, and the coordinates and the mask of the run lie where it was drawn."""
    places = [(0.25, 0.25), (0.75, 0.25), (0.75, 0.75)]
    drawing.draw(*places)
    drawing.field("curve").select_option("straight")
    drawing.press("pin")
    drawing.drag((0.2, 0.9), (0.8, 0.9), steps=8)
    entry = drawing.editor.run()
    prompt = entry["prompt"][2]
    (node,) = [node for node in prompt.values() if node["class_type"] == "AqueductTrackEditor"]
    assert node["inputs"]["document"] == drawing.text
    assert_near(json.loads(node["inputs"]["document"])["tracks"][0]["points"], places)
    (text,) = entry["outputs"][str(drawing.ids["text"])]["text"]
    (ran,) = json.loads(text)
    corners = [pixels(*place) for place in places]
    np.testing.assert_allclose([ran[0]["x"], ran[0]["y"]], corners[0], atol=PIXEL)
    np.testing.assert_allclose([ran[-1]["x"], ran[-1]["y"]], corners[-1], atol=PIXEL)
    assert min(np.hypot(p["x"] - corners[1][0], p["y"] - corners[1][1]) for p in ran) < 8
    (output,) = entry["outputs"][str(drawing.ids["preview"])]["images"]
    mask = Image.open(drawing.editor.server.download(output, tmp_path / "mask.png"))
    assert mask.size == (WIDTH, HEIGHT)
    assert mask.getpixel((WIDTH // 2, int(0.9 * HEIGHT)))[0] == 255 and mask.getpixel((WIDTH // 2, 20))[0] == 0
    drawing.editor.shoot("queued")


def test_run_without_tracks_brings_a_computed_picture(editor):
    """A picture that no file holds is known after a run: one before the first track says so, and shows it."""
    drawing = TrackEditor(editor)
    editor.evaluate(COMPUTED, drawing.id)
    editor.settle()
    assert drawing._magenta_box() is None
    editor.run()
    drawing.page.wait_for_timeout(500)  # for the news that there was no track
    editor.close_dialogs()
    drawing.find_picture()
    aspect = (drawing.right - drawing.left) / (drawing.bottom - drawing.top)
    assert aspect == pytest.approx(3, rel=0.03)
    editor.shoot("computed")


def test_unreadable_drawing_is_refused_by_the_server(drawing):
    drawing.text = '{"version": 1, "tracks": [{"points": [[0.1, 0.2]], "start": 0.9, "end": 0.1}]}'
    with drawing.page.expect_response("**/prompt") as answer:
        drawing.editor.evaluate("async () => { try { await app.queuePrompt(0); } catch {} }")
    (refusal,) = answer.value.json()["node_errors"][str(drawing.id)]["errors"]
    assert "ends (at 0.1) before it starts (at 0.9)" in refusal["details"]
    drawing.editor.shoot("refused")
