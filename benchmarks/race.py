"""Time one row in every library by turns, each in its own process."""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .rows import Row

THREAD_VARIABLES = ("OMP", "OPENBLAS", "MKL", "NPCONV", "NUMBA")
#: glibc gives freed memory back and maps it anew, which can cost more than a layer. Nobody pays that here.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
#: Candidates this much slower than their library's best, as probed, stay with the probe's times.
HOPELESS = 1.4


@dataclass(frozen=True)
class Settings:
    """How long a row may take: rounds of `seconds` per candidate, all in all `row_seconds`."""

    rounds: int = 3
    seconds: float = 0.04
    row_seconds: float = 15.0
    build_seconds: float = 60.0


class PeerLost(Exception):
    """A library's process ended or hung."""


class Worker:
    """A library's process; `name` tells two of one library apart."""

    def __init__(self, peer: str, threads: int, python: str = sys.executable, name: str = "") -> None:
        self.peer, self.threads, self.python, self.name = peer, threads, python, name or peer
        self.start()

    def start(self) -> None:
        environment = os.environ | KEEP_MEMORY | {f"{name}_NUM_THREADS": str(self.threads) for name in THREAD_VARIABLES}
        environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
        command = [self.python, "-m", "benchmarks.worker", self.peer, str(self.threads)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env=environment, text=True, **pipes)
        hello = self.answer(120)
        self.version = hello.get("version")
        self.missing = hello.get("error")

    def send(self, **request: Any) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # `answer` will notice
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()

    def answer(self, seconds: float) -> Any:
        assert self.process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                raise self.lost(f"no answer in {seconds:g} s")
        line = self.process.stdout.readline()
        if not line:
            raise self.lost(f"its process ended with status {self.process.wait()}")
        return json.loads(line)

    def lost(self, reason: str) -> PeerLost:
        self.close(kill=True)
        return PeerLost(reason)

    def close(self, kill: bool = False) -> None:
        if kill:
            self.process.kill()
        self.process.communicate()


@dataclass
class Lane:
    """One candidate and its times."""

    worker: Worker
    layout: str
    kind: str
    call: int
    times: list[float] = field(default_factory=list)
    quickest: float = math.inf

    def run(self, seconds: float, most: int) -> None:
        self.worker.send(call=self.call, seconds=seconds, most=most, warm=self.quickest < seconds)
        self.times += self.worker.answer(120)
        self.quickest = min(self.quickest, *self.times)


def build(workers: dict[str, Worker], row: Row, direction: str, seconds: float) -> tuple[list[Lane], dict[str, Any]]:
    """The candidates of every library that work and agree, and what went wrong with the others."""
    reports: dict[str, list[dict[str, Any]]] = {}
    problems: dict[str, list[str]] = {peer: [] for peer in workers}
    for worker in workers.values():
        worker.send(row=row.written(), direction=direction)
    for peer, worker in workers.items():
        try:
            reports[peer] = worker.answer(seconds)
        except PeerLost as lost:
            problems[peer].append(f"failed: {lost}")
            worker.start()
    agreed = agreement(reports)
    lanes = []
    for peer, report in reports.items():
        for entry in report:
            what = f"{entry['layout']} {entry['kind']}"
            if "error" in entry:
                problems[peer].append(f"{what} {'left out' if entry['unable'] else 'failed'}: {entry['error']}")
            elif not close(entry["fingerprint"], agreed):
                problems[peer].append(f"{what} failed: sum |y| = {entry['fingerprint']:.6g}, others have {agreed:.6g}")
            else:
                lanes.append(Lane(workers[peer], entry["layout"], entry["kind"], entry["call"]))
    return lanes, problems


def agreement(reports: dict[str, list[dict[str, Any]]]) -> float:
    """The fingerprint that torch has, or else the middle one."""
    known = {peer: [e["fingerprint"] for e in report if "error" not in e] for peer, report in reports.items()}
    values = known.get("torch") or [value for every in known.values() for value in every]
    return statistics.median_low(values) if values else 0.0


def close(value: float, agreed: float) -> bool:
    return abs(value - agreed) <= 1e-4 * abs(agreed)


def contenders(lanes: list[Lane]) -> list[Lane]:
    """Those not hopeless beside their library's best of the same kind."""
    best: dict[tuple[str, str], float] = {}
    for lane in lanes:
        key = (lane.worker.name, lane.kind)
        best[key] = min(best.get(key, math.inf), lane.quickest)
    return [lane for lane in lanes if lane.quickest <= HOPELESS * best[lane.worker.name, lane.kind]]


def race(workers: dict[str, Worker], row: Row, direction: str, settings: Settings) -> dict[str, Any]:
    """The times of every library, by layout and kind of call, and its problems."""
    lanes, problems = build(workers, row, direction, settings.build_seconds)
    end = time.monotonic() + settings.row_seconds
    dead: set[str] = set()

    def run(some: Iterable[Lane], seconds: float, most: int) -> None:
        for lane in some:
            peer = lane.worker.name
            try:
                if peer not in dead:
                    lane.run(seconds, most)
            except PeerLost as lost:
                problems[peer].append(f"failed: {lost}")
                dead.add(peer)
                lane.worker.start()

    run(lanes, settings.seconds / 4, 3)
    racing = contenders([lane for lane in lanes if lane.worker.name not in dead])
    for lane in racing:
        if lane.quickest < settings.seconds:
            lane.times.clear()  # a few calls straight after the arrays were made are cold
    for turn in range(settings.rounds):
        if turn and time.monotonic() > end:
            break
        shift = turn % max(1, len(racing))
        run(racing[shift:] + racing[:shift], settings.seconds, 10_000)
    peers: dict[str, Any] = {peer: {"calls": [], "problems": problems[peer]} for peer in workers}
    for lane in lanes:
        if lane.worker.name not in dead:
            summary = {"median": statistics.median(lane.times), "minimum": min(lane.times), "calls": len(lane.times)}
            peers[lane.worker.name]["calls"].append({"layout": lane.layout, "kind": lane.kind} | summary)
    return peers
