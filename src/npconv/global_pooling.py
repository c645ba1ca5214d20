"""Global pooling: one window over the whole plane."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .arguments import flag, operation, shape_of
from .geometry import Ints, adaptive_axis
from .layouts import Layout
from .pool_passes import divisors, maxima, means, routed, shared
from .pool_problem import PoolProblem, real_operand, spatial_layout

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


def _read(op: str, x_shape: Ints, layout: Any) -> PoolProblem:
    return (_read_once if type(layout) is str else _read_now)(op, x_shape, layout)


def _read_now(op: str, x_shape: Ints, layout: Any) -> PoolProblem:
    order = spatial_layout(op, "x", x_shape, None, layout)
    axes = tuple(adaptive_axis(n, 1) for n in order.canonical_shape(x_shape)[2:])
    return PoolProblem(op, order, x_shape, axes, "one window per plane")


_read_once = lru_cache(maxsize=1024)(_read_now)


def _spatial(layout: Layout) -> Ints:
    return layout.order[layout.batch_axes + 1 :]


def _flat_shape(p: PoolProblem) -> Ints:
    """The output's shape without its spatial axes."""
    return tuple(n for axis, n in enumerate(p.y_shape) if axis not in _spatial(p.layout))


def _with_space(p: PoolProblem, g: Array, keepdims: bool) -> Array:
    """A gradient with the spatial axes that the forward call kept or dropped."""
    if keepdims:
        p.check_gradient(g)
        return g
    if g.shape != _flat_shape(p):
        raise ValueError(
            f"{p.op}: g.shape is {g.shape}, expected {_flat_shape(p)}, the output of x.shape {p.x_shape} "
            "with keepdims=False; use the arguments of the forward call"
        )
    return np.expand_dims(g, _spatial(p.layout))


@operation
def global_max_pool(
    x: ArrayLike, *, keepdims: bool = True, layout: str = "channels_first", out: Array | None = None
) -> Array:
    """The largest value of every plane.

        (N, C, *in) -> (N, C, 1, ..., 1), or (N, C) without `keepdims`

    Parameters
    ----------
    x : array_like
        (N, C, *in), real; without a batch axis only if `layout` is in letters.
    keepdims : bool
        Keep the spatial axes, of size 1.
    layout : str
        "channels_first", "channels_last", or letters such as "NCHW" and "HWC".
    out : ndarray, optional
        C-contiguous array of shape (N, C, 1, ..., 1) in x's layout to write into.

    Returns
    -------
    ndarray
        In x's dtype; NaN where the plane holds one.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.max_pool`.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.global_max_pool(np.arange(8.0).reshape(1, 2, 2, 2), keepdims=False)
    array([[3., 7.]])
    """
    op = "global_max_pool"
    x = real_operand(op, "x", x)
    p, keep = _read(op, x.shape, layout), flag(op, "keepdims", keepdims)
    y = maxima(p, x, out)
    return y if keep else y.reshape(_flat_shape(p))


@operation
def global_max_pool_grad(
    g: ArrayLike,
    x: ArrayLike,
    *,
    keepdims: bool = True,
    layout: str = "channels_first",
    out: Array | None = None,
) -> Array:
    """Gradient of `npconv.global_max_pool`: g goes to the first maximum of its plane.

        (N, C, 1, ..., 1), (N, C, *in) -> (N, C, *in)

    Parameters
    ----------
    g, x : array_like
        Gradient of the output, input of the forward call.
    keepdims, layout
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
        As `npconv.global_max_pool`; also if g does not have the shape of its output.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.global_max_pool_grad(np.array([[[5.0]]]), np.array([[[1.0, 9.0, 9.0]]]))
    array([[[0., 5., 0.]]])
    """
    op = "global_max_pool_grad"
    g, x = real_operand(op, "g", g), real_operand(op, "x", x)
    p = _read(op, x.shape, layout)
    p.refuse_empty_windows()
    g = _with_space(p, g, flag(op, "keepdims", keepdims))
    return routed(p, {"g": g, "x": x}, out)


@operation
def global_avg_pool(
    x: ArrayLike, *, keepdims: bool = True, layout: str = "channels_first", out: Array | None = None
) -> Array:
    """The mean of every plane.

        (N, C, *in) -> (N, C, 1, ..., 1), or (N, C) without `keepdims`

    Parameters
    ----------
    x, keepdims, layout, out
        As for `npconv.global_max_pool`.

    Returns
    -------
    ndarray
        In x's dtype; float64 for integers. An empty plane gives 0.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.max_pool`.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.global_avg_pool(np.arange(8.0).reshape(1, 2, 2, 2), keepdims=False)
    array([[1.5, 5.5]])
    """
    op = "global_avg_pool"
    x = real_operand(op, "x", x)
    p, keep = _read(op, x.shape, layout), flag(op, "keepdims", keepdims)
    y = means(p, x, divisors(p, False, None), out)
    return y if keep else y.reshape(_flat_shape(p))


@operation
def global_avg_pool_grad(
    g: ArrayLike,
    input_shape: Ints,
    *,
    keepdims: bool = True,
    layout: str = "channels_first",
    out: Array | None = None,
) -> Array:
    """Gradient of `npconv.global_avg_pool`: g, over the size of the plane, goes everywhere.

        (N, C, 1, ..., 1) -> (N, C, *in)

    Parameters
    ----------
    g : array_like
        Gradient of the output.
    input_shape : tuple of int
        The shape of x.
    keepdims, layout
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
        As `npconv.global_avg_pool`; also if g does not have the shape of its output.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.global_avg_pool_grad(np.array([[8.0]]), (1, 1, 4), keepdims=False)
    array([[[2., 2., 2., 2.]]])
    """
    op = "global_avg_pool_grad"
    g = real_operand(op, "g", g)
    p = _read(op, shape_of(op, "input_shape", input_shape), layout)
    g = _with_space(p, g, flag(op, "keepdims", keepdims))
    return shared(p, g, divisors(p, False, None), out)
