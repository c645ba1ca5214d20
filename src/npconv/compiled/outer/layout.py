"""How the operands of a weight gradient lie in memory, and where they lie once packed; integers only, no Numba."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...geometry import Ints, ceil_div, total
from ..panels import Panels
from ..panels import panels as lay

#: What describes a packed operand to the kernels, one 64-bit word each.
RECORD = (
    "tasks", "planes", "pieces", "piece", "runs", "run", "batch", "count", "columns", "last", "channels", "step_n", "step_c",
    "step_d", "step_h", "step_w", "in_d", "in_h", "in_w", "lo_d", "lo_h", "lo_w", "box_d", "box_h", "box_w",
    "panel_step", "group_step",
)  # fmt: skip
#: Pixels of a row, and elements, that one packing task writes.
PIECE, PIECE_ELEMENTS = 256, 8192
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
    """The operand that is broadcast: in place where nothing is missing, else planes, or blocks of `lanes` channels."""
    if source.plain:
        steps = (source.step_n, *source.steps)
        return Laid(None, source.begin, 0, steps, steps, source.channels * source.step_c, 0, source.step_c)
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
    bd, bh, bw = source.box
    steps = (bd * bh * bw * source.size, bh * bw * source.size, bw * source.size, source.size)
    plane = source.batch * steps[0] + SKEW
    record = _record(source, source.channels * source.groups, Panels(1, 1, 1, 1, 1), plane, 0)
    all_bytes = plane * source.channels * source.groups
    return Laid(record, 0, all_bytes, steps, steps, plane * source.channels, 0, plane)


def lanes_operand(source: Source, panels: Panels, copied: bool) -> Laid:
    """The operand of vectors: in place where channels lie innermost and fill vectors, unless `copied`, else panels."""
    if not copied and source.plain and source.step_c == source.size and panels.rest == panels.lanes:
        steps = (source.step_n, *source.steps)
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
