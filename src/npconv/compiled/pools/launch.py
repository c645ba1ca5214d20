"""A kernel of pooling, ready to run: calls of a few microseconds cannot afford to look anything up."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from ...geometry import ceil_div
from .. import catalogue
from ..calls import address
from ..catalogue import Kernel
from ..threads import ENTRY, SERIAL_FLOPS, current, run

#: Blocks that a launch is cut into at least, if it can be.
TASKS = 16
#: The work of some milliseconds, in operations as `threads.SERIAL_FLOPS` counts them.
LONG_WORK = 2e8


class Launch:
    """A kernel and its arguments, but for the addresses of the arrays.

    Parameters
    ----------
    entry : the kernel.
    values, tables : arguments by name; tables are passed by address and kept alive.
    arrays : the names of the arguments that a call brings, in its order.
    blocks, work : how many blocks there are, and about how many operations.
    scratch : bytes of scratch per thread.
    """

    def __init__(
        self, entry: Kernel, values: dict[str, int], tables: dict[str, np.ndarray], arrays: Sequence[str],
        blocks: int, work: float, scratch: int = 0,
    ) -> None:  # fmt: skip
        self.entry, self.tables, self.blocks, self.work, self.scratch = entry, tables, blocks, work, scratch
        known = values | {name: address(table) for name, table in tables.items()} | dict.fromkeys(arrays, 0)
        at = {name: i for i, name in enumerate(entry.arguments)}
        missing = set(at) - set(known) - {"scratch", "outside"}
        if missing:
            raise ValueError(f"{entry.name} needs {sorted(missing)}")
        count = len(at)  # two words more: what the kernel answers, and one for arrays that it does not take
        self.kind = ctypes.c_int64 * (count + 2)
        self.words = self.kind(*(known.get(name, 0) for name in entry.arguments))
        self.places = [at.get(name, count + 1) for name in arrays]
        self.room, self.outside, self.answer = at.get("scratch"), at.get("outside"), count
        self.call = ENTRY(entry.address) if work < SERIAL_FLOPS else None
        # a run of blocks takes well under 0.1 s: between runs Ctrl-C is noticed
        self.grain = max(1, min(blocks // TASKS, int(blocks * LONG_WORK / max(1.0, work))))

    def run(self, *arrays: np.ndarray) -> bool:
        """Run it; whether the kernel could do it."""
        words = self.kind.from_buffer_copy(self.words)
        begin = ctypes.addressof(words)
        for place, array in zip(self.places, arrays, strict=True):
            words[place] = address(array)
        if self.room is not None:
            room = np.empty(self.scratch * (current() if self.call is None else 1), np.uint8)
            words[self.room] = address(room)
        if self.outside is not None:
            words[self.outside] = begin + 8 * self.answer
        if self.call is not None:
            self.call(0, self.blocks, 0, begin)
        else:
            run(self.entry, np.frombuffer(memoryview(words), np.int64), self.blocks, self.work, self.grain)
        return not words[self.answer]


def cuts(blocks: int, most: int) -> int:
    """Into how many parts to cut each of `blocks`, of at most `most`, for all threads to have enough."""
    return max(1, min(most, ceil_div(TASKS, blocks)))


def launched(
    kernel: str, dtype: np.dtype, values: dict[str, int], arrays: dict[str, np.ndarray], given: str, blocks: int, work: float,
    scratch: int = 0,
) -> Launch | None:  # fmt: skip
    """The launch of a kernel, which takes of `values` and `arrays` what it knows; `given` names what a call brings."""
    try:
        entry = catalogue.kernel("pools", kernel, f"f{dtype.itemsize}")
    except catalogue.KernelError:  # which said why
        return None
    taken = set(entry.arguments)
    values = {name: int(value) for name, value in values.items() if name in taken}  # what is given comes last
    tables = {name: np.ascontiguousarray(table) for name, table in arrays.items() if name in taken}
    return Launch(entry, values, tables, given.split(), blocks, work, scratch)
