"""Gradients of max_pool, avg_pool and lp_pool: g copied, shared out or weighted, and summed over windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from .arguments import choice, common_dtypes, operand, operation, shape_of
from .geometry import Ints
from .indices import SPACES
from .memory import output
from .pool_passes import divisors, norm_gradient, read_power, routed, shared
from .pool_problem import PoolOptions, float_dtype, read_pool, real_operand, with_defaults

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

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
    >>> import numpy as np, npconv
    >>> x = np.array([[[1.0, 3.0, 2.0, 2.0]]])
    >>> npconv.max_pool_grad(np.array([[[5.0, 7.0]]]), x, (2,))
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
    >>> import numpy as np, npconv
    >>> npconv.avg_pool_grad(np.array([[[2.0, 4.0]]]), (1, 1, 3), (2,), stride=1)
    array([[[1., 3., 2.]]])
    """
    op = "avg_pool_grad"
    full = with_defaults(op, options, ("count_include_pad", "divisor", "out"))
    g = real_operand(op, "g", g)
    p = read_pool(op, shape_of(op, "input_shape", input_shape), kernel, full)
    p.check_gradient(g)
    return shared(p, g, divisors(p, count_include_pad, divisor), out)


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
        p = inf the first largest |x| of a window gets its g.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.lp_pool`; also if g does not have the shape of the forward call's output.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.lp_pool_grad(np.array([[[5.0]]]), np.array([[[-3.0, 4.0]]]), (2,))
    array([[[-3.,  4.]]])
    """
    op = "lp_pool_grad"
    full = with_defaults(op, options, ("p", "out"))
    g, x = real_operand(op, "g", g), real_operand(op, "x", x)
    problem, power = read_pool(op, x.shape, kernel, full), read_power(op, p)
    problem.check_gradient(g)
    dtype = float_dtype(common_dtypes(op, {"g": g.dtype, "x": x.dtype}).result)
    dx = output(op, out, problem.x_shape, dtype, {"g": g, "x": x})
    with np.errstate(all="ignore"):
        gs, xs = problem.layout.canonical(g), problem.layout.canonical(x)
        problem.layout.canonical(dx)[...] = norm_gradient(problem, gs, xs.astype(np.float64), power)
    return dx
