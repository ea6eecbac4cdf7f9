"""Motion that spreads through what looks alike and stops at the edges of the picture."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...optional import need

LEAST_SMOOTHING = 1e-9  # added to the caller's, which may be 0: vectors are met to about this
BARRIER = 1e-6  # the least coupling of neighbours: two regions are never quite independent


def edge_aware(
    points: Tensor,
    vectors: Tensor,
    size: tuple[int, int],
    guide: Tensor,
    radius: float | None = None,
    edges: float = 2.0,
    smoothing: float = 1e-3,
    side: int = 128,
) -> Tensor:
    """``vectors [N, 2]`` at ``points [N, 2]`` (pixels), spread over ``guide [C, H, W]`` -> ``[2, H, W]``.

    The minimum, for each component u, of

        sum_k (u(p_k) - v_k)^2 / smoothing  +  sum_ij w_ij (u_i - u_j)^2  +  sum_i u_i^2 / radius^2

    over neighbouring pixels i, j, with ``w_ij = exp(-edges |I_i - I_j|^2 / m)``, at least 1e-6, and m the mean of such
    squared differences: colours are compared with what is usual in the picture (Boykov and Jolly 2001, Rother et al.
    2004), a larger ``edges`` separates more.
    Where nothing else holds a region, its motion fades over ``radius`` pixels; the default, four times the longer side,
    keeps an object together and rests the ground that it touches. Points outside the image are left out, because no
    pixel has their colour.

    Solved by a sparse LU on at most ``side`` pixels along the longer side; each pixel of the image then takes the value
    of those of its four coarse neighbours that look like it (Kopf et al. 2007).
    """
    if guide.ndim != 3 or tuple(guide.shape[-2:]) != tuple(size):
        raise ValueError(
            f"the guide must be [C, {size[0]}, {size[1]}], the size of the tracks, got {list(guide.shape)}"
        )
    radius = 4 * max(size) if radius is None else radius
    if not radius > 0 or not edges >= 0 or not smoothing >= 0:
        raise ValueError(
            f"radius must be above 0, edges and smoothing at least 0, got {radius}, {edges} and {smoothing}"
        )
    reduction = max(1.0, max(size) / side)
    small = tuple(max(1, round(length / reduction)) for length in size)
    coarse = F.interpolate(guide[None].double(), small, mode="bilinear", antialias=True)[0]
    across, down, typical = _couplings(coarse, edges)
    field = _solved(
        points, vectors, size, small, (across, down), smoothing + LEAST_SMOOTHING, (reduction / radius) ** 2
    )
    if small == tuple(size):
        return field.float().to(guide.device)
    return _upsampled(field, coarse, guide.double(), edges / typical).float().to(guide.device)


def _couplings(guide: Tensor, edges: float) -> tuple[Tensor, Tensor, float]:
    """``w`` of horizontal ``[h, w - 1]`` and vertical ``[h - 1, w]`` neighbours, and the mean squared difference."""
    across = (guide[:, :, 1:] - guide[:, :, :-1]).square().sum(0)
    down = (guide[:, 1:] - guide[:, :-1]).square().sum(0)
    typical = torch.cat([across.flatten(), down.flatten()]).mean().clamp(min=1e-12).item()
    across, down = (BARRIER + (1 - BARRIER) * torch.exp(-edges * one / typical) for one in (across, down))
    return across, down, typical


def _solved(points, vectors, size, small, couplings, smoothing: float, rest: float) -> Tensor:
    """The minimiser on the coarse grid, ``[2, h, w]`` float64."""
    sparse = need("scipy.sparse", "spreading tracks along the edges of a picture")
    linalg = need("scipy.sparse.linalg", "spreading tracks along the edges of a picture")
    data = _readings(points, size, small)
    matrix = _laplacian(*couplings) + data.T @ data / smoothing + rest * sparse.identity(small[0] * small[1])
    solver = linalg.splu(
        matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    known = data.T @ vectors[_inside(points, size)].double().cpu().numpy() / smoothing
    return torch.from_numpy(solver.solve(known)).T.reshape(2, *small)


def _laplacian(across: Tensor, down: Tensor):
    """The sparse matrix of ``sum_ij w_ij (u_i - u_j)^2``."""
    sparse = need("scipy.sparse", "spreading tracks along the edges of a picture")
    pixels = torch.arange(down.shape[1] * across.shape[0]).view(across.shape[0], down.shape[1])
    first = torch.cat([pixels[:, :-1].flatten(), pixels[:-1].flatten()]).numpy()
    second = torch.cat([pixels[:, 1:].flatten(), pixels[1:].flatten()]).numpy()
    weights = torch.cat([across.flatten(), down.flatten()]).cpu().numpy()
    links = sparse.coo_matrix((weights, (first, second)), shape=(pixels.numel(),) * 2)
    links = links + links.T
    return sparse.diags(links @ np.ones(pixels.numel())) - links


def _inside(points: Tensor, size: tuple[int, int]) -> Tensor:
    x, y = points.unbind(1)
    return (x > -0.5) & (x < size[1] - 0.5) & (y > -0.5) & (y < size[0] - 0.5)


def _readings(points: Tensor, size: tuple[int, int], small: tuple[int, int]):
    """The sparse matrix ``[points inside, pixels]`` that reads the coarse field at the points, bilinearly."""
    sparse = need("scipy.sparse", "spreading tracks along the edges of a picture")
    points = points[_inside(points, size)].double().cpu()
    corners, shares = [], []
    for axis, (length, coarse) in enumerate(zip(size[::-1], small[::-1], strict=True)):
        at = ((points[:, axis] + 0.5) * coarse / length - 0.5).clamp(0, coarse - 1)
        low = at.floor().clamp(max=max(coarse - 2, 0))
        corners.append((low.long(), (low.long() + 1).clamp(max=coarse - 1)))
        shares.append((1 - (at - low), at - low))
    rows = torch.arange(len(points)).repeat(4).numpy()
    columns = torch.cat([corners[1][j] * small[1] + corners[0][i] for j in (0, 1) for i in (0, 1)]).numpy()
    values = torch.cat([shares[1][j] * shares[0][i] for j in (0, 1) for i in (0, 1)]).numpy()
    return sparse.csr_matrix((values, (rows, columns)), shape=(len(points), small[0] * small[1]))


def _upsampled(field: Tensor, coarse: Tensor, guide: Tensor, sharpness: float) -> Tensor:
    """Joint bilateral upsampling: the bilinear weights times ``exp(-sharpness |I(p) - I(q)|^2)``."""
    (height, width), (small_height, small_width) = guide.shape[-2:], coarse.shape[-2:]
    rows, columns = _neighbours(height, small_height), _neighbours(width, small_width)
    total, weights = torch.zeros(2, height, width, dtype=torch.float64), torch.full((height, width), 1e-12).double()
    for row, row_share in rows:
        for column, column_share in columns:
            difference = (guide - coarse[:, row][:, :, column]).square().sum(0).cpu()
            weight = row_share[:, None] * column_share * (torch.exp(-sharpness * difference) + BARRIER)
            total += weight * field[:, row][:, :, column]
            weights += weight
    return total / weights


def _neighbours(length: int, small: int) -> list[tuple[Tensor, Tensor]]:
    """The two coarse pixels around every fine one and their bilinear shares (half-pixel rule)."""
    at = ((torch.arange(length, dtype=torch.float64) + 0.5) * small / length - 0.5).clamp(0, small - 1)
    low = at.floor().clamp(max=max(small - 2, 0))
    return [(low.long(), 1 - (at - low)), ((low.long() + 1).clamp(max=small - 1), at - low)]
