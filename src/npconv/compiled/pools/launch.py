"""A kernel of pooling, ready to run: calls of a few microseconds cannot afford to look anything up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...geometry import ceil_div
from .. import catalogue
from ..calls import address, aligned
from ..catalogue import Kernel
from ..threads import ENTRY, SERIAL_FLOPS, current, run

#: Blocks that a launch is cut into at least, if it can be.
TASKS = 16
#: Work, counted likewise, up to which a thread takes all its blocks at once.
SHORT_WORK = 1e7
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
        self.words = np.array([*(known.get(name, 0) for name in entry.arguments), 0, 0], np.int64)
        self.spare: list[tuple[np.ndarray, int]] = []  # copies that no call is using, and where they are
        self.places = [at.get(name, count + 1) for name in arrays]
        self.room, self.outside, self.answer = at.get("scratch"), at.get("outside"), count
        self.call = ENTRY(entry.address) if work < SERIAL_FLOPS else None
        # a run of blocks takes well under 0.1 s: between runs Ctrl-C is noticed
        self.grain = max(1, min(blocks // TASKS, int(blocks * LONG_WORK / max(1.0, work))))

    def _fresh(self) -> tuple[np.ndarray, int]:
        words = self.words.copy()
        begin = address(words)
        if self.outside is not None:
            words[self.outside] = begin + 8 * self.answer
        return words, begin

    def run(self, *arrays: np.ndarray) -> bool:
        """Run it; whether the kernel could do it."""
        try:
            words, begin = held = self.spare.pop()
        except IndexError:
            words, begin = held = self._fresh()
        for place, array in zip(self.places, arrays, strict=True):
            words[place] = address(array)
        if self.room is not None:
            room = aligned(self.scratch * (current() if self.call is None else 1))
            words[self.room] = address(room)
        if self.outside is not None:
            words[self.answer] = 0
        if self.call is not None:
            self.call(0, self.blocks, 0, begin)
        else:
            # in a short run the same thread does the same blocks, call after call: they are in its cache
            grain = ceil_div(self.blocks, current()) if self.work < SHORT_WORK else self.grain
            run(self.entry, begin, self.blocks, self.work, grain)
        fine = self.outside is None or not words[self.answer]
        self.spare.append(held)
        return fine


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
