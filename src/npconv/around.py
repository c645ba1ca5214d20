"""Launches with something around them: zeros where they write nothing, and a look whether what they wrote is finite."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .compiled import catalogue
from .compiled.calls import Bound, Words, address
from .compiled.panels import zeros
from .epilogue import look
from .geometry import ceil_div

#: Zeros that are written at a time, and about how many operations take as long as writing one.
RUN, CLEAR_FLOPS = 4096, 4


class Looking(Bound):
    """A launch, and a look whether so many elements that it wrote are finite; see `Bound`."""

    __slots__ = ("dtype", "elements", "of")

    def __init__(self, of: Bound, elements: int, dtype: np.dtype) -> None:
        super().__init__(of.words, of.blocks, of.flops, of.scratch, **of.fixed)
        self.of, self.elements, self.dtype = of, elements, dtype

    @property
    def looks(self) -> bool:
        return True

    def run_with(self, x: int, y: int, w: int, bias: int = 0) -> bool:
        """See `Bound.run_with`."""
        return self.of.run_with(x, y, w, bias) and look(y, self.elements, self.dtype)


class Part(Bound):
    """A launch of some of the weights, which writes some of so many outputs; the others are zero. See `Bound`.

    Parameters
    ----------
    of : Bound
    w_at, y_at : int
        Bytes from the first weight and output to those of the launch.
    elements, dtype
        The outputs, which lie in a row.
    """

    __slots__ = ("boxes", "clearing", "of", "source", "w_at", "y_at")

    def __init__(self, of: Bound, w_at: int, y_at: int, elements: int, dtype: np.dtype) -> None:
        super().__init__(of.words, of.blocks, of.flops + CLEAR_FLOPS * elements, of.scratch, **of.fixed)
        self.of, self.w_at, self.y_at = of, w_at, y_at
        self.source, self.boxes = address(zeros(RUN, dtype)), ceil_div(elements, RUN)
        self.clearing = _clearing(elements, dtype)

    @property
    def looks(self) -> bool:
        return self.of.looks

    def run_with(self, x: int, y: int, w: int, bias: int = 0) -> bool:
        """See `Bound.run_with`; without a bias, which the zeros would have too."""
        self.clearing.run(self.boxes, CLEAR_FLOPS * RUN * self.boxes, source=self.source, to=y)
        return self.of.run_with(x, y + self.y_at, w + self.w_at)


@lru_cache(maxsize=256)
def _clearing(elements: int, dtype: np.dtype) -> Words:
    """What writes so many zeros, copies of those at its source."""
    size, firsts = dtype.itemsize, np.arange(0, elements, RUN)
    ones = np.ones_like(firsts)
    table = np.stack([0 * firsts, firsts * size, ones, np.minimum(RUN, elements - firsts)], 1)
    steps = {"from_p": 0, "from_c": size, "to_p": 0, "to_c": size}
    return Words(catalogue.kernel("interleave", "copy_boxes", f"f{size}"), steps, {"table": table})
