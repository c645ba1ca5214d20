"""How long npconv's algorithms take for one small problem, measured here and now."""

from __future__ import annotations

import platform
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ..geometry import total
from .problem import Problem

#: The algorithms that the page walks through, by npconv's names.
NAMES = ("direct", "gemm", "fft", "winograd", "loops")
#: Seconds for all of them together, and turns beyond which the loop would take longer than its share.
SECONDS, MOST_LOOPED = 1.0, 1 << 16
#: Calls at most.
MOST = 50


def times(problem: Problem, seconds: float = SECONDS) -> dict[str, float]:
    """The median time of a call in seconds, in float32, by the name of the algorithm.

    An algorithm that cannot run this problem, or would take too long, is not in it; pools have one algorithm, and
    nothing to compare.
    """
    if problem.w is None:
        return {}
    found = {}
    with np.errstate(all="ignore"):
        single = problem.astype(np.float32)
        for name in NAMES:
            if name == "loops" and _turns(problem) > MOST_LOOPED:
                continue
            try:
                single(name)  # the first call plans, and may compile
            except (ValueError, MemoryError):
                continue
            found[name] = _median(single, name, time.perf_counter() + seconds / len(NAMES))
    return found


def _turns(problem: Problem) -> int:
    """How often the loop turns: a transposed convolution is a convolution over all its outputs."""
    if problem.w is None:
        return 0
    return total(problem.y_shape) * total(problem.w.shape[2:]) * (len(problem.x) // problem.options["groups"])


def _median(problem: Problem, name: str, until: float) -> float:
    """Of as many calls as fit, and one at least."""
    taken: list[float] = []
    while len(taken) < MOST and (not taken or time.perf_counter() < until):
        started = time.perf_counter()
        problem(name)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def recorded() -> dict[str, str]:
    """The machine and the day that go with times in a file."""
    return {"machine": processor(), "date": datetime.now(UTC).date().isoformat()}


def processor() -> str:
    """The CPU by the name that its maker gave it, or the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine() or "unknown"
