"""The track editor in the hand: drawing, editing, timing and keyboard."""

import json

import numpy as np
import pytest

from aqueduct.core.motion.track_document import read_document
from aqueduct.tests.browser.track_editor import HEIGHT, PIXEL, WIDTH, TrackEditor, assert_near, pixels

# --- drawing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.3, 0.6])
def test_clicks_add_points_where_they_are(editor, scale):
    """Under two zooms of the graph, on a picture that is not square, to a pixel of it (two where it is shown small)."""
    drawing = TrackEditor(editor, scale)
    before = drawing.place()
    places = [(0.2, 0.3), (0.5, 0.7), (0.8, 0.4)]
    drawing.draw(*places)
    assert len(drawing.tracks) == 1
    assert_near(drawing.tracks[0]["points"], places, max(PIXEL, drawing.per_pixel()))
    assert drawing.place() == before
    editor.shoot(f"clicks-{scale:g}")


def test_several_tracks(drawing):
    first, second = [(0.1, 0.2), (0.4, 0.2)], [(0.6, 0.8), (0.9, 0.8), (0.9, 0.5)]
    drawing.draw(*first)
    drawing.key("Escape")
    drawing.draw(*second)
    assert len(drawing.tracks) == 2
    assert_near(drawing.tracks[0]["points"], first)
    assert_near(drawing.tracks[1]["points"], second)


def test_free_hand_stroke_becomes_few_points_on_it(drawing):
    """An arch of 60 mouse positions: the kept points lie on it, in order, and the ends are its ends."""
    angle = np.linspace(np.pi, 0, 60)
    stroke = [(0.5 + 0.3 * np.cos(a), 0.7 - 0.4 * np.sin(a)) for a in angle]
    before = drawing.place()
    drawing.press("draw")
    drawing.drag(*stroke, steps=1)
    assert drawing.place() == before
    assert len(drawing.tracks) == 1
    points = drawing.tracks[0]["points"]
    assert 3 <= len(points) <= 15
    assert_near([points[0], points[-1]], [stroke[0], stroke[-1]], 2)
    path = read_document(drawing.text).tracks((HEIGHT, WIDTH), 200).positions[:, 0].numpy()
    drawn = np.array([pixels(*place) for place in stroke])
    off = np.linalg.norm(drawn[:, None] - path[None], axis=-1).min(1)
    assert off.max() < 4  # of 320 pixels


def test_dragging_moves_a_point_and_nothing_else(drawing):
    drawing.draw((0.2, 0.3), (0.5, 0.7), (0.8, 0.4))
    before = drawing.place()
    drawing.drag((0.5, 0.7), (0.45, 0.2))
    assert_near(drawing.tracks[0]["points"], [(0.2, 0.3), (0.45, 0.2), (0.8, 0.4)], 1.5)
    assert drawing.place() == before


def test_points_may_leave_the_picture(drawing):
    """A track that ends outside: the place is kept, not clamped."""
    drawing.draw((0.2, 0.5), (0.5, 0.5))
    drawing.drag((0.5, 0.5), (1.02, 0.5))
    assert drawing.tracks[0]["points"][1][0] == pytest.approx(1.02, abs=1.5 / WIDTH)


def test_double_click_removes_a_point(drawing):
    drawing.draw((0.2, 0.3), (0.5, 0.7), (0.8, 0.4))
    drawing.double_click(0.5, 0.7)
    assert_near(drawing.tracks[0]["points"], [(0.2, 0.3), (0.8, 0.4)])


def test_undo_and_redo_walk_through_every_step(drawing):
    seen = [drawing.document]
    drawing.press("draw")
    for step in (
        lambda: drawing.click(0.2, 0.3),
        lambda: drawing.click(0.5, 0.7),
        lambda: drawing.click(0.8, 0.7),
        lambda: drawing.drag((0.5, 0.7), (0.6, 0.2)),
        lambda: drawing.double_click(0.6, 0.2),
    ):
        step()
        seen.append(drawing.document)
    assert len({json.dumps(each) for each in seen}) == len(seen)
    for wanted in reversed(seen[:-1]):
        drawing.press("undo")
        assert drawing.document == wanted
    for wanted in seen[1:]:
        drawing.press("redo")
        assert drawing.document == wanted


def test_presets_move_the_image_as_they_say(drawing):
    centre = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    for name in ("pan-left", "pan-right", "zoom-in", "zoom-out", "swirl", "part"):
        drawing.press("presets")
        drawing.root.locator(f"[data-preset='{name}']").click()
        tracks = read_document(drawing.text).tracks((HEIGHT, WIDTH), 20)
        start, end = tracks.positions[0].numpy(), tracks.positions[-1].numpy()
        moved = end - start
        outward = (moved * (start - centre)).sum(1)
        assert tracks.count >= 4, name
        if name.startswith("pan"):
            assert (np.sign(moved[:, 0]) == (1 if name == "pan-right" else -1)).all(), name
            assert np.abs(moved[:, 1]).max() < 1e-3
        elif name.startswith("zoom"):
            assert ((outward if name == "zoom-in" else -outward) >= -1e-3).all() and np.abs(outward).max() > 100, name
        elif name == "swirl":  # a turn on the screen, also of a picture that is not square
            radii = [np.linalg.norm(place - centre, axis=1) for place in (start, end)]
            np.testing.assert_allclose(*radii, rtol=1e-3, atol=0.1)
            assert np.abs(moved).max() > 20
        else:
            assert (np.sign(moved[:, 0]) == np.sign(start[:, 0] - centre[0])).all()
        drawing.press("undo")  # one step, however many tracks
        assert drawing.tracks == []


def test_choosing_a_tool_moves_nothing(drawing):
    """What is said below the canvas changes with the tool; the picture must not jump under the hand."""
    seen = []
    for tool in ("draw", "static", "pin", "erase"):
        drawing.press(tool)
        drawing.editor.settle()
        seen.append(drawing.canvas.bounding_box())
    assert seen == seen[:1] * 4


def test_static_point(drawing):
    drawing.press("static")
    drawing.click(0.3, 0.6)
    drawing.click(0.7, 0.6)
    assert [len(track["points"]) for track in drawing.tracks] == [1, 1]
    assert_near([track["points"][0] for track in drawing.tracks], [(0.3, 0.6), (0.7, 0.6)])


def test_pin_brush_and_eraser(drawing):
    before = drawing.place()
    drawing.press("pin")
    drawing.drag((0.2, 0.5), (0.8, 0.5), steps=12)
    drawing.press("erase")
    drawing.drag((0.5, 0.2), (0.5, 0.8), steps=12)
    assert [pin.get("erase", False) for pin in drawing.pins] == [False, True]
    assert drawing.tracks == [] and drawing.place() == before
    mask = read_document(drawing.text).pinned((HEIGHT, WIDTH)).numpy()
    row = HEIGHT // 2
    assert mask[row, int(0.25 * WIDTH)] == 1 and mask[row, int(0.75 * WIDTH)] == 1
    assert mask[row, WIDTH // 2] == 0 and mask[5, 5] == 0
    drawing.editor.shoot("pins")


# --- settings of a track ----------------------------------------------------------------------------------------------


def test_timing_of_the_selected_track(drawing):
    drawing.draw((0.2, 0.3), (0.8, 0.3))
    for field, value in (("start", "0.25"), ("end", "0.75"), ("name", "left hand")):
        drawing.field(field).fill(value)
        drawing.field(field).press("Enter")
    drawing.field("ease").select_option("in-out")
    drawing.field("curve").select_option("straight")
    drawing.field("hold").uncheck()
    (track,) = drawing.tracks
    assert track["start"] == 0.25 and track["end"] == 0.75 and track["name"] == "left hand"
    assert track["ease"] == "in-out" and track["curve"] == "straight" and track["hold"] is False
    drawing.field("enabled").uncheck()
    assert drawing.tracks[0]["enabled"] is False
    drawing.editor.shoot("timing")


def test_overlapping_tracks_are_selected_from_the_list(drawing):
    """Two tracks on top of each other: the one chosen in the list is the one that a drag moves."""
    same = {"points": [[0.3, 0.5], [0.7, 0.5]]}
    drawing.text = json.dumps({"version": 1, "tracks": [same, same]})
    for chosen, other in ((0, 1), (1, 0)):
        drawing.root.locator(f"[data-track='{chosen}']").click()
        before = drawing.tracks[other]["points"]
        drawing.drag((0.3, 0.5), (0.3, 0.25))
        assert drawing.tracks[other]["points"] == before
        assert_near(drawing.tracks[chosen]["points"], [(0.3, 0.25), (0.7, 0.5)], 1.5)
        drawing.press("undo")


def test_scrubbing_and_playing_show_the_motion_and_change_nothing(drawing):
    drawing.text = json.dumps({"version": 1, "tracks": [{"points": [[0.1, 0.5], [0.9, 0.5]], "curve": "straight"}]})
    text = drawing.text
    scrub = drawing.root.locator("[data-action='scrub']")
    last = float(scrub.get_attribute("max"))
    start = drawing.seen().astype(int)
    for share in (0.25, 0.5, 0.75):
        scrub.evaluate(
            "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', { bubbles: true })); }",
            share * last,
        )
        drawing.editor.settle()
        changed = np.flatnonzero(np.abs(drawing.seen() - start).sum(2).max(0) > 60)
        middle = drawing.canvas.bounding_box()["x"] + (changed.min() + changed.max() + 1) / 2
        place = (middle - drawing.left) / (drawing.right - drawing.left)
        assert place == pytest.approx(0.1 + 0.8 * share, abs=0.01)
    drawing.press("play")
    drawing.page.wait_for_timeout(150)
    first = drawing.seen().astype(int)
    drawing.page.wait_for_timeout(250)
    assert np.abs(first - drawing.seen()).max() > 60
    drawing.press("play")
    assert drawing.text == text


# --- keyboard ---------------------------------------------------------------------------------------------------------


def test_keyboard_selects_nudges_and_deletes(drawing):
    """Without the mouse: focus, choose a track, move it, delete it, take that back. The graph keeps its hands off."""
    two = [{"points": [[0.3, 0.5]]}, {"points": [[0.6, 0.5], [0.8, 0.5]]}]
    drawing.text = json.dumps({"version": 1, "tracks": two})
    before = drawing.place()
    nodes = drawing.editor.evaluate("() => app.graph._nodes.length")
    # The node is selected, as a click on its title leaves it: a key that reached the graph would delete or move it.
    drawing.editor.evaluate("(id) => app.canvas.selectNode(app.graph.getNodeById(id))", drawing.id)
    drawing.canvas.focus()
    drawing.key("Tab")
    start = [track["points"] for track in drawing.tracks]
    drawing.key("ArrowRight", "ArrowRight", "ArrowDown")
    after = [track["points"] for track in drawing.tracks]
    (moved,) = [i for i in range(2) if after[i] != start[i]]
    shift = np.subtract(after[moved], start[moved]) * [WIDTH, HEIGHT]
    np.testing.assert_allclose(shift, np.broadcast_to([2, 1], shift.shape), atol=1e-3)  # a pixel of the picture each
    drawing.key("Delete")
    assert [track["points"] for track in drawing.tracks] == [start[1 - moved]]
    drawing.key("Control+z")
    assert len(drawing.tracks) == 2
    assert drawing.place() == before
    assert drawing.editor.evaluate("() => app.graph._nodes.length") == nodes
    assert drawing.editor.evaluate("() => document.activeElement.closest('.aqueduct-track-editor') !== null")
