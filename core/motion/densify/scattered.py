"""What every densifier needs of scattered points: float64, no contradiction at one place, not too many."""

import torch
from torch import Tensor

from ...optional import need

TOUCHING = 0.5  # pixels: closer points are one place, for which a smooth field can have one vector only


def merged(points: Tensor, vectors: Tensor, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """``points [N, 2]`` and ``vectors [N, 2]`` in float64, where points that touch are replaced by their mean.

    With a ``limit``, more points than that are averaged over the square cells of a grid, as fine as the limit allows.
    An affine motion survives averaging exactly; detail smaller than a cell does not.
    """
    points, vectors = points.double(), vectors.double()
    if limit is not None and len(points) > limit:
        points, vectors = _means(points, vectors, _cells(points, limit))
    return _means(points, vectors, _touching(points))


def _cells(points: Tensor, limit: int) -> Tensor:
    """The cell of every point, of a square grid over their bounding box with at most ``limit`` cells."""
    low = points.amin(0)
    extent = (points.amax(0) - low).clamp(min=TOUCHING)
    side = (extent.prod() / limit).sqrt()
    while torch.ceil(extent / side).prod() > limit:
        side = side * 1.02
    columns, rows = torch.ceil(extent / side).long().tolist()
    x, y = ((points - low) / side).long().unbind(1)
    return y.clamp(max=rows - 1) * columns + x.clamp(max=columns - 1)


def _touching(points: Tensor) -> Tensor:
    """A label per point, shared by points that are chained together by distances of at most `TOUCHING`."""
    spatial = need("scipy.spatial", "making a dense field of tracks")
    sparse = need("scipy.sparse", "making a dense field of tracks")
    pairs = spatial.cKDTree(points.cpu().numpy()).query_pairs(TOUCHING, output_type="ndarray")
    links = sparse.coo_matrix(([1] * len(pairs), (pairs[:, 0], pairs[:, 1])), shape=(len(points),) * 2)
    return torch.from_numpy(sparse.csgraph.connected_components(links, directed=False)[1]).long().to(points.device)


def _means(points: Tensor, vectors: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    _, group, count = labels.unique(return_inverse=True, return_counts=True)
    if len(count) == len(points):
        return points, vectors
    total = torch.zeros(len(count), 4, dtype=torch.float64, device=points.device)
    total.index_add_(0, group, torch.cat([points, vectors], dim=1))
    return (total / count[:, None]).split(2, dim=1)
