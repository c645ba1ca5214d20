"""Which operand of a weight gradient gives the rows and which the lanes, and the tables that say so to the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from operator import mul

import numpy as np

from ...geometry import ConvGeometry, Ints, ceil_div, covered_size, three_axes, total
from ...records import dataclass
from ..panels import REST, SUMMED, Panels, collide, tall_from, tile_rows
from ..panels import panels as lay
from .layout import Laid, Source, flat_operand, lanes_operand, rows_operand

#: What it costs, in floating-point operations, to pack an element; and to add a sum to the gradient where lanes, where
#: rows, where neither lie next to each other.
PACK_PRICE, PRICES = 35, (15, 50, 300)
#: A panel of this many bytes takes twice the time to read where it is a part of longer runs; a wider one takes less more.
FAR_BYTES = 16
#: How much longer a product takes in panels of one vector, which loads more for each; and where rows of a panel are a power
#: of two apart, so that more of their lines meet in a set of the first-level cache than its ways; as shares.
NARROW, COLLIDING = 0.3, 0.15
#: Vector multiplications after which the sum of the first is ready to be added to.
LATENCY = 4
#: An inner run of pixels below which a longer axis is better.
SHORT = 6


@dataclass(frozen=True)
class Arrangement:
    """One way to compute the gradient. Rows are sorted by where their sums go: `places` and `offsets` side by side.

    Taps that are not rows, in `swapped` form, shift the operand of the lanes: `taps` has (place, offset, offset in the
    last panel). Those along the width are lanes too where x and the gradient have channels innermost: the channels of
    neighbouring pixels follow each other.
    """

    swapped: bool
    run: int  # taps along the width whose channels are lanes
    panels: Panels
    work: int
    a: Laid
    b: Laid
    x_begin: int
    places: np.ndarray
    offsets: np.ndarray
    taps: np.ndarray
    step_lane: int
    walk: Walk
    price: int


def arrange(
    geometry: ConvGeometry, x_strides: Ints, g_strides: Ints, out_strides: Ints, dtype: np.dtype
) -> Arrangement:
    """The cheapest: rows (channel of x, tap) and lanes of g, or rows of g and lanes of x; those in place or packed."""
    ways = [(swapped, copied, 1) for swapped, copied in product((False, True), repeat=2)]
    if _in_runs(geometry, x_strides, out_strides, dtype.itemsize):
        ways.append((True, True, geometry.kernel[-1]))
    found = [_arranged(geometry, x_strides, g_strides, out_strides, dtype, *way) for way in ways]
    return min(found, key=lambda one: one.price)


def _in_runs(geometry: ConvGeometry, x_strides: Ints, out_strides: Ints, size: int) -> bool:
    """Whether all channels that the taps along the width read lie side by side, and the gradient too."""
    if geometry.groups > 1 or not geometry.rank or geometry.kernel[-1] == 1 or geometry.dilation[-1] > 1:
        return False
    c = geometry.in_channels
    return x_strides[-1] == c * size and (c == 1 or (x_strides[1] == size and out_strides[-1] == c * out_strides[1]))


def _arranged(
    geometry: ConvGeometry,
    x_strides: Ints,
    g_strides: Ints,
    out_strides: Ints,
    dtype: np.dtype,
    swapped: bool,
    copied: bool,
    run: int,
) -> Arrangement:
    size = dtype.itemsize
    x, g, stride, taps, begin = _sources(geometry, x_strides, g_strides, size)
    panels, _, work = shape(geometry, dtype, swapped, run)
    a = rows_operand(g if swapped else x)
    b = lanes_operand(x if swapped else g, panels, copied)
    if run > 1:
        b = flat_operand(x, panels.columns * panels.lanes * size)
    step_o, step_c, *step_t = out_strides
    places = np.array([sum(map(mul, at, step_t)) for at in np.ndindex(*geometry.kernel)][::run], np.int64)
    moved = (b if swapped else a).steps[1:], (b if swapped else a).last_steps[1:]
    reach = np.array(taps[::run], np.int64) @ np.array(moved, np.int64).T  # (tap, panels but the last or the last)
    if swapped:
        row_places = np.arange(g.channels, dtype=np.int64) * step_o
        row_offsets = np.array([a.channel(i, size) for i in range(g.channels)], np.int64)
        table, step_lane = np.column_stack([places, reach]), step_c if run == 1 else step_t[-1] // x.channels
    else:
        row_places = np.add.outer(np.arange(x.channels, dtype=np.int64) * step_c, places).reshape(-1)
        channels = np.array([a.channel(i, size) for i in range(x.channels)], np.int64)
        row_offsets = np.add.outer(channels, reach[:, 0]).reshape(-1)
        table, step_lane = np.zeros((1, 3), np.int64), step_o
    order = np.argsort(row_places, kind="stable")
    row_places, row_offsets = row_places[order], row_offsets[order]
    once = (1, 1, 1)
    of_a, of_b = (once, stride) if swapped else (stride, once)
    walked = ((a.steps, of_a), (b.steps, of_b), (b.last_steps, of_b))
    walk = _walk(
        (geometry.batch, *three_axes(geometry.out_shape, 1)),
        *((steps[0], *(s * step for s, step in zip(scale, steps[1:], strict=True))) for steps, scale in walked),
    )
    joined = float(np.mean(np.diff(row_places) == size)) if len(row_places) > 1 else 0.0
    kind = 0 if step_lane == size else 1 if joined > 0.9 else 2  # lanes, rows or nothing in one piece
    price = work + PACK_PRICE * (a.bytes + b.bytes) // size + PRICES[kind] * total(geometry.w_shape)
    pitch = panels.columns * panels.lanes * size
    if b.steps[-1] > pitch:  # runs of which only a part is read: cache lines and pages come for little
        price += work * FAR_BYTES // pitch
        if collide(SUMMED, b.steps[-1], pitch):
            price += int(COLLIDING * work)
    if panels.columns == 1:
        price += int(NARROW * work)
    return Arrangement(swapped, run, panels, work, a, b, begin, row_places, row_offsets, table, step_lane, walk, price)


def shape(geometry: ConvGeometry, dtype: np.dtype, swapped: bool, run: int = 1) -> tuple[Panels, int, int]:
    """The panels, the rows of one panel, and the arithmetic with what is wasted; of `run` taps the channels are lanes."""
    c, o = geometry.per_group
    rows, columns, repeats = (o, c * run, geometry.taps // run) if swapped else (c * geometry.taps, o, 1)
    panels = lay(columns, dtype.itemsize)
    work = (panels.count - 1) * _tiles(rows, panels.columns) + _tiles(rows, panels.last)
    pixels = total(geometry.out_shape) * geometry.batch
    return panels, rows, 2 * panels.lanes * work * repeats * pixels * geometry.groups


def _tiles(rows: int, columns: int) -> int:
    """Vector multiplications that take as long as the register tiles of one panel."""
    tall = tile_rows(columns)
    left = rows % tall
    short = tall * columns if left >= tall_from(columns, tall) else ceil_div(left, REST) * max(REST * columns, LATENCY)
    return rows // tall * tall * columns + short


def _sources(
    geometry: ConvGeometry, x_strides: Ints, g_strides: Ints, size: int
) -> tuple[Source, Source, Ints, tuple[Ints, ...], int]:
    """x and g, the strides, the positions of the taps, and where x begins.

    Where all is there, an axis of one tap needs only the pixels that it reads.
    """
    inputs, outputs = list(three_axes(geometry.in_shape, 1)), three_axes(geometry.out_shape, 1)
    stride, effective, kernel = (
        list(three_axes(values, 1)) for values in (geometry.stride, geometry.effective, geometry.kernel)
    )
    lows = list(three_axes(tuple(lo for lo, _ in geometry.padding), 0))
    box = [covered_size(e, s, m) for e, s, m in zip(effective, stride, outputs, strict=True)]
    steps, begin = list(three_axes(x_strides[2:], 0)), 0
    if all(lo <= 0 and b - lo <= n for lo, b, n in zip(lows, box, inputs, strict=True)):
        for i in range(3):
            if kernel[i] == 1:
                begin -= lows[i] * steps[i]
                steps[i] *= stride[i]
                inputs[i] = box[i] = outputs[i]
                lows[i], stride[i] = 0, 1
    group, n = geometry.groups, geometry.batch
    c, o = geometry.in_channels // group, geometry.out_channels // group
    x = Source(size, n, c, group, x_strides[0], x_strides[1], tuple(steps), tuple(inputs), tuple(lows), tuple(box))
    g = Source(size, n, o, group, g_strides[0], g_strides[1], three_axes(g_strides[2:], 0), outputs, (0, 0, 0), outputs)
    ranges = (range(0, e, d) for e, d in zip(effective, three_axes(geometry.dilation, 1), strict=True))
    return x, g, tuple(stride), tuple(product(*ranges)), begin


@dataclass(frozen=True)
class Walk:
    """The way over all pixels: offsets of runs in each operand, the steps inside a run, and which runs are one sum.

    `steps` has a row (first run, how many, how long) for each call of the micro-kernel. The sums and their order follow
    from the sizes alone, so that the same numbers in another memory layout give the same bits.
    """

    offsets: tuple[np.ndarray, ...]
    inner: Ints
    steps: np.ndarray


def _walk(sizes: Ints, *operands: Ints) -> Walk:
    """A sum is a run along one axis and all of the axes inside it; in memory these are as few runs as may be."""
    order = _order(sizes)
    axes: list[Ints] = [(sizes[i], *(steps[i] for steps in operands)) for i in order]
    cut, run = _sum([sizes[i] for i in order])
    outer, length, unit = axes[:cut], axes[cut][0], total([axis[0] for axis in axes[cut + 1 :]])
    folded = _folded(axes[cut:])
    depth, *inner = folded[-1]
    counts = [min(run, length - first) for first in range(0, length, run)]
    firsts: list[Ints]
    if len(folded) == 1:
        firsts = [(len(counts), *(run * unit * step for step in inner))]
        shapes = [(1, count * unit) for count in counts]
    else:
        firsts = folded[:-1]
        each = total([axis[0] for axis in firsts]) // length
        shapes = [(count * each, depth) for count in counts]
    grid = np.indices([axis[0] for axis in (*outer, *firsts)], np.int64).reshape(len(outer) + len(firsts), -1)
    offsets = tuple(np.array([axis[1 + i] for axis in (*outer, *firsts)], np.int64) @ grid for i in range(len(inner)))
    shapes *= total([axis[0] for axis in outer])
    many = np.array(shapes, np.int64)
    return Walk(offsets, tuple(inner), np.column_stack([np.cumsum(many[:, 0]) - many[:, 0], many]))


def _order(sizes: Ints) -> list[int]:
    """The axes from the outermost; the last one is the inner one unless it is very short."""
    order = [i for i, size in enumerate(sizes) if size > 1] or [len(sizes) - 1]
    if sizes[order[-1]] < SHORT:
        order.append(order.pop(max(range(len(order)), key=lambda i: (sizes[order[i]], i))))
    return order


def _sum(sizes: Sequence[int]) -> tuple[int, int]:
    """Along which axis a sum runs, over all of the axes inside, and over how many positions of it."""
    cut = len(sizes) - 1
    while cut and total(sizes[cut:]) <= SUMMED:
        cut -= 1
    return cut, ceil_div(sizes[cut], ceil_div(sizes[cut], SUMMED // total(sizes[cut + 1 :])))


def sums(geometry: ConvGeometry) -> int:
    """How many sums of up to `SUMMED` products every weight is added up from."""
    sizes = (geometry.batch, *geometry.out_shape)
    inner = [sizes[i] for i in _order(sizes)]
    cut, run = _sum(inner)
    return total(inner[:cut]) * ceil_div(inner[cut], run)


def _folded(axes: list[Ints]) -> list[Ints]:
    """Axes that follow each other in the memory of all operands as one."""
    found = axes[:1]
    for size, *steps in axes[1:]:
        before, *wide = found[-1]
        if all(far == size * near for far, near in zip(wide, steps, strict=True)):
            found[-1] = (before * size, *steps)
        else:
            found.append((size, *steps))
    return found
