"""One library in one process, so that thread pools never meet: builds a row's candidates, times batches of calls.

    python -m benchmarks.worker torch 2

`benchmarks.race` starts it and talks to it over pipes, one JSON object a line.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from .peers import Call, operands
from .rows import Row

#: A call of so many seconds is its own probe.
SLOW = 1.0
SETTLE = 0.003  # seconds in which the other processes' threads stop spinning


def fingerprint(result: np.ndarray) -> tuple[float, float]:
    """Two numbers that every layout shares and a different result does not: the mean and the maximum of |y|."""
    magnitudes = np.abs(result)
    return float(magnitudes.mean(dtype=np.float64)), float(magnitudes.max())


def first_call(call: Call) -> tuple[float, Any]:
    """The seconds of the first call, and its result; a slow one may have compiled something, so then of the second."""
    for _ in range(2):
        started = time.perf_counter()
        result = call()
        seconds = time.perf_counter() - started
        if seconds < SLOW:
            break
    return seconds, result


def build(peer: Any, row: Row, direction: str, skip: list[int]) -> Iterator[tuple[dict[str, Any], Call | None]]:
    """A report on every candidate, and the call if it works; it has been made once."""
    for index, (layout, kind, make) in enumerate(peer.candidates(row, direction, operands(row))):
        report: dict[str, Any] = {"candidate": index, "layout": layout, "kind": kind}
        if index in skip:
            continue
        try:
            call = make()
            report["seconds"], result = first_call(call)
            report["fingerprint"] = fingerprint(peer.to_numpy(result))
            yield report, call
        except Exception as error:  # whatever a library raises belongs in the report
            unable = isinstance(error, NotImplementedError)
            reason = str(error) if unable else f"{type(error).__name__}: {error}"
            report["error"] = (reason.splitlines() or [""])[0][:200]
            report["unable"] = unable or peer.__name__ != "benchmarks.peers.npconv"
            yield report, None


def timed(call: Call, seconds: float, most: int, warm: bool) -> list[float]:
    """The seconds of each of at most `most` calls: as many as fit in `seconds`, but one at least."""
    time.sleep(SETTLE)
    if warm:
        call()
    each: list[float] = []
    clock = time.perf_counter
    end = clock() + seconds
    while len(each) < most and (not each or clock() < end):
        started = clock()
        call()
        each.append(clock() - started)
    return each


def main() -> None:
    name, threads = sys.argv[1], int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")  # what a library prints must not reach the pipe
    os.dup2(2, 1)

    def answer(message: Any) -> None:
        print(json.dumps(message), file=answers, flush=True)

    try:
        peer = importlib.import_module(f"benchmarks.peers.{name}")
        peer.setup(threads)
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {error}"})
        return
    answer({"version": peer.version()})
    calls: dict[int, Call] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "row" in request:
            calls = {}  # frees the last row first
            for report, call in build(peer, Row.read(request["row"]), request["direction"], request["skip"]):
                if call:
                    calls[report["candidate"]] = call
                answer(report)
            answer(None)
        else:
            answer(timed(calls[request["candidate"]], request["seconds"], request["most"], request["warm"]))


if __name__ == "__main__":
    main()
