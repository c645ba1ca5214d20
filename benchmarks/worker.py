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
from collections.abc import Callable
from typing import Any

import numpy as np

from .peers import operands
from .rows import Row

SETTLE = 0.003  # seconds in which the other processes' threads stop spinning


def fingerprint(result: np.ndarray) -> float:
    """A number that every layout shares and a different result does not."""
    return float(np.abs(result).sum(dtype=np.float64))


def build(peer: Any, row: Row, direction: str) -> tuple[list[tuple[str, str, Callable[[], Any]]], list[Any]]:
    """The calls that work, each made once, and a report on every candidate."""
    calls, report = [], []
    for layout, kind, make in peer.candidates(row, direction, operands(row)):
        entry: dict[str, Any] = {"layout": layout, "kind": kind}
        try:
            call = make()
            entry["fingerprint"] = fingerprint(peer.to_numpy(call()))
        except Exception as error:  # whatever a library raises belongs in the report
            unable = isinstance(error, NotImplementedError)
            reason = str(error) if unable else f"{type(error).__name__}: {error}"
            entry["error"] = (reason.splitlines() or [""])[0][:200]
            entry["unable"] = unable or peer.__name__ != "benchmarks.peers.npconv"
        else:
            entry["call"] = len(calls)
            calls.append(call)
        report.append(entry)
    return calls, report


def timed(call: Callable[[], Any], seconds: float, most: int, warm: bool) -> list[float]:
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
    calls: list[Any] = []
    for line in sys.stdin:
        request = json.loads(line)
        if "row" in request:
            calls = []  # frees the last row first
            calls, report = build(peer, Row.read(request["row"]), request["direction"])
            answer(report)
        else:
            answer(timed(calls[request["call"]], request["seconds"], request["most"], request["warm"]))


if __name__ == "__main__":
    main()
