"""All shape arithmetic, once, in Python ints; this module imports nothing of ours.

Glossary, used everywhere in npconv:

======================  ==========================================================================
N, C, O, G              batch, input channels, output channels, groups
in, k, out              spatial tuples: input size, kernel size, output size, one entry per axis
rank                    the number of spatial axes, ``len(k)``; 0 and up
s, d, D                 stride, (kernel) dilation, input dilation, per axis
lo, hi                  padding before and after an axis; negative crops
e                       effective kernel size ``d (k - 1) + 1``                              (rule R1)
x, w, y, g              input (N, C, *in), weights (O, C/G, *k), output (N, O, *out), gradient of y
window, tap             the input positions one output reads; one position of the kernel
channels_first          N C in... with weights O I k... ; channels_last: N in... C with k... I O
tile                    a box of outputs; itself a convolution of the same x, with other padding
======================  ==========================================================================

Convolution here means cross-correlation, as in every deep-learning framework:

    y[n, o, p] = sum over c, t of  w[o, c, t] x[n, c, p s + t d - lo]
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import product
from typing import Any

from .records import dataclass, replace

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]

LARGEST = 2**63 - 1


# --------------------------------------------------------------------------- the formulas
def effective_kernel(k: int, d: int) -> int:
    """The span of `k` taps that lie `d` apart (rule R1)."""
    return d * (k - 1) + 1


def dilated_size(size: int, dilation: int) -> int:
    """The length of an axis after ``dilation - 1`` zeros were put between its elements."""
    return (size - 1) * dilation + 1 if size else 0


def window_count(padded: int, e: int, s: int) -> int:
    """How many windows of span `e` fit into `padded`, `s` apart (rule R2)."""
    return (padded - e) // s + 1


def covered_size(e: int, s: int, out: int) -> int:
    """The length that `out` windows of span `e`, `s` apart, reach over."""
    return (out - 1) * s + e


def closing_pad(size: int, lo: int, e: int, s: int, out: int) -> int:
    """The high padding that ends an axis right after its `out`-th window."""
    return covered_size(e, s, out) - size - lo


def landing(size: int, lo: int, padded: int, D: int) -> tuple[slice, slice]:
    """Which of `size` inputs, spread `D` apart, land inside `padded` positions, and on which positions."""
    first = max(0, -(lo // D))  # the smallest i with i D + lo >= 0
    stop = max(first, min(size, (padded - 1 - lo) // D + 1))
    start = lo + first * D
    return slice(first, stop), slice(start, start + dilated_size(stop - first, D), D)


def interleaved(size: int, lo: int, d: int, out: int) -> list[tuple[int, int, int, int]]:
    """An axis under a kernel of dilation `d` as axes of dilation 1: (first input, inputs, padding before, outputs).

    Outputs q, q + d, q + 2 d ... read inputs that lie `d` apart too, and no others do.
    """
    firsts = [(q, (q - lo) % d) for q in range(min(d, out))]
    return [(a, max(0, ceil_div(size - a, d)), (a + lo - q) // d, ceil_div(out - q, d)) for q, a in firsts]


def strided_parts(size: int, lo: int, k: int, s: int) -> list[tuple[int, int, int, int]]:
    """An axis under a kernel of `k` taps and stride `s` as axes of stride 1: (first input, inputs, padding before, taps).

    Taps t, t + s, t + 2 s ... of all outputs read inputs that lie `s` apart, and the sum of these parts is the whole.
    """
    firsts = [(t, ceil_div(lo - t, s)) for t in range(min(s, k))]
    return [(t - lo + b * s, max(0, ceil_div(size + lo - t, s) - b), b, ceil_div(k - t, s)) for t, b in firsts]


def transposed_size(size: int, lo: int, hi: int, e: int, s: int, extra: int) -> int:
    """The output length of a transposed convolution (rules R9 and R10)."""
    return (size - 1) * s - lo - hi + e + extra


def ceil_div(a: int, b: int) -> int:
    """``ceil(a / b)`` in exact integers."""
    return -(-a // b)


def total(shape: Sequence[int]) -> int:
    """The number of elements of `shape`, exact."""
    return math.prod(shape)


def three_axes(values: Ints, fill: int) -> tuple[int, int, int]:
    """Per-axis values of up to three axes as (depth, height, width), `fill` for those that are not there."""
    depth, height, width = (fill,) * (3 - len(values)) + tuple(values)
    return depth, height, width


def pool_count(size: int, lo: int, hi: int, e: int, s: int, rounding: str) -> int:
    """How many pooling windows an axis has (rules R2 and R3).

    ``"floor"`` counts whole windows. ``"ceil"`` adds one for a remainder, unless it would start in the
    high padding (torch, ONNX). ``"cover_all"`` adds one for any remainder (Chainer).
    """
    span = size + lo + hi - e
    if rounding == "floor":
        return span // s + 1
    count = ceil_div(span, s) + 1
    if rounding == "ceil" and (count - 1) * s >= size + lo:
        count -= 1
    return count


def adaptive_bin(i: int, size: int, out: int) -> tuple[int, int]:
    """The half-open range of inputs that bin `i` of `out` averages or maximises over (rule R19)."""
    return i * size // out, ceil_div((i + 1) * size, out)


def fractional_starts(size: int, k: int, out: int, u: float) -> list[int]:
    """Where the `out` windows of fractional pooling start, for one sample `u` in [0, 1) (Graham 2014)."""
    if out == 1:
        return [size - k]
    alpha = (size - k) / (out - 1)
    return [int((i + u) * alpha) - int(u * alpha) for i in range(out - 1)] + [size - k]


def same_pads(size: int, e: int, s: int, *, lower: bool = False) -> tuple[int, int]:
    """TensorFlow's "same" (rule R4): ``ceil(size / s)`` outputs; the odd one at the high side (R5: low)."""
    pad = max(0, (ceil_div(size, s) - 1) * s + e - size)
    small = pad // 2
    return (pad - small, small) if lower else (small, pad - small)


def named_pads(name: str, size: int, e: int, s: int) -> tuple[int, int]:
    """The (lo, hi) that a padding name stands for on one axis."""
    if name == "valid":
        return 0, 0
    if name in ("same", "same_lower"):
        return same_pads(size, e, s, lower=name == "same_lower")
    if name == "same_torch":  # R6: depends on the kernel alone
        return (e - 1) // 2, e - 1 - (e - 1) // 2
    return e - 1, (0 if name == "causal" else e - 1)


# --------------------------------------------------------------------------- a convolution
@dataclass(frozen=True)
class Phase:
    """One residue class of an input-dilated convolution: a convolution without input dilation."""

    out: tuple[slice, ...]
    taps: tuple[slice, ...]
    geometry: ConvGeometry | None  # None: no tap meets real input, the outputs are zero


@dataclass(frozen=True)
class ConvGeometry:
    """The sizes of one zero-padded convolution: (N, C, *in) * (O, C/G, *k) -> (N, O, *out)."""

    batch: int
    in_channels: int
    out_channels: int
    in_shape: Ints
    kernel: Ints
    stride: Ints
    dilation: Ints
    padding: Pads
    input_dilation: Ints
    groups: int = 1

    def __hash__(self) -> int:  # every call looks things up by it, several times
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(tuple([getattr(self, name) for name in self.__match_args__]))

    @property
    def rank(self) -> int:
        return len(self.kernel)

    @cached_property
    def dilated_shape(self) -> Ints:
        return tuple(dilated_size(n, D) for n, D in zip(self.in_shape, self.input_dilation, strict=True))

    @cached_property
    def padded_shape(self) -> Ints:
        return tuple(n + lo + hi for n, (lo, hi) in zip(self.dilated_shape, self.padding, strict=True))

    @cached_property
    def effective(self) -> Ints:
        return tuple(effective_kernel(k, d) for k, d in zip(self.kernel, self.dilation, strict=True))

    @cached_property
    def out_shape(self) -> Ints:
        return tuple(
            window_count(p, e, s) for p, e, s in zip(self.padded_shape, self.effective, self.stride, strict=True)
        )

    @property
    def x_shape(self) -> Ints:
        return (self.batch, self.in_channels, *self.in_shape)

    @property
    def w_shape(self) -> Ints:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def y_shape(self) -> Ints:
        return (self.batch, self.out_channels, *self.out_shape)

    @property
    def taps(self) -> int:
        """The number of kernel positions."""
        return total(self.kernel)

    @property
    def terms(self) -> int:
        """How many products one output sums."""
        return self.taps * self.per_group[0]

    @property
    def per_group(self) -> tuple[int, int]:
        """Input and output channels of one group."""
        return self.in_channels // self.groups, self.out_channels // self.groups

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of the direct algorithm."""
        return total(self.y_shape) * self.terms

    @property
    def is_pointwise(self) -> bool:
        """A kernel of one tap that reads every input once: a plain matrix product."""
        return self.taps == 1 and self.out_shape == self.in_shape and all(s == 1 for s in self.stride)

    def with_out(self, starts: Ints, out: Ints, batch: int | None = None) -> ConvGeometry:
        """The box of `out` outputs from `starts`: the same x under another, perhaps negative, padding."""
        pads = []
        for a, n, size, (lo, _), e, s in zip(
            starts, out, self.dilated_shape, self.padding, self.effective, self.stride, strict=True
        ):
            pads.append((lo - a * s, closing_pad(size, lo - a * s, e, s, n)))
        return replace(self, padding=tuple(pads), batch=self.batch if batch is None else batch)

    def tight(self) -> ConvGeometry:
        """The same convolution without what no window reads at the end: it must neither cost nor round."""
        return self.with_out((0,) * self.rank, self.out_shape)

    def transposed(self) -> ConvGeometry:
        """The input gradient as a convolution of g with the flipped, in/out-swapped kernel."""
        pads = []
        for size, (lo, _), e, s, D, out in zip(
            self.in_shape,
            self.padding,
            self.effective,
            self.stride,
            self.input_dilation,
            self.out_shape,
            strict=True,
        ):
            before = e - 1 - lo
            pads.append((before, closing_pad(dilated_size(out, s), before, e, D, size)))
        return ConvGeometry(
            self.batch,
            self.out_channels,
            self.in_channels,
            self.out_shape,
            self.kernel,
            stride=self.input_dilation,
            dilation=self.dilation,
            padding=tuple(pads),
            input_dilation=self.stride,
            groups=self.groups,
        )

    def weight_problem(self) -> ConvGeometry:
        """The weight gradient of one group as a convolution of the padded x (C as batch) with g, dilated, as kernel."""
        pads = tuple(
            (0, closing_pad(size, 0, effective_kernel(out, s), d, k))
            for size, out, s, d, k in zip(
                self.padded_shape, self.out_shape, self.stride, self.dilation, self.kernel, strict=True
            )
        )
        return ConvGeometry(
            self.in_channels // self.groups,
            self.batch,
            self.out_channels // self.groups,
            self.padded_shape,
            self.out_shape,
            stride=self.dilation,
            dilation=self.stride,
            padding=pads,
            input_dilation=(1,) * self.rank,
        )

    def phases(self) -> Iterator[Phase]:
        """Split an input-dilated convolution into convolutions that skip the inserted zeros.

        Output o, tap t reads dilated position ``o s + t d - lo``, which holds data only when it is a multiple of
        the input dilation D. So outputs of one residue modulo ``D / gcd(s, D)`` share their taps, which lie
        ``D / gcd(d, D)`` apart, and together they are a convolution with stride ``s / gcd(s, D)`` and dilation
        ``d / gcd(d, D)`` of the undilated input. This is the sub-pixel view of transposed convolution.
        """
        axes = [self._axis_phases(i) for i in range(self.rank)]
        for parts in product(*axes):
            out, taps = tuple(p[0] for p in parts), tuple(p[1] for p in parts)
            if any(p[2] is None for p in parts):
                yield Phase(out, taps, None)
                continue
            kernel, stride, dilation, padding = zip(*(p[2] for p in parts), strict=True)
            geometry = replace(
                self,
                kernel=kernel,
                stride=stride,
                dilation=dilation,
                padding=padding,
                input_dilation=(1,) * self.rank,
            )
            yield Phase(out, taps, geometry)

    def _axis_phases(self, i: int) -> list[tuple[slice, slice, Any]]:
        D, s, d, k, lo = (
            self.input_dilation[i],
            self.stride[i],
            self.dilation[i],
            self.kernel[i],
            self.padding[i][0],
        )
        out_step, tap_step = D // math.gcd(s, D), D // math.gcd(d, D)
        found: list[tuple[slice, slice, Any]] = []
        for q in range(min(out_step, self.out_shape[i])):
            first = next((t for t in range(min(tap_step, k)) if (q * s + t * d - lo) % D == 0), None)
            count = ceil_div(self.out_shape[i] - q, out_step)
            out = slice(q, None, out_step)
            if first is None:
                found.append((out, slice(0, 0), None))
                continue
            taps, step, reach = ceil_div(k - first, tap_step), s // math.gcd(s, D), d // math.gcd(d, D)
            before = (lo - q * s - first * d) // D
            after = closing_pad(self.in_shape[i], before, effective_kernel(taps, reach), step, count)
            found.append((out, slice(first, None, tap_step), (taps, step, reach, (before, after))))
        return found


# --------------------------------------------------------------------------- a pooling
@dataclass(frozen=True)
class WindowAxis:
    """The windows of a pooling along one axis: tap t of window o stands at ``o s + t d - lo``."""

    size: int
    taps: int
    stride: int
    dilation: int
    lo: int
    hi: int
    out: int

    @property
    def effective(self) -> int:
        return effective_kernel(self.taps, self.dilation)

    @property
    def end(self) -> int:
        """Where the inputs end that a window may read; a negative high padding crops."""
        return self.size + min(0, self.hi)

    @property
    def starts(self) -> range:
        """The position of tap 0, window by window."""
        return range(-self.lo, -self.lo + self.out * self.stride, self.stride)

    def readers(self, t: int) -> tuple[int, int]:
        """The half-open range of windows whose tap `t` reads an input."""
        before = self.lo - t * self.dilation
        first = min(self.out, max(0, ceil_div(before, self.stride)))
        return first, max(first, min(self.out, (self.end - 1 + before) // self.stride + 1))

    def tap(self, t: int) -> tuple[slice, slice]:
        """Tap `t` as two slices of one length: the windows that read an input with it, and those inputs."""
        first, stop = self.readers(t)
        if first == stop:
            return slice(0, 0), slice(0, 0)
        begin = first * self.stride + t * self.dilation - self.lo
        return slice(first, stop), slice(begin, begin + (stop - first - 1) * self.stride + 1, self.stride)

    @cached_property
    def inner(self) -> tuple[int, int]:
        """The half-open range of windows that read inputs with all their taps."""
        first, stop = self.readers(0)[0], self.readers(self.taps - 1)[1]
        return first, max(first, stop)

    @property
    def inner_span(self) -> slice:
        """The inputs that the inner windows read together."""
        first, stop = self.inner
        begin = first * self.stride - self.lo
        return slice(begin, begin + (stop - first - 1) * self.stride + self.effective)

    @cached_property
    def inner_taps(self) -> tuple[slice, ...]:
        """The inputs that each tap of the inner windows reads."""
        first, stop = self.inner
        begin = first * self.stride - self.lo
        begins = range(begin, begin + self.effective, self.dilation)
        length = (stop - first - 1) * self.stride + 1
        return tuple(slice(b, b + length, self.stride) for b in begins)

    @cached_property
    def outer(self) -> tuple[int, ...]:
        """The windows that overhang the inputs."""
        first, stop = self.inner
        return (*range(first), *range(stop, self.out))

    def reads(self, o: int) -> range:
        """The inputs that window `o` reads."""
        start = o * self.stride - self.lo
        first = start + max(0, ceil_div(-start, self.dilation)) * self.dilation
        return range(first, max(first, min(self.end, start + self.effective)), self.dilation)

    def first_tap(self, o: int) -> int:
        """The first tap of window `o` that does not lie before the inputs."""
        return max(0, ceil_div(self.lo - o * self.stride, self.dilation))

    def shifts(self, stride: int) -> list[list[int]]:
        """Taps by the remainder of their offset by `stride`, in whole strides, the far ones first (polyphase)."""
        far = [t * self.dilation for t in reversed(range(self.taps))]
        return [[f // stride for f in far if f % stride == r] for r in range(stride)]

    def counts(self, include_pad: bool) -> list[int]:
        """How many taps of each window lie in the padded input, or in the input itself (rule R13)."""
        first, stop = self.inner
        padded = self.size + self.lo + self.hi
        return [
            self.taps
            if first <= o < stop
            else len(range(o * self.stride, min(padded, o * self.stride + self.effective), self.dilation))
            if include_pad
            else len(self.reads(o))
            for o in range(self.out)
        ]

    def first_empty(self) -> int | None:
        """The first window that reads no input at all, if there is one."""
        # elsewhere a window that starts before the inputs reads one of the first d positions
        if self.dilation > self.end or self.lo >= self.effective:
            for o in range(min(self.out, max(0, ceil_div(self.lo, self.stride)))):
                if not self.reads(o):
                    return o
        beyond = max(0, ceil_div(self.end + self.lo, self.stride))
        return beyond if beyond < self.out else None


@dataclass(frozen=True)
class BinAxis:
    """The bins of an adaptive pooling along one axis, of unequal width (rule R19)."""

    size: int
    out: int
    inner = (0, 0)  # no two neighbours need be alike, so none are treated as such
    dilation = 1

    @property
    def outer(self) -> range:
        """All bins."""
        return range(self.out)

    @cached_property
    def bins(self) -> tuple[tuple[int, int], ...]:
        return tuple(adaptive_bin(i, self.size, self.out) for i in range(self.out))

    @property
    def taps(self) -> int:
        """The width of the widest bin."""
        return max((stop - start for start, stop in self.bins), default=1)

    @property
    def starts(self) -> list[int]:
        return [start for start, _ in self.bins]

    def tap(self, t: int) -> tuple[slice, list[int]]:
        """All bins, and what each reads with its tap `t`; a narrow bin reads its last input again."""
        return slice(None), [min(start + t, stop - 1) for start, stop in self.bins]

    def reads(self, o: int) -> range:
        """The inputs in bin `o`."""
        return range(*self.bins[o])

    @property
    def end(self) -> int:
        return self.size

    def first_tap(self, o: int) -> int:
        """Bins hold no padding."""
        return 0

    def first_empty(self) -> int | None:
        """The first bin, where there is nothing to put in."""
        return 0 if self.out and not self.size else None

    def counts(self, include_pad: bool) -> list[int]:
        """The widths of the bins."""
        return [stop - start for start, stop in self.bins]


def adaptive_axis(size: int, out: int) -> WindowAxis | BinAxis:
    """The bins of one axis; where `out` divides `size` they are the windows of an ordinary pooling."""
    if out and size and size % out == 0:
        width = size // out
        return WindowAxis(size, width, width, 1, 0, 0, out)
    return BinAxis(size, out)


@dataclass(frozen=True)
class PoolGeometry:
    """The sizes of one pooling over the spatial axes of (N, C, *in)."""

    in_shape: Ints
    kernel: Ints
    stride: Ints
    dilation: Ints
    padding: Pads
    rounding: str = "floor"

    @property
    def rank(self) -> int:
        return len(self.kernel)

    @cached_property
    def effective(self) -> Ints:
        return tuple(effective_kernel(k, d) for k, d in zip(self.kernel, self.dilation, strict=True))

    @cached_property
    def out_shape(self) -> Ints:
        return tuple(
            pool_count(n, lo, hi, e, s, self.rounding)
            for n, (lo, hi), e, s in zip(self.in_shape, self.padding, self.effective, self.stride, strict=True)
        )

    @cached_property
    def axes(self) -> tuple[WindowAxis, ...]:
        """One `WindowAxis` per spatial axis."""
        return tuple(
            WindowAxis(n, k, s, d, lo, hi, out)
            for n, k, s, d, (lo, hi), out in zip(
                self.in_shape,
                self.kernel,
                self.stride,
                self.dilation,
                self.padding,
                self.out_shape,
                strict=True,
            )
        )
