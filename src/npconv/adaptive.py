"""Adaptive pooling: the output's size is given, bin i spans `i L / o` to `(i + 1) L / o` (rule R19)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .arguments import flag, operation, shape_of
from .geometry import Ints, adaptive_axis
from .pool_passes import divisors, maxima, maxima_and_indices, means, routed, shared
from .pool_problem import PoolProblem, countable, is_plain, real_operand, spatial_layout
from .reading import per_axis

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


def read_adaptive(op: str, x_shape: Ints, size: Any, layout: Any) -> PoolProblem:
    """Validate the sizes wanted; None keeps an axis."""
    plain = type(layout) is str and is_plain(size)
    return (_read_once if plain else _read_now)(op, x_shape, size, layout)


def _read_now(op: str, x_shape: Ints, size: Any, layout: Any) -> PoolProblem:
    order = spatial_layout(op, "x", x_shape, size, layout)
    sizes = order.canonical_shape(x_shape)[2:]
    if isinstance(size, (tuple, list)):
        given: Any = tuple(n if o is None else o for o, n in zip(size, sizes, strict=True))
    else:
        given = sizes if size is None else size
    wanted = per_axis(op, "size", given, len(sizes), 0)
    axes = tuple(adaptive_axis(n, o) for n, o in zip(sizes, wanted, strict=True))
    return countable(PoolProblem(op, order, x_shape, axes, f"size {wanted}"))


_read_once = lru_cache(maxsize=1024)(_read_now)


@operation
def adaptive_max_pool(
    x: ArrayLike,
    size: Any,
    *,
    return_indices: bool = False,
    layout: str = "channels_first",
    out: Array | None = None,
) -> Any:
    """The largest value of each of `size` bins.

        (N, C, *in) -> (N, C, *size)       bin i of o reads floor(i in / o) up to ceil((i + 1) in / o)

    Parameters
    ----------
    x : array_like
        (*batch, C, *in), real.
    size : int, None, or sequence of int or None
        Output size per spatial axis; None keeps an axis, 0 gives an empty output. A sequence tells the rank.
    return_indices : bool
        Also return where each maximum is, flat in the plane: the first of equal ones, the first NaN of all.
    layout : str
        "channels_first", "channels_last", or letters such as "NCHW" and "HWC".
    out : ndarray, optional
        C-contiguous array to write the maxima into.

    Returns
    -------
    ndarray or (ndarray, ndarray)
        The maxima in x's dtype, and with `return_indices` int64 indices.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.max_pool`.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.adaptive_max_pool(np.arange(7.0).reshape(1, 1, 7), 3, return_indices=True)
    (array([[[2., 4., 6.]]]), array([[[2, 4, 6]]]))
    """
    op = "adaptive_max_pool"
    x = real_operand(op, "x", x)
    p = read_adaptive(op, x.shape, size, layout)
    wanted = flag(op, "return_indices", return_indices)
    return maxima_and_indices(p, x, "plane", out) if wanted else maxima(p, x, out)


@operation
def adaptive_max_pool_grad(
    g: ArrayLike, x: ArrayLike, size: Any, *, layout: str = "channels_first", out: Array | None = None
) -> Array:
    """Gradient of `npconv.adaptive_max_pool`: each g goes to the input that was the maximum of its bin.

        (N, C, *size), (N, C, *in) -> (N, C, *in)

    Parameters
    ----------
    g, x : array_like
        Gradient of the output, input of the forward call.
    size, layout
        As in the forward call.
    out : ndarray, optional
        C-contiguous array to write into.

    Returns
    -------
    ndarray
        Of x's shape.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.adaptive_max_pool`; also if g does not have the shape of its output.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.adaptive_max_pool_grad(np.array([[[5.0, 7.0]]]), np.array([[[1.0, 9.0, 2.0]]]), 2)
    array([[[ 0., 12.,  0.]]])
    """
    op = "adaptive_max_pool_grad"
    g, x = real_operand(op, "g", g), real_operand(op, "x", x)
    p = read_adaptive(op, x.shape, size, layout)
    p.refuse_empty_windows()
    p.check_gradient(g)
    return routed(p, {"g": g, "x": x}, out)


@operation
def adaptive_avg_pool(x: ArrayLike, size: Any, *, layout: str = "channels_first", out: Array | None = None) -> Array:
    """The mean of each of `size` bins.

        (N, C, *in) -> (N, C, *size)       bin i of o reads floor(i in / o) up to ceil((i + 1) in / o)

    Parameters
    ----------
    x, size, layout, out
        As for `npconv.adaptive_max_pool`.

    Returns
    -------
    ndarray
        In x's layout and dtype; float64 for integers.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.max_pool`.

    Notes
    -----
    Every bin is summed by itself: differences of a running sum would cancel.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.adaptive_avg_pool(np.arange(7.0).reshape(1, 1, 7), 3)
    array([[[1., 3., 5.]]])
    """
    op = "adaptive_avg_pool"
    x = real_operand(op, "x", x)
    p = read_adaptive(op, x.shape, size, layout)
    return means(p, x, divisors(p, False, None), out)


@operation
def adaptive_avg_pool_grad(
    g: ArrayLike,
    input_shape: Ints,
    size: Any,
    *,
    layout: str = "channels_first",
    out: Array | None = None,
) -> Array:
    """Gradient of `npconv.adaptive_avg_pool`: each g, over the size of its bin, goes to every input there.

        (N, C, *size) -> (N, C, *in)

    Parameters
    ----------
    g : array_like
        Gradient of the output.
    input_shape : tuple of int
        The shape of x.
    size, layout
        As in the forward call.
    out : ndarray, optional
        C-contiguous array to write into.

    Returns
    -------
    ndarray
        Of `input_shape`, in g's dtype; float64 for integers.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.adaptive_avg_pool`; also if g does not have the shape of its output.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.adaptive_avg_pool_grad(np.array([[[2.0, 4.0]]]), (1, 1, 3), 2)
    array([[[1., 3., 2.]]])
    """
    op = "adaptive_avg_pool_grad"
    g = real_operand(op, "g", g)
    p = read_adaptive(op, shape_of(op, "input_shape", input_shape), size, layout)
    p.check_gradient(g)
    return shared(p, g, divisors(p, False, None), out)
