"""Fractional max pooling (Graham 2014): the steps between windows alternate at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .arguments import flag, operand, operation
from .geometry import Ints, fractional_starts
from .layouts import Layout
from .pool_passes import maxima, maxima_and_indices, routed
from .pool_problem import PoolProblem, real_operand, spatial_layout
from .reading import per_axis
from .reduction import PlaneAxis

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


def _sizes(op: str, output_size: Any, output_ratio: Any, sizes: Ints, kernel: Ints) -> Ints:
    """The output's spatial sizes, given or as fractions of the input's."""
    if (output_size is None) == (output_ratio is None):
        given = "neither" if output_size is None else "both"
        raise ValueError(f"{op}: needs one of output_size and output_ratio, got {given}; use output_size={sizes}")
    if output_size is not None:
        out = per_axis(op, "output_size", output_size, len(sizes), 1)
    else:
        ratios = output_ratio if isinstance(output_ratio, (tuple, list)) else (output_ratio,) * len(sizes)
        if len(ratios) != len(sizes):
            raise ValueError(f"{op}: output_ratio has {len(ratios)} values, needs {len(sizes)}; use one per axis")
        out = tuple(int(n * _ratio(op, r, i)) for i, (n, r) in enumerate(zip(sizes, ratios, strict=True)))
    for i, (n, k, o) in enumerate(zip(sizes, kernel, out, strict=True)):
        if k > n:
            raise ValueError(f"{op}: the kernel does not fit on axis {i}: kernel {k} > size {n}; use a smaller kernel")
        if not 1 <= o <= n - k + 1:
            raise ValueError(
                f"{op}: output size {o} on axis {i} is out of reach: needs 1 <= output size <= size - kernel "
                f"+ 1 = {n} - {k} + 1 = {n - k + 1}; use output_size={min(max(o, 1), n - k + 1)} there"
            )
    return out


def _ratio(op: str, ratio: Any, axis: int) -> float:
    if isinstance(ratio, (bool, np.bool_)) or not isinstance(ratio, (int, float, np.integer, np.floating)):
        raise TypeError(
            f"{op}: output_ratio on axis {axis} must be a number, got {ratio!r:.60} of type "
            f"{type(ratio).__name__}; use 0.7"
        )
    if not 0 < ratio < 1:
        raise ValueError(f"{op}: output_ratio on axis {axis} must be between 0 and 1, got {ratio}; use 0.7")
    return float(ratio)


def _read_samples(op: str, samples: Any, rng: Any, x_shape: Ints, layout: Layout) -> Array:
    """One number in [0, 1) per plane and axis, (N, C, rank): the caller's, or drawn."""
    n, c, *sizes = layout.canonical_shape(x_shape)
    shape = (*(x_shape[a] for a in layout.order[: layout.batch_axes]), c, len(sizes))
    if samples is None:
        try:
            return np.random.default_rng(rng).random((n, c, len(sizes)))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{op}: rng={rng!r:.60} is no seed: {error}; use rng=0 or a Generator") from None
    array = operand(op, "samples", samples)
    if array.dtype.kind in "iuc":
        raise TypeError(f"{op}: samples has dtype {array.dtype}, needs floats in [0, 1); use rng.random({shape})")
    if array.shape not in (shape, (n, c, len(sizes))):
        raise ValueError(
            f"{op}: samples.shape is {array.shape}, expected {shape}, one number per plane and axis; "
            f"use rng.random({shape})"
        )
    array = array.astype(np.float64)
    bad = ~((array >= 0) & (array < 1))
    if bad.any():
        first = [int(i) for i in np.argwhere(bad)[0]]
        raise ValueError(
            f"{op}: samples{first} = {array[tuple(first)]} is out of range: needs 0 <= sample < 1; "
            f"use rng.random({shape})"
        )
    return array.reshape(n, c, len(sizes))


def _read(
    op: str, x_shape: Ints, kernel: Any, wanted: tuple[Any, Any], draw: tuple[Any, Any], layout: Any
) -> PoolProblem:
    order = spatial_layout(op, "x", x_shape, kernel, layout)
    n, c, *spatial = order.canonical_shape(x_shape)
    sizes = tuple(spatial)
    k = per_axis(op, "kernel", kernel, len(sizes), 1)
    out = _sizes(op, *wanted, sizes, k)
    samples = _read_samples(op, *draw, x_shape, order)
    axes = []
    for i, (length, taps, o) in enumerate(zip(sizes, k, out, strict=True)):
        starts = [fractional_starts(length, taps, o, u) for u in samples[..., i].reshape(-1).tolist()]
        axes.append(PlaneAxis(taps, np.array(starts, np.int64).reshape(n, c, o)))
    return PoolProblem(op, order, x_shape, tuple(axes), f"kernel {k} and output_size {out}")


@operation
def fractional_max_pool(
    x: ArrayLike,
    kernel: Any,
    *,
    output_size: Any = None,
    output_ratio: Any = None,
    samples: ArrayLike | None = None,
    rng: Any = None,
    return_indices: bool = False,
    layout: str = "channels_first",
    out: Array | None = None,
) -> Any:
    """The largest value of windows that start at pseudo-random places.

        (N, C, *in) -> (N, C, *output_size)

    With a = (in - k) / (out - 1) and a sample u in [0, 1), window i starts at int((i + u) a) - int(u a), the
    last at in - k. Every plane and axis has its own u.

    Parameters
    ----------
    x : array_like
        (*batch, C, *in), real.
    kernel : int or sequence of int
        Window size.
    output_size : int or sequence of int, optional
        At most in - k + 1.
    output_ratio : float or sequence of float, optional
        Output size as a fraction of the input's; one of the two is needed.
    samples : array_like, optional
        The u's, (N, C, rank) in the order of the spatial axes (torch's two-dimensional operator takes the
        width's first).
    rng : seed or numpy.random.Generator, optional
        Draws the samples where they are not given.
    return_indices : bool
        Also return where each maximum is, flat in the plane.
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
        As `npconv.max_pool`; also if the output size is out of reach or a sample is outside [0, 1).

    References
    ----------
    B. Graham, "Fractional Max-Pooling", arXiv:1412.6071, 2014.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.fractional_max_pool(np.arange(7.0).reshape(1, 1, 7), (2,), output_size=4, samples=[[[0.5]]])
    array([[[1., 3., 5., 6.]]])
    """
    op = "fractional_max_pool"
    x = real_operand(op, "x", x)
    p = _read(op, x.shape, kernel, (output_size, output_ratio), (samples, rng), layout)
    wanted = flag(op, "return_indices", return_indices)
    return maxima_and_indices(p, x, "plane", out) if wanted else maxima(p, x, out)


@operation
def fractional_max_pool_grad(
    g: ArrayLike,
    x: ArrayLike,
    kernel: Any,
    *,
    output_size: Any = None,
    output_ratio: Any = None,
    samples: ArrayLike,
    layout: str = "channels_first",
    out: Array | None = None,
) -> Array:
    """Gradient of `npconv.fractional_max_pool`: each g goes to the input that was the maximum of its window.

        (N, C, *out), (N, C, *in) -> (N, C, *in)

    Parameters
    ----------
    g, x : array_like
        Gradient of the output, input of the forward call.
    kernel, output_size, output_ratio, layout
        As in the forward call.
    samples : array_like
        The samples of the forward call; without them its windows cannot be found again.
    out : ndarray, optional
        C-contiguous array to write into.

    Returns
    -------
    ndarray
        Of x's shape.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.fractional_max_pool`; also if g does not have the shape of its output.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> x = np.arange(4.0).reshape(1, 1, 4)
    >>> npconv.fractional_max_pool_grad(np.array([[[5.0, 7.0]]]), x, (2,), output_size=2, samples=[[[0.5]]])
    array([[[0., 5., 0., 7.]]])
    """
    op = "fractional_max_pool_grad"
    g, x = real_operand(op, "g", g), real_operand(op, "x", x)
    if samples is None:
        raise TypeError(f"{op}: samples is None, needs those of the forward call; draw them with rng.random before it")
    p = _read(op, x.shape, kernel, (output_size, output_ratio), (samples, None), layout)
    p.check_gradient(g)
    return routed(p, {"g": g, "x": x}, out)
