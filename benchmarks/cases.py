"""Convolutions to measure the error of: drawn problems, the true results, and the scales that errors are measured in.

The cases from `COMPILED` on suit the compiled kernels, one family after the other; those before suit all algorithms.
float32 is compared with float64; float64 with x86's long doubles, which have 11 bits more, added 256 at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from npconv.algorithms.base import input_grad_weights
from npconv.geometry import ConvGeometry, closing_pad, effective_kernel, total

UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}
KINDS = ("normal", "positive", "log-normal", "rows x1e4", "integer", "constant")
MOST_CHANNELS, MOST_KERNEL, MOST_POSITIONS = 512, 7, 200_000
COMPILED = 1_000_000
FAMILIES = ("any", "small groups", "f2", "f4", "large kernels")
#: Taps per axis that transforms of 4 and of 6 inputs serve.
TAPS = {"f2": (2, 3, 3), "f4": (3, 3, 5, 2)}
CHUNK = 256  # products that long doubles add up at a time
LARGE_KERNELS = {1: 300, 2: 30, 3: 9}


@dataclass
class Case:
    """A drawn problem; ``arrays`` are x, w and g."""

    number: int
    geometry: ConvGeometry
    kind: str
    dtype: str
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray]

    def __str__(self) -> str:
        g = self.geometry
        options = f"stride {g.stride} dilation {g.dilation} padding {g.padding} groups {g.groups}"
        return f"case {self.number}: {self.kind} {self.dtype} {g.x_shape} * {g.w_shape} {options}"


# --------------------------------------------------------------------------- drawing
def log_uniform(rng: np.random.Generator, high: float, low: float = 1) -> int:
    return round(math.exp(rng.uniform(math.log(low), math.log(high))))


def draw(number: int) -> Case:
    """Case `number`, always the same one."""
    rng = np.random.default_rng([20261121, number])
    family = FAMILIES[number % len(FAMILIES)] if number >= COMPILED else "any"
    dtype = "float64" if rng.random() < 0.2 else "float32"
    rank = int(rng.choice([1, 2, 2, 2, 3]))
    budget = log_uniform(rng, 4e6 if dtype == "float32" else 4e5, 1e3)
    plain = rng.random() < 0.6
    kernel = tuple(int(k) for k in rng.integers(1, MOST_KERNEL + 1, rank))
    if rng.random() < 0.3:
        kernel = (3,) * rank
    stride, dilation = ((1,) * rank if plain else tuple(int(v) for v in rng.integers(1, 4, rank)) for _ in range(2))
    if family in TAPS:
        kernel = (*kernel[:-1], int(rng.choice(TAPS[family])))
        kernel, stride = (kernel[-1:] * rank if rng.random() < 0.7 else kernel), (1,) * rank
        dilation = dilation if rng.random() < 0.2 else (1,) * rank
    elif family == "large kernels":
        kernel = tuple(log_uniform(rng, LARGE_KERNELS[rank]) for _ in range(rank))
        stride = dilation = (1,) * rank
    channels, outputs = log_uniform(rng, MOST_CHANNELS), log_uniform(rng, MOST_CHANNELS)
    batch, positions = log_uniform(rng, 32), log_uniform(rng, MOST_POSITIONS)
    longest = rng.random() < (0.1 if number < COMPILED else 0.03)  # long reductions, whatever they cost
    if longest and rng.random() < 0.5:
        batch, positions, channels, outputs = log_uniform(rng, 8), MOST_POSITIONS, 1, int(rng.integers(1, 3))
        positions, kernel = positions // batch, tuple(min(k, 3) for k in kernel)
    elif longest:
        batch, positions, channels = 1, int(rng.integers(1, 9)), MOST_CHANNELS
        outputs = int(rng.integers(1, 5))
    taps = total(kernel)
    while not longest and batch * positions * taps * channels * outputs > budget:
        which = int(rng.integers(4))
        if which == 0:
            batch = max(1, batch // 2)
        elif which == 1:
            positions = max(1, positions // 2)
        elif which == 2:
            outputs = max(1, outputs // 2)
        else:
            channels = max(1, channels // 2)
        if batch * positions * channels * outputs == 1:
            break
    groups = 1
    if not longest and rng.random() < 0.3:
        groups = int(rng.choice([2, 3, channels]))
        channels, outputs = (max(1, round(n / groups)) * groups for n in (channels, outputs))
    if family == "small groups":
        groups = log_uniform(rng, min(64, max(channels, outputs)))
        channels, outputs = (groups * min(8, max(1, round(n / groups))) for n in (channels, outputs))
    out = spread(rng, positions, rank)
    spans = [effective_kernel(k, d) for k, d in zip(kernel, dilation, strict=True)]
    lows = [int(rng.integers(0, e)) if rng.random() < 0.6 else 0 for e in spans]
    sizes = tuple(
        max(1, closing_pad(0, lo, e, s, n) - int(rng.integers(0, e)))
        for lo, e, s, n in zip(lows, spans, stride, out, strict=True)
    )
    pads = tuple(
        (lo, closing_pad(size, lo, e, s, n)) for size, lo, e, s, n in zip(sizes, lows, spans, stride, out, strict=True)
    )
    geometry = ConvGeometry(batch, channels, outputs, sizes, kernel, stride, dilation, pads, (1,) * rank, groups)
    kind = str(rng.choice(KINDS))
    shapes = (geometry.x_shape, geometry.w_shape, geometry.y_shape)
    x, w, g = (values(rng, shape, kind, rows=i != 1).astype(dtype) for i, shape in enumerate(shapes))
    return Case(number, geometry, kind, dtype, (x, w, g))


def spread(rng: np.random.Generator, positions: int, rank: int) -> tuple[int, ...]:
    """About `positions` outputs on `rank` axes of random proportions."""
    shares = rng.dirichlet([3] * rank)
    return tuple(max(1, round(positions**share)) for share in shares)


def values(rng: np.random.Generator, shape: tuple[int, ...], kind: str, *, rows: bool) -> np.ndarray:
    if kind == "constant":  # a flat image under a box filter: every rounding error has the same sign
        return np.full(shape, rng.uniform(0.1, 1))
    if kind == "positive":
        return rng.uniform(0, 1, shape)
    if kind == "log-normal":
        return np.exp(2 * rng.standard_normal(shape))
    if kind == "integer":
        return rng.integers(-8, 9, shape).astype(float)
    data = rng.standard_normal(shape)
    if kind == "rows x1e4" and rows:
        data[:, :, ::2] *= 1e4
    return data


# --------------------------------------------------------------------------- the truth, by other means
def windows(x: np.ndarray, pads: Any, kernel: Any, stride: Any, dilation: Any, out: Any) -> np.ndarray:
    """(N, C, *in) -> (N, C, *out, *k), by padding and a strided view."""
    padded = np.pad(x, ((0, 0), (0, 0), *((max(0, lo), max(0, hi)) for lo, hi in pads)))
    crop = tuple(slice(max(0, -lo), n - max(0, -hi)) for n, (lo, hi) in zip(padded.shape[2:], pads, strict=True))
    padded = padded[(..., *crop)]
    steps = padded.strides[2:]
    strides = (*padded.strides[:2], *(a * s for a, s in zip(steps, stride, strict=True)))
    strides += tuple(a * d for a, d in zip(steps, dilation, strict=True))
    return np.lib.stride_tricks.as_strided(padded, (*padded.shape[:2], *out, *kernel), strides, writeable=False)


def factors(case: Case, direction: str) -> tuple[tuple[np.ndarray, np.ndarray], tuple[int, ...], tuple[int, ...]]:
    """The pass as products, ``result[group] = a[group] @ b[group]``; its shape; the order of its axes."""
    geometry = case.geometry
    x, w, g = (array.astype(np.float64) for array in case.arrays)
    rank, group, n = geometry.rank, geometry.groups, geometry.batch
    if direction == "input_grad":
        turned = geometry.transposed()
        dense = np.zeros((*g.shape[:2], *turned.dilated_shape))
        dense[(..., *(slice(None, None, s) for s in geometry.stride))] = g
        x, w, geometry = dense, input_grad_weights(w, group), turned
    seen = windows(x, geometry.padding, geometry.kernel, geometry.stride, geometry.dilation, geometry.out_shape)
    per_in, positions = geometry.in_channels // group, total(geometry.out_shape)
    seen = seen.reshape(n, group, per_in, *seen.shape[2:])
    if direction == "weight_grad":  # (G, O/G, N p) @ (G, N p, C/G t)
        order = (1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
        columns = seen.transpose(order).reshape(group, n * positions, per_in * geometry.taps)
        outputs = geometry.out_channels // group
        rows = g.reshape(n, group, outputs, positions).transpose(1, 2, 0, 3).reshape(group, outputs, n * positions)
        return (rows, columns), geometry.w_shape, ()
    # (G, O/G, C/G t) @ (G, C/G t, N p)
    order = (1, 2, *range(3 + rank, 3 + 2 * rank), 0, *range(3, 3 + rank))
    columns = seen.transpose(order).reshape(group, per_in * geometry.taps, n * positions)
    rows = w.reshape(group, geometry.out_channels // group, per_in * geometry.taps)
    return (rows, columns), (geometry.out_channels, n, *geometry.out_shape), (1, 0, *range(2, 2 + rank))


def truth(case: Case, direction: str) -> tuple[np.ndarray, np.ndarray]:
    """The results, and S of every output."""
    (a, b), shape, order = factors(case, direction)
    results, sums = (a @ b if case.dtype == "float32" else long_product(a, b)), np.abs(a) @ np.abs(b)
    results, sums = results.reshape(shape), sums.reshape(shape)
    return (results.transpose(order), sums.transpose(order)) if order else (results, sums)


def long_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b in long doubles."""
    if np.finfo(np.longdouble).nmant < 63:
        raise SystemExit("float64 needs long doubles of 64 bits to be compared with")
    result = np.zeros((*a.shape[:-1], b.shape[-1]), np.longdouble)
    for first in range(0, a.shape[-1], CHUNK):
        here = slice(first, first + CHUNK)
        result += a[..., here].astype(np.longdouble) @ b[..., here, :].astype(np.longdouble)
    return result


def reach(case: Case, direction: str) -> np.ndarray:
    """R of every plane: (N, O), (N, C) or (O, C/G), with two or more axes of length 1."""
    x, w, g = (np.abs(array).astype(np.float64) for array in case.arrays)
    rank, group = case.geometry.rank, case.geometry.groups
    space = tuple(range(-rank, 0))
    slid, slides = (g, input_grad_weights(w, group)) if direction == "input_grad" else (x, w)
    largest = slid.max(space, initial=0).reshape(len(slid), group, slid.shape[1] // group).swapaxes(0, 1)  # (G, N, C/G)
    if direction == "weight_grad":
        sums = g.sum(space).reshape(len(g), group, g.shape[1] // group).transpose(1, 2, 0)  # (G, O/G, N)
        result = (sums @ largest).reshape(w.shape[:2])
    else:
        sums = slides.sum(space)
        sums = sums.reshape(group, sums.size // (group * largest.shape[2]), largest.shape[2])  # (G, O/G, C/G)
        result = (largest @ sums.swapaxes(1, 2)).swapaxes(0, 1).reshape(len(slid), group * sums.shape[1])
    return result.reshape(*result.shape, *(1,) * rank)
