"""The door: what arrays, dtypes, names and memory a call may bring, and the messages for what it may not."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from .compiled import threads
from .compiled.catalogue import KernelError
from .geometry import LARGEST, Ints
from .memory import MemoryLimitError
from .reading import did_you_mean, one_int, shown
from .records import dataclass

F = TypeVar("F", bound=Callable[..., Any])
#: What needs no check and no conversion: nearly every call brings nothing else.
USUAL = frozenset({np.dtype(np.float32), np.dtype(np.float64)})
#: The types of options whose values are looked up; 1, 1.0 and True are equal, but only the first is an int.
PLAIN = frozenset({int, str, bool, float, complex, type(None), tuple})
FLAT = PLAIN - {tuple}
#: Numbers in an array of integers, at most, that is looked up like a tuple.
SMALL = 64
EXACT_IN_FLOAT64 = 2**53
EXACT_IN_INT64 = 2**63


def operation(function: F) -> F:
    """Let errors of the call itself, and of the allocator, read like ours."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        threads.begin()
        try:
            return function(*args, **kwargs)
        except TypeError:
            why = _misfit(inspect.signature(function), args, kwargs)
            if why is None:
                raise
            raise TypeError(f"{function.__name__}: {why}") from None
        except KernelError:  # machine code was chosen and could not be made: it will not be chosen again
            return function(*args, **kwargs)
        except MemoryLimitError:
            raise
        except MemoryError as error:
            raise MemoryLimitError(
                f"{function.__name__}: out of memory: {error or 'the allocator gave no size'}; "
                "use a smaller max_workspace or chunks of x"
            ) from error

    return call  # type: ignore[return-value]


def _misfit(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Why a call does not fit `signature`, or None where it does."""
    known = signature.parameters
    unknown = [k for k in kwargs if k not in known]
    if unknown and "options" not in known:
        return f"unknown keyword {shown(unknown[0])}, needs {did_you_mean(unknown[0], list(known))}"
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        many = f" of the {len(args)}; pass options by keyword" if "too many" in str(error) else ""
        return f"{error}{many}"
    return None


def remembered(read: F) -> F:
    """``read(op, x_shape, w_shape, options, rank)``, its last answers kept where the options are of `PLAIN` types."""

    @functools.lru_cache(maxsize=1024)
    def once(
        op: str, x_shape: Ints, w_shape: Ints, rank: int | None, names: tuple[str, ...], values: Any, types: Any
    ) -> Any:
        return read(op, x_shape, w_shape, dict(zip(names, values, strict=True)), rank)

    @functools.wraps(read)
    def look_up(op: str, x_shape: Ints, w_shape: Ints, options: Mapping[str, Any], rank: int | None = None) -> Any:
        values = tuple(options.values())
        types = plain_types(values)
        if types is None:  # as lists, or as NumPy's integers
            values = tuple(map(_frozen, values))
            types = plain_types(values)
            try:
                if types is not None:
                    return once(op, x_shape, w_shape, rank, tuple(options), values, types)
            except (TypeError, ValueError):
                pass  # it says what the caller wrote
            return read(op, x_shape, w_shape, options, rank)
        return once(op, x_shape, w_shape, rank, tuple(options), values, types)

    return look_up  # type: ignore[return-value]


def _frozen(value: Any) -> Any:
    """Tuples for lists and small arrays of integers, and integers for NumPy's."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_frozen, value))
    if isinstance(value, np.integer):
        return int(value)
    if type(value) is np.ndarray and value.dtype.kind in "iu" and value.ndim > 0 and value.size <= SMALL:
        return _frozen(value.tolist())
    return value


def plain_types(values: tuple[Any, ...]) -> tuple[type, ...] | None:
    """The types of these values and of what is in them, or None where one is not of `PLAIN`."""
    types: tuple[type, ...] = tuple(map(type, values))
    if not PLAIN.issuperset(types):
        return None
    if tuple in types:
        for value in values:
            if type(value) is tuple:
                flat = tuple(map(type, value))
                inside = flat if FLAT.issuperset(flat) else plain_types(value)
                if inside is None:
                    return None
                types += inside
    return types


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


def _refusal(dtype: np.dtype, name: str = "x") -> str | None:
    """Why arrays of `dtype` cannot be convolved and what to do, or None if they can."""
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
        return f"booleans are no numbers here; use {name}.astype(np.uint8) to count"
    if dtype.names:
        return f"its fields {dtype.names} are numbers of their own; use one field, {name}[{dtype.names[0]!r}]"
    if dtype.kind in "mM":
        return f"dates and durations have no products; use {name}.astype(np.int64)"
    if dtype.kind in "SU":
        return f"text has no products; use {name}.astype(np.float64) if it spells numbers"
    if dtype.kind in "fc":
        wide = "complex128" if dtype.kind == "c" else "float64"
        return f"no algorithm computes in it and it is never rounded silently; use {name}.astype(np.{wide})"
    return f"needs a float, complex or integer dtype; use {name}.astype(np.float32)"


def _first_odd(value: np.ndarray) -> str:
    """What is wrong with an object array, by its first element that is no number of Python."""
    for at, element in enumerate(islice(value.flat, 1000)):
        if type(element) not in (int, float, complex):
            return f"element {at} is of type {type(element).__name__}"
    return "its elements are Python objects"


def usual(value: Any) -> bool:
    """Whether `value` is an array as kernels take it."""
    return type(value) is np.ndarray and value.dtype in USUAL and value.flags.aligned


def operand(op: str, name: str, value: Any) -> np.ndarray:
    """`value` as a base ndarray in native byte order and aligned; what has no safe reading is refused."""
    if usual(value):
        return value
    if isinstance(value, np.ma.MaskedArray):
        masked = int(np.ma.count_masked(value))
        if masked:
            raise ValueError(
                f"{op}: {name} has {masked} masked elements, and a mask is never dropped silently; "
                f"fill them, as in {name}.filled(0)"
            )
        value = value.data
    if not isinstance(value, np.ndarray):
        value = _as_array(op, name, value)
    dtype = value.dtype
    why = _refusal(dtype, name)
    if why:
        if dtype.kind == "O":
            why = f"{_first_odd(value)}; use {name}.astype(np.float64) if all are numbers"
        raise TypeError(f"{op}: {name} has dtype {'structured' if dtype.names else dtype}: {why}")
    if not dtype.isnative:
        value = value.astype(dtype.newbyteorder("="))
    if not value.flags.aligned:
        value = value.copy()
    return np.asarray(value)


def _as_array(op: str, name: str, value: Any) -> np.ndarray:
    kind = type(value)
    module = kind.__module__.split(".")[0]
    if module == "torch" or hasattr(value, "cpu"):
        detached = ".detach()" if getattr(value, "requires_grad", False) else ""
        raise TypeError(f"{op}: {name} is a {module} {kind.__name__}, not a NumPy array; use {name}{detached}.numpy()")
    if hasattr(value, "to_numpy"):
        raise TypeError(f"{op}: {name} is a {module} {kind.__name__}, not a NumPy array; use {name}.to_numpy()")
    if not isinstance(value, (list, tuple, int, float, complex, np.generic)) and not hasattr(value, "__array__"):
        got = f"{shown(value)} of type {kind.__name__}" if isinstance(value, (str, bytes)) else f"a {kind.__name__}"
        got = "None" if value is None else got
        raise TypeError(
            f"{op}: {name} must be an array or a nested list of numbers, got {got}; use np.asarray on numbers"
        )
    try:
        return np.asarray(value)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise ValueError(f"{op}: {name} is no array of numbers: {error}") from None
        raise ValueError(
            f"{op}: {name} is a ragged nested list, its rows differ in length; pad them to one length"
        ) from None


def dtype_of(op: str, value: Any) -> np.dtype:
    """An argument `dtype` as one that operands may have."""
    try:
        return operand(op, "dtype", np.empty(0, value)).dtype
    except TypeError as error:
        if str(error).startswith(op):
            raise
        raise TypeError(f"{op}: dtype={value!r} is unknown to NumPy; use 'float32' or 'float64'") from None


def common_dtypes(op: str, named: dict[str, np.dtype]) -> Dtypes:
    """The compute and result dtypes of operands, by NumPy promotion; integers accumulate in int64."""
    return _common_dtypes(op, tuple(named.items()))


@functools.lru_cache(maxsize=1024)
def _common_dtypes(op: str, named: tuple[tuple[str, np.dtype], ...]) -> Dtypes:
    dtypes = [dtype for _, dtype in named]
    if all(d.kind in "iu" for d in dtypes):
        return Dtypes(np.dtype(np.float64), np.dtype(np.int64))
    try:
        result = np.result_type(*dtypes)
    except TypeError:
        result = np.dtype(object)
    if _refusal(result):
        pairs = ", ".join(f"{n} {d}" for n, d in named)
        raise TypeError(f"{op}: the dtypes have no common one: {pairs}; convert one with .astype(np.float32)")
    half = result.itemsize == 2
    return Dtypes(np.dtype(np.float32) if half else result, result)


@functools.lru_cache(maxsize=1024)
def working(dtypes: Dtypes, accuracy: str) -> Dtypes:
    """`dtypes` as a tier computes them: "strict" adds single precision up in double and rounds once.

    Sums of equal signs, such as those over a flat image, round the same way at every step; in double that does not show.
    """
    if accuracy != "strict" or dtypes.exact:
        return dtypes
    return Dtypes(np.result_type(dtypes.compute, np.float64), dtypes.result)


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
        f"{op}: sums of these integers could reach {bound} in magnitude, which exceeds 2^63-1 = "
        f"{EXACT_IN_INT64 - 1}; "
        "convert an operand (x, w or g) to float64"
    )


# --------------------------------------------------------------------------- names, memory, out
def choice(op: str, name: str, value: Any, allowed: Sequence[str]) -> str:
    """`value` if it is one of `allowed`, else an error that guesses."""
    if not isinstance(value, str):
        raise TypeError(
            f"{op}: {name} must be a string, got {shown(value)} of type {type(value).__name__}; "
            f"use {did_you_mean(None, allowed)}"
        )
    if value not in allowed:
        raise ValueError(f"{op}: {name}={shown(value)} is unknown, needs {did_you_mean(value, allowed)}")
    return value


def flag(op: str, name: str, value: Any) -> bool:
    """`value` as a bool; 0 and 1 are refused, so that positional slips show."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(
            f"{op}: {name} must be True or False, got {shown(value)} of type {type(value).__name__}; write {name}=True"
        )
    return bool(value)


def shape_of(op: str, name: str, value: Any) -> Ints:
    """`value` as a shape: a tuple of non-negative ints."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(
            f"{op}: {name} must be a tuple of ints, got {shown(value)} of type {type(value).__name__}; use array.shape"
        )
    if type(value) is tuple and all(type(v) is int and 0 <= v <= LARGEST for v in value):
        return value
    return tuple(one_int(op, name, v, 0, f" entry {i}") for i, v in enumerate(value))
