"""The phases of a strided transposition in one launch: as many convolutions, block by block in turn.

Each phase is a launch of the forward kernel, and `bundle` runs them all. Blocks of one place follow each other, so what
they read and write is still in the cache.

Of stride 2 and depthwise, in two dimensions, they are one launch of tiles of all four (`quads`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...geometry import ConvGeometry, Ints, Phase, total
from ...phases import Joint, strided
from ...records import dataclass, replace
from .. import catalogue
from ..bringing import Bringing
from ..calls import Bound, Words, address, aligned
from ..calls import Launch as Single
from ..panels import CHUNK
from .launch import Quads, grouping, lay_out, packing_of, plan
from .sizes import QUADS


@dataclass(frozen=True)
class Launch:
    """Launches of one kernel as the rows of a table, and where their outputs begin; `blocks` are those of all."""

    words: Words
    table: np.ndarray
    at: dict[str, int]  # the columns, by argument
    w_at: np.ndarray
    y_at: np.ndarray
    blocks: int
    flops: float
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

    def run_with(self, x: int, y: int, w: int, bias: int = 0) -> bool:
        """See `Bound.run_with`."""
        at, room = self.launch.at, aligned(self.scratch)
        try:
            table = self.tables.pop()
        except IndexError:
            table = self._filled()
        table[:, at["x"]] = x
        table[:, at["y"]] = self.launch.y_at + y
        table[:, at["scratch"]] = address(room)
        if w:
            table[:, at["w"]] = self.launch.w_at + w
            table[:, at["bias"]] = bias or self.fixed["bias"]
        self.words.run(self.blocks, self.flops, table=address(table))
        self.tables.append(table)
        return True


def real(joint: Joint) -> list[tuple[Phase, ConvGeometry]]:
    """The phases that have outputs, and their convolutions."""
    return [(phase, phase.geometry) for phase in joint.phases if phase.geometry is not None]


@lru_cache(maxsize=1024)
def quads(joint: Joint) -> Quads | None:
    """The phases of stride 2 as one kernel that reads its inputs once, where there is one: depthwise, in two dimensions."""
    g, phases = joint.geometry, joint.phases
    taps = [[s.start or 0 for s in phase.taps] for phase in phases]
    steps = {s.step for phase in phases for s in (*phase.taps, *phase.out)}
    if g.rank != 2 or len(phases) != 4 or g.per_group != (1, 4) or steps != {2} or set(g.dilation) != {1}:
        return None
    firsts, ends = set(), []
    for tap, phase, start, size in zip(taps, phases, joint.starts, joint.sizes, strict=True):
        begin = [s.start or 0 for s in phase.out]
        firsts.add(tuple(n - 2 * a - (t == 0) for n, a, t in zip(begin, start, tap, strict=True)))
        ends.append([n + 2 * m - 1 for n, m in zip(begin, size, strict=True)])
    short, long = (phases[taps.index([t, t])].geometry for t in (1, 0))
    if len(firsts) > 1 or short is None or long is None:
        return None
    kernel = tuple(a + b for a, b in zip(short.kernel, long.kernel, strict=True))
    if kernel[1] not in QUADS or total(kernel) > CHUNK:
        return None
    return Quads(kernel, firsts.pop(), tuple(map(max, zip(*ends, strict=True))))


@lru_cache(maxsize=1024)
def quad_launch(
    joint: Joint, x_strides: Ints, y_strides: Ints, steps: Ints | None, dtype: np.dtype
) -> tuple[Single, int] | None:
    """All phases in one sweep of x, and where its weights begin in those that `packings` leave; None: they are apart."""
    found, size = quads(joint), dtype.itemsize
    if found is None:
        return None
    g = joint.geometry
    y_steps = (*y_strides[:2], *[2 * step for step in y_strides[2:]])
    run = plan(replace(g, out_channels=g.in_channels), x_strides, y_steps, steps, dtype, found)
    at = lay_out(g.groups, 1, 1, size)
    return None if run is None else (run, 0 if steps else at.vectors * at.lanes * total(found.kernel) * size)


@lru_cache(maxsize=1024)
def packings(joint: Joint, steps: Ints, dtype: np.dtype) -> tuple[tuple[Bringing, int], ...]:
    """The packing of the weights of each phase, and where it reads.

    `steps` are the `weight_steps` of the whole. Then that of all phases as `quads`, if they can be.
    """
    found = []
    for phase, g in real(joint):
        at, taps = strided(phase.taps, steps[3:])
        found.append((packing_of(g, (*steps[:3], *taps), dtype), at))
    whole = quads(joint)
    if whole is not None:
        found.append((packing_of(real(joint)[0][1], steps, dtype, whole), 0))
    return tuple(found)


@lru_cache(maxsize=1024)
def bundle(joint: Joint, x_strides: Ints, y_strides: Ints, steps: Ints | None, dtype: np.dtype) -> Launch:
    """The launch that computes all phases.

    With `steps`, their `weight_steps`, weights are as the caller has them, else as `packings` leave them, one after the other.
    """
    runs, w_at, y_at, packed = [], [], [], 0
    for phase, g in real(joint):
        begin, y_steps = strided(phase.out, y_strides[2:])
        y_at.append(begin)
        if steps is None:
            w_at.append(packed)
            of = grouping(g.groups, *g.per_group, dtype.itemsize)
            packed += of.elements(g.taps) * dtype.itemsize
            w_steps = None
        else:
            begin, taps = strided(phase.taps, steps[3:])
            w_at.append(begin)
            w_steps = (*steps[:3], *taps)
        run = plan(g, x_strides, (*y_strides[:2], *y_steps), w_steps, dtype)
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
