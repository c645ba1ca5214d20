"""The tables that transforms of tiles read: passes, twiddles, and which frequencies are each other's conjugates."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ...records import dataclass
from ..calls import address

#: Transform lengths: products of the radices, none a waste against the next.
LENGTHS = tuple(sorted({f << e for f in (1, 3, 5) for e in range(12) if 8 <= f << e <= 2048 and not (f > 1 and e < 2)}))


def radices(n: int, wide: bool) -> tuple[int, ...]:
    """The passes of a line of n points: the odd one first, then as few as fit the registers."""
    found = [p for p in (3, 5) if n % p == 0]
    left = n // math.prod(found)
    bits = left.bit_length() - 1
    if left != 1 << bits:
        raise ValueError(f"no passes for a transform of {n} points")
    threes = 0
    if wide:  # as few passes as possible, and among those the fewest eights
        passes = -(-bits // 3)
        threes = max(0, bits - 2 * passes)
    twos, odd = divmod(bits - 3 * threes, 2)
    return tuple(found) + (8,) * threes + (4,) * twos + (2,) * odd


def frequencies(n: int, passes: tuple[int, ...]) -> np.ndarray:
    """Which frequency stands at each position after the forward transform."""
    if not passes:
        return np.zeros(1, np.int64)
    radix, *rest = passes
    return np.concatenate([q + radix * frequencies(n // radix, tuple(rest)) for q in range(radix)])


@dataclass(frozen=True)
class Line:
    """One axis: its plan in words, the order of its frequencies, and what keeps the twiddles alive."""

    plan: np.ndarray
    order: np.ndarray
    twiddles: tuple[np.ndarray, ...]


@lru_cache(maxsize=256)
def line(n: int, dtype: np.dtype, wide: bool) -> Line:
    """The passes over a line of `n` points."""
    passes = radices(n, wide)
    words, kept, m = [n, len(passes)], [], n
    for radix in passes:
        angle = -2 * np.pi * (np.outer(np.arange(m // radix), np.arange(1, radix)) % m) / m
        table = np.stack([np.cos(angle), np.sin(angle)], -1).astype(dtype)
        kept.append(table)
        words += [radix, m, address(table)]
        m //= radix
    return Line(np.array(words, np.int64), frequencies(n, passes), tuple(kept))


@dataclass(frozen=True)
class Tile:
    """A transform of up to three axes: `words` as the kernels read it, and what it points to.

    The words: three lengths; three steps in bytes; bytes from the real to the imaginary plane; the plans of three
    lines; the pairs of conjugate frequencies and their table; how many positions of the last axis a real transform
    needs, and where those are.
    """

    lengths: tuple[int, int, int]
    words: np.ndarray
    bytes: int
    pairs: int
    kept: tuple[object, ...]


@lru_cache(maxsize=512)
def tile(lengths: tuple[int, int, int], dtype: np.dtype, width: int) -> Tile:
    """The tables of one tile size; a position is one vector of `width` bytes."""
    wide = width != 32
    axes = [line(n, dtype, wide) for n in lengths]
    nd, nh, nw = lengths
    # one position more than needed: rows a power of two apart would all fall into the same cache sets
    step_h = (nw + (nh > 1)) * width
    step_d = nh * step_h + (nd > 1) * width
    plane = nd * step_d + 17 * width  # the slack also takes what a block of pixels writes past its row
    steps = np.array((step_d, step_h, width), np.int64)
    grid = np.indices(lengths, np.int64).reshape(3, -1)
    at = [axis.order[positions] for axis, positions in zip(axes, grid, strict=True)]
    frequency = np.ravel_multi_index(at, lengths)
    negative = np.ravel_multi_index([-f % n for f, n in zip(at, lengths, strict=True)], lengths)
    position = np.empty(len(frequency), np.int64)
    position[frequency] = steps @ grid
    half = at[2] <= nw // 2
    edge = (at[2] == 0) | (2 * at[2] == nw)
    chosen = half & (~edge | (frequency <= negative))
    pairs = np.ascontiguousarray(np.stack([position[frequency], position[negative]], 1)[chosen])
    needed = np.flatnonzero(axes[2].order <= nw // 2) * width
    words = [*lengths, *steps, plane, *(address(axis.plan) for axis in axes), len(pairs), address(pairs)]
    words += [len(needed), address(needed)]
    return Tile(lengths, np.array(words, np.int64), 2 * plane, len(pairs), (axes, pairs, needed))
