"""Lay frames of an animation or video side by side: a still says more in a report than a file that must be played.

A program of its own, run with the environment's interpreter, because it needs Pillow (for videos PyAV) and the demo
does not: `python _sheet.py animation.webp sheet.png`. Of more than 16 frames, 16 are shown, evenly spaced.
"""

import sys

COLUMNS = 8
MOST = 16
WIDEST = 240  # pixels of a frame on the sheet
VIDEO = (".mp4", ".webm", ".mkv", ".mov")
GAP = 4


def main(animation: str, sheet: str) -> None:
    from PIL import Image

    frames = read_video(animation) if animation.endswith(VIDEO) else read_animation(animation)
    if len(frames) > MOST:
        frames = [frames[round(i * (len(frames) - 1) / (MOST - 1))] for i in range(MOST)]
    for frame in frames:
        frame.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
    width, height = frames[0].size
    columns = min(COLUMNS, len(frames))
    rows = -(-len(frames) // columns)
    canvas = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP), "white")
    for index, frame in enumerate(frames):
        row, column = divmod(index, columns)
        canvas.paste(frame, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    canvas.save(sheet)


def read_animation(path: str) -> list:
    from PIL import Image, ImageSequence

    with Image.open(path) as image:
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]


def read_video(path: str) -> list:
    import av

    with av.open(path) as video:
        return [frame.to_image() for frame in video.decode(video=0)]


if __name__ == "__main__":
    main(*sys.argv[1:])
