"""Layers that shrink a plane, without parameters."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..adaptive import adaptive_avg_pool, adaptive_avg_pool_grad, read_adaptive
from ..arguments import flag
from ..geometry import Ints, effective_kernel, total
from ..global_pooling import global_avg_pool, global_avg_pool_grad
from ..pool_problem import read_pool
from ..pooling import avg_pool, max_pool
from ..pooling_grads import avg_pool_grad, max_pool_grad
from ..reading import explicit_pads, one_int, padding_name, per_axis
from .layer import Layer
from .shapes import channel_axis, expect, read_kernel, read_layout, spatial, told

if TYPE_CHECKING:
    from .layer import Array, Arrays


class _Pool(Layer):
    """What pools with a window share: sizes that are checked when the layer is made."""

    op: str

    def __init__(
        self, kernel: Any, rank: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, layout: str
    ) -> None:
        super().__init__()
        op = type(self).__name__
        several = isinstance(kernel, (tuple, list)) or rank is not None
        self.kernel: Any = read_kernel(op, kernel, rank) if several else one_int(op, "kernel", kernel, 1)
        axes = next((len(v) for v in (self.kernel, stride, dilation) if isinstance(v, (tuple, list))), None)
        self.stride = None if stride is None else _per_axis(op, "stride", stride, axes)
        self.padding = padding_name(op, padding) if isinstance(padding, str) else _pads(op, padding, axes)
        self.dilation = _per_axis(op, "dilation", dilation, axes)
        self.ceil_mode = flag(op, "ceil_mode", ceil_mode)
        self.layout = read_layout(op, layout)
        names = ("stride", "padding", "dilation", "ceil_mode", "layout")
        self.options: dict[str, Any] = {name: getattr(self, name) for name in names}

    def out_shape(self, shape: Ints) -> Ints:
        self._expect(shape)
        return self._problem(shape).y_shape

    def _problem(self, shape: Ints) -> Any:
        return read_pool(self.op, shape, self._kernel(shape), {"cover_all": False, **self.options})

    def _kernel(self, shape: Ints) -> Ints:
        """One size per spatial axis: the operators would take further axes for batch axes."""
        return (self.kernel,) * (len(shape) - 2) if isinstance(self.kernel, int) else self.kernel

    def _expect(self, shape: Ints) -> None:
        expect(self.op, shape, self.options["layout"], None if isinstance(self.kernel, int) else len(self.kernel))

    def reach(self, shape: Ints) -> list[tuple[int, Fraction]]:
        return [(effective_kernel(a.taps, a.dilation), Fraction(a.stride)) for a in self._problem(shape).axes]

    def __repr__(self) -> str:
        usual: dict[str, Any] = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
        usual |= {"count_include_pad": True, "layout": "channels_first"}
        own = {name: getattr(self, name, value) for name, value in usual.items()}
        more = "".join(f", {name}={value!r}" for name, value in own.items() if value != usual[name])
        return f"{type(self).__name__}({self.kernel}{more})"


def _per_axis(op: str, name: str, value: Any, axes: int | None) -> Any:
    """`value` checked; it stays an int where the input decides how many axes there are."""
    several = isinstance(value, (tuple, list))
    return per_axis(op, name, value, axes or len(value), 1) if several else one_int(op, name, value, 1)


def _pads(op: str, padding: Any, axes: int | None) -> Any:
    """The same for an explicit padding."""
    several = isinstance(padding, (tuple, list))
    return explicit_pads(op, padding, axes or len(padding)) if several else one_int(op, "padding", padding)


class MaxPool(_Pool):
    """The largest value of every window; on the way back it takes the whole gradient.

    Parameters
    ----------
    kernel : int or tuple of int
        Size of the window; an int is for all spatial axes.
    stride, padding, dilation, ceil_mode, layout
        As in `npconv.max_pool`.
    rank : int, optional
        How many spatial axes, where `kernel` is an int and inputs of another rank are to be refused.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> y, saved = nn.MaxPool(2).forward(np.array([[[1.0, 5.0, 2.0, 3.0]]]))
    >>> y
    array([[[5., 3.]]])
    >>> nn.MaxPool(2).backward(np.array([[[10.0, 20.0]]]), saved)[0]
    array([[[ 0., 10.,  0., 20.]]])
    """

    op = "max_pool"

    def __init__(
        self,
        kernel: int | tuple[int, ...],
        *,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        layout: str = "channels_first",
        rank: int | None = None,
    ) -> None:
        super().__init__(kernel, rank, stride, padding, dilation, ceil_mode, layout)

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        self._expect(np.shape(x))
        y, winners = max_pool(x, self._kernel(np.shape(x)), return_indices=True, **self.options)
        return y, (winners, np.shape(x))

    def __call__(self, x: Array) -> Array:
        self._expect(np.shape(x))
        return max_pool(x, self._kernel(np.shape(x)), **self.options)

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        winners, shape = saved
        if not input_grad:
            return None, {}
        x = np.broadcast_to(np.zeros((), g.dtype), shape)  # where the maxima were is known, so x need not be
        return max_pool_grad(g, x, self._kernel(shape), indices=winners, **self.options), {}

    def kept_bytes(self, shape: Ints, itemsize: int) -> int:
        return total(self.out_shape(shape)) * np.dtype(np.int64).itemsize


class AvgPool(_Pool):
    """The mean of every window; on the way back each of its inputs gets an equal share.

    Parameters
    ----------
    kernel, stride, padding, dilation, ceil_mode, layout, rank
        As for `MaxPool`.
    count_include_pad : bool
        Whether padding counts in what a sum is divided by, as in `npconv.avg_pool`.
    """

    op = "avg_pool"

    def __init__(
        self,
        kernel: int | tuple[int, ...],
        *,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        layout: str = "channels_first",
        rank: int | None = None,
    ) -> None:
        super().__init__(kernel, rank, stride, padding, dilation, ceil_mode, layout)
        self.count_include_pad = flag(type(self).__name__, "count_include_pad", count_include_pad)

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        return self(x), np.shape(x)

    def __call__(self, x: Array) -> Array:
        self._expect(np.shape(x))
        return avg_pool(x, self._kernel(np.shape(x)), count_include_pad=self.count_include_pad, **self.options)

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        if not input_grad:
            return None, {}
        gx = avg_pool_grad(g, saved, self._kernel(saved), count_include_pad=self.count_include_pad, **self.options)
        return gx, {}


class AdaptiveAvgPool(Layer):
    """The mean of each of `size` bins, however large the input.

    Parameters
    ----------
    size : int, None, or tuple of int or None
        Output size per spatial axis; None keeps an axis.
    layout : {"channels_first", "channels_last"}
        Of inputs and outputs.
    rank : int, optional
        How many spatial axes, where inputs of another rank are to be refused.

    Examples
    --------
    >>> from npconv import nn
    >>> nn.AdaptiveAvgPool(2).out_shape((1, 8, 7, 9))
    (1, 8, 2, 2)
    """

    def __init__(self, size: Any, *, layout: str = "channels_first", rank: int | None = None) -> None:
        super().__init__()
        op = type(self).__name__
        self.layout = read_layout(op, layout)
        each = size if isinstance(size, (tuple, list)) else (size,)
        for n in each:
            if n is not None:
                one_int(op, "size", n, 0)
        self.size = tuple(each) if isinstance(size, (tuple, list)) else size
        self.rank = (
            len(each) if isinstance(size, (tuple, list)) else rank if rank is None else one_int(op, "rank", rank, 0)
        )

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        return self(x), np.shape(x)

    def __call__(self, x: Array) -> Array:
        self._expect(np.shape(x))
        return adaptive_avg_pool(x, self._sizes(np.shape(x)), layout=self.layout)

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        if not input_grad:
            return None, {}
        return adaptive_avg_pool_grad(g, saved, self._sizes(saved), layout=self.layout), {}

    def out_shape(self, shape: Ints) -> Ints:
        self._expect(shape)
        return self._problem(shape).y_shape

    def _problem(self, shape: Ints) -> Any:
        return read_adaptive("adaptive_avg_pool", shape, self._sizes(shape), self.layout)

    def _sizes(self, shape: Ints) -> Any:
        return self.size if isinstance(self.size, tuple) else (self.size,) * (len(shape) - 2)

    def _expect(self, shape: Ints) -> None:
        expect("adaptive_avg_pool", shape, self.layout, self.rank)

    def reach(self, shape: Ints) -> list[tuple[int, Fraction]]:
        return [_bins(axis.taps, axis.starts) for axis in self._problem(shape).axes]

    def __repr__(self) -> str:
        return f"AdaptiveAvgPool({self.size}{told(self.layout)})"


def _bins(widest: int, starts: Any) -> tuple[int, Fraction]:
    """The widest bin, and the largest step from one to the next."""
    return widest, Fraction(max((b - a for a, b in pairwise(starts)), default=widest))


class GlobalAvgPool(Layer):
    """The mean of every plane: one number per channel.

        (N, C, *in) -> (N, C), or (N, C, 1, ...)

    Parameters
    ----------
    keep_axes : bool
        Keep the spatial axes, of size 1.
    layout : {"channels_first", "channels_last"}
        Of the input.
    """

    def __init__(self, *, keep_axes: bool = False, layout: str = "channels_first") -> None:
        super().__init__()
        self.keep_axes = flag(type(self).__name__, "keep_axes", keep_axes)
        self.layout = read_layout(type(self).__name__, layout)

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        return self(x), np.shape(x)

    def __call__(self, x: Array) -> Array:
        expect("global_avg_pool", np.shape(x), self.layout)
        return global_avg_pool(x, keepdims=self.keep_axes, layout=self.layout)

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        if not input_grad:
            return None, {}
        return global_avg_pool_grad(g, saved, keepdims=self.keep_axes, layout=self.layout), {}

    def out_shape(self, shape: Ints) -> Ints:
        expect("global_avg_pool", shape, self.layout)
        channels = shape[channel_axis(self.layout, len(shape))]
        ones = (1,) * (len(shape) - 2 if self.keep_axes else 0)
        return (shape[0], channels, *ones) if self.layout == "channels_first" else (shape[0], *ones, channels)

    def reach(self, shape: Ints) -> list[tuple[int, Fraction]]:
        return [(n, Fraction(n)) for n in spatial(self.layout, shape)]

    def __repr__(self) -> str:
        return f"GlobalAvgPool({(', keep_axes=True' * self.keep_axes + told(self.layout))[2:]})"
