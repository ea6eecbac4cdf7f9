"""The workflows that need no model at all: drawn motion, measured motion."""

import json

from ._graph import Graph

DRAW_NOTE = """## Animate a picture with nothing but motion

Queue it as it is, or choose your own photo in *Load Image* and draw: in the *Track Editor*, click or sketch how things
move; a single click with the anchor tool pins a place, the brush pins an area. **?** lists the gestures.

* *Motion from Tracks* spreads the tracks over the picture. `gaussian`: soft, try `radius`. `nearest`: pieces.
  `rigid`: the camera moves too. `edge-aware`: stops at the edges of objects.
* *Advect First Frame* makes the video. White in *Never seen* is what the photo does not show: inpaint it, or leave it
  to a video model.
"""
VIDEO_NOTE = """## How a video moves

Choose a clip in *Load Video*. *Optical Flow* measures how every pixel moves to the next frame and back.

* *Flow* has the direction as colour; the wheel in the corner says what is what, and its scale.
* *Hidden next*: white where following the motion there and back does not return: covered in the next frame, or gone.
* *Energy*: by how far it misses.
* *Next frame, warped*: frame i+1 moved back onto frame i: the better the motion, the more it looks like frame i.

*Save Motion* keeps it; mute it and unmute *Load Motion* to go on from the file. The estimator needs no weights; with
RAFT's in `models/optical_flow` a network does it.
"""
CAMERA_NOTE = """## A camera over a drawing

*Camera Motion* moves the whole picture, exactly; the track moves one part of it, in the picture's own coordinates.
*Compose Motion* lets the camera look at the moving picture; it also chains, loops, slows down and masks motions.
*Resize Motion* carries a motion over to another size: here to the photo's, as it would to a latent's.
"""

# ComfyUI's example image: ears and hands move, the rest of the figure and the meadow are held.
WAVE = [
    {"name": "left ear", "points": [[0.20, 0.10], [0.12, 0.19], [0.10, 0.30]], "ease": "in-out"},
    {"name": "right ear", "points": [[0.81, 0.10], [0.89, 0.19], [0.92, 0.30]], "ease": "in-out"},
    {"name": "left hand", "points": [[0.28, 0.482], [0.28, 0.40], [0.33, 0.33]], "ease": "in-out", "end": 0.9},
    {"name": "right hand", "points": [[0.75, 0.465], [0.78, 0.52], [0.75, 0.60]], "ease": "in-out", "start": 0.1},
    {"name": "face", "points": [[0.50, 0.31]]},
    {"name": "waist", "points": [[0.49, 0.62]]},
    {"name": "left shoulder", "points": [[0.43, 0.45]]},
    {"name": "right shoulder", "points": [[0.56, 0.45]]},
]
MEADOW = [{"points": [[0.05, 0.80], [0.95, 0.80]], "radius": 0.12, "erase": False}]

NOD = [
    {"name": "left ear", "points": [[0.20, 0.10], [0.13, 0.22]], "ease": "in-out"},
    {"name": "right ear", "points": [[0.81, 0.10], [0.88, 0.22]], "ease": "in-out"},
    {"name": "face", "points": [[0.50, 0.31]]},
]


def document(tracks: list[dict], pins: list[dict]) -> str:
    return json.dumps({"version": 1, "tracks": tracks, "pins": pins}, separators=(",", ":"))


def video(g: Graph, images, title: str, at: tuple[int, int], name: str, fps=12.0) -> None:
    """A saved video. WebM, because H.264 refuses pictures with an odd side, which photos often have."""
    g.add("SaveWEBM", at, title=title, images=images, filename_prefix=f"aqueduct/{name}", fps=fps, crf=24.0)


def mask_video(g: Graph, mask, title: str, at: tuple[int, int], name: str, fps=12.0) -> None:
    x, y = at
    images = g.add("MaskToImage", (x, y), mask=mask)
    video(g, images[0], title, (x, y + 110), name, fps)


def draw_motion(info: dict) -> Graph:
    g = Graph(info)
    g.note(DRAW_NOTE, (40, -240), (620, 260))
    photo = g.add("LoadImage", (40, 90), image="example.png")
    drawn = g.add(
        "AqueductTrackEditor", (400, 90), box=(520, 720), image=photo[0], frames=25, document=document(WAVE, MEADOW)
    )
    motion = g.add(
        "AqueductMotionFromTracks", (960, 90), image=photo[0], tracks=drawn["tracks"], pinned=drawn["pinned"],
        densifier="gaussian", radius=75.0,
    )  # fmt: skip
    moved = g.add("AqueductAdvect", (1320, 90), image=photo[0], motion=motion[0])
    video(g, moved["images"], "Video", (1680, 90), "draw_motion")
    mask_video(g, moved["never_seen"], "Never seen", (1680, 420), "draw_motion_never_seen")
    g.add("AqueductMotionPreview", (1320, 300), title="Arrows", motion=motion[0], images=photo[0], style="arrows")
    return g


def video_motion(info: dict) -> Graph:
    g = Graph(info)
    g.note(VIDEO_NOTE, (40, -300), (620, 320))
    clip = g.add("LoadVideo", (40, 90), file="bikes.mp4")
    parts = g.add("GetVideoComponents", (40, 480), video=clip[0])
    frames = g.add("ImageFromBatch", (40, 620), title="First frames", image=parts["images"], batch_index=0, length=24)
    motion = g.add("AqueductOpticalFlow", (400, 90), images=frames[0])
    g.add("AqueductSaveMotion", (400, 320), motion=motion[0], filename_prefix="motion/video_motion")
    g.add("AqueductLoadMotion", (400, 480), muted=True, file="motion/video_motion_00001_.safetensors [output]")
    shown = g.add("AqueductMotionPreview", (760, 90), title="Colours", motion=motion[0], style="colours")
    video(g, shown[0], "Flow", (1120, 90), "video_flow")
    cycle = g.add("AqueductCycleMask", (760, 460), motion=motion[0])
    mask_video(g, cycle["occluded"], "Hidden next", (1120, 420), "video_hidden")
    video(g, cycle["energy"], "Energy", (1480, 420), "video_energy")
    warped = g.add("AqueductWarp", (760, 700), motion=motion[0], images=frames[0])
    video(g, warped["images"], "Next frame, warped", (1120, 760), "video_warped")
    return g


def camera_motion(info: dict) -> Graph:
    g = Graph(info)
    g.note(CAMERA_NOTE, (40, -200), (620, 220))
    photo = g.add("LoadImage", (40, 90), image="example.png")
    small = g.add(
        "ImageScale", (40, 550), title="Half size", image=photo[0], upscale_method="area", width=384, height=384
    )
    drawn = g.add(
        "AqueductTrackEditor", (400, 90), box=(520, 720), image=small[0], frames=13, document=document(NOD, [])
    )
    ears = g.add(
        "AqueductMotionFromTracks", (960, 90), title="Ears", image=small[0], tracks=drawn["tracks"], radius=45.0
    )
    loop = g.add(
        "AqueductComposeMotion", (960, 570), title="There and back", motion=ears[0], operation="there and back"
    )
    camera = g.add(
        "AqueductCameraMotion", (960, 780), image=small[0], frames=25, zoom=1.3, roll=6.0, shake=2.0, seed=7
    )
    seen = g.add(
        "AqueductComposeMotion", (1320, 90), title="Camera over ears", motion=loop[0], other=camera[0],
        operation="camera over motion",
    )  # fmt: skip
    full = g.add("AqueductResizeMotion", (1320, 300), title="To the photo's size", motion=seen[0], images=photo[0])
    moved = g.add("AqueductAdvect", (1320, 510), image=photo[0], motion=full[0])
    video(g, moved["images"], "Video", (1680, 90), "camera_motion")
    g.add("AqueductMotionPreview", (1680, 420), title="Grid", motion=seen[0], images=small[0], style="grid")
    return g
