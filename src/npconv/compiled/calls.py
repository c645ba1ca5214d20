"""Calling a kernel: its arguments as 64-bit words, most of them known ahead, and memory that outlives a call."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..geometry import Ints
from .catalogue import Kernel
from .panels import LINE, whole_lines
from .threads import ENTRY, SERIAL_FLOPS, run

#: Where CPython keeps the address of an array's first element; asking the array takes ten times as long.
OFFSET = object.__basicsize__
_WORD_AT = ctypes.c_int64.from_address
#: Bytes that wait for the next call at most, and in how many pieces: touching fresh pages can cost as much as a layer.
KEPT, PIECES = 64 << 20, 24
#: How much larger than needed a piece may be.
SLACK = 1 << 20


def _slow(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _fast(array: np.ndarray) -> int:
    return _WORD_AT(id(array) + OFFSET).value


def _agree() -> bool:
    sample = np.zeros(7, np.int8)
    return sys.implementation.name == "cpython" and all(
        _fast(a) == _slow(a) for a in (sample, sample[3:], sample[::-1])
    )


#: The address of the first element of an array.
address = _fast if _agree() else _slow


# --------------------------------------------------------------------------- memory that outlives a call
class _Held(np.ndarray):
    """Bytes of our own. NumPy lets a view of a view refer to the first owner, but not past an array of another type."""

    __slots__ = ()


#: Memory that nobody uses, what was left last at the end. A list changes in one step, so that threads, signal handlers
#: and calls in the middle of calls may all come here.
_shelf: list[_Held] = []


def _take(size: int) -> _Held:
    """`size` bytes and perhaps some more, of those that were left last; far larger ones wait for larger calls."""
    others, most = [], size + min(size, SLACK) + 4096
    try:
        while True:
            held = _shelf.pop()
            if size <= held.size <= most:
                return held
            others.append(held)
    except IndexError:
        return _Held(size, np.uint8)
    finally:
        if others:
            _shelf[:0] = others


def _give(held: _Held, shelf: list[_Held] = _shelf) -> None:
    """Let the next call have it; what has waited longest goes where too much waits."""
    shelf.append(held)
    if len(shelf) > 1 or held.size > KEPT:
        with contextlib.suppress(IndexError):  # others took it all
            while len(shelf) > PIECES or sum([each.size for each in shelf]) > KEPT:
                shelf.pop(0)


class _Lent(np.ndarray):
    """All of a piece of memory, as long as an array refers to it."""

    __slots__ = ()

    def __del__(self, give: Callable[[Any], None] = _give, whole: type = _Held) -> None:  # at exit, modules are empty
        if type(self.base) is whole:  # a view of this one is of the same type
            give(self.base)


def aligned(shape: int | Ints, dtype: np.dtype | type = np.uint8) -> np.ndarray:
    """Uninitialised elements that begin with a cache line: a vector that lies across two is loaded twice.

    When nothing refers to them any more, their memory waits for the next call: its pages are there.
    """
    kind = np.dtype(dtype)
    size = kind.itemsize
    for n in (shape,) if isinstance(shape, int) else shape:
        size *= n
    held = _take(size + LINE)
    return np.ndarray(shape, kind, held.view(_Lent), -address(held) % LINE)


class Room:
    """Scratch in parts that begin with cache lines, for as long as this object lives; `parts` are their addresses."""

    def __init__(self, *sizes: int) -> None:
        lines = [whole_lines(size) for size in sizes]
        self.memory = aligned(sum(lines))
        begin = address(self.memory)
        self.parts = [begin + sum(lines[:i]) for i in range(len(lines))]


class Words:
    """A kernel with all arguments that do not change from call to call.

    Parameters
    ----------
    kernel : the entry point.
    values : arguments by name, integers.
    arrays : arguments by name whose address is passed; they are kept alive.
    """

    def __init__(
        self, kernel: Kernel, values: Mapping[str, int], arrays: Mapping[str, np.ndarray] | None = None
    ) -> None:
        self.kernel, self.arrays = kernel, dict(arrays or {})
        known = {**values, **{name: address(array) for name, array in self.arrays.items()}}
        self.at = {name: i for i, name in enumerate(kernel.arguments)}
        unknown = set(known) - set(self.at)
        if unknown:
            raise ValueError(f"{kernel.name} takes no {', '.join(sorted(unknown))}")
        self.words = np.array([known.get(name, 0) for name in kernel.arguments], np.int64)
        self.missing = set(self.at) - set(known)
        self.entry = ENTRY(kernel.address)
        self.spare: list[tuple[np.ndarray, int]] = []  # copies that no call is using, and where they are

    def run(self, blocks: int, flops: float, grain: int = 1, **rest: int) -> None:
        """Run blocks 0..blocks with the remaining arguments."""
        if rest.keys() != self.missing:
            raise ValueError(f"{self.kernel.name} needs {sorted(self.missing)}, got {sorted(rest)}")
        words, begin = held = _pop(self.spare) or _copy(self.words)
        for name, value in rest.items():
            words[self.at[name]] = value
        if flops < SERIAL_FLOPS:
            self.entry(0, blocks, 0, begin)
        else:
            run(self.kernel, words, blocks, flops, grain)
        self.spare.append(held)


def _pop(spare: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, int] | None:
    """The last one, in one step: another thread may want it too."""
    try:
        return spare.pop()
    except IndexError:
        return None


def _copy(words: np.ndarray) -> tuple[np.ndarray, int]:
    copy = words.copy()
    return copy, address(copy)


class Bound:
    """A launch whose arguments are all known but for the addresses of what it reads and writes, and its scratch.

    Parameters
    ----------
    words : the kernel and the arguments that other launches share.
    blocks, flops : how many blocks there are, and how many operations.
    scratch : bytes of scratch for all threads.
    fixed : arguments by name.
    """

    __slots__ = ("blocks", "fixed", "flops", "scratch", "spare", "words")

    def __init__(self, words: Words, blocks: int, flops: float, scratch: int, **fixed: int) -> None:
        self.words, self.blocks, self.flops, self.scratch, self.fixed = words, blocks, flops, scratch, fixed
        self.spare: list[tuple[np.ndarray, int]] = []

    def _fresh(self) -> tuple[np.ndarray, int]:
        of = self.words
        if of.missing != {"x", "y", "scratch", *self.fixed}:
            raise ValueError(f"{of.kernel.name} needs {sorted(of.missing)}, got {sorted(self.fixed)}, x, y and scratch")
        words, begin = _copy(of.words)
        for name, value in self.fixed.items():
            words[of.at[name]] = value
        return words, begin

    def run(self, x: int, y: int) -> None:
        """Run it on what is at these addresses."""
        of, room = self.words, _take(self.scratch + LINE)
        words, begin = held = _pop(self.spare) or self._fresh()
        words[of.at["x"]], words[of.at["y"]], words[of.at["scratch"]] = x, y, whole_lines(address(room))
        if self.flops < SERIAL_FLOPS:
            of.entry(0, self.blocks, 0, begin)
        else:
            run(of.kernel, words, self.blocks, self.flops)
        self.spare.append(held)
        _give(room)
