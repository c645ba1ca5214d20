"""Random problems drawn from the specification: what a caller may write, and the same in canonical form.

A problem is known by (operator, seed) and nothing else.  Its arrays and options are what the caller passes;
`canonical` holds the arrays as (N, C, *in) and `geometry` the options as tuples, both for tests/reference.py.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

import reference

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
UNIT = {"float32": 2.0**-24, "float64": 2.0**-53, "complex64": 2.0**-24, "complex128": 2.0**-53}
SHORT = {"float16": 2.0**-11, "bfloat16": 2.0**-8}  # rounded once, after a computation in float32
SMALLEST = {"float16": 2.0**-25, "bfloat16": 2.0**-134}  # half the spacing of the subnormal numbers


@dataclass(frozen=True)
class View:
    """How the caller's array lies: its batch axes, and the order of the axes (*batch, C, *in)."""

    batch: tuple[int, ...]
    order: tuple[int, ...]

    def given(self, array: np.ndarray) -> np.ndarray:
        """The canonical (N, ...) array as the caller holds it."""
        return np.ascontiguousarray(array.reshape(self.batch + array.shape[1:]).transpose(self.order))

    def canonical(self, array: np.ndarray) -> np.ndarray:
        """The caller's array as (N, ...)."""
        array = np.asarray(array).transpose(np.argsort(self.order))
        rest = array.shape[len(self.batch) :]
        return array.reshape(len(list(np.ndindex(*self.batch))), *rest)

    def shape(self, canonical_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The caller's shape for a canonical one."""
        full = self.batch + tuple(canonical_shape[1:])
        return tuple(full[axis] for axis in self.order)


@dataclass(frozen=True)
class Problem:
    """One call, as the caller writes it and as the reference wants it."""

    operator: str
    seed: int
    options: dict[str, Any]  # keyword arguments of the public function
    canonical: dict[str, Any]  # arrays as (N, C, *in) and (O, C/G, *k)
    geometry: dict[str, Any]  # keyword arguments of the reference
    views: dict[str, View] = field(default_factory=dict)  # name of an array -> how the caller holds it
    arguments: tuple[Any, ...] = ()  # positional arguments that are no arrays: a kernel, a size
    style: str = "normal"  # of the numbers

    def given(self, name: str) -> np.ndarray | None:
        """The array as the caller holds it, a fresh copy at every call."""
        array = self.canonical[name]
        return None if array is None else self.views[name].given(array) if name in self.views else array.copy()

    def __str__(self) -> str:
        shapes = {
            name: f"{array.dtype}{self.given(name).shape}"
            for name, array in self.canonical.items()
            if isinstance(array, np.ndarray)
        }
        return f"draw({self.operator!r}, {self.seed}): {shapes} {self.arguments} {self.options}"


def accuracy_unit(dtype: np.dtype) -> float:
    """u of the type the sums run in."""
    return UNIT.get(dtype.name, UNIT["float32"])


def disagreement(actual: np.ndarray, expected: np.ndarray, bound: np.ndarray | float) -> str | None:
    """Why `actual` is not within `bound` of `expected`, or None; integers must be equal.

    `bound` is for the computation; the one rounding of a short float type is added here.
    """
    if actual.shape != expected.shape:
        return f"shape {actual.shape}, expected {expected.shape}"
    if actual.dtype.kind in "iu":
        wrong = actual.astype(object) != expected.astype(object)
        error = np.abs(actual.astype(object) - expected.astype(object))
    else:
        name = actual.dtype.name
        wide = actual.astype(np.complex128 if actual.dtype.kind == "c" else np.float64)
        expected = expected.astype(wide.dtype)
        same = (wide == expected) | (np.isnan(wide) & np.isnan(expected))
        with np.errstate(invalid="ignore"):
            error = np.where(same, 0.0, np.abs(wide - expected))
            bound = bound + SHORT.get(name, 0.0) * (np.abs(expected) + bound) + SMALLEST.get(name, 0.0)
            wrong = ~same & ~(error <= bound)
    if not wrong.any():
        return None
    at = tuple(map(int, np.argwhere(wrong)[0]))
    limit = np.broadcast_to(bound, actual.shape)[at]
    return (
        f"{int(wrong.sum())} of {wrong.size} wrong, first at {at}: {actual[at]!r}, expected {expected[at]!r}"
        f", error {error[at]}, bound {limit}"
    )


# --- the dice


class Dice:
    """A random generator with the few draws a specification needs."""

    def __init__(self, operator: str, seed: int):
        self.rng = np.random.default_rng([zlib.crc32(operator.encode()), seed])

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def int(self, low: int, high: int) -> int:
        """Between low and high, both included."""
        return int(self.rng.integers(low, high + 1))

    def pick(self, *choices: Any) -> Any:
        """One of the choices, each as likely as the number of times it is written."""
        return choices[self.int(0, len(choices) - 1)]

    def ints(self, rank: int, low: int, high: int) -> tuple[int, ...]:
        return tuple(self.int(low, high) for _ in range(rank))


def is_float(dtype: np.dtype) -> bool:
    """bfloat16 does not call itself a float."""
    return dtype.kind == "f" or dtype == BFLOAT16


def is_short(dtype: np.dtype) -> bool:
    return dtype.name in SHORT


def draw_data(dice: Dice, shape: tuple[int, ...], dtype: np.dtype, style: str = "normal") -> np.ndarray:
    """Values with no two alike, or integer valued, or of very different sizes."""
    rng = dice.rng
    if dtype.kind in "iu":
        low, high = max(-100, np.iinfo(dtype).min), min(255, np.iinfo(dtype).max)
        return rng.integers(low, high, shape, endpoint=True).astype(dtype)
    if dtype.kind == "c":
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    if style == "integers":
        return rng.integers(-8, 9, shape).astype(dtype)
    values = rng.standard_normal(shape)
    if style == "positive":
        values = np.abs(values)
    if style == "scales" and dtype.itemsize > 2:
        values = values * np.exp(3 * rng.standard_normal(shape))
    return values.astype(dtype)


def draw_dtype(dice: Dice, complex_too: bool = True) -> np.dtype:
    """The types of the specification, the two common ones most often."""
    kind = dice.pick(
        "float32", "float32", "float32", "float32", "float64", "float64", "float64", "short", "int", "other"
    )
    if kind == "short":
        return dice.pick(np.dtype("float16"), BFLOAT16)
    if kind == "int" or (kind == "other" and not complex_too):
        return np.dtype(dice.pick("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"))
    if kind == "other":
        return np.dtype(dice.pick("complex64", "complex128"))
    return np.dtype(kind)


def spell(dice: Dice, values: tuple[int, ...], one_for_all: bool = True) -> int | tuple[int, ...]:
    """A number per axis, or one int when they agree."""
    if one_for_all and values and len(set(values)) == 1 and dice.chance(0.6):
        return values[0]
    return values


SPATIAL = {0: "", 1: "W", 2: "HW", 3: "DHW", 4: "TDHW"}


def draw_layout(dice: Dice, rank: int, samples: int, explicit_rank: bool, kernels: bool = False):
    """(options, batch axes, order of x's axes, order of w's axes).

    Without `explicit_rank` the operator takes the rank from x.ndim, so a layout by name needs one batch axis.
    """
    style = dice.pick("first", "first", "first", "last", "last", "letters")
    batch: tuple[int, ...] = (samples,)
    if style == "letters":
        if samples == 1 and dice.chance(0.3):
            batch = ()
        letters = dice.pick("NCS", "NCS", "NSC", "CSN", "SCN", "CNS", "SNC") if batch else dice.pick("CS", "SC")
        layout = letters.replace("S", SPATIAL[rank])
        options: dict[str, Any] = {"layout": layout}
        last = layout[-1] == "C"
        names = ("N" if batch else "") + "C" + SPATIAL[rank]
        order = tuple(names.index(letter) for letter in layout)
    else:
        if explicit_rank:
            batch = dice.pick(batch, batch, () if samples == 1 else batch, (1, samples), (samples, 1), (2, samples))
        last = style == "last"
        options = {"layout": "channels_last"} if last else dice.pick({}, {"layout": "channels_first"})
        lead = tuple(range(len(batch)))
        spatial = tuple(len(batch) + 1 + axis for axis in range(rank))
        order = (*lead, *spatial, len(batch)) if last else (*lead, len(batch), *spatial)
    if not kernels:
        return options, batch, order, None
    kernel_order = (*range(2, 2 + rank), 1, 0) if last else tuple(range(2 + rank))
    if dice.chance(0.25):
        word = dice.pick("OIS", "SIO", "OSI", "IOS", "SOI", "ISO", "first", "last")
        if word in ("first", "last"):
            options["kernel_layout"] = f"channels_{word}"
            kernel_order = (*range(2, 2 + rank), 1, 0) if word == "last" else tuple(range(2 + rank))
        else:
            spatial_letters = SPATIAL[rank]
            if style == "letters":  # then letters match letters, in whatever order
                spatial_letters = "".join(dice.rng.permutation(list(spatial_letters)))
            options["kernel_layout"] = word.replace("S", spatial_letters)
            kernel_order = tuple(("OI" + SPATIAL[rank]).index(letter) for letter in options["kernel_layout"])
    return options, batch, order, kernel_order


def total(batch: tuple[int, ...]) -> int:
    """How many samples the batch axes hold."""
    return len(list(np.ndindex(*batch)))


def draw_padding(dice: Dice, rank: int, kernel, dilation, words: tuple[str, ...], negative: bool):
    """What a caller may write for `padding`: nothing, an int, one per axis, a pair per axis, or a word."""
    most = max([reference.effective(k, d) for k, d in zip(kernel, dilation, strict=True)], default=1)
    form = dice.pick("none", "int", "axes", "pairs", "pairs", "word", "word")
    if form == "int":
        return dice.int(0, min(most, 4))
    if form == "axes":
        return dice.ints(rank, 0, min(most, 4))
    if form == "pairs":
        low = -2 if negative and dice.chance(0.4) else 0
        return tuple((dice.int(low, min(most, 5)), dice.int(low, min(most, 5))) for _ in range(rank))
    return dice.pick(*words) if form == "word" else None


def padding_pairs(padding, lengths, kernel, stride, dilation) -> tuple[tuple[int, int], ...]:
    """The written padding as ((lo, hi), ...)."""
    per_axis = padding if isinstance(padding, tuple) else (0 if padding is None else padding,) * len(kernel)
    return tuple(
        reference.padding_pair(each, *axis)
        for each, *axis in zip(per_axis, lengths, kernel, stride, dilation, strict=True)
    )


SIZES = {0: 0, 1: 40, 2: 13, 3: 6, 4: 4}  # the longest axis by rank


class Illegal(Exception):  # noqa: N818 - a refusal of the dice, not an error
    """A draw that the specification does not allow, or that is too large for a loop; draw again."""


MOST_PRODUCTS = 6_000
MOST_WORK = 200_000


def draw(operator: str, seed: int) -> Problem:
    """The problem of this operator and seed."""
    dice = Dice(operator, seed)
    for _ in range(10_000):
        try:
            return DRAWERS[operator](dice, operator, seed)
        except Illegal:
            continue
    raise RuntimeError(f"no legal problem for {operator} {seed}")


def demand(condition: bool) -> None:
    if not condition:
        raise Illegal


def limited(positions: tuple[int, ...], kernel: tuple[int, ...], channels: int = 1) -> None:
    """Refuse what a loop would take too long for."""
    steps = reference.count(positions) * reference.count(kernel) if np.prod(positions, dtype=float) < 1e5 else 1e9
    demand(steps <= MOST_PRODUCTS and steps * max(channels, 1) <= MOST_WORK)


# --- convolutions

MODES = ("constant", "reflect", "symmetric", "replicate", "circular")


def draw_kernel(dice: Dice, rank: int) -> tuple[int, ...]:
    """Small kernels, now and then a long one."""
    if dice.chance(0.4):
        return (dice.pick(3, 3, 3, 5, 1),) * rank
    return dice.ints(rank, 1, {0: 1, 1: dice.pick(5, 5, 17), 2: dice.pick(4, 4, 7), 3: 3, 4: 2}[rank])


def draw_groups(dice: Dice, depthwise: bool = False) -> tuple[int, int, int]:
    """(groups, input channels, output channels)."""
    if depthwise:
        channels = dice.pick(1, 2, 3, 5, 8, 17)
        return channels, channels, channels * dice.pick(1, 1, 2, 3)
    per_group = dice.pick(1, 1, 2, 3, 4, 5, 8, 17, 33, 0 if dice.chance(0.2) else 1)
    outs = dice.pick(1, 1, 2, 3, 4, 5, 8, 16, 0 if dice.chance(0.1) else 1)
    groups = dice.pick(1, 1, 1, 1, 2, 3, 4)
    if dice.chance(0.04):
        per_group, outs = dice.pick(64, 128, 300, 577), dice.int(1, 2)
    return groups, groups * per_group, groups * outs


def draw_arithmetic(dice: Dice, names: tuple[str, ...]) -> tuple[dict[str, np.dtype], str]:
    """Types of the operands, now and then mixed, and a style of data."""
    dtype = draw_dtype(dice)
    dtypes = dict.fromkeys(names, dtype)
    if dice.chance(0.05):
        dtypes[names[1]] = np.dtype(dice.pick("float32", "float64", "float64" if is_short(dtype) else "int16"))
    return dtypes, dice.pick("normal", "normal", "normal", "integers", "positive", "scales")


def result_type(*dtypes: np.dtype) -> np.dtype:
    """The output's type: NumPy's promotion, integers in int64."""
    joint = np.result_type(*dtypes)
    return np.dtype(np.int64) if joint.kind in "iu" else joint


def draw_common(dice: Dice, most_dilation: int = 3) -> tuple:
    """Rank, kernel, stride, dilation; a third are the plain ones every algorithm takes."""
    rank = dice.pick(0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 4)
    plain = dice.chance(0.35)
    kernel = (dice.pick(3, 3, 5, 2),) * rank if plain and rank < 4 else draw_kernel(dice, rank)
    stride = (1,) * rank if plain or dice.chance(0.3) else dice.ints(rank, 1, 4)
    dilation = (1,) * rank if plain or dice.chance(0.5) else dice.ints(rank, 1, most_dilation)
    return rank, plain, kernel, stride, dilation


def write(dice: Dice, options: dict, defaults: dict[str, tuple]) -> dict:
    """Options as a caller would write them: a default may be left out, equal ones may be one int."""
    for name, values in defaults.items():
        if set(values) - {1} or dice.chance(0.3):
            options[name] = spell(dice, values)
    return options


def kernel_view(kernel_order) -> View:
    """A view with no batch: the first canonical axis stays an axis."""
    return KernelView((), kernel_order)


class KernelView(View):
    """A kernel is transposed and nothing else."""

    def given(self, array):
        return np.ascontiguousarray(array.transpose(self.order))

    def canonical(self, array):
        return np.asarray(array).transpose(np.argsort(self.order))

    def shape(self, canonical_shape):
        return tuple(canonical_shape[axis] for axis in self.order)


def draw_conv(dice: Dice, operator: str, seed: int) -> Problem:
    rank, plain, kernel, stride, dilation = draw_common(dice)
    groups, channels, outs = draw_groups(dice, depthwise=dice.chance(0.15))
    demand(rank > 0 or channels > 0)
    smallest = 0 if dice.chance(0.03) else 1
    lengths = dice.ints(rank, smallest, SIZES[rank])
    input_dilation = (1,) * rank if plain or dice.chance(0.75) else dice.ints(rank, 1, 3)
    dilated = tuple(map(reference.dilated_length, lengths, input_dilation))
    mode = dice.pick(*MODES) if dice.chance(0.25) else "zeros"
    words = ("valid", "same", "same", "same_lower", "full", "causal") + ("same_torch",) * (set(stride) <= {1})
    padding = draw_padding(dice, rank, kernel, dilation, words, negative=True)
    demand(all(lengths) or (mode in ("zeros", "constant") and not isinstance(padding, str)))
    pairs = padding_pairs(padding, dilated, kernel, stride, dilation)
    demand(all(length + lo + hi >= 0 for length, (lo, hi) in zip(dilated, pairs, strict=True)))
    geometry: dict[str, Any] = {
        "stride": stride,
        "padding": pairs,
        "dilation": dilation,
        "input_dilation": input_dilation,
        "padding_mode": mode,
        "flip": dice.chance(0.2),
    }
    out = windows_of(lengths, kernel, geometry)
    samples = dice.pick(1, 1, 2, 3, 0 if dice.chance(0.3) else 1)
    limited(out, kernel, samples * channels * outs // groups)
    dtypes, style = draw_arithmetic(dice, ("x", "w", "bias"))
    geometry["groups"] = groups
    if mode == "constant":
        whole = dtypes["x"].kind in "iu"
        geometry["padding_value"] = float(dice.pick(1, 3, 2)) if whole else dice.pick(1.5, -0.25, 2.0)
    options, batch, order, kernel_order = draw_layout(dice, rank, samples, explicit_rank=True, kernels=True)
    samples = total(batch)
    defaults = {"stride": stride, "dilation": dilation, "groups": (groups,), "input_dilation": input_dilation}
    write(dice, options, defaults)
    if "groups" in options:
        options["groups"] = groups
    if padding is not None:
        options["padding"] = padding
    if mode != "zeros":
        options["padding_mode"] = mode
    if mode == "constant":
        options["padding_value"] = geometry["padding_value"]
    if geometry["flip"]:
        options["flip"] = True
    shapes = {
        "x": (samples, channels, *lengths),
        "w": (outs, channels // groups, *kernel),
        "bias": (outs,) if dice.chance(0.5) else None,
        "g": (samples, outs, *out),
    }
    dtypes["g"] = result_type(dtypes["x"], dtypes["w"])
    canonical = arrays(dice, shapes, dtypes, style)
    views = {"x": View(batch, order), "w": kernel_view(kernel_order), "g": View(batch, order)}
    return Problem(operator, seed, options, canonical, geometry, views, style=style)


def arrays(dice: Dice, shapes: dict, dtypes: dict, style: str) -> dict[str, np.ndarray | None]:
    """Data of each shape; None stays None."""
    return {
        name: None if shape is None else draw_data(dice, shape, dtypes[name], style) for name, shape in shapes.items()
    }


def windows_of(lengths, kernel, geometry) -> tuple[int, ...]:
    """Output sizes, counted; an illegal geometry is drawn again."""
    try:
        return reference.Products(lengths, kernel, **geometry).out
    except (ValueError, IndexError):
        raise Illegal from None


def draw_transpose(dice: Dice, operator: str, seed: int) -> Problem:
    rank, _, kernel, stride, dilation = draw_common(dice)
    groups, channels, outs = draw_groups(dice, depthwise=dice.chance(0.1))
    lengths = dice.ints(rank, 1, {0: 0, 1: 12, 2: 6, 3: 4, 4: 3}[rank])
    samples = dice.pick(1, 1, 2, 3, 0 if dice.chance(0.3) else 1)
    words = ("valid", "same", "same", "same_lower", "full", "causal") + ("same_torch",) * (set(stride) <= {1})
    padding = draw_padding(dice, rank, kernel, dilation, words, negative=True)
    extra = tuple(dice.int(0, max(s, d) - 1) * dice.chance(0.5) for s, d in zip(stride, dilation, strict=True))
    whole = tuple(length * s for length, s in zip(lengths, stride, strict=True))
    if padding in ("same", "same_lower"):
        size = tuple(n - dice.int(0, s - 1) * dice.chance(0.3) for n, s in zip(whole, stride, strict=True))
        pairs = padding_pairs(padding, size, kernel, stride, dilation)
        extra = (0,) * rank
    else:
        pairs = padding_pairs(padding, lengths, kernel, stride, dilation)
        axes = zip(lengths, kernel, stride, pairs, dilation, extra, strict=True)
        size = tuple(reference.conv_transpose_size(*axis) for axis in axes)
    demand(all(length > 0 for length in size))
    geometry = {"stride": stride, "padding": pairs, "dilation": dilation, "flip": dice.chance(0.2)}
    # The conv it is the adjoint of has x's size; or more, with output_padding >= stride.
    most = windows_of(size, kernel, geometry)
    demand(all(n <= many for n, many in zip(lengths, most, strict=True)))
    limited(lengths, kernel, samples * channels * outs // groups)
    options, batch, order, kernel_order = draw_layout(dice, rank, samples, explicit_rank=True, kernels=True)
    samples = total(batch)
    write(dice, options, {"stride": stride, "dilation": dilation})
    if groups > 1:
        options["groups"] = groups
    if padding is not None:
        options["padding"] = padding
    if any(extra) and dice.chance(0.7):
        options["output_padding"] = spell(dice, extra)
    elif any(extra) or dice.chance(0.1) or (padding in ("same", "same_lower") and size != whole):
        options["output_size"] = size
    if geometry["flip"]:
        options["flip"] = True
    dtypes, style = draw_arithmetic(dice, ("x", "w", "bias"))
    shapes = {
        "x": (samples, channels, *lengths),
        "w": (channels, outs // groups, *kernel),
        "bias": (outs,) if dice.chance(0.5) else None,
        "g": (samples, outs, *size),
    }
    dtypes["g"] = result_type(dtypes["x"], dtypes["w"])
    views = {"x": View(batch, order), "w": kernel_view(kernel_order), "g": View(batch, order)}
    geometry["groups"] = groups
    canonical = arrays(dice, shapes, dtypes, style)
    return Problem(operator, seed, options, canonical, geometry, views, style=style)


def draw_special(dice: Dice, operator: str, seed: int) -> Problem:
    """depthwise_conv, separable_conv and local_conv: stride, padding, dilation and a layout by name."""
    rank, _, kernel, stride, dilation = draw_common(dice)
    demand(rank > 0)
    lengths = dice.ints(rank, 1, SIZES[rank])
    words = ("valid", "same", "same", "same_lower", "full", "causal")
    padding = draw_padding(dice, rank, kernel, dilation, words, negative=True)
    pairs = padding_pairs(padding, lengths, kernel, stride, dilation)
    demand(all(length + lo + hi >= 0 for length, (lo, hi) in zip(lengths, pairs, strict=True)))
    geometry: dict[str, Any] = {"stride": stride, "padding": pairs, "dilation": dilation}
    out = windows_of(lengths, kernel, geometry)
    last = dice.chance(0.4)
    samples = dice.pick(1, 1, 2, 3)
    local = operator == "local_conv"
    groups, channels, outs = draw_groups(dice, depthwise=not local)
    demand(channels > 0 and outs > 0)
    limited(out, kernel, samples * channels * outs // groups)
    demand(not local or reference.count(out) * reference.count(kernel) * outs * channels // groups < 50_000)
    batch = dice.pick((samples,), (samples,), (1, samples), (2, samples), () if samples == 1 else (samples,))
    samples = total(batch)
    lead, spatial = tuple(range(len(batch))), tuple(len(batch) + 1 + axis for axis in range(rank))
    order = (*lead, *spatial, len(batch)) if last else (*lead, len(batch), *spatial)
    options: dict[str, Any] = {"layout": "channels_last"} if last else {}
    write(dice, options, {"stride": stride, "dilation": dilation})
    if padding is not None:
        options["padding"] = padding
    if local and groups > 1:
        options["groups"] = groups
    dtypes, style = draw_arithmetic(dice, ("x", "w", "bias", "pointwise"))
    taps, shapes = tuple(range(2, 2 + rank)), {"x": (samples, channels, *lengths)}
    views = {"x": View(batch, order), "g": View(batch, order)}
    bias = (outs,)
    if local:
        geometry["groups"] = groups
        shapes["w"] = (outs, channels // groups, *kernel, *out)
        places = tuple(range(2 + rank, 2 + 2 * rank))
        views["w"] = kernel_view((*places, *taps, 1, 0) if last else tuple(range(2 + 2 * rank)))
        if dice.chance(0.5):
            bias = (outs, *out)
            views["bias"] = kernel_view((*range(1, 1 + rank), 0) if last else tuple(range(1 + rank)))
    else:
        shapes["w"] = (outs, 1, *kernel)
        views["w"] = DepthwiseView((), taps, channels) if last else kernel_view(tuple(range(2 + rank)))
    if operator == "separable_conv":
        middle, outs = outs, dice.int(1, 5)
        bias = (outs,)
        shapes["pointwise"] = (outs, middle, *(1,) * rank)
        views["pointwise"] = kernel_view((*taps, 1, 0) if last else tuple(range(2 + rank)))
    shapes["bias"] = bias if dice.chance(0.5) else None
    shapes["g"] = (samples, outs, *out)
    dtypes["g"] = result_type(dtypes["x"], dtypes["w"], dtypes.get("pointwise", dtypes["x"]))
    if operator != "separable_conv":
        dtypes["g"] = result_type(dtypes["x"], dtypes["w"])
    canonical = arrays(dice, shapes, dtypes, style)
    return Problem(operator, seed, options, canonical, geometry, views, style=style)


@dataclass(frozen=True)
class DepthwiseView(View):
    """(C m, 1, *k) as TensorFlow holds it: (*k, C, m)."""

    channels: int = 1

    def given(self, array):
        kernel = array.shape[2:]
        split = array.reshape(self.channels, array.shape[0] // self.channels, *kernel)
        return np.ascontiguousarray(np.moveaxis(split, (0, 1), (-2, -1)))

    def canonical(self, array):
        split = np.moveaxis(np.asarray(array), (-2, -1), (0, 1))
        return split.reshape(split.shape[0] * split.shape[1], 1, *split.shape[2:])

    def shape(self, canonical_shape):
        return (*canonical_shape[2:], self.channels, canonical_shape[0] // self.channels)


def draw_unfold(dice: Dice, operator: str, seed: int) -> Problem:
    """x to unfold, and columns to fold as g."""
    rank, _, kernel, stride, dilation = draw_common(dice)
    demand(rank > 0)
    lengths = dice.ints(rank, 1, SIZES[rank])
    padding = draw_padding(dice, rank, kernel, dilation, ("valid", "same", "full"), negative=False)
    pairs = padding_pairs(padding, lengths, kernel, stride, dilation)
    geometry = {"stride": stride, "padding": pairs, "dilation": dilation}
    out = windows_of(lengths, kernel, geometry)
    samples, channels = dice.int(1, 3), dice.int(1, 4)
    limited(out, kernel, samples * channels)
    last = dice.chance(0.3)
    options: dict[str, Any] = {"layout": "channels_last"} if last else {}
    write(dice, options, {"stride": stride, "dilation": dilation})
    if padding is not None:
        options["padding"] = padding
    dtype = draw_dtype(dice)
    dtypes = {"x": dtype, "g": dtype}
    columns = (samples, channels * reference.count(kernel), reference.count(out))
    style = dice.pick("normal", "integers") if is_float(dtype) else "normal"
    canonical = arrays(dice, {"x": (samples, channels, *lengths), "g": columns}, dtypes, style)
    order = (0, *range(2, 2 + rank), 1) if last else tuple(range(2 + rank))
    views = {"x": View((samples,), order), "g": ColumnsView((samples,), (0,), channels if last else 0)}
    return Problem(operator, seed, options, canonical, geometry, views, (kernel,))


@dataclass(frozen=True)
class ColumnsView(View):
    """Columns (N, C prod(k), L); channels last (`channels` given) as (N, L, prod(k) C)."""

    channels: int = 0

    def given(self, array):
        if not self.channels:
            return array.copy()
        n, rows, places = array.shape
        split = array.reshape(n, self.channels, rows // self.channels, places)
        return np.ascontiguousarray(split.transpose(0, 3, 2, 1).reshape(n, places, rows))

    def canonical(self, array):
        if not self.channels:
            return np.asarray(array)
        n, places, rows = array.shape
        split = np.asarray(array).reshape(n, places, rows // self.channels, self.channels)
        return split.transpose(0, 3, 2, 1).reshape(n, rows, places)


# --- pooling


def draw_pool_data(dice: Dice, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Distinct values, or many ties, or a few NaN and infinities."""
    style = dice.pick("normal", "normal", "ties", "nan")
    if style == "ties":
        return dice.rng.integers(0, 4, shape).astype(dtype)
    values = draw_data(dice, shape, dtype)
    if style == "nan" and is_float(dtype) and values.size:
        values[dice.rng.random(shape) < 0.1] = np.nan
        values[dice.rng.random(shape) < 0.1] = -np.inf
    return values


def gradient_type(dtype: np.dtype, exact: bool) -> np.dtype:
    """The type of the output, but never so narrow that a sum of gradients wraps."""
    return dtype if is_float(dtype) else np.dtype("int64" if exact else "float64")


def draw_pool(dice: Dice, operator: str, seed: int) -> Problem:
    rank = dice.pick(1, 1, 2, 2, 2, 2, 3, 3, 4)
    kernel = dice.ints(rank, 1, {1: 5, 2: 4, 3: 3, 4: 2}[rank])
    if dice.chance(0.4):
        kernel = (dice.pick(2, 2, 3),) * rank
    own_stride = dice.chance(0.6)
    stride = dice.ints(rank, 1, 4) if own_stride else kernel
    dilation = dice.ints(rank, 1, 3) if dice.chance(0.3) else (1,) * rank
    lengths = dice.ints(rank, 1, SIZES[rank])
    padding = draw_padding(dice, rank, kernel, dilation, ("valid", "same", "same_lower"), negative=False)
    pairs = padding_pairs(padding, lengths, kernel, stride, dilation)
    spans = tuple(map(reference.effective, kernel, dilation))
    for length, (lo, hi), span in zip(lengths, pairs, spans, strict=True):
        demand(lo < span and hi < span and lo + length + hi >= span)
    rule = "floor" if isinstance(padding, str) else dice.pick("floor", "floor", "ceil", "cover_all")
    geometry: dict[str, Any] = {"stride": stride, "padding": pairs, "dilation": dilation, "rule": rule}
    windows = reference.Windows(lengths, kernel, **geometry)
    out = windows.out
    # The largest of nothing is refused; an average or a norm of nothing is 0.
    demand(operator != "max_pool" or all(inside for _, inside, _ in windows))
    samples, channels = dice.pick(1, 1, 2, 3), dice.pick(1, 2, 3, 5)
    limited(out, kernel, samples * channels * 4)
    by_tuple = dice.chance(0.5)
    options, batch, order, _ = draw_layout(dice, rank, samples, explicit_rank=by_tuple)
    samples = total(batch)
    arguments = (kernel if by_tuple else spell(dice, kernel),)
    if own_stride:
        options["stride"] = spell(dice, stride)
    if set(dilation) != {1}:
        options["dilation"] = spell(dice, dilation)
    if padding is not None:
        options["padding"] = padding
    if rule != "floor":
        options["ceil_mode" if rule == "ceil" else "cover_all"] = True
    dtype = draw_dtype(dice, complex_too=False)
    x = draw_pool_data(dice, (samples, channels, *lengths), dtype)
    extra: dict[str, Any] = {}
    if operator == "max_pool":
        spaces = ("plane", "plane", "onnx", "onnx_column_major", "tf", "tf_batch")
        extra["indices"] = dice.pick(*spaces) if len(batch) == 1 else "plane"
    if operator == "avg_pool":
        if dice.chance(0.4):
            options["count_include_pad"] = extra["include_pad"] = dice.chance(0.3)
        if dice.chance(0.15):
            options["divisor"] = extra["divisor"] = dice.int(1, 7)
    if operator == "lp_pool":
        extra["p"] = dice.pick(1, 2, 2, 3, 2.0, 1.5, 4, np.inf)
        if extra["p"] != 2 or dice.chance(0.5):
            options["p"] = extra["p"]
    g_type = gradient_type(dtype, "max" in operator)
    g = draw_data(dice, (samples, channels, *out), g_type)
    geometry |= {"kernel": kernel}
    canonical = {"x": x, "g": g, "extra": extra}
    views = {"x": View(batch, order), "g": View(batch, order)}
    return Problem(operator, seed, options, canonical, geometry, views, arguments)


def draw_adaptive(dice: Dice, operator: str, seed: int) -> Problem:
    """Adaptive and global pools."""
    rank = dice.pick(1, 1, 2, 2, 2, 3, 4)
    lengths = dice.ints(rank, 1, SIZES[rank])
    samples, channels = dice.pick(1, 2, 3), dice.pick(1, 2, 3, 5)
    whole = operator.startswith("global")
    by_tuple = not whole and dice.chance(0.6)
    options, batch, order, _ = draw_layout(dice, rank, samples, explicit_rank=by_tuple)
    samples = total(batch)
    arguments: tuple[Any, ...] = ()
    size: tuple[int, ...] = (1,) * rank
    if by_tuple:
        written = tuple(None if dice.chance(0.2) else dice.int(1, length + 2) for length in lengths)
        size = tuple(length if o is None else o for o, length in zip(written, lengths, strict=True))
        arguments = (written,)
    elif not whole:
        size = (dice.int(1, max(lengths) + 1),) * rank
        arguments = (size[0],)
    demand(reference.count(size) * reference.count(lengths) < 20_000)
    if whole and dice.chance(0.4):
        options["keepdims"] = dice.chance(0.3)
    dtype = draw_dtype(dice, complex_too=False)
    x = draw_pool_data(dice, (samples, channels, *lengths), dtype)
    g_type = gradient_type(dtype, "max" in operator)
    g = draw_data(dice, (samples, channels, *size), g_type)
    views = {"x": View(batch, order), "g": View(batch, order)}
    if options.get("keepdims") is False:  # what is left of the order without the spatial axes
        views["g"] = FlatView(batch, tuple(axis for axis in order if axis <= len(batch)), rank)
    return Problem(operator, seed, options, {"x": x, "g": g}, {"size": size}, views, arguments)


@dataclass(frozen=True)
class FlatView(View):
    """(N, C, 1, 1) without its spatial axes."""

    rank: int = 0

    def given(self, array):
        return super().given(array.reshape(array.shape[:2]))

    def canonical(self, array):
        array = super().canonical(array)
        return array.reshape(*array.shape, *(1,) * self.rank)


def draw_fractional(dice: Dice, operator: str, seed: int) -> Problem:
    rank = dice.pick(1, 2, 2, 2, 3)
    kernel = dice.ints(rank, 1, 3)
    lengths = tuple(k + dice.int(0, SIZES[rank] - 3) for k in kernel)
    size = tuple(dice.int(1, length - k + 1) for length, k in zip(lengths, kernel, strict=True))
    samples, channels = dice.int(1, 3), dice.int(1, 4)
    by_tuple = dice.chance(0.5)
    options, batch, order, _ = draw_layout(dice, rank, samples, explicit_rank=False)
    samples = total(batch)
    limited(size, kernel, samples * channels * 8)
    uniform = dice.rng.random((samples, channels, rank))
    options |= {"output_size": spell(dice, size), "samples": uniform}
    demand(len(batch) == 1)
    dtype = draw_dtype(dice, complex_too=False)
    x = draw_pool_data(dice, (samples, channels, *lengths), dtype)
    g = draw_data(dice, (samples, channels, *size), gradient_type(dtype, True))
    views = {"x": View(batch, order), "g": View(batch, order)}
    arguments = (kernel if by_tuple else spell(dice, kernel),)
    geometry = {"kernel": kernel, "output_size": size, "samples": uniform}
    return Problem(operator, seed, options, {"x": x, "g": g}, geometry, views, arguments)


def draw_unpool(dice: Dice, operator: str, seed: int) -> Problem:
    """Any indices on the plane, duplicates among them, or those of a real max pool."""
    rank = dice.pick(1, 2, 2, 2, 3)
    kernel = dice.ints(rank, 1, 3)
    stride = dice.ints(rank, 1, 3) if dice.chance(0.4) else kernel
    padding = draw_padding(dice, rank, kernel, (1,) * rank, ("valid",), negative=False)
    pairs = padding_pairs(padding, kernel, kernel, stride, (1,) * rank)
    lengths = dice.ints(rank, 1, {1: 12, 2: 6, 3: 4}[rank])
    axes = zip(lengths, kernel, stride, pairs, strict=True)
    size = tuple(reference.conv_transpose_size(n, k, s, pair, 1, 0) for n, k, s, pair in axes)
    demand(all(lo < k and hi < k for (lo, hi), k in zip(pairs, kernel, strict=True)))
    samples, channels = dice.int(1, 3), dice.int(1, 4)
    options, batch, order, _ = draw_layout(dice, rank, samples, explicit_rank=False)
    demand(len(batch) == 1)
    if stride != kernel:
        options["stride"] = spell(dice, stride)
    if padding is not None:
        options["padding"] = padding
    if dice.chance(0.3):
        size = tuple(length + dice.int(0, s - 1) for length, s in zip(size, stride, strict=True))
        options["output_size"] = size
    demand(all(length > 0 for length in size) and reference.count(size) < 2_000)
    planes = reference.count(size)
    shape = (samples, channels, *lengths)
    demand(dice.chance(0.5) or reference.count(lengths) <= planes)
    winners = dice.rng.integers(0, planes, shape)
    if dice.chance(0.6) and reference.count(lengths) <= planes:
        for plane in np.ndindex(samples, channels):
            winners[plane] = dice.rng.permutation(planes)[: reference.count(lengths)].reshape(lengths)
    dtype = draw_dtype(dice, complex_too=False)
    x = draw_data(dice, shape, dtype)
    g = draw_data(dice, (samples, channels, *size), gradient_type(dtype, True))
    space = dice.pick("plane", "plane", "onnx", "onnx_column_major", "tf", "tf_batch")
    if space != "plane":
        options["indices_space"] = space
    view = View(batch, order)
    canonical = {"x": x, "g": g, "indices": winners}
    views = {"x": view, "g": view, "indices": view}
    geometry = {"size": size, "space": space}
    return Problem(operator, seed, options, canonical, geometry, views, (spell(dice, kernel),))


DRAWERS: dict[str, Callable[[Dice, str, int], Problem]] = {
    "conv": draw_conv,
    "conv_transpose": draw_transpose,
    "depthwise_conv": draw_special,
    "separable_conv": draw_special,
    "local_conv": draw_special,
    "unfold": draw_unfold,
    "max_pool": draw_pool,
    "avg_pool": draw_pool,
    "lp_pool": draw_pool,
    "adaptive_max_pool": draw_adaptive,
    "adaptive_avg_pool": draw_adaptive,
    "global_max_pool": draw_adaptive,
    "global_avg_pool": draw_adaptive,
    "fractional_max_pool": draw_fractional,
    "max_unpool": draw_unpool,
}
