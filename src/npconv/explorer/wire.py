"""What travels between the page and Python: problems and arrays as plain JSON; nobody vouches for what comes in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Ints, total
from ..reading import PADDING_NAMES
from .problem import KEYWORDS, MOST_NUMBERS, MOST_STEP, Problem, problem

Array = NDArray[Any]

#: The page's words for the numbers that JSON lacks.
WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class ProblemError(ValueError):
    """JSON that is no problem, or a question that is none; the message says what is wrong with it."""


def problem_json(p: Problem) -> dict[str, Any]:
    """A problem as the page takes it."""
    rank, options = p.x.ndim - 1, p.options
    return {
        "operator": p.operator,
        "x": array_json(p.x),
        "w": None if p.w is None else array_json(p.w),
        "bias": None if p.bias is None else array_json(p.bias),
        "kernel": list(options["kernel"] if p.w is None else p.w.shape[2:]),
        "stride": list(options["stride"]),
        "dilation": list(options["dilation"]),
        "groups": options.get("groups", 1),
        "padding": options["padding"] if isinstance(options["padding"], str) else [*map(list, options["padding"])],
        "paddingMode": options.get("padding_mode", "zeros"),
        "paddingValue": _plain(float(options.get("padding_value", 0))),
        "flip": options.get("flip", False),
        "outputPadding": list(options.get("output_padding", (0,) * rank)),
        "countIncludePad": options.get("count_include_pad", True),
        "ceilMode": options.get("ceil_mode", False),
    }


def array_json(a: Array) -> dict[str, Any]:
    """An array as the page has it; the digits are the fewest that give the same number in the array's precision."""
    short = a.dtype.itemsize < 8
    return {"shape": list(a.shape), "data": [_plain(float(str(v)) if short else float(v)) for v in a.ravel()]}


def _plain(value: float) -> float | int | str:
    if not math.isfinite(value):
        return str(value)
    whole = int(value)
    return whole if whole == value and abs(whole) < 2**53 and (whole or math.copysign(1, value) > 0) else value


def read_problem(value: Any) -> Problem:
    """The problem that the page sent.

    Raises
    ------
    ProblemError
        If it is none, or asks for more than the page may.
    """
    if not isinstance(value, dict):
        raise ProblemError("problem: expected an object")
    op = value.get("operator")
    if not isinstance(op, str) or op not in KEYWORDS:
        raise ProblemError(f"problem: operator must be one of {', '.join(KEYWORDS)}")
    x = _array(value.get("x"), "x", (2, 3))
    rank = x.ndim - 1
    options: dict[str, Any] = {name: _option(value, name, rank) for name in KEYWORDS[op] if name != "kernel"}
    options = {name: chosen for name, chosen in options.items() if chosen is not None}
    arrays: dict[str, Any] = {}
    if op.endswith("pool"):
        options["kernel"] = _whole(value.get("kernel"), "kernel", rank, 1)
    else:
        arrays["w"] = _array(value.get("w"), "w", (rank + 2,))
        if value.get("bias") is not None:
            arrays["bias"] = _array(value["bias"], "bias", (1,))
    try:
        return problem(x, **arrays, operator=op, **options)
    except (ValueError, TypeError, MemoryError) as error:
        raise ProblemError(str(error)) from error


def _option(value: dict[str, Any], name: str, rank: int) -> Any:
    """One keyword of the operator; None where the page leaves it out."""
    first, *more = name.split("_")
    given = value.get(first + "".join(map(str.capitalize, more)))
    if given is None:
        return None
    if name in ("stride", "dilation", "output_padding"):
        return _whole(given, name, rank, 0)
    if name == "padding":
        return _padding(given, rank)
    if name == "groups":
        return _whole([given], name, 1, 1)[0]
    kinds: dict[str, Any] = {"padding_mode": str, "padding_value": (int, float, str)}
    if not isinstance(given, kinds.get(name, bool)) or (name == "padding_value" and isinstance(given, bool)):
        raise ProblemError(f"problem: {name} has a value of the wrong kind")
    if name == "padding_value":
        return _entry(given, name)
    return given


def _padding(given: Any, rank: int) -> Any:
    if isinstance(given, str):
        if given not in PADDING_NAMES:
            raise ProblemError(f"problem: padding must be one of {', '.join(PADDING_NAMES)} or pairs")
        return given
    if not isinstance(given, list) or len(given) != rank:
        raise ProblemError(f"problem: padding must be a name or {rank} pairs")
    return tuple(_whole(pair, "padding", 2, -MOST_STEP) for pair in given)


def _whole(given: Any, name: str, count: int, low: int) -> Ints:
    """So many ints from `low` to the largest allowed."""
    if not isinstance(given, list) or len(given) != count or any(type(n) is not int for n in given):
        raise ProblemError(f"problem: {name} must be {count} whole numbers")
    if not all(low <= n <= MOST_STEP for n in given):
        raise ProblemError(f"problem: {name} must be between {low} and {MOST_STEP}")
    return tuple(given)


def _array(given: Any, name: str, axes: tuple[int, ...]) -> Array:
    """An array whose size is known before anything is made."""
    if (
        not isinstance(given, dict)
        or not isinstance(given.get("shape"), list)
        or not isinstance(given.get("data"), list)
    ):
        raise ProblemError(f"problem: {name} must be an object with shape and data")
    shape, data = given["shape"], given["data"]
    if len(shape) not in axes:
        raise ProblemError(f"problem: {name} has {len(shape)} axes, expected {' or '.join(map(str, axes))}")
    shape = _whole(shape, f"{name}.shape", len(shape), 1)
    if total(shape) != len(data) or len(data) > MOST_NUMBERS:
        raise ProblemError(f"problem: {name} has {len(data)} numbers, its shape {total(shape)}, at most {MOST_NUMBERS}")
    return np.array([_entry(n, name) for n in data], np.float64).reshape(shape)


def _entry(n: Any, name: str) -> float:
    if isinstance(n, str) and n in WORDS:
        return WORDS[n]
    if type(n) is int and abs(n) < 2**63:
        return float(n)
    if type(n) is float and math.isfinite(n):
        return n
    raise ProblemError(f"problem: {name} has an entry that is no number")
