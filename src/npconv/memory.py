"""Memory: what a call may allocate, and the arrays it writes to."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np

from .compiled.calls import aligned
from .geometry import LARGEST, Ints, total
from .reading import one_int

#: Elements from which an output begins with a cache line; NumPy's begin 16 bytes after one, where vectors straddle two.
ALIGNED_FROM = 4096


class MemoryLimitError(MemoryError):
    """The estimate of what a call would allocate exceeds the limit; nothing was allocated."""

    __module__ = "npconv"


def contiguous(array: np.ndarray, limit: int) -> np.ndarray:
    """`array` in C order, so that bits do not depend on strides; as it is where a copy would exceed `limit` bytes."""
    return array if array.flags.c_contiguous or array.nbytes > limit else array.copy(order="C")


def read_bytes(op: str, name: str, value: Any) -> int | None:
    """A budget in bytes; None means no other limit than the machine's memory."""
    return None if value is None else one_int(op, name, value, 0)


@functools.lru_cache(maxsize=1)
def machine_memory() -> int:
    """The physical memory in bytes, or 2^47 where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 2**47


@functools.lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Let the C library keep the memory of temporary arrays from call to call.

    glibc maps every block above a threshold anew and unmaps it when freed, and touching fresh pages can cost more than
    a whole layer. The threshold rises to the largest block that was ever freed (at most 32 MiB), so one such block,
    never touched, is allocated and freed here. Elsewhere this does nothing.
    """
    import ctypes

    try:
        malloc, free = ctypes.pythonapi["malloc"], ctypes.pythonapi["free"]  # which are those of the whole process
        malloc.restype, malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
        free.restype, free.argtypes = None, (ctypes.c_void_p,)
        free(malloc(31 << 20))
    except (AttributeError, OSError, TypeError):  # no such library here; it only helps
        pass


def smaller(op: str) -> str:
    """What makes the output of `op` smaller."""
    if "transpose" in op:
        return "less stride, dilation or output_padding"
    return "less padding or input_dilation" if "conv" in op else "less padding or dilation, or a smaller kernel"


def check_memory(op: str, needed: int, what: str) -> None:
    """Refuse a call whose result alone cannot fit, before anything is allocated."""
    if needed > machine_memory():
        raise MemoryLimitError(
            f"{op}: {what} needs {needed} bytes, the limit is {machine_memory()} bytes of machine memory; "
            f"use chunks of x or {smaller(op)}"
        )


@functools.lru_cache(maxsize=1024)
def check_output(op: str, shape: Ints, dtype: np.dtype) -> None:
    """Refuse an output that cannot fit, or that NumPy cannot make."""
    needed = total(shape) * dtype.itemsize
    if needed > machine_memory():
        check_memory(op, needed, f"an output of shape {shape}")
    # NumPy counts the other axes of an empty array too
    if not needed and total([n for n in shape if n]) * dtype.itemsize > LARGEST:
        raise ValueError(
            f"{op}: no array can have the output shape {shape}, its sizes multiply to over 2^63-1; use {smaller(op)}"
        )


def fresh(shape: Ints, dtype: np.dtype) -> np.ndarray:
    """An array whose elements are still to be written."""
    return aligned(shape, dtype) if total(shape) >= ALIGNED_FROM else np.empty(shape, dtype)


def output(op: str, out: Any, shape: Ints, dtype: np.dtype, operands: dict[str, np.ndarray]) -> np.ndarray:
    """A fresh output array, or the caller's `out` once it is proved fit."""
    keep_freed_memory()
    if out is None:
        check_output(op, shape, dtype)
        return fresh(shape, dtype)
    error = _unfit(out, shape, dtype, operands)
    if error is not None:
        kind, why = error
        raise kind(f"{op}: out{why}; use out=np.empty({shape}, {dtype.name!r})")
    checked: np.ndarray = out
    return checked


def _unfit(
    out: Any, shape: Ints, dtype: np.dtype, operands: dict[str, np.ndarray]
) -> tuple[type[Exception], str] | None:
    """Why `out` cannot take a result, or None."""
    if not isinstance(out, np.ndarray):
        return TypeError, f" must be a NumPy array, got a {type(out).__name__}"
    if out.shape != shape:
        return ValueError, f".shape is {out.shape}, expected {shape}"
    if out.dtype != dtype:
        return TypeError, f".dtype is {out.dtype}, expected {dtype}"
    flags = out.flags
    if not flags.writeable:
        return ValueError, " is read-only, needs a writable array"
    if not (flags.c_contiguous and flags.aligned):
        order = f"strides are {out.strides}" if flags.aligned else "data are unaligned"
        return ValueError, f" must be C-contiguous and aligned, its {order}"
    for name, array in operands.items():
        if np.may_share_memory(out, array):
            return ValueError, f" overlaps {name} in memory, needs an array of its own"
    return None
