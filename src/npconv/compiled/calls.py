"""Calling a kernel: its arguments as 64-bit words, most of them known ahead."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping

import numpy as np

from .catalogue import Kernel
from .panels import LINE
from .threads import run

#: Where CPython keeps the address of an array's first element; asking the array takes ten times as long.
OFFSET = object.__basicsize__


def _slow(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _fast(array: np.ndarray) -> int:
    return ctypes.c_int64.from_address(id(array) + OFFSET).value


def _agree() -> bool:
    sample = np.zeros(7, np.int8)
    return sys.implementation.name == "cpython" and all(
        _fast(a) == _slow(a) for a in (sample, sample[3:], sample[::-1])
    )


#: The address of the first element of an array.
address = _fast if _agree() else _slow


def aligned(size: int, dtype: np.dtype | type = np.uint8) -> np.ndarray:
    """`size` uninitialised elements that begin with a cache line: a vector that lies across two is loaded twice."""
    kind = np.dtype(dtype)
    raw = np.empty(size * kind.itemsize + LINE, np.uint8)
    start = -address(raw) % LINE
    return raw[start : start + size * kind.itemsize].view(kind)


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

    def run(self, blocks: int, flops: float, grain: int = 1, **rest: int) -> None:
        """Run blocks 0..blocks with the remaining arguments."""
        if rest.keys() != self.missing:
            raise ValueError(f"{self.kernel.name} needs {sorted(self.missing)}, got {sorted(rest)}")
        words = self.words.copy()
        for name, value in rest.items():
            words[self.at[name]] = value
        run(self.kernel, words, blocks, flops, grain)
