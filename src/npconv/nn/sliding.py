"""What convolution and its transpose share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..arguments import flag, operand
from ..geometry import Ints
from ..reading import explicit_pads, one_int, padding_name, per_axis
from . import initial as start
from .layer import Layer
from .moments import channel_sum
from .shapes import channel_axis, read_dtype, read_kernel, read_layout

if TYPE_CHECKING:
    from ..problem import ConvProblem
    from .layer import Array, Arrays


class Sliding(Layer):
    """A layer of kernels: its sizes, checked when it is made, and its parameters."""

    keeps_input = True
    op: str

    def __init__(
        self, in_channels: int, out_channels: int, kernel: Any, rank: Any, stride: Any, padding: Any, dilation: Any,
        groups: int, layout: str,
    ) -> None:  # fmt: skip
        super().__init__()
        op = type(self).__name__
        self.kernel = read_kernel(op, kernel, rank)
        axes = len(self.kernel)
        self.in_channels = one_int(op, "in_channels", in_channels, 1)
        self.out_channels = one_int(op, "out_channels", out_channels, 1)
        self.groups = one_int(op, "groups", groups, 1)
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise ValueError(f"{op}: {name}={channels} is not divisible by groups={self.groups}")
        self.stride = per_axis(op, "stride", stride, axes, 1)
        self.padding = padding_name(op, padding) if isinstance(padding, str) else explicit_pads(op, padding, axes)
        self.dilation = per_axis(op, "dilation", dilation, axes, 1)
        self.layout = read_layout(op, layout)
        self.options = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups", "layout")}
        self.options["kernel_layout"] = "channels_first"  # weights lie as torch's, whatever the layout

    def _draw(self, shape: Ints, bias: Any, initial: Any, rng: Any, dtype: Any) -> None:
        """The parameters that training starts from."""
        op = type(self).__name__
        kind, source = read_dtype(op, dtype), start.generator(rng)
        self.params["weight"] = start.drawn(op, initial, shape, source, kind)
        if flag(op, "bias", bias):
            self.params["bias"] = start.bias(initial, start.fans(shape)[0], self.out_channels, source, kind)

    @property
    def rank(self) -> int:
        """How many spatial axes."""
        return len(self.kernel)

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        x = operand(self.op, "x", x)
        return self(x), x

    def _with_bias(self, g: Array, **grads: Array) -> Arrays:
        """The gradients of the parameters in their dtypes, with that of the bias: the sum of g over all but channels."""
        if "bias" in self.params:
            grads["bias"] = channel_sum(g, channel_axis(self.layout, g.ndim))
        return {name: grad.astype(self.params[name].dtype, copy=False) for name, grad in grads.items()}

    def problem(self, shape: Ints) -> ConvProblem:
        """The convolution of an input of this shape, or the one whose adjoint the layer is."""
        raise NotImplementedError

    def macs(self, shape: Ints) -> int:
        return self.problem(shape).geometry.macs

    def __repr__(self) -> str:
        return self._described(f"{self.in_channels}, {self.out_channels}, {short(self.kernel)}", "groups")

    def _described(self, sizes: str, *names: str) -> str:
        """The call that makes the layer, defaults left out."""
        ones = (1,) * self.rank
        usual: dict[str, Any] = {
            "stride": ones,
            "padding": ((0, 0),) * self.rank,
            "dilation": ones,
            "output_padding": (0,) * self.rank,
        }
        usual |= {"groups": 1, "padding_mode": "zeros", "layout": "channels_first"}
        for name in ("stride", "padding", "output_padding", "dilation", *names, "padding_mode", "layout"):
            value = getattr(self, name, usual[name])
            if value != usual[name]:
                sizes += f", {name}={short(value)}"
        return f"{type(self).__name__}({sizes}{'' if 'bias' in self.params else ', bias=False'})"


def short(value: Any) -> str:
    """(3, 3) as 3, ((1, 1), (1, 1)) as 1, where that says the same."""
    if isinstance(value, tuple) and len(value) == 2 and value[0] == value[1]:
        inner = value[0]
        if not isinstance(inner, tuple) or inner[0] == inner[1]:
            return short(inner)
    return repr(value)
