"""Time one row in every library by turns, each in its own process."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .cores import shared
from .machine import Others
from .rows import Row
from .worker import SLOW

THREAD_VARIABLES = ("OMP", "OPENBLAS", "MKL", "NPCONV", "NUMBA")
#: glibc gives freed memory back and maps it anew, which can cost more than a layer. Nobody pays that here.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
#: Candidates this much slower than their library's best, as probed, stay with the probe's times.
HOPELESS = 1.4


@dataclass(frozen=True)
class Settings:
    """How long a row may take: rounds of `seconds` per candidate, no new one after `row_seconds`; a first call.

    While others use more than the share `quiet` of the processors, a row is timed again, at most `patience` times; a
    candidate too, while its threads do not have a core each. `layout`: the one that all take, else each takes its best.
    """

    rounds: int = 3
    seconds: float = 0.04
    row_seconds: float = 15.0
    build_seconds: float = 20.0
    patience: int = 3
    quiet: float = 0.04
    layout: str | None = None


class PeerLostError(Exception):
    """A library's process ended or hung."""


class Worker:
    """A library's process; `name` tells two of one library apart, and so may variables of their environment."""

    def __init__(
        self,
        peer: str,
        threads: int,
        python: str = sys.executable,
        name: str = "",
        module: str = "benchmarks.worker",
        **environment: str,
    ) -> None:
        self.peer, self.threads, self.python, self.name = peer, threads, python, name or peer
        self.module, self.environment = module, environment
        self.start()

    def start(self) -> None:
        environment = os.environ | KEEP_MEMORY | {f"{name}_NUM_THREADS": str(self.threads) for name in THREAD_VARIABLES}
        environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"} | self.environment
        flag = ["--worker"] if self.module != "benchmarks.worker" else []
        command = [self.python, "-m", self.module, *flag, self.peer, str(self.threads)]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=nothing)
        self.received = b""
        hello = self.answer(120)
        self.version = hello.get("version")
        self.missing = hello.get("error")

    def send(self, **request: Any) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # `answer` will notice
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()

    def answer(self, seconds: float) -> Any:
        """The next line; read by hand, because a file object would keep lines from `select`."""
        assert self.process.stdout
        pipe = self.process.stdout.fileno()
        while b"\n" not in self.received:
            if not select.select([pipe], [], [], seconds)[0]:
                raise self.lost(f"no answer in {seconds:g} s")
            chunk = os.read(pipe, 1 << 16)
            if not chunk:
                raise self.lost(f"its process ended with status {self.process.wait()}")
            self.received += chunk
        line, self.received = self.received.split(b"\n", 1)
        return json.loads(line)

    def lost(self, reason: str) -> PeerLostError:
        self.close(kill=True)
        return PeerLostError(reason)

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
    candidate: int
    first: float
    times: list[float] = field(default_factory=list)
    quickest: float = math.inf
    crowded: bool = False

    def run(self, seconds: float, most: int, patience: int = 1) -> None:
        for _ in range(patience):
            self.worker.send(candidate=self.candidate, seconds=seconds, most=most, warm=self.quickest < seconds)
            found = self.worker.answer(120)
            self.quickest = min(self.quickest, *found)
            crowded = shared(self.worker.threads)
            if not crowded:
                break
        self.times += found
        self.crowded = self.crowded or crowded


def build(workers: dict[str, Worker], row: Row, direction: str, seconds: float) -> tuple[list[Lane], dict[str, Any]]:
    """The candidates of every library that work and agree, and what went wrong with the others."""
    problems: dict[str, list[str]] = {}
    request: dict[str, Any] = {"row": row.written(), "direction": direction}
    for worker in workers.values():
        worker.send(**request, skip=[])
    reports = {name: collect(worker, request, seconds) for name, worker in workers.items()}
    agreed = agreement(reports)
    lanes = []
    for name, report in reports.items():
        problems[name] = []
        for entry in report:
            what = f"{entry['layout']} {entry['kind']}"
            if "error" in entry:
                problems[name].append(f"{what} {'left out' if entry['unable'] else 'failed'}: {entry['error']}")
            elif agreed and not close(entry["fingerprint"], agreed):
                mine, others = (f"{pair[0]:.6g}, max |y| = {pair[1]:.6g}" for pair in (entry["fingerprint"], agreed))
                problems[name].append(f"{what} failed: mean |y| = {mine}, but others have {others}")
            else:
                known = (entry["layout"], entry["kind"], entry["candidate"], entry["seconds"])
                lanes.append(Lane(workers[name], *known))
    return lanes, problems


def collect(worker: Worker, request: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    """A report on each candidate; one that takes the process down, or too long, costs the others nothing."""
    lost: list[dict[str, Any]] = []
    report: list[dict[str, Any]] = []
    while True:
        try:
            while entry := worker.answer(seconds):
                report.append(entry)
            return report + lost
        except PeerLostError as reason:
            skip = [entry["candidate"] for entry in lost]
            culprit = next(i for i in range(99) if i not in skip and i not in [e["candidate"] for e in report])
            lost.append({"candidate": culprit, "layout": f"candidate {culprit}", "kind": "", "unable": False})
            lost[-1]["error"] = str(reason)
            report = []
            worker.start()
            worker.send(**request, skip=[*skip, culprit])


def agreement(reports: dict[str, list[dict[str, Any]]]) -> list[float] | None:
    """The fingerprint that torch has, or else the middle one."""
    known = {name: [e["fingerprint"] for e in report if "error" not in e] for name, report in reports.items()}
    values = known.get("torch") or [value for every in known.values() for value in every]
    return sorted(values)[(len(values) - 1) // 2] if values else None


def close(found: list[float], agreed: list[float]) -> bool:
    """Loose enough for float32 sums of a million products, which single elements show most."""
    return all(abs(a - b) <= tolerance * abs(b) for a, b, tolerance in zip(found, agreed, (1e-3, 3e-2), strict=True))


def contenders(lanes: list[Lane]) -> list[Lane]:
    """Those not hopeless beside their library's best of the same kind."""
    best: dict[tuple[str, str], float] = {}
    for lane in lanes:
        key = (lane.worker.name, lane.kind)
        best[key] = min(best.get(key, math.inf), lane.quickest)
    return [lane for lane in lanes if lane.quickest <= HOPELESS * best[lane.worker.name, lane.kind]]


def race(workers: dict[str, Worker], row: Row, direction: str, settings: Settings) -> dict[str, Any]:
    """The times of every library, by layout and kind of call; its problems; the share that others had of the machine."""
    lanes, problems = build(workers, row, direction, settings.build_seconds)
    lanes = [lane for lane in lanes if settings.layout in (None, lane.layout)]
    attempts = []
    for attempt in range(settings.patience):
        time.sleep(attempt)
        others = Others(worker.process.pid for worker in workers.values())
        dead = turns(lanes, settings)
        crowded = any(lane.crowded for lane in lanes)
        attempts.append((others.share(), {id(lane): lane.times for lane in lanes}, crowded))
        for name, reason in dead.items():
            problems[name].append(f"failed: {reason}")
        lanes = [lane for lane in lanes if lane.worker.name not in dead]
        if attempts[-1][0] <= settings.quiet:
            break
    share, times, crowded = min(attempts, key=lambda attempt: attempt[0])
    peers: dict[str, Any] = {name: {"calls": [], "problems": problems[name]} for name in workers}
    for lane in lanes:
        mine = times[id(lane)]
        summary = {"median": statistics.median(mine), "minimum": min(mine), "calls": len(mine)}
        peers[lane.worker.name]["calls"].append({"layout": lane.layout, "kind": lane.kind} | summary)
    return {"peers": peers, "others": round(share, 3), "crowded": crowded}


def turns(lanes: list[Lane], settings: Settings) -> dict[str, str]:
    """Time all lanes by turns; the libraries that were lost, and how."""
    end = time.monotonic() + settings.row_seconds
    dead: dict[str, str] = {}

    def run(some: Iterable[Lane], seconds: float, most: int) -> None:
        for lane in some:
            try:
                if lane.worker.name not in dead:
                    lane.run(seconds, most, settings.patience)
            except PeerLostError as lost:
                dead[lane.worker.name] = str(lost)
                lane.worker.start()

    for lane in lanes:
        lane.times = [] if lane.first < SLOW else [lane.first]
        lane.quickest, lane.crowded = min(lane.times, default=math.inf), False
    for _ in range(2):  # the first call of a lane whose turn it is finds the caches full of what others left there
        run([lane for lane in lanes if not lane.times or lane.quickest < SLOW], settings.seconds / 8, 30)
    racing = contenders([lane for lane in lanes if lane.worker.name not in dead])
    for lane in racing:
        if lane.quickest < settings.seconds:
            lane.times, lane.crowded = [], False  # a few calls straight after the arrays were made are cold
    for turn in range(settings.rounds):
        if turn and time.monotonic() > end:
            break
        shift = turn % max(1, len(racing))
        run(racing[shift:] + racing[:shift], settings.seconds, 10_000)
    return dead
