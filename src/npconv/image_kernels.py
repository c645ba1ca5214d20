"""Named image kernels: derivatives sum to exactly zero, smoothing ones to one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from .arguments import choice
from .reading import per_axis


def _derivative(name: str, axis: str, smooth: tuple[int, ...]) -> np.ndarray:
    along = choice(f"filters.{name}", "axis", axis, ("x", "y"))
    kernel = np.outer(smooth, (-1, 0, 1))
    return kernel if along == "x" else np.ascontiguousarray(kernel.T)


def sobel(axis: str = "x") -> np.ndarray:
    """Derivative along "x" (it sees vertical edges) or "y", smoothed by 1 2 1 across; sums to zero."""
    return _derivative("sobel", axis, (1, 2, 1))


def prewitt(axis: str = "x") -> np.ndarray:
    """Derivative along "x" or "y", smoothed by 1 1 1 across; sums to zero."""
    return _derivative("prewitt", axis, (1, 1, 1))


def scharr(axis: str = "x") -> np.ndarray:
    """Derivative along "x" or "y", smoothed by 3 10 3 across (more even over directions); sums to zero."""
    return _derivative("scharr", axis, (3, 10, 3))


def laplacian(diagonals: bool = False) -> np.ndarray:
    """Sum of the four (or eight) neighbours less as many times the pixel; sums to zero."""
    if diagonals:
        return np.array([[1, 1, 1], [1, -8, 1], [1, 1, 1]])
    return np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])


def sharpen() -> np.ndarray:
    """The pixel less its Laplacian; sums to one."""
    return np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])


def emboss() -> np.ndarray:
    """Light from the upper left; sums to one."""
    return np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])


def identity(size: Any = 3) -> np.ndarray:
    """One at the centre (size // 2), zero elsewhere."""
    shape = per_axis("filters.identity", "size", size, 2, 1)
    kernel = np.zeros(shape, np.int64)
    kernel[shape[0] // 2, shape[1] // 2] = 1
    return kernel


def box(size: Any = 3) -> np.ndarray:
    """The mean of h x w pixels; `size` is an int or (h, w)."""
    h, w = per_axis("filters.box", "size", size, 2, 1)
    return np.full((h, w), 1 / (h * w))


def gaussian(sigma: Any = 1.0, *, truncate: float = 4.0, size: Any = None) -> np.ndarray:
    """A bell of standard deviation `sigma` (a number, or one along y and one along x), of sum one.

    It reaches int(truncate sigma + 1/2) pixels each way, as `scipy.ndimage.gaussian_filter`, unless `size`
    says how many entries it has (an int or a pair).
    """
    op = "filters.gaussian"
    pair = np.asarray((sigma, sigma) if np.ndim(sigma) == 0 else sigma, np.float64)
    if pair.shape != (2,) or not (np.isfinite(pair) & (pair > 0)).all():
        raise ValueError(f"{op}: sigma must be a positive number or two of them (y, x), got {sigma!r}")
    if not truncate > 0:
        raise ValueError(f"{op}: truncate must be positive, got {truncate!r}")
    reach = tuple(2 * int(truncate * s + 0.5) + 1 for s in pair)
    sizes = reach if size is None else per_axis(op, "size", size, 2, 1)
    bells = []
    for s, n in zip(pair, sizes, strict=True):
        bell = np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / s) ** 2)
        bells.append(bell / bell.sum())
    return np.outer(*bells)


#: The named kernels: name -> function that makes one; `apply` takes the names too.
kernels: Mapping[str, Callable[..., np.ndarray]] = MappingProxyType(
    {f.__name__: f for f in (box, emboss, gaussian, identity, laplacian, prewitt, scharr, sharpen, sobel)}
)
