"""The launches of a weight gradient in the transformed domain: x and g into tiles, their products, and the way back."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise, product

import numpy as np

from ...geometry import ConvGeometry, Ints, ceil_div, covered_size
from ...records import dataclass, replace
from .. import catalogue
from ..calls import Words
from ..chains import FIRST, OUT, SCRATCH, SECOND, Chain, Link, Shares
from ..panels import CHUNK, FAR_CACHE, REST, SPARE, odd_lines, tile_rows, whole_lines, widest
from .shape import (
    NARROW,
    TASKS,
    Axes,
    Cut,
    axes,
    cut,
    empty,
    image_table,
    transform,
)

#: Bytes of transformed inputs and gradients held at once: they stay in a second-level cache beside the sums, if these are
#: so few; else they are so many times as large, as every batch reads the sums, and writes them.
BATCH_BYTES, FEW_SUMS, PER_SUM = 1 << 20, 5 << 18, 3
#: Bytes up to which one task sums over all tiles, where there are as many blocks as below.
WHOLE_BYTES = 32 << 20
#: Tiles up to which one task sums over all of them and transforms back; a batch has no fewer. With more tiles too, if
#: there are as many blocks of channels: the sums of a block stay in the cache, all of them may not even fit the last one.
FEW_TILES, MANY_BLOCKS = 64, 24
#: Tiles whose products are added up before they are transformed back, at most and roughly: so no chain is long.
ADDED = 64 * CHUNK
#: Most tiles of one task of a transform.
RUN = 16
#: Vector multiplications that take as long as a transform of one vector of channels: of x or g, and of the sums back, for
#: each transformed position.
FORTH, BACK = 9.5, 10.5
#: Products that take as long as beginning and ending a sum of them.
START = 3
#: Vector multiplications in the time that a vector takes from the cache of another processor; and operations up to which one
#: thread may work alone, without a look for Ctrl-C, some hundredths of a second.
HANDED, ALONE_FLOPS = 40 if FAR_CACHE else 15, 1e10
#: Bundles of parts for each thread.
BUNDLES = 4


@dataclass(frozen=True)
class Layout:
    """Where the transformed arrays lie: x by (position, vector of channels, tile, plane), g by (position, panel, ...)."""

    few: bool  # a block of channels is summed and transformed back at once; else in two launches
    batch: int  # tiles transformed at once
    run: int  # tiles of one task
    columns: int
    panels: int
    rows: int  # input channels of one block
    blocks: int
    v_vector: int
    v_step: int
    z_row: int
    z_panel: int
    z_step: int
    m_block: int
    m_step: int
    at_box: int
    at_back: int
    scratch: int  # bytes per thread

    def bytes(self, positions: int, workers: int) -> Ints:
        """Of the transformed x, the transformed g, the sums, and scratch."""
        sums = 0 if self.few else positions * self.m_step
        return positions * self.v_step, positions * self.z_step, sums, workers * self.scratch


@lru_cache(maxsize=4096)
def layout(geometry: ConvGeometry, n: int, itemsize: int, batch: int = 0) -> Layout:
    """The layout of one geometry; with a `batch`, which sums depend on, of a part of another, for one thread."""
    a, c = axes(geometry, n), cut(geometry, n, itemsize)
    if a is None:
        raise ValueError(f"no axis to transform in {geometry}")
    channels, outputs = geometry.per_group
    width, planes = c.lanes * itemsize, a.planes_out
    columns = ceil_div(c.vectors, ceil_div(c.vectors, widest()))
    panels, tall = ceil_div(c.vectors, columns), tile_rows(columns)
    z_row, in_vectors = columns * width, ceil_div(channels, c.lanes)
    each = c.positions * (a.slices * in_vectors * width + planes * panels * z_row)
    blocks = ceil_div(channels, 4 * tall) * panels * a.kernel[0]
    few = c.tiles * planes <= FEW_TILES or (c.tiles * each <= WHOLE_BYTES and blocks >= MANY_BLOCKS)
    alone = batch > 0
    if alone:
        few = batch >= c.tiles
    elif few:
        batch = c.tiles
    else:
        sums = c.positions * a.kernel[0] * channels * panels * z_row
        held = BATCH_BYTES if sums <= FEW_SUMS else PER_SUM * sums
        batch = ceil_div(c.tiles, ceil_div(c.tiles, max(FEW_TILES, held // max(1, each))))
    v_vector, z_panel = odd_lines(batch * a.slices * width), odd_lines(batch * planes * z_row)
    run = max(1, min(RUN, ceil_div(batch, TASKS)))
    # with few tiles, as many blocks as all threads can share
    rows = max(tall, min(4 * tall, ceil_div(channels * panels * a.kernel[0], TASKS))) if few and not alone else 4 * tall
    rows = ceil_div(channels, ceil_div(channels, rows))
    blocks = ceil_div(channels, rows) * panels * a.kernel[0]
    block = (rows + SPARE) * z_row
    m_step = odd_lines(block if few else blocks * block)
    at_box = whole_lines((c.n_w**2 + 1) * width)
    span = covered_size(c.n_w, c.m_w, min(run, c.tiles_w))
    box = max(a.slices * c.n_h * channels, planes * c.m_h * outputs) * span * itemsize + width
    at_back = at_box + (c.positions * m_step if few else 0)
    scratch = max(at_box + box, at_back + (rows * a.kernel[1] * a.kernel[2] + c.lanes) * z_row)
    return Layout(
        few, batch, run, columns, panels, rows, blocks, v_vector, odd_lines(in_vectors * v_vector), z_row, z_panel,
        odd_lines(panels * z_panel), block, m_step, at_box, at_back, whole_lines(scratch),
    )  # fmt: skip


def flops(geometry: ConvGeometry, n: int, itemsize: int) -> int:
    """Floating-point operations that would take as long, transforms included."""
    a, c = axes(geometry, n), cut(geometry, n, itemsize)
    if a is None or empty(geometry):
        return 0
    channels, planes, columns = geometry.per_group[0], a.planes_out, layout(geometry, n, itemsize).columns
    sums = planes * c.tiles + START
    products = a.kernel[0] * sums * c.vectors * (ceil_div(channels, REST) * REST) * NARROW[columns]
    forth = FORTH * c.tiles * (a.slices * ceil_div(channels, c.lanes) + planes * c.vectors)
    back = BACK * a.kernel[0] * channels * c.vectors
    return int(2 * c.lanes * c.positions * geometry.groups * (products + forth + back))


def _transform(
    geometry: ConvGeometry, a: Axes, c: Cut, at: Layout, of_x: bool, strides: Ints, dtype: np.dtype
) -> Words:
    """The words of the kernel that transforms x, or g."""
    channels = geometry.per_group[0 if of_x else 1]
    steps, extent = a.steps(strides), (c.n_h, c.n_w) if of_x else (c.m_h, c.m_w)
    images = image_table(a, geometry.batch, strides, strides).reshape(-1, 8)
    if not of_x:  # g is read where y is written, without padding
        images[:, 0], images[:, 2:4], images[:, 4:6] = images[:, 1], images[:, 6:8], 0
    row = c.lanes * dtype.itemsize if of_x else at.z_row
    in_place = strides[1] == dtype.itemsize and channels % c.lanes == 0
    values = {
        "transform": transform("inputs" if of_x else "slopes", a.kind, dtype.itemsize), "row": row,
        "jump": (at.v_vector if of_x else at.z_panel) - row,
        "step": at.v_step if of_x else at.z_step, "slices": a.slices if of_x else a.planes_out, "per": at.run,
        "packs": int(not in_place), "at_box": at.at_box, "scratch_step": at.scratch, "channels": channels,
        "x_c": strides[1], "x_d": steps[0], "x_h": steps[1], "x_w": steps[2],
        "in_d": a.planes_in if of_x else a.planes_out, "lo_d": a.plane_low if of_x else 0,
        "tiles_h": c.tiles_h, "tiles_w": c.tiles_w, "m_h": c.m_h, "m_w": c.m_w, "n_h": extent[0], "n_w": extent[1],
    }  # fmt: skip
    return Words(
        catalogue.kernel("winograd_grad", "tiles", f"f{dtype.itemsize}"), values, {"images": images.reshape(-1)}
    )


def _products(geometry: ConvGeometry, a: Axes, c: Cut, at: Layout, strides: Ints, dtype: np.dtype) -> Words:
    """The words of the kernel that multiplies and transforms back."""
    channels, outputs = geometry.per_group
    size = dtype.itemsize
    steps, width, taps, planes = a.pick(strides[2:]), c.lanes * size, a.kernel[1] * a.kernel[2], a.planes_out
    places = [sum(i * step for i, step in zip(tap, steps, strict=True)) for tap in np.ndindex(*a.kernel)]
    in_line = a.kernel[0] == 1 and strides[1] == taps * size and places == [i * size for i in range(taps)]
    chunk = min(at.batch, CHUNK)
    values = {
        "transform": transform("kernel", a.kind, size),
        "n_h": c.n_h, "n_w": c.n_w, "taps": a.kernel[0], "channels": channels, "per": at.rows,
        "blocks": ceil_div(channels, at.rows), "panels": at.panels, "columns": at.columns,
        "last_columns": c.vectors - at.columns * (at.panels - 1), "last_count": outputs - (c.vectors - 1) * c.lanes,
        "chunk": chunk, "depths": planes, "chunk_depths": max(1, CHUNK // chunk), "v_step": at.v_step,
        "v_tile": a.slices * width, "v_row": width, "tap_step": a.dilation[0], "stride_d": a.stride,
        "z_step": at.z_step, "z_tile": planes * at.z_row, "z_row": at.z_row, "z_panel": at.z_panel, "m_row": at.z_row,
        "m_step": at.m_step, "m_block": at.m_block, "w_o": strides[0], "w_c": strides[1], "plane_taps": taps,
        "run": int(in_line), "at_sums": at.at_box, "at_back": at.at_back, "scratch_step": at.scratch,
    }  # fmt: skip
    channel = np.minimum(np.arange(channels + SPARE, dtype=np.int64), channels - 1)
    tables = {
        "rows": channel // c.lanes * at.v_vector + channel % c.lanes * size,
        "sums_rows": np.arange(at.rows + SPARE, dtype=np.int64) * at.z_row,
        "depth_x": np.arange(planes, dtype=np.int64) * (a.stride * width),
        "depth_g": np.arange(planes, dtype=np.int64) * at.z_row,
        "tap_places": np.array(places, np.int64),
    }
    return Words(catalogue.kernel("winograd_grad", "outer", f"f{size}"), values, tables)


@lru_cache(maxsize=1024)
def _words(
    geometry: ConvGeometry, n: int, x_strides: Ints, g_strides: Ints, w_strides: Ints, dtype: np.dtype, batch: int
) -> tuple[Cut, Layout, tuple[Words, Words, Words]]:
    a, c, at = axes(geometry, n), cut(geometry, n, dtype.itemsize), layout(geometry, n, dtype.itemsize, batch)
    if a is None:
        raise ValueError(f"no axis to transform in {geometry}")
    of_x = _transform(geometry, a, c, at, True, x_strides, dtype)
    of_g = _transform(geometry, a, c, at, False, g_strides, dtype)
    return c, at, (of_x, of_g, _products(geometry, a, c, at, w_strides, dtype))


@lru_cache(maxsize=256)
def bind(
    geometry: ConvGeometry, n: int, x_strides: Ints, g_strides: Ints, w_strides: Ints, dtype: np.dtype, more: bool,
    workers: int,
) -> Chain | None:  # fmt: skip
    """What computes the gradient, or adds it to what is there, from x and g of these strides; None: there is none."""
    if empty(geometry):
        return None
    size, strides = dtype.itemsize, (x_strides, g_strides, w_strides)
    parts = shares(geometry, n, size, workers)
    if not parts:
        each = [_links(part, geometry, n, strides, dtype, more, workers) for part in whole(geometry)]
        return Chain([link for links, _ in each for link in links], each[0][1], workers)
    batch, chains, room = layout(geometry, n, size).batch, [], 0
    for bundle in _bundles(parts, workers):
        found = [_links(part, geometry, n, strides, dtype, more, 1, batch, room) for part in bundle]
        chains.append([link for links, _ in found for link in links])
        room += max(held for _, held in found)
    return Shares(chains, room, workers)


@dataclass(frozen=True)
class Part:
    """Some channels of a group, in and out: from which on, and how many."""

    group: int
    channel: int
    channels: int
    output: int
    outputs: int


def whole(geometry: ConvGeometry) -> list[Part]:
    """All of each group."""
    channels, outputs = geometry.per_group
    return [Part(group, 0, channels, 0, outputs) for group in range(geometry.groups)]


@lru_cache(maxsize=1024)
def shares(geometry: ConvGeometry, n: int, itemsize: int, workers: int) -> list[Part]:
    """Parts of which a thread transforms all that it multiplies, also what others transform; none where that takes longer.

    What one processor writes and another reads takes longer than to transform it again.
    """
    a, c = axes(geometry, n), cut(geometry, n, itemsize)
    if a is None or workers == 1 or 2 * geometry.macs > ALONE_FLOPS:
        return []
    (channels, outputs), columns = geometry.per_group, layout(geometry, n, itemsize).columns
    in_vectors, panels = ceil_div(channels, c.lanes), ceil_div(c.vectors, columns)
    of_x, of_g = c.tiles * a.slices * in_vectors, c.tiles * a.planes_out * c.vectors
    rest = a.kernel[0] * channels * c.vectors * (a.planes_out * c.tiles + START + BACK)
    handed = HANDED * (of_x / workers + of_g) * (workers - 1) / workers
    least = geometry.groups * (FORTH * (of_x + of_g) + rest) / workers + geometry.groups * handed
    best = None
    for deep, wide in product(range(1, min(workers, in_vectors) + 1), range(1, min(workers, panels) + 1)):
        share_x, share_g = ceil_div(in_vectors, deep) / in_vectors, ceil_div(panels, wide) / panels
        each = FORTH * (of_x * share_x + of_g * share_g) + rest * share_x * share_g
        takes = ceil_div(geometry.groups * deep * wide, workers) * each
        if takes < least:
            least, best = takes, (deep, wide)
    if best is None:
        return []
    (deep, wide), lanes = best, c.lanes

    def cuts(count: int, pieces: int, step: int, most: int) -> list[tuple[int, int]]:
        at = [min(most, count * i // pieces * step) for i in range(pieces + 1)]
        return [(begin, end - begin) for begin, end in pairwise(at)]

    rows, lanes_of = cuts(in_vectors, deep, lanes, channels), cuts(panels, wide, columns * lanes, outputs)
    return [Part(group, *row, *lane) for group in range(geometry.groups) for row in rows for lane in lanes_of]


def _bundles(parts: list[Part], workers: int) -> list[list[Part]]:
    """Parts that one thread computes one after the other, in the same scratch, which stays in its cache."""
    count = min(len(parts), BUNDLES * workers)
    return [parts[len(parts) * i // count : len(parts) * (i + 1) // count] for i in range(count)]


def _of(part: Part, geometry: ConvGeometry) -> ConvGeometry:
    """The problem of a part."""
    return replace(geometry, in_channels=part.channels, out_channels=part.outputs, groups=1)


def workspace(geometry: ConvGeometry, n: int, itemsize: int, workers: int) -> int:
    """Bytes of scratch on so many threads."""
    parts, at = shares(geometry, n, itemsize, workers), layout(geometry, n, itemsize)
    positions = cut(geometry, n, itemsize).positions
    if not parts:
        return sum(at.bytes(positions, workers))
    bundles = _bundles(parts, workers)
    held = [
        [layout(_of(part, geometry), n, itemsize, at.batch).bytes(positions, 1) for part in each] for each in bundles
    ]
    return sum(max(map(sum, each)) for each in held)


def _links(
    part: Part, geometry: ConvGeometry, n: int, strides: tuple[Ints, Ints, Ints], dtype: np.dtype, more: bool, workers: int,
    batch: int = 0, room: int = 0,
) -> tuple[list[Link], int]:  # fmt: skip
    """The launches of a part, and the scratch they need, which begins at `room`."""
    x_strides, g_strides, w_strides = strides
    channels, outputs = geometry.per_group
    one = _of(part, geometry)
    c, at, (of_x, of_g, outer) = _words(one, n, *strides, dtype, batch)
    sizes = at.bytes(c.positions, workers)
    data, slopes, sums, scratch = ((SCRATCH, room + sum(sizes[:i])) for i in range(4))
    flops, parts = float(2 * one.macs), 1 if at.few else c.positions
    xs = FIRST, (part.group * channels + part.channel) * x_strides[1]
    gs = SECOND, (part.group * outputs + part.output) * g_strides[1]
    dw = OUT, (part.group * outputs + part.output) * w_strides[0] + part.channel * w_strides[1]
    places = {"data": data, "slopes": slopes, "scratch": scratch, "dw": dw} | ({} if at.few else {"sums": sums})
    own = {"sums": 0} if at.few else {}  # a block's
    turn, links, adds = at.batch * max(1, ADDED // at.batch), [], int(more)
    for begin in range(0, c.tiles, at.batch):
        count = min(at.batch, c.tiles - begin)
        runs, some = ceil_div(count, at.run), {"begin": begin, "count": count}
        for words, of, to in ((of_x, xs, data), (of_g, gs, slopes)):
            links.append(Link(words, runs, flops / 4, {"x": of, "to": to, "scratch": scratch}, some))
        start = 2 if begin % turn else 0  # add to the sums of the batches before, or begin with zero
        how = {"multiplies": 1, "returns": int(at.few), "start": start, "count": count, "more": adds, **own}
        links.append(Link(outer, parts * at.blocks, flops, places, {"parts": parts, **how}))
        if not at.few and ((begin + at.batch) % turn == 0 or begin + at.batch >= c.tiles):
            how = {"multiplies": 0, "returns": 1, "start": 0, "count": 0, "more": adds}
            links.append(Link(outer, at.blocks, flops, places, {"parts": 1, **how}))
            adds = 1
    return links, whole_lines(sum(sizes))
