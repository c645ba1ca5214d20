"""An explanation: every registered algorithm with its verdict, cost, bound and, on request, its measured time."""

from __future__ import annotations

import time

import numpy as np

from . import execution
from .algorithms import named, registered
from .algorithms.base import Algorithm, Compiled, Cost, ErrorBound
from .compiled import catalogue, threads
from .dispatch import Request, against, choose, estimate, picker, whole_cost
from .geometry import ConvGeometry
from .records import dataclass


@dataclass(frozen=True)
class Candidate:
    """One algorithm's line in an explanation."""

    name: str
    verdict: str
    able: bool
    cost: Cost | None
    bound: ErrorBound | None
    seconds: float | None
    measured: float | None = None


@dataclass(frozen=True)
class Explanation:
    """What would run, and why not each other one. Print it."""

    geometry: ConvGeometry
    request: Request
    choice: str
    parts: int
    candidates: tuple[Candidate, ...]
    engine: str = ""
    notes: tuple[str, ...] = ()
    each: str = "each of"  # or "one convolution of all", "one launch of all"

    def __str__(self) -> str:
        g, r = self.geometry, self.request
        head = [
            f"{r.direction} of {g.x_shape} * {g.w_shape} -> {g.y_shape}, {r.dtypes.result}, accuracy {r.accuracy!r}",
            f"choice: {self.choice}"
            + (f", for {self.each} {self.parts} parts without input dilation" if self.parts > 1 else ""),
            f"engine: {self.engine}",
            *self.notes,
        ]
        rows: list[tuple[str, ...]] = [
            ("algorithm", "verdict", "Mflop", "MB moved", "workspace", "error bound", "estimate", "measured")
        ]
        for c in self.candidates:
            if c.cost is None:
                rows.append((c.name, c.verdict, "", "", "", "", "", ""))
                continue
            rows.append(
                (
                    c.name,
                    c.verdict,
                    f"{(c.cost.flops + c.cost.butterflies) / 1e6:.1f}",
                    f"{c.cost.bytes / 1e6:.1f}",
                    f"{c.cost.workspace} B",
                    str(c.bound),
                    "" if c.seconds is None else f"{c.seconds * 1e3:.3f} ms",
                    "" if c.measured is None else f"{c.measured * 1e3:.3f} ms",
                )
            )
        if all(row[-1] == "" for row in rows[1:]):
            rows = [row[:-1] for row in rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(head + lines)

    __repr__ = __str__


def explanation(op: str, geometry: ConvGeometry, request: Request, timed: bool = False) -> Explanation:
    """Choose, and say for every registered algorithm why or why not."""
    every = execution.parts(geometry, request.direction)
    real = [p.geometry for p in every if p.geometry is not None]
    largest = max(real, key=lambda g: g.macs, default=execution.problem(geometry, request.direction))
    whole = None
    if request.direction != "weight_grad":
        pick = picker(op, request)
        whole = execution.together(pick, every, request.dtypes.compute, request.limit, pick.seconds)
    if isinstance(whole, execution.Joined):
        largest = whole.geometry
    launch = whole is not None and not isinstance(whole, execution.Joined)
    chosen = named(whole.algorithm.name) if launch and whole is not None else choose(op, largest, request)
    dtype = request.dtypes.compute
    direction = "weight_grad" if request.direction == "weight_grad" else "forward"
    candidates, best = [], 0.0
    for a in registered():
        why = against(a, largest, request)
        cost = None
        if a.why_not(largest, dtype) is None:
            cost = whole_cost(a, largest, dtype, direction, request.limit)
        seconds = estimate(cost, dtype, prepared=request.prepared) if cost else None
        if a is chosen:
            best = seconds or 0.0
        candidates.append((a, why, cost, seconds))
    rows = []
    for a, why, cost, seconds in candidates:
        measured = measure(a, largest, request) if timed and why is None and a.name != "loops" else None
        if a is chosen:
            verdict = "chosen: the least estimated time"
            if request.algorithm != "auto":
                verdict = f"chosen: algorithm={request.algorithm!r}"
        elif why:
            verdict = "no: " + why
        elif not a.automatic:
            verdict = "no: only when asked for by name"
        elif a.blas and isinstance(chosen, Compiled):
            verdict = "no: the threads of NumPy's BLAS would slow down the kernels of the next calls"
        else:
            times = (seconds or 0) / best if best else 0
            slower = "no: slower, part by part" if launch else "no: slower"
            verdict = f"no: estimated {times:.2g} times the time" if times >= 1 else slower
        bound = a.error_bound(largest, dtype) if cost else None
        rows.append(Candidate(a.name, verdict, why is None, cost, bound, seconds, measured))
    each = "each of" if whole is None else "one launch of all" if launch else "one convolution of all"
    engine = _engine(chosen, largest, request)
    return Explanation(geometry, request, chosen.name, len(every), tuple(rows), engine, each=each)


def _engine(algorithm: Algorithm, geometry: ConvGeometry, request: Request) -> str:
    """What runs the algorithm, and why it is not machine code where it is not."""
    direction = "weight_grad" if request.direction == "weight_grad" else "forward"
    if algorithm.cost(geometry, request.dtypes.compute, direction).engine != "numpy":
        count = threads.get_num_threads()
        return f"machine code, {catalogue.provenance()}, {count} thread{'s' * (count > 1)}"
    return f"NumPy; {catalogue.unavailable() or 'the verdicts say why no machine code'}"


def measure(algorithm: Algorithm, geometry: ConvGeometry, request: Request, repeats: int = 3) -> float:
    """The least of some timed runs on random data, in seconds."""
    rng = np.random.default_rng(0)
    dtype = request.dtypes.compute
    x = rng.standard_normal(geometry.x_shape).astype(dtype)
    w = rng.standard_normal(geometry.w_shape).astype(dtype)
    y = rng.standard_normal(geometry.y_shape).astype(dtype)

    def pick(part: ConvGeometry, exact_footprint: bool) -> Algorithm:
        return algorithm

    direction = "weight_grad" if request.direction == "weight_grad" else "forward"
    run = execution.ready(pick, execution.parts(geometry, direction), direction, dtype, request.limit)

    def once() -> float:
        started = time.perf_counter()
        if direction == "weight_grad":
            run.weight_grad(x, y, w)
        else:
            run.forward(x, run.prepare(w, once=True), y)
        return time.perf_counter() - started

    return min(once() for _ in range(1 + repeats))
