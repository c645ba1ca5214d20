"""One convolution, transposed convolution or pool that the explorer can draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import choice, flag, operand
from ..conv_arguments import check_bias, with_defaults
from ..conv_arguments import read as read_conv
from ..convolution import conv
from ..geometry import Ints, total
from ..pool_problem import read_pool, real_operand
from ..pool_problem import with_defaults as with_pool_defaults
from ..pooling import avg_pool, max_pool
from ..reading import explicit_pads, one_int, padding_name, per_axis, resolve_padding
from ..transposed import conv_transpose
from ..transposed_problem import read_transpose
from ..windows import MODES

Array = NDArray[Any]

#: The operators that the page draws, and npconv's keywords for each.
KEYWORDS = {
    "conv": ("stride", "padding", "dilation", "groups", "padding_mode", "padding_value", "flip"),
    "conv_transpose": ("stride", "padding", "output_padding", "dilation", "groups", "flip"),
    "max_pool": ("kernel", "stride", "padding", "dilation", "ceil_mode"),
    "avg_pool": ("kernel", "stride", "padding", "dilation", "ceil_mode", "count_include_pad"),
}
#: What the page still draws, and what one request may make the server compute.
MOST_SIZE, MOST_CHANNELS, MOST_NUMBERS, MOST_MACS = 64, 64, 1 << 14, 1 << 22
#: A padding, stride or dilation beyond this has nothing left to show.
MOST_STEP = 64


@dataclass(frozen=True)
class Problem:
    """One image and what slides over it.

    Attributes
    ----------
    operator : str
        "conv", "conv_transpose", "max_pool" or "avg_pool".
    x : ndarray
        (C, *in), one or two spatial axes.
    w, bias : ndarray or None
        As the operator takes them; None for pools.
    options : dict
        npconv's keywords of the operator, one number per axis.
    y_shape : tuple of int
        (O, *out).
    """

    operator: str
    x: Array
    w: Array | None
    bias: Array | None
    options: dict[str, Any] = field(repr=False)
    y_shape: Ints

    @property
    def macs(self) -> int:
        """Multiplications by the definition; for pools, the elements that are read."""
        w = self.w
        if w is None:
            return total(self.y_shape) * total(self.options["kernel"])
        return total(self.x.shape if self.operator == "conv_transpose" else self.y_shape) * total(w.shape[1:])

    def __call__(self, algorithm: str = "auto") -> Array:
        """The output, (O, *out), by npconv."""
        if self.w is None:
            pool = max_pool if self.operator == "max_pool" else avg_pool
            return pool(self.x, **self.options)
        slide = conv if self.operator == "conv" else conv_transpose
        return slide(self.x, self.w, self.bias, algorithm=algorithm, **self.options)

    def astype(self, dtype: Any) -> Problem:
        """The same in another precision."""
        arrays = {name: a.astype(dtype) for name in ("x", "w", "bias") if (a := getattr(self, name)) is not None}
        return replace(self, **arrays)


def problem(x: Any, w: Any = None, bias: Any = None, *, operator: str = "conv", **options: Any) -> Problem:
    """The problem that ``npconv.<operator>(x, w, bias, **options)`` is.

    Parameters
    ----------
    x : array_like
        (C, *in), (1, C, *in), or a bare plane or signal (*in), with one or two spatial axes of at most 64.
    w : array_like, optional
        Weights in the operator's order, or a bare kernel of one or two axes.
    bias : array_like, optional
        (O,).
    operator : {"conv", "conv_transpose", "max_pool", "avg_pool"}
        Whose keywords `options` are; pools take their `kernel` there.

    Raises
    ------
    ValueError
        As the operator does, or if there is more than the explorer can draw.
    TypeError
        For a keyword that the operator does not have.
    """
    op = choice("explore", "operator", operator, tuple(KEYWORDS))
    for name in options:
        if name not in KEYWORDS[op]:
            raise TypeError(f"explore: {op} has no keyword {name!r} here; it has {', '.join(KEYWORDS[op])}")
    pools = op.endswith("pool")
    if pools != (w is None) or (pools and bias is not None):
        raise TypeError(f"explore: {op} takes {'x and kernel=, no weights' if pools else 'x and weights w'}")
    if pools:
        return _pool(op, x, dict(options))
    w = operand(op, "w", w)
    w = w[None, None] if w.ndim <= 2 else w
    rank = w.ndim - 2
    x = _image(op, operand(op, "x", x), rank)
    _limit(op, x, w)
    chosen = _steps(op, options, rank)
    chosen["groups"] = one_int(op, "groups", options.get("groups", 1), 1)
    chosen["flip"] = flag(op, "flip", options.get("flip", False))
    if op == "conv":
        chosen["padding_mode"] = choice(op, "padding_mode", options.get("padding_mode", "zeros"), MODES)
        chosen["padding_value"] = _number(options.get("padding_value", 0), "padding_value")
        settled = read_conv(op, x.shape, w.shape, with_defaults(op, chosen))
        y_shape: Ints = settled.y_shape
    else:
        chosen["output_padding"] = per_axis(op, "output_padding", options.get("output_padding", 0), rank, 0)
        y_shape = read_transpose(op, x.shape, w.shape, chosen).x_shape
    if chosen["padding"] == "same_torch":  # the page has no word for it
        steps = chosen["stride"], chosen["dilation"]
        chosen["padding"] = resolve_padding(op, "same_torch", x.shape[1:], w.shape[2:], *steps)
    if bias is not None:
        bias = operand(op, "bias", bias)
        check_bias(op, bias, y_shape[0])
        bias = _real(op, "bias", bias)
    return _checked(Problem(op, _real(op, "x", x), _real(op, "w", w), bias, chosen, y_shape))


def _pool(op: str, x: Any, options: dict[str, Any]) -> Problem:
    x = real_operand(op, "x", x)
    given = options.get("kernel")
    if given is None:
        raise TypeError(f"explore: {op} needs kernel=, the size of its window")
    rank = len(given) if isinstance(given, (tuple, list)) else min(2, x.ndim)
    x = _image(op, x, rank)
    _limit(op, x, None)
    kernel = per_axis(op, "kernel", given, rank, 1)
    chosen = _steps(op, {**options, "stride": kernel if options.get("stride") is None else options["stride"]}, rank)
    chosen["ceil_mode"] = flag(op, "ceil_mode", options.get("ceil_mode", False))
    settled = read_pool(op, x.shape, kernel, with_pool_defaults(op, chosen))
    if chosen["padding"] == "same_torch":
        chosen["padding"] = tuple((axis.lo, axis.hi) for axis in settled.axes)
    if op == "avg_pool":
        chosen["count_include_pad"] = flag(op, "count_include_pad", options.get("count_include_pad", True))
    else:
        settled.refuse_empty_windows()
    return _checked(Problem(op, _real(op, "x", x), None, None, {"kernel": kernel, **chosen}, settled.y_shape))


def _image(op: str, x: Array, rank: int) -> Array:
    """(C, *in) of one image."""
    if rank not in (1, 2):
        raise ValueError(f"explore: the explorer draws one or two spatial axes, and {op} has {rank} here")
    if x.ndim == rank:
        return x[None]
    if x.ndim == rank + 2 and x.shape[0] == 1:
        return x[0]
    if x.ndim != rank + 1:
        hint = "; one image of the batch is x[0]" if x.ndim == rank + 2 else ""
        raise ValueError(f"explore: x.shape is {x.shape}, expected (C, *in) with {rank} spatial axes{hint}")
    return x


def _limit(op: str, x: Array, w: Array | None) -> None:
    """Refuse what the page cannot draw."""
    kernel, channels = ((), 0) if w is None else (w.shape[2:], max(w.shape[:2]))
    if max(x.shape[1:]) > MOST_SIZE:
        crop = ", ".join([":", *[f":{MOST_SIZE}"] * (x.ndim - 1)])
        raise ValueError(
            f"explore: x.shape is {x.shape}, and the explorer draws at most {MOST_SIZE} along an axis; use x[{crop}]"
        )
    if max(x.shape[0], channels) > MOST_CHANNELS or max(kernel, default=0) > MOST_SIZE:
        raise ValueError(
            f"explore: {op} of {x.shape} has more than {MOST_CHANNELS} channels or a kernel over {MOST_SIZE}; use fewer"
        )
    if max(x.size, 0 if w is None else w.size) > MOST_NUMBERS:
        raise ValueError(f"explore: x or w has more than {MOST_NUMBERS} numbers; use fewer channels or a crop")


def _steps(op: str, options: Mapping[str, Any], rank: int) -> dict[str, Any]:
    """Stride, dilation and padding, per axis."""
    padding = options.get("padding", 0)
    steps: dict[str, Any] = {
        "stride": per_axis(op, "stride", options.get("stride", 1), rank, 1),
        "dilation": per_axis(op, "dilation", options.get("dilation", 1), rank, 1),
    }
    pads: Any = padding_name(op, padding) if isinstance(padding, str) else explicit_pads(op, padding, rank)
    amounts = [] if isinstance(pads, str) else [abs(n) for pair in pads for n in pair]
    largest = max(*steps["stride"], *steps["dilation"], *amounts)
    if largest > MOST_STEP:
        raise ValueError(f"explore: a stride, dilation or padding is {largest}, expected at most {MOST_STEP}")
    return {**steps, "padding": pads}


def _checked(made: Problem) -> Problem:
    """The same, unless its output is more than a page draws or a server should compute."""
    if total(made.y_shape) > 4 * MOST_NUMBERS or made.macs > MOST_MACS:
        raise ValueError(
            f"explore: the output is {made.y_shape} and takes {made.macs} multiplications; the explorer draws "
            f"{4 * MOST_NUMBERS} numbers and up to {MOST_MACS}; use fewer channels, a crop or a larger stride"
        )
    return made


def _real(op: str, name: str, a: Array) -> Array:
    """Floats, of the precision they have."""
    if a.dtype.kind == "c":
        raise TypeError(f"explore: {name} is complex, and the explorer draws real numbers")
    if a.dtype.kind != "f":
        return a.astype(np.float32 if a.dtype.name == "bfloat16" else np.float64)
    return a


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"explore: {name} must be a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"explore: {name} is too large for a float") from None
