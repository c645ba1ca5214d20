"""The three passes by their definition, in double precision, and problems to hold algorithms against it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from .geometry import ConvGeometry, Pads, closing_pad, effective_kernel


def definition(x: np.ndarray, w: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """The convolution by its definition, one output position at a time, in double precision; no input dilation.

    >>> from npconv.geometry import ConvGeometry
    >>> g = ConvGeometry(1, 1, 1, (3,), (2,), (1,), (1,), ((0, 0),), (1,))
    >>> definition(np.array([[[1.0, 2.0, 4.0]]]), np.array([[[1.0, 1.0]]]), g)
    array([[[3., 6.]]])
    """
    wide = np.result_type(x, w, np.float64)
    y = np.zeros(geometry.y_shape, wide)
    per_in, per_out = geometry.in_channels // geometry.groups, geometry.out_channels // geometry.groups
    for p, t in product(np.ndindex(*geometry.out_shape), np.ndindex(*geometry.kernel)):
        at = tuple(
            i * s + j * d - lo
            for i, j, s, d, (lo, _) in zip(p, t, geometry.stride, geometry.dilation, geometry.padding, strict=True)
        )
        if all(0 <= a < n for a, n in zip(at, geometry.in_shape, strict=True)):
            for group in range(geometry.groups):
                into = slice(group * per_out, (group + 1) * per_out)
                seen = x[(slice(None), slice(group * per_in, (group + 1) * per_in), *at)].astype(wide)
                y[(slice(None), into, *p)] += seen @ w[(into, slice(None), *t)].astype(wide).T
    return y


def definition_weight_grad(x: np.ndarray, g: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """The weight gradient by its definition, in double precision; no input dilation."""
    wide = np.result_type(x, g, np.float64)
    dw = np.zeros(geometry.w_shape, wide)
    per_in, per_out = geometry.in_channels // geometry.groups, geometry.out_channels // geometry.groups
    for p, t in product(np.ndindex(*geometry.out_shape), np.ndindex(*geometry.kernel)):
        at = tuple(
            i * s + j * d - lo
            for i, j, s, d, (lo, _) in zip(p, t, geometry.stride, geometry.dilation, geometry.padding, strict=True)
        )
        if all(0 <= a < n for a, n in zip(at, geometry.in_shape, strict=True)):
            for group in range(geometry.groups):
                into = slice(group * per_out, (group + 1) * per_out)
                seen = x[(slice(None), slice(group * per_in, (group + 1) * per_in), *at)].astype(wide)
                dw[(into, slice(None), *t)] += g[(slice(None), into, *p)].astype(wide).T @ seen
    return dw


def problems(rng: np.random.Generator) -> Iterator[ConvGeometry]:
    """An endless stream of legal geometries: ranks 0 to 3, groups, strides, dilations, any padding."""
    while True:
        rank = int(rng.choice([0, 1, 1, 2, 2, 2, 3]))
        groups = int(rng.choice([1, 1, 1, 2, 3]))
        per_in, per_out = int(rng.choice([1, 2, 3, 5, 17])), int(rng.choice([1, 2, 3, 4]))
        kernel = tuple(int(k) for k in rng.integers(1, 6 if rank < 3 else 4, rank))
        plain = rng.random() < 0.5
        stride = (1,) * rank if plain else tuple(int(s) for s in rng.integers(1, 4, rank))
        dilation = (1,) * rank if plain else tuple(int(d) for d in rng.integers(1, 4, rank))
        outs = tuple(int(n) for n in rng.integers(1, 12 if rank < 3 else 6, rank))
        sizes = tuple(int(n) for n in rng.integers(1, 14 if rank < 3 else 7, rank))
        pads: Pads = tuple(
            (lo, closing_pad(n, lo, effective_kernel(k, d), s, out))
            for lo, n, k, d, s, out in zip(
                (int(v) for v in rng.integers(-1, 4, rank)), sizes, kernel, dilation, stride, outs, strict=True
            )
        )
        batch = int(rng.integers(1, 4))
        yield ConvGeometry(
            batch, groups * per_in, groups * per_out, sizes, kernel, stride, dilation, pads, (1,) * rank, groups
        )


def definition_input_grad(g: np.ndarray, w: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """The input gradient by its definition: every output gives back along its window."""
    dx = np.zeros(geometry.x_shape, np.result_type(g, w, np.float64))
    per_in, per_out = geometry.in_channels // geometry.groups, geometry.out_channels // geometry.groups
    for p, t in product(np.ndindex(*geometry.out_shape), np.ndindex(*geometry.kernel)):
        at = tuple(
            i * s + j * d - lo
            for i, j, s, d, (lo, _) in zip(p, t, geometry.stride, geometry.dilation, geometry.padding, strict=True)
        )
        if all(0 <= a < n for a, n in zip(at, geometry.in_shape, strict=True)):
            for group in range(geometry.groups):
                outs = slice(group * per_out, (group + 1) * per_out)
                into = (slice(None), slice(group * per_in, (group + 1) * per_in), *at)
                dx[into] += g[(slice(None), outs, *p)] @ w[(outs, slice(None), *t)].astype(dx.dtype)
    return dx
