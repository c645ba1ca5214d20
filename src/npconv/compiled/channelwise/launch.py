"""How a call of the channelwise kernels is cut into blocks, and the words it passes; no Numba here.

One `Launch` serves one geometry and its memory layouts, and is kept.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np

from ...geometry import ConvGeometry, Ints, WindowAxis, ceil_div, covered_size, effective_kernel, three_axes, total
from ...records import dataclass
from .. import catalogue
from ..bringing import Bringing
from ..calls import Launch, Words
from ..chains import FIRST, OUT, SCRATCH, SECOND, Chain, Link
from ..panels import CHUNK, FAR_CACHE, LINE, from_memory, registers, vector_bytes, whole_lines
from .sizes import BELOW, BESIDE, FRAME_WORDS, NOTHING, WIDE, Tile, gradient_square, gradient_tiles, tiles

#: Blocks that a call is cut into, at most and roughly, so that all threads have work to the end.
BLOCKS = 8
#: Floating-point operations below which a block is not worth a claim.
BLOCK_FLOPS = 100_000
#: What writing an output costs, in products.
STORE_PRODUCTS = 8
#: Bytes of the inputs of a packed band: it should stay in the second-level cache.
BAND_BYTES = 192 << 10
#: Pixels of a register tile, roughly: rows of fewer such than there are vectors are taken vector after vector.
TILE_PIXELS = 7
#: Taps from which on inputs are packed that could be read in place, where tiles slide: each is read so often that those of a
#: vector had better lie close together, with zeros around them.
MANY_TAPS = 20
#: Bytes of the rows that a tile of several outputs reads, and of all channels between its pixels, from which on they are
#: packed: pixels far apart meet in few sets of the first-level cache.
FAR_APART = 64 << 10
#: Outputs of a row from which on rows below are brought ahead where caches are far.
LONG_ROW = 20
#: Sums in memory that a slab of the weight gradient adds up, at most and roughly, before the parts meet: no chain is long.
ADDED = 64
#: Pixels of such a slab, and of a span of a row, however long it is.
SLAB = ADDED * CHUNK
#: Bytes of x up to which the vectors of a slab are taken apart: more should be read in the order of memory.
SLAB_BYTES = 256 << 10


@dataclass(frozen=True)
class Lanes:
    """How groups lie in vectors: `wide` lanes per group, `used` lanes in all."""

    wide: int
    used: int
    vectors: int
    lanes: int


@lru_cache(maxsize=1024)
def lay_out(groups: int, inputs: int, outputs: int, itemsize: int) -> Lanes:
    """Groups as powers of two, so that none straddles two vectors."""
    lanes = vector_bytes() // itemsize
    wide = 1 << (max(inputs, outputs) - 1).bit_length()
    vectors = ceil_div(groups * wide, lanes)
    return Lanes(wide, groups * wide, vectors, lanes)


@dataclass(frozen=True)
class Grouping:
    """Groups as the kernels take them, and how they lie in vectors.

    A group of one input is as many groups of one output, of which each `repeat` that follow each other read the same
    channel; one of several inputs and one output adds up that many channels, `stacked`, as if they were more taps. So no
    lane is wasted, and none adds up zeros. In the weight gradient it is as many groups too, of which each `repeat_g` that
    follow each other read the same channel of g.
    """

    groups: int
    inputs: int
    outputs: int
    lanes: Lanes
    repeat: int = 1
    stacked: int = 1
    repeat_g: int = 1

    def elements(self, taps: int) -> int:
        """Of the weights in the order of the kernels."""
        at = self.lanes
        return at.vectors * at.lanes * at.wide * taps * self.stacked


@lru_cache(maxsize=1024)
def grouping(groups: int, inputs: int, outputs: int, itemsize: int, direction: str = "forward") -> Grouping:
    """Those of a pass: the fewest multiply-adds that whole vectors allow."""
    if inputs > 1 < outputs:
        return Grouping(groups, inputs, outputs, lay_out(groups, inputs, outputs, itemsize))
    if direction != "weight_grad" and inputs > 1:
        return Grouping(groups, 1, 1, lay_out(groups, 1, 1, itemsize), stacked=inputs)
    all_of = groups * inputs * outputs
    return Grouping(all_of, 1, 1, lay_out(all_of, 1, 1, itemsize), repeat=outputs, repeat_g=inputs)


@dataclass(frozen=True)
class Quads:
    """A transposition of stride 2: its kernel, where its first quad of outputs begins, -1 or 0, and how many there are."""

    kernel: Ints
    first: Ints
    out: Ints

    def tap_offsets(self, steps: Ints) -> np.ndarray:
        """Where each tap lies: those of the upper outputs of a quad, then those of the lower."""
        found = _tap_offsets(self.kernel, steps).reshape(self.kernel)
        return np.concatenate([found[1::2], found[::2]]).reshape(-1)


@lru_cache(maxsize=4096)
def packing_of(geometry: ConvGeometry, steps: Ints, dtype: np.dtype, quads: Quads | None = None) -> Bringing:
    """The packing of weights whose steps are `weight_steps`."""
    of = grouping(geometry.groups, *geometry.per_group, dtype.itemsize)
    at = of.lanes
    step_g, step_o, step_c, *taps = steps
    offsets = (
        quads.tap_offsets(tuple(taps)) if quads else _tap_offsets(geometry.kernel, tuple(taps), of.stacked, step_c)
    )
    values = {
        "wide": at.wide, "groups": of.groups, "inputs": of.inputs, "outputs": of.outputs, "repeat": of.repeat,
        "step_g": step_g, "step_o": step_o, "step_c": step_c, "taps": len(offsets),
    }  # fmt: skip
    arrays = {"tap_offsets": offsets}
    words = Words(catalogue.kernel("channelwise", "prepare", f"f{dtype.itemsize}"), values, arrays)
    return Bringing(words, at.vectors, at.vectors * at.lanes * at.wide * len(offsets))


class Axes:
    """The three axes of a geometry, (depth, height, width); missing ones have one position."""

    def __init__(self, geometry: ConvGeometry) -> None:
        self.ins, self.outs = three_axes(geometry.in_shape, 1), three_axes(geometry.out_shape, 1)
        self.kernel = three_axes(geometry.kernel, 1)
        # a step is taken only where there is a second window or tap; so huge ones cannot overflow
        pairs = zip(three_axes(geometry.stride, 1), self.outs, strict=True)
        self.moves = tuple(s if m > 1 else 1 for s, m in pairs)
        self.fars = tuple(d if k > 1 else 1 for d, k in zip(three_axes(geometry.dilation, 1), self.kernel, strict=True))
        self.lows = three_axes(tuple(lo for lo, _ in geometry.padding), 0)

    def box(self, band: int) -> Ints:
        """The inputs that `band` rows of outputs read."""
        spans = (effective_kernel(k, d) for k, d in zip(self.kernel, self.fars, strict=True))
        outs = (1, band, self.outs[2])
        return tuple(covered_size(e, s, m) for e, s, m in zip(spans, self.moves, outs, strict=True))

    def words(self, band: int, **others: Ints) -> dict[str, int]:
        """Sizes, steps and whatever else comes in threes, by name and axis."""
        triples = {
            "in": self.ins, "out": self.outs, "taps": self.kernel, "move": self.moves, "far": self.fars,
            "lo": self.lows, "box": self.box(band), **others,
        }  # fmt: skip
        return {f"{name}_{axis}": n for name, three in triples.items() for axis, n in zip("dhw", three, strict=True)}

    def band(self, bands: int, pixel: int, packs: bool) -> int:
        """Rows of a band: an equal share, and where it is packed, no more than fits the cache."""
        band = ceil_div(self.outs[1], max(1, min(self.outs[1], bands)))
        while packs and band > 1 and total(self.box(band)) * pixel > BAND_BYTES:
            band = ceil_div(band, 2)
        return band


def _ahead(stride: int, width: int, x_bytes: int) -> bool:
    """Whether square tiles bring ahead what the rows below read; where caches are far, hardware is the better at most of it."""
    slides = stride == 1 and width >= LONG_ROW if FAR_CACHE else stride > 0
    return slides and from_memory(x_bytes // max(1, stride) ** 2)


@lru_cache(maxsize=4096)
def plan(
    geometry: ConvGeometry, x_strides: Ints, y_strides: Ints, steps: Ints | None, dtype: np.dtype,
    quads: Quads | None = None,
) -> Launch | None:  # fmt: skip
    """The launch that computes `geometry`; None where there is nothing to compute.

    With `steps`, their `weight_steps`, weights are as the caller has them, and each block packs what it uses.
    With `quads`, each output is one.
    """
    if not total(geometry.y_shape):
        return None
    size, axes = dtype.itemsize, Axes(geometry)
    of = grouping(geometry.groups, *geometry.per_group, size)
    at = of.lanes
    gaps = not of.inputs == of.outputs == at.wide
    packs = gaps or max(of.repeat, of.stacked) > 1 or (x_strides[1] != size and geometry.in_channels > 1)
    stages = gaps or (y_strides[1] != size and geometry.out_channels > 1)
    tile, step_rows, span = _tile(axes, of, quads)
    packs = packs or (tile.slide == 1 and geometry.taps >= MANY_TAPS)
    depth, height, width = axes.outs
    beside = at.vectors > width // TILE_PIXELS
    apart = at.wide > axes.moves[2] == 1 < at.vectors and not beside
    packs = packs or (apart and span * axes.ins[2] * x_strides[-1] > FAR_APART)
    slices, pixel, many = geometry.batch * depth, at.lanes * size, of.stacked * axes.kernel[0] * span
    x_bytes = total(geometry.x_shape) * size
    taps = total(quads.kernel) if quads else geometry.taps * of.stacked
    flops = (
        2 * slices * height * width * at.vectors * at.lanes * (at.wide * taps + STORE_PRODUCTS * (4 if quads else 1))
    )
    wanted = min(BLOCKS, ceil_div(flops, BLOCK_FLOPS))
    stride = _square(axes, of)
    parts, square = min(at.vectors, ceil_div(wanted, slices)), step_rows > 1 or quads is not None
    across = not (packs or stages) and (square or beside)
    if across and square and (steps is None or steps[0] == size):
        # rows as they lie in memory, unless each block had to collect all weights
        parts = min(parts, ceil_div(wanted, slices * ceil_div(height, step_rows)))
    band = axes.band(ceil_div(wanted, slices * parts), pixel * of.stacked, packs)
    band = min(height, ceil_div(band, step_rows) * step_rows)
    bands = ceil_div(height, band)
    y_steps = three_axes(y_strides[2:], 0)
    places = np.add.outer(np.arange(band, dtype=np.int64) * y_steps[1], np.arange(width, dtype=np.int64) * y_steps[2])
    table_at = whole_lines(8 * FRAME_WORDS)
    packed_at = table_at + whole_lines(8 * 2 * many)
    staged_at = packed_at + (whole_lines(total(axes.box(band)) * pixel * of.stacked) if packs else 0)
    fresh_at = (
        staged_at + (whole_lines(band * width * pixel * (4 if quads else 1)) if stages else 0) + (LINE if quads else 0)
    )
    together = ceil_div(at.vectors, parts) if across else 1
    fresh = taps * at.wide * pixel * together if steps else 0
    step_g, step_o, step_c, *tap_steps = steps or (0,) * (3 + geometry.rank)
    chunk_taps = min(axes.kernel[2], CHUNK)
    chunk_rows = CHUNK // chunk_taps if chunk_taps == axes.kernel[2] else 1
    rows, columns = quads.out if quads else (0, 0)
    first_h, first_w = quads.first if quads else (0, 0)
    values = {
        "tile": _part(tile.name, size), "pixels": tile.pixels,
        "step_rows": step_rows, "taps": taps, "span": span, "wrap": span // 2 if quads else span,
        "y_begin": (first_h * y_steps[1] + first_w * y_steps[2]) // 2, "y_rows": rows, "y_columns": columns,
        "first_h": first_h, "first_w": first_w, "wide": at.wide, "across": int(across), "parts": parts,
        "vectors": at.vectors, "used": at.used, "bands": bands, "band": band, "groups": of.groups, "inputs": of.inputs,
        "outputs": of.outputs, "stacked": of.stacked, "batch_step": x_strides[0], "step_c": x_strides[1],
        "y_batch_step": y_strides[0], "step_o": y_strides[1], "chunk_rows": many if square else chunk_rows,
        "chunk_taps": chunk_taps, "packs": int(packs), "repeat": of.repeat, "stages": int(stages), "gaps": int(gaps),
        "packed_at": packed_at, "staged_at": staged_at, "table_at": table_at,
        "ahead": int(not packs and _ahead(stride, width, x_bytes)),
        "scratch_step": fresh_at + whole_lines(fresh) + 64, "fresh": int(bool(steps)), "fresh_at": fresh_at,
        "w_step_g": step_g, "w_step_o": step_o, "w_step_c": step_c,
        **axes.words(band, step=three_axes(x_strides[2:], 0), y_step=y_steps),
    }  # fmt: skip
    offsets = _tap_offsets(geometry.kernel, tuple(tap_steps), of.stacked, step_c)
    if quads:
        offsets = quads.tap_offsets(tuple(tap_steps))
    arrays = {
        "places": places.reshape(-1),
        "zeros": np.zeros(at.lanes, dtype),
        "tap_offsets": offsets,
    }
    words = Words(catalogue.kernel("channelwise", "forward", f"f{size}"), values, arrays)
    return Launch(words, slices * bands * parts, flops, values["scratch_step"])


def _square(axes: Axes, of: Grouping) -> int:
    """The stride of the tiles of two rows by 3 x 3 taps, depthwise; 0: they cannot be used."""
    stride = axes.moves[2]
    plain = axes.kernel[1:] == (3, 3) and axes.fars[1:] == (1, 1) and axes.moves[1] == stride in (1, 2)
    short = 9 * axes.kernel[0] * of.stacked <= CHUNK
    return stride if plain and short and of.lanes.wide == 1 and registers(vector_bytes()) == 32 else 0


def _tile(axes: Axes, of: Grouping, quads: Quads | None = None) -> tuple[Tile, int, int]:
    """The register tile, the rows of outputs it computes and the rows of inputs it reads, in a plane."""
    square, wide = _square(axes, of), of.lanes.wide
    there = {
        (tile.Q, tile.slide, tile.stride, tile.quads): tile for tile in tiles(registers(vector_bytes()), of.lanes.lanes)
    }
    if quads:
        return there[1, 0, 0, quads.kernel[1]], 1, quads.kernel[0]
    if square:
        return there[1, 0, square, 0], 2, square + 3
    slide = axes.moves[2] if wide == axes.fars[2] == 1 else 0
    return there.get((wide, slide, 0, 0)) or there[wide, 0, 0, 0], 1, axes.kernel[1]


def _part(name: str, size: int) -> int:
    """The address of a register tile."""
    return catalogue.kernel("channelwise_tiles", name, f"f{size}").address


@dataclass(frozen=True)
class GradientLaunch:
    """The gradient in parts of `size` elements together, and their sum."""

    parts: Launch
    size: int
    gather: Words
    vectors: int

    def chain(self, dtype: np.dtype, more: bool, workers: int) -> Chain:
        """Both, for so many threads; the gradient is written, or with `more` added to what is there."""
        run, parts = self.parts, whole_lines(self.size * dtype.itemsize)
        at = {"x": (FIRST, 0), "g": (SECOND, 0), "to": (SCRATCH, 0), "scratch": (SCRATCH, parts)}
        summing = Link(self.gather, self.vectors, 0, {"parts": (SCRATCH, 0), "to": (OUT, 0)}, {"fresh": int(not more)})
        return Chain(
            [Link(run.words, run.blocks, run.flops, at, {}), summing],
            parts + run.scratch * min(workers, run.blocks),
            workers,
        )


@lru_cache(maxsize=256)
def bind_gradient(
    geometry: ConvGeometry, x_strides: Ints, g_strides: Ints, w_strides: Ints, dtype: np.dtype, more: bool, workers: int
) -> Chain | None:  # fmt: skip
    """What writes the gradient, or adds it to what is there; None: there is none."""
    if not total(geometry.y_shape):
        return None
    return plan_gradient(geometry, x_strides, g_strides, w_strides, dtype).chain(dtype, more, workers)


@lru_cache(maxsize=4096)
def plan_gradient(
    geometry: ConvGeometry, x_strides: Ints, g_strides: Ints, w_strides: Ints, dtype: np.dtype
) -> GradientLaunch:
    """The launches that compute the weight gradient of `geometry`."""
    size, axes = dtype.itemsize, Axes(geometry)
    of = grouping(geometry.groups, *geometry.per_group, size, "weight_grad")
    at = of.lanes
    packs = of.inputs != at.wide or of.repeat > 1 or (x_strides[1] != size and geometry.in_channels > 1)
    packs_g = of.outputs != at.wide or of.repeat_g > 1 or (g_strides[1] != size and geometry.out_channels > 1)
    width = axes.outs[2]
    spans = ceil_div(width, SLAB)
    those = [tile for tile in gradient_tiles(registers(vector_bytes()), at.lanes) if at.wide == tile.Q]
    tile = those[-1 if geometry.taps % 9 and geometry.taps < 6 else 0]
    taps = ceil_div(geometry.taps, tile.taps) * tile.taps
    pixel, square = at.lanes * size, _square(axes, of)
    flops = 2 * geometry.batch * total(axes.outs) * at.vectors * at.lanes * at.wide * taps
    # slabs and bands are the same for every memory layout
    band, bands, units, slabs = _slabs(geometry, axes, of, size, flops)
    table_at = whole_lines(8 * FRAME_WORDS)
    packed_at = table_at + whole_lines(8 * (3 * taps + 10))
    packed_g_at = packed_at + (whole_lines(total(axes.box(band)) * pixel) if packs else 0)
    last = WindowAxis(axes.ins[2], axes.kernel[2], axes.moves[2], axes.fars[2], axes.lows[2], 0, width)
    edge_lo, edge_hi = last.inner
    ahead = NOTHING
    if square and not packs and from_memory(total(geometry.x_shape) * size):
        ahead = BELOW if width >= 2 * WIDE else BESIDE
    runs = min(at.vectors, ceil_div(BLOCKS, slabs)) if square and not (packs or packs_g) else at.vectors
    shared = {"taps": taps, "wide": at.wide, "vectors": at.vectors, "slabs": slabs, "groups": of.groups,
              "inputs": of.inputs, "outputs": of.outputs, "repeat_g": of.repeat_g}  # fmt: skip
    values = {
        **shared, "tile": _part(tile.name, size), "square": square,
        "square_tile": _part(gradient_square(square), size) if square else 0, "parts": runs, "table_at": table_at,
        "tile_taps": tile.taps, "used": at.used, "units": units, "bands": bands, "band": band,
        "batch_step": x_strides[0], "step_c": x_strides[1], "g_batch_step": g_strides[0], "g_step_c": g_strides[1],
        "packs": int(packs), "packs_g": int(packs_g), "packed_at": packed_at, "packed_g_at": packed_g_at,
        "edge_lo": edge_lo, "edge_hi": edge_hi, "chunk": CHUNK, "repeat": of.repeat,
        "spans": spans, "span": SLAB,
        "ahead": ahead,
        "scratch_step": packed_g_at + (whole_lines(band * width * pixel) if packs_g else 0) + 64,
        **axes.words(band, step=three_axes(x_strides[2:], 0), g_step=three_axes(g_strides[2:], 0)),
    }  # fmt: skip
    name = f"f{size}"
    arrays = {"zeros": np.zeros(at.lanes, dtype)}
    words = Words(catalogue.kernel("channelwise", "weight_grad", name), values, arrays)
    launch = Launch(words, slabs * runs, flops, values["scratch_step"])
    places = {"step_o": w_strides[0], "step_c": w_strides[1], "real": geometry.taps}
    offsets = {"tap_offsets": _tap_offsets(geometry.kernel, w_strides[2:])}
    parts = slabs * spans
    gather = Words(catalogue.kernel("channelwise", "gather", name), {**shared, **places, "slabs": parts}, offsets)
    return GradientLaunch(launch, parts * at.vectors * taps * at.wide * at.lanes, gather, at.vectors)


def _slabs(geometry: ConvGeometry, axes: Axes, of: Grouping, size: int, flops: int) -> tuple[int, int, int, int]:
    """Of the weight gradient: the rows of a band, how many bands, units of work (a band of a plane), and slabs of them."""
    (depth, height, width), at, square = axes.outs, of.lanes, _square(axes, of)
    width = min(width, SLAB)
    slices = geometry.batch * depth
    wanted = ceil_div(min(BLOCKS, ceil_div(flops, BLOCK_FLOPS)), at.vectors)
    if square:
        wanted = max(wanted, min(BLOCKS, ceil_div(total(geometry.x_shape) * size, SLAB_BYTES)))
    band = axes.band(ceil_div(wanted, slices), at.lanes * size, True)
    if square:  # a sum in memory is added to once for two rows, and once by what squares leave
        often = ceil_div(width // WIDE, CHUNK // (2 * WIDE)) + (width % WIDE > 0)
        band = max(2, min(band + band % 2, 2 * ADDED // often // 2 * 2))
        added = band // 2 * often
    else:  # once for each row at the edges above and below; for others once at the left, in the middle and at the right
        edges = min(band, effective_kernel(axes.kernel[1], axes.fars[1]))
        added = (3 * ceil_div(band, max(1, CHUNK // width)) + edges) * ceil_div(width, CHUNK)
    bands = ceil_div(height, band)
    units = slices * bands
    slabs = max(wanted, ceil_div(slices * height * width, SLAB), ceil_div(units * added, ADDED))
    return band, bands, units, min(units, slabs)


def workspace(geometry: ConvGeometry, dtype: np.dtype, direction: str, workers: int) -> int:
    """Bytes beyond the output, at most: weights, or parts of their gradient, and what each worker packs."""
    of, axes = grouping(geometry.groups, *geometry.per_group, dtype.itemsize, direction), Axes(geometry)
    pixel = of.lanes.lanes * dtype.itemsize
    row = total(axes.box(2)) * pixel * of.stacked + 2 * axes.outs[2] * pixel
    weights = of.elements(geometry.taps + 9) * dtype.itemsize
    per_worker = 2 * max(BAND_BYTES, row) + weights + 64 * geometry.taps * of.stacked + 1024
    if direction == "weight_grad" and total(geometry.y_shape):
        slabs = _slabs(geometry, axes, of, dtype.itemsize, BLOCKS * BLOCK_FLOPS)[3]
        weights *= BLOCKS + slabs * ceil_div(axes.outs[2], SLAB)
    return weights + workers * per_worker


def _tap_offsets(kernel: Ints, steps: Ints, stacked: int = 1, step_c: int = 0) -> np.ndarray:
    """Where each tap lies, in bytes; those of `stacked` channels one after the other."""
    steps, sizes = (step_c, *steps), (stacked, *kernel)
    offsets = [sum(t * s for t, s in zip(tap, steps, strict=True)) for tap in product(*map(range, sizes))]
    return np.array(offsets, np.int64)
