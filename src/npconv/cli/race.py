"""`npconv bench`: libraries in processes of their own take turns on one layer, and what their times say."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from .. import __version__, explain, get_num_threads
from .words import problem_document, seconds, shown

#: Turns that each way gets; the machine's slower moments are then shared.
ROUNDS = 5
#: Relative difference of results beyond which they are others: a float32 sum in another order stays below.
OTHER = 1e-3
BUSY = 0.5  # tasks waiting per processor


@dataclass(frozen=True)
class Problem:
    """A layer by its shapes, and the keywords of `npconv.explain`."""

    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    options: dict[str, Any]


@dataclass
class Way:
    """A library, the way it computes, and the seconds of every call."""

    library: str
    name: str
    seconds: list[float] = field(default_factory=list)
    result: tuple[float, float] = (0.0, 0.0)
    error: str = ""

    @property
    def label(self) -> str:
        return f"{self.library} {self.name}".strip()

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def compared(self, other: Way) -> tuple[float, float]:
        """The median as a multiple of the other's, and the least time as one of the other's."""
        return self.median / other.median, min(self.seconds) / min(other.seconds)

    @property
    def noise(self) -> float:
        """Half of what the middle half of the times spans, relative to their median."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / 2 / self.median


class Racer:
    """A process of one library."""

    def __init__(self, library: str, threads: int) -> None:
        names = ("NPCONV_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        path = os.pathsep.join(
            [str(Path(__file__).parents[2]), *filter(None, sys.path)]
        )  # this npconv, also in its tests
        environment = os.environ | dict.fromkeys(names, str(threads)) | {"PYTHONPATH": path}
        command = [sys.executable, "-W", "ignore", "-m", "npconv.cli.racer", library]
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, text=True, env=environment)

    def ask(self, question: Any) -> Any:
        """Its answer; one with "error" where it has none."""
        if self.process.stdin is None or self.process.stdout is None:
            return {"error": "it has no pipes"}
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline() or '{"error": "the process ended"}')
        except (OSError, ValueError) as error:
            return {"error": f"the process ended: {error}"}

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@dataclass
class Race:
    """What was timed; printed by `rows`, with what to think of it in `notes`."""

    explained: Any
    threads: int
    chosen: str
    versions: dict[str, str]
    ways: list[Way]
    load: float | None

    @property
    def timed(self) -> list[Way]:
        """The ways that ran, the fastest first."""
        return sorted((w for w in self.ways if w.seconds), key=lambda w: w.median)

    @property
    def ours(self) -> Way | None:
        return next((w for w in self.timed if w.label == "npconv auto"), None)

    def title(self) -> str:
        g, r = self.explained.geometry, self.explained.request
        head = f"{r.direction} of {g.x_shape} * {g.w_shape} -> {g.y_shape}, {r.dtypes.result}"
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{head}\n{versions}; {self.threads} thread{'s' * (self.threads > 1)}; auto is {self.chosen}"

    def rows(self) -> tuple[list[tuple[str, ...]], tuple[int, ...]]:
        rows: list[tuple[str, ...]] = [("", "median", "of auto", "least", "of auto", "noise", "calls")]
        auto = self.ours
        for way in self.timed:
            ratios = ["", ""] if auto is None else [f"{n:.2f}" for n in way.compared(auto)]
            times = (seconds(way.median), ratios[0], seconds(min(way.seconds)), ratios[1])
            rows.append((way.label, *times, f"{way.noise:.0%}", str(len(way.seconds))))
        return rows, (1, 2, 3, 4, 5, 6)

    def notes(self) -> list[str]:
        said = [f"{w.label}: {shown(w.error, 200)}" for w in self.ways if w.error]
        timed = self.timed
        if len(timed) > 1:
            first, second = timed[:2]
            if second.median / first.median - 1 <= first.noise + second.noise:
                said.append(f"{first.label} and {second.label} differ by less than the noise")
        worst = max((w.noise for w in timed), default=0.0)
        if worst > 0.1:
            said.append(f"times scatter by up to {worst:.0%}: try --seconds 5, and close what else runs")
        if self.load is not None and self.load > BUSY * (os.cpu_count() or 1):
            said.append(f"this machine was busy before it began ({self.load:.1f} tasks): do not trust these times")
        return said

    def document(self) -> dict[str, Any]:
        return {
            **problem_document(self.explained),
            "threads": self.threads,
            "processor": platform.machine(),
            "processors": os.cpu_count(),
            "load_before": self.load,
            "versions": self.versions,
            "chosen": self.chosen,
            "ways": [
                {
                    "library": w.library,
                    "way": w.name,
                    "median": w.median if w.seconds else None,
                    "least": min(w.seconds, default=None),
                    "noise": w.noise if w.seconds else None,
                    "of_auto": w.compared(self.ours) if self.ours and w.seconds else None,
                    "calls": len(w.seconds),
                    "error": w.error or None,
                }
                for w in (*self.timed, *(w for w in self.ways if not w.seconds))
            ],
        }


def libraries(asked: str, known: tuple[str, ...]) -> list[str]:
    """npconv, and the peers that are asked for or installed."""
    if asked == "installed":
        return ["npconv", *(name for name in known if find_spec(name))]
    names = [] if asked == "none" else [name.strip() for name in asked.split(",")]
    for name in names:
        if name not in known:
            raise click.UsageError(f"--peers: {name!r} is none of {', '.join(known)}, installed, none")
        if find_spec(name) is None:
            raise click.ClickException(f"{name} is not installed: pip install {name}")
    return ["npconv", *dict.fromkeys(names)]


def run(
    problem: Problem, names: list[str], threads: int | None, seconds: float, tell: Callable[[str, int, int], None]
) -> Race:
    """Start the libraries, let each way compute once, and time them in turns."""
    explained = explain(problem.x_shape, problem.w_shape, **problem.options)  # refuses what cannot work
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    count = threads or get_num_threads()
    given = {"x_shape": problem.x_shape, "w_shape": problem.w_shape, "options": problem.options, "threads": count}
    racers: dict[str, Racer] = {}
    versions, ways, chosen = {"npconv": __version__}, [], explained.choice
    try:
        for name in names:
            tell(f"starting {name}", 0, 1)
            racers[name] = Racer(name, count)
            answer = racers[name].ask(given)
            if "error" in answer:
                ways.append(Way(name, "", error=answer["error"]))
                continue
            versions[name] = answer["version"] or __version__
            chosen = answer["chosen"] or chosen
            ways += [Way(name, way) for way in answer["ways"]]
        running = [way for way in ways if not way.error]
        for i, way in enumerate(running):
            tell(way.label, i, len(running) * (1 + ROUNDS))
            _first(way, racers[way.library].ask({"way": way.name}), ways)
        running = [way for way in running if not way.error]
        for turn in range(ROUNDS):
            for i, way in enumerate(running):
                tell(way.label, len(running) * (1 + turn) + i, len(running) * (1 + ROUNDS))
                answer = racers[way.library].ask({"way": way.name, "seconds": seconds / ROUNDS})
                if isinstance(answer, dict):
                    way.error = answer["error"]
                else:
                    way.seconds += answer
    finally:
        for racer in racers.values():
            racer.end()
    return Race(explained, count, chosen, versions, ways, load)


def _first(way: Way, answer: Any, ways: list[Way]) -> None:
    """Keep what a way's first result looks like, and refuse to time one that computes something else."""
    if isinstance(answer, dict):
        way.error = answer["error"]
        return
    way.result = (answer[0], answer[1])
    right = ways[0].result
    if any(abs(a - b) > OTHER * max(abs(b), 1e-30) for a, b in zip(way.result, right, strict=True)):
        way.error = f"its result is another: mean and largest {way.result}, expected {right}"
