"""The phases of a strided transposition in one launch: as many convolutions, block by block in turn.

Each phase is a launch of the forward kernel, and `bundle` runs them all. Blocks of one place follow each other, so what
they read and write is still in the cache.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...geometry import ConvGeometry, Ints, Joint, Phase
from ...records import dataclass
from .. import catalogue
from ..calls import Bound, Words, address, aligned
from .launch import grouping, lay_out, packing_of, plan


@dataclass(frozen=True)
class Launch:
    """Launches of one kernel as the rows of a table, and where their outputs begin; `blocks` are those of all."""

    words: Words
    table: np.ndarray
    at: dict[str, int]  # the columns, by argument
    w_at: np.ndarray
    y_at: np.ndarray
    blocks: int
    flops: int
    scratch: int  # bytes per thread


class Bundle(Bound):
    """A launch of all phases whose weights and the rest but inputs and outputs are known."""

    __slots__ = ("launch", "tables")

    def __init__(self, launch: Launch, workers: int, **fixed: int) -> None:
        super().__init__(
            launch.words, launch.blocks, launch.flops, launch.scratch * min(workers, launch.blocks), **fixed
        )
        self.launch = launch
        self.tables: list[np.ndarray] = []  # copies that no call is using

    def _filled(self) -> np.ndarray:
        table, at = self.launch.table.copy(), self.launch.at
        for name, value in self.fixed.items():
            table[:, at[name]] = value
        table[:, at["w"]] += self.launch.w_at
        return table

    def run(self, x: int, y: int) -> None:
        """Run it on what is at these addresses."""
        at, room = self.launch.at, aligned(self.scratch)
        try:
            table = self.tables.pop()
        except IndexError:
            table = self._filled()
        table[:, at["x"]] = x
        table[:, at["y"]] = self.launch.y_at + y
        table[:, at["scratch"]] = address(room)
        self.words.run(self.blocks, self.flops, table=address(table))
        self.tables.append(table)


def real(joint: Joint) -> list[tuple[Phase, ConvGeometry]]:
    """The phases that have outputs, and their convolutions."""
    return [(phase, phase.geometry) for phase in joint.phases if phase.geometry is not None]


def strided(where: tuple[slice, ...], steps: Ints) -> tuple[int, Ints]:
    """Where the elements at these slices begin, and how far apart they lie."""
    begin = sum((each.start or 0) * step for each, step in zip(where, steps, strict=True))
    return begin, tuple((each.step or 1) * step for each, step in zip(where, steps, strict=True))


@lru_cache(maxsize=1024)
def packings(joint: Joint, shape: Ints, strides: Ints, dtype: np.dtype) -> tuple[tuple[Words, int, int, int], ...]:
    """The packing of the weights of each phase: a launch, its blocks, where it reads, and the elements it writes."""
    found = []
    for phase, g in real(joint):
        at, steps = strided(phase.taps, strides[2:])
        words, vectors, size = packing_of(
            g.groups, g.in_channels, (*shape[:2], *g.kernel), (*strides[:2], *steps), dtype
        )
        found.append((words, vectors, at, size))
    return tuple(found)


@lru_cache(maxsize=1024)
def bundle(joint: Joint, x_strides: Ints, y_strides: Ints, w_strides: Ints | None, dtype: np.dtype) -> Launch:
    """The launch that computes all phases.

    With `w_strides` the weights are as the caller has them, else as `packings` leave them, one after the other.
    """
    runs, w_at, y_at, packed = [], [], [], 0
    for phase, g in real(joint):
        begin, steps = strided(phase.out, y_strides[2:])
        y_at.append(begin)
        if w_strides is None:
            w_at.append(packed)
            groups, inputs, outputs, _ = grouping(g.groups, *g.per_group)
            at = lay_out(groups, inputs, outputs, dtype.itemsize)
            packed += at.vectors * at.lanes * at.wide * g.taps * dtype.itemsize
            w_steps = None
        else:
            begin, taps = strided(phase.taps, w_strides[2:])
            w_at.append(begin)
            w_steps = (*w_strides[:2], *taps)
        run = plan(g, x_strides, (*y_strides[:2], *steps), w_steps, dtype)
        if run is None:
            raise ValueError(f"nothing to compute in {phase}")
        runs.append(run)
    first, scratch = runs[0].words, max(run.scratch for run in runs)
    table = np.array([[*run.words.words, run.blocks] for run in runs], np.int64)
    table[:, first.at["scratch_step"]] = scratch  # threads may be in different phases at a time
    values = {"entry": first.kernel.address, "step": table.strides[0], "count": len(runs)}
    words = Words(catalogue.kernel("channelwise", "bundle", f"f{dtype.itemsize}"), values)
    words.arrays = {f"{i} {name}": a for i, run in enumerate(runs) for name, a in run.words.arrays.items()}
    blocks, flops = len(runs) * max(run.blocks for run in runs), sum(run.flops for run in runs)
    return Launch(words, table, first.at, np.array(w_at, np.int64), np.array(y_at, np.int64), blocks, flops, scratch)
