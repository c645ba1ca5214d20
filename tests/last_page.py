"""Arrays that end where the memory ends: who reads or writes beyond them dies."""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Any

import numpy as np

_keep: list[Any] = []


def at_the_end(array: np.ndarray) -> np.ndarray:
    """A copy whose last byte is the last of its page, with a page behind that nobody may touch."""
    pages = array.nbytes // mmap.PAGESIZE + 1
    memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    guard = ctypes.c_void_p(start + pages * mmap.PAGESIZE)
    if ctypes.CDLL(None).mprotect(guard, mmap.PAGESIZE, 0):
        sys.exit("no guard")
    flat = np.frombuffer(memory, np.uint8, array.nbytes, pages * mmap.PAGESIZE - array.nbytes)
    copy: np.ndarray = flat.view(array.dtype).reshape(array.shape)
    copy[...] = array
    _keep.append(memory)
    return copy
