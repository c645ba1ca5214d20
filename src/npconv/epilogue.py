"""What follows the sum of products: bias, activation, and a look for NaN; in machine code where there is any."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from .compiled import catalogue
from .compiled.calls import Bound, Words, address
from .compiled.panels import vector_bytes
from .geometry import ceil_div, total

if TYPE_CHECKING:
    from .activations import Activation

#: Elements below which NumPy adds to them as fast as a launch does.
FEW_TO_ADD = 1 << 15
#: Elements that one thread takes at a time.
BLOCK = 4096
#: The least elements of a row that repeats the biases of a pixel.
PATTERN = 256
#: What the sweep can do besides adding, as the kernel counts, and the arithmetic of an element, in flops.
KINDS = {"linear": 4, "relu": 4, "relu6": 4, "leaky_relu": 4, "sigmoid": 40, "tanh": 40, "silu": 40}
KINDS |= {"gelu": 80, "gelu_tanh": 40}


def finish(work: np.ndarray, axis: int, bias: np.ndarray | None, activation: Activation | None) -> None:
    """Add one number per index of `axis` to `work`, in C order, then apply the activation, in place."""
    if (bias is None and activation is None) or not work.size:
        return
    if _compiled(work) and (activation is not None or work.size > FEW_TO_ADD):
        _sweep(work, axis, bias, activation)
        return
    if bias is not None:
        work += bias.reshape(-1, *(1,) * (work.ndim - axis - 1))
    if activation is not None:
        flat = work.reshape(-1)
        for i in range(0, work.size, BLOCK):
            flat[i : i + BLOCK] = activation(flat[i : i + BLOCK])


def following(work: np.ndarray, activation: Activation) -> Bound | None:
    """The activation of `work` as a launch; None: there is none."""
    if not (work.size and _compiled(work)):
        return None
    words = _activating(work, activation)
    return Bound(words, ceil_div(work.size, BLOCK), work.size * KINDS[activation.name], 0)


def add(work: np.ndarray, other: np.ndarray, activation: Activation | None) -> None:
    """Add an array of the same shape to `work`, then apply the activation, in place and in one sweep."""
    if _compiled(work) and other.dtype == work.dtype and other.flags.c_contiguous and work.size > FEW_TO_ADD:
        lanes = vector_bytes() // work.itemsize
        name, slope = (activation.name, activation.slope) if activation else ("linear", 0.0)
        whole = work.size // lanes * lanes  # the kernel reads what it adds by whole vectors
        rows = ceil_div(whole, BLOCK)
        words = _words(work.dtype, name, slope, lanes, whole, BLOCK, rows, lanes * work.itemsize)
        words.run(rows, whole * KINDS[name], 1, y=address(work), bias=address(other))
        work, other = work.reshape(-1)[whole:], other.reshape(-1)[whole:]
    np.add(work, other, out=work)
    finish(work, work.ndim - 1, None, activation)


def _sweep(work: np.ndarray, axis: int, bias: np.ndarray | None, activation: Activation | None) -> None:
    """Both at once: `work` as rows of one length, and for each the vectors of numbers to add."""
    lanes = vector_bytes() // work.itemsize
    pixels = total(work.shape[axis + 1 :])
    patterns = step = 0
    if bias is None:
        length, table = BLOCK, None
    elif pixels > 1:
        length, table = pixels, np.repeat(bias, lanes)
        patterns = bias.size
    else:
        length, step = bias.size * ceil_div(PATTERN, bias.size), lanes * work.itemsize
        table = np.resize(bias, length + lanes)
    name, slope = (activation.name, activation.slope) if activation else ("linear", 0.0)
    words = _words(work.dtype, name, slope, lanes, work.size, length, patterns, step)
    rows = ceil_div(work.size, length)
    given = {} if table is None else {"bias": address(table)}
    words.run(rows, work.size * KINDS[name], ceil_div(BLOCK, length), y=address(work), **given)


def _activating(work: np.ndarray, activation: Activation) -> Words:
    """The sweep that adds nothing."""
    lanes = vector_bytes() // work.itemsize
    return _words(work.dtype, activation.name, activation.slope, lanes, work.size, BLOCK, 0, 0)


@lru_cache(maxsize=1024)
def _words(
    dtype: np.dtype, name: str, slope: float, lanes: int, size: int, length: int, patterns: int, step: int
) -> Words:
    values = {
        "length": length,
        "total": size,
        "patterns": max(1, patterns),
        "bias_row": (length if step else lanes) * dtype.itemsize if patterns else 0,
        "bias_step": step,
        "kind": list(KINDS).index(name),
    }
    kernel = catalogue.kernel("epilogue", "finish", f"f{dtype.itemsize}")
    nothing = {} if patterns or step else {"bias": np.full(lanes, -0.0, dtype)}  # which changes no number
    return Words(kernel, values, {"slope": np.full(1, slope, dtype), **nothing})


def _compiled(array: np.ndarray) -> bool:
    """Whether machine code can sweep over `array`."""
    return array.dtype.char in "fd" and array.flags.c_contiguous and catalogue.unavailable() is None


def all_finite(array: np.ndarray) -> bool:
    """Whether no element is NaN or infinite; outside of machine code a sum tells, unless it overflows itself."""
    flat = array if array.flags.c_contiguous else array.ravel(order="K")
    if flat.size and _compiled(flat) and (flat is array or np.may_share_memory(flat, array)):
        return look(address(flat), flat.size, flat.dtype)
    return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())


def look(at: int, size: int, dtype: np.dtype) -> bool:
    """Whether so many elements from this address on are finite, by machine code."""
    rows = ceil_div(size, BLOCK)
    found = np.empty(rows, np.int64)
    _look(dtype, size).run(rows, 4 * size, y=at, found=address(found))
    return not (found.any() if rows > 1 else found[0])


@lru_cache(maxsize=1024)
def _look(dtype: np.dtype, size: int) -> Words:
    return Words(catalogue.kernel("epilogue", "look", f"f{dtype.itemsize}"), {"length": BLOCK, "total": size})
