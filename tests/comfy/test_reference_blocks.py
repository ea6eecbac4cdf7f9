"""Blocks of a network as people name them."""

import pytest

U_NET = {"input": (1, 2, 4, 5, 7, 8), "middle": (0,), "output": tuple(range(3, 12))}  # SD1.5's
TOKENS = {"": range(30)}  # the smaller Wan's


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {(part, number) for part, numbers in U_NET.items() for number in numbers}),
        ("  ", {(part, number) for part, numbers in U_NET.items() for number in numbers}),
        ("middle", {("middle", 0)}),
        ("input 4-8, middle, output 3", {("input", n) for n in (4, 5, 7, 8)} | {("middle", 0), ("output", 3)}),
        ("Output3 - 5,output 5", {("output", n) for n in (3, 4, 5)}),
        ("input", {("input", n) for n in (1, 2, 4, 5, 7, 8)}),
    ],
)
def test_of_a_u_net(comfy, text, expected):
    from aqueduct.nodes._comfy.reference_blocks import chosen_blocks

    assert chosen_blocks(text, U_NET) == expected


def test_of_a_transformer(comfy):
    from aqueduct.nodes._comfy.reference_blocks import chosen_blocks

    assert chosen_blocks("0-9, 29", TOKENS) == {("", n) for n in (*range(10), 29)}
    assert len(chosen_blocks("", TOKENS)) == 30


@pytest.mark.parametrize(
    "text", ["input 3", "input 4-9", "middle 1", "0-3", "up 1", "input 5-4", "input,,middle", "4-"]
)
def test_what_is_not_there_is_named_beside_what_is(comfy, text):
    from aqueduct.nodes._comfy.reference_blocks import chosen_blocks

    with pytest.raises(ValueError, match=r"which are in input 1-2, input 4-5, input 7-8, middle 0, output 3-11"):
        chosen_blocks(text, U_NET)


def test_messages_can_be_taken_back_in(comfy):
    from aqueduct.nodes._comfy.reference_blocks import chosen_blocks, told

    for there in (U_NET, TOKENS):
        assert chosen_blocks(told(there), there) == chosen_blocks("", there)
