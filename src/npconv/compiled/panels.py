"""What all kernels of matrix products agree on: register tiles, panels of channels, and the lengths of sums.

No Numba here: whoever cuts a problem into tasks needs these numbers, and a warm process never imports it.
"""

from __future__ import annotations

from functools import cache, lru_cache
from math import gcd

import numpy as np

from ..geometry import ConvGeometry, Ints, ceil_div
from ..records import dataclass
from .target import host

#: Vectors of so many bytes are made by two units of half the width, or by one that costs no more: half a vector at the
#: end of a panel then takes half the time, or the same.
HALVED = 64
#: Products summed in registers before they are rounded into memory, which keeps the error bound of long sums.
CHUNK = 256
#: The same where a panel of columns is read by many rows: so many rows of the widest one stay in the first-level cache,
#: beside a line of the other operand for each.
SUMMED = CHUNK // 2
#: Rows of the register tile that is 1, 2, 3, 4 vectors wide, by the bytes of a vector: sums, a row of columns and two
#: scalars must fit the vector registers, the address of every row 14 general ones. AVX2 has half the registers.
TILE_ROWS = {64: (8, 8, 8, 6), 32: (8, 6), 16: (8, 8, 8, 6)}
#: Rows of the tile that finishes what those leave.
REST = 2
#: Entries that a table of rows is longer than it has rows: a register tile may run past the end.
SPARE = 16
#: What bounds nothing.
UNBOUNDED = (-np.inf, np.inf)
#: Where in a table of bounds, [least, most, -inf, inf], those are that bound nothing.
NONE = 2
#: Where Linux says how large the second-level cache of a processor is; its bytes where nobody says, and at most: virtual
#: machines may claim more.
CACHE_SIZE, USUAL_CACHE, LARGE_CACHE = "/sys/devices/system/cpu/cpu0/cache/index2/size", 1 << 20, 2 << 20


def _cache_bytes() -> int:
    """The second-level cache of a processor."""
    try:
        with open(CACHE_SIZE) as file:
            return min(LARGE_CACHE, int(file.read().strip().removesuffix("K")) << 10)
    except (OSError, ValueError):
        return USUAL_CACHE


CACHE_BYTES = _cache_bytes()
#: Whether the last cache is far away, or shared by many: then each processor has a large one of its own.
FAR_CACHE = CACHE_BYTES >= LARGE_CACHE
#: Bytes above which what comes next is brought into the cache ahead: hardware does not see where it lies. What a last cache
#: nearby holds comes soon enough.
AHEAD_BYTES = CACHE_BYTES if FAR_CACHE else 4 << 20
#: Vector multiplications in the time that memory takes to answer, and register tiles ahead at most.
AHEAD_PRODUCTS, AHEAD_TILES = 1600, 8
#: Bytes of a cache line: a vector that lies across two is loaded twice; and of a way of a first-level cache: what is a
#: multiple of it apart meets in one set; most have so many ways.
LINE, WAY, WAYS = 64, 4096, 12


def registers(width: int) -> int:
    """Vector registers of `width` bytes: AVX-512 and NEON have 32, AVX2 has 16."""
    return 16 if width == 32 else 32


def whole_lines(size: int) -> int:
    """`size` bytes in whole cache lines."""
    return ceil_div(size, LINE) * LINE


def odd_lines(size: int) -> int:
    """At least `size` bytes, and an odd number of lines: steps of a power of two meet in the same places of a cache."""
    return (ceil_div(size, LINE) | 1) * LINE


def collide(rows: int, step: int, pitch: int) -> bool:
    """Whether of `rows` of a panel, `step` bytes apart and `pitch` long, more lines meet in a set of a cache than it holds."""
    lines, sets = ceil_div(pitch, LINE), WAY // LINE
    return step % LINE == 0 and ceil_div(rows * lines, min(sets, sets // gcd(sets, step // LINE) * lines)) > WAYS


@cache
def zeros(count: int, dtype: np.dtype) -> np.ndarray:
    """They live as long as Python: launches know their address."""
    return np.zeros(count, dtype)


@dataclass(frozen=True)
class Panels:
    """How channels are laid over vectors: `count` panels of `columns` vectors, the last one perhaps narrower."""

    count: int
    columns: int
    last: int
    rest: int  # channels in the very last vector
    lanes: int

    @property
    def halved(self) -> bool:
        """Whether half of the last vector is enough, and products have a kind for that."""
        return vector_bytes() == HALVED and 2 * self.rest <= self.lanes

    @property
    def vectors(self) -> int:
        return self.columns * (self.count - 1) + self.last

    @property
    def computed(self) -> int:
        """Channels that are computed, with those that nobody wants."""
        spared = self.lanes // 2 if self.halved else 0
        return self.vectors * self.lanes - spared


def weight_steps(strides: Ints, geometry: ConvGeometry) -> Ints:
    """Bytes from one group of weights, output, input and tap to the next; groups may be an axis of their own."""
    apart = len(strides) > geometry.rank + 2
    return strides if apart else (geometry.per_group[1] * strides[0], *strides)


@cache
def bounds(dtype: np.dtype, least: float, most: float) -> np.ndarray:
    """Between which numbers a kernel keeps its outputs, as a table: least, most, -inf, inf. It lives as long as Python."""
    return np.array([least, most, *UNBOUNDED], dtype)


@lru_cache(maxsize=1)
def vector_bytes() -> int:
    """Bytes of a vector register of this machine."""
    return host().width


def widest() -> int:
    """Vectors of the widest register tile."""
    return len(TILE_ROWS[vector_bytes()])


def tile_rows(columns: int) -> int:
    """Rows of the register tile that is `columns` vectors wide."""
    return TILE_ROWS[vector_bytes()][columns - 1]


def tall_from(columns: int, tall: int) -> int:
    """Rows left from which on one more tall tile takes less time than short ones, of which those of one vector wait for sums."""
    return (2 * REST if columns == 1 else tall - REST) + 1


def from_memory(size: int) -> bool:
    """Whether so many bytes are read from memory, so that what comes next had better be brought into the cache ahead."""
    return size > AHEAD_BYTES


def steps_ahead(columns: int) -> int:
    """How many steps of a product pass before memory answers."""
    return ceil_div(AHEAD_PRODUCTS, tile_rows(columns) * columns)


def rows_ahead(columns: int, depth: int) -> int:
    """How many rows ahead a product of this depth brings what it will read: early enough, in whole tiles."""
    return tile_rows(columns) * min(AHEAD_TILES, ceil_div(steps_ahead(columns), depth))


@lru_cache(maxsize=1024)
def panels(channels: int, itemsize: int, most: int = 0) -> Panels:
    """Panels of nearly equal width, as wide as registers allow or `most` vectors."""
    lanes = vector_bytes() // itemsize
    vectors = ceil_div(channels, lanes)
    count = ceil_div(vectors, most or widest())
    columns = ceil_div(vectors, count)
    return Panels(count, columns, vectors - columns * (count - 1), channels - (vectors - 1) * lanes, lanes)
