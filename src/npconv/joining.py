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
from .geometry import Ints, Joint, ceil_div, total
from .records import dataclass

#: Pixels and channels of one box: a thread's share is many boxes, and a box some microseconds.
PIXELS, CHANNELS = 128, 32
#: Copying a number takes the time of this many floating-point operations.
COPY_FLOPS = 32
#: Bytes of a square of vectors.
SQUARE = 1024


@dataclass(frozen=True)
class Plan:
    """A launch."""

    words: Words
    boxes: int
    grain: int


def weights(joint: Joint, w: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The weights of all phases, (phases O, C/G, *k), from those of the whole convolution.

    Whichever of O and C/G is closer together in `w` comes last in memory: then both are read and written in runs.
    """
    g, count, rank = joint.geometry, len(joint.phases), joint.geometry.rank
    per_in, per_out = g.per_group[0], g.per_group[1] // count
    filled = sum(phase.geometry.taps for phase in joint.phases if phase.geometry)  # a phase without outputs has no part
    make = np.empty if filled == count * g.taps else np.zeros
    turned = abs(w.strides[0]) < abs(w.strides[1])
    if turned:
        held = make((per_in, *g.kernel, g.groups, count, per_out), dtype)
        found = np.moveaxis(held, (0, *range(1, 1 + rank)), (3, *range(4, 4 + rank)))
    else:
        held = make((*g.kernel, g.groups, count, per_out, per_in), dtype)
        found = np.moveaxis(held, range(rank), range(4, 4 + rank))
    if turned and w.dtype == dtype and _compiled(w):
        steps = found.strides[0], found.strides[1], *found.strides[3:]
        plan = _turn(joint, w.shape, w.strides, steps, dtype)
        scratch = aligned(SQUARE * threads.current())
        plan.words.run(
            plan.boxes, COPY_FLOPS * w.size, plan.grain, w=address(w), to=address(held), scratch=address(scratch)
        )
    else:
        given = w.reshape(g.groups, per_out, *w.shape[1:])
        for i, phase in enumerate(joint.phases):
            taps = given[(..., *phase.taps)]
            found[(slice(None), i, ..., *(slice(n) for n in taps.shape[3:]))] = taps
    # groups, phases and outputs follow each other in memory
    return np.lib.stride_tricks.as_strided(found, g.w_shape, (found.strides[2], *found.strides[3:]))


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
def _turn(joint: Joint, shape: Ints, strides: Ints, steps: Ints, dtype: np.dtype) -> Plan:
    """The launch that writes turned weights; `steps` from one group, phase, input channel and tap to the next."""
    size, groups = dtype.itemsize, joint.geometry.groups
    to_g, to_phase, to_c, *to_taps = steps
    places = []
    for i, phase in enumerate(joint.phases):
        ranges = [range(n)[taps] for n, taps in zip(shape[2:], phase.taps, strict=True)]
        for at in np.ndindex(*map(len, ranges)):
            source = sum(r[t] * s for r, t, s in zip(ranges, at, strides[2:], strict=True))
            places.append((source, i * to_phase + sum(t * s for t, s in zip(at, to_taps, strict=True))))
    places.sort()
    per = shape[0] // groups
    values = {
        "taps": len(places), "outputs": per, "channels": shape[1], "step_g": per * strides[0], "step_o": strides[0],
        "step_c": strides[1], "to_g": to_g, "to_c": to_c, "scratch_step": SQUARE,
        "run": int(all(source == places[0][0] + t * size for t, (source, _) in enumerate(places))),
    }  # fmt: skip
    words = Words(catalogue.kernel("interleave", "turn", f"f{size}"), values, {"places": np.array(places, np.int64)})
    return Plan(words, groups * shape[1], ceil_div(groups * shape[1], 64))


def interleave(joint: Joint, parts: np.ndarray, out: np.ndarray) -> None:
    """Write the outputs of all phases, `parts` (N, phases O, *out of the joint), to their places in `out`."""
    if _compiled(parts) and out.ndim > 2:
        plan = _plan(joint, len(parts), parts.strides, out.shape, out.strides, parts.dtype)
        plan.words.run(plan.boxes, COPY_FLOPS * out.size, plan.grain, source=address(parts), to=address(out))
        return
    groups, count = joint.geometry.groups, len(joint.phases)
    n, o, *_ = out.shape
    split = parts.reshape(n, groups, count, o // groups, *parts.shape[2:])
    target = out.reshape(n, groups, o // groups, *out.shape[2:])
    for i, phase in enumerate(joint.phases):
        box = tuple(slice(a, a + m) for a, m in zip(joint.starts[i], joint.sizes[i], strict=True))
        target[(..., *phase.out)] = split[(slice(None), slice(None), i, slice(None), *box)]


class Chained(Bound):
    """A convolution of all phases into scratch, and their outputs from there to their places; see `Bound`."""

    __slots__ = ("first", "last", "room")

    def __init__(self, first: Bound, last: Plan, outputs: int, room: int) -> None:
        super().__init__(last.words, last.boxes, COPY_FLOPS * outputs, 0)
        self.first, self.last, self.room = first, last, room

    @property
    def looks(self) -> bool:
        return self.first.looks

    def run(self, x: int, y: int) -> bool:
        """Run both on what is at these addresses."""
        room = aligned(self.room)
        finite = self.first.run(x, address(room))
        self.words.run(self.blocks, self.flops, self.last.grain, source=address(room), to=y)
        return finite


def chained(joint: Joint, bind: Callable[[Ints], Bound | None], out_strides: Ints, dtype: np.dtype) -> Bound | None:
    """Both launches for an output of these strides; `bind` gives the first, for outputs of other strides."""
    n, channels, *sizes = joint.geometry.y_shape
    last = out_strides[1] == dtype.itemsize < out_strides[-1]
    order = (n, *sizes, channels) if last else (n, channels, *sizes)
    steps = [dtype.itemsize * total(order[i + 1 :]) for i in range(len(order))]
    strides = (steps[0], steps[-1], *steps[1:-1]) if last else tuple(steps)
    first = bind(strides)
    if first is None:
        return None
    per = channels // len(joint.phases)
    outputs = per * n * sum(map(total, joint.sizes))
    return Chained(first, _plan(joint, n, strides, (n, per), out_strides, dtype), outputs, steps[0] * n)


@lru_cache(maxsize=256)
def _plan(joint: Joint, n: int, from_strides: Ints, shape: Ints, to_strides: Ints, dtype: np.dtype) -> Plan:
    """Boxes of pixels along the last axis and of channels; those of one row of outputs follow each other."""
    size, groups, count = dtype.itemsize, joint.geometry.groups, len(joint.phases)
    per = shape[1] // groups
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
    return Plan(words, len(table), max(1, total(shape) and ceil_div(len(table), 64)))
