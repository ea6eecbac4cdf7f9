"""Thin-plate splines: the smoothest field through the vectors, and affine far away."""

import torch
from torch import Tensor

from ..sampling import sample
from .scattered import merged

CENTRES = 500  # the solve grows with their cube, the evaluation with their number
KERNELS = 1 << 23  # kernel evaluations of the first, coarsest grid
ROUGH = 0.05  # pixels: how far the upsampled field may be from the spline at the centres
FLAT = 0.5  # pixels: points that spread less across a line lie on it


def thin_plate(
    points: Tensor, vectors: Tensor, size: tuple[int, int], smoothing: float = 0.0, centres: int = CENTRES
) -> Tensor:
    """The field of least bending energy through ``vectors [N, 2]`` at ``points [N, 2]`` (pixels) -> ``[2, H, W]``.

    Source: Duchon 1977; kernel ``r^2 log r`` and an affine trend. An affine motion is reproduced exactly, also beyond
    the points, where the field goes on growing: pin what shall rest. One point moves everything alike. Points on a
    line, two above all, say nothing about what is across it: there the field is constant.

    ``smoothing`` (0: through every vector) allows deviations; its unit is that of the kernel with the image's longer
    side as 1, so that it means the same at every size; 1e-4 is little, 1e-2 much. Points closer than half a pixel are
    averaged, and more than ``centres`` points over the cells of a grid (`merged`).

    The spline is evaluated on a grid coarser than the image where there are many points, and upsampled by cubic
    convolution (Keys 1981); the grid is refined until that agrees with the spline at its centres, where it is least
    smooth, to 0.05 pixels.
    """
    if smoothing < 0:
        raise ValueError(f"smoothing must be at least 0, got {smoothing}")
    spline = _Spline(points, vectors, max(size), smoothing, centres)
    height, width = size
    step = 1
    while height * width * len(spline.centres) > KERNELS * step**2:
        step *= 2
    while True:
        field = spline.field(size, step)
        if step == 1 or spline.deviation(field) <= ROUGH:
            return field.float()
        step //= 2


class _Spline:
    """``s(p) = trend(p) + sum_k w_k |p - c_k|^2 log |p - c_k|`` in units of ``scale`` pixels."""

    def __init__(self, points: Tensor, vectors: Tensor, scale: float, smoothing: float, limit: int):
        points = points.double()
        self.origin = points.mean(0)
        self.axes = _axes(points - self.origin)
        if len(self.axes) < 2:  # on a line, exactly: the kernel is definite then with a trend along the line alone
            points = self.origin + (points - self.origin) @ self.axes.T @ self.axes
        self.scale = scale
        self.centres, values = merged(points, vectors, limit)
        self.trend, self.weights, self.values = self._fit(values, smoothing)

    def _fit(self, values: Tensor, smoothing: float) -> tuple[Tensor, Tensor, Tensor]:
        """Trend coefficients, kernel weights, and the values at the centres (the data, unless smoothed)."""
        offsets = (self.centres[:, None] - self.centres) / self.scale
        kernel = _kernel(offsets.square().sum(-1))
        monomials = self._monomials(self.centres)
        count, terms = monomials.shape
        system = torch.zeros(count + terms, count + terms, dtype=torch.float64, device=values.device)
        system[:count, :count] = kernel + smoothing * torch.eye(count, dtype=torch.float64, device=values.device)
        system[:count, count:] = monomials
        system[count:, :count] = monomials.T
        solution = torch.linalg.solve(system, torch.cat([values, values.new_zeros(terms, 2)]))
        weights, trend = solution[:count], solution[count:]
        return trend, weights, kernel @ weights + monomials @ trend

    def _monomials(self, points: Tensor) -> Tensor:
        """1 and the coordinates along the axes, ``[..., 1 + axes]``."""
        along = (points - self.origin) @ self.axes.T / self.scale
        return torch.cat([points.new_ones(*points.shape[:-1], 1), along], dim=-1)

    def field(self, size: tuple[int, int], step: int) -> Tensor:
        """``[2, H, W]`` float64: the kernels on every ``step``-th pixel and upsampled, the trend exactly."""
        height, width = size
        (rows, up_y), (columns, up_x) = (_knots(length, step, self.centres) for length in size)
        across = ((columns[:, None] - self.centres[:, 0]) / self.scale).square()
        down = ((rows[:, None] - self.centres[:, 1]) / self.scale).square()
        coarse = torch.stack([_kernel(across + one) @ self.weights for one in down])  # a row at a time: little memory
        radial = up_y @ coarse.permute(2, 0, 1) @ up_x.T
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        pixels = torch.stack([x, y], dim=-1).to(self.centres)
        return radial + (self._monomials(pixels) @ self.trend).permute(2, 0, 1)

    def deviation(self, field: Tensor) -> float:
        """The longest difference between ``field`` and the spline, at the centres inside the image."""
        x, y = self.centres.unbind(1)
        inside = (x >= 0) & (x <= field.shape[2] - 1) & (y >= 0) & (y <= field.shape[1] - 1)
        if not inside.any():
            return 0.0
        read = sample(field[None], self.centres[inside].T[None, :, None])[0, :, 0].T
        return (read - self.values[inside]).norm(dim=1).max().item()


def _kernel(squares: Tensor) -> Tensor:
    """``r^2 log r`` of ``r^2``."""
    return 0.5 * torch.special.xlogy(squares, squares)


def _axes(offsets: Tensor) -> Tensor:
    """Orthonormal directions ``[0 to 2, 2]`` in which the points spread."""
    _, _, directions = torch.linalg.svd(offsets, full_matrices=False)
    spread = (offsets @ directions.T).abs().amax(0)
    return directions[spread > FLAT]


def _knots(length: int, step: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of every ``step``-th pixel, with a margin, and the matrix that interpolates all pixels from them.

    Cubic convolution with a = -1/2 (Keys 1981): four taps, third order, quadratics exactly.
    """
    cells = -(-(length - 1) // step)
    knots = torch.arange(-1, cells + 2).to(like) * step
    if step == 1:
        return knots[1 : length + 1], torch.eye(length).to(like)
    distance = (torch.arange(length).to(like)[:, None] - knots).abs() / step
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return knots, torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
