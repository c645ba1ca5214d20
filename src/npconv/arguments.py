"""The door: what arrays, dtypes, names and memory a call may bring, and the messages for what it may not."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from .geometry import Ints, did_you_mean, one_int, total

F = TypeVar("F", bound=Callable[..., Any])
EXACT_IN_FLOAT64 = 2**53
EXACT_IN_INT64 = 2**63


class MemoryLimitError(MemoryError):
    """The estimate of what a call would allocate exceeds the limit; nothing was allocated."""


def operation(function: F) -> F:
    """Name the closest keyword when a call brings an unknown one."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError:
            known = list(inspect.signature(function).parameters)
            unknown = [k for k in kwargs if k not in known]
            if not unknown or "options" in known:
                raise
            op = function.__name__
            raise TypeError(f"{op}: unknown keyword {unknown[0]!r}, needs {did_you_mean(unknown[0], known)}") from None

    return call  # type: ignore[return-value]


# --------------------------------------------------------------------------- dtypes
@dataclass(frozen=True)
class Dtypes:
    """What a call computes in and what it returns; they differ for half floats and for integers."""

    compute: np.dtype
    result: np.dtype

    @property
    def exact(self) -> bool:
        """Whether the call promises exact integers."""
        return self.result.kind in "iu"

    @property
    def unit_roundoff(self) -> float:
        """u, half the spacing of numbers just above 1 (2^-24 for float32)."""
        return float(np.finfo(self.compute).eps) / 2


def _refusal(dtype: np.dtype) -> str | None:
    """Why arrays of `dtype` cannot be convolved, or None if they can."""
    if dtype.kind in "iu" or dtype.name in (
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "complex64",
        "complex128",
    ):
        return None
    if dtype.kind == "b":
        return "use .astype(np.uint8) to count, or a float dtype"
    if dtype.names:
        return f"structured with fields {dtype.names}; pass one field, x[{dtype.names[0]!r}]"
    if dtype.kind in "mM":
        return "dates and durations have no products; use .astype(np.int64)"
    if dtype.kind in "fc":
        return "has no kernel and is never rounded silently; use .astype(np.float64)"
    return "needs a float, complex or integer dtype"


def operand(op: str, name: str, value: Any) -> np.ndarray:
    """`value` as a base ndarray in native byte order and aligned; what has no safe reading is refused."""
    if isinstance(value, np.ma.MaskedArray):
        masked = int(np.ma.count_masked(value))
        if masked:
            raise ValueError(
                f"{op}: {name} has {masked} masked elements; fill them (x.filled(0)) or handle the mask first"
            )
        value = value.data
    if not isinstance(value, np.ndarray):
        value = _as_array(op, name, value)
    dtype = value.dtype
    why = _refusal(dtype)
    if why:
        if dtype.kind == "O":
            first = next((v for v in value.flat), None)
            why = f"its first element is of type {type(first).__name__}; use .astype(float)"
        raise TypeError(f"{op}: {name} has dtype {dtype}: {why}")
    if not dtype.isnative:
        value = value.astype(dtype.newbyteorder("="))
    if not value.flags.aligned:
        value = value.copy()
    return np.asarray(value)


def _as_array(op: str, name: str, value: Any) -> np.ndarray:
    kind = type(value)
    module = kind.__module__.split(".")[0]
    if module == "torch" or hasattr(value, "cpu"):
        raise TypeError(f"{op}: {name} is a {module} {kind.__name__}; use {name}.numpy()")
    if hasattr(value, "to_numpy"):
        raise TypeError(f"{op}: {name} is a {module} {kind.__name__}; use {name}.to_numpy()")
    if not isinstance(value, (list, tuple, int, float, complex, np.generic)) and not hasattr(value, "__array__"):
        raise TypeError(f"{op}: {name} must be an array or a nested list, got {value!r:.60} of type {kind.__name__}")
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{op}: {name} is a ragged nested list: {error}") from None


def common_dtypes(op: str, named: dict[str, np.dtype]) -> Dtypes:
    """The compute and result dtypes of operands, by NumPy promotion; integers accumulate in int64."""
    dtypes = list(named.values())
    if all(d.kind in "iu" for d in dtypes):
        return Dtypes(np.dtype(np.float64), np.dtype(np.int64))
    try:
        result = np.result_type(*dtypes)
    except TypeError:
        result = np.dtype(object)
    if _refusal(result):
        pairs = ", ".join(f"{n} {d}" for n, d in named.items())
        raise TypeError(f"{op}: the dtypes have no common one: {pairs}; convert one with .astype")
    half = result.itemsize == 2
    return Dtypes(np.dtype(np.float32) if half else result, result)


def real_dtype(op: str, name: str, dtype: np.dtype) -> np.dtype:
    """`dtype`, refused when complex: pooling needs an ordering."""
    if dtype.kind == "c":
        raise TypeError(f"{op}: {name} has dtype {dtype}: complex numbers have no ordering; pool abs(x) or x.real")
    return dtype


def largest_magnitude(array: np.ndarray) -> int:
    """max |a| of an integer array, as an exact Python int (so that the smallest int64 is right)."""
    return max(-int(array.min()), int(array.max())) if array.size else 0


def integer_compute(op: str, bound: int) -> np.dtype:
    """The dtype in which integer sums up to `bound` are exact: float64 through BLAS, or int64."""
    if bound <= EXACT_IN_FLOAT64:
        return np.dtype(np.float64)
    if bound < EXACT_IN_INT64:
        return np.dtype(np.int64)
    raise ValueError(
        f"{op}: sums of these integers could reach {bound} in magnitude, which exceeds 2^63-1 = {EXACT_IN_INT64 - 1}; "
        "convert to float64"
    )


# --------------------------------------------------------------------------- names, memory, out
def choice(op: str, name: str, value: Any, allowed: Sequence[str]) -> str:
    """`value` if it is one of `allowed`, else an error that guesses."""
    if not isinstance(value, str):
        raise TypeError(f"{op}: {name} must be a string, got {value!r} of type {type(value).__name__}")
    if value not in allowed:
        raise ValueError(f"{op}: {name}={value!r} is unknown, needs " + did_you_mean(value, allowed))
    return value


def flag(op: str, name: str, value: Any) -> bool:
    """`value` as a bool; 0 and 1 are refused, so that positional slips show."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{op}: {name} must be True or False, got {value!r} of type {type(value).__name__}")
    return bool(value)


def shape_of(op: str, name: str, value: Any) -> Ints:
    """`value` as a shape: a tuple of non-negative ints."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{op}: {name} must be a tuple of ints, got {value!r} of type {type(value).__name__}")
    return tuple(one_int(op, name, v, 0, f" entry {i}") for i, v in enumerate(value))


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


def check_memory(op: str, needed: int, what: str) -> None:
    """Refuse a call whose result alone cannot fit, before anything is allocated."""
    if needed > machine_memory():
        raise MemoryLimitError(
            f"{op}: {what} needs {needed} bytes, the limit is {machine_memory()} bytes of machine memory; "
            "process the input in chunks or use less padding"
        )


def output(op: str, out: Any, shape: Ints, dtype: np.dtype, operands: dict[str, np.ndarray]) -> np.ndarray:
    """A fresh output array, or the caller's `out` once it is proved fit."""
    if out is None:
        check_memory(op, total(shape) * dtype.itemsize, f"an output of shape {shape}")
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{op}: out must be a NumPy array, got {out!r:.60} of type {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"{op}: out.shape is {out.shape}, expected {shape}")
    if out.dtype != dtype:
        raise TypeError(f"{op}: out.dtype is {out.dtype}, expected {dtype}")
    if not out.flags.writeable:
        raise ValueError(f"{op}: out is read-only, needs a writable array")
    if not (out.flags.c_contiguous and out.flags.aligned):
        raise ValueError(f"{op}: out is not C-contiguous (strides {out.strides}), needs out = np.empty({shape}, ...)")
    for name, array in operands.items():
        if np.may_share_memory(out, array):
            raise ValueError(f"{op}: out overlaps {name} in memory, needs an array of its own")
    return out
