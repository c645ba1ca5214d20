"""unfold and fold (im2col and col2im) for any rank: an adjoint pair."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from .arguments import common_dtypes, integer_compute, largest_magnitude, operand, operation
from .geometry import ConvGeometry, Ints, total
from .layouts import channels_are_last, input_layout
from .memory import check_memory, check_output
from .reading import check_windows, per_axis, resolve_padding, spatial_axes
from .windows import conv_view, pad, pad_geometry, tap_slice

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


def _rank(op: str, kernel: Any, ndim: int, layout: Any) -> int:
    """The number of spatial axes: that of a kernel tuple, of layout letters, or all axes after batch and channel."""
    if not isinstance(layout, str):
        raise TypeError(f"{op}: layout must be a string, got {layout!r} of type {type(layout).__name__}")
    if isinstance(kernel, (tuple, list)) or getattr(kernel, "ndim", 0) == 1:
        return len(kernel)
    if layout not in ("channels_first", "channels_last"):
        return len([c for c in layout if c not in "NC"])
    return max(1, ndim - 2)  # never 0: then the kernel would be ignored


def _read(
    op: str, x_shape: Ints, rank: int, batch: int, sizes: Ints, kernel: Any, stride: Any, padding: Any, dilation: Any
) -> ConvGeometry:
    k = per_axis(op, "kernel", kernel, rank, 1)
    s = per_axis(op, "stride", stride, rank, 1)
    d = per_axis(op, "dilation", dilation, rank, 1)
    pads = resolve_padding(op, padding, sizes, k, s, d)
    check_windows(op, sizes, k, d, pads)
    channels = x_shape[0]
    return ConvGeometry(batch, channels, channels, sizes, k, s, d, pads, (1,) * rank)


@operation
def unfold(
    x: ArrayLike, kernel: Any, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, layout: str = "channels_first"
) -> Array:
    """Gather every window of `x` into a column (im2col).

        (N, C, *in) -> (N, C prod(k), prod(out))       channels_last: (N, *in, C) -> (N, prod(out), prod(k) C)

    Parameters
    ----------
    x : array_like
        (*batch, C, *in). The rank is the length of `kernel`; for an int, every axis after batch and channel.
    kernel : int or sequence of int
        Window size.
    stride, dilation : int or sequence of int
        Step between windows and between taps.
    padding : int, sequence of int, sequence of (lo, hi), or str
        The grammar of `npconv.conv`; zeros.
    layout : str
        "channels_first", "channels_last", or letters.

    Returns
    -------
    ndarray
        The columns, x's dtype. Convolution is then one matrix product: ``w.reshape(O, -1) @ columns``.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.conv`.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.unfold(np.arange(4.0).reshape(1, 1, 4), 2)
    array([[[0., 1., 2.],
            [1., 2., 3.]]])
    """
    op = "unfold"
    x = operand(op, "x", x)
    rank = _rank(op, kernel, x.ndim, layout)
    if x.ndim < rank + 1:
        raise ValueError(
            f"{op}: x.shape is {x.shape}, {x.ndim} axes, expected {rank + 1} or more for {spatial_axes(rank)} "
            "(by kernel and layout); use a kernel with one entry per spatial axis of x"
        )
    x_layout = input_layout(op, layout, x.ndim, rank)
    batch, channels, *sizes = x_layout.canonical_shape(x.shape)
    geometry = _read(op, (channels,), rank, batch, tuple(sizes), kernel, stride, padding, dilation)
    columns, positions = channels * geometry.taps, total(geometry.out_shape)
    check_output(op, (batch, columns, positions), x.dtype)
    windows = conv_view(pad_geometry(x_layout.canonical(x), geometry), geometry)
    outs, taps = range(2, 2 + rank), range(2 + rank, 2 + 2 * rank)
    leading = tuple(x.shape[a] for a in x_layout.order[: x_layout.batch_axes])
    if channels_are_last(layout):
        gathered = windows.transpose(0, *outs, *taps, 1).reshape(*leading, positions, columns)
    else:
        gathered = windows.transpose(0, 1, *taps, *outs).reshape(*leading, columns, positions)
    return gathered.copy() if np.may_share_memory(gathered, x) else gathered


@operation
def fold(
    columns: ArrayLike,
    output_size: Any,
    kernel: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    layout: str = "channels_first",
) -> Array:
    """Add every column back to where `unfold` read it from (col2im): the adjoint of `unfold`.

        (N, C prod(k), prod(out)) -> (N, C, *in)       channels_last: (N, prod(out), prod(k) C) -> (N, *in, C)

    Parameters
    ----------
    columns : array_like
        What `unfold` returns for this layout, or its gradient.
    output_size : sequence of int
        The spatial size of the result, *in.
    kernel, stride, padding, dilation, layout
        Those of `unfold`.

    Returns
    -------
    ndarray
        Positions that several windows share hold the sum. Integers add up in int64.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.conv`; also if the columns do not fit the sizes.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.fold(np.ones((1, 2, 3)), (4,), 2)
    array([[[1., 2., 2., 1.]]])
    """
    op = "fold"
    columns = operand(op, "columns", columns)
    if not isinstance(output_size, (tuple, list)):
        raise TypeError(
            f"{op}: output_size must be a tuple of ints, got {output_size!r} of type {type(output_size).__name__}"
        )
    sizes = per_axis(op, "output_size", output_size, len(output_size), 0)
    rank = len(sizes)
    if columns.ndim < 2:
        raise ValueError(
            f"{op}: columns.shape is {columns.shape}, expected 2 or more axes, (*batch, C prod(k), prod(out))"
        )
    last = channels_are_last(layout) if isinstance(layout, str) else False
    _rank(op, kernel, rank + 2, layout)
    *leading, rows, positions = (
        columns.shape if not last else (*columns.shape[:-2], columns.shape[-1], columns.shape[-2])
    )
    geometry = _read(op, (1,), rank, total(leading), sizes, kernel, stride, padding, dilation)
    if rows % geometry.taps or positions != total(geometry.out_shape):
        raise ValueError(
            f"{op}: columns.shape is {columns.shape}, expected {total(geometry.out_shape)} columns (windows {geometry.out_shape}) "
            f"of a multiple of {geometry.taps} rows (kernel {geometry.kernel}), got {positions} of {rows}"
        )
    channels = rows // geometry.taps
    dtypes = common_dtypes(op, {"columns": columns.dtype})
    compute = dtypes.compute
    if dtypes.exact:
        integer_compute(op, largest_magnitude(columns) * geometry.taps)
        compute = np.dtype(np.int64)
    batch = total(leading)
    check_memory(
        op, batch * channels * total(geometry.padded_shape) * compute.itemsize, f"an output of spatial size {sizes}"
    )
    if last:
        split = columns.reshape(batch, *geometry.out_shape, *geometry.kernel, channels)
        order = (0, 2 * rank + 1, *range(1 + rank, 1 + 2 * rank), *range(1, 1 + rank))
        parts = split.transpose(order)
    else:
        parts = columns.reshape(batch, channels, *geometry.kernel, *geometry.out_shape)
    summed = np.zeros((batch, channels, *geometry.padded_shape), compute)
    with np.errstate(all="ignore"):
        for tap in product(*map(range, geometry.kernel)):
            summed[tap_slice(tap, geometry.out_shape, geometry.stride, geometry.dilation)] += parts[
                (slice(None), slice(None), *tap)
            ]
        x = pad(summed, tuple((-lo, -hi) for lo, hi in geometry.padding)).astype(dtypes.result)
    if last:
        return np.ascontiguousarray(np.moveaxis(x, 1, -1)).reshape(*leading, *sizes, channels)
    return np.ascontiguousarray(x).reshape(*leading, channels, *sizes)
