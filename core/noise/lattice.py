"""The band-limited field on an oversampled lattice, read between its points with a short window.

A field whose frequencies end at B is determined by its values at steps of pi / B. With steps half as long, and
amplitudes divided by a window's Fourier transform beforehand, the window-weighted sum over a few neighbouring points
gives the field anywhere. The cost of a point no longer depends on the number of waves.
"""

import math

import torch
from torch import Tensor

from .direct import direct
from .gather import Reader
from .gridding import lattice_values
from .waves import Waves
from .window import OVERSAMPLING, Window

WIDTH = 6  # of the window, in lattice steps: a relative error of 8e-6
MARGIN = 1 / 8  # of the unit square's side: how far the tile of the frame reaches beyond it
LARGEST_TILE = 1300  # lattice steps a side, which bounds the memory that making a tile takes
AROUND = 4  # frames in each direction that tiles may cover; the plane beyond is summed directly
POINTS_AT_ONCE = 1 << 14  # on the CPU, where temporaries should stay in the cache
TABLE_BYTES = 64 << 20  # packed tables may take this much, others are a W-th of the size
CACHE_BYTES = 512 << 20  # tiles kept


class Lattice:
    """The waves on lattice tiles, each made when a point first falls on it, and at most ``CACHE_BYTES`` of them kept.

    The tiles are fixed parts of the plane, so that a point's value does not depend on which other points are asked for.
    """

    def __init__(self, waves: Waves, width: int = WIDTH):
        self.waves, self.window = waves, Window(width)
        self.reader = Reader(self.window, waves.channels)
        self.per_unit = tuple(OVERSAMPLING * bound / math.pi for bound in waves.box)  # lattice steps, (x, y)
        self.first = tuple(-math.floor(MARGIN * count) - width for count in self.per_unit)
        self.tile = tuple(
            min(math.ceil((1 + MARGIN) * count) - first, LARGEST_TILE)
            for count, first in zip(self.per_unit, self.first, strict=True)
        )
        self.reach = tuple(
            AROUND * math.ceil(count / size) for count, size in zip(self.per_unit, self.tile, strict=True)
        )
        self._tables: dict[tuple[int, int, str], Tensor] = {}

    @torch.no_grad()
    def evaluate(self, points: Tensor) -> Tensor:
        """``[N, 2] -> float32 [N, channels]``."""
        if not len(points):
            return points.new_empty(0, self.waves.channels, dtype=torch.float32)
        size = POINTS_AT_ONCE if points.device.type == "cpu" else len(points)
        return torch.cat([self._evaluate(part) for part in points.split(size)])

    def _evaluate(self, points: Tensor) -> Tensor:
        place = points.T.double().contiguous() * self._column(self.per_unit, points)
        first = torch.ceil(place - self.window.width / 2)  # of the points the window reaches
        shares = (first + self.window.width / 2 - place).float()
        size = self._column(self.tile, points)
        local = first - self._column(self.first, points)
        tiles = torch.floor(local / size)
        local = (local - tiles * size).int()
        reach = self._column(self.reach, points)
        low, high = torch.aminmax(tiles, dim=1, keepdim=True)
        if bool(((low == high) & (low.abs() <= reach)).all()):
            return self._read(tuple(low[:, 0].int().tolist()), local, shares)
        result = points.new_empty(len(points), self.waves.channels, dtype=torch.float32)
        far = (tiles.abs() > reach).any(0).nonzero()[:, 0]
        if len(far):
            result[far] = direct(self.waves, points[far]).float()
        for tile in self._between(low.clamp(-reach, reach), high.clamp(-reach, reach)):
            here = ((tiles[0] == tile[0]) & (tiles[1] == tile[1])).nonzero()[:, 0]
            if len(here):
                result[here] = self._read(tile, local[:, here], shares[:, here])
        return result

    @staticmethod
    def _between(low: Tensor, high: Tensor) -> list[tuple[int, int]]:
        """The tiles (x, y) of a rectangle, corners included."""
        (left, top), (right, bottom) = low[:, 0].int().tolist(), high[:, 0].int().tolist()
        return [(x, y) for y in range(top, bottom + 1) for x in range(left, right + 1)]

    def _read(self, tile: tuple[int, int], local: Tensor, shares: Tensor) -> Tensor:
        table = self._table(tile, local.device)
        packed = table.shape[1] > self.waves.channels
        return self.reader(table, self.tile[0] + (0 if packed else self.window.width - 1), local, shares)

    def _table(self, tile: tuple[int, int], device: torch.device) -> Tensor:
        key = (*tile, str(device))
        if key not in self._tables:
            nodes = self.nodes(tile)
            pack = device.type == "cpu" and nodes.nbytes * self.window.width <= TABLE_BYTES
            table = self.reader.packed(nodes) if pack else nodes.flatten(0, 1).to(device)
            while self._tables and (len(self._tables) + 1) * table.nbytes > CACHE_BYTES:
                self._tables.pop(next(iter(self._tables)))
            self._tables[key] = table
        return self._tables[key]

    def nodes(self, tile: tuple[int, int]) -> Tensor:
        """float32 ``[tile_y + W - 1, tile_x + W - 1, channels]``: what the window of a point of this tile can reach."""
        step = tuple(1 / count for count in self.per_unit)
        # The window's transform is divided out of the waves: theirs is then the sum that the window restores.
        rolloff = self.window.transform(self.waves.frequencies * torch.tensor(step, dtype=torch.float64)).prod(1)
        waves = Waves(self.waves.frequencies, self.waves.phases, self.waves.weights / rolloff[:, None], self.waves.box)
        start = tuple(first + index * size for first, index, size in zip(self.first, tile, self.tile, strict=True))
        size = tuple(count + self.window.width - 1 for count in self.tile)
        return lattice_values(waves, self.window, start, size, step).movedim(0, -1).contiguous()

    @staticmethod
    def _column(pair: tuple[float, float], like: Tensor) -> Tensor:
        return torch.tensor(pair, dtype=torch.float64, device=like.device)[:, None]
