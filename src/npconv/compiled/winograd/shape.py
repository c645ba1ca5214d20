"""How a convolution is cut for the Winograd kernels: which axes are transformed, runs of tiles, panels, tasks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from ...geometry import ConvGeometry, Ints, ceil_div, covered_size, effective_kernel, interleaved, strided_parts, total
from ...records import dataclass
from .. import catalogue
from ..panels import CHUNK, FAR_CACHE, REST, SPARE, odd_lines, registers, tall_from, tile_rows, vector_bytes, widest

#: F(m, r). Transformed inputs n = m + r - 1 decide the transform of x.
FORMS = ((2, 3), (4, 3), (3, 2), (2, 5), (5, 2))
#: Dilations up to which outputs are taken apart into images of their own, and strides up to which inputs are.
MOST_DILATION, MOST_STRIDE = 16, 3
#: How much longer a vector multiplication takes in a narrower register tile, which loads more for each.
NARROW = {1: 1.35, 2: 1.08, 3: 1.0, 4: 1.0}
#: The same where the weights of one vector stay in registers; multiplications that last as long as putting a row in order
#: and back, where groups share it; and the most rows of such a tile, by the number of registers.
HELD, ORDERED, NARROW_ROWS = 1.1, 8, {32: 8, 16: 4}
#: Groups that may share a vector there.
BUNDLES = (1, 2, 4)
#: Vector multiplications that last as long as bringing in a vector of inputs to one position, and one of sums out, by the
#: inputs of a tile.
PASSES = {4: (8, 5), 6: (11, 8)}
#: Products summed before they are rounded: those of six points are larger than the sums that they stand for; and so many
#: rows of weights stay in the first-level cache beside those that come next.
LONGEST = CHUNK // 4
#: Output planes of a task where the depth has taps.
DEPTHS = 4
#: Bytes of transformed tiles and products that should stay in the second-level cache.
CACHE_BYTES = 700 << 10
#: Bytes of transformed weights that the last cache keeps from call to call.
LAST_BYTES = 12 << 20
#: Bytes of transformed weights that come in during one vector multiplication.
STREAM = 24
#: Runs of tiles up to which weights that serve one call are transformed where they are used, again for every run: what
#: is written at once and read soon never leaves the cache, nor goes from one processor's to another's. A second run
#: costs more than that saves, unless the other processor is far.
LATE_RUNS = 2 if FAR_CACHE else 1
#: Lengths of runs, in register tiles: with prepared weights, and with others.
LENGTHS, LATE_LENGTHS = (1, 2, 3, 4, 6, 8), (1, 2, 3, 4, 6, 8, 12, 16)
#: Bytes of such a piece in the widest panel, which stays in the second-level cache.
PIECE_BYTES = 448 << 10
#: Vector multiplications that last as long as transforming a vector of weights to one position.
TRANSFORM = 7
#: Of a task, how much longer the last thread works than the first.
UNEVEN = 0.05
#: Tasks below which a call is cut finer, so that all threads have work to the end.
TASKS = 8


def form(n: int, taps: int) -> int | None:
    """The number of the form that transforms `n` inputs for a kernel of `taps`."""
    return next((i for i, (m, r) in enumerate(FORMS) if r == taps and m + r - 1 == n), None)


def transform(of: str, kind: int, itemsize: int) -> int:
    """The address of the transform of "inputs", "slopes", "weights", a weight gradient's "kernel", or "outputs"."""
    m, r = FORMS[kind]
    name = f"{of}_{m + r - 1}" if of == "inputs" else f"{of}_{m}_{r}"
    return catalogue.kernel("winograd_forms", name, f"f{itemsize}").address


@dataclass(frozen=True)
class Axes:
    """A geometry along (depth, height, width); -1 stands for an axis that is not there.

    The width is transformed, the height too or has one tap, the depth has any number, summed directly. Dilated axes
    that are transformed come as several images: `height` and `width` list what `geometry.interleaved` says of each.
    Strided ones come in phases, which are summed (`geometry.strided_parts`): `height` and `width` have a list for each.
    """

    kind: int
    order: Ints
    kernel: Ints
    stride: int  # of the depth
    dilation: Ints
    planes_in: int
    planes_out: int
    plane_low: int
    slices: int  # input planes that all outputs read together
    apart: Ints  # inputs from one to the next of a phase
    taps: Ints  # that a form transforms, of height and width
    height: tuple[tuple[Ints, ...], ...]
    width: tuple[tuple[Ints, ...], ...]

    @property
    def phases(self) -> list[tuple[int, int, int, int]]:
        """The first tap and the number of taps of each, (h, w, taps of h, taps of w)."""
        _, s_h, s_w = self.apart
        _, k_h, k_w = self.kernel
        sides = itertools.product(range(len(self.height)), range(len(self.width)))
        return [(i, j, ceil_div(k_h - i, s_h), ceil_div(k_w - j, s_w)) for i, j in sides]

    @property
    def direct(self) -> int:
        """Products summed at a transformed position, per input channel: taps of the depth in each phase."""
        return self.kernel[0] * len(self.height) * len(self.width)

    def pick(self, values: Ints) -> Ints:
        """Steps of the spatial axes as (depth, height, width)."""
        return tuple(0 if i < 0 else values[i] for i in self.order)

    def steps(self, strides: Ints) -> Ints:
        """From one output of an image to the next, of an array with these strides."""
        depth, height, width = self.pick(strides[2:])
        return depth, height * self.dilation[1], width * self.dilation[2]

    def input_steps(self, strides: Ints) -> Ints:
        """From one input of a phase of an image to the next, of an array with these strides."""
        depth, height, width = self.steps(strides)
        return depth, height * self.apart[1], width * self.apart[2]


@lru_cache(maxsize=4096)
def axes(geometry: ConvGeometry, n: int) -> Axes | None:
    """The axes of a geometry that the kernels can compute with transforms of `n` inputs, or None."""
    sizes = list(zip(geometry.kernel, geometry.stride, geometry.dilation, strict=True))
    taps = [ceil_div(k, s) for k, s, _ in sizes]  # of the longest phase
    plain = [(s == 1 and d <= MOST_DILATION) or (s <= MOST_STRIDE and d == 1) for _, s, d in sizes]
    able = [i for i in range(geometry.rank) if plain[i] and form(n, taps[i]) is not None]
    if not able:
        return None
    width = able[-1]
    kind = form(n, taps[width]) or 0
    rest = [i for i in range(geometry.rank) if i != width]
    alike = [i for i in able[:-1] if taps[i] == taps[width]]
    flat = [i for i in rest if sizes[i][0] == sizes[i][1] == 1]
    height = (alike or flat or [-1])[-1]
    rest = [i for i in rest if i != height]
    if len(rest) > 1:
        return None
    order = (rest[0] if rest else -1, height, width)

    def along(values: Ints, missing: int) -> Ints:
        return tuple(missing if i < 0 else values[i] for i in order)

    def images(k: int, size: int, lo: int, d: int, s: int, out: int) -> tuple[tuple[Ints, ...], ...]:
        parts = [[(a, n, low, k, m) for a, n, low, m in interleaved(size, lo, d, out)]]
        if s > 1:
            parts = [[(*part, out)] for part in strided_parts(size, lo, k, s)]
        # a tile may overhang what the windows read, and must not see (nor round) what lies there
        return tuple(
            tuple((a, max(0, min(n, covered_size(t, 1, m) - low)), low, m) for a, n, low, t, m in phase)
            for phase in parts
        )

    kernel, inputs, outputs = along(geometry.kernel, 1), along(geometry.in_shape, 1), along(geometry.out_shape, 1)
    lows, stride = along(tuple(lo for lo, _ in geometry.padding), 0), along(geometry.stride, 1)
    dilation = tuple(d if k > 1 else 1 for d, k in zip(along(geometry.dilation, 1), kernel, strict=True))
    sides = [images(*values) for values in zip(kernel, inputs, lows, dilation, stride, outputs, strict=True)][1:]
    slices = covered_size(effective_kernel(kernel[0], dilation[0]), stride[0], outputs[0])
    planes = max(0, min(inputs[0], slices - lows[0]))
    transformed = tuple(ceil_div(k, s) for k, s in zip(kernel[1:], stride[1:], strict=True))
    return Axes(
        kind, order, kernel, stride[0], dilation, planes, outputs[0], lows[0], slices, (1, *stride[1:]), transformed,
        sides[0], sides[1],
    )  # fmt: skip


def image_table(a: Axes, batch: int, x_strides: Ints, y_strides: Ints) -> np.ndarray:
    """Eight words for each phase of each image: where it begins in x and in y, its input size, padding and output size."""
    (_, x_h, x_w), (_, y_h, y_w) = a.pick(x_strides[2:]), a.pick(y_strides[2:])
    each = [
        (i * x_h + j * x_w, p * y_h + q * y_w, in_h, in_w, lo_h, lo_w, out_h, out_w)
        for p in range(len(a.height[0]))
        for q in range(len(a.width[0]))
        for i, in_h, lo_h, out_h in (side[p] for side in a.height)
        for j, in_w, lo_w, out_w in (side[q] for side in a.width)
    ]
    table = np.tile(np.array(each, np.int64), (batch, 1, 1))
    table[..., 0] += np.arange(batch)[:, None] * x_strides[0]
    table[..., 1] += np.arange(batch)[:, None] * y_strides[0]
    return table.reshape(-1)


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
    slices: int  # input planes of a task, those of all phases
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
    piece: int  # input channels of one product, and so of the weights transformed at a time
    pieces: int
    v_piece: int
    bundle: int  # groups whose channels share a vector; 0: weights do not stay in registers
    served: int  # weights of an input and an output channel that are read, of all positions

    @property
    def positions(self) -> int:
        return self.n_h * self.n_w


def cut(geometry: ConvGeometry, n: int, itemsize: int, workers: int = 2, columns: int = 0, late: bool = False) -> Cut:
    """The cut that should take the least time; `columns` is the width of a panel, if that is settled already.

    With `late`, weights are transformed where they are used. The order of sums does not depend on `workers`.

    Raises
    ------
    ValueError
        If the kernels cannot compute this geometry.
    """
    found = cheapest(geometry, n, itemsize, workers, 0, late)
    return found if columns in (0, found.columns) else cheapest(geometry, n, itemsize, workers, columns, late)


@lru_cache(maxsize=4096)
def cheapest(geometry: ConvGeometry, n: int, itemsize: int, workers: int, columns: int, late: bool) -> Cut:
    """`cut`, of all widths of panels or one."""
    a = axes(geometry, n)
    if a is None:
        raise ValueError(f"no axis to transform in {geometry}")
    width = vector_bytes()
    lanes = width // itemsize
    m, r = FORMS[a.kind]
    m_h, n_h = (m, n) if a.taps[0] == r else (1, 1)
    tiles_h, tiles_w = (
        ceil_div(max((out for *_, out in side[0]), default=0), step) for side, step in ((a.height, m_h), (a.width, m))
    )
    tiles = max(1, geometry.batch * len(a.height[0]) * len(a.width[0]) * tiles_h * tiles_w)
    depths = ceil_div(a.planes_out, max(1, ceil_div(a.planes_out, DEPTHS if a.kernel[0] > 1 else 1))) or 1
    deep = ceil_div(a.planes_out, depths)
    slices = (a.slices - (a.planes_out - depths) * a.stride) * len(a.phases)
    c, bundle = max(1, geometry.per_group[0]), bundled(geometry, a, lanes)
    vectors = max(1, ceil_div(geometry.out_channels // geometry.groups, lanes))
    in_vectors = ceil_div(c, lanes)
    positions, blocks = n_h * n, geometry.groups // max(1, bundle) * max(1, deep)
    served = sum(map(len, position_taps(a, n_h, n)))
    taps = served / positions
    products, (forth, back) = taps * c, PASSES[n]

    most = min(LONGEST, max(lanes, PIECE_BYTES // (positions * widest() * width))) if late else LONGEST
    piece_vectors = ceil_div(in_vectors, ceil_div(c, most))
    pieces = ceil_div(in_vectors, piece_vectors)
    aside = ORDERED * (bundle > 1) if bundle else 4 * taps * pieces  # beginning and ending sums
    # from memory, threads in different runs fetch the same weights together, in parts of a run each fetches others
    apart = not late and positions * a.direct * c * vectors * width > LAST_BYTES

    def prices(columns: int) -> Iterator[tuple[float, tuple[int, int, int]]]:
        """Time of the longest thread in vector multiplications, roughly, by the tiles of a run and how many parts it has."""
        panels = ceil_div(vectors, columns)
        last = vectors - columns * (panels - 1)
        tall = tile_rows(columns)
        wide, wide_last = NARROW[columns] * columns * (panels - 1), NARROW[last] * last
        weights = served * c * max(1, bundle) * vectors * (TRANSFORM if late else width / STREAM)
        largest = {}  # of so many parts, as a share of all vectors
        for parts in {min(panels, 1 if workers == 1 else p) for p in (1, 2, 4, 8, 16)}:
            bounds = [min(vectors, columns * (panels * part // parts)) for part in range(parts + 1)]
            largest[parts] = max(stop - start for start, stop in itertools.pairwise(bounds)) / vectors
        lengths = {min(tiles, ceil_div(tall * i, depths)) for i in (LATE_LENGTHS if late else LENGTHS)}
        for i in (1, 2, 3):  # as many runs for every thread
            share = ceil_div(tiles, i * workers)
            if share * depths <= tall * (LATE_LENGTHS if late else LENGTHS)[-1]:
                lengths.add(share)
        for per in lengths:
            runs, rows = ceil_div(tiles, per), per * depths
            multiplied = HELD * rows if bundle else wide * _padded(rows, columns) + wide_last * _padded(rows, last)
            read = forth * positions * per * slices * in_vectors
            work = positions * multiplied * (products + aside) + back * positions * rows * vectors
            transformed = positions * per * slices * c * itemsize
            if transformed + positions * rows * columns * width > CACHE_BYTES:
                work += transformed * (1 + panels) / STREAM  # written, and read again for every panel
            filled = (1 + tiles / per / runs) / 2  # the last run may be short
            for parts, most_of in largest.items():
                rounds = ceil_div(blocks * runs * parts, workers) + (UNEVEN if workers > 1 else 0)
                fetched = weights * (min(workers, runs) if apart and parts > 1 else 1)
                yield rounds * (read + (work + fetched) * most_of) * filled, (columns, per, parts)

    widths = {columns} if columns else {ceil_div(vectors, ceil_div(vectors, wide)) for wide in range(1, widest() + 1)}
    time, (columns, per, parts) = min(found for wide in widths for found in prices(wide))
    panels = ceil_div(vectors, columns)
    v_row, m_row = piece_vectors * width, columns * width
    v_piece = odd_lines(per * slices * v_row)
    return Cut(
        n_h, n, m_h, m, tiles_h, tiles_w, tiles, ceil_div(tiles, per), per, depths, slices, deep, lanes, vectors,
        columns, panels, vectors - columns * (panels - 1), parts, workers * time, v_row, odd_lines(pieces * v_piece),
        m_row, odd_lines((per * depths + SPARE) * m_row), piece_vectors * lanes, pieces, v_piece, bundle,
        served,
    )  # fmt: skip


def bundled(geometry: ConvGeometry, a: Axes, lanes: int) -> int:
    """How many groups share a vector where the weights of a position stay in registers, or 0."""
    channels, outputs = geometry.per_group
    if a.direct > 1 or registers(vector_bytes()) not in NARROW_ROWS:
        return 0
    if channels == lanes and outputs <= lanes:
        return 1
    q = lanes // max(1, channels)
    fits = channels == outputs > 1 and channels * q == lanes and geometry.groups % q == 0
    return q if fits and q in BUNDLES else 0


def position_taps(a: Axes, n_h: int, n_w: int) -> list[list[int]]:
    """Which of the directly summed taps meet weights other than zero, for each transformed position.

    Taps are numbered phase by phase. The last position of an axis sees the last tap of a form alone.
    """
    full = [(h == a.taps[0], w == a.taps[1]) for _, _, h, w in a.phases]
    ends = [(1 < n_h == i + 1, n_w == j + 1) for i in range(n_h) for j in range(n_w)]
    return [
        [
            f * a.kernel[0] + d
            for f, (h, w) in enumerate(full)
            if h >= last_h and w >= last_w
            for d in range(a.kernel[0])
        ]
        for last_h, last_w in ends
    ]


def _padded(rows: int, columns: int) -> int:
    """The rows that register tiles of so many vectors compute to cover `rows`."""
    tall = tile_rows(columns)
    left = rows % tall
    return rows - left + (tall if left >= tall_from(columns, tall) else ceil_div(left, REST) * REST)


@lru_cache(maxsize=4096)
def late(geometry: ConvGeometry, n: int, itemsize: int) -> bool:
    """Whether weights that serve one call are better transformed where they are used."""
    c, a = cut(geometry, n, itemsize), axes(geometry, n)
    # phases fetch one weight after the other
    again = LATE_RUNS if a is None or len(a.phases) == 1 else min(1, LATE_RUNS)
    most = ceil_div(tile_rows(1) * LATE_LENGTHS[-1], c.depths)  # tiles of a run, whatever its width
    if ceil_div(c.tiles, most) * c.deep > again:
        return False
    c = cut(geometry, n, itemsize, late=True)
    return c.runs * c.deep <= again


def empty(geometry: ConvGeometry) -> bool:
    """Whether there is nothing to compute."""
    return not total(geometry.y_shape) or not total(geometry.w_shape)
