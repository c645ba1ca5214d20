"""Of one layer's work, a piece that the explorer can show number by number, and that gives the layer's own outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import ConvGeometry, Ints, Pads, ceil_div, effective_kernel, transposed_size, window_count
from .problem import Problem, problem

Array = NDArray[Any]
Box = tuple[slice, ...]

#: Numbers along a side of a piece, of a few channels or of more of them; and its input and output channels.
SIDE, SMALL_SIDE, FEW = 16, 12, 3
MOST_IN, MOST_OUT = 8, 4


@dataclass(frozen=True)
class Site:
    """What one layer computed from one image.

    Attributes
    ----------
    operator : str
        As `Problem` has it.
    x, y : ndarray
        (C, *in) and (O, *out).
    w, bias : ndarray or None
        As the operator takes them.
    options : dict
        kernel, stride, dilation and padding per axis, padding as pairs; groups, and what else the operator has.
    dy : ndarray or None
        The gradient of y.
    baked : str
        The mode of a padding that x has in it already.
    """

    operator: str
    x: Array
    y: Array
    w: Array | None
    bias: Array | None
    options: dict[str, Any]
    dy: Array | None = None
    baked: str = ""


@dataclass(frozen=True)
class Crop:
    """A piece of a layer.

    Attributes
    ----------
    problem : Problem
        Its output is ``y[outputs][box]`` of the layer, unless it is partial.
    dy : ndarray or None
        The layer's gradient there.
    inputs, outputs : list of int
        Channels.
    box : tuple of slice
        The outputs, along the spatial axes.
    partial : bool
        Whether input channels are missing from the sums.
    words : str
        All this for people.
    """

    problem: Problem = field(repr=False)
    dy: Array | None = field(repr=False)
    inputs: list[int]
    outputs: list[int]
    box: Box
    partial: bool
    words: str


def crop(site: Site, channel: int | None = None, at: Ints | None = None) -> Crop | None:
    """The piece around output `at` of `channel`.

    Unless told it is where the output times its gradient is largest, or the output alone where there is no gradient.
    None if no piece is small enough.

    Raises
    ------
    ValueError
        For a channel or a place that the output does not have.
    """
    with np.errstate(all="ignore"):
        counts = site.y if site.dy is None or not np.any(site.dy) else site.y * site.dy
    strength = np.where(np.isfinite(counts), np.abs(counts), 0)
    if channel is None:
        channel = int(strength.reshape(len(site.y), -1).max(axis=1).argmax())
    if at is None and 0 <= channel < len(site.y):
        at = tuple(int(i) for i in np.unravel_index(strength[channel].argmax(), site.y.shape[1:]))
    if (
        at is None
        or not 0 <= channel < len(site.y)
        or any(not 0 <= i < n for i, n in zip(at, site.y.shape[1:], strict=True))
    ):
        raise ValueError(f"the layer's output has shape {site.y.shape}, and no element {(channel, *(at or ()))}")
    spread = site.operator == "conv_transpose"
    (inside, box, pads, extra) = _inputs(site, at) if spread else _outputs(site, at)
    inputs, outputs, groups = _channels(site, channel, inside)
    options = {**site.options, "padding": pads, **extra}
    if site.w is not None:
        options["groups"] = groups
    w, bias, per_group = site.w, site.bias, len(site.x) // site.options.get("groups", 1)
    if w is not None:
        w = _weights(site, w, inputs, outputs, groups)
        bias = None if bias is None else bias[outputs]
    try:
        made = problem(site.x[(inputs, *inside)], w, bias, operator=site.operator, **options)
    except ValueError:  # a kernel or a reach beyond what the page draws
        return None
    partial = w is not None and len(inputs) < groups * per_group
    dy = None if site.dy is None else site.dy[(outputs, *box)]
    words = _words(site, inputs, outputs, inside, box, partial, groups * per_group)
    return Crop(made, dy, inputs, outputs, box, partial, words)


# --------------------------------------------------------------------------- places
def _outputs(site: Site, at: Ints) -> tuple[Box, Box, Pads, dict[str, Any]]:
    """A box of outputs around `at`: the inputs that it reads, the box, and the padding that is left of the layer's."""
    o, kernel = site.options, _kernel(site)
    sizes, outs = site.x.shape[1:], site.y.shape[1:]
    side = SIDE if len(site.x) <= FEW else SMALL_SIDE
    starts, counts = [], []
    for n, out, k, d, s, i in zip(sizes, outs, kernel, o["dilation"], o["stride"], at, strict=True):
        e = effective_kernel(k, d)
        count = out if n <= SIDE else min(out, window_count(side, e, s) if e <= side else 1)
        starts.append(min(max(0, i - count // 2), out - count))
        counts.append(count)
    whole = ConvGeometry(1, 1, 1, sizes, kernel, o["stride"], o["dilation"], o["padding"], (1,) * len(sizes))
    piece = whole.with_out(tuple(starts), tuple(counts)).padding
    inside, pads = [], []
    for n, (lo, hi), given, start, count, out in zip(sizes, piece, o["padding"], starts, counts, outs, strict=True):
        if count == out:
            lo, hi = given  # the whole axis, with inputs that no window reads
        elif start + count == out:
            hi = min(hi, given[1])  # a last window that rounding up made overhangs what is padded
        inside.append(slice(max(0, -lo), n - max(0, -hi)))
        pads.append((max(0, lo), max(0, hi)))
    return tuple(inside), _box(starts, counts), tuple(pads), {}


def _inputs(site: Site, at: Ints) -> tuple[Box, Box, Pads, dict[str, Any]]:
    """A box of inputs whose kernels meet at `at`, and those outputs that get nothing from outside of it."""
    o, kernel = site.options, _kernel(site)
    inside, starts, counts, pads, extra = [], [], [], [], []
    for axis, (n, k, d, s, i) in enumerate(zip(site.x.shape[1:], kernel, o["dilation"], o["stride"], at, strict=True)):
        e, (lo, hi), more = effective_kernel(k, d), o["padding"][axis], o["output_padding"][axis]
        size = n if n <= SIDE else SIDE if len(site.x) <= FEW else SMALL_SIDE
        first = min(max(0, ceil_div(i + lo, s) - size // 2), n - size)
        shared = max(e - s, 0)  # outputs that two neighbouring boxes share
        last = first + size == n
        cut = (lo if first == 0 else shared, hi if last else shared)
        inside.append(slice(first, first + size))
        pads.append(cut)
        extra.append(more if last else 0)
        starts.append(first * s + cut[0] - lo)
        counts.append(max(0, transposed_size(size, *cut, e, s, extra[-1])))
    return tuple(inside), _box(starts, counts), tuple(pads), {"output_padding": tuple(extra)}


def _kernel(site: Site) -> Ints:
    return site.options["kernel"] if site.w is None else site.w.shape[2:]


def _box(starts: list[int], counts: list[int]) -> Box:
    return tuple(slice(start, start + count) for start, count in zip(starts, counts, strict=True))


# --------------------------------------------------------------------------- channels
def _channels(site: Site, channel: int, inside: Box) -> tuple[list[int], list[int], int]:
    """Input channels, output channels, and groups of a piece with `channel` in it."""
    C, O, G = len(site.x), len(site.y), site.options.get("groups", 1)  # noqa: E741
    if site.w is None:
        run = _run(channel, MOST_OUT, C)
        return run, run, 1
    if C <= MOST_IN and O <= MOST_IN:
        return list(range(C)), list(range(O)), G
    cg, og = C // G, O // G
    together = min(MOST_IN // cg, MOST_OUT // og)
    if G > 1 and together:  # whole groups
        groups = _run(channel // og, together, G)
        inputs, outputs = ([g * size + i for g in groups for i in range(size)] for size in (cg, og))
        return inputs, outputs, len(groups)
    group = channel // og
    outputs = [group * og + i for i in _run(channel % og, MOST_OUT, og)]
    return _strongest(site, channel, group, inside), outputs, 1


def _run(first: int, most: int, of: int) -> list[int]:
    """`most` neighbours from `first` on, or the last ones."""
    start = max(0, min(first, of - most))
    return list(range(start, min(of, start + most)))


def _strongest(site: Site, channel: int, group: int, inside: Box) -> list[int]:
    """The input channels of a group, or those that can add most to the output channel."""
    if site.w is None:
        return []
    cg, og = (n // site.options["groups"] for n in (len(site.x), len(site.y)))
    own = range(group * cg, (group + 1) * cg)
    if cg <= MOST_IN:
        return list(own)
    taps = site.w[own, channel % og] if site.operator == "conv_transpose" else site.w[channel]
    x = site.x[(slice(own.start, own.stop), *inside)]
    with np.errstate(all="ignore"):
        power = np.abs(x).reshape(cg, -1).sum(axis=1) * np.abs(taps).reshape(cg, -1).sum(axis=1)
    return sorted(own[int(i)] for i in np.argsort(-power, kind="stable")[:MOST_IN])


def _weights(site: Site, w: Array, inputs: list[int], outputs: list[int], groups: int) -> Array:
    """The weights between these channels."""
    cg, og = (n // site.options["groups"] for n in (len(site.x), len(site.y)))
    mine = inputs[: len(inputs) // groups]
    if site.operator == "conv_transpose":
        return w[np.ix_(inputs, [o % og for o in outputs[: len(outputs) // groups]])]
    return w[np.ix_(outputs, [c % cg for c in mine])]


# --------------------------------------------------------------------------- words
def _words(site: Site, inputs: list[int], outputs: list[int], inside: Box, box: Box, partial: bool, needed: int) -> str:
    """Which piece this is, in NumPy's notation."""
    whole = site.x[(inputs, *inside)].shape == site.x.shape and site.y[(outputs, *box)].shape == site.y.shape
    baked = f"; x has its {site.baked} padding in it" if site.baked else ""
    if whole:
        return f"the whole layer: x is {site.x.shape}, y is {site.y.shape}{baked}"
    x, y = (f"{name}[{_listed(channels)}, {_ranges(where)}]" for name, channels, where in (
        ("x", inputs, inside), ("y", outputs, box),
    ))  # fmt: skip
    words = f"{x} of {site.x.shape} gives {y} of {site.y.shape}"
    if partial:
        words += f", partial sums: {len(inputs)} of {needed} input channels"
    return words + baked


def _listed(channels: list[int]) -> str:
    first, last = channels[0], channels[-1]
    return f"{first}:{last + 1}" if channels == list(range(first, last + 1)) else str(channels)


def _ranges(where: Box) -> str:
    return ", ".join(f"{s.start}:{s.stop}" for s in where)
