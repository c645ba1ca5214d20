"""Winograd in one pass of machine code: prefer it for 3x3 kernels of stride 1; tiles never leave the cache.

What `winograd.py` does with whole arrays happens here to a few dozen tiles at a time: transform, multiply, transform
back. So the transforms cost a tenth of the products, and F(4, 3) does a quarter of the multiplications. Axes of three
taps are transformed, up to two of them; one more axis of any kernel is summed directly (3-D, or 5x3). Needs numba
(extra `fast`). The kernel is `npconv.compiled.winograd`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
#: How much longer a vector multiplication takes in a narrower register tile, which loads more for each.
NARROW = {1: 1.35, 2: 1.08, 3: 1.0, 4: 1.0}
#: Output planes of a task where the depth has taps.
DEPTHS = 4
#: Bytes of a cache line.
LINE = 64
#: Bytes of transformed tiles and products that should stay in the second-level cache.
CACHE_BYTES = 700 << 10
#: Bytes of transformed weights that come in for every vector multiplication.
STREAM = 24
#: Bytes of transformed inputs and gradients that a weight gradient holds at once, or one chunk of tiles.
GRADIENT_BYTES = 16 << 20
#: Tasks below which a call is cut finer, so that all threads have work to the end.
TASKS = 8
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
        w = np.asarray(w, dtype)
        cut = shape(geometry, self.m, dtype.itemsize)
        chosen = axes(geometry)
        if chosen is None:
            raise ValueError(f"no axis to transform in {geometry}")
        packing = weight_plan(cut, chosen, self.m, geometry.groups, w.shape, w.strides, dtype)
        u = aligned(packing.elements, dtype)
        workers = min(threads.get_num_threads(), packing.blocks)
        scratch = aligned(packing.scratch * workers, np.dtype(np.uint8))
        packing.words.run(packing.blocks, packing.flops, w=address(w), u=address(u), scratch=address(scratch))
        return Prepared(u, cut.columns)

    def with_bias(self, prepared: Prepared, bias: np.ndarray, geometry: ConvGeometry) -> Prepared:
        cut = shape(geometry, self.m, prepared.weights.itemsize, 2, prepared.columns)
        group = geometry.groups
        padded = np.zeros((group, cut.panels * cut.columns * cut.lanes), prepared.weights.dtype)
        padded[:, : geometry.out_channels // group] = bias.reshape(group, -1)
        return replace(prepared, bias=padded)

    def forward(self, x: np.ndarray, prepared: Prepared, geometry: ConvGeometry, out: np.ndarray) -> None:
        x = np.asarray(x, out.dtype)
        launch = plan(geometry, self.m, prepared.columns, x.strides, out.strides, out.dtype, threads.get_num_threads())
        if launch is None:
            return
        scratch = aligned(launch.scratch * launch.threads, np.dtype(np.uint8))
        launch.words.run(
            launch.blocks,
            launch.flops,
            x=address(x),
            u=address(prepared.weights),
            bias=address(launch.zeros if prepared.bias is None else prepared.bias),
            y=address(out),
            scratch=address(scratch),
        )

    def weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        if axes(geometry) is None:  # the weight gradient of some phase may have no axis for us
            super().weight_grad(x, g, geometry, out)
            return
        x, g = np.asarray(x, out.dtype), np.asarray(g, out.dtype)
        group, c, o = geometry.groups, x.shape[1] // geometry.groups, g.shape[1] // geometry.groups
        strides = x.strides, g.strides, out.strides
        workers = threads.get_num_threads()
        steps = gradient_plan(geometry, self.m, *strides, out.dtype, workers)
        if steps is None:
            return
        held = aligned(steps.data + steps.slopes + steps.scratch * workers, np.dtype(np.uint8))
        data, slopes = address(held), address(held) + steps.data
        scratch = slopes + steps.slopes
        for i in range(group):
            xs, gs = address(x) + i * c * x.strides[1], address(g) + i * o * g.strides[1]
            for begin in range(0, steps.tiles, steps.batch):
                count = min(steps.batch, steps.tiles - begin)
                runs = ceil_div(count, steps.per)
                for words, source, to in ((steps.of_x, xs, data), (steps.of_g, gs, slopes)):
                    words.run(runs, steps.flops, x=source, to=to, scratch=scratch, begin=begin, count=count, runs=runs)
                dw = address(out) + i * o * out.strides[0]
                steps.outer.run(
                    steps.blocks, steps.flops, data=data, slopes=slopes, dw=dw, scratch=scratch, count=count
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


@lru_cache(maxsize=1)
def host_width() -> int:
    """Bytes of a vector register."""
    from ..compiled.target import host

    return host().width


@lru_cache(maxsize=4096)
def shape(geometry: ConvGeometry, m: int, itemsize: int, workers: int = 2, columns: int = 0) -> Shape:
    """Cut a geometry for the vectors of this machine; `columns` is the width of panels, if that is settled already."""
    chosen = axes(geometry)
    if chosen is None:
        raise ValueError(f"no axis to transform in {geometry}")
    width = host_width()
    lanes = width // itemsize
    kernel, dilation, outputs = (
        chosen.pick(values, 1) for values in (geometry.kernel, geometry.dilation, geometry.out_shape)
    )
    n_w = m + R - 1
    m_h, n_h = (m, n_w) if kernel[1] == R else (1, 1)
    tiles_h, tiles_w = ceil_div(outputs[1], m_h), ceil_div(outputs[2], m)
    tiles = max(1, geometry.batch * tiles_h * tiles_w)
    depths = ceil_div(outputs[0], max(1, ceil_div(outputs[0], DEPTHS if kernel[0] > 1 else 1))) or 1
    deep = ceil_div(outputs[0], depths)
    slices = covered_size(effective_kernel(kernel[0], dilation[0]), chosen.pick(geometry.stride, 1)[0], depths)
    c = max(1, geometry.in_channels // geometry.groups)
    vectors = max(1, ceil_div(geometry.out_channels // geometry.groups, lanes))
    positions, blocks = n_h * n_w, geometry.groups * max(1, deep)
    line = LINE // itemsize

    def price(columns: int, per: int, parts: int) -> tuple[float, tuple[int, int, int]]:
        """Cycles of the longest thread, roughly, one vector multiplication each."""
        panels, runs = ceil_div(vectors, columns), ceil_div(tiles, per)
        rows, last_rows = able[columns], able[vectors - columns * (panels - 1)]
        padded = columns * (panels - 1) * ceil_div(per * depths, rows) * rows
        padded += (vectors - columns * (panels - 1)) * ceil_div(per * depths, last_rows) * last_rows
        weights = positions * kernel[0] * c * vectors * width
        read = 16 * positions * per * slices * ceil_div(c, lanes) / 2
        work = positions * padded * (kernel[0] * c + 4) * NARROW[columns] + 5 * positions * per * depths * vectors + weights / STREAM
        if positions * per * (slices * c * itemsize + depths * columns * width) > CACHE_BYTES:
            work *= 1.1
        fewer = tiles / per / runs  # the last run may be short
        return ceil_div(blocks * runs * parts, workers) * (read + work / parts) * (1 + fewer) / 2, (columns, per, parts)

    able = TILE_ROWS[width]
    widths = {columns} if columns else {ceil_div(vectors, ceil_div(vectors, wide)) for wide in able}
    _, (columns, per, parts) = min(
        price(wide, min(tiles, ceil_div(able[wide] * i, depths)), parts)
        for wide in widths
        for i in (1, 2, 3, 4, 6, 8)
        for parts in {min(ceil_div(vectors, wide), 1 if workers == 1 else p) for p in (1, 2, 4, 8, 16)}
    )
    v_row, m_row = ceil_div(c, lanes) * lanes, columns * lanes
    return Shape(
        n_h=n_h, n_w=n_w, m_h=m_h, m_w=m, tiles_h=tiles_h, tiles_w=tiles_w, tiles=tiles, runs=ceil_div(tiles, per),
        per=per, taps=kernel[0], depths=depths, slices=slices, deep=deep, lanes=lanes, vectors=vectors,
        columns=columns, panels=ceil_div(vectors, columns), parts=parts, v_row=v_row, m_row=m_row,
        # an odd number of lines: positions a power of two apart would meet in the same places of the cache
        v_step=(ceil_div(per * slices * v_row, line) | 1) * line,
        m_step=(ceil_div((per * depths + SPARE) * m_row, line) | 1) * line,
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
    s = shape(geometry, m, size, workers, columns)
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
        "tiles": s.tiles, "tiles_h": s.tiles_h, "tiles_w": s.tiles_w, "per": s.per, "runs": s.runs, "deep": s.deep,
        "parts": s.parts, "channels": c, "outputs": o, "in_d": inputs[0], "in_h": inputs[1], "in_w": inputs[2],
        "lo_d": lows[0], "lo_h": lows[1], "lo_w": lows[2], "out_d": outputs[0], "out_h": outputs[1], "out_w": outputs[2],
        "x_n": x_strides[0], "x_c": x_strides[1], "x_d": x_steps[0], "x_h": x_steps[1], "x_w": x_steps[2],
        "y_n": y_strides[0], "y_c": y_strides[1], "y_d": y_steps[0], "y_h": y_steps[1], "y_w": y_steps[2],
        "packs": int(not inplace), "direct": int(direct), "v_row": s.v_row * size, "v_step": s.v_step * size,
        "m_row": s.m_row * size, "m_step": s.m_step * size, "at_v": spare, "at_m": at_m, "at_box": at_box, "at_out": at_out,
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


@dataclass(frozen=True)
class Packing:
    """The launch that transforms weights of one shape and layout."""

    words: Words
    blocks: int
    flops: int
    elements: int
    scratch: int  # bytes per thread


@lru_cache(maxsize=1024)
def weight_plan(
    cut: Shape, chosen: Axes, m: int, group: int, w_shape: Ints, w_strides: Ints, dtype: np.dtype
) -> Packing:
    """The launch that transforms weights."""
    size, c, o = dtype.itemsize, w_shape[1], w_shape[0] // group
    width = cut.lanes * size
    steps, kernel = chosen.pick(w_strides[2:], 0), chosen.pick(w_shape[2:], 1)
    places = sorted(i * steps[1] + j * steps[2] for i in range(kernel[1]) for j in range(kernel[2]))
    run = kernel[1] * kernel[2]
    last = cut.vectors - cut.columns * (cut.panels - 1)
    full, final = (cut.n_h * cut.n_w * cut.taps * c * wide * width for wide in (cut.columns, last))
    cuts = max(1, min(c // 8, ceil_div(TASKS, group * cut.panels)))
    values = {
        "scratch_step": (cut.n_w * kernel[2] + run + cut.lanes) * width, "kind": KINDS[m], "n_h": cut.n_h,
        "n_w": cut.n_w, "taps": cut.taps, "channels": c, "outputs": o, "w_g": o * w_strides[0], "w_o": w_strides[0],
        "w_c": w_strides[1], "w_h": steps[1], "w_w": steps[2], "taps_h": kernel[1], "taps_w": kernel[2],
        "lowest": places[0], "run": run if places == [places[0] + i * size for i in range(run)] else 0,
        "panels": cut.panels, "columns": cut.columns, "last_columns": last,
        "last_count": o - (cut.vectors - 1) * cut.lanes, "u_panel": full, "u_group": full * (cut.panels - 1) + final,
        "cuts": cuts,
    }  # fmt: skip
    starts = {"tap_starts": np.arange(cut.taps, dtype=np.int64) * steps[0]}
    words = Words(library.kernel("winograd", "weights", f"f{size}"), values, starts)
    elements = group * values["u_group"] // size
    return Packing(words, group * cut.panels * cuts, 16 * elements, elements, values["scratch_step"])


def aligned(count: int, dtype: np.dtype) -> np.ndarray:
    """An uninitialised array that begins with a cache line: a vector load that crosses two counts twice."""
    raw = np.empty(count * dtype.itemsize + 64, np.uint8)
    start = -address(raw) % 64
    return raw[start : start + count * dtype.itemsize].view(dtype)


@dataclass(frozen=True)
class GradientSteps:
    """The three launches of a weight gradient, and the memory between them."""

    of_x: Words
    of_g: Words
    outer: Words
    tiles: int
    batch: int  # tiles transformed at once
    per: int  # tiles of one block of a transform
    blocks: int
    flops: int
    data: int  # bytes
    slopes: int
    scratch: int  # bytes per thread


@lru_cache(maxsize=1024)
def gradient_plan(
    geometry: ConvGeometry, m: int, x_strides: Ints, g_strides: Ints, w_strides: Ints, dtype: np.dtype, workers: int
) -> GradientSteps | None:
    """The launches for one group of `geometry`; None where there is nothing to add."""
    chosen = axes(geometry)
    if chosen is None or not total(geometry.y_shape) or not total(geometry.w_shape):
        return None
    size = dtype.itemsize
    s = shape(geometry, m, size)
    width, positions = s.lanes * size, s.n_h * s.n_w
    c, o = geometry.in_channels // geometry.groups, geometry.out_channels // geometry.groups
    inputs, outputs = chosen.pick(geometry.in_shape, 1), chosen.pick(geometry.out_shape, 1)
    kernel = chosen.pick(geometry.kernel, 1)
    lows = tuple(0 if i is None else geometry.padding[i][0] for i in (chosen.depth, chosen.height, chosen.width))
    stride, dilation = chosen.pick(geometry.stride, 1), chosen.pick(geometry.dilation, 1)
    slices = covered_size(effective_kernel(kernel[0], dilation[0]), stride[0], outputs[0])
    v_row, z_row = (((ceil_div(n, s.lanes) * width // LINE) | 1) * LINE for n in (c, o))
    each = positions * (slices * v_row + outputs[0] * z_row)
    batch = min(s.tiles, max(CHUNK, GRADIENT_BYTES // each // CHUNK * CHUNK))
    v_step, z_step = (((batch * n // LINE) | 1) * LINE for n in (slices * v_row, outputs[0] * z_row))
    per = max(1, min(16, ceil_div(batch, TASKS)))
    at_box = (s.n_w**2 + 1) * width

    def transform(which: int, strides: Ints, channels: int, sizes: Ints, low: Ints, extent: Ints, planes: int) -> Words:
        steps = chosen.pick(strides[2:], 0)
        row, step = (v_row, v_step) if which < len(KINDS) else (z_row, z_step)
        inplace = strides[1] == size and channels % s.lanes == 0
        values = {
            "which": which, "row": row, "step": step, "slices": planes, "per": per, "packs": int(not inplace),
            "at_box": at_box, "x_n": strides[0], "x_c": strides[1], "x_d": steps[0], "x_h": steps[1], "x_w": steps[2],
            "channels": channels, "in_d": sizes[0], "in_h": sizes[1], "in_w": sizes[2],
            "lo_d": low[0], "lo_h": low[1], "lo_w": low[2], "tiles_h": s.tiles_h, "tiles_w": s.tiles_w,
            "m_h": s.m_h, "m_w": m, "n_h": extent[0], "n_w": extent[1], "scratch_step": scratch,
        }  # fmt: skip
        return Words(library.kernel("winograd", "tiles", f"f{size}"), values)

    span = covered_size(s.n_w, m, min(per, s.tiles_w))
    box = max(slices * s.n_h * c, outputs[0] * s.m_h * o) * span * size
    vectors = ceil_div(o, s.lanes)
    columns = ceil_div(vectors, ceil_div(vectors, max(TILE_ROWS[host_width()])))
    panels = ceil_div(vectors, columns)
    rows = min(ceil_div(c, ceil_div(c, 28)), max(TILE_ROWS[host_width()][columns], ceil_div(c * panels * s.taps, TASKS)))
    m_row = columns * width
    m_step = ((rows + SPARE) * m_row // LINE | 1) * LINE
    plane = kernel[1] * kernel[2]
    at_back = at_box + positions * m_step
    scratch = max(at_box + box, at_back + (rows * plane + s.lanes) * m_row) + LINE
    scratch = ceil_div(scratch, LINE) * LINE
    w_steps = chosen.pick(w_strides[2:], 0)
    places = [sum(i * step for i, step in zip(at, w_steps, strict=True)) for at in np.ndindex(*kernel)]
    run = s.taps == 1 and w_strides[1] == plane * size and places == [i * size for i in range(plane)]
    last = vectors - columns * (panels - 1)
    some = min(batch, CHUNK)
    outer = {
        "kind": KINDS[m], "n_h": s.n_h, "n_w": s.n_w, "taps": s.taps, "channels": c, "per": rows, "panels": panels,
        "columns": columns, "last_columns": last, "last_count": o - (vectors - 1) * s.lanes, "chunk": some,
        "depths": outputs[0], "chunk_depths": max(1, CHUNK // some), "v_step": v_step, "v_tile": slices * v_row,
        "v_row": v_row, "z_step": z_step, "z_tile": outputs[0] * z_row, "z_row": z_row, "m_row": m_row,
        "m_step": m_step, "tap_step": dilation[0], "stride_x": stride[0], "w_o": w_strides[0], "w_c": w_strides[1],
        "plane_taps": plane, "run": int(run), "at_back": at_back, "scratch_step": scratch,
    }  # fmt: skip
    tables = {
        "rows": np.minimum(np.arange(c + SPARE, dtype=np.int64), c - 1) * size,
        "products_rows": np.arange(rows + SPARE, dtype=np.int64) * m_row,
        "depth_x": np.arange(outputs[0], dtype=np.int64) * (stride[0] * v_row),
        "depth_g": np.arange(outputs[0], dtype=np.int64) * z_row,
        "tap_places": np.array(places, np.int64),
    }
    return GradientSteps(
        transform(KINDS[m], x_strides, c, inputs, lows, (s.n_h, s.n_w), slices),
        transform(KINDS[m] + len(KINDS), g_strides, o, outputs, (0, 0, 0), (s.m_h, m), outputs[0]),
        Words(library.kernel("winograd", "outer", f"f{size}"), outer, tables),
        tiles=s.tiles, batch=batch, per=per, blocks=ceil_div(c, rows) * panels * s.taps,
        flops=2 * positions * batch * outputs[0] * s.taps * c * o, data=positions * v_step, slopes=positions * z_step,
        scratch=scratch,
    )  # fmt: skip
