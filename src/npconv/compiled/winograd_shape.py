"""How a convolution is cut for the Winograd kernels: which axes are transformed, runs of tiles, panels, tasks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..geometry import ConvGeometry, Ints, ceil_div, covered_size, total

#: The taps that are transformed.
R = 3
#: Outputs of a tile, by the number that the kernels know it by.
KINDS = {2: 0, 4: 1}
#: Products summed before they are rounded into the transformed output.
CHUNK = 256
#: Rows of the register tile, by bytes of a vector and vectors across; what these leave goes in tiles of `REST` rows.
TILE_ROWS = {64: {1: 14, 2: 12, 3: 8, 4: 7}, 32: {1: 8, 2: 6}, 16: {1: 14, 2: 12, 3: 8, 4: 7}}
REST = 2
#: How much longer a vector multiplication takes in a narrower register tile, which loads more for each.
NARROW = {1: 1.35, 2: 1.08, 3: 1.0, 4: 1.0}
#: Entries that a table of rows is longer than it has rows: a register tile may run past the end.
SPARE = 16
#: Output planes of a task where the depth has taps.
DEPTHS = 4
#: Bytes of a cache line.
LINE = 64
#: Bytes of transformed tiles and products that should stay in the second-level cache.
CACHE_BYTES = 700 << 10
#: Bytes of transformed weights that come in during one vector multiplication.
STREAM = 24
#: Tasks below which a call is cut finer, so that all threads have work to the end.
TASKS = 8


@dataclass(frozen=True)
class Axes:
    """A geometry along (depth, height, width); -1 stands for an axis that is not there.

    The width has three taps and is transformed, the height has three or one, the depth any number, summed directly.
    """

    order: Ints
    kernel: Ints
    stride: Ints
    dilation: Ints
    inputs: Ints
    outputs: Ints
    lows: Ints
    slices: int  # input planes that all outputs read together

    def pick(self, values: Ints) -> Ints:
        """Steps of the spatial axes as (depth, height, width)."""
        return tuple(0 if i < 0 else values[i] for i in self.order)


@lru_cache(maxsize=4096)
def axes(geometry: ConvGeometry) -> Axes | None:
    """The axes of a geometry that the kernels can compute, or None."""
    sizes = list(zip(geometry.kernel, geometry.stride, geometry.dilation, strict=True))
    able = [i for i, (k, s, d) in enumerate(sizes) if k == R and s == d == 1]
    if not able:
        return None
    *others, width = able
    rest = [i for i in range(geometry.rank) if i != width]
    flat = [i for i in rest if sizes[i][0] == sizes[i][1] == 1]
    height = (others or flat or [-1])[-1]
    rest = [i for i in rest if i != height]
    if len(rest) > 1:
        return None
    order = (rest[0] if rest else -1, height, width)

    def along(values: Ints, missing: int) -> Ints:
        return tuple(missing if i < 0 else values[i] for i in order)

    outputs, lows = along(geometry.out_shape, 1), along(tuple(lo for lo, _ in geometry.padding), 0)
    stride, effective = along(geometry.stride, 1), along(geometry.effective, 1)
    reach = tuple(covered_size(e, s, n) for e, s, n in zip(effective, stride, outputs, strict=True))
    # a tile may overhang what the windows read, and must not see (nor round) what lies there
    inputs = tuple(max(0, min(n, r - lo)) for n, r, lo in zip(along(geometry.in_shape, 1), reach, lows, strict=True))
    return Axes(
        order, along(geometry.kernel, 1), stride, along(geometry.dilation, 1), inputs, outputs, lows, slices=reach[0]
    )


@lru_cache(maxsize=1)
def vector_bytes() -> int:
    """Bytes of a vector register of this machine."""
    from .target import host

    return host().width


def widest() -> int:
    """Vectors of the widest panel."""
    return max(TILE_ROWS[vector_bytes()])


def odd_lines(count: int) -> int:
    """At least `count` bytes, and an odd number of lines: steps of a power of two meet in the same places of a cache."""
    return (ceil_div(count, LINE) | 1) * LINE


def aligned(count: int) -> np.ndarray:
    """Uninitialised bytes that begin with a cache line: a vector that lies across two is loaded twice."""
    raw = np.empty(count + LINE, np.uint8)
    start = -raw.__array_interface__["data"][0] % LINE
    return raw[start : start + count]


@dataclass(frozen=True)
class Cut:
    """The sizes of tiles, panels and tasks; steps in bytes."""

    n_h: int
    n_w: int
    m_h: int
    m_w: int
    tiles_h: int
    tiles_w: int
    tiles: int
    runs: int
    per: int  # tiles of a run
    depths: int  # output planes of a task
    slices: int  # input planes of a task
    deep: int
    lanes: int
    vectors: int
    columns: int
    panels: int
    last_columns: int
    parts: int
    work: float  # vector multiplications in all that would take as long, on one thread
    v_row: int
    v_step: int
    m_row: int
    m_step: int

    @property
    def positions(self) -> int:
        return self.n_h * self.n_w


@lru_cache(maxsize=4096)
def cut(geometry: ConvGeometry, m: int, itemsize: int, workers: int = 2, columns: int = 0) -> Cut:
    """The cut that should take the least time; `columns` is the width of a panel, if that is settled already.

    Raises
    ------
    ValueError
        If the kernels cannot compute this geometry.
    """
    a = axes(geometry)
    if a is None:
        raise ValueError(f"no axis to transform in {geometry}")
    width = vector_bytes()
    able, lanes = TILE_ROWS[width], width // itemsize
    n_w = m + R - 1
    m_h, n_h = (m, n_w) if a.kernel[1] == R else (1, 1)
    tiles_h, tiles_w = ceil_div(a.outputs[1], m_h), ceil_div(a.outputs[2], m)
    tiles = max(1, geometry.batch * tiles_h * tiles_w)
    depths = ceil_div(a.outputs[0], max(1, ceil_div(a.outputs[0], DEPTHS if a.kernel[0] > 1 else 1))) or 1
    deep = ceil_div(a.outputs[0], depths)
    slices = a.slices - (a.outputs[0] - depths) * a.stride[0]
    c = max(1, geometry.in_channels // geometry.groups)
    vectors = max(1, ceil_div(geometry.out_channels // geometry.groups, lanes))
    in_vectors = ceil_div(c, lanes)
    positions, blocks, products = n_h * n_w, geometry.groups * max(1, deep), a.kernel[0] * c

    def price(columns: int, per: int, parts: int) -> tuple[float, tuple[int, int, int]]:
        """Time of the longest thread in vector multiplications, roughly."""
        panels, runs, rows = ceil_div(vectors, columns), ceil_div(tiles, per), per * depths
        last = vectors - columns * (panels - 1)
        multiplied = NARROW[columns] * columns * (panels - 1) * _padded(rows, able[columns])
        multiplied += NARROW[last] * last * _padded(rows, able[last])
        read = 8 * positions * per * slices * in_vectors
        weights = positions * products * vectors * width / STREAM
        work = positions * multiplied * (products + 4) + 5 * positions * rows * vectors + weights
        if positions * per * (slices * c * itemsize + depths * columns * width) > CACHE_BYTES:
            work *= 1.1
        share = (1 + tiles / per / runs) / 2  # the last run may be short
        return ceil_div(blocks * runs * parts, workers) * (read + work / parts) * share, (columns, per, parts)

    widths = {columns} if columns else {ceil_div(vectors, ceil_div(vectors, wide)) for wide in able}
    time, (columns, per, parts) = min(
        price(wide, min(tiles, ceil_div(able[wide] * i, depths)), parts)
        for wide in widths
        for i in (1, 2, 3, 4, 6, 8)
        for parts in {min(ceil_div(vectors, wide), 1 if workers == 1 else p) for p in (1, 2, 4, 8, 16)}
    )
    panels = ceil_div(vectors, columns)
    v_row, m_row = in_vectors * width, columns * width
    return Cut(
        n_h, n_w, m_h, m, tiles_h, tiles_w, tiles, ceil_div(tiles, per), per, depths, slices, deep, lanes, vectors,
        columns, panels, vectors - columns * (panels - 1), parts, workers * time, v_row, odd_lines(per * slices * v_row),
        m_row, odd_lines((per * depths + SPARE) * m_row),
    )  # fmt: skip


def _padded(rows: int, tall: int) -> int:
    """The rows that register tiles compute to cover `rows`."""
    left = rows % tall
    return rows - left + (tall if left > tall - REST else ceil_div(left, REST) * REST)


def group_channels(geometry: ConvGeometry) -> tuple[int, int]:
    """The input and output channels of one group."""
    return geometry.in_channels // geometry.groups, geometry.out_channels // geometry.groups


def empty(geometry: ConvGeometry) -> bool:
    """Whether there is nothing to compute."""
    return not total(geometry.y_shape) or not total(geometry.w_shape)
