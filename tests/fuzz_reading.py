"""The arguments of a call read by the specification, and the right result from reference.py, without npconv.

Arguments that the specification refuses raise `Bad`; those too large for loops raise `Unknown`.
"""

import operator
import warnings
from typing import Any

import numpy as np

import reference

LARGEST = 10_000  # what the loops of the reference can walk
LAYOUTS = ("channels_first", "channels_last")
WORDS = ("valid", "same", "same_lower", "same_torch", "full", "causal")
MODES = ("zeros", "constant", "reflect", "symmetric", "replicate", "circular")
ACCURACIES = ("strict", "standard", "fast")
ALGORITHMS = (
    *("auto", "loops", "direct", "gemm", "depthwise", "fft", "fft_single"),
    *("winograd", "winograd_f2", "winograd_f4", "winograd_f6"),
)


class Bad(Exception):  # noqa: N818
    """The specification refuses these arguments."""


class Unknown(Exception):  # noqa: N818
    """Too large for the reference: nothing is claimed about the result."""


def demand(condition: bool) -> None:
    if not condition:
        raise Bad


# --- reading arguments by the specification


def whole(value: Any, low: int | None = None) -> int:
    """An integer of Python or NumPy, no bool and nothing that only looks like a number."""
    demand(not isinstance(value, (bool, np.bool_)))
    demand(not (isinstance(value, np.ndarray) and (value.ndim or value.dtype.kind not in "iu")))
    try:
        number = operator.index(value)
    except TypeError:
        raise Bad from None
    demand(low is None or number >= low)
    return number


def listed(value: Any) -> list | None:
    """The entries of a tuple, list or 1-D array; None for anything else."""
    if isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim == 1):
        return list(value)
    return None


def axes(value: Any, rank: int, low: int | None = None) -> tuple[int, ...]:
    values = listed(value)
    if values is None:
        return (whole(value, low),) * rank
    demand(len(values) in (1, rank))
    values = tuple(whole(v, low) for v in values)
    return values * rank if len(values) == 1 else values


def one_of(value: Any, allowed: tuple[str, ...]) -> str:
    demand(isinstance(value, str) and value in allowed)
    return value


def flag(value: Any) -> bool:
    demand(isinstance(value, (bool, np.bool_)))
    return bool(value)


def array(value: Any, real: bool = False) -> np.ndarray:
    """An operand: numbers of a supported dtype, no hidden mask, no None or text."""
    if isinstance(value, np.ma.MaskedArray):
        demand(not np.ma.is_masked(value))
        value = value.data
    demand(isinstance(value, (np.ndarray, np.generic, list, tuple, int, float, complex)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            value = np.asarray(value)
    except ValueError:
        raise Bad from None
    names = ("float16", "bfloat16", "float32", "float64") + (() if real else ("complex64", "complex128"))
    demand(value.dtype.kind in "iu" or value.dtype.name in names)
    small(value.size)
    return value.astype(value.dtype.newbyteorder("="))


def small(*numbers: int) -> None:
    if any(abs(n) > LARGEST for n in numbers):
        raise Unknown


def box(sizes: Any) -> int:
    """How many positions a box has, in Python ints."""
    return int(np.prod(tuple(sizes), dtype=object))


def pairs(padding: Any, lengths, kernel, stride, dilation) -> tuple[tuple[int, int], ...]:
    """The padding grammar as ((lo, hi), ...)."""
    if isinstance(padding, str):
        one_of(padding, WORDS)
        demand(padding != "same_torch" or set(stride) <= {1})
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        small(*spans, *lengths)
        return tuple(
            reference.padding_pair(padding, *axis) for axis in zip(lengths, kernel, stride, dilation, strict=True)
        )
    entries = listed(padding)
    if entries is not None and any(listed(e) is not None for e in entries):
        demand(len(entries) == len(kernel) and all(len(listed(e) or ()) == 2 for e in entries))
        return tuple((whole(lo), whole(hi)) for lo, hi in entries)
    return tuple((p, p) for p in axes(padding, len(kernel)))


def fitting(lengths, kernel, dilation, padding) -> None:
    """Every window fits, and the loops can walk it."""
    for n, k, d, (lo, hi) in zip(lengths, kernel, dilation, padding, strict=True):
        demand(k >= 1 and (k - 1) * d + 1 <= n + lo + hi <= 2**63 - 1)
    small(*(n for pair in padding for n in pair))


def input_order(layout: Any, ndim: int, rank: int) -> tuple[int, tuple[int, ...]]:
    """(batch axes, the axes of x in the order batch, C, spatial)."""
    demand(isinstance(layout, str))
    if layout in LAYOUTS:
        batch = ndim - rank - 1
        demand(batch >= 0)
        channel = batch if layout == LAYOUTS[0] else ndim - 1
        return batch, (*range(batch), channel, *(a for a in range(batch, ndim) if a != channel))
    letters(layout, "C", "OI", ndim)
    spatial = [a for a, c in enumerate(layout) if c not in "NC"]
    demand(len(spatial) == rank)
    batch = [layout.index("N")] if "N" in layout else []
    return len(batch), (*batch, layout.index("C"), *spatial)


def letters(layout: str, needed: str, foreign: str, ndim: int) -> None:
    demand(layout.isalpha() and layout.isupper() and len(set(layout)) == len(layout) == ndim)
    demand(set(needed) <= set(layout) and not set(foreign) & set(layout))


def kernel_order(kernel_layout: Any, layout: str, ndim: int) -> tuple[int, ...]:
    """The axes of w in the order O, I, spatial."""
    if kernel_layout is None:
        last = layout == LAYOUTS[1] or (layout not in LAYOUTS and layout.endswith("C"))
        kernel_layout = LAYOUTS[last]
    demand(isinstance(kernel_layout, str))
    if kernel_layout in LAYOUTS:
        return tuple(range(ndim)) if kernel_layout == LAYOUTS[0] else (ndim - 1, ndim - 2, *range(ndim - 2))
    letters(kernel_layout, "OI", "NC", ndim)
    names = [c for c in kernel_layout if c not in "OI"]
    if layout not in LAYOUTS:
        demand(set(names) == set(layout) - set("NC"))
        names = [c for c in layout if c not in "NC"]
    return tuple(kernel_layout.index(c) for c in ["O", "I", *names])


def taken(x: np.ndarray, batch: int, order: tuple[int, ...]) -> np.ndarray:
    """x as (N, C, *in)."""
    moved = x.transpose(order)
    return moved.reshape(-1 if moved.size else int(np.prod(moved.shape[:batch])), *moved.shape[batch:])


def given_back(y: np.ndarray, lead: tuple[int, ...], order: tuple[int, ...]) -> np.ndarray:
    """(N, C, *in) in the caller's order again."""
    return y.reshape(*lead, *y.shape[1:]).transpose(np.argsort(order))


class Reading:
    """The arguments of one convolution, read from the shapes of x and w."""

    def __init__(self, a: dict[str, Any], x_shape: tuple[int, ...], w_shape: tuple[int, ...]):
        rank = len(w_shape) - 2
        demand(rank >= 0)
        self.batch, self.order = input_order(a["layout"], len(x_shape), rank)
        self.w_order = kernel_order(a["kernel_layout"], a["layout"], len(w_shape))
        self.lead = tuple(x_shape[i] for i in self.order[: self.batch])
        self.channels, *lengths = (x_shape[i] for i in self.order[self.batch :])
        self.outs, per_group, *kernel = (w_shape[i] for i in self.w_order)
        self.kernel_shape = (self.outs, per_group, *kernel)
        self.canonical = (box(self.lead), self.channels, *lengths)
        groups = whole(a["groups"], 1)
        demand(self.channels == per_group * groups and self.outs % groups == 0)
        demand(all(k >= 1 for k in kernel))
        stride, dilation = axes(a["stride"], rank, 1), axes(a["dilation"], rank, 1)
        spread = axes(a.get("input_dilation", 1), rank, 1)
        dilated = tuple((n - 1) * d + 1 if n else 0 for n, d in zip(lengths, spread, strict=True))
        demand(all(n <= 2**63 - 1 for n in dilated))
        padding = pairs(a["padding"], dilated, kernel, stride, dilation)
        mode = one_of(a.get("padding_mode", "zeros"), MODES)
        fill = self.fill(a.get("padding_value", 0), mode)
        flip = flag(a["flip"])
        self.options(a)
        fitting(dilated, kernel, dilation, padding)
        small(*dilated, *kernel)
        demand(mode in ("zeros", "constant") or all(n or p == (0, 0) for n, p in zip(dilated, padding, strict=True)))
        self.value = fill if any(padding) and any(any(p) for p in padding) and mode == "constant" else 0
        self.geometry: dict[str, Any] = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "input_dilation": spread,
            "padding_mode": mode,
            "flip": flip,
            "groups": groups,
            "padding_value": fill,
        }
        self.out = reference.Products(
            tuple(lengths),
            tuple(kernel),
            **{k: v for k, v in self.geometry.items() if k not in ("groups", "padding_value")},
        ).out
        small(box(self.out) * box(kernel))

    @staticmethod
    def fill(value: Any, mode: str) -> Any:
        demand(isinstance(value, (int, float, complex, np.number)) and not isinstance(value, bool))
        demand(mode == "constant" or value == 0)
        return value

    @staticmethod
    def options(a: dict[str, Any]) -> None:
        demand(isinstance(a["algorithm"], str) and a["algorithm"] in ALGORITHMS)
        one_of(a["accuracy"], ACCURACIES)
        if a["max_workspace"] is not None:
            whole(a["max_workspace"], 0)

    def holds(self, dtype: np.dtype) -> None:
        """The padding value is one of x's dtype."""
        if dtype.kind in "iu" and self.value:
            limits = np.iinfo(dtype)
            demand(np.imag(self.value) == 0 and float(np.real(self.value)).is_integer())
            demand(limits.min <= int(np.real(self.value)) <= limits.max)
        demand(dtype.kind == "c" or np.imag(self.value) == 0)

    def user(self, y: np.ndarray) -> np.ndarray:
        return given_back(y, self.lead, self.order)

    def x(self, x: np.ndarray) -> np.ndarray:
        return taken(x, self.batch, self.order)

    def g(self, g: np.ndarray) -> np.ndarray:
        demand(g.shape == self.user(np.empty((self.canonical[0], self.outs, *self.out), np.int8)).shape)
        return taken(g, self.batch, self.order)


def joint(*arrays: np.ndarray) -> np.dtype:
    """The dtype of the result: NumPy's promotion, integers in int64."""
    try:
        dtype = np.result_type(*(a.dtype for a in arrays))
    except TypeError:
        raise Bad from None
    demand(dtype.kind != "O")
    return np.dtype(np.int64) if dtype.kind in "iu" else dtype


def fits(out: Any, y: np.ndarray) -> np.ndarray:
    """The result, if `out` may take it."""
    if out is not None:
        demand(
            isinstance(out, np.ndarray)
            and not isinstance(out, np.ma.MaskedArray)
            and out.shape == y.shape
            and out.dtype == y.dtype
        )
        demand(bool(out.flags.c_contiguous and out.flags.writeable))
    return y


def conv(a: dict[str, Any]) -> np.ndarray:
    x, w = array(a["x"]), array(a["w"])
    bias = None if a["bias"] is None else array(a["bias"])
    r = Reading(a, x.shape, w.shape)
    demand(bias is None or bias.shape == (r.outs,))
    r.holds(x.dtype)
    y = reference.conv(r.x(x), w.transpose(r.w_order), bias, **r.geometry)
    return fits(a["out"], r.user(y).astype(joint(x, w, *([] if bias is None else [bias]))))


def shape(value: Any) -> tuple[int, ...]:
    demand(isinstance(value, (tuple, list)) and len(value) <= 64)
    return tuple(whole(n, 0) for n in value)


def conv_input_grad(a: dict[str, Any]) -> np.ndarray:
    g, w = array(a["g"]), array(a["w"])
    r = Reading(a, shape(a["input_shape"]), w.shape)
    dx = reference.conv_input_grad(r.g(g), w.transpose(r.w_order), r.canonical, **r.geometry)
    return fits(a["out"], r.user(dx).astype(joint(g, w)))


def conv_weight_grad(a: dict[str, Any]) -> np.ndarray:
    x, g = array(a["x"]), array(a["g"])
    r = Reading(a, x.shape, shape(a["kernel_shape"]))
    r.holds(x.dtype)
    dw = reference.conv_weight_grad(r.x(x), r.g(g), r.kernel_shape, **r.geometry)
    return fits(a["out"], dw.transpose(np.argsort(r.w_order)).astype(joint(x, g)))


def conv_transpose(a: dict[str, Any]) -> np.ndarray:
    x, w = array(a["x"]), array(a["w"])
    bias = None if a["bias"] is None else array(a["bias"])
    rank = w.ndim - 2
    demand(rank >= 0)
    batch, order = input_order(a["layout"], x.ndim, rank)
    w_order = kernel_order(a["kernel_layout"], a["layout"], w.ndim)
    channels, *lengths = (x.shape[i] for i in order[batch:])
    ins, per_group, *kernel = (w.shape[i] for i in w_order)
    groups = whole(a["groups"], 1)
    demand(channels == ins and channels % groups == 0 and all(n >= 1 for n in (*lengths, *kernel)))
    stride, dilation = axes(a["stride"], rank, 1), axes(a["dilation"], rank, 1)
    extra, flip = axes(a["output_padding"], rank, 0), flag(a["flip"])
    Reading.options(a)
    wanted = None if a["output_size"] is None else axes(a["output_size"], rank, 0)
    demand(wanted is None or not any(extra))
    small(*stride, *dilation)
    if isinstance(a["padding"], str) and a["padding"] in ("same", "same_lower"):
        size = wanted or tuple(n * s for n, s in zip(lengths, stride, strict=True))
        demand(all(-(-n // s) == m for n, s, m in zip(size, stride, lengths, strict=True)))
        padding = pairs(a["padding"], size, kernel, stride, dilation)
        if any(extra):
            raise Unknown
    else:
        padding = pairs(a["padding"], lengths, kernel, stride, dilation)
        small(*(n for pair in padding for n in pair))
        axis = tuple(zip(lengths, kernel, stride, padding, dilation, strict=True))
        least = tuple(reference.conv_transpose_size(*sizes, 0) for sizes in axis)
        if wanted is not None:
            extra = tuple(n - m for n, m in zip(wanted, least, strict=True))
        demand(all(0 <= e < max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)))
        size = tuple(n + e for n, e in zip(least, extra, strict=True))
        padding = tuple((lo, hi - e) for (lo, hi), e in zip(padding, extra, strict=True))
    demand(all(n >= 1 for n in size))
    small(*size)
    outs = per_group * groups
    demand(bias is None or bias.shape == (outs,))
    y = reference.conv_transpose(
        taken(x, batch, order),
        w.transpose(w_order),
        bias,
        groups=groups,
        out_size=size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        flip=flip,
    )
    lead = tuple(x.shape[i] for i in order[:batch])
    return fits(a["out"], given_back(y, lead, order).astype(joint(x, w, *([] if bias is None else [bias]))))


def unfold(a: dict[str, Any]) -> np.ndarray:
    x = array(a["x"])
    rank = pool_rank(a, x)
    batch, order = input_order(a["layout"], x.ndim, rank)
    kernel, stride, dilation = (axes(a[n], rank, 1) for n in ("kernel", "stride", "dilation"))
    lengths = tuple(x.shape[i] for i in order[batch + 1 :])
    padding = pairs(a["padding"], lengths, kernel, stride, dilation)
    fitting(lengths, kernel, dilation, padding)
    small(box(kernel) * box(lengths))
    columns = reference.unfold(taken(x, batch, order), kernel, stride=stride, padding=padding, dilation=dilation)
    columns = columns.reshape(*(x.shape[i] for i in order[:batch]), *columns.shape[1:])
    if a["layout"].endswith("C") or a["layout"] == LAYOUTS[1]:  # (prod(out), prod(k) C)
        count = int(np.prod(kernel))
        split = columns.reshape(
            *columns.shape[:-2], -1 if columns.size else x.shape[order[batch]], count, columns.shape[-1]
        )
        columns = (
            np.moveaxis(split, -1, -3)
            .swapaxes(-1, -2)
            .reshape(*columns.shape[:-2], columns.shape[-1], columns.shape[-2])
        )
    return columns.astype(x.dtype)


# --- pooling


def pool_rank(a: dict[str, Any], x: np.ndarray) -> int:
    """A sequence for kernel says the rank; letters do; else x has one batch and one channel axis."""
    entries = listed(a["kernel"])
    if entries is not None:
        return len(entries)
    whole(a["kernel"], 1)
    layout = a["layout"]
    demand(isinstance(layout, str))
    rank = x.ndim - 2 if layout in LAYOUTS else len(set(layout) - set("NC"))
    demand(rank >= 0)
    if rank == 0 and layout in LAYOUTS:
        raise Unknown  # nothing says that a matrix is a batch of single pixels
    return rank


class Pooling:
    """The arguments of one pooling."""

    def __init__(self, a: dict[str, Any], x: np.ndarray):
        rank = pool_rank(a, x)
        self.batch, self.order = input_order(a["layout"], x.ndim, rank)
        kernel, dilation = axes(a["kernel"], rank, 1), axes(a["dilation"], rank, 1)
        stride = kernel if a["stride"] is None else axes(a["stride"], rank, 1)
        ceil, cover = flag(a["ceil_mode"]), flag(a["cover_all"])
        demand(not (ceil and cover))
        self.x = taken(x, self.batch, self.order)
        lengths = self.x.shape[2:]
        padding = pairs(a["padding"], lengths, kernel, stride, dilation)
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        demand(not any(lo >= e for (lo, _), e in zip(padding, spans, strict=True)))
        fitting(lengths, kernel, dilation, padding)
        small(*lengths, box(kernel) * box(lengths))
        if any(min(p) < 0 for p in padding) or any(hi >= e for (_, hi), e in zip(padding, spans, strict=True)):
            raise Unknown  # crops, and windows wholly in the high padding: either answer will do
        rule = "ceil" if ceil else "cover_all" if cover else "floor"
        self.windows = reference.Windows(lengths, kernel, stride=stride, padding=padding, dilation=dilation, rule=rule)
        self.lead = tuple(x.shape[i] for i in self.order[: self.batch])

    def user(self, y: np.ndarray) -> np.ndarray:
        return given_back(y, self.lead, self.order)


def max_pool(a: dict[str, Any]) -> np.ndarray:
    x = array(a["x"], real=True)
    p = Pooling(a, x)
    demand(all(inside for _, inside, _ in p.windows))
    y, _ = reference.max_pool(p.x, p.windows)
    return fits(a["out"], p.user(y))


def avg_pool(a: dict[str, Any]) -> np.ndarray:
    x = array(a["x"], real=True)
    p = Pooling(a, x)
    divisor = None if a["divisor"] is None else whole(a["divisor"])
    demand(divisor != 0)
    if divisor is not None and divisor < 0:
        raise Unknown
    numbers = reference.divisors(p.windows, flag(a["count_include_pad"]), divisor)
    y = reference.avg_pool(p.x, p.windows, numbers)
    return fits(a["out"], p.user(y).astype(np.float64 if x.dtype.kind in "iu" else x.dtype))
