"""How each library runs a row; one file each, all with ``setup``, ``version``, ``candidates`` and ``to_numpy``.

A candidate is one way to run the row: a layout and a kind of call.

    functional   weights as given, a fresh output
    prepared     weights prepared once; the output may be reused

What does not work raises where it is built, and is reported; nothing is left out in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..rows import Row

NAMES = ("npconv", "torch", "onnxruntime", "tensorflow", "jax")
Call = Callable[[], Any]
#: Bytes of a cache line.
LINE = 64


class Candidate(NamedTuple):
    """One way to run a row; `build` makes its arrays and returns the call to be timed."""

    layout: str
    kind: str
    build: Callable[[], Call]


class Operands(NamedTuple):
    """The row's arrays, channels first: the same numbers in every process."""

    x: np.ndarray
    w: np.ndarray
    g: np.ndarray


def operands(row: Row) -> Operands:
    """Normal deviates, so that no library meets denormal numbers; a prime number of them, repeated."""
    values = np.random.default_rng(0).standard_normal(65537).astype(row.dtype)
    return Operands(
        *(aligned(np.resize(values, shape)) for shape in (row.x_shape, () if row.pool else row.w_shape, row.y_shape))
    )


def aligned(a: np.ndarray) -> np.ndarray:
    """A copy that begins with a cache line, as what libraries copy for themselves does; NumPy's own are 16 bytes off."""
    room = np.empty(a.nbytes + LINE, np.uint8)
    begin = -room.ctypes.data % LINE
    copy = room[begin : begin + a.nbytes].view(a.dtype).reshape(a.shape)
    copy[...] = a
    return copy


def channels_last(a: np.ndarray) -> np.ndarray:
    """(N, C, *in) to (N, *in, C)."""
    return aligned(np.moveaxis(a, 1, -1))


def kernel_last(w: np.ndarray) -> np.ndarray:
    """(O, C/G, *k) to (*k, C/G, O); of a transposed convolution (C, O/G, *k) to (*k, O/G, C)."""
    return aligned(np.moveaxis(w, (0, 1), (-1, -2)))


def symmetric(padding: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(p, p) for p in padding]


def forward_only(direction: str) -> None:
    """The gradients are compared with torch alone."""
    if direction != "forward":
        raise NotImplementedError("measured forward only")
