"""The three passes by their definition, in double precision, and problems to hold algorithms against it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from .geometry import ConvGeometry, Pads, closing_pad, effective_kernel


def meetings(geometry: ConvGeometry) -> Iterator[tuple[Any, Any, Any]]:
    """Where an output, a tap and an input meet: indices into y, w and x, group by group; no input dilation."""
    per_in, per_out = geometry.in_channels // geometry.groups, geometry.out_channels // geometry.groups
    every = slice(None)
    for p, t in product(np.ndindex(*geometry.out_shape), np.ndindex(*geometry.kernel)):
        at = tuple(
            i * s + j * d - lo
            for i, j, s, d, (lo, _) in zip(p, t, geometry.stride, geometry.dilation, geometry.padding, strict=True)
        )
        if all(0 <= a < n for a, n in zip(at, geometry.in_shape, strict=True)):
            for group in range(geometry.groups):
                outs = slice(group * per_out, (group + 1) * per_out)
                ins = slice(group * per_in, (group + 1) * per_in)
                yield (every, outs, *p), (outs, every, *t), (every, ins, *at)


def definition(x: np.ndarray, w: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """The convolution by its definition, in double precision: every meeting adds x w to its output.

    >>> from npconv.geometry import ConvGeometry
    >>> g = ConvGeometry(1, 1, 1, (3,), (2,), (1,), (1,), ((0, 0),), (1,))
    >>> definition(np.array([[[1.0, 2.0, 4.0]]]), np.array([[[1.0, 1.0]]]), g)
    array([[[3., 6.]]])
    """
    y = np.zeros(geometry.y_shape, np.result_type(x, w, np.float64))
    for output, tap, source in meetings(geometry):
        y[output] += x[source].astype(y.dtype) @ w[tap].T
    return y


def definition_input_grad(g: np.ndarray, w: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """The input gradient by its definition: every output gives back to the inputs that it met."""
    dx = np.zeros(geometry.x_shape, np.result_type(g, w, np.float64))
    for output, tap, source in meetings(geometry):
        dx[source] += g[output].astype(dx.dtype) @ w[tap]
    return dx


def definition_weight_grad(x: np.ndarray, g: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """The weight gradient by its definition: every meeting adds g x to its tap."""
    dw = np.zeros(geometry.w_shape, np.result_type(x, g, np.float64))
    for output, tap, source in meetings(geometry):
        dw[tap] += g[output].astype(dw.dtype).T @ x[source]
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
