"""Layers that slide kernels over their input: convolution, its transpose, and the kinds that mix no channels."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import choice
from ..conv_arguments import read, with_defaults
from ..convolution import conv
from ..geometry import Ints, ceil_div
from ..gradients import conv_input_grad, conv_weight_grad
from ..reading import one_int, per_axis
from ..transposed import conv_transpose
from ..transposed_grads import conv_transpose_input_grad, conv_transpose_weight_grad
from ..transposed_problem import read_transpose
from ..windows import MODES
from . import initial as start
from .containers import Sequential
from .shapes import expect
from .sliding import Sliding, short

if TYPE_CHECKING:
    from ..problem import ConvProblem
    from .layer import Array, Arrays


class Conv(Sliding):
    """Convolution: every output channel slides its kernel over all input channels and sums the products.

        (N, C, *in) -> (N, O, *out)       out = (in + lo + hi - dilation (k - 1) - 1) // stride + 1

    Parameters
    ----------
    in_channels, out_channels : int
        C and O.
    kernel : int or tuple of int
        Its size. A tuple tells the rank; an int is for two spatial axes, or `rank` of them.
    stride, padding, dilation, groups, padding_mode
        As in `npconv.conv`.
    bias : bool
        Whether a number is added to each output channel.
    rank : int, optional
        How many spatial axes, where `kernel` is an int.
    layout : {"channels_first", "channels_last"}
        Of inputs and outputs. The weights do not depend on it.
    initial : str, (str, number) or function
        How the weights start: a name of `npconv.nn.initial`.
    rng : None, int or numpy.random.Generator
        Where they come from.
    dtype : dtype
        Of the parameters.

    Attributes
    ----------
    params : dict
        "weight", (O, C/G, *k), and "bias", (O,), as torch's.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> layer = nn.Conv(3, 8, 3, padding=1, rng=0)
    >>> layer(np.ones((2, 3, 32, 32), np.float32)).shape
    (2, 8, 32, 32)
    >>> {name: array.shape for name, array in layer.params.items()}
    {'weight': (8, 3, 3, 3), 'bias': (8,)}
    """

    op = "conv"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, ...],
        *,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        bias: bool = True,
        rank: int | None = None,
        layout: str = "channels_first",
        initial: Any = "he_uniform",
        rng: Any = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, rank, stride, padding, dilation, groups, layout)
        self.padding_mode = self.options["padding_mode"] = choice("Conv", "padding_mode", padding_mode, MODES)
        self._draw((self.out_channels, self.in_channels // self.groups, *self.kernel), bias, initial, rng, dtype)

    def __call__(self, x: Array) -> Array:
        expect(self.op, np.shape(x), self.layout, self.rank, self.in_channels)
        return conv(x, self.params["weight"], self.params.get("bias"), **self.options)

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        x, w = saved, self.params["weight"]
        gw = conv_weight_grad(x, g, kernel_shape=w.shape, **self.options)
        gx = conv_input_grad(g, w, input_shape=x.shape, **self.options) if input_grad else None
        return gx, self._with_bias(g, weight=gw)

    def problem(self, shape: Ints) -> ConvProblem:
        expect(self.op, shape, self.layout, self.rank, self.in_channels)
        return read(self.op, shape, self.params["weight"].shape, with_defaults(self.op, self.options))

    def out_shape(self, shape: Ints) -> Ints:
        return self.problem(shape).y_shape

    def reach(self, shape: Ints) -> list[tuple[int, Fraction]]:
        geometry = self.problem(shape).geometry
        return [(e, Fraction(s)) for e, s in zip(geometry.effective, geometry.stride, strict=True)]


class DepthwiseConv(Conv):
    """Convolution that mixes no channels: each has `multiplier` kernels of its own.

        (N, C, *in) -> (N, C m, *out)       output channel c m + j is channel c with its j-th kernel

    Parameters
    ----------
    channels : int
        C.
    kernel : int or tuple of int
        As for `Conv`.
    multiplier : int
        m.
    **options
        The keywords of `Conv`, without groups.

    Examples
    --------
    >>> from npconv import nn
    >>> nn.DepthwiseConv(16, 3, stride=2, padding=1).out_shape((1, 16, 8, 8))
    (1, 16, 4, 4)
    """

    def __init__(self, channels: int, kernel: int | tuple[int, ...], *, multiplier: int = 1, **options: Any) -> None:
        op = type(self).__name__
        if "groups" in options:
            raise TypeError(f"{op}: unknown keyword 'groups'; there are as many as channels")
        channels = one_int(op, "channels", channels, 1)
        self.multiplier = one_int(op, "multiplier", multiplier, 1)
        super().__init__(channels, channels * self.multiplier, kernel, groups=channels, **options)

    def __repr__(self) -> str:
        more = f", multiplier={self.multiplier}" if self.multiplier > 1 else ""
        return self._described(f"{self.in_channels}, {short(self.kernel)}{more}")


class SeparableConv(Sequential):
    """A depthwise convolution in space, then a pointwise one over channels (Chollet, 2017, arXiv:1610.02357).

        (N, C, *in) -> (N, C m, *out) -> (N, O, *out)

    Parameters
    ----------
    in_channels, out_channels : int
        C and O.
    kernel : int or tuple of int
        Of the depthwise part.
    multiplier : int
        m, kernels per channel.
    bias : bool
        Of the pointwise part; the depthwise one has none.
    **options
        The keywords of `Conv`; stride, padding, dilation and padding_mode belong to the depthwise part.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, ...],
        *,
        multiplier: int = 1,
        bias: bool = True,
        rng: Any = None,
        **options: Any,
    ) -> None:
        rng = start.generator(rng)
        depthwise = DepthwiseConv(in_channels, kernel, multiplier=multiplier, bias=False, rng=rng, **options)
        shared = {k: v for k, v in options.items() if k in ("layout", "initial", "dtype")}
        point = (1,) * depthwise.rank
        pointwise = Conv(depthwise.out_channels, out_channels, point, bias=bias, rng=rng, **shared)
        super().__init__(depthwise=depthwise, pointwise=pointwise)


class ConvTranspose(Sliding):
    """Transposed convolution: every input spreads its kernel over the output; `Conv` backwards, with the same weights.

        (N, C, *in) -> (N, O, *out)       out = (in - 1) stride - lo - hi + dilation (k - 1) + 1 + output_padding

    Parameters
    ----------
    in_channels, out_channels, kernel, stride, padding, dilation, groups, bias, rank, layout, initial, rng, dtype
        As for `Conv`; padding is what the convolution would have padded, here it is cut off.
    output_padding : int or tuple of int
        Outputs more at the end, to choose among the sizes that a stride merges.

    Attributes
    ----------
    params : dict
        "weight", (C, O/G, *k), and "bias", (O,), as torch's.

    Examples
    --------
    >>> from npconv import nn
    >>> nn.ConvTranspose(8, 4, 2, stride=2).out_shape((1, 8, 5, 5))
    (1, 4, 10, 10)
    """

    op = "conv_transpose"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, ...],
        *,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        rank: int | None = None,
        layout: str = "channels_first",
        initial: Any = "he_uniform",
        rng: Any = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, rank, stride, padding, dilation, groups, layout)
        self.output_padding = per_axis("ConvTranspose", "output_padding", output_padding, self.rank, 0)
        self.options["output_padding"] = self.output_padding
        self._draw((self.in_channels, self.out_channels // self.groups, *self.kernel), bias, initial, rng, dtype)

    def __call__(self, x: Array) -> Array:
        expect(self.op, np.shape(x), self.layout, self.rank, self.in_channels)
        return conv_transpose(x, self.params["weight"], self.params.get("bias"), **self.options)

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        x, w = saved, self.params["weight"]
        gw = conv_transpose_weight_grad(x, g, kernel_shape=w.shape, **self.options)
        gx = conv_transpose_input_grad(g, w, input_shape=x.shape, **self.options) if input_grad else None
        return gx, self._with_bias(g, weight=gw)

    def problem(self, shape: Ints) -> ConvProblem:
        expect(self.op, shape, self.layout, self.rank, self.in_channels)
        return read_transpose(self.op, shape, self.params["weight"].shape, self.options)

    def out_shape(self, shape: Ints) -> Ints:
        return self.problem(shape).x_shape

    def reach(self, shape: Ints) -> list[tuple[int, Fraction]]:
        geometry = self.problem(shape).geometry
        return [(ceil_div(e, s), Fraction(1, s)) for e, s in zip(geometry.effective, geometry.stride, strict=True)]
