"""How the operands of a weight gradient lie in memory, and where they lie once packed; integers only, no Numba."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ...geometry import Ints, ceil_div, total
from ...records import dataclass, replace
from ..panels import Panels, vector_bytes
from ..panels import panels as lay

#: What describes a packed operand to the kernels, one 64-bit word each.
RECORD = (
    "tasks", "planes", "pieces", "piece", "runs", "run", "batch", "count", "columns", "last", "channels", "step_n", "step_c",
    "step_d", "step_h", "step_w", "in_d", "in_h", "in_w", "lo_d", "lo_h", "lo_w", "box_d", "box_h", "box_w",
    "panel_step", "group_step",
)  # fmt: skip
#: Pixels of a row, and elements, that one packing task writes.
PIECE, PIECE_ELEMENTS = 256, 8192
#: Vectors that the gradient of a bias adds side by side.
WIDE = 4
#: Bytes by which a plane is longer than its pixels: planes of 4096 bytes would all fall into one set of the cache.
SKEW = 64


@dataclass(frozen=True)
class Source:
    """One operand where the caller keeps it; axes are (depth, height, width), steps in bytes.

    `box` is what the products reach over, from `-lo` on.
    """

    size: int
    batch: int
    channels: int  # of one group
    groups: int
    step_n: int
    step_c: int
    steps: Ints
    inputs: Ints
    lows: Ints
    box: Ints

    @property
    def plain(self) -> bool:
        """Whether all of the box is there."""
        reach = zip(self.lows, self.box, self.inputs, strict=True)
        return all(lo <= 0 and box - lo <= size for lo, box, size in reach)

    @property
    def pixel(self) -> int:
        """Bytes of all channels of a pixel."""
        return self.channels * self.groups * self.size

    def flat(self) -> Source:
        """The same, every channel of a row of pixels as a pixel."""

        def wide(sizes: Ints) -> Ints:
            return (*sizes[:2], sizes[2] * self.channels * self.groups)

        steps = (*self.steps[:2], self.size)
        return replace(self, steps=steps, inputs=wide(self.inputs), lows=wide(self.lows), box=wide(self.box))

    @property
    def begin(self) -> int:
        """The offset of the first element of the box."""
        return -sum(lo * step for lo, step in zip(self.lows, self.steps, strict=True))


@dataclass(frozen=True)
class Laid:
    """An operand as the products read it: bytes from one (n, depth, height, width), channel, panel, group to the next.

    `record` describes the packing, None if the operand is read where it lies, from `begin` on. `last_steps` holds for
    the last panel. `blocked` channels lie next to each other, then a `channel_step` follows.
    """

    record: tuple[int, ...] | None
    begin: int
    bytes: int
    steps: Ints
    last_steps: Ints
    group_step: int
    panel_step: int
    channel_step: int = 0
    blocked: int = 1

    def channel(self, c: int, size: int) -> int:
        """Where channel `c` of a group begins."""
        return c // self.blocked * self.channel_step + c % self.blocked * size

    @property
    def table(self) -> np.ndarray:
        return np.array(self.record or (0,) * len(RECORD), np.int64)


def rows_operand(source: Source) -> Laid:
    """The operand that is broadcast: in place where nothing is missing, else planes, or blocks of `lanes` channels.

    Few channels that lie side by side are copied as they lie: a plane whose elements are channels of pixels.
    """
    if source.plain:
        steps = (source.step_n, *source.steps)
        return Laid(None, source.begin, 0, steps, steps, source.channels * source.step_c, 0, source.step_c)
    if source.step_c == source.size and source.steps[2] == source.pixel <= vector_bytes():
        return flat_operand(source)
    if source.step_c == source.size and source.steps[2] != source.size:
        panels = lay(source.channels, source.size, 1)
        laid = packed(source, panels)
        return Laid(
            laid.record,
            0,
            laid.bytes,
            laid.steps,
            laid.steps,
            laid.group_step,
            0,
            laid.panel_step,
            blocked=panels.lanes,
        )
    planes = source.channels * source.groups
    plane, whole = _plane(source, source.size)
    record = _record(source, planes, Panels(1, 1, 1, 1, 1), plane, 0)
    return Laid(record, 0, plane * planes, whole, whole, plane * source.channels, 0, plane)


def flat_operand(source: Source, panel_step: int = 0) -> Laid:
    """Channels side by side, copied as they lie; vectors read from there may reach beyond the last one."""
    plane, steps = _plane(source, source.pixel)
    record = _record(source.flat(), 1, Panels(1, 1, 1, 1, 1), plane, 0)
    size = plane + vector_bytes()
    return Laid(record, 0, size, steps, steps, source.channels * source.size, panel_step, source.size)


def _plane(source: Source, pixel: int) -> tuple[int, Ints]:
    """The bytes of a box of such pixels, and its steps."""
    _, bh, bw = source.box
    steps = (total(source.box) * pixel, bh * bw * pixel, bw * pixel, pixel)
    return source.batch * steps[0] + SKEW, steps


def lanes_operand(source: Source, panels: Panels, copied: bool) -> Laid:
    """The operand of vectors: in place where channels lie innermost and fill vectors, unless `copied`, else panels.

    Where a step is 0, as in a broadcast gradient, it is packed.
    """
    sizes, steps = (source.batch, *source.box), (source.step_n, *source.steps)
    moves = all(step or size == 1 for size, step in zip(sizes, steps, strict=True))  # the micro-kernel counts by steps
    if not copied and moves and source.plain and source.step_c == source.size and panels.rest == panels.lanes:
        panel = panels.columns * panels.lanes * source.size
        return Laid(None, source.begin, 0, steps, steps, source.channels * source.size, panel)
    return packed(source, panels)


def packed(source: Source, panels: Panels) -> Laid:
    """Panels of channels, each (n, depth, height, width, lanes)."""
    _, bh, bw = source.box
    pixels = total(source.box)

    def steps(columns: int) -> Ints:
        pitch = columns * panels.lanes * source.size
        return (pixels * pitch, bh * bw * pitch, bw * pitch, pitch)

    first, last = steps(panels.columns), steps(panels.last)
    panel_step = source.batch * first[0]
    group_step = (panels.count - 1) * panel_step + source.batch * last[0]
    record = _record(source, panels.count * source.groups, panels, panel_step, group_step)
    return Laid(record, 0, group_step * source.groups, first, last, group_step, panel_step)


def _record(source: Source, planes: int, panels: Panels, panel_step: int, group_step: int) -> tuple[int, ...]:
    """The words of RECORD; axes that follow each other in a plain operand are packed as one."""
    inputs, lows, box, steps = source.inputs, source.lows, source.box, source.steps
    if inputs == box and not any(lows):
        axes = [(n, step) for n, step in zip(inputs, steps, strict=True) if n > 1] or [(1, steps[2])]
        if all(before == n * step for (_, before), (n, step) in pairwise(axes)):
            inputs = box = (1, 1, total(inputs))
            lows, steps = (0, 0, 0), (0, 0, axes[-1][1])
    is_plane = panels.lanes == 1
    pieces = ceil_div(box[2], PIECE_ELEMENTS if is_plane else PIECE)
    piece = ceil_div(box[2], pieces)
    run = max(1, min(box[1], PIECE_ELEMENTS // (piece * panels.columns * panels.lanes)))
    runs = ceil_div(box[1], run)
    tasks = planes * source.batch * box[0] * runs * pieces
    return (
        tasks, int(is_plane), pieces, piece, runs, run, source.batch, panels.count, panels.columns, panels.last,
        source.channels, source.step_n, source.step_c, *steps, *inputs, *lows, *box, panel_step, group_step,
    )  # fmt: skip
