"""Which blocks of a network an exemplar acts in, as people write it: "input 4-8, middle, output 3-5", or "0-9"."""

import re
from collections.abc import Mapping, Sequence

Blocks = Mapping[str, Sequence[int]]  # part of a network -> its blocks with self-attention, ascending
Block = tuple[str, int]
PIECE = re.compile(r"([a-z]*)\s*(?:(\d+)(?:\s*-\s*(\d+))?)?")


def chosen_blocks(text: str, there: Blocks) -> frozenset[Block]:
    """Those of ``there`` that ``text`` names, all for an empty one.

    Pieces lie between commas: a part, a part and a number, or a part and a range with both its ends; a transformer's
    one part has no name. Raises ValueError, with the blocks that there are, for what is not there.
    """
    if not text.strip():
        return frozenset((part, number) for part, numbers in there.items() for number in numbers)
    return frozenset(block for piece in text.split(",") for block in _named(piece.strip().lower(), there))


def _named(piece: str, there: Blocks) -> list[Block]:
    match = PIECE.fullmatch(piece)
    part, first, last = match.groups() if match and piece else (None, None, None)
    numbers = there.get(part, ())
    if first is not None:
        start, stop = int(first), int(last or first)
        numbers = [number for number in numbers if start <= number <= stop] if stop <= max(numbers, default=-1) else ()
    if not numbers:
        raise ValueError(
            f'blocks: "{piece}" names none of this MODEL\'s self-attentions, which are in {told(there)}: name some of '
            f"these, with commas between, or leave the text empty for all"
        )
    return [(part, number) for number in numbers]


def told(there: Blocks) -> str:
    """Blocks as they may be written: "input 1-2, input 4, middle 0"."""
    return ", ".join(f"{part} {run}".strip() for part, numbers in there.items() for run in _runs(numbers))


def _runs(numbers: Sequence[int]) -> list[str]:
    starts = [number for number in numbers if number - 1 not in numbers]
    stops = [number for number in numbers if number + 1 not in numbers]
    return [str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, stops, strict=True)]
