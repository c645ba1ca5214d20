"""Gradients of max_pool, avg_pool and lp_pool. Pooling is piecewise linear: each gradient is one pass of copies or sums."""

from __future__ import annotations

import math
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arguments import choice, operand, operation, output, shape_of
from .geometry import Ints
from .indices import SPACES, number_strides, to_plane
from .pool_problem import (
    PoolOptions,
    PoolProblem,
    compute_dtype,
    float_dtype,
    read_pool,
    real_operand,
    routed_dtype,
    with_defaults,
)
from .pooling import divisors, norms, read_power
from .reduction import (
    each_tap,
    overlap,
    reduce_windows,
    scatter_windows,
    spread_windows,
    winner_numbers,
    winning_taps,
)

Array = NDArray[Any]


@operation
def max_pool_grad(
    g: ArrayLike,
    x: ArrayLike,
    kernel: Any,
    *,
    indices: ArrayLike | None = None,
    indices_space: str = "plane",
    out: Array | None = None,
    **options: Unpack[PoolOptions],
) -> Array:
    """Gradient of `npconv.max_pool`: each g goes to the input that was the maximum of its window.

        (N, C, *out), (N, C, *in) -> (N, C, *in)

    Parameters
    ----------
    g : array_like
        Gradient of the output.
    x : array_like
        The input of the forward call.
    kernel : int or sequence of int
        As there.
    indices : array_like of int, optional
        The indices that the forward call returned; found again from x where they are not given.
    indices_space : str
        What they count; the `indices` of the forward call.
    out : ndarray, optional
        C-contiguous array to write into.
    **options
        stride, padding, dilation, ceil_mode, cover_all and layout of the forward call.

    Returns
    -------
    ndarray
        Of x's shape. Inputs that several windows chose get the sum.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.max_pool`; also if g or the indices do not fit the forward call's output.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv.pooling_grads import max_pool_grad
    >>> x = np.array([[[1.0, 3.0, 2.0, 2.0]]])
    >>> max_pool_grad(np.array([[[5.0, 7.0]]]), x, (2,))
    array([[[0., 5., 7., 0.]]])
    """
    op = "max_pool_grad"
    full = with_defaults(op, options, ("indices", "indices_space", "out"))
    g, x = real_operand(op, "g", g), real_operand(op, "x", x)
    p = read_pool(op, x.shape, kernel, full)
    p.refuse_empty_windows()
    p.check_gradient(g)
    space = choice(op, "indices_space", indices_space, SPACES)
    saved = None if indices is None else operand(op, "indices", indices)
    return routed(p, {"g": g, "x": x}, out, saved, space)


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
        described = f"spatial sizes {p.canonical_shape[2:]}"
        planes = to_plane(p.op, indices, space, p.canonical_shape, p.layout, described)
    dx = output(p.op, out, p.x_shape, routed_dtype(p.op, operands, p.axes), operands)
    with np.errstate(all="ignore"):
        if indices is None:
            planes = winners(p, p.layout.canonical(x))
        gs = p.layout.canonical(g).astype(compute_dtype(dx.dtype), copy=False)
        spread = scatter_windows(gs, planes, p.canonical_shape[2:], overlap(p.axes))
        p.layout.canonical(dx)[...] = spread
    return dx


def winners(p: PoolProblem, x: Array) -> Array:
    """The plane index of the maximum of every window of a canonical x."""
    x = x.astype(compute_dtype(x.dtype), copy=False)
    best = np.empty_like(x, shape=(*x.shape[:2], *p.out_shape))
    reduce_windows(np.maximum, x, p.axes, best)
    planes = np.empty(best.shape, np.int64)
    winner_numbers(winning_taps(x, best, p.axes), p.axes, number_strides("plane", x.shape), planes)
    return planes


@operation
def avg_pool_grad(
    g: ArrayLike,
    input_shape: Ints,
    kernel: Any,
    *,
    count_include_pad: bool = True,
    divisor: int | None = None,
    out: Array | None = None,
    **options: Unpack[PoolOptions],
) -> Array:
    """Gradient of `npconv.avg_pool`: each g, over its divisor, goes to every input of its window.

        (N, C, *out) -> (N, C, *in)

    Parameters
    ----------
    g : array_like
        Gradient of the output.
    input_shape : tuple of int
        The shape of x; its values do not matter.
    kernel, count_include_pad, divisor
        As in the forward call.
    out : ndarray, optional
        C-contiguous array to write into.
    **options
        stride, padding, dilation, ceil_mode, cover_all and layout of the forward call.

    Returns
    -------
    ndarray
        Of `input_shape`, in g's dtype; float64 for integers.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.avg_pool`; also if g does not have the shape of the forward call's output.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv.pooling_grads import avg_pool_grad
    >>> avg_pool_grad(np.array([[[2.0, 4.0]]]), (1, 1, 3), (2,), stride=1)
    array([[[1., 3., 2.]]])
    """
    op = "avg_pool_grad"
    full = with_defaults(op, options, ("count_include_pad", "divisor", "out"))
    g = real_operand(op, "g", g)
    p = read_pool(op, shape_of(op, "input_shape", input_shape), kernel, full)
    p.check_gradient(g)
    return shared(p, g, divisors(p, count_include_pad, divisor), out)


def shared(p: PoolProblem, g: Array, divisor: int | Array, out: Array | None) -> Array:
    """Every g over its divisor, added to all inputs of its window, for a problem that was read."""
    dx = output(p.op, out, p.x_shape, float_dtype(g.dtype), {"g": g})
    compute = compute_dtype(dx.dtype)
    with np.errstate(all="ignore"):
        by = divisor if isinstance(divisor, int) else divisor.astype(compute)
        parts = np.divide(p.layout.canonical(g).astype(compute, copy=False), by)
        p.layout.canonical(dx)[...] = spread_windows(parts, p.axes, p.canonical_shape[2:])
    return dx


@operation
def lp_pool_grad(
    g: ArrayLike,
    x: ArrayLike,
    kernel: Any,
    *,
    p: float = 2.0,
    out: Array | None = None,
    **options: Unpack[PoolOptions],
) -> Array:
    """Gradient of `npconv.lp_pool`.

        dx[i] = sum over the windows of i of  sign(x[i]) (|x[i]| / y)^(p - 1) g

    Parameters
    ----------
    g, x : array_like
        Gradient of the output, input of the forward call.
    kernel, p
        As in the forward call.
    out : ndarray, optional
        C-contiguous array to write into.
    **options
        stride, padding, dilation, ceil_mode, cover_all and layout of the forward call.

    Returns
    -------
    ndarray
        Of x's shape. Where the norm is 0 it has no gradient and gives 0, as does an x of 0 with p < 1. For
        p = inf every largest |x| of a window gets its g.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.lp_pool`; also if g does not have the shape of the forward call's output.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv.pooling_grads import lp_pool_grad
    >>> lp_pool_grad(np.array([[[5.0]]]), np.array([[[-3.0, 4.0]]]), (2,))
    array([[[-3.,  4.]]])
    """
    op = "lp_pool_grad"
    full = with_defaults(op, options, ("p", "out"))
    g, x = real_operand(op, "g", g), real_operand(op, "x", x)
    problem, power = read_pool(op, x.shape, kernel, full), read_power(op, p)
    problem.check_gradient(g)
    dtype = np.result_type(float_dtype(g.dtype), float_dtype(x.dtype))
    dx = output(op, out, problem.x_shape, dtype, {"g": g, "x": x})
    with np.errstate(all="ignore"):
        gs, xs = problem.layout.canonical(g), problem.layout.canonical(x)
        problem.layout.canonical(dx)[...] = _norm_gradient(problem, gs, xs.astype(np.float64), power)
    return dx


def _norm_gradient(problem: PoolProblem, g: Array, x: Array, p: float) -> Array:
    y = norms(problem, x, p)
    dx = np.zeros_like(x)
    for (windows, values), (_, target) in zip(
        each_tap(x, problem.axes), each_tap(dx, problem.axes), strict=True
    ):
        norm = y[(..., *windows)]
        if math.isinf(p):
            share = np.sign(values) * (np.abs(values) == norm)
        else:
            share = np.sign(values) * (np.abs(values) / norm) ** (p - 1)
            if p < 1:
                share[values == 0] = 0
        target += np.where(norm == 0, 0, share * g[(..., *windows)])  # a view of dx: windows are slices
    return dx
