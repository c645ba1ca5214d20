"""How a call of the pixelwise kernels is cut into boxes, and the words it passes; no Numba here."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise, product

import numpy as np

from ...geometry import ConvGeometry, Ints, ceil_div, three_axes, total
from ...records import dataclass
from .. import catalogue
from ..bringing import Bringing
from ..calls import Launch, Words
from ..panels import CHUNK, LINE, odd_lines, vector_bytes, whole_lines
from .sizes import REST, TAIL

#: Bytes of the planes of a box, and of its results, which should stay in the second-level cache.
BOX_BYTES = 256 << 10
#: Tasks for each thread, so that all have work to the end, and floating-point operations below which one is not worth a claim.
TASKS, TASK_FLOPS = 4, 200_000
#: Columns that a box has at least, where the image is so wide: memory is read and written in long runs.
LEAST_COLUMNS = 512
#: Lanes of a box from which on weights are brought in order for each anew rather than in a launch of their own.
FRESH_LANES = 512
#: Channels that are brought from and to their places together, at most.
BUNDLE = 16
#: How much longer a product takes in a tile of 1, 2, 3, 4 outputs, which loads more for each.
NARROW = (2.0, 1.3, 1.1, 1.0)


class Axes:
    """The axes of a geometry as (depth, height, width), and how its inputs are taken apart into planes.

    Of the inputs of a box those that are `stride` apart make a plane; a tap reads one of them, some rows and columns on.
    """

    def __init__(self, geometry: ConvGeometry) -> None:
        self.ins, self.outs = three_axes(geometry.in_shape, 1), three_axes(geometry.out_shape, 1)
        self.kernel = three_axes(geometry.kernel, 1)
        # a step is taken only where there is a second window or tap; so huge ones cannot overflow
        moves = zip(three_axes(geometry.stride, 1), self.outs, strict=True)
        self.moves = tuple(s if m > 1 else 1 for s, m in moves)
        self.fars = tuple(d if k > 1 else 1 for d, k in zip(three_axes(geometry.dilation, 1), self.kernel, strict=True))
        self.lows = three_axes(tuple(lo for lo, _ in geometry.padding), 0)
        (_, s_h, s_w), (f_d, f_h, f_w) = self.moves, self.fars
        taps = [(d * f_d, h * f_h, w * f_w) for d, h, w in product(*map(range, self.kernel))]
        self.parts = list(dict.fromkeys((d, h % s_h, w % s_w) for d, h, w in taps))
        self.reads = [(self.parts.index((d, h % s_h, w % s_w)), h // s_h, w // s_w) for d, h, w in taps]
        self.more_rows = max(row for _, row, _ in self.reads)
        self.more_columns = max(column for _, _, column in self.reads)


@dataclass(frozen=True)
class Cut:
    """The boxes of a call, and what each holds."""

    box: Ints  # rows and columns of outputs
    boxes: Ints
    rows: int  # of a plane
    pitch: int  # elements from row to row
    vectors: int  # of pixels, those between rows too
    blocks: int  # of up to four outputs

    @property
    def tasks(self) -> int:
        """Of one plane of outputs of one group."""
        return total(self.boxes)


def bundled(geometry: ConvGeometry) -> int:
    """How many groups a task has whose channels lie side by side: they are read, and written, by whole vectors."""
    most = max(1, BUNDLE // max(1, *geometry.per_group))
    return max(n for n in range(1, most + 1) if geometry.groups % n == 0)


@lru_cache(maxsize=4096)
def cut(geometry: ConvGeometry, itemsize: int, workers: int, bundle: int = 1) -> Cut:
    """Boxes of whole rows where these fit the cache, and enough of them for all threads; a box of `bundle` groups."""
    axes, (channels, outputs) = Axes(geometry), (bundle * many for many in geometry.per_group)
    _, height, width = axes.outs
    lanes, planes = vector_bytes() // itemsize, len(axes.parts)

    def held(rows: int, columns: int) -> int:
        pitch = columns + axes.more_columns
        inputs = channels * planes * (rows + axes.more_rows) * pitch
        return itemsize * max(inputs, outputs * rows * pitch)

    def most_rows(columns: int) -> int:
        """Rows of a box so wide that fit."""
        least, one_more = held(1, columns), held(2, columns) - held(1, columns)
        return min(height, max(1, 1 + (BOX_BYTES - least) // max(1, one_more)))

    def read(columns: int) -> float:
        """Inputs that a box so wide reads, and pixels that it computes, for each output."""
        rows = most_rows(columns)
        return (1 + axes.more_rows / rows) * (1 + axes.more_columns / columns)

    widths = [ceil_div(width, n) for n in (1, 2, 4, 8, 16, 32) if n == 1 or width // n >= LEAST_COLUMNS]
    fitting = [columns for columns in widths if held(1, columns) <= BOX_BYTES]
    columns = min(fitting or widths[-1:], key=read)
    others = geometry.batch * geometry.groups // bundle * axes.outs[0]
    wanted = 1 if workers == 1 else min(workers * TASKS, ceil_div(2 * geometry.macs, TASK_FLOPS))
    boxes_w = ceil_div(width, columns)
    if boxes_w < ceil_div(wanted, others * height):  # too few rows for all threads, as of a signal
        boxes_w = max(boxes_w, min(ceil_div(wanted, others * height), width // LEAST_COLUMNS))
    columns = ceil_div(width, boxes_w)
    boxes_w = ceil_div(width, columns)
    wanted = min(height, ceil_div(wanted, others * boxes_w))
    rows = ceil_div(height, max(wanted, ceil_div(height, most_rows(columns))))
    pitch = columns + axes.more_columns
    return Cut(
        (rows, columns), (ceil_div(height, rows), boxes_w), rows + axes.more_rows, pitch,
        ceil_div((rows - 1) * pitch + columns, lanes), ceil_div(geometry.per_group[1], len(NARROW)),
    )  # fmt: skip


def _w_offsets(geometry: ConvGeometry, tap_steps: Ints) -> np.ndarray:
    """Where each tap lies."""
    places = product(*map(range, geometry.kernel))
    return np.array([sum(t * s for t, s in zip(at, tap_steps, strict=True)) for at in places], np.int64)


@lru_cache(maxsize=4096)
def packing_of(geometry: ConvGeometry, steps: Ints, dtype: np.dtype) -> Bringing:
    """The packing of weights whose steps are `weight_steps`, a block for each group."""
    (channels, outputs), (step_g, step_o, step_c, *taps) = geometry.per_group, steps
    values = {
        "step_g": step_g, "step_o": step_o, "step_c": step_c, "outputs": outputs, "channels": channels,
        "taps": geometry.taps, "blocks": ceil_div(outputs, len(NARROW)),
    }  # fmt: skip
    arrays = {"w_offsets": _w_offsets(geometry, tuple(taps))}
    words = Words(catalogue.kernel("pixelwise", "prepare", f"f{dtype.itemsize}"), values, arrays)
    return Bringing(words, geometry.groups, total(geometry.w_shape))


def borrows(geometry: ConvGeometry, itemsize: int, workers: int) -> bool:
    """Whether each box brings the weights of a call in order for itself."""
    return cut(geometry, itemsize, workers).vectors * (vector_bytes() // itemsize) >= FRESH_LANES


@lru_cache(maxsize=4096)
def plan(
    geometry: ConvGeometry, x_strides: Ints, y_strides: Ints, steps: Ints | None, dtype: np.dtype, workers: int
) -> Launch | None:
    """The launch that computes `geometry`; None where there is nothing to compute.

    With `steps`, their `weight_steps`, weights are as the caller has them, and each box brings them in order.
    """
    if not total(geometry.y_shape):
        return None
    size, axes, (channels, outputs) = dtype.itemsize, Axes(geometry), geometry.per_group
    bundle = bundled(geometry) if size in (x_strides[1], y_strides[1]) else 1
    c = cut(geometry, size, workers, bundle)
    width = vector_bytes()
    plane = c.rows * c.pitch * size
    x_c = odd_lines(len(axes.parts) * plane)
    y_o = odd_lines((c.vectors + REST) * width)
    at_out = whole_lines(bundle * channels * x_c + TAIL * width)
    at_weights = at_out + bundle * outputs * y_o
    step_g, step_o, step_c, *tap_steps = steps or (0,) * (3 + geometry.rank)
    chunk_taps = min(geometry.taps, CHUNK)
    chunk_channels = CHUNK // chunk_taps if chunk_taps == geometry.taps else 1
    triples = {
        "in": axes.ins, "out": axes.outs, "lo": axes.lows, "stride": axes.moves, "step": three_axes(x_strides[2:], 0),
        "y_step": three_axes(y_strides[2:], 0),
    }  # fmt: skip
    values = {
        "groups": geometry.groups, "bundle": bundle,
        "channels": channels, "outputs": outputs, "blocks": c.blocks, "taps": geometry.taps,
        "chunk_taps": chunk_taps, "chunk_channels": chunk_channels, "batch_step": x_strides[0], "step_c": x_strides[1],
        "y_batch_step": y_strides[0], "step_o": y_strides[1], "boxes_h": c.boxes[0], "boxes_w": c.boxes[1],
        "box_h": c.box[0], "box_w": c.box[1], "pitch": c.pitch, "rows": c.rows, "plane": plane,
        "count": len(axes.parts), "x_c": x_c, "y_o": y_o, "at_out": at_out, "fresh": int(steps is not None),
        "w_step_g": step_g, "w_step_o": step_o, "w_step_c": step_c, "at_weights": at_weights,
        "scratch_step": whole_lines(at_weights + (channels * outputs * geometry.taps * size if steps else 0)) + LINE,
        **{f"{name}_{axis}": n for name, three in triples.items() for axis, n in zip("dhw", three, strict=True)},
    }  # fmt: skip
    offsets = [part * plane + (row * c.pitch + column) * size for part, row, column in axes.reads]
    arrays = {
        "parts": np.array(axes.parts, np.int64).reshape(-1),
        "offsets": np.array(offsets, np.int64),
        "zeros": np.zeros(8, np.int64),
        "w_offsets": _w_offsets(geometry, tuple(tap_steps)),
    }
    words = Words(catalogue.kernel("pixelwise", "forward", f"f{size}"), values, arrays)
    blocks = geometry.batch * geometry.groups // bundle * axes.outs[0] * c.tasks
    return Launch(words, blocks, flops(geometry, size, workers), values["scratch_step"])


def flops(geometry: ConvGeometry, itemsize: int, workers: int) -> int:
    """Floating-point operations of all lanes, in products of the widest tile."""
    c, outputs = cut(geometry, itemsize, workers), geometry.per_group[1]
    at = [outputs * i // c.blocks for i in range(c.blocks + 1)]
    each = sum((stop - start) * NARROW[stop - start - 1] for start, stop in pairwise(at))
    tasks = moves(geometry, itemsize, workers)[0]
    return int(2 * tasks * c.vectors * (vector_bytes() // itemsize) * each * geometry.terms)


def moves(geometry: ConvGeometry, itemsize: int, workers: int) -> tuple[int, int, int]:
    """Tasks, the rows that they pack and write, and the elements that they pack."""
    c, axes, (channels, outputs) = cut(geometry, itemsize, workers), Axes(geometry), geometry.per_group
    tasks = geometry.batch * geometry.groups * axes.outs[0] * c.tasks
    packed = tasks * channels * len(axes.parts) * c.rows
    return tasks, packed + tasks * outputs * c.box[0], packed * c.pitch


def workspace(geometry: ConvGeometry, itemsize: int, workers: int) -> int:
    """Bytes of planes, results and weights, roughly."""
    axes, (channels, outputs), held = Axes(geometry), geometry.per_group, 0
    for bundle in {1, bundled(geometry)}:  # which of them, the memory layout decides
        c = cut(geometry, itemsize, workers, bundle)
        planes = bundle * channels * (len(axes.parts) * c.rows * c.pitch * itemsize + 2 * LINE)
        results = bundle * outputs * ((c.vectors + REST + TAIL) * vector_bytes() + 2 * LINE)
        held = max(held, planes + results)
    return workers * (held + 8 * LINE) + (workers + 1) * total(geometry.w_shape) * itemsize
