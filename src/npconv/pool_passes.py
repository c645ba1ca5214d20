"""The passes of pooling over a problem that was read: maxima, means, norms, and what flows back."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .arguments import flag
from .compiled.calls import address
from .compiled.copying import contiguous
from .compiled.pools import back as pools_back
from .compiled.pools import calls as pools_calls
from .compiled.pools.setting import setting
from .compiled.pools.tables import LONGEST
from .geometry import LARGEST, total
from .indices import number_strides, to_plane
from .memory import output
from .pool_problem import PADDED, READ, PoolProblem, compute_dtype, float_dtype, routed_dtype
from .reading import one_int
from .reduction import (
    each_tap,
    overlap,
    reduce_windows,
    scatter_windows,
    spread_windows,
    winner_numbers,
    winning_taps,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

#: Powers within these bounds lost nothing to overflow or underflow; others are computed again, scaled.
SAFE_SUMS = (1e-280, 1e300)


# --------------------------------------------------------------------------- machine code
def _launched(
    p: PoolProblem, make: Callable[..., Any], option: Any, operands: tuple[Array, ...], results: tuple[Array, ...]
) -> bool:
    """Whether a kernel did it; else it is NumPy's turn.

    `make` is asked for the launch once per problem and memory layout of the operands. Operands that lie in no order that
    a kernel reads are copied first, so that strides decide nothing but the time.
    """
    arrays = operands + results  # results are contiguous, but of a dtype that other operands may decide
    key = (make, option, *[a.strides for a in operands], *[a.dtype.char for a in arrays])
    found = p.launches.get(key, key)
    if found is key:
        views = [p.layout.canonical(array) for array in arrays]
        in_place = all(address(view) == address(array) for view, array in zip(views, arrays, strict=True))
        if len(p.launches) > 64:  # strides without end must not fill the memory
            p.launches.clear()
        found = p.launches[key] = make(p, option, *views) if in_place else None
    if found is not None:
        return bool(found.run(*arrays))
    if all(array.flags.c_contiguous for array in operands) or any(a.dtype.char not in "fdl" for a in operands):
        return False
    return _launched(p, make, option, tuple([contiguous(a) for a in operands]), results)


def _reducing(p: PoolProblem, divisor: int | None, x: Array, y: Array) -> Any:
    """The maxima, or the means over `divisor`: x to y."""
    s = None if (divisor or 0) > LARGEST else setting(p.axes, p.channels_last, x, y)
    return s and pools_calls.reduce(s, None if divisor is None else p.shares(divisor))


def _finding(p: PoolProblem, space: str, x: Array, y: Array, indices: Array) -> Any:
    """The maxima and where they are."""
    s = setting(p.axes, p.channels_last, x, y)
    return s and pools_calls.winners(s, number_strides(space, p.canonical_shape))


def _routing(p: PoolProblem, option: None, g: Array, x: Array, dx: Array) -> Any:
    """From g to the maxima of x."""
    s, into = (setting(p.axes, p.channels_last, array, g) for array in (x, dx))
    return s and into and pools_back.back(s, into, None)


def _sharing(p: PoolProblem, divisor: int, g: Array, dx: Array) -> Any:
    """From g over `divisor` to all inputs."""
    into = None if divisor > LARGEST else setting(p.axes, p.channels_last, dx, g)
    return into and pools_back.back(into, into, p.shares(divisor))


def _placing(p: PoolProblem, option: bool, g: Array, places: Array, dx: Array) -> Any:
    """From g to where its maxima were; the launch fails where one lies outside its plane, or (`option`) its window."""
    into = setting(p.axes, p.channels_last, dx, g)
    if into is None or places.dtype != np.int64 or overlap(p.axes) > LONGEST:
        return None
    return (pools_back.tiled_places if option else pools_back.places)(into, places.strides)


# --------------------------------------------------------------------------- maximum
def maxima(p: PoolProblem, x: Array, out: Array | None) -> Array:
    """The largest value of every window."""
    p.refuse_empty_windows()
    y = output(p.op, out, p.y_shape, x.dtype, {"x": x})
    if not _launched(p, _reducing, None, (x,), (y,)):
        _maxima(p, x, y)
    return y


def maxima_and_indices(p: PoolProblem, x: Array, space: str, out: Array | None) -> tuple[Array, Array]:
    """The largest value of every window, and its index in the given space."""
    p.refuse_empty_windows()
    y = output(p.op, out, p.y_shape, x.dtype, {"x": x})
    numbers = np.empty(y.shape, np.int64)
    if _launched(p, _finding, space, (x,), (y, numbers)):
        return y, numbers
    xs, best = _maxima(p, x, y)
    with np.errstate(all="ignore"):
        codes = winning_taps(xs, best, p.axes)
    winner_numbers(codes, p.axes, number_strides(space, p.canonical_shape), p.layout.canonical(numbers))
    return y, numbers


def _maxima(p: PoolProblem, x: Array, y: Array) -> tuple[Array, Array]:
    """Write the maxima to y; x and the maxima canonical, in the dtype that was computed in."""
    xs, ys = p.layout.canonical(x), p.layout.canonical(y)
    compute = compute_dtype(x.dtype)
    xs = xs.astype(compute, copy=False)
    best = ys if compute == y.dtype else np.empty_like(xs, shape=ys.shape)
    with np.errstate(all="ignore"):
        reduce_windows(np.maximum, xs, p.axes, best)
        if best is not ys:
            ys[...] = best
    return xs, best


def routed(
    p: PoolProblem,
    operands: dict[str, Array],
    out: Array | None,
    indices: Array | None = None,
    space: str = "plane",
) -> Array:
    """Every g added to the maximum of its window, for a problem that was read."""
    g, x = operands["g"], operands["x"]
    if indices is not None:
        p.check_gradient(indices, "indices")
    dx = output(p.op, out, p.x_shape, routed_dtype(p.op, operands, p.axes), operands)
    if indices is None and _launched(p, _routing, None, (g, x), (dx,)):
        return dx
    places = winners(p, x) if indices is None else indices
    if indices is None or space == "plane":
        for tiled in (True, False) if p.channels_last else (False,):
            if _launched(p, _placing, tiled, (g, places), (dx,)):
                return dx
    if indices is None:
        planes = p.layout.canonical(places)
    else:
        described = f"spatial sizes {p.canonical_shape[2:]}"
        planes = to_plane(p.op, indices, space, p.canonical_shape, p.layout, described)
    with np.errstate(all="ignore"):
        gs = p.layout.canonical(g).astype(compute_dtype(dx.dtype), copy=False)
        spread = scatter_windows(gs, planes, p.canonical_shape[2:], overlap(p.axes))
        p.layout.canonical(dx)[...] = spread
    return dx


def winners(p: PoolProblem, x: Array) -> Array:
    """The plane index of the maximum of every window."""
    return maxima_and_indices(p, x, "plane", None)[1]


# --------------------------------------------------------------------------- mean
def divisors(p: PoolProblem, count_include_pad: Any, divisor: Any) -> int:
    """What each window's sum is divided by, as `PoolProblem.divisor` reads it."""
    include = flag(p.op, "count_include_pad", count_include_pad)
    if divisor is not None:
        return one_int(p.op, "divisor", divisor, 1)
    return PADDED if include else READ


def means(p: PoolProblem, x: Array, divisor: int, out: Array | None) -> Array:
    """The sum of every window over its divisor, for a problem that was read."""
    y = output(p.op, out, p.y_shape, float_dtype(x.dtype), {"x": x})
    if _launched(p, _reducing, divisor, (x,), (y,)):
        return y
    compute = compute_dtype(y.dtype)
    ys, xs = p.layout.canonical(y), p.layout.canonical(x).astype(compute, copy=False)
    sums = ys if compute == y.dtype else np.empty_like(xs, shape=ys.shape)
    with np.errstate(all="ignore"):
        reduce_windows(np.add, xs, p.axes, sums)
        _divide(sums, p.divisor(divisor))
        if sums is not ys:
            ys[...] = sums
    return y


def _divide(sums: Array, divisor: int | Array) -> None:
    """Divide in place; by a power of two the product is the same number and twice as fast."""
    if not isinstance(divisor, int):
        np.divide(sums, divisor.astype(sums.dtype), out=sums)
    elif divisor & (divisor - 1):
        np.divide(sums, divisor, out=sums)
    elif divisor > 1:
        np.multiply(sums, 1 / divisor, out=sums)


def shared(p: PoolProblem, g: Array, divisor: int, out: Array | None) -> Array:
    """Every g over its divisor, added to all inputs of its window, for a problem that was read."""
    dx = output(p.op, out, p.x_shape, float_dtype(g.dtype), {"g": g})
    if _launched(p, _sharing, divisor, (g,), (dx,)):
        return dx
    compute = compute_dtype(dx.dtype)
    with np.errstate(all="ignore"):
        parts = p.layout.canonical(g).astype(compute, order="K")
        _divide(parts, p.divisor(divisor))
        p.layout.canonical(dx)[...] = spread_windows(parts, p.axes, p.canonical_shape[2:])
    return dx


# --------------------------------------------------------------------------- norm
def read_power(op: str, p: Any) -> float:
    """The exponent of a norm."""
    if isinstance(p, (bool, np.bool_)) or not isinstance(p, (int, float, np.integer, np.floating)):
        raise TypeError(f"{op}: p must be a number, got {p!r:.60} of type {type(p).__name__}; use p=2.0")
    if not p > 0:
        raise ValueError(f"{op}: p must be > 0, got {p}; use p=2.0, or p=np.inf for the largest |x|")
    return float(p)


def norms(problem: PoolProblem, x: Array, p: float) -> Array:
    """The p-norm of every window of a canonical x, in float64."""
    size = np.abs(x.astype(np.float64))
    y = np.empty_like(size, shape=(*x.shape[:2], *problem.out_shape))
    if math.isinf(p):
        reduce_windows(np.maximum, size, problem.axes, y)
        return y
    reduce_windows(np.add, size if p == 1 else size**p, problem.axes, y)
    lost = (y < SAFE_SUMS[0]) | (y > SAFE_SUMS[1])
    y **= 1 / p
    if lost.any():
        largest = np.empty_like(y)
        reduce_windows(np.maximum, size, problem.axes, largest)
        lost &= (largest > 0) & np.isfinite(largest)
        if lost.any():
            y[lost] = _scaled_norms(problem, size, largest, p)[lost]
    return y


def _scaled_norms(problem: PoolProblem, size: Array, largest: Array, p: float) -> Array:
    sums = np.zeros_like(largest)
    for windows, values in each_tap(size, problem.axes):
        sums[(..., *windows)] += (values / largest[(..., *windows)]) ** p
    return largest * sums ** (1 / p)


def norm_gradient(problem: PoolProblem, g: Array, x: Array, p: float) -> Array:
    """g over a norm of canonical x, in float64, taken apart by its inputs."""
    y, dx = norms(problem, x, p), np.zeros_like(x)
    if total(problem.out_shape) < total([windows.taps for windows in problem.axes]):
        return _norm_gradient_by_window(problem, g, x, y, p, dx)
    open_windows = np.ones(y.shape, bool)
    for (windows, values), (_, target) in zip(each_tap(x, problem.axes), each_tap(dx, problem.axes), strict=True):
        norm, given = y[(..., *windows)], g[(..., *windows)]
        if math.isinf(p):  # the first largest one takes it all, as in max_pool
            wins = open_windows[(..., *windows)] & (np.abs(values) == norm)
            open_windows[(..., *windows)] &= ~wins
            share = np.sign(values) * wins
        else:
            share = _share(values, norm, p)
        target += np.where(norm == 0, 0, share * given)  # a view of dx: windows are slices
    return dx


def _norm_gradient_by_window(p: PoolProblem, g: Array, x: Array, y: Array, power: float, dx: Array) -> Array:
    """`norm_gradient` where windows have more taps than there are windows: most may read padding."""
    for o in np.ndindex(*p.out_shape):
        reads = [windows.reads(i) for windows, i in zip(p.axes, o, strict=True)]
        where = (..., *(slice(r.start, r.stop, r.step) for r in reads))
        values, target = x[where], dx[where]
        if not values.size:
            continue
        norm, given = (a[(..., *o)][(..., *(None,) * len(o))] for a in (y, g))
        if math.isinf(power):
            hit = (np.abs(values) == norm).reshape(*x.shape[:2], -1)
            first = np.zeros_like(hit)
            np.put_along_axis(first, hit.argmax(-1)[..., None], True, -1)
            share = np.sign(values) * (first & hit).reshape(values.shape)
        else:
            share = _share(values, norm, power)
        target += np.where(norm == 0, 0, share * given)
    return dx


def _share(values: Array, norm: Array, p: float) -> Array:
    """What each of these inputs adds to a norm as it grows."""
    share = np.sign(values) * (np.abs(values) / norm) ** (p - 1)
    if p < 1:
        share[values == 0] = 0
    return share
