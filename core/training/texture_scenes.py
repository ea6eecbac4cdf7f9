"""A world for exemplar-guided translation in which every answer is known: outlines say what, a texture family how.

A scene is a *layout* (which shapes stand where, before one or two backgrounds) dressed in a *family* (how each class of
thing looks). The control tells the layout, an exemplar of another layout tells the family, and the photograph follows
from both. Everything is a formula of continuous coordinates: x right, y down, the picture is the unit square, pixel
``i`` of ``s`` has its centre at ``(i + 0.5) / s``; so a scene looks the same at every size.

Layouts and families come in batches; a single one is a batch of one. Every draw comes from the generator passed in, so
a held-out set is a seed that no training used.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .exemplar_pairs import Triples
from .texture_figures import KINDS, PATTERNS, covered

NOTHING = -1
EXAMPLE_SEED = 800001
MOST_SHAPES = 5
GAP = 0.03  # kept between shapes, and between a shape and the frame
BACKGROUNDS = ("sky", "ground")
CLASSES = (*BACKGROUNDS, *KINDS)  # a label is an index into this


class _Batch:
    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def __getitem__(self, index):
        """Those of a slice, a list or a tensor of indices, as a batch again (repeats allowed)."""
        return type(self)(*(getattr(self, field.name)[index] for field in fields(self)))


@dataclass(frozen=True, eq=False)
class Layouts(_Batch):
    """``n`` arrangements. Shapes keep clear of each other and of the frame, so every one of them is seen whole."""

    kinds: Tensor  # int64 [n, 5]: class of each shape, NOTHING where there is none
    centres: Tensor  # [n, 5, 2] (x, y)
    radii: Tensor  # [n, 5]: of the circle around the shape
    turns: Tensor  # [n, 5] radians
    horizon: Tensor  # [n, 2]: height y at x = 0.5, and slope; the ground lies below; height inf: no ground


@dataclass(frozen=True, eq=False)
class Families(_Batch):
    """``n`` ways to look, for every class of ``CLASSES`` in turn."""

    colours: Tensor  # [n, classes, 2, 3] in 0..1
    patterns: Tensor  # int64 [n, classes], into PATTERNS
    periods: Tensor  # [n, classes], in picture widths
    angles: Tensor  # [n, classes] radians
    light: Tensor  # [n, 2]: (x, y) the direction that grows brighter, its length the share lost at the dark end


def _uniform(low: float, high: float, *size: int, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(*size, generator=generator)


def random_layouts(count: int, generator: torch.Generator, showing: Layouts | None = None) -> Layouts:
    """2 to 5 shapes each, half of them before a split background; with ``showing``, at least its classes each."""
    kinds = torch.randint(len(BACKGROUNDS), len(CLASSES), (count, MOST_SHAPES), generator=generator)
    shapes = torch.randint(2, MOST_SHAPES + 1, (count,), generator=generator)
    split = torch.rand(count, generator=generator) < 0.5
    if showing is not None:
        kinds = torch.where(showing.kinds == NOTHING, kinds, showing.kinds)
        shapes = shapes.maximum((showing.kinds != NOTHING).sum(1))
        split = split | showing.horizon[:, 0].isfinite()
    present = torch.arange(MOST_SHAPES) < shapes[:, None]
    largest = 0.26 - 0.02 * shapes[:, None]
    radii = largest * _uniform(0.55, 1, count, MOST_SHAPES, generator=generator) * present
    centres, radii = _placed(radii, generator)
    height = _uniform(0.3, 0.7, count, generator=generator).where(split, torch.tensor(math.inf))
    slope = _uniform(-0.4, 0.4, count, generator=generator)
    turns = _uniform(0, 2 * math.pi, count, MOST_SHAPES, generator=generator)
    return Layouts(kinds.where(present, NOTHING), centres, radii, turns, torch.stack([height, slope], 1))


def _placed(radii: Tensor, generator: torch.Generator, candidates: int = 48) -> tuple[Tensor, Tensor]:
    """One after another to the clearest of some random places, then shrunk until no two touch: centres, radii."""
    count, shapes = radii.shape
    centres = torch.zeros(count, shapes, 2)
    for shape in range(shapes):
        margin = (radii[:, shape] + GAP)[:, None, None]
        places = margin + (1 - 2 * margin) * torch.rand(count, candidates, 2, generator=generator)
        before = torch.cdist(places, centres[:, :shape]) - radii[:, None, :shape]
        clear = before.amin(-1) if shape else torch.zeros(count, candidates)
        centres[:, shape] = places[torch.arange(count), clear.argmax(1)]
    room = (torch.cdist(centres, centres) - GAP) / (radii[:, :, None] + radii[:, None, :])
    other = (radii[:, None, :] > 0) & ~torch.eye(shapes, dtype=torch.bool)
    return centres, radii * room.where(other, torch.tensor(1.0)).amin(-1).clamp(max=1)


def random_families(count: int, generator: torch.Generator) -> Families:
    """Colours from all over RGB: the classes of a family share out the hues among them.

    Sky, ground and shapes are dark, middling and light in a random order, so that every outline shows in grey; the two
    colours of one class differ by at most 0.08 in grey, so that its pattern hardly does.
    """
    classes = len(CLASSES)
    order = torch.rand(count, classes, generator=generator).argsort(1)
    start, jitter = torch.rand(count, 1, generator=generator), torch.rand(count, classes, generator=generator)
    hue = start + (order + 0.5 * jitter) / classes
    bands = torch.tensor([0.16, 0.44, 0.72])[torch.rand(count, 3, generator=generator).argsort(1)]
    grey = bands[:, torch.arange(classes).clamp(max=2)] + _uniform(0, 0.1, count, classes, generator=generator)
    apart = torch.stack([torch.zeros(count, classes), _uniform(-1, 1, count, classes, generator=generator)], -1)
    colours = _colour(
        hue[..., None] + 0.07 * apart,
        grey[..., None] + 0.08 * (apart - apart.mean(-1, keepdim=True)),
        _uniform(0.5, 0.95, count, classes, 2, generator=generator),
    )
    toward = _uniform(0, 2 * math.pi, count, generator=generator)
    light = torch.stack([toward.cos(), toward.sin()], -1) * _uniform(0, 0.25, count, 1, generator=generator)
    return Families(
        colours,
        torch.randint(len(PATTERNS), (count, classes), generator=generator),
        _uniform(0.09, 0.2, count, classes, generator=generator),
        _uniform(0, 2 * math.pi, count, classes, generator=generator),
        light,
    )


def _colour(hue: Tensor, grey: Tensor, vividness: Tensor) -> Tensor:
    """RGB ``[..., 3]`` of that hue (in turns) and that grey (Rec. 601), ``vividness`` of the way out of the gamut."""
    pure = ((hue[..., None] * 6 + torch.tensor([0.0, 4.0, 2.0])) % 6 - 3).abs().sub(1).clamp(0, 1)
    away = pure - (pure * torch.tensor([0.299, 0.587, 0.114])).sum(-1, keepdim=True)
    grey = grey[..., None]
    reach = torch.where(away > 0, (1 - grey) / away, -grey / away).amin(-1, keepdim=True)
    return grey + vividness[..., None] * reach * away


def _grid(size: int) -> tuple[Tensor, Tensor]:
    steps = (torch.arange(size) + 0.5) / size
    return steps.expand(size, size), steps[:, None].expand(size, size)


def _texture(families: Families, cls: Tensor, x: Tensor, y: Tensor, pixel: float) -> Tensor:
    """Class ``cls[i]`` of family ``i`` at ``[n, s, s]`` points about the pattern's origin: ``[n, 3, s, s]``."""
    rows = torch.arange(len(cls))
    angle, period = families.angles[rows, cls, None, None], families.periods[rows, cls, None, None]
    u, v = angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x
    share, which = torch.zeros_like(u), families.patterns[rows, cls]
    for index, pattern in enumerate(PATTERNS.values()):
        of = (which == index).nonzero()[:, 0]
        share[of] = pattern(u[of], v[of], period[of], pixel)
    one, other = families.colours[rows, cls, :, :, None, None].unbind(1)
    return torch.lerp(one, other, share[:, None])


def _in_shapes(layouts: Layouts, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Every shape there is: its scene, its slot, x and y about its centre and the distance inside, ``[m, s, s]``."""
    scene, slot = (layouts.kinds != NOTHING).nonzero().unbind(1)
    x, y = (g - c[:, None, None] for g, c in zip(_grid(size), layouts.centres[scene, slot].unbind(-1), strict=True))
    radius, turn = (each[scene, slot, None, None] for each in (layouts.radii, layouts.turns))
    u, v = (turn.cos() * x + turn.sin() * y) / radius, (turn.cos() * y - turn.sin() * x) / radius
    inside, kinds = torch.empty_like(u), layouts.kinds[scene, slot]
    for kind, outline in enumerate(KINDS.values(), len(BACKGROUNDS)):
        of = (kinds == kind).nonzero()[:, 0]
        inside[of] = outline(u[of], v[of])
    return scene, slot, x, y, inside * radius


def _below(layouts: Layouts, size: int) -> Tensor:
    """Distance below the horizon, ``[n, s, s]``; minus infinity where there is no ground."""
    (x, y), (height, slope) = _grid(size), layouts.horizon[:, :, None, None].unbind(1)
    return (y - height - slope * (x - 0.5)) / torch.hypot(slope, torch.ones(()))


def render(layouts: Layouts, families: Families, size: int) -> Tensor:
    """The true photographs ``[n, 3, size, size]`` in 0..1 of layout ``i`` in family ``i``.

    A pattern starts at the centre of its shape, that of a background at the centre of the picture: so what an exemplar
    shows of a class is what another layout shows at the same place of it.
    """
    if len(layouts) != len(families):
        raise ValueError(
            f"render dresses a layout in a family each, got {len(layouts)} layouts, {len(families)} families"
        )
    count, pixel, (x, y) = len(layouts), 1 / size, _grid(size)
    middle = [(g - 0.5).expand(count, size, size) for g in (x, y)]
    sky, ground = (_texture(families, torch.full((count,), cls), *middle, pixel) for cls in range(len(BACKGROUNDS)))
    photos = torch.lerp(sky, ground, covered(_below(layouts, size), pixel)[:, None])
    scene, slot, x, y, inside = _in_shapes(layouts, size)
    texture = _texture(families[scene], layouts.kinds[scene, slot], x, y, pixel)
    share = covered(inside, pixel)[:, None]
    for layer in range(layouts.kinds.shape[1]):
        of = (slot == layer).nonzero()[:, 0]
        photos[scene[of]] = torch.lerp(photos[scene[of]], texture[of], share[of])
    brightness = families.light[:, 0, None, None] * middle[0] + families.light[:, 1, None, None] * middle[1]
    return photos * (1 + brightness - families.light.abs().sum(1)[:, None, None] / 2)[:, None]


def labels(layouts: Layouts, size: int) -> Tensor:
    """int64 ``[n, size, size]``: the class (index into ``CLASSES``) at the centre of each pixel."""
    result = (_below(layouts, size) > 0).long()
    scene, slot, _, _, inside = _in_shapes(layouts, size)
    at = (inside > 0).nonzero()
    which = at[:, 0]
    result[scene[which], at[:, 1], at[:, 2]] = layouts.kinds[scene[which], slot[which]]
    return result


# (photographs [n, 3, s, s] in 0..1, labels [n, s, s]) -> control images [n, 1 or 3, s, s] in 0..1 (controls.py)
Control = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Questions(_Batch):
    """What is asked: ``families`` on ``layouts``, given ``exemplars`` (layouts) of the same families."""

    layouts: Layouts
    exemplars: Layouts
    families: Families


@dataclass(frozen=True)
class TextureScenes:
    """Triples of this world at ``size`` pixels; the exemplar shows at least the classes that the target does."""

    size: int

    def draw(self, count: int, generator: torch.Generator) -> Questions:
        layouts = random_layouts(count, generator)
        return Questions(layouts, random_layouts(count, generator, layouts), random_families(count, generator))

    def show(self, questions: Questions, control: Control) -> Triples:
        photos = render(questions.layouts, questions.families, self.size)
        controls = control(photos, labels(questions.layouts, self.size)).expand_as(photos)
        exemplars = render(questions.exemplars, questions.families, self.size)
        return Triples(*(2 * images - 1 for images in (controls, photos, exemplars)))

    def sample(self, count: int, generator: torch.Generator, control: Control) -> Triples:
        """``count`` fresh triples; a generator of a seed of its own makes a held-out set of them."""
        return self.show(self.draw(count, generator), control)


def example_scenes(count: int) -> Questions:
    """The same few every time, rich in kinds of shape; from a seed that no training drew from."""
    drawn = TextureScenes(64).draw(100, torch.Generator().manual_seed(EXAMPLE_SEED))
    rich = [n for n, kinds in enumerate(drawn.layouts.kinds.tolist()) if len(set(kinds) - {NOTHING}) >= 4]
    return drawn[rich[:count]]
