"""Winograd in one pass of machine code: prefer it for 3x3 kernels of stride 1; tiles never leave the cache.

What `winograd.py` does with whole arrays happens here to a few dozen tiles at a time: transform, multiply, transform
back. So the transforms cost a tenth of the products, and F(4, 3) does a quarter of the multiplications. Axes of three
taps are transformed, up to two of them; one more axis of any kernel is summed directly (3-D, or 5x3). Needs numba
(extra `fast`). The kernel is `npconv.compiled.winograd`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..compiled import library, threads
from ..compiled.calls import Words, address
from ..geometry import ConvGeometry, Ints, ceil_div, covered_size, effective_kernel, total
from .base import Algorithm, Cost, ErrorBound

#: The taps that are transformed.
R = 3
#: Output tiles of the kernel, by the number it knows them by.
KINDS = {2: 0, 4: 1}
#: Products summed before they are rounded into the transformed output.
CHUNK = 256
#: Entries that a table of rows is longer than it has rows: a register tile may run past the end.
SPARE = 16
#: Rows of the register tile, by bytes of a vector and vectors across.
TILE_ROWS = {64: {1: 14, 2: 12, 3: 8, 4: 7}, 32: {1: 8, 2: 6}, 16: {1: 14, 2: 12, 3: 8, 4: 7}}


@dataclass(frozen=True)
class Axes:
    """Which spatial axis is the depth (direct taps), the height and the width (transformed); None where there is none."""

    depth: int | None
    height: int | None
    width: int

    def pick(self, values: Ints, missing: int) -> Ints:
        return tuple(missing if i is None else values[i] for i in (self.depth, self.height, self.width))


@lru_cache(maxsize=4096)
def axes(geometry: ConvGeometry) -> Axes | None:
    """The axes of a geometry that the kernel can compute, or None."""
    plain = [s == 1 for s in geometry.stride]
    able = [
        i
        for i, (k, d) in enumerate(zip(geometry.kernel, geometry.dilation, strict=True))
        if k == R and d == 1 and plain[i]
    ]
    if not able:
        return None
    width = able[-1]
    rest = [i for i in range(geometry.rank) if i != width]
    height = next((i for i in reversed(able[:-1])), None)
    if height is None:
        height = next((i for i in reversed(rest) if geometry.kernel[i] == 1 and plain[i]), None)
    rest = [i for i in rest if i != height]
    return None if len(rest) > 1 else Axes(rest[0] if rest else None, height, width)


@dataclass(frozen=True)
class Prepared:
    """Transformed weights (G, panel, position, depth tap, C/G, lanes); the bias in the order of the lanes, if any."""

    weights: np.ndarray
    columns: int
    bias: np.ndarray | None = None


class FusedWinograd(Algorithm):
    """F(m, 3) along up to two axes; see the module."""

    accuracy = ("standard", "fast")
    exact_footprint = ()
    exact_on_integers = False

    def __init__(self, m: int) -> None:
        self.m = m
        self.name = f"fused_winograd_f{m}"
        self.summary = f"computes tiles of {m} outputs per axis with fewer multiplications, all in the cache; machine code"

    def why_not(self, geometry: ConvGeometry, dtype: np.dtype) -> str | None:
        missing = library.unavailable()
        if missing:
            return missing
        if dtype.kind != "f" or dtype.itemsize not in (4, 8):
            return f"needs float32 or float64, the dtype is {dtype}"
        if not 1 <= geometry.rank <= 3:
            return f"needs 1 to 3 spatial axes, there are {geometry.rank}"
        if axes(geometry) is None:
            return (
                "needs an axis of 3 taps, stride 1 and dilation 1, and at most one other with more taps, "
                f"the kernel is {geometry.kernel}"
            )
        return None

    def amplification(self, geometry: ConvGeometry) -> float:
        """How much larger the transformed products are than the plain ones, all axes together."""
        from .cook_toom import amplification  # exact fractions, loaded when first needed

        chosen = axes(geometry)
        both = chosen is not None and chosen.height is not None and geometry.kernel[chosen.height] == R
        return amplification(self.m, R, ndim=2 if both else 1)

    def error_bound(self, geometry: ConvGeometry, dtype: np.dtype) -> ErrorBound:
        return ErrorBound(128, "plane")

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        p = shape(geometry, self.m, dtype.itemsize)
        positions, lanes = p.n_h * p.n_w, p.lanes
        wide_in = ceil_div(geometry.in_channels // geometry.groups, lanes) * lanes * geometry.groups
        wide_out = ceil_div(geometry.out_channels // geometry.groups, lanes) * lanes * geometry.groups
        tiles = p.tiles * p.deep * p.depths
        per_group = geometry.in_channels // geometry.groups
        flops = 2 * positions * tiles * per_group * wide_out * p.taps
        flops += 4 * (p.n_h + p.n_w) * (tiles * wide_out + p.tiles * p.deep * p.slices * wide_in)
        weights = positions * p.taps * per_group * wide_out
        held = weights + 2 * (p.data + p.sums)
        return Cost(flops, 2 * weights * dtype.itemsize, 2, held * dtype.itemsize, engine="compiled")

    def prepare(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Prepared:
        from .cook_toom import matrices

        s = shape(geometry, self.m, dtype.itemsize)
        chosen = axes(geometry)
        o, c, *_ = w.shape
        group = geometry.groups
        per = o // group
        order = [2 + i for i in (chosen.depth, chosen.height, chosen.width) if i is not None]
        taps = w.transpose(0, 1, *order).reshape(group, per, c, s.taps, 1 if s.n_h == 1 else R, R).astype(np.float64)
        g = matrices(self.m, R).arrays[1]
        u = np.einsum("gocthw,iw->gocthi", taps, g)
        if s.n_h > 1:
            u = np.einsum("gocthi,jh->goctji", u, g)
        wide = np.zeros((group, s.n_h * s.n_w, s.taps, c, s.vectors * s.lanes), dtype)
        wide[..., :per] = u.reshape(group, per, c, s.taps, -1).transpose(0, 4, 3, 2, 1)
        cut = s.columns * s.lanes * (s.panels - 1)
        head = wide[..., :cut].reshape(*wide.shape[:4], s.panels - 1, s.columns * s.lanes)
        head = np.moveaxis(head, 4, 1).reshape(group, -1)
        return Prepared(np.concatenate([head, wide[..., cut:].reshape(group, -1)], 1), s.columns)

    def forward(self, x: np.ndarray, prepared: Prepared, geometry: ConvGeometry, out: np.ndarray) -> None:
        x = np.asarray(x, out.dtype)
        launch = plan(geometry, self.m, prepared.columns, x.strides, out.strides, out.dtype, threads.get_num_threads())
        if launch is None:
            return
        scratch = np.empty(launch.scratch * launch.threads, np.uint8)
        launch.words.run(
            launch.blocks,
            launch.flops,
            x=address(x),
            u=address(prepared.weights),
            bias=address(launch.zeros if prepared.bias is None else prepared.bias),
            y=address(out),
            scratch=address(scratch),
        )


@dataclass(frozen=True)
class Shape:
    """How one geometry is cut: sizes of tiles, panels and tasks."""

    n_h: int
    n_w: int
    m_h: int
    m_w: int
    tiles_h: int
    tiles_w: int
    tiles: int
    runs: int
    per: int  # tiles of the longest run
    taps: int
    depths: int
    slices: int
    deep: int
    lanes: int
    vectors: int
    columns: int
    panels: int
    parts: int
    v_row: int  # elements
    v_step: int
    m_row: int
    m_step: int

    @property
    def data(self) -> int:
        return self.n_h * self.n_w * self.v_step

    @property
    def sums(self) -> int:
        return self.n_h * self.n_w * self.m_step


@lru_cache(maxsize=4096)
def shape(geometry: ConvGeometry, m: int, itemsize: int, columns: int = 0) -> Shape:
    """Cut a geometry for vectors of this machine; `columns` is the width of panels, if that is settled already."""
    import os

    from ..compiled.target import host

    chosen = axes(geometry)
    if chosen is None:
        raise ValueError(f"no axis to transform in {geometry}")
    vector = host().width
    lanes = vector // itemsize
    kernel, dilation, outputs = (
        chosen.pick(values, 1) for values in (geometry.kernel, geometry.dilation, geometry.out_shape)
    )
    stride = chosen.pick(geometry.stride, 1)
    n_w = m + R - 1
    m_h, n_h = (m, n_w) if kernel[1] == R else (1, 1)
    tiles_h, tiles_w = ceil_div(outputs[1], m_h), ceil_div(outputs[2], m)
    tiles = geometry.batch * tiles_h * tiles_w
    deep = ceil_div(outputs[0], 4 if kernel[0] > 1 else 1)
    depths = ceil_div(outputs[0], max(1, deep))
    deep = ceil_div(outputs[0], max(1, depths))
    slices = covered_size(effective_kernel(kernel[0], dilation[0]), stride[0], depths)
    vectors = ceil_div(geometry.out_channels // geometry.groups, lanes)
    able = TILE_ROWS[vector]
    if not columns:
        widest = max(able)
        columns = ceil_div(vectors, ceil_div(vectors, widest)) or 1
    panels = ceil_div(vectors, columns)
    c = geometry.in_channels // geometry.groups
    wanted = int(os.environ.get("WT", "28"))
    runs = max(1, ceil_div(tiles * depths, wanted))
    per = ceil_div(tiles, runs)
    blocks = geometry.groups * deep * runs
    parts = max(1, min(panels, ceil_div(int(os.environ.get("WP", "8")), max(1, blocks))))
    line = 64 // itemsize
    v_row = ceil_div(c, lanes) * lanes
    m_row = columns * lanes
    v_step = (ceil_div(per * slices * v_row, line) | 1) * line
    m_step = (ceil_div((per * depths + SPARE) * m_row, line) | 1) * line
    return Shape(
        n_h, n_w, m_h, m, tiles_h, tiles_w, tiles, runs, per, kernel[0], depths, slices, deep, lanes, vectors, columns,
        panels, parts, v_row, v_step, m_row, m_step,
    )  # fmt: skip


@dataclass(frozen=True)
class Launch:
    """A kernel and its arguments for one geometry and one pair of memory layouts."""

    words: Words
    zeros: np.ndarray
    blocks: int
    flops: int
    scratch: int  # bytes per thread
    threads: int


@lru_cache(maxsize=4096)
def plan(
    geometry: ConvGeometry, m: int, columns: int, x_strides: Ints, y_strides: Ints, dtype: np.dtype, workers: int
) -> Launch | None:
    """The launch that computes `geometry`; None where there is nothing to compute."""
    chosen = axes(geometry)
    if chosen is None or not total(geometry.y_shape):
        return None
    size = dtype.itemsize
    s = shape(geometry, m, size, columns)
    width = s.lanes * size
    group = geometry.groups
    c, o = geometry.in_channels // group, geometry.out_channels // group
    inputs, outputs = chosen.pick(geometry.in_shape, 1), chosen.pick(geometry.out_shape, 1)
    lows = tuple(0 if i is None else geometry.padding[i][0] for i in (chosen.depth, chosen.height, chosen.width))
    x_steps, y_steps = chosen.pick(x_strides[2:], 0), chosen.pick(y_strides[2:], 0)
    stride, dilation = chosen.pick(geometry.stride, 1), chosen.pick(geometry.dilation, 1)
    inplace = x_strides[1] == size and c % s.lanes == 0
    direct = y_strides[1] == size
    last = s.vectors - s.columns * (s.panels - 1)
    rows = [(t * s.slices + d * stride[0]) * s.v_row * size for t in range(s.per) for d in range(s.depths)]
    count = len(rows)
    full, final = (c * wide * width for wide in (s.columns, last))
    arrays = {
        "rows": np.array(rows + rows[-1:] * SPARE, np.int64),
        "products_rows": np.arange(count + SPARE, dtype=np.int64) * (s.m_row * size),
        "tap_offsets": np.arange(s.taps, dtype=np.int64) * (dilation[0] * s.v_row * size),
        "w_offsets": np.concatenate([np.arange(s.taps, dtype=np.int64) * step for step in (full, final)]),
    }
    chunk = min(c, CHUNK)
    spare = (s.n_w**2 + 1) * width
    at_m = spare + s.data * size
    at_box = at_m + s.sums * size
    span = s.n_w if inplace else covered_size(s.n_w, m, min(s.per, s.tiles_w))
    at_out = at_box + -(-s.slices * s.n_h * span * c * size // 64) * 64 + 64
    staged = 0 if direct else (s.m_h * m * min(s.per, s.tiles_w) + s.lanes) * s.m_row * size
    values = {
        "scratch_step": -(-(at_out + staged) // 64) * 64 + 64,
        "kind": KINDS[m], "m_h": s.m_h, "m_w": m, "n_h": s.n_h, "n_w": s.n_w, "depths": s.depths, "slices": s.slices,
        "tiles": s.tiles, "tiles_h": s.tiles_h, "tiles_w": s.tiles_w, "runs": s.runs, "deep": s.deep,
        "parts": s.parts, "channels": c, "outputs": o, "in_d": inputs[0], "in_h": inputs[1], "in_w": inputs[2],
        "lo_d": lows[0], "lo_h": lows[1], "lo_w": lows[2], "out_d": outputs[0], "out_h": outputs[1], "out_w": outputs[2],
        "x_n": x_strides[0], "x_c": x_strides[1], "x_d": x_steps[0], "x_h": x_steps[1], "x_w": x_steps[2],
        "y_n": y_strides[0], "y_c": y_strides[1], "y_d": y_steps[0], "y_h": y_steps[1], "y_w": y_steps[2],
        "packs": int(not inplace), "direct": int(direct), "v_row": s.v_row * size, "v_step": s.v_step * size,
        "m_row": s.m_row * size, "m_step": s.m_step * size, "at_m": at_m, "at_box": at_box, "at_out": at_out,
        "taps": s.taps, "chunk_taps": max(1, CHUNK // chunk), "chunk": chunk, "panels": s.panels, "columns": s.columns,
        "last_columns": last, "last_count": o - (s.vectors - 1) * s.lanes,
        "u_panel": s.n_h * s.n_w * s.taps * full, "u_group": s.n_h * s.n_w * s.taps * (full * (s.panels - 1) + final),
        "stride_d": stride[0],
    }  # fmt: skip
    words = Words(library.kernel("winograd", "forward", f"f{size}"), values, arrays)
    blocks = group * s.deep * s.runs * s.parts
    flops = 2 * s.n_h * s.n_w * s.tiles * s.deep * s.depths * s.taps * c * o * group
    zeros = np.zeros(group * s.panels * s.columns * s.lanes, dtype)
    return Launch(words, zeros, blocks, flops, values["scratch_step"], min(workers, blocks))
