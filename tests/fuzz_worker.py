"""Call npconv with random arguments, valid and invalid mixed, and report every outcome that is not allowed.

    python fuzz_worker.py FIRST COUNT        prints one JSON object: failures, outcomes, growth of memory in MiB

Allowed are a right result, or a TypeError, ValueError or MemoryError that begins with the operation and names an
argument that was made odd.  What is right is found without npconv: `Reading` reads the arguments by the
specification and tests/reference.py computes, so a bad argument that is accepted shows as well.  All data are small
integers, so every result of a convolution is one, and an error of rounding cannot hide an error of substance.

The machine is made to look small (256 MiB), so that sizes between "fits" and "absurd" are refused, not allocated.
"""

import json
import operator
import os
import re
import resource
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

MEMORY = 256 << 20  # of the machine that npconv sees
ADDRESSES = 6 << 30  # what the process may take before the system refuses it more
SECONDS = 20  # for one call
real_sysconf = os.sysconf
os.sysconf = lambda name: {"SC_PHYS_PAGES": MEMORY >> 12, "SC_PAGE_SIZE": 4096}.get(name) or real_sysconf(name)

import ml_dtypes  # noqa: E402 - after the machine was made small
import numpy as np  # noqa: E402

import npconv  # noqa: E402
import reference  # noqa: E402

LARGEST = 10_000  # what the loops of the reference can walk
LAYOUTS = ("channels_first", "channels_last")
WORDS = ("valid", "same", "same_lower", "same_torch", "full", "causal")
MODES = ("zeros", "constant", "reflect", "symmetric", "replicate", "circular")
ACCURACIES = ("strict", "standard", "fast")
ALGORITHMS = ("auto", "loops", "direct", "gemm", "depthwise", "fft", "winograd", "winograd_f2", "winograd_f4")


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
    return value


def small(*numbers: int) -> None:
    if any(abs(n) > LARGEST for n in numbers):
        raise Unknown


def pairs(padding: Any, lengths, kernel, stride, dilation) -> tuple[tuple[int, int], ...]:
    """The padding grammar as ((lo, hi), ...)."""
    if isinstance(padding, str):
        one_of(padding, WORDS)
        demand(padding != "same_torch" or set(stride) <= {1})
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        small(*spans, *lengths)
        return tuple(
            reference.padding_pair(padding, *axis)
            for axis in zip(lengths, kernel, stride, dilation, strict=True)
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
        self.canonical = (int(np.prod(self.lead, dtype=object)), self.channels, *lengths)
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
            "stride": stride, "padding": padding, "dilation": dilation, "input_dilation": spread,
            "padding_mode": mode, "flip": flip, "groups": groups, "padding_value": fill,
        }  # fmt: skip
        self.out = reference.Products(tuple(lengths), tuple(kernel), **{
            k: v for k, v in self.geometry.items() if k not in ("groups", "padding_value")
        }).out  # fmt: skip
        small(int(np.prod(self.out, dtype=object)) * int(np.prod(kernel, dtype=object)))

    @staticmethod
    def fill(value: Any, mode: str) -> Any:
        demand(isinstance(value, (int, float, complex, np.number)) and not isinstance(value, bool))
        demand(mode == "constant" or value == 0)
        return value

    @staticmethod
    def options(a: dict[str, Any]) -> None:
        demand(isinstance(a["algorithm"], str) and a["algorithm"] in npconv.dispatch.names())
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
    demand(dtype != object)
    return np.dtype(np.int64) if dtype.kind in "iu" else dtype


def fits(out: Any, y: np.ndarray) -> np.ndarray:
    """The result, if `out` may take it."""
    if out is not None:
        demand(type(out) is np.ndarray and out.shape == y.shape and out.dtype == y.dtype)
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
        taken(x, batch, order), w.transpose(w_order), bias,
        groups=groups, out_size=size, stride=stride, padding=padding, dilation=dilation, flip=flip,
    )  # fmt: skip
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
    columns = reference.unfold(taken(x, batch, order), kernel, stride=stride, padding=padding, dilation=dilation)
    columns = columns.reshape(*(x.shape[i] for i in order[:batch]), *columns.shape[1:])
    if a["layout"].endswith("C") or a["layout"] == LAYOUTS[1]:  # (prod(out), prod(k) C)
        count = int(np.prod(kernel))
        split = columns.reshape(*columns.shape[:-2], -1 if columns.size else x.shape[order[batch]], count, columns.shape[-1])
        columns = np.moveaxis(split, -1, -3).swapaxes(-1, -2).reshape(*columns.shape[:-2], columns.shape[-1], columns.shape[-2])
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
        small(*lengths)
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


# --- drawing arguments


class Dice:
    def __init__(self, seed: int):
        self.rng = np.random.default_rng([20261121, seed])

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def int(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def pick(self, choices: Any) -> Any:
        return choices[self.int(0, len(choices) - 1)]

    def data(self, *sizes: int, dtype: str = "float32") -> np.ndarray:
        return self.rng.integers(0 if dtype[0] == "u" else -3, 4, sizes).astype(dtype)


def masked(array: np.ndarray) -> np.ma.MaskedArray:
    return np.ma.masked_array(array, np.arange(array.size).reshape(array.shape) % 2 == 0)


ODD_INTS = (
    0, -1, 1, 2, 3, 5, 1.5, 2.0, True, np.True_, "1", "same", None, float("nan"), float("inf"), (1,), (2, 1), (1, 2),
    (1, 1, 1), (), [], [2], [2.0], np.int64(2), np.uint8(1), np.array(2), np.array([1, 2]), np.array(1.0), np.array([[1]]),
    np.float64(1), 2**31, 2**40, 2**62, 2**63 - 1, 2**70, -(2**70), (1, "a"), (0, 1), (None, 1), {}, {1: 2}, b"1", 1j, object(),
    (1, 2**62), range(2), "αβγ", "x" * 500, (2,) * 500,
)  # fmt: skip
ODD_PADDING = (
    *ODD_INTS, *WORDS, "SAME", "Valid", "", -2, -3, ((1, 2), (0, 1)), ((0, 1),), ((1,), (2,)), ((-1, 0), (0, -1)), (1, (1, 2)),
    ((1, 2), None), ((1, 1.5), (0, 0)), ((1, 2, 3), (1, 2, 3)), [[1, 1], [2, 0]], np.array([[1, 1], [0, 2]]), ((2**40, 0), (0, 0)),
    ((0, 2**63), (0, 0)), ((True, 1), (0, 0)),
)  # fmt: skip
ODD_FLAGS = (True, False, np.True_, 0, 1, None, "yes", np.array(True), [True], 1.0)
ODD_SHAPES = (
    None, 3, "ab", (), (1,), (1, 2), (1, 1, 4), (1, 2, 5, 5), [1, 2, 5, 5], (1, 2, 5, -5), (1, 2, 5.0, 5), (0, 0, 0, 0), (1, 2, 2**40, 5),
    (1, 2, 2**70, 5), (True, 2, 5, 5), (1, None, 5), np.array([1, 2, 5, 5]), (1,) * 70,
)  # fmt: skip


def odd_array(dice: Dice, old: Any) -> Any:
    """Something else in place of an array: other shapes, dtypes, containers, or no array at all."""
    usable = isinstance(old, np.ndarray) and old.dtype.kind in "iufc" and old.size <= LARGEST
    base = old if usable else dice.data(1, 2, 5, 5)
    choices: tuple[Callable[[], Any], ...] = (
        lambda: None, lambda: "image.png", lambda: b"", lambda: 3, lambda: 2.5, lambda: np.float32(1), lambda: True, lambda: [],
        lambda: [[[1, 2], [3]]], lambda: (n for n in range(3)), lambda: {"a": 1}, lambda: object(), lambda: base.tolist(),
        lambda: base[..., None], lambda: base[None], lambda: base[0] if base.ndim and base.shape[0] else base, lambda: base.ravel(),
        lambda: base[..., :0], lambda: base[:0], lambda: base.swapaxes(0, -1) if base.ndim else base, lambda: base.T,
        lambda: np.concatenate([base, base], 1) if base.ndim > 1 else base, lambda: base[:, :1] if base.ndim > 1 else base,
        lambda: base > 0, lambda: base.astype(object), lambda: base.astype(str), lambda: base.real.astype(np.longdouble),
        lambda: base.astype(np.complex64), lambda: base.real.astype(np.float16), lambda: base.real.astype(ml_dtypes.bfloat16),
        lambda: base.real.astype(ml_dtypes.float8_e4m3fn), lambda: base.real.astype("m8[s]"), lambda: base.real.astype(">f4"),
        lambda: base.real.astype(np.uint8), lambda: base.real.astype(np.int64), lambda: base.real.astype(np.int64) * 2**61,
        lambda: np.zeros(base.shape, [("a", "f4")]), lambda: np.zeros(base.shape, "V3"), lambda: masked(base), lambda: base[::-1],
        lambda: np.broadcast_to(np.float32(1), (1, base.shape[1] if base.ndim > 1 else 1, 2**20, 2**20)),
        lambda: np.broadcast_to(np.float32(1), (2**40,) * 1), lambda: np.asfortranarray(base), lambda: base.view(Tagged),
        lambda: np.zeros((1,) * 60, np.float32), lambda: np.full(base.shape, np.nan, object),
    )  # fmt: skip
    return dice.pick(choices)()


class Tagged(np.ndarray):
    """A subclass."""


ODD: dict[str, Any] = {
    **dict.fromkeys(("stride", "dilation", "input_dilation", "kernel", "output_padding", "output_size"), ODD_INTS),
    "padding": ODD_PADDING,
    "groups": (0, -1, 1.0, True, 1, 2, 3, 4, 2**70, None, "1", (1,), (1, 1), np.int64(2), np.array(2), float("nan"), []),
    "layout": (
        *LAYOUTS, "NCHW", "NHWC", "HWC", "CHW", "CHWN", "NCW", "NWC", "nhwc", "NCDHW", "channel_last", "", "C", "NC", "NOHW", "NHW",
        "NCHH", "NC HW", None, 3, True, b"NCHW", ["N"], ("channels_first",), {},
    ),
    "kernel_layout": (
        None, *LAYOUTS, "OIHW", "HWIO", "OHWI", "IOHW", "OIW", "WIO", "oihw", "OI", "OINW", "OIHH", "HWI", "", 3, False, b"OIHW", [],
    ),
    "algorithm": (
        *ALGORITHMS, "winograd_f6", "fft_single", "winogard", "", "AUTO", "im2col", None, 3, True, [], {}, b"auto", ("auto",),
    ),
    "accuracy": (*ACCURACIES, "exact", "", None, 3, [], b"fast"),
    "padding_mode": (*MODES, "edge", "wrap", "reflct", "", None, 0, [], b"zeros"),
    "padding_value": (
        0, 0.0, 1, 2, -1, 1.5, 300, 2**40, 10**30, float("nan"), float("inf"), "a", None, True, 1j, 1 + 0j, (1,), np.float32(2),
        np.int8(3), np.array(1), np.array([1.0, 2.0]), [], {},
    ),
    "max_workspace": (None, 0, 1, 100, 10**4, 10**6, 2**70, -1, 1.5, "1", True, np.int64(10**6), (1,)),
    **dict.fromkeys(("flip", "ceil_mode", "cover_all", "count_include_pad"), ODD_FLAGS),
    "divisor": (None, 1, 2, 0, -1, 1.5, True, "2", (2,), 2**70, np.int64(3)),
    **dict.fromkeys(("input_shape", "kernel_shape"), ODD_SHAPES),
}  # fmt: skip
ARRAYS = ("x", "w", "g", "bias")


def odd_out(dice: Dice, arguments: dict[str, Any]) -> Any:
    x = arguments.get("x", arguments.get("g"))
    sizes = (1, 2, dice.int(1, 6), dice.int(1, 6))
    return dice.pick((np.empty(sizes, np.float32), np.empty(sizes[1:]), [0.0], "out", 3, x, np.empty(sizes, object), masked(np.ones(3))))


def base_conv(dice: Dice) -> dict[str, Any]:
    """A valid convolution, some of its options at their defaults."""
    rank = dice.pick((1, 1, 2, 2, 2, 3))
    groups = dice.pick((1, 1, 1, 2))
    per_group, outs = dice.int(1, 3), groups * dice.int(1, 2)
    kernel = tuple(dice.int(1, 3) for _ in range(rank))
    dilation = tuple(dice.int(1, 2) for _ in range(rank)) if dice.chance(0.3) else 1
    lengths = tuple(dice.int(5, {1: 12, 2: 7, 3: 5}[rank]) for _ in range(rank))
    layout = dice.pick(("channels_first", "channels_first", "channels_last"))
    dtype = dice.pick(("float32", "float32", "float64", "int32", "uint8", "complex64"))
    batch = dice.pick(((1,), (2,), (), (0,)))
    channels = groups * per_group
    last = layout == "channels_last"
    x_shape = (*batch, *lengths, channels) if last else (*batch, channels, *lengths)
    w_shape = (*kernel, per_group, outs) if last else (outs, per_group, *kernel)
    return {
        "x": dice.data(*x_shape, dtype=dtype),
        "w": dice.data(*w_shape, dtype=dtype),
        "bias": dice.data(outs, dtype=dtype) if dice.chance(0.4) else None,
        "stride": dice.pick((1, 1, 2, (2,) * rank, [1] * rank)),
        "padding": dice.pick((0, 1, "same", "valid", "full", ((1, 0),) * rank)),
        "dilation": dilation,
        "groups": groups,
        "input_dilation": dice.pick((1, 1, 1, 2)),
        "padding_mode": dice.pick(("zeros", "zeros", "zeros", "reflect", "circular", "replicate")),
        "padding_value": 0,
        "flip": dice.chance(0.2),
        "layout": layout,
        "kernel_layout": None,
        "algorithm": dice.pick(("auto", "auto", "direct", "gemm", "loops")),
        "accuracy": dice.pick(ACCURACIES),
        "max_workspace": None,
        "out": None,
    }


def draw_conv(dice: Dice) -> dict[str, Any]:
    return base_conv(dice)


def with_gradient(dice: Dice) -> tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]:
    a = base_conv(dice)
    del a["bias"]
    dtype = a["x"].dtype.name
    r = Reading(a, a["x"].shape, a["w"].shape)
    a["g"] = r.user(dice.data(r.canonical[0], r.outs, *r.out, dtype=dtype))
    return a, a["x"].shape, a["w"].shape


def draw_input_grad(dice: Dice) -> dict[str, Any]:
    a, x_shape, _ = with_gradient(dice)
    del a["x"]
    return a | {"input_shape": x_shape}


def draw_weight_grad(dice: Dice) -> dict[str, Any]:
    a, _, w_shape = with_gradient(dice)
    del a["w"]
    return a | {"kernel_shape": w_shape}


def draw_transpose(dice: Dice) -> dict[str, Any]:
    a = base_conv(dice)
    for name in ("input_dilation", "padding_mode", "padding_value"):
        del a[name]
    last = a["layout"] == "channels_last"
    rank, groups = a["w"].ndim - 2, a["groups"]
    channels = groups * dice.int(1, 2)
    per_group = dice.int(1, 3)
    lengths = tuple(dice.int(2, 4) for _ in range(rank))
    kernel = a["w"].shape[:rank] if last else a["w"].shape[2:]
    batch = dice.pick(((1,), (2,), ()))
    dtype = a["x"].dtype.name
    a["x"] = dice.data(*((*batch, *lengths, channels) if last else (*batch, channels, *lengths)), dtype=dtype)
    a["w"] = dice.data(*((*kernel, per_group, channels) if last else (channels, per_group, *kernel)), dtype=dtype)
    a["bias"] = dice.data(groups * per_group, dtype=dtype) if dice.chance(0.4) else None
    return a | {"padding": dice.pick((0, 0, "valid", "same", ((0, 0),) * rank)), "output_padding": 0, "output_size": None}


def draw_unfold(dice: Dice) -> dict[str, Any]:
    a = base_conv(dice)
    last = a["layout"] == "channels_last"
    rank = a["w"].ndim - 2
    kernel = a["w"].shape[:rank] if last else a["w"].shape[2:]
    return {name: a[name] for name in ("x", "stride", "padding", "dilation", "layout")} | {"kernel": tuple(kernel)}


def draw_max_pool(dice: Dice) -> dict[str, Any]:
    rank = dice.pick((1, 2, 2, 3))
    lengths = tuple(dice.int(4, 8 if rank < 3 else 5) for _ in range(rank))
    last = dice.chance(0.3)
    sizes = (dice.int(0, 2), *lengths, dice.int(0, 3)) if last else (dice.int(0, 2), dice.int(0, 3), *lengths)
    return {
        "x": dice.data(*sizes, dtype=dice.pick(("float32", "float64", "int32", "uint8"))),
        "kernel": dice.pick((2, 3, (2,) * rank, [3] * rank)),
        "stride": dice.pick((None, 1, 2, (2,) * rank)),
        "padding": dice.pick((0, 0, 1, "valid", "same", ((0, 1),) * rank)),
        "dilation": 1,
        "ceil_mode": dice.chance(0.2),
        "cover_all": False,
        "layout": "channels_last" if last else "channels_first",
        "out": None,
    }


def draw_avg_pool(dice: Dice) -> dict[str, Any]:
    return draw_max_pool(dice) | {"count_include_pad": dice.chance(0.5), "divisor": dice.pick((None, None, 3))}


OPERATORS: dict[str, tuple[Callable, Callable, tuple[str, ...]]] = {
    "conv": (draw_conv, conv, ("x", "w", "bias")),
    "conv_input_grad": (draw_input_grad, conv_input_grad, ("g", "w")),
    "conv_weight_grad": (draw_weight_grad, conv_weight_grad, ("x", "g")),
    "conv_transpose": (draw_transpose, conv_transpose, ("x", "w", "bias")),
    "unfold": (draw_unfold, unfold, ("x", "kernel")),
    "max_pool": (draw_max_pool, max_pool, ("x", "kernel")),
    "avg_pool": (draw_avg_pool, avg_pool, ("x", "kernel")),
}
OPERATORS = {k: v for k, v in OPERATORS.items() if hasattr(npconv, k)}  # TEMPORARY
#: Arguments that may forbid a call for reasons the reading above does not know: what an algorithm can do.
CAPABILITY = {"algorithm", "accuracy", "max_workspace"}


# --- one call


def disagreement(actual: Any, expected: np.ndarray) -> str | None:
    if type(actual) is not np.ndarray or actual.shape != expected.shape:
        return f"{type(actual).__name__} of shape {getattr(actual, 'shape', None)}, expected {expected.shape}"
    if actual.dtype != expected.dtype:
        return f"dtype {actual.dtype}, expected {expected.dtype}"
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    a, b = actual.astype(wide), expected.astype(wide)
    slack = 0.25 + (2.0**-7 if expected.dtype.itemsize == 2 else 2.0**-20) * np.abs(np.nan_to_num(b))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        wrong = ~same & ~(np.abs(a - b) <= slack)
    return f"{wrong.sum()} of {wrong.size} values are wrong" if wrong.any() else None


def shown(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > 4:
        return f"{type(value).__name__} {value.dtype}{value.shape}"
    return f"{value!r:.80}"


def drawn(draw: Callable, dice: Dice) -> dict[str, Any]:
    """Valid arguments, small enough for the reference."""
    while True:
        try:
            return draw(dice)
        except Unknown:
            continue


def play(seed: int) -> tuple[str, str | None]:
    """(outcome, what is wrong with it)."""
    dice = Dice(seed)
    name = dice.pick(tuple(OPERATORS))
    draw, expect, positional = OPERATORS[name]
    arguments = drawn(draw, dice)
    odd: list[str] = []
    for _ in range(dice.pick((0, 0, 1, 1, 1, 1, 2, 2, 3))):
        which = dice.pick(tuple(arguments))
        if which in ARRAYS:
            arguments[which] = odd_array(dice, arguments[which])
        elif which == "out":
            arguments[which] = odd_out(dice, arguments)
        else:
            arguments[which] = dice.pick(ODD[which])
        odd.append(which)
    try:
        expected, verdict = expect(arguments), "valid"
    except (Bad, OverflowError):  # or an exact sum that int64 cannot hold
        expected, verdict = None, "bad"
    except Unknown:
        expected, verdict = None, "unknown"
    except Exception as error:
        raise RuntimeError(f"the reading of seed {seed} failed: {name}, odd {odd}") from error
    options = {key: value for key, value in arguments.items() if key not in positional}
    if dice.chance(0.03):
        options[dice.pick(("strides", "data_format", "kernal", "x1"))] = 1
        odd, verdict = ["keyword"], "bad"
    told = f"{name}, odd {odd}, {({k: shown(v) for k, v in arguments.items()})}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            signal.alarm(SECONDS)
            actual = getattr(npconv, name)(*(arguments[p] for p in positional), **options)
    except (TypeError, ValueError, MemoryError) as error:
        return type(error).__name__, judge(error, name, odd, verdict, told)
    except BaseException as error:
        return type(error).__name__, f"{type(error).__name__}: {error}; {told}"
    finally:
        signal.alarm(0)
    if verdict == "unknown":
        return "unknown", None
    wrong = "accepted what the specification refuses" if verdict == "bad" else disagreement(actual, expected)
    return "result", wrong and f"{wrong}; {told}"


def judge(error: Exception, name: str, odd: list[str], verdict: str, told: str) -> str | None:
    """What is wrong with a refusal."""
    text = str(error)
    where = f"{type(error).__name__}: {text}; {told}"
    if not odd:
        return f"refused a valid call: {where}"
    allowed = isinstance(error, MemoryError) or CAPABILITY & set(odd) or "sums of these integers" in text
    if verdict == "valid" and not allowed:
        return f"refused what the specification allows: {where}"
    if not text.startswith(f"{name}: ") or "\n" in text:
        return f"not one line that begins with the operation: {where}"
    if not any(re.search(rf"\b{word}\b", text) for word in odd):
        return f"names none of the odd arguments: {where}"
    return None


class TooLong(BaseException):
    """A call that does not come back."""


def too_long(number: int, frame: Any) -> None:
    raise TooLong


def main(first: int, count: int) -> None:
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    signal.signal(signal.SIGALRM, too_long)
    for seed in range(first, first + 20):  # what importing and first calls take is not growth
        play(seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(first, first + count):
        sys.stderr.write(f"{seed}\n")
        outcome, wrong = play(seed)
        outcomes[outcome] += 1
        if wrong:
            failures.append(f"seed {seed}: {wrong}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    sys.stdout.write(json.dumps({"failures": failures, "outcomes": outcomes, "grown": grown}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
