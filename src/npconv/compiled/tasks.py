"""How a blocked convolution is cut: tasks for threads, chunks of products, and the tables that address both."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from ..geometry import Ints, ceil_div, covered_size, total
from .panels import CACHE_BYTES, FAR_CACHE, SPARE, SUMMED, Panels, tile_rows, vector_bytes

#: Bytes of one packed box: it should stay in the second-level cache with a panel of weights. Every box reads the weights
#: again: where they come from afar, it may fill most of that cache together with its outputs.
BOX_BYTES, FULL_BYTES = 192 << 10, CACHE_BYTES * 3 // 4 if FAR_CACHE else 0
#: Bytes of the outputs of a box whose sums have no more than so many products: they are written faster than they come into
#: the cache, and each panel writes pieces of them.
WRITTEN_BYTES, SHORT = CACHE_BYTES * 3 // 16, 32
#: How much larger they are where each brings the weights in order for itself.
FRESH_BOXES = 2 if FAR_CACHE else 4
#: Bytes of weights that the last cache holds: more come from memory once for every box, which had better be large.
WEIGHT_BYTES = 16 << 20
#: Tasks for each thread from which on it does not matter how they are cut; and how much longer the last thread may work.
MANY, UNEVEN = 16, 1.1
#: Outputs of a box along each axis, at least.
LEAST = ((0, 1), (1, 1), (2, 28))
#: What beginning a task costs, in panels of a box; what reading the weights once more costs, as a share of the time; and
#: how much longer than with tasks without end it may take.
TASK_PANELS, CUT_SHARE, LEVEL = 0.02, 0.04, 1.03
#: Pixels below which a box is not made smaller for the sake of more tasks, and above which it pays to bring weights in
#: order for a box of its own: threads that write parts of the same pixels take lines from each other.
FEW_PIXELS, BRINGING_PIXELS = 56, 512
#: Products up to which a sum is not cut: a first-level cache just holds so many rows of columns.
UNCUT = SUMMED * 3 // 2
#: Taps up to which a chunk of products runs over all of them, and channels from which on it runs over all of these first:
#: then the loop over them is long.
MOST_TAPS, MANY_CHANNELS = 32, 64


def merged(sizes: Ints, x_steps: Ints, y_steps: Ints) -> tuple[list[int], list[int], list[int]]:
    """Fold axes that follow each other in memory, in x and in y, into the last: fewer and longer runs of pixels."""
    sizes, x_steps, y_steps = list(sizes), list(x_steps), list(y_steps)  # type: ignore[assignment]
    for i in (2, 1, 0):
        j = 3
        if x_steps[i] == sizes[j] * x_steps[j] and y_steps[i] == sizes[j] * y_steps[j]:
            sizes[j] *= sizes[i]  # type: ignore[index]
            sizes[i] = 1  # type: ignore[index]
        elif sizes[i] != 1:
            break
    return list(sizes), list(x_steps), list(y_steps)


def chunks(kernel: Ints, dilation: Ints, channels: int) -> tuple[int, int, int]:
    """(taps that count as one, taps and depth of a chunk of products).

    The taps of a row of the kernel lie side by side in x unless it is dilated; with few channels the loop over one is short.
    """
    taps, row = total(kernel), kernel[-1]
    most = SUMMED if taps * channels > UNCUT else UNCUT
    if channels >= MANY_CHANNELS:
        depth = ceil_div(channels, ceil_div(channels, most))
        many = ceil_div(taps, ceil_div(taps, most // depth))
    elif taps <= MOST_TAPS:
        many, depth = taps, ceil_div(channels, ceil_div(channels * taps, most // taps * taps))
    else:
        depth = min(channels, 16)
        many = most // depth
    if dilation[-1] == 1 and row * channels <= most:
        rows = taps // row
        count = ceil_div(rows, most // (row * channels))
        if count <= ceil_div(taps, many) * ceil_div(channels, depth):
            return row, ceil_div(rows, count), row * channels
    return 1, many, depth


def split(
    outputs: Ints, effective: Ints, stride: Ints, taps: int, pixel: int, images: int, p: Panels, packs: bool, staged: int,
    fresh: bool, workers: int, costs: Ints = (),
) -> tuple[Ints, int, int]:  # fmt: skip
    """(outputs of a box along each axis, parts of its panels, cuts of its pixels): whole rows where they fit.

    `images` boxes there are at least; a pixel of x has `pixel` bytes, and one of y, if it goes to scratch, `staged`.
    Whoever brings weights in order as he goes (`fresh`) does so again for every box: of few pixels, panels are shared out
    first.
    Panels take the same time, or `costs`: then a part is not a run of them but one of `evenly`.
    """
    most, panel = BOX_BYTES * (1 if packs else 2) * (FRESH_BOXES if fresh else 1), p.columns * p.lanes * taps * pixel
    if panel * p.count > WEIGHT_BYTES:
        most = max(most, panel)
    again = fresh and total(outputs) < BRINGING_PIXELS * workers  # bringing weights in order again would take long
    short = not staged and taps * pixel * p.lanes <= SHORT * vector_bytes()
    boxes, tasks_of_a_box = list(outputs), images * (p.count if again else 1)

    def held(shape: list[int]) -> int:
        """Bytes of x that a box reads, or of y that it keeps."""
        covered = total([covered_size(e, s, b) for e, s, b in zip(effective, stride, shape, strict=True)])
        return max(pixel * (covered if packs else min(covered, total(shape) * taps)), staged * total(shape))

    def large(shape: list[int]) -> bool:
        bytes_of_x, bytes_of_y = held(shape), total(shape) * p.vectors * vector_bytes()
        return (bytes_of_x > most and bytes_of_x + bytes_of_y > FULL_BYTES) or (short and bytes_of_y > WRITTEN_BYTES)

    def count(shape: list[int]) -> int:
        return total([ceil_div(m, b) for m, b in zip(outputs, shape, strict=True)])

    for axis, least in LEAST:
        while boxes[axis] > least and large(boxes):
            boxes[axis] = ceil_div(boxes[axis], 2)
    # as many for each thread, and no more: every box reads the weights again, and every part of its panels packs it again
    made = count(boxes)
    if tasks_of_a_box * made < MANY * workers:
        wanted = next(n for n in range(made, made + workers) if enough(tasks_of_a_box * n, workers, again))
        for axis, least in LEAST:
            along = ceil_div(outputs[axis], boxes[axis])
            pieces = min(ceil_div(wanted * along, count(boxes)), 2 * along * total(boxes) // FEW_PIXELS)
            if pieces > along and total(boxes) > FEW_PIXELS:
                boxes[axis] = min(boxes[axis], max(least, ceil_div(outputs[axis], pieces)))
    even = tuple(ceil_div(m, ceil_div(m, b)) for m, b in zip(outputs, boxes, strict=True))
    most_cuts = max(1, total(even) // (2 * tile_rows(p.columns)))
    into, costs = (evenly, costs) if costs else (runs, (1,) * p.count)
    return even, *shares(images * count(list(even)), costs, workers, most_cuts, packs or fresh, into)


def enough(made: int, workers: int, any_share: bool = False) -> bool:
    """Whether so many tasks give all threads about the same, or with `any_share` something."""
    return made >= workers and (any_share or ceil_div(made, workers) * workers <= UNEVEN * made)


def runs(costs: Ints, parts: int) -> list[list[int]]:
    """Which panels each of `parts` has: those that follow each other, about as many each."""
    edges = [len(costs) * part // parts for part in range(parts + 1)]
    return [list(range(*edge)) for edge in pairwise(edges)]


def evenly(costs: Ints, parts: int) -> list[list[int]]:
    """Which panels each of `parts` has, none of them empty: the dearest goes first, to the part that has least so far.

    Graham, "Bounds on multiprocessing timing anomalies" (1969).
    """
    found: list[list[int]] = [[] for _ in range(parts)]
    have = [0] * parts
    for panel in sorted(range(len(costs)), key=lambda i: -costs[i]):
        least = have.index(min(have))
        found[least].append(panel)
        have[least] += costs[panel]
    return [sorted(found[part]) for part in sorted(range(parts), key=lambda i: -have[i])]


def shares(
    boxes: int, costs: Ints, workers: int, most_cuts: int, dear: bool,
    into: Callable[[Ints, int], list[list[int]]] = runs,
) -> tuple[int, int]:  # fmt: skip
    """Parts of the panels and cuts of the pixels of each of `boxes`: no thread should wait long for the last one.

    Threads take tasks in order, so that parts of four and five panels by turns would give one thread all the fives.
    Cuts are `dear` where each brings in order all that its box needs. `into` says which panels each part has.
    """
    panels, whole = len(costs), sum(costs)
    fewest = min(panels, ceil_div(workers, boxes))
    if workers == 1 or boxes * fewest > MANY * workers:
        return fewest, 1
    cuts = min(most_cuts, ceil_div(workers, boxes * panels)) if dear else min(most_cuts, 2 * workers)

    def time(share: tuple[int, int]) -> float:
        parts, cuts = share
        free, sizes = [0.0] * workers, [sum(costs[i] for i in part) for part in into(costs, parts)]
        for task in range(boxes * parts * cuts):
            free[free.index(min(free))] += sizes[task // cuts % parts] / cuts + TASK_PANELS * whole / panels
        return max(free) * (1 + CUT_SHARE * (cuts - 1))

    most_parts, best = min(panels, 3 * fewest), (fewest, 1)
    enough, least = LEVEL * boxes * whole / workers, math.inf
    for share in (
        *((parts, 1) for parts in range(fewest, most_parts + 1)),
        *((most_parts, n) for n in range(2, cuts + 1)),
    ):
        takes = time(share)
        if takes < least:
            best, least = share, takes
        if takes <= enough:
            break
    return best


def tables(
    outputs: Ints, boxes: Ints, counts: Ints, cuts: int, stride: Ints, within: Ints, y_steps: Ints, x_steps: Ints,
    lows: Ints, staged_row: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Where each pixel of a cut starts to read, and where it is written; one table for every size a box can have.

    `corners` says for every cut of every box: its pixels, where its table begins, and the offsets of the box in x and y.
    """
    rows: list[np.ndarray] = []
    places: list[np.ndarray] = []
    staged: list[np.ndarray] = []
    starts: dict[Ints, list[tuple[int, int]]] = {}
    corners = np.empty((*counts, cuts, 4), np.int64)
    at = 0
    for index in np.ndindex(*counts):
        first = tuple(i * b for i, b in zip(index, boxes, strict=True))
        shape = tuple(min(b, m - f) for b, m, f in zip(boxes, outputs, first, strict=True))
        if shape not in starts:
            starts[shape] = []
            grid = np.indices(shape, np.int64).reshape(3, -1)
            steps = np.array([s * w for s, w in zip(stride, within, strict=True)], np.int64)
            reads, writes = steps @ grid, np.array(y_steps, np.int64) @ grid
            pixels = grid.shape[1]
            for cut in range(cuts):
                here = slice(pixels * cut // cuts, pixels * (cut + 1) // cuts)
                many = here.stop - here.start
                starts[shape].append((many, at))
                if many:
                    numbers = np.arange(many, dtype=np.int64) * staged_row
                    for table, values in ((rows, reads[here]), (places, writes[here]), (staged, numbers)):
                        table.append(np.concatenate([values, np.full(SPARE, values[-1])]))
                    at += many + SPARE
        in_x = sum((f * s - lo) * step for f, s, lo, step in zip(first, stride, lows, x_steps, strict=True))
        in_y = sum(f * step for f, step in zip(first, y_steps, strict=True))
        for cut, (many, start) in enumerate(starts[shape]):
            corners[(*index, cut)] = many, start, in_x, in_y
    return {
        "rows": np.concatenate(rows),
        "places": np.concatenate(places),
        "staged_rows": np.concatenate(staged),
        "corners": corners.reshape(-1),
    }
