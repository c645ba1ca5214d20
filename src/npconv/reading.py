"""What a caller may write for an int, a size per axis or a padding, and the messages for what they may not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import index
from typing import Any

from .geometry import (
    LARGEST,
    Ints,
    Pads,
    effective_kernel,
    named_pads,
    window_count,
)

PADDING_NAMES = ("valid", "same", "same_lower", "same_torch", "full", "causal")

#: What other libraries call what we name otherwise: keywords, padding modes, paddings, algorithms.
SYNONYMS = {
    **dict.fromkeys(("edge", "nearest"), "replicate"),
    **dict.fromkeys(("wrap", "grid-wrap", "periodic"), "circular"),
    **dict.fromkeys(("symm", "reflect_half"), "symmetric"),
    "mirror": "reflect",
    "fill": "constant",
    "same_upper": "same",
    "im2col": "gemm",
    "naive": "loops",
    "strides": "stride",
    "window_strides": "stride",
    "pads": "padding",
    "auto_pad": "padding",
    "pad": "padding",
    "data_format": "layout",
    "dimension_numbers": "layout",
    **dict.fromkeys(("dilations", "dilation_rate", "rhs_dilation"), "dilation"),
    "lhs_dilation": "input_dilation",
    **dict.fromkeys(("group", "feature_group_count"), "groups"),
    **dict.fromkeys(("weight", "weights", "filters", "kernel"), "w"),
    **dict.fromkeys(("kernel_size", "pool_size", "ksize", "window_shape"), "kernel"),
    "divisor_override": "divisor",
    "input": "x",
    "b": "bias",
}


def did_you_mean(value: object, allowed: Sequence[str], listed: Sequence[str] | None = None) -> str:
    """The part of a message that lists `allowed` (or only `listed`) and guesses which one was meant."""
    import difflib  # only on the way to an error

    text = "one of " + ", ".join(repr(a) for a in (allowed if listed is None else listed))
    if isinstance(value, str):
        lower = {a.lower(): a for a in allowed}
        known = SYNONYMS.get(value.lower(), "")
        close = [known] if known in lower else difflib.get_close_matches(value.lower(), lower, 1, 0.5)
        if close:
            text += f"; did you mean {lower[close[0]]!r}?"
    return text


def shown(value: object, limit: int = 60) -> str:
    """The repr of what a caller wrote, on one line and not too long."""
    text = " ".join(f"{value!r:.1000}".split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _nearest_int(value: Any) -> str:
    """What to write instead of a number that is no int."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and math.isfinite(value):
        near = sorted({math.floor(value), math.ceil(value)})
        return " or ".join(str(n) for n in near)
    if isinstance(value, str) and value.lstrip("+-").isdecimal():
        return str(int(value))
    return "a plain int such as 1"


def one_int(op: str, name: str, value: Any, low: int | None = None, where: str = "") -> int:
    """`value` as a Python int; floats, bools, strings and None are refused, never rounded."""
    try:
        if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
            raise TypeError
        number = index(value)
    except TypeError:
        raise TypeError(
            f"{op}: {name}{where} must be an integer, got {shown(value)} of type {type(value).__name__}; "
            f"write {_nearest_int(value)}"
        ) from None
    if low is not None and number < low:
        raise ValueError(f"{op}: {name}{where} must be >= {low}, got {number}; use {low} or more")
    return number


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (tuple, list)) or getattr(value, "ndim", 0) == 1


def spatial_axes(rank: int) -> str:
    """`rank` spatial axes, in words."""
    return f"{rank} spatial {'axis' if rank == 1 else 'axes'}"


def rank_source(op: str) -> str:
    """The argument of `op` that says how many spatial axes there are."""
    if op.endswith("weight_grad"):
        return "kernel_shape"
    if op in ("unfold", "max_unpool", "max_unpool_grad") or ("pool" in op and not op.startswith("adaptive")):
        return "kernel (or x)"
    if op == "explain":
        return "w_shape"
    return "w" if "conv" in op else "output_size" if op == "fold" else "x"


def per_axis(op: str, name: str, value: Any, rank: int, low: int | None = None) -> Ints:
    """An int, or one int per spatial axis, as a tuple of `rank` ints."""
    if not _is_sequence(value):
        return (one_int(op, name, value, low, " on every axis" if rank > 1 else ""),) * rank
    values = list(value)
    if len(values) != rank and len(values) != 1:
        raise ValueError(
            f"{op}: {name} has {len(values)} values, needs {'1 or ' if rank != 1 else ''}{rank} "
            f"for the {spatial_axes(rank)} of {rank_source(op)}, got {name}={shown(value)}; "
            "write one int to use it on every axis"
        )
    if len(values) == 1:
        return (one_int(op, name, values[0], low, " on every axis" if rank > 1 else ""),) * rank
    return tuple(one_int(op, name, v, low, f" on spatial axis {i}") for i, v in enumerate(values))


def padding_name(op: str, padding: str) -> str:
    """`padding` if it is one of the names, else an error that guesses."""
    if padding not in PADDING_NAMES:
        raise ValueError(
            f"{op}: padding={shown(padding)} is unknown, needs an int, one int or (lo, hi) pair per axis, or "
            + did_you_mean(padding, PADDING_NAMES)
        )
    return padding


def explicit_pads(op: str, padding: Any, rank: int) -> Pads:
    """An int, one int per axis, or one (lo, hi) pair per axis, as `rank` pairs."""
    if _is_sequence(padding) and any(_is_sequence(p) for p in padding):
        if len(padding) != rank or not all(_is_sequence(p) and len(p) == 2 for p in padding):
            needed = ", ".join(["(lo, hi)"] * rank) + ("," if rank == 1 else "")
            raise ValueError(
                f"{op}: padding={shown(padding, 200)} is malformed, expected one (lo, hi) pair per spatial "
                "axis "
                f"of {rank_source(op)}: ({needed})"
            )
        return tuple(
            (
                one_int(op, "padding", lo, None, f" before spatial axis {i}"),
                one_int(op, "padding", hi, None, f" after spatial axis {i}"),
            )
            for i, (lo, hi) in enumerate(padding)
        )
    return tuple((p, p) for p in per_axis(op, "padding", padding, rank))


def resolve_padding(op: str, padding: Any, sizes: Ints, kernel: Ints, stride: Ints, dilation: Ints) -> Pads:
    """The whole padding grammar, on axes of the given (already dilated) sizes, as (lo, hi) pairs."""
    if not isinstance(padding, str):
        return explicit_pads(op, padding, len(sizes))
    name = padding_name(op, padding)
    if name == "same_torch" and any(s != 1 for s in stride):
        raise ValueError(
            f"{op}: padding='same_torch' needs stride 1, got stride={stride}; "
            "use padding='same' (TensorFlow's rule), which takes any stride"
        )
    spans = [effective_kernel(k, d) for k, d in zip(kernel, dilation, strict=True)]
    return tuple(named_pads(name, n, e, s) for n, e, s in zip(sizes, spans, stride, strict=True))


def sum_text(size: int, lo: int, hi: int) -> str:
    """``size + lo + hi`` in figures, a crop as a subtraction."""
    return f"{size} {'-' if lo < 0 else '+'} {abs(lo)} {'-' if hi < 0 else '+'} {abs(hi)}"


def formula_text(size: int, lo: int, hi: int, k: int, d: int, s: int) -> str:
    """The output-size formula (R2) of one axis, filled in."""
    count = window_count(size + lo + hi, effective_kernel(k, d), s)
    return f"({sum_text(size, lo, hi)} - {d} * ({k} - 1) - 1) // {s} + 1 = {count}"


def check_windows(op: str, sizes: Ints, kernel: Ints, dilation: Ints, padding: Pads) -> None:
    """Refuse a kernel that does not fit and sizes that no array can have."""
    for i, (size, k, d, (lo, hi)) in enumerate(zip(sizes, kernel, dilation, padding, strict=True)):
        e, padded = effective_kernel(k, d), size + lo + hi
        if padded > LARGEST:
            raise ValueError(
                f"{op}: padding ({lo}, {hi}) makes the size of spatial axis {i} {sum_text(size, lo, hi)} = "
                f"{padded}, "
                f"which exceeds 2^63-1 = {LARGEST}; use less padding, or a smaller kernel or dilation if "
                "they made it"
            )
        if e > padded:
            cause = "dilation" if d > 1 else "kernel"
            of = "" if rank_source(op).startswith("kernel (") else f" of {rank_source(op)}"
            raise ValueError(
                f"{op}: the kernel{of} does not fit x on spatial axis {i}: effective kernel dilation (k - "
                "1) + "
                "1 = "
                f"{d} * ({k} - 1) + 1 = {e} > padded size {sum_text(size, lo, hi)} = {padded}; "
                f"add at least {e - padded} padding, use a smaller {cause} or check layout"
            )


def completed(op: str, options: Mapping[str, Any], defaults: Mapping[str, Any], extra: Sequence[str]) -> dict[str, Any]:
    """`options` with the defaults of what is not given; `extra` are keywords that the caller reads itself."""
    for key in options:
        if key not in defaults:
            raise TypeError(f"{op}: unknown keyword {key!r}, needs {did_you_mean(key, [*extra, *defaults])}")
    return {**defaults, **options}
