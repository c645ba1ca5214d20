"""Calling a kernel: its arguments as 64-bit words, most of them known ahead, and memory that outlives a call."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import weakref
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from ..geometry import Ints
from ..records import dataclass
from . import catalogue, threads
from .catalogue import Kernel
from .panels import LINE, whole_lines
from .threads import ENTRY, SERIAL_FLOPS, run

Held = TypeVar("Held")
#: Where CPython keeps the address of an array's first element; asking the array takes ten times as long.
OFFSET = object.__basicsize__
_WORD_AT = ctypes.c_int64.from_address
#: Bytes that wait for the next call at most, and in how many pieces: touching fresh pages can cost as much as a layer.
KEPT, PIECES = 96 << 20, 24
#: How much larger than needed a piece may be.
SLACK = 1 << 20
#: In how many places memory that threads share is by turns, and how many bytes at most: more of them leave the caches
#: of their own accord.
TURNS, MOST_TURNED = 4, 1 << 20
#: Bytes of scratch that a launch keeps for its next call; of more there is a shelf.
KEPT_WITH = 8 << 10
#: Bytes of tables in launches that are kept for the next call of the same sizes: beyond, all are forgotten. The caches
#: count launches, and one of a large image holds some hundred kilobytes.
TABLES = 128 << 20


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
    if len(shelf) > PIECES or held.size > KEPT // PIECES:  # smaller ones may wait beside as much as that
        with contextlib.suppress(IndexError):  # others took it all
            while len(shelf) > PIECES or sum([each.size for each in shelf]) > KEPT:
                shelf.pop(0)


class _Turned(np.ndarray):
    """Bytes of our own that wait for their turn."""

    __slots__ = ()


#: By their size, the pieces that take turns.
_turns: dict[int, list[_Turned]] = {}


def _give_turned(held: _Turned, turns: dict[int, list[_Turned]] = _turns) -> None:
    waiting = turns.setdefault(held.size, [])
    if len(waiting) < TURNS:
        waiting.append(held)


class _Lent(np.ndarray):
    """All of a piece of memory, as long as an array refers to it."""

    __slots__ = ()

    def __del__(  # at exit, modules are empty
        self,
        give: Callable[[Any], None] = _give,
        whole: type = _Held,
        give_turned: Callable[[Any], None] = _give_turned,
        turned: type = _Turned,
    ) -> None:
        if type(self.base) is whole:  # a view of this one is of the same type
            give(self.base)
        elif type(self.base) is turned:
            give_turned(self.base)


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


def shared(size: int) -> np.ndarray:
    """`aligned` bytes that one thread writes and another reads, in another place than at the last few calls.

    What one core wrote and others read lies in the caches of all of them, and has to be taken from there, line by line,
    before it can be written again: that takes several times as long. After some turns it has left them.
    """
    if size > MOST_TURNED or threads.current() == 1:
        return aligned(size)
    whole = 1 << (size + LINE - 1).bit_length()
    waiting = _turns.get(whole)
    try:
        held = waiting.pop(0) if waiting and len(waiting) == TURNS else _Turned(whole, np.uint8)
    except IndexError:  # another thread took it
        held = _Turned(whole, np.uint8)
    return np.ndarray(size, np.uint8, held.view(_Lent), -address(held) % LINE)


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
        _count(self)

    @property
    def bytes(self) -> int:
        """The memory of its tables."""
        return self.words.nbytes + sum([array.nbytes for array in self.arrays.values()])

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
            run(self.kernel, begin, blocks, flops, grain)
        self.spare.append(held)


_alive: weakref.WeakSet[Any] = weakref.WeakSet()
_fresh = 0  # bytes of those that came since they were last summed up


def _count(tables: Any) -> None:
    """See that the launches kept do not take too much memory together; `tables.bytes` is what this one takes."""
    global _fresh
    _alive.add(tables)
    _fresh += tables.bytes
    if _fresh < TABLES // 8:
        return
    _fresh = 0
    try:
        held = sum(each.bytes for each in _alive)
    except RuntimeError:  # another thread added one: there will be a next time
        return
    if held > TABLES:
        forget()


def forget() -> None:
    """Empty npconv's caches of bounded size: launches, their tables, and choices."""
    package = __name__.partition(".")[0]
    for name, module in list(sys.modules.items()):
        if name.startswith(package):
            for cached in list(vars(module).values()):
                if hasattr(cached, "cache_parameters") and (cached.cache_parameters()["maxsize"] or 0) > 1:
                    cached.cache_clear()
    for clear in catalogue.forget:
        clear()


def _pop(spare: list[Held]) -> Held | None:
    """The last one, in one step: another thread may want it too."""
    try:
        return spare.pop()
    except IndexError:
        return None


def _copy(words: np.ndarray) -> tuple[np.ndarray, int]:
    copy = words.copy()
    return copy, address(copy)


class Placed:
    """A launch for one input and one output: `bound` on what lies at `x` and `y`; then, in a program, `after` on `y`.

    Whoever keeps a launch keeps the arrays.
    """

    __slots__ = ("after", "bound", "x", "y")

    def __init__(self, bound: Bound, x: int, y: int, after: Bound | None = None) -> None:
        self.bound, self.x, self.y, self.after = bound, x, y, after

    @property
    def flops(self) -> float:
        """Operations in all."""
        return self.bound.flops + (self.after.flops if self.after else 0)


class Bound:
    """A launch whose arguments are all known but for the addresses of what it reads and writes, and its scratch.

    A kernel with an argument `found` looks at what it writes: that word becomes 1 where an output is not finite.

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
        self.spare: list[tuple] = []

    @property
    def looks(self) -> bool:
        """Whether `run` tells if all outputs are finite."""
        return "found" in self.words.at

    def for_threads(self, workers: int) -> int:
        """Bytes of scratch for so many threads, of which any may take any block."""
        at = self.words.at.get("scratch_step")
        return max(self.scratch, 0 if at is None else workers * int(self.words.words[at]))

    def fresh(self) -> tuple:
        """The arguments but for x and y, where they are, the word `found`, and scratch, unless it comes from the shelf."""
        of, found = self.words, ctypes.c_int64()
        if of.missing - {"x", "y", "scratch", "found"} != self.fixed.keys():
            raise ValueError(f"{of.kernel.name} needs {sorted(of.missing)}, got {sorted(self.fixed)}, x, y and scratch")
        words, begin = _copy(of.words)
        for name, value in self.fixed.items():
            words[of.at[name]] = value
        if self.looks:
            words[of.at["found"]] = ctypes.addressof(found)
        room = None
        if self.scratch <= KEPT_WITH and "scratch" in of.at:
            room = np.empty(self.scratch + LINE, np.uint8)
            words[of.at["scratch"]] = whole_lines(address(room))
        return words, begin, found, room

    def run(self, x: int, y: int) -> bool:
        """Run it on what is at these addresses; False: an output is not finite, and it looked."""
        return self.run_with(x, y, 0)

    def run_with(self, x: int, y: int, w: int, bias: int = 0) -> bool:
        """The same with the weights at `w`, and a bias in the order of lanes or none; without `w`: with what it knows."""
        of = self.words
        words, begin, found, room = held = _pop(self.spare) or self.fresh()
        at = of.at
        words[at["x"]], words[at["y"]] = x, y
        lent = None
        if room is None:
            lent = _take(self.scratch + LINE)
            words[at["scratch"]] = whole_lines(address(lent))
        if w:
            words[at["w"]], words[at["bias"]] = w, bias or self.fixed["bias"]
        if self.flops < SERIAL_FLOPS:
            of.entry(0, self.blocks, 0, begin)
        else:
            run(of.kernel, begin, self.blocks, self.flops)
        spoiled, found.value = found.value, 0
        self.spare.append(held)
        if lent is not None:
            _give(lent)
        return not spoiled


@dataclass(frozen=True)
class Launch:
    """A kernel and its arguments for one geometry and its memory layouts."""

    words: Words
    blocks: int
    flops: float
    scratch: int  # bytes per thread

    def bound(self, **fixed: int) -> Bound:
        """The same with the remaining arguments, but for those of a call, on as many threads as this operation has."""
        scratch = self.scratch * min(threads.current(), self.blocks)
        return Bound(self.words, self.blocks, self.flops, scratch, **fixed)
