"""Buckets: sizes of one area in multiples of a cell, and for every clip the one that keeps most of it."""

import itertools
import random

import pytest
import torch

from aqueduct.core.data.buckets import (
    RATIOS,
    SizeSettings,
    best_length,
    best_size,
    bucket_sizes,
    fitted,
    kept,
    parse_ratio,
    windows,
)


@pytest.mark.parametrize(("area", "multiple"), [(256 * 256, 8), (832 * 480, 16), (512 * 512, 64), (64 * 64, 1)])
def test_sizes_are_multiples_of_about_one_area(area, multiple):
    sizes = bucket_sizes(area, RATIOS, multiple)
    assert len(set(sizes)) == len(sizes) and len(sizes) > 4
    for height, width in sizes:
        assert height % multiple == width % multiple == 0
        # each side is rounded to the nearest multiple, so off by half of one at most
        ratio = min((abs(width / height / float(parse_ratio(text)) - 1), float(parse_ratio(text))) for text in RATIOS)[
            1
        ]
        assert (
            abs(width - (area * ratio) ** 0.5) <= multiple / 2 and abs(height - (area / ratio) ** 0.5) <= multiple / 2
        )


def test_ratios_that_round_to_one_size_are_one():
    assert bucket_sizes(32 * 32, ["1:1", "33:32", "31:32"], 16) == [(32, 32)]
    assert bucket_sizes(16, ["1:9"], 16) == [(16, 16)]


def kept_by_cutting(clip, size):
    """The largest part of ``clip`` in the shape of ``size``, by its definition: whole in one direction, cut in the
    other."""
    height, width = clip
    wide = min(width, height * size[1] / size[0])
    return wide * (wide * size[0] / size[1]) / (height * width)


def test_every_clip_goes_to_the_size_that_keeps_most():
    sizes, draw = bucket_sizes(256 * 256, RATIOS, 16), random.Random(0)
    for _ in range(200):
        clip = draw.randrange(40, 2000), draw.randrange(40, 2000)
        best = best_size(clip, sizes)
        for size in sizes:
            assert kept(clip, size) == pytest.approx(kept_by_cutting(clip, size), rel=1e-9)
            assert kept(clip, best) >= kept(clip, size) - 1e-8
    assert all(best_size(size, sizes) == size and kept(size, size) == pytest.approx(1) for size in sizes)


def test_of_sizes_that_keep_as_much_the_largest():
    assert best_size((480, 640), [(24, 32), (48, 64), (36, 48)]) == (48, 64)


def test_the_longest_length_that_is_filled():
    assert [best_length(count, (17, 5, 33)) for count in (4, 5, 16, 17, 32, 33, 400)] == [None, 5, 5, 17, 17, 33, 33]


@pytest.mark.parametrize(
    ("count", "length", "hop", "most"), [*itertools.product((16, 17, 100), (1, 16), (0, 5), (0, 1, 3))]
)
def test_windows_lie_inside_in_order(count, length, hop, most):
    starts = windows(count, length, hop, most)
    assert starts == sorted(set(starts)) and starts[0] >= 0 and starts[-1] + length <= count
    every = windows(count, length, hop)
    assert every == [start for start in range(count) if start % (hop or length) == 0 and start + length <= count]
    if most:
        assert len(starts) == min(most, len(every)) and set(starts) <= set(every)
        mirrored = sorted(every[-1] - start for start in starts)
        assert all(abs(a - b) <= (hop or length) for a, b in zip(starts, mirrored, strict=True))


def test_a_frame_of_the_size_is_left_as_it_is():
    frame = torch.randint(256, (3, 20, 30), dtype=torch.uint8)
    assert torch.equal(fitted(frame, (20, 30), (20, 30)), frame)
    assert torch.equal(fitted(frame, (20, 30), (20, 10)), frame[:, :, 10:20])


@pytest.mark.parametrize(
    ("clip", "size"), [((40, 60), (20, 20)), ((33, 57), (16, 48)), ((64, 64), (16, 8)), ((9, 9), (16, 16))]
)
def test_the_middle_is_kept_in_its_shape(clip, size):
    height, width = clip
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    frame = torch.stack([x * 255 / width, y * 255 / height, torch.zeros_like(x)]).round().to(torch.uint8)
    cut = fitted(frame, clip, size).float()
    assert cut.shape == (3, *size)
    scale = max(size[0] / height, size[1] / width)
    # A linear ramp stays one under any symmetric filter: away from borders, its values say where a pixel came from.
    for channel, side, own in ((0, size[1], width), (1, size[0], height)):
        ramp = cut[0].mean(0) if channel == 0 else cut[1].mean(1)
        at = (torch.arange(side) + 0.5 - side / 2) / scale + own / 2
        inner = (at > 4 / scale) & (at < own - 4 / scale) if scale < 1 else (at > 3) & (at < own - 3)
        pixel = 255 / own
        torch.testing.assert_close(ramp[inner], at[inner] * pixel, atol=0.7 * pixel / min(scale, 1) + 1, rtol=0)


def test_pixels_that_are_not_square_are_made_so():
    frame = torch.randint(256, (3, 20, 20), dtype=torch.uint8)
    assert fitted(frame, (20, 40), (10, 20)).shape == (3, 10, 20)


def test_shrinking_does_not_alias():
    stripes = (torch.arange(64) % 2 * 255).to(torch.uint8).expand(3, 64, 64)
    small = fitted(stripes, (64, 64), (20, 20)).float()[:, :, 3:-3]
    assert (small - 127.5).abs().max() < 10


@pytest.mark.parametrize(("wrong", "told"), [
    ({"width": 0}, "at least 1 x 1"), ({"enlarge": 0.5}, "1 or more; got 0.5"), ({"ratios": ("16/9",)}, "16:9"),
    ({"ratios": ("0:1",)}, "0:1"), ({"enlarge": float("nan")}, "got nan"),
])  # fmt: skip
def test_settings_that_make_no_sense(wrong, told):
    with pytest.raises(ValueError, match=told):
        SizeSettings(**wrong)


def test_a_size_between_cells_is_refused_with_the_next():
    with pytest.raises(ValueError, match="width is 250 pixels, and this VAE needs a multiple of 16: take 256"):
        SizeSettings(250, 256).sizes(16)
    assert SizeSettings(64, 32, ("1:1",)).sizes(8)[0] == (32, 64)
