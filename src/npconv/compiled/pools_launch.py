"""A kernel of pooling, ready to run: calls of a few microseconds cannot afford to look anything up."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from ..geometry import ceil_div
from . import library
from .calls import address
from .library import Kernel
from .threads import ENTRY, SERIAL_FLOPS, get_num_threads, run

#: Blocks that a launch is cut into at least, if it can be.
TASKS = 16


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
        own = {"scratch", "outside"} & set(entry.arguments)
        missing = set(entry.arguments) - set(known) - own
        if missing:
            raise ValueError(f"{entry.name} needs {sorted(missing)}")
        self.words = np.array([known.get(name, 0) for name in entry.arguments], np.int64)
        self.places = [entry.arguments.index(name) if name in entry.arguments else None for name in arrays]
        self.own = {name: entry.arguments.index(name) for name in own}
        self.call = ENTRY(entry.address) if work < SERIAL_FLOPS else None

    def run(self, *arrays: np.ndarray) -> bool:
        """Run it; whether the kernel could do it."""
        count = len(self.words)
        threads = get_num_threads() if self.call is None else 1
        room = np.empty(count + 1 + (self.scratch * threads >> 3), np.int64)  # words, the answer, scratch
        words = room[:count]
        words[:] = self.words
        begin = data(room)
        for place, array in zip(self.places, arrays, strict=True):
            if place is not None:
                words[place] = data(array)
        for name, place in self.own.items():
            words[place] = begin + 8 * (count + (name == "scratch"))
        room[count] = 0
        if self.call is not None:
            self.call(0, self.blocks, 0, begin)
        else:
            run(self.entry, words, self.blocks, self.work, max(1, self.blocks // TASKS))
        return not room[count]


def data(array: np.ndarray) -> int:
    """Where the first element of `array` lies: `address`, four times as fast where NumPy's arrays begin as expected."""
    return ctypes.c_size_t.from_address(id(array) + HEAD).value


#: Bytes of an object before what is its own, which in an array is the address of its elements.
HEAD = object.__basicsize__
_probe = np.empty(3)
if data(_probe) != address(_probe):
    data = address


def cuts(blocks: int, most: int) -> int:
    """Into how many parts to cut each of `blocks`, of at most `most`, for all threads to have enough."""
    return max(1, min(most, ceil_div(TASKS, blocks)))


def launched(
    kernel: str, dtype: np.dtype, values: dict[str, int], arrays: dict[str, np.ndarray], given: str, blocks: int, work: float,
    scratch: int = 0,
) -> Launch | None:  # fmt: skip
    """The launch of a kernel, which takes of `values` and `arrays` what it knows; `given` names what a call brings."""
    try:
        entry = library.kernel("pools", kernel, f"f{dtype.itemsize}")
    except library.KernelError:  # which said why
        return None
    taken = set(entry.arguments)
    values = {name: int(value) for name, value in values.items() if name in taken}  # what is given comes last
    tables = {name: np.ascontiguousarray(table) for name, table in arrays.items() if name in taken}
    return Launch(entry, values, tables, given.split(), blocks, work, scratch)
