"""Max unpooling: put values back where max_pool found them, zeros elsewhere (rule R17)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .arguments import choice, common_dtypes, operand, operation
from .geometry import Ints, total, transposed_size
from .indices import SPACES, to_plane
from .layouts import Layout
from .memory import output
from .pool_problem import real_operand, spatial_layout
from .reading import per_axis, resolve_padding

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


def unpooled_sizes(op: str, sizes: Ints, kernel: Any, stride: Any, padding: Any, output_size: Any) -> Ints:
    """The spatial sizes of the output: by default those of the smallest input that pools to `sizes`."""
    rank = len(sizes)
    k = per_axis(op, "kernel", kernel, rank, 1)
    s = k if stride is None else per_axis(op, "stride", stride, rank, 1)
    if isinstance(padding, str) and padding in ("same", "same_lower"):
        raise ValueError(f"{op}: padding={padding!r} needs the unknown size; use the (lo, hi) pairs it stood for")
    pads = resolve_padding(op, padding, sizes, k, s, (1,) * rank)
    axes = zip(sizes, k, s, pads, strict=True)
    default = tuple(transposed_size(n, lo, hi, e, step, 0) for n, e, step, (lo, hi) in axes)
    wanted = default if output_size is None else per_axis(op, "output_size", output_size, rank, 0)
    for i, (size, usual, step) in enumerate(zip(wanted, default, s, strict=True)):
        if size != usual and not usual - step < size < usual + step:
            raise ValueError(
                f"{op}: output_size {size} on axis {i} is out of reach: needs {usual} - {step} < size < "
                f"{usual} + {step}, where {usual} = (size - 1) stride - lo - hi + kernel; "
                f"use output_size={default}"
            )
        if size < 0:
            raise ValueError(
                f"{op}: the output size on axis {i} is (size - 1) stride - lo - hi + kernel = {size}, "
                "needs >= 0; use less padding"
            )
    return wanted


def _read(
    op: str,
    shape: Ints,
    indices: ArrayLike,
    kernel: Any,
    window: tuple[Any, Any, Any],
    space: Any,
    layout: Any,
) -> tuple[Layout, Ints, Array]:
    """The layout, the output's spatial sizes and plane indices, (N, C, *in), of arrays of `shape`."""
    order = spatial_layout(op, "x", shape, kernel, layout)
    n, c, *spatial = order.canonical_shape(shape)
    sizes = unpooled_sizes(op, tuple(spatial), kernel, *window)
    numbers = operand(op, "indices", indices)
    if numbers.shape != shape:
        raise ValueError(f"{op}: indices.shape is {numbers.shape}, expected {shape}, that of x; use what max_pool gave")
    space = choice(op, "indices_space", space, SPACES)
    described = f"an output of spatial sizes {sizes}"
    return order, sizes, to_plane(op, numbers, space, (n, c, *sizes), order, described)


@operation
def max_unpool(
    x: ArrayLike,
    indices: ArrayLike,
    kernel: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
    indices_space: str = "plane",
    layout: str = "channels_first",
    out: Array | None = None,
) -> Array:
    """Put every value of `x` at its index in a plane of zeros.

        (N, C, *in) -> (N, C, *out)       out = (in - 1) stride - lo - hi + k, or output_size

    Parameters
    ----------
    x : array_like
        (*batch, C, *in), what `npconv.max_pool` returned.
    indices : array_like of int
        Of x's shape. Of several equal ones in a plane the last in row-major order stays.
    kernel, stride, padding
        As in that call; they tell the output's size and nothing else.
    output_size : int or sequence of int, optional
        Spatial sizes, less than one stride from the default: several sizes pool to one.
    indices_space : {"plane", "onnx", "onnx_column_major", "tf", "tf_batch"}
        What the indices count, in the output (rule R16).
    layout : str
        "channels_first", "channels_last", or letters such as "NCHW" and "HWC".
    out : ndarray, optional
        C-contiguous array to write into.

    Returns
    -------
    ndarray
        In x's layout and dtype.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.max_pool`; also if an index is outside its plane: the first is named.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.max_unpool(np.array([[[7.0, 8.0]]]), np.array([[[1, 2]]]), (2,))
    array([[[0., 7., 8., 0.]]])
    """
    op = "max_unpool"
    x = real_operand(op, "x", x)
    window = (stride, padding, output_size)
    order, sizes, planes = _read(op, x.shape, indices, kernel, window, indices_space, layout)
    c = planes.shape[1]
    y = output(op, out, order.user_shape(x.shape, c, sizes), x.dtype, {"x": x})
    view = order.canonical(y)
    whole = view if view.flags.c_contiguous else np.empty(view.shape, x.dtype)
    flat = whole.reshape(-1)
    flat[...] = 0
    # of repeated positions an assignment keeps the last, in the order of the values
    flat[_whole_tensor(planes, sizes)] = order.canonical(x).reshape(-1)
    if whole is not view:
        view[...] = whole
    return y


def _whole_tensor(planes: Array, sizes: Ints) -> Array:
    """Plane indices as positions in the flattened (N, C, *sizes)."""
    n, c = planes.shape[:2]
    starts = (np.arange(n * c, dtype=np.int64) * total(sizes)).reshape(n, c, *(1,) * (planes.ndim - 2))
    return (planes + starts).reshape(-1)


@operation
def max_unpool_grad(
    g: ArrayLike,
    indices: ArrayLike,
    kernel: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
    indices_space: str = "plane",
    layout: str = "channels_first",
    out: Array | None = None,
) -> Array:
    """Gradient of `npconv.max_unpool`: every x gets the g at its index, 0 where a later x took its place.

        (N, C, *out), (N, C, *in) of indices -> (N, C, *in)

    Parameters
    ----------
    g : array_like
        Gradient of the output.
    indices : array_like of int
        The indices of the forward call; they have x's shape.
    kernel, stride, padding, output_size, indices_space, layout
        As in the forward call.
    out : ndarray, optional
        C-contiguous array to write into.

    Returns
    -------
    ndarray
        Of the indices' shape, in g's dtype; int64 for integers.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.max_unpool`; also if g does not have the shape of its output.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.max_unpool_grad(np.array([[[1.0, 2.0, 3.0, 4.0]]]), np.array([[[1, 2]]]), (2,))
    array([[[2., 3.]]])
    """
    op = "max_unpool_grad"
    g, numbers = real_operand(op, "g", g), operand(op, "indices", indices)
    window = (stride, padding, output_size)
    order, sizes, planes = _read(op, numbers.shape, numbers, kernel, window, indices_space, layout)
    expected = order.user_shape(numbers.shape, planes.shape[1], sizes)
    if g.shape != expected:
        raise ValueError(
            f"{op}: g.shape is {g.shape}, expected {expected}, the output for indices.shape "
            f"{numbers.shape}, kernel {kernel}, stride {stride} and padding {padding}; "
            "use the arguments of the forward call"
        )
    dx = output(op, out, numbers.shape, common_dtypes(op, {"g": g.dtype}).result, {"g": g, "indices": numbers})
    positions = _whole_tensor(planes, sizes)
    owner = np.empty(g.size, np.int64)
    order_of_values = np.arange(positions.size)
    owner[positions] = order_of_values
    values = np.where(owner[positions] == order_of_values, order.canonical(g).reshape(-1)[positions], 0)
    order.canonical(dx)[...] = values.reshape(planes.shape)
    return dx
