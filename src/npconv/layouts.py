"""Layouts: where the batch, channel and spatial axes of an array lie, and how to reach the canonical order.

Everything behind the door works on views in one order, inputs (N, C, *spatial) and weights (O, I, *k). A
layout is the permutation that leads there and back; it copies no more than a reshape of batch axes needs.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np

from .geometry import Ints, total
from .reading import did_you_mean, shown
from .records import dataclass

NAMES = ("channels_first", "channels_last")
#: Common layouts in letters, to guess from; any order of any letters is accepted.
INPUTS = ("NCHW", "NHWC", "CHW", "HWC", "NCW", "NWC", "CW", "WC", "NCDHW", "NDHWC", "CDHW", "DHWC")
KERNELS = ("OIHW", "HWIO", "OHWI", "IOHW", "OIW", "WIO", "OWI", "OIDHW", "DHWIO", "ODHWI")


@dataclass(frozen=True)
class Layout:
    """The axes of an input or output array; ``order`` lists them canonically: batch..., C, spatial...."""

    name: str
    batch_axes: int
    order: Ints

    @property
    def rank(self) -> int:
        return len(self.order) - self.batch_axes - 1

    def canonical(self, array: np.ndarray) -> np.ndarray:
        """`array` as (N, C, *spatial): a view unless several batch axes cannot be merged in place."""
        b = self.batch_axes
        if b == 1 and self.name == NAMES[0]:
            return array
        moved = array.transpose(self.order)
        return moved if b == 1 else moved.reshape(total(moved.shape[:b]), *moved.shape[b:])

    def canonical_shape(self, shape: Ints) -> Ints:
        """The (N, C, *spatial) shape of an array of this layout and the given shape."""
        moved = tuple(shape[a] for a in self.order)
        return (total(moved[: self.batch_axes]), *moved[self.batch_axes :])

    def user_shape(self, shape: Ints, channels: int, spatial: Ints) -> Ints:
        """`shape`, an input's, with its channel and spatial sizes replaced."""
        new = list(shape)
        for axis, size in zip(self.order[self.batch_axes :], (channels, *spatial), strict=True):
            new[axis] = size
        return tuple(new)


@dataclass(frozen=True)
class KernelLayout:
    """The axes of a weight array; ``order`` lists them canonically: O, I, *k."""

    name: str
    order: Ints

    def canonical(self, w: np.ndarray) -> np.ndarray:
        """`w` as an (O, I, *k) view."""
        return w if self.name == NAMES[0] else w.transpose(self.order)

    def canonical_shape(self, shape: Ints) -> Ints:
        """The (O, I, *k) shape of weights of this layout and the given shape."""
        return tuple(shape[a] for a in self.order)

    def user_shape(self, canonical: Ints) -> Ints:
        """The shape in this layout of weights whose canonical shape is given."""
        new = [0] * len(canonical)
        for axis, size in zip(self.order, canonical, strict=True):
            new[axis] = size
        return tuple(new)


def _text(op: str, name: str, layout: object, examples: tuple[str, ...]) -> str:
    """`layout` if it is a string, which also makes it fit to be remembered."""
    if not isinstance(layout, str):
        raise TypeError(
            f"{op}: {name} must be a string, got {shown(layout)} of type {type(layout).__name__}; "
            f"use one such as {NAMES[1]!r} or {examples[0]!r}"
        )
    return layout


def channels_are_last(layout: str) -> bool:
    """Whether weights follow (*k, I, O): the layout's last axis holds the channels."""
    return layout == "channels_last" or (layout != "channels_first" and layout.endswith("C"))


def _letters(op: str, name: str, text: str, needed: str) -> str:
    """`text` if it is a layout in letters, else an error."""
    example = "'NCHW' or 'HWC'" if needed == "C" else "'OIHW' or 'HWIO'"
    ok = text.isalpha() and text.isupper() and len(set(text)) == len(text) and all(c in text for c in needed)
    if not ok or (needed == "C" and ({"O", "I"} & set(text))) or (needed == "OI" and ({"N", "C"} & set(text))):
        raise ValueError(
            f"{op}: {name}={shown(text)} is unknown, needs letters such as {example}, or "
            + did_you_mean(text, NAMES + (INPUTS if needed == "C" else KERNELS), NAMES)
        )
    return text


def input_layout(op: str, layout: str, ndim: int, rank: int) -> Layout:
    """Read `layout` for an array of `ndim` axes, `rank` of them spatial; `ndim` must suffice."""
    return _input_layout(op, _text(op, "layout", layout, INPUTS), ndim, rank)


@lru_cache(maxsize=256)
def _input_layout(op: str, layout: str, ndim: int, rank: int) -> Layout:
    if layout in NAMES:
        batch = ndim - rank - 1
        spatial = range(batch + 1, ndim) if layout == NAMES[0] else range(batch, ndim - 1)
        channel = batch if layout == NAMES[0] else ndim - 1
        return Layout(layout, batch, (*range(batch), channel, *spatial))
    text = _letters(op, "layout", layout, "C")
    spatial_letters = [c for c in text if c not in "NC"]
    if len(spatial_letters) != rank:
        raise ValueError(
            f"{op}: layout={text!r} names {len(spatial_letters)} spatial axes {spatial_letters}, the "
            f"kernel has {rank}; "
            "use one letter per spatial axis"
        )
    if len(text) != ndim:
        raise ValueError(f"{op}: layout={text!r} names {len(text)} axes, the array has {ndim}; use one letter per axis")
    batched = "N" in text
    order = [text.index(c) for c in ("N" if batched else "") + "C"] + [text.index(c) for c in spatial_letters]
    return Layout(text, int(batched), tuple(order))


def kernel_layout(op: str, layout: str | None, inputs: str, ndim: int) -> KernelLayout:
    """Read `layout` for weights; None follows the inputs' layout (k I O when their channels are last)."""
    text = None if layout is None else _text(op, "kernel_layout", layout, KERNELS)
    return _kernel_layout(op, text, _text(op, "layout", inputs, INPUTS), ndim)


@lru_cache(maxsize=256)
def _kernel_layout(op: str, layout: str | None, inputs: str, ndim: int) -> KernelLayout:
    if layout is None:
        layout = NAMES[1] if inputs == NAMES[1] or (inputs not in NAMES and inputs.endswith("C")) else NAMES[0]
    if layout == NAMES[0]:
        return KernelLayout(layout, tuple(range(ndim)))
    if layout == NAMES[1]:
        return KernelLayout(layout, (ndim - 1, ndim - 2, *range(ndim - 2)))
    text = _letters(op, "kernel_layout", layout, "OI")
    if len(text) != ndim:
        raise ValueError(f"{op}: kernel_layout={text!r} names {len(text)} axes, w has {ndim}; use one letter per axis")
    spatial = [c for c in text if c not in "OI"]
    if inputs not in NAMES:
        wanted = [c for c in inputs if c not in "NC"]
        if set(wanted) != set(spatial):
            raise ValueError(
                f"{op}: kernel_layout={text!r} and layout={inputs!r} must name the same spatial axes, "
                f"got {spatial} and {wanted}; use the same letters in both"
            )
        spatial = wanted
    return KernelLayout(text, tuple(text.index(c) for c in ["O", "I", *spatial]))


def guess(x_shape: Ints, w_shape: Ints, layout: Layout, kernels: KernelLayout, groups: int) -> str:
    """The layouts under which the channels of x and w would agree, as the end of a message; or nothing."""
    rank = layout.rank
    space = {1: "W", 2: "HW", 3: "DHW"}.get(rank)
    if space is None or layout.batch_axes > 1:
        return ""
    n, found = "N" * layout.batch_axes, []
    for text, letters in product(
        (f"{n}C{space}", f"{n}{space}C"), (f"OI{space}", f"{space}IO", f"O{space}I", f"IO{space}")
    ):
        there = input_layout("", text, len(x_shape), rank)
        w_there = kernel_layout("", letters, text, len(w_shape))
        _, channels, *sizes = there.canonical_shape(x_shape)
        o, i, *k = w_there.canonical_shape(w_shape)
        if channels != i * groups or o % groups or any(a > b for a, b in zip(k, sizes, strict=True)):
            continue
        moved, turned = there.order != layout.order, w_there.order != kernels.order
        parts = [f"layout={text!r}"] if moved else []
        if w_there.order != kernel_layout("", None, text, len(w_shape)).order or (turned and not moved):
            parts.append(f"kernel_layout={letters!r}")
        if parts:  # a kernel of equal sides, then the fewest changes
            found.append((len(set(k)) > 1, moved + turned, ", ".join(parts)))
    return f"; did you mean {min(found)[2]}?" if found else ""
