"""The weight gradient of a convolution by `compiled.outer`: what is packed, who does what, in which chunks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product

import numpy as np

from ...geometry import ConvGeometry, Ints, ceil_div, covered_size, total
from ...records import dataclass
from .. import catalogue, threads
from ..calls import Words
from ..chains import FIRST, OUT, SCRATCH, SECOND, Chain, Link
from ..panels import LINE, SPARE, from_memory, steps_ahead, tile_rows, vector_bytes, whole_lines
from ..tasks import enough
from .arrange import arrange, shape, sums
from .layout import SKEW

#: Register tiles in one task at most, which share the panel in the second-level cache; and what is enough for that.
TILES, FEW_TILES = 16, 4
#: Tasks below which pixels, then rows, are cut finer, so that all threads have work to the end. Parts of the pixels have
#: sums of their own, to be added up: there are fewer, but as many as a second-level cache asks for, which should hold
#: so many bytes of both operands for all tasks that read them.
TASKS, FEW_TASKS, PART_BYTES = 32, 16, 3 << 19
#: Arithmetic that is worth a task of its own.
TASK_FLOPS = 250_000
#: Packed bytes of one chunk of images; and its pixels at least, so that the gradient is not rewritten too often.
CHUNK_BYTES, CHUNK_PIXELS = 4 << 20, 4096
#: What packing one element costs, in floating-point operations: whether it is worth a second thread.
PACK_FLOPS = 8


@dataclass(frozen=True)
class Launch:
    """The calls for one chunk of images or rows, and where it begins in x and g."""

    x_begin: int
    g_begin: int
    pack: Words | None
    multiply: Words
    gather: Words | None
    pack_tasks: int
    pack_grain: int
    tasks: int
    gather_tasks: int
    flops: int
    swapped: bool
    begins: tuple[int, int]
    places: tuple[int, int, int]  # bytes of the packed operands and of the sums, of every task or else
    per_thread: bool


@lru_cache(maxsize=256)
def bind(
    geometry: ConvGeometry, x_strides: Ints, g_strides: Ints, out_strides: Ints, dtype: np.dtype, more: bool, workers: int
) -> Chain | None:  # fmt: skip
    """What writes the weight gradient (O, C/G, *k), or with `more` adds it to what is there; None: there is none.

    x (N, C, *in) and g (N, O, *out) lie in any memory layout.
    """
    launches, fixed, each = plan(geometry, x_strides, g_strides, out_strides, dtype, workers)
    links = []
    for launch in launches:
        a, b = (FIRST, launch.x_begin), (SECOND, launch.g_begin)
        if launch.swapped:
            a, b = b, a
        a_bytes, b_bytes, _ = launch.places
        a_to, b_to, sums = ((SCRATCH, begin) for begin in (0, a_bytes, a_bytes + b_bytes))
        if launch.pack is not None:
            moved = PACK_FLOPS * (a_bytes + b_bytes) // 4
            at = {"a": a, "b": b, "a_to": a_to, "b_to": b_to}
            links.append(Link(launch.pack, launch.pack_tasks, moved, at, {}, launch.pack_grain))
        left = a_to if a_bytes else (a[0], a[1] + launch.begins[0])
        right = b_to if b_bytes else (b[0], b[1] + launch.begins[1])
        to, adds = {"out": (OUT, 0), "scratch": sums}, {"more": int(more)}
        links.append(Link(launch.multiply, launch.tasks, launch.flops, {"a": left, "b": right, **to}, adds))
        if launch.gather is not None:
            links.append(Link(launch.gather, launch.gather_tasks, 0, to, adds))
        more = True
    return Chain(links, fixed + each * workers, workers) if links else None


def flops(geometry: ConvGeometry, dtype: np.dtype) -> int:
    """The arithmetic done, with the lanes and rows that are not needed."""
    if not geometry.macs:
        return 0
    return min(shape(geometry, dtype, swapped)[2] for swapped in (False, True))


def workspace(geometry: ConvGeometry, dtype: np.dtype) -> int:
    """Bytes of scratch at most: both operands packed, of one chunk, and the sums of the tasks."""
    if not geometry.macs:
        return 0
    part, lanes = next(_chunks(geometry, dtype))[2], vector_bytes() // dtype.itemsize
    box = total([covered_size(e, s, m) for e, s, m in zip(part.effective, part.stride, part.out_shape, strict=True)])
    packed = 0
    for channels, pixels in ((part.in_channels, box), (part.out_channels, total(part.out_shape))):
        each = channels // part.groups
        packed += part.groups * (part.batch * pixels * (each + lanes) * dtype.itemsize + each * SKEW)
    runs = [(True, part.kernel[-1])] if part.rank else []
    workers = threads.current()
    cuts = [Cut.of(part, dtype, workers, *way) for way in ((False, 1), (True, 1), *runs)]
    return packed + max(cut.scratch * (cut.tasks if cut.parts > 1 else workers) for cut in cuts) + 256


@dataclass(frozen=True)
class Cut:
    """How the work is cut into tasks: rows into blocks, pixels into parts."""

    blocks: int
    block_rows: int
    parts: int
    tasks: int
    scratch: int  # bytes of the sums of one task

    @classmethod
    def of(cls, geometry: ConvGeometry, dtype: np.dtype, workers: int, swapped: bool, run: int = 1) -> Cut:
        """Parts follow from the sizes alone, as the order of the sums depends on them; blocks are as many as threads need."""
        usual, rows, _ = shape(geometry, dtype, False)
        tiles = ceil_div(rows, tile_rows(usual.columns))
        wanted = max(1, min(TASKS, 2 * geometry.macs // TASK_FLOPS))
        read = (total(geometry.x_shape) + total(geometry.y_shape)) * dtype.itemsize // geometry.groups
        fewer = min(wanted, FEW_TASKS)
        parts = ceil_div(fewer, usual.count * geometry.groups * ceil_div(tiles, FEW_TILES))
        parts = min(max(parts, ceil_div(read, PART_BYTES)), sums(geometry))
        panels, rows, _ = shape(geometry, dtype, swapped, run)
        others = panels.count * geometry.groups * (geometry.taps // run if swapped else 1)
        tiles = ceil_div(rows, tile_rows(panels.columns))
        fewest, most = ceil_div(tiles, TILES), min(tiles, ceil_div(wanted, others * parts))
        blocks = next((n for n in range(fewest, most) if enough(others * parts * n, workers)), max(fewest, most))
        block_rows = ceil_div(tiles, blocks) * tile_rows(panels.columns)
        blocks = ceil_div(rows, block_rows)
        pitch = panels.columns * panels.lanes * dtype.itemsize
        return cls(blocks, block_rows, parts, blocks * others * parts, (block_rows + SPARE) * pitch + 64)


@lru_cache(maxsize=1024)
def plan(
    geometry: ConvGeometry, x_strides: Ints, g_strides: Ints, out_strides: Ints, dtype: np.dtype, workers: int
) -> tuple[tuple[Launch, ...], int, int]:
    """The launches that compute the weight gradient, chunk by chunk; the bytes they need, and for each thread."""
    if not total(geometry.y_shape) or not total(geometry.w_shape):
        return (), 0, 0
    found = []
    streams = from_memory((total(geometry.x_shape) + total(geometry.y_shape)) * dtype.itemsize)
    for image, start, part in _chunks(geometry, dtype):
        x_begin = image * x_strides[0]
        g_begin = image * g_strides[0] + sum(a * step for a, step in zip(start, g_strides[2:], strict=True))
        found.append(_launch(part, x_strides, g_strides, out_strides, dtype, workers, x_begin, g_begin, streams))
    fixed = 128 + max(sum(one.places[:2]) + one.places[2] * one.tasks * (not one.per_thread) for one in found)
    return tuple(found), fixed, max(one.places[2] * one.per_thread for one in found)


def _chunks(geometry: ConvGeometry, dtype: np.dtype) -> Iterator[tuple[int, Ints, ConvGeometry]]:
    """Runs of images, or boxes of outputs of one image, whose packed operands stay in the last-level cache."""
    per_pixel = (geometry.in_channels * total(geometry.stride) + geometry.out_channels) * dtype.itemsize
    pixels = max(CHUNK_PIXELS, CHUNK_BYTES // per_pixel)
    image = total(geometry.out_shape)
    batch, box = max(1, pixels // image), list(geometry.out_shape)
    for axis in range(geometry.rank):
        while total(box) > 2 * pixels and box[axis] > 1:
            box[axis] = ceil_div(box[axis], 2)
    batch = ceil_div(geometry.batch, ceil_div(geometry.batch, batch))
    starts = [range(0, n, b) for n, b in zip(geometry.out_shape, box, strict=True)]
    for first in range(0, geometry.batch, batch):
        for start in product(*starts):
            here = tuple(min(b, n - a) for a, b, n in zip(start, box, geometry.out_shape, strict=True))
            yield first, start, geometry.with_out(start, here, min(batch, geometry.batch - first))


def _launch(
    geometry: ConvGeometry,
    x_strides: Ints,
    g_strides: Ints,
    out_strides: Ints,
    dtype: np.dtype,
    workers: int,
    x_begin: int,
    g_begin: int,
    streams: bool,
) -> Launch:
    size = dtype.itemsize
    way = arrange(geometry, x_strides, g_strides, out_strides, dtype)
    panels, a, b, walk = way.panels, way.a, way.b, way.walk
    cut = Cut.of(geometry, dtype, workers, way.swapped, way.run)
    blocks, block_rows = cut.blocks, cut.block_rows
    row_count, groups = len(way.places), geometry.groups
    pitch = panels.columns * panels.lanes * size
    ends = np.minimum(np.arange(block_rows + SPARE), block_rows - 1)
    index = np.minimum(np.arange(blocks)[:, None] * block_rows + ends, row_count - 1)
    places = {
        "places": np.ascontiguousarray(way.places[index]),
        "tap_places": np.ascontiguousarray(way.taps[:, 0]),
    }
    arrays = {
        "rows": np.ascontiguousarray(way.offsets[index]),
        "staged_rows": np.arange(block_rows + SPARE, dtype=np.int64) * pitch,
        "tap_offsets": np.ascontiguousarray(way.taps[:, 1:].T),
        "a_offsets": walk.offsets[0],
        "b_offsets": walk.offsets[1],
        "b_last_offsets": walk.offsets[2],
        "steps": walk.steps,
    }
    kind, packs = f"f{size}", int(a.table[0] + b.table[0])
    ahead = streams and not a.table[0] and walk.inner[0] >= LINE  # hardware sees shorter steps
    pixels = steps_ahead(panels.columns)
    shared = {
        "blocks": blocks, "panels": panels.count, "taps": len(way.taps), "groups": groups, "parts": cut.parts,
        "row_count": row_count, "block_rows": block_rows, "block_table": block_rows + SPARE, "columns": panels.columns,
        "last_columns": panels.last, "last_count": panels.rest, "scratch_step": cut.scratch,
        "out_group": geometry.out_channels // groups * out_strides[0], "out_panel": pitch // size * way.step_lane,
        "step_lane": way.step_lane,
    }  # fmt: skip
    inner = {
        "step_count": len(walk.steps), "a_step": walk.inner[0], "b_step": walk.inner[1], "b_last_step": walk.inner[2],
        "a_group": a.group_step, "b_group": b.group_step, "b_panel": b.panel_step,
        "ahead": catalogue.kernel("products", "both_ahead", kind).address if ahead else 0,
        "far_a": pixels * walk.inner[0], "far_b": 0 if b.table[0] else pixels * walk.inner[1],
    }  # fmt: skip
    records = {"a_record": a.table, "b_record": b.table}
    return Launch(
        x_begin + way.x_begin,
        g_begin,
        Words(catalogue.kernel("outer", "pack", kind), {}, records) if packs else None,
        Words(catalogue.kernel("outer", "products", kind), {**shared, **inner}, {**arrays, **places}),
        Words(catalogue.kernel("outer", "gather", kind), shared, places) if cut.parts > 1 else None,
        packs,
        ceil_div(packs, 64),
        cut.tasks,
        cut.tasks // cut.parts,
        way.work,
        way.swapped,
        (a.begin, b.begin),
        (whole_lines(a.bytes), whole_lines(b.bytes), cut.scratch),
        cut.parts == 1,
    )
