"""All phases of a strided transposition as one convolution: its weights from theirs, and their outputs from its own.

One convolution with the outputs of all phases for channels brings x in order once, fills the vectors of few channels,
and is one launch. Its output then takes one sweep to be interleaved.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from .compiled import catalogue, threads
from .compiled.calls import Bound, Words, address, aligned
from .compiled.panels import weight_steps
from .geometry import Ints, ceil_div, total
from .phases import Joint
from .records import dataclass

#: Pixels and channels of one box: a thread's share is many boxes, and a box some microseconds.
PIXELS, CHANNELS = 128, 32
#: Copying a number takes the time of this many floating-point operations.
COPY_FLOPS = 32
#: Bytes of a square of vectors.
SQUARE = 1024


@dataclass(frozen=True)
class Plan:
    """A launch that copies."""

    words: Words
    boxes: int
    grain: int
    flops: int
    scratch: int = 0  # bytes for one thread

    def run(self, source: int, to: int) -> None:
        """Copy what is at one address to the other."""
        scratch = aligned(self.scratch * threads.current())
        rest = {"scratch": address(scratch)} if self.scratch else {}
        self.words.run(self.boxes, self.flops, self.grain, source=source, to=to, **rest)


@dataclass(frozen=True)
class Laid:
    """How the weights of all phases lie once they are in order, (G, phases, O, C/G, *k) with `steps`."""

    steps: Ints
    bytes: int
    filled: bool  # else some of them are zeros

    @property
    def strides(self) -> Ints:
        """From one output channel of any phase of any group to the next, input channel and tap."""
        return self.steps[2:]


def lay(joint: Joint, w_strides: Ints, size: int) -> Laid:
    """Whichever of O and C/G is closer together in `w` comes last in memory: then both are read and written in runs."""
    g, count = joint.geometry, len(joint.phases)
    (per_in, per_out), taps = joint.one.per_group, g.kernel
    _, step_o, step_c, *_ = weight_steps(w_strides, joint.one)
    turned = abs(step_o) < abs(step_c)
    order = (per_in, *taps, g.groups, count, per_out) if turned else (*taps, g.groups, count, per_out, per_in)
    steps = [size * total(order[i + 1 :]) for i in range(len(order))]
    if turned:
        to_c, *to_taps, to_g, to_phase, to_o = steps
    else:
        *to_taps, to_g, to_phase, to_o, to_c = steps
    filled = sum(phase.geometry.taps for phase in joint.phases if phase.geometry)  # a phase without outputs has no part
    return Laid((to_g, to_phase, to_o, to_c, *to_taps), size * total(order), filled == count * g.taps)


def weights(joint: Joint, w: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The weights of all phases, (phases O, C/G, *k), from those of the whole convolution."""
    g, laid = joint.geometry, lay(joint, w.strides, dtype.itemsize)
    held = aligned(laid.bytes // dtype.itemsize, dtype)
    if not laid.filled:
        held[...] = 0
    if w.dtype == dtype and _compiled(w):
        bringing(joint, w.strides, dtype).run(address(w), address(held))
    else:
        count, per_out = len(joint.phases), joint.one.per_group[1]
        found = np.lib.stride_tricks.as_strided(held, (g.groups, count, per_out, *g.w_shape[1:]), laid.steps)
        given = w.reshape(g.groups, per_out, *g.w_shape[1:2], *w.shape[-g.rank :])
        for i, phase in enumerate(joint.phases):
            taps = given[(..., *phase.taps)]
            found[(slice(None), i, ..., *(slice(n) for n in taps.shape[3:]))] = taps
    return np.lib.stride_tricks.as_strided(held, g.w_shape, laid.strides)


def apart(joint: Joint, w: np.ndarray, dtype: np.dtype) -> list[np.ndarray] | None:
    """The weights of every phase, brought in order in one sweep; None where they lie well enough."""
    near, far = abs(w.strides[0]), abs(w.strides[1])
    if joint.geometry.groups > 1 or not w.itemsize < near < far or w.dtype != dtype or not _compiled(w):
        return None
    found, per = weights(joint, w, dtype), w.shape[0]
    kernels = [phase.geometry.kernel for phase in joint.phases if phase.geometry is not None]
    return [found[(slice(i * per, (i + 1) * per), ..., *map(slice, k))] for i, k in enumerate(kernels)]


def _compiled(array: np.ndarray) -> bool:
    """Whether machine code can copy it."""
    return array.dtype.char in "fd" and array.dtype.isnative and array.flags.aligned and catalogue.unavailable() is None


@lru_cache(maxsize=256)
def bringing(joint: Joint, strides: Ints, dtype: np.dtype) -> Plan:
    """The launch that writes weights of these strides as `lay` says, but for zeros."""
    size, (channels, per), groups = dtype.itemsize, joint.one.per_group, joint.one.groups
    step_g, step_o, step_c, *steps = weight_steps(strides, joint.one)
    to_g, to_phase, to_o, to_c, *to_taps = lay(joint, strides, size).steps
    places = []
    for i, phase in enumerate(joint.phases):
        ranges = [range(n)[taps] for n, taps in zip(joint.kernel, phase.taps, strict=True)]
        for at in np.ndindex(*map(len, ranges)):
            source = sum(r[t] * s for r, t, s in zip(ranges, at, steps, strict=True))
            places.append((source, i * to_phase + sum(t * s for t, s in zip(at, to_taps, strict=True))))
    places.sort()
    flops = COPY_FLOPS * groups * per * channels * len(places)
    if to_o > size:  # input channels side by side
        table = np.array(
            [(g * step_g + a, g * to_g + b, per, channels) for g in range(groups) for a, b in places], np.int64
        )
        moves = {"from_p": step_o, "from_c": step_c, "to_p": to_o, "to_c": to_c}
        words = Words(catalogue.kernel("interleave", "copy_boxes", f"f{size}"), moves, {"table": table})
        return Plan(words, len(table), ceil_div(len(table), 64), flops)
    values = {
        "taps": len(places), "outputs": per, "channels": channels, "step_g": step_g, "step_o": step_o,
        "step_c": step_c, "to_g": to_g, "to_c": to_c, "scratch_step": SQUARE,
        "run": int(all(source == places[0][0] + t * size for t, (source, _) in enumerate(places))),
    }  # fmt: skip
    words = Words(catalogue.kernel("interleave", "turn", f"f{size}"), values, {"places": np.array(places, np.int64)})
    return Plan(words, groups * channels, ceil_div(groups * channels, 64), flops, SQUARE)


class Chained(Bound):
    """The weights of all phases, a convolution of all into scratch, and their outputs to their places; see `Bound`."""

    __slots__ = ("brought", "first", "laid", "last", "room")

    def __init__(self, brought: Plan | None, laid: Laid | None, first: Bound, last: Plan, room: int) -> None:
        super().__init__(last.words, last.boxes, last.flops, 0)
        self.brought, self.laid, self.first, self.last, self.room = brought, laid, first, last, room

    @property
    def looks(self) -> bool:
        return self.first.looks

    def run_with(self, x: int, y: int, w: int, bias: int = 0) -> bool:
        """See `Bound.run_with`."""
        room = aligned(self.room)
        if self.brought and self.laid:
            held = aligned(self.laid.bytes)
            if not self.laid.filled:
                held[...] = 0
            self.brought.run(w, address(held))
            finite = self.first.run_with(x, address(room), address(held), bias)
        else:
            finite = self.first.run(x, address(room))
        self.last.run(address(room), y)
        return finite


def chained(
    joint: Joint,
    first: Callable[[Ints, Ints], Bound | None],
    w_strides: Ints | None,
    out_strides: Ints,
    dtype: np.dtype,
) -> Bound | None:
    """All launches for weights of these strides, or without them for prepared ones, and for an output of these strides.

    `first` gives the convolution, for weights and outputs of other strides.
    """
    n, channels, *sizes = joint.geometry.y_shape
    last = out_strides[1] == dtype.itemsize < out_strides[-1]
    order = (n, *sizes, channels) if last else (n, channels, *sizes)
    steps = [dtype.itemsize * total(order[i + 1 :]) for i in range(len(order))]
    strides = (steps[0], steps[-1], *steps[1:-1]) if last else tuple(steps)
    laid = None if w_strides is None else lay(joint, w_strides, dtype.itemsize)
    run = first(laid.strides if laid else (), strides)
    if run is None:
        return None
    brought = None if w_strides is None else bringing(joint, w_strides, dtype)
    places = interleaving(joint, n, strides, channels // len(joint.phases), out_strides, dtype)
    return Chained(brought, laid, run, places, steps[0] * n)


def interleave(joint: Joint, parts: np.ndarray, out: np.ndarray) -> None:
    """Write the outputs of all phases, `parts` (N, phases O, *out of the joint), to their places in `out`."""
    if _compiled(parts) and out.ndim > 2:
        interleaving(joint, len(parts), parts.strides, out.shape[1], out.strides, parts.dtype).run(
            address(parts), address(out)
        )
        return
    groups, count = joint.geometry.groups, len(joint.phases)
    n, o, *_ = out.shape
    split = parts.reshape(n, groups, count, o // groups, *parts.shape[2:])
    target = out.reshape(n, groups, o // groups, *out.shape[2:])
    for i, phase in enumerate(joint.phases):
        box = tuple(slice(a, a + m) for a, m in zip(joint.starts[i], joint.sizes[i], strict=True))
        target[(..., *phase.out)] = split[(slice(None), slice(None), i, slice(None), *box)]


@lru_cache(maxsize=256)
def interleaving(joint: Joint, n: int, from_strides: Ints, outputs: int, to_strides: Ints, dtype: np.dtype) -> Plan:
    """The launch that writes outputs to their places.

    Boxes of pixels along the last axis and of channels; those of one row of outputs follow each other.
    """
    size, groups, count = dtype.itemsize, joint.geometry.groups, len(joint.phases)
    per = outputs // groups
    tables = []
    for i, phase in enumerate(joint.phases):
        sizes, start = joint.sizes[i], joint.starts[i]
        steps = [where.step or 1 for where in phase.out]
        first = [where.start or 0 for where in phase.out]
        before = sum(a * s for a, s in zip(start, from_strides[2:], strict=True))
        at = sum(a * s for a, s in zip(first, to_strides[2:], strict=True))
        runs = ceil_div(sizes[-1], PIXELS)
        parts = ceil_div(per, CHANNELS) if to_strides[1] != size else 1
        grid = np.indices((n, *sizes[:-1], groups, parts, runs), np.int64)
        images, *lines, group, part, run = grid.reshape(len(grid), -1)
        step = ceil_div(per, parts)
        source = before + images * from_strides[0] + (group * count * per + i * per + part * step) * from_strides[1]
        to = at + images * to_strides[0] + (group * per + part * step) * to_strides[1]
        for line, a, b, s in zip(lines, from_strides[2:], to_strides[2:], steps, strict=False):
            source, to = source + line * a, to + line * b * s
        source, to = source + run * PIXELS * from_strides[-1], to + run * PIXELS * to_strides[-1] * steps[-1]
        pixels = np.minimum(PIXELS, sizes[-1] - run * PIXELS)
        tables.append(np.stack([source, to, pixels, np.minimum(step, per - part * step)], 1))
    table = np.concatenate(tables)
    table = np.ascontiguousarray(table[np.argsort(table[:, 1], kind="stable")])
    last = steps[-1]
    values = {
        "from_p": from_strides[-1],
        "from_c": from_strides[1],
        "to_p": to_strides[-1] * last,
        "to_c": to_strides[1],
    }
    words = Words(catalogue.kernel("interleave", "copy_boxes", f"f{size}"), values, {"table": table})
    moved = COPY_FLOPS * n * outputs * sum(map(total, joint.sizes))
    return Plan(words, len(table), max(1, ceil_div(len(table), 64)), moved)
