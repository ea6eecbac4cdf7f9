"""What the editor plays is what the server computes: document, curves, timing and coordinates in both languages."""

import json
import random

import numpy as np
import pytest

from aqueduct.core.motion.track_document import CURVES, EASES, read_document
from aqueduct.core.motion.track_formats import parse_tracks

# One browser runs the same mathematics under every front end.
pytestmark = pytest.mark.parametrize("tab", [("newer", "classic")], indirect=True, ids="-".join)

SIZE = (180, 320)
FRAMES = 23
# The widget rounds coordinates to hundredths; the server's are float32.
HUNDREDTH = 0.006

IMPORTS = """
const at = `/extensions/${pack}/js/track_editor/`;
const [{ readDocument, writeDocument }, { readCoordinates, writeCoordinates }, { isVisible, timeOfFrame }] =
    await Promise.all(["document.mjs", "interchange.mjs", "timing.mjs"].map((name) => import(at + name)));
"""
PLAYED = f"""
async ([pack, text, width, height, frames]) => {{
    {IMPORTS}
    const drawing = readDocument(text);
    const tracks = drawing.tracks.filter((track) => track.enabled);
    const times = Array.from({{ length: frames }}, (_, k) => timeOfFrame(k, frames));
    return {{
        coordinates: JSON.parse(writeCoordinates(drawing.tracks, {{ width, height }}, frames)),
        visible: times.map((time) => tracks.map((track) => isVisible(track, time))),
        again: writeDocument(drawing),
    }};
}}
"""
PASTED = f"""
async ([pack, text, width, height]) => {{
    {IMPORTS}
    return writeDocument({{ tracks: readCoordinates(text, {{ width, height }}), pins: [] }});
}}
"""
REFUSED = f"""
async ([pack, texts]) => {{
    {IMPORTS}
    return texts.map((text) => {{
        try {{ readDocument(text); return ""; }} catch (error) {{ return error.message; }}
    }});
}}
"""


def random_document(seed: int) -> str:
    dice = random.Random(seed)

    def track() -> dict:
        points = [[dice.uniform(-0.2, 1.2), dice.uniform(-0.2, 1.2)] for _ in range(dice.choice([1, 2, 3, 6]))]
        start, end = sorted(dice.uniform(0, 1) for _ in range(2))
        return {
            "points": points + points[-1:] * dice.choice([0, 0, 1]),  # some with a point set twice
            **{"curve": dice.choice(CURVES), "ease": dice.choice(list(EASES)), "start": start, "end": end},
            **{"hold": dice.choice([True, False]), "enabled": dice.random() < 0.8, "name": f"track {seed}"},
        }

    tracks = [track() for _ in range(8)] + [{"points": [[0.2, 0.3], [0.6, 0.3]], "start": 0.5, "end": 0.5}]
    pins = [
        {"points": [[0.1, 0.2], [0.3, 0.4]], "radius": 0.05},
        {"points": [[0.2, 0.2]], "radius": 0.01, "erase": True},
    ]
    return json.dumps({"version": 1, "tracks": tracks, "pins": pins})


@pytest.mark.parametrize("seed", range(4))
def test_positions_and_visibility(editor, seed):
    text = random_document(seed)
    document = read_document(text)
    server = document.tracks(SIZE, FRAMES)
    shown = editor.evaluate(PLAYED, [editor.server.pack_name, text, SIZE[1], SIZE[0], FRAMES])
    played = np.array([[[p["x"], p["y"]] for p in track] for track in shown["coordinates"]])
    np.testing.assert_allclose(played.transpose(1, 0, 2), server.positions.numpy(), atol=HUNDREDTH, rtol=0)
    np.testing.assert_array_equal(np.array(shown["visible"]), server.visible.numpy())


def test_document_survives_the_widget(editor):
    """Written again by the widget it is the same document, every default spelled out; points to a millionth."""
    text = random_document(9)
    shown = editor.evaluate(PLAYED, [editor.server.pack_name, text, SIZE[1], SIZE[0], FRAMES])
    ours, theirs = read_document(text), read_document(shown["again"])
    assert [(t.curve, t.ease, t.start, t.end, t.hold, t.enabled, t.name) for t in ours.drawn] == [
        (t.curve, t.ease, t.start, t.end, t.hold, t.enabled, t.name) for t in theirs.drawn
    ]
    assert [(pin.radius, pin.erase) for pin in ours.pins] == [(pin.radius, pin.erase) for pin in theirs.pins]
    for one, other in zip((*ours.drawn, *ours.pins), (*theirs.drawn, *theirs.pins), strict=True):
        np.testing.assert_allclose(one.points, other.points, atol=5.1e-7, rtol=0)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([{"x": 12 + 3 * k, "y": 30 + k * k} for k in range(12)]),
        json.dumps([[{"x": 5, "y": 6}] * 9, [{"x": 300 - 8 * k, "y": 100} for k in range(9)]]),
        str([{"x": 40, "y": 50}, {"x": 90, "y": 20}, {"x": 95, "y": 120}]),
    ],
    ids=["one track", "a resting one and a moving one", "single quotes"],
)
def test_pasted_coordinates_start_and_end_where_the_server_reads_them(editor, text):
    """Few control points instead of one for each frame: the ends are exact, the path is within half a pixel."""
    pasted = read_document(editor.evaluate(PASTED, [editor.server.pack_name, text, SIZE[1], SIZE[0]]))
    wanted = parse_tracks(text, SIZE)
    dense = pasted.tracks(SIZE, 1500).positions.numpy()
    for track, points in enumerate(wanted.positions.numpy().transpose(1, 0, 2)):
        np.testing.assert_allclose(dense[[0, -1], track], points[[0, -1]], atol=1e-3)
        off = np.linalg.norm(points[:, None] - dense[None, :, track], axis=-1).min(1)
        assert off.max() < 0.6


def test_both_refuse_the_same(editor):
    good = {"points": [[0.1, 0.2]]}
    broken = [
        "",
        "{",
        "[]",
        "null",
        json.dumps({"tracks": []}),
        json.dumps({"version": 2, "tracks": []}),
        json.dumps({"version": "1", "tracks": []}),
        json.dumps({"version": 1, "tracks": {}}),
        json.dumps({"version": 1, "colour": "red"}),
        *(
            json.dumps({"version": 1, "tracks": [track]})
            for track in (
                {},
                {"points": []},
                {"points": [[0.1]]},
                {"points": [[0.1, None]]},
                {"points": [["0.1", 0.2]]},
                {"points": [[100, 200]]},
                good | {"curve": "wavy"},
                good | {"ease": 3},
                good | {"start": 0.6, "end": 0.4},
                good | {"start": -0.1},
                good | {"hold": 1},
                good | {"enabled": "yes"},
                good | {"name": None},
                good | {"weight": 1},
                "track",
            )
        ),
        *(
            json.dumps({"version": 1, "pins": [pin]})
            for pin in (good, good | {"radius": 0}, good | {"radius": 0.1, "erase": 0}, {"points": [], "radius": 0.1})
        ),
    ]
    messages = editor.evaluate(REFUSED, [editor.server.pack_name, broken])
    for text, message in zip(broken, messages, strict=True):
        assert message, f"the widget accepts {text}"
        with pytest.raises(ValueError):
            read_document(text)
    fine = [json.dumps({"version": 1}), json.dumps({"version": 1, "tracks": [good], "pins": [good | {"radius": 0.1}]})]
    assert editor.evaluate(REFUSED, [editor.server.pack_name, fine]) == ["", ""]
    assert [read_document(text).drawn for text in fine][0] == ()
