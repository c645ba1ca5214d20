"""Weights that are brought in order for one call, and the launch that reads them: one step after the other, in one launch."""

from __future__ import annotations

import numpy as np

from ..records import dataclass
from . import threads
from .calls import Bound, Words, _copy, _give, _pop, _take, address, aligned
from .chains import ONE_LAUNCH, Steps
from .panels import FAR_CACHE, LINE, whole_lines
from .threads import NATIVE, SERIAL_FLOPS, run

#: What moving a number costs, in floating-point operations.
MOVED = 16.0
#: Cycles that a launch takes to bring weights in order: to begin with, and for each vector into its place.
LAUNCH_CYCLES, PACK_CYCLES = 30_000, 8
#: Cycles to do so with a vector in the middle of a kernel, which waits for it: copied, transposed.
COPY_CYCLES, TRANSPOSE_CYCLES = 6 if FAR_CACHE else 3, 8


def goes_along(vectors: int, times: int, cycles: int, tasks: int, workers: int) -> bool:
    """Whether a kernel that brings so many vectors in order as it goes, so many times, is faster than one more launch."""
    return vectors * times * cycles // min(workers, tasks) < LAUNCH_CYCLES + vectors * PACK_CYCLES // workers


@dataclass(frozen=True)
class Bringing:
    """The launch that brings weights of one shape and layout in order: all its arguments but `to`, `w`, perhaps `scratch`."""

    words: Words
    blocks: int
    elements: int
    scratch: int = 0  # bytes for one thread

    @property
    def flops(self) -> float:
        """Operations that would take as long."""
        return MOVED * self.elements

    def bring(self, w: int, dtype: np.dtype) -> np.ndarray:
        """Those at `w` in order."""
        weights = aligned(self.elements, dtype)
        scratch = aligned(min(threads.current(), self.blocks) * self.scratch)
        rest = {"scratch": address(scratch)} if self.scratch else {}
        self.words.run(self.blocks, self.flops, to=address(weights), w=w, **rest)
        return weights


class Brought(Bound):
    """A launch for weights in order, which brings in order those that a call gives it.

    Parameters
    ----------
    of : Bound
        The launch, its weights anywhere.
    bringing : Bringing
    dtype : numpy.dtype
        Of the weights.
    workers : int
        Threads at most.
    first : int
        Bytes from the first weight to the one that `bringing` is told of.
    """

    __slots__ = ("bringing", "bytes", "first", "weights_at", "workers")

    def __init__(self, of: Bound, bringing: Bringing, dtype: np.dtype, workers: int, first: int = 0) -> None:
        super().__init__(of.words, of.blocks, of.flops, of.scratch, **of.fixed)
        self.bringing, self.workers, self.first = bringing, workers, first
        self.weights_at = whole_lines(max(of.for_threads(workers), workers * bringing.scratch))
        self.bytes = self.weights_at + bringing.elements * dtype.itemsize + LINE

    def fresh(self) -> tuple:
        """What `Bound.fresh` has, and the same for the weights; then both as one launch, or None."""
        words, begin, found, _ = super().fresh()
        packing, packing_begin = _copy(self.bringing.words.words)
        both = None
        if NATIVE and SERIAL_FLOPS <= self.flops + self.bringing.flops < ONE_LAUNCH:
            each = ((self.bringing, packing_begin), (self, begin))
            both = Steps([(of.words.kernel, at, of.blocks, of.flops, 1) for of, at in each])
        return words, begin, found, packing, packing_begin, both

    def run_with(self, x: int, y: int, w: int, bias: int = 0) -> bool:
        """Run it on what is at these addresses, with the weights at `w`; False: an output is not finite, and it looked."""
        of, bringing, room = self.words, self.bringing, _take(self.bytes)
        held = _pop(self.spare) or self.fresh()
        words, begin, found, packing, packing_begin, both = held
        scratch, at = whole_lines(address(room)), of.at
        to = scratch + self.weights_at
        words[at["x"]], words[at["y"]], words[at["w"]], words[at["scratch"]] = x, y, to, scratch
        words[at["bias"]] = bias or self.fixed["bias"]
        at = bringing.words.at
        packing[at["to"]], packing[at["w"]] = to, w + self.first
        if bringing.scratch:
            packing[at["scratch"]] = scratch
        flops = self.flops + bringing.flops
        if flops < SERIAL_FLOPS:
            bringing.words.entry(0, bringing.blocks, 0, packing_begin)
            of.entry(0, self.blocks, 0, begin)
        elif both is not None:
            both.run(self.workers, flops)
        else:
            run(bringing.words.kernel, packing_begin, bringing.blocks, bringing.flops)
            run(of.kernel, begin, self.blocks, self.flops)
        spoiled, found.value = found.value, 0
        self.spare.append(held)
        _give(room)
        return not spoiled
