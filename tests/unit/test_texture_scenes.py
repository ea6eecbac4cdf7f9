"""The procedural world of exemplar-guided translation: its shapes, its families, and what an exemplar of it shows."""

import math

import numpy as np
import pytest
import torch

from aqueduct.core.controls import canny, mask_map
from aqueduct.core.training.texture_figures import KINDS, PATTERNS
from aqueduct.core.training.texture_scenes import (
    BACKGROUNDS,
    CLASSES,
    NOTHING,
    Families,
    Layouts,
    TextureScenes,
    labels,
    random_families,
    random_layouts,
    render,
)

GREY = torch.tensor([0.299, 0.587, 0.114])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_shape(kind: str, centre=(0.5, 0.5), radius=0.4, turn=0.0) -> Layouts:
    kinds = torch.full((1, 5), NOTHING)
    kinds[0, 0] = CLASSES.index(kind)
    centres, radii, turns = torch.zeros(1, 5, 2), torch.zeros(1, 5), torch.zeros(1, 5)
    centres[0, 0], radii[0, 0], turns[0, 0] = torch.tensor(centre), radius, turn
    return Layouts(kinds, centres, radii, turns, torch.tensor([[math.inf, 0.0]]))


def flat_family(pattern: str = "plain", period: float = 0.125) -> Families:
    """Every class black and white, unlit and unturned; all backgrounds black."""
    classes = len(CLASSES)
    colours = torch.tensor([0.0, 1.0])[None, None, :, None].expand(1, classes, 2, 3).clone()
    colours[0, len(BACKGROUNDS) :] = colours[0, len(BACKGROUNDS) :].flip(1)  # plain shapes are white
    patterns = torch.zeros(1, classes, dtype=torch.int64)
    patterns[0, 0] = list(PATTERNS).index(pattern)
    return Families(colours, patterns, torch.full((1, classes), period), torch.zeros(1, classes), torch.zeros(1, 2))


def corners(kind: str) -> list[list[tuple[float, float]]]:
    """Outline of a kind as polygons (the second a hole), in the unit circle, from what its name says."""

    def regular(count: int, radius: float, start: float = 0.0) -> list[tuple[float, float]]:
        angles = [start + 2 * math.pi * k / count for k in range(count)]
        return [(radius * math.cos(a), radius * math.sin(a)) for a in angles]

    a, w = 0.95, 0.3
    plus = [(a, w), (w, w), (w, a), (-w, a), (-w, w), (-a, w), (-a, -w), (-w, -w), (-w, -a), (w, -a), (w, -w), (a, -w)]
    star = [p for pair in zip(regular(5, 1), regular(5, 0.42, math.pi / 5), strict=True) for p in pair]
    return {
        "disc": [regular(720, 1)],
        "square": [regular(4, 1, math.pi / 4)],
        "triangle": [regular(3, 1, math.pi / 3)],
        "star": [star],
        "cross": [plus],
        "ring": [regular(720, 1), regular(720, 0.5)],
    }[kind]


def crossings(polygon, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Point in polygon by the parity of the edges that a ray to the right crosses."""
    inside = np.zeros(x.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        between = (y0 > y) != (y1 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= between & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


def area(kind: str) -> float:
    def shoelace(polygon) -> float:
        pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
        return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)) / 2

    outer, *holes = (shoelace(polygon) for polygon in corners(kind))
    return outer - sum(holes)


def polygon_labels(layouts: Layouts, size: int) -> np.ndarray:
    """Labels of the first layout, shape by shape from polygons."""
    centres = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(centres, centres)
    height, slope = layouts.horizon[0].tolist()
    result = np.where(y > height + slope * (x - 0.5), 1, 0)
    for slot, kind in enumerate(layouts.kinds[0].tolist()):
        if kind == NOTHING:
            continue
        (cx, cy), radius, turn = (
            layouts.centres[0, slot].tolist(),
            float(layouts.radii[0, slot]),
            layouts.turns[0, slot],
        )
        c, s = math.cos(turn), math.sin(turn)
        inside = np.zeros_like(result, dtype=bool)
        for polygon in corners(CLASSES[kind]):
            placed = [(cx + radius * (c * px - s * py), cy + radius * (s * px + c * py)) for px, py in polygon]
            inside ^= crossings(placed, x, y)
        result[inside] = kind
    return result


@pytest.mark.parametrize("kind", KINDS)
def test_a_shape_is_the_polygon_that_its_name_says(kind):
    layouts = one_shape(kind, (0.45, 0.53), 0.37, 0.6)
    different = labels(layouts, 128)[0].numpy() != polygon_labels(layouts, 128)
    assert different.mean() < 2e-4  # pixels whose centre lies on the outline to the last bit


def test_labels_of_whole_scenes_agree_with_point_in_polygon():
    layouts = random_layouts(24, seeded(0))
    for n in range(24):
        different = labels(layouts[n : n + 1], 64)[0].numpy() != polygon_labels(layouts[n : n + 1], 64)
        assert different.sum() <= 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [48, 96])
def test_coverage_sums_to_the_area(kind, size):
    photo = render(one_shape(kind, (0.507, 0.493), 0.4, 0.3), flat_family(), size)
    assert float(photo.mean()) == pytest.approx(area(kind) * 0.4**2, rel=0.015)


def test_edges_are_antialiased_and_a_scene_is_the_same_at_every_size():
    layouts, families = random_layouts(16, seeded(1)), random_families(16, seeded(2))
    coarse, fine = render(layouts, families, 64), render(layouts, families, 256)
    averaged = torch.nn.functional.avg_pool2d(fine, 4)
    assert float((coarse - averaged).abs().mean()) < 0.004
    sampled = fine[:, :, 2::4, 2::4]  # what a picture without antialiasing would be
    assert float((coarse - averaged).square().mean()) < 0.2 * float((sampled - averaged).square().mean())


def test_a_pixel_that_an_edge_halves_is_half_covered():
    side = math.sqrt(2) * 0.25
    photo = render(one_shape("square", (0.5 + 0.5 / 32, 0.5), side, 0.0), flat_family(), 32)[0, 0]
    row = photo[16]
    edges = row[(row > 0.01) & (row < 0.99)]
    assert edges.tolist() == pytest.approx([0.5, 0.5], abs=1e-5)
    assert float(row.sum()) == pytest.approx(16, abs=1e-4)


@pytest.mark.parametrize(("pattern", "share"), [("stripes", 0.5), ("checks", 0.5), ("dots", math.pi * 0.32**2)])
def test_patterns_cover_the_share_and_repeat_with_the_period(pattern, share):
    layouts = one_shape("disc", (0.5, 0.5), 1e-6)
    photo = render(layouts, flat_family(pattern, 0.125), 128)[0, 0]
    assert float(photo.mean()) == pytest.approx(share, rel=0.03)
    assert torch.allclose(photo[:, 16:], photo[:, :-16], atol=1e-4)
    assert not torch.allclose(photo[:, 8:], photo[:, :-8], atol=0.1)


def test_a_pattern_moves_with_its_shape():
    families = random_families(40, seeded(3))
    families = families[(families.patterns[:, 2] > 0).nonzero()[:1, 0]]
    families = Families(families.colours, families.patterns, families.periods, families.angles, torch.zeros(1, 2))
    here, there = (
        render(one_shape("disc", (x, 0.5), 0.2), families, 64)[0, :, 24:40, int(64 * x) - 8 : int(64 * x) + 8]
        for x in (0.25, 0.75)
    )
    assert torch.allclose(here, there, atol=1e-4)
    assert float(here.flatten(1).std(1).max()) > 0.005


def test_shapes_keep_clear_of_each_other_and_of_the_frame():
    layouts = random_layouts(500, seeded(4))
    present = layouts.kinds != NOTHING
    assert present.sum(1).unique().tolist() == [2, 3, 4, 5]
    distance = torch.cdist(layouts.centres, layouts.centres) - layouts.radii[:, :, None] - layouts.radii[:, None]
    pairs = present[:, :, None] & present[:, None] & ~torch.eye(5, dtype=torch.bool)
    assert float(distance[pairs].min()) > 0.029
    inner = torch.minimum(layouts.centres, 1 - layouts.centres).amin(-1) - layouts.radii
    assert float(inner[present].min()) > 0.029
    assert float((layouts.radii[present] > 0.09).float().mean()) > 0.98


def test_the_exemplar_shows_every_class_of_the_target():
    questions = TextureScenes(64).draw(300, seeded(5))
    targets, exemplars = labels(questions.layouts, 64), labels(questions.exemplars, 64)
    for target, exemplar in zip(targets, exemplars, strict=True):
        assert set(target.unique().tolist()) <= set(exemplar.unique().tolist())
    assert not (targets == exemplars).flatten(1).all(1).any()


def test_classes_and_backgrounds_all_occur():
    layouts = random_layouts(200, seeded(6))
    seen = labels(layouts, 48)
    assert seen.unique().tolist() == list(range(len(CLASSES)))
    with_ground = (seen == 1).flatten(1).any(1)
    assert torch.equal(with_ground, layouts.horizon[:, 0].isfinite()) and 60 < int(with_ground.sum()) < 140


def test_the_true_answer_of_any_layout_in_any_family():
    layouts, families = random_layouts(3, seeded(7)), random_families(2, seeded(8))
    rows, columns = torch.arange(3).repeat_interleave(2), torch.arange(2).repeat(3)
    grid = render(layouts[rows], families[columns], 32)
    assert torch.allclose(grid[3], render(layouts[1:2], families[1:2], 32)[0], atol=1e-5)
    assert not torch.allclose(grid[3], grid[2], atol=0.1)
    with pytest.raises(ValueError, match="got 3 layouts, 2 families"):
        render(layouts, families, 32)


def test_the_two_colours_of_a_class_are_near_and_its_outline_shows_in_grey():
    families = random_families(400, seeded(9))
    colours = families.colours
    assert 0 <= float(colours.min()) and float(colours.max()) <= 1
    grey = colours @ GREY
    assert float((grey[:, :, 0] - grey[:, :, 1]).abs().max()) <= 0.08 + 1e-6
    means = grey.mean(2)
    sky, ground, shapes = means[:, 0], means[:, 1], means[:, 2:]
    for one, other in [(sky, ground), (sky[:, None], shapes), (ground[:, None], shapes)]:
        assert float((one - other).abs().min()) > 0.17


def test_classes_of_a_family_differ_and_families_fill_colour_space():
    colours = random_families(400, seeded(10)).colours.mean(2)
    apart = torch.cdist(colours, colours) + 9 * torch.eye(len(CLASSES))
    assert float(apart.amin((1, 2)).median()) > 0.12 and float(apart.min()) > 0.02
    between = (colours[:200] - colours[200:]).norm(dim=-1)  # the same class in two families
    assert float(between.mean()) > 0.5 and float(between.mean(1).min()) > 0.2
    boxes = (colours.reshape(-1, 3) * 3.9999).long()
    filled = (boxes * torch.tensor([16, 4, 1])).sum(1).unique()
    assert len(filled) >= 48  # of 64 boxes of RGB


def test_light_only_darkens_and_is_the_familys():
    families = random_families(50, seeded(11))
    unlit = Families(families.colours, families.patterns, families.periods, families.angles, torch.zeros(50, 2))
    layouts = random_layouts(50, seeded(12))
    ratio = render(layouts, families, 16) / render(layouts, unlit, 16).clamp(min=1e-3)
    assert float(ratio.max()) <= 1 + 1e-5 and float(ratio.min()) > 0.6
    assert float(families.light.norm(dim=1).max()) <= 0.25


def test_triples_are_what_was_asked_and_the_same_for_the_same_seed():
    scenes = TextureScenes(32)
    edges = scenes.sample(6, seeded(13), lambda photo, _: canny(photo))
    masks = scenes.sample(6, seeded(13), lambda _, classes: mask_map(classes))
    again = scenes.sample(6, seeded(13), lambda photo, _: canny(photo))
    for name in ("control", "photo", "exemplar"):
        assert getattr(edges, name).shape == (6, 3, 32, 32)
        assert float(getattr(edges, name).abs().max()) <= 1
        assert torch.equal(getattr(edges, name), getattr(again, name))
    assert torch.equal(edges.photo, masks.photo) and not torch.equal(edges.control, masks.control)
    questions = scenes.draw(6, seeded(13))
    assert torch.equal(edges.photo, 2 * render(questions.layouts, questions.families, 32) - 1)
    assert torch.equal(masks.control, 2 * mask_map(labels(questions.layouts, 32)) - 1)
    assert not torch.equal(edges.photo, scenes.sample(6, seeded(14), lambda photo, _: canny(photo)).photo)


def test_canny_of_a_scene_is_its_outlines():
    """Recall of the classes' boundaries, and how much of what is found is one, both to within a pixel and a half."""
    questions = TextureScenes(64).draw(100, seeded(15))
    found = canny(render(questions.layouts, questions.families, 64))[:, 0] > 0
    classes = labels(questions.layouts, 64).float()[:, None]
    pad = torch.nn.functional.pad(classes, (1, 1, 1, 1), mode="replicate")
    pool = torch.nn.functional.max_pool2d
    boundary = (pool(pad, 3, 1) != -pool(-pad, 3, 1))[:, 0]

    def near(edges):
        return pool(edges.float()[:, None], 3, 1, 1)[:, 0] > 0

    assert float(near(found)[boundary].float().mean()) > 0.95
    assert float(near(boundary)[found].float().mean()) > 0.97
