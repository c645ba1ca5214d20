"""Windows as tables of integers: what the kernels of pooling read instead of asking what a window is."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ...geometry import BinAxis, WindowAxis
from ...records import dataclass

Array = np.ndarray
#: Additions one after the other (in runs of 8) that keep the promised error.
LONGEST = 28
#: An axis that is not there.
ABSENT = WindowAxis(1, 1, 1, 1, 0, 0, 1)


def padded(values: Array, length: int) -> Array:
    """`values`, lengthened by their last one: vectors read beyond the end."""
    return np.concatenate([values, np.repeat(values[-1:], length - len(values))])


@dataclass(frozen=True)
class AxisTables:
    """The windows of one axis."""

    axis: WindowAxis | BinAxis

    @cached_property
    def reads(self) -> tuple[Array, Array]:
        """Where each window begins, and how many inputs it reads."""
        axis = self.axis
        begins = np.array(axis.starts, np.int64)
        counts = np.full(axis.out, axis.taps, np.int64)
        for o in axis.outer:
            inputs = axis.reads(o)
            begins[o], counts[o] = inputs.start, len(inputs)
        return begins, counts

    @property
    def begins(self) -> Array:
        return self.reads[0]

    @property
    def counts(self) -> Array:
        return self.reads[1]

    @cached_property
    def readers(self) -> tuple[Array, Array]:
        """The windows that read each input, in order: of input i those in `list[open[i]:open[i + 1]]`."""
        axis, pairs = self.axis, [(np.arange(0), np.arange(0))]
        if isinstance(axis, WindowAxis) and axis.taps <= axis.out:
            for t in range(axis.taps):
                windows, inputs = axis.tap(t)
                pairs.append((np.arange(axis.size)[inputs], np.arange(axis.out)[windows]))
        else:
            for o in range(axis.out):
                which = np.array(axis.reads(o), np.int64)
                pairs.append((which, np.full(len(which), o)))
        read, readers = (np.concatenate([pair[i] for pair in pairs]).astype(np.int64) for i in (0, 1))
        order = np.lexsort((readers, read))
        opened = np.searchsorted(read[order], np.arange(axis.size + 1))
        return opened.astype(np.int64), readers[order]

    @cached_property
    def crowded(self) -> bool:
        """Whether inputs are read by so many windows, `LONGEST` or more on average, that a list of all would be too long."""
        return int(self.counts.sum()) > LONGEST * self.axis.size

    @cached_property
    def overlap(self) -> int:
        """At most how many windows read one input."""
        return int(np.diff(self.readers[0]).max(initial=0))

    @cached_property
    def tiles(self) -> bool:
        """Whether every input is in one window."""
        return int(self.counts.sum()) == self.axis.size and bool((np.diff(self.readers[0]) == 1).all())

    def boxes(self, count: int) -> Array:
        """Inputs in `count` runs: (first input, stop, first window that reads one of them, stop)."""
        opened, windows = self.readers
        table = np.zeros((count, 4), np.int64)
        for b in range(count):
            i, stop = self.axis.size * b // count, self.axis.size * (b + 1) // count
            those = windows[opened[i] : opened[stop]]
            table[b] = i, stop, *((those.min(), those.max() + 1) if len(those) else (0, 0))
        return table

    def remainders(self, stride: int) -> tuple[Array, Array]:
        """Taps by their remainder by the stride: those of r, `shifts[first[r]:first[r + 1]]`."""
        sorts = self.axis.shifts(stride) if isinstance(self.axis, WindowAxis) else []
        first = np.cumsum([0, *map(len, sorts)])
        return first.astype(np.int64), np.array([s for sort in sorts for s in sort], np.int64)
