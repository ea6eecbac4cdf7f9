"""Lay the frames of an animated image side by side: a still says more in a report than a file that must be played.

A program of its own, run with the environment's interpreter, because it needs Pillow and the demo does not:
`python _sheet.py animation.webp sheet.png`.
"""

import sys

COLUMNS = 8
GAP = 4


def main(animation: str, sheet: str) -> None:
    from PIL import Image, ImageSequence

    with Image.open(animation) as image:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
    width, height = frames[0].size
    columns = min(COLUMNS, len(frames))
    rows = -(-len(frames) // columns)
    canvas = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP), "white")
    for index, frame in enumerate(frames):
        row, column = divmod(index, columns)
        canvas.paste(frame, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    canvas.save(sheet)


if __name__ == "__main__":
    main(*sys.argv[1:])
