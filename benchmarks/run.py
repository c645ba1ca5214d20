"""Time npconv against torch, each in its own process, batch by batch in turns, and print a table.

    python -m benchmarks.run                        every row, forward and both gradients, 2 threads
    python -m benchmarks.run --group pool --threads 1 --json pool.json

A row's time is the median over all calls of all rounds in the peer's better layout; a ratio is torch's time divided by
ours, so larger is better for us. The minimum is in the JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from typing import Any

from .rows import GROUPS

PEERS = ("npconv", "torch")


class Worker:
    """A peer's process."""

    def __init__(self, peer: str, threads: int) -> None:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = os.environ | {name: str(threads) for name in names}
        command = [sys.executable, "-m", "benchmarks.peers", peer]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, **request: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a benchmark process ended with status {self.process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait()


def race(workers: dict[str, Worker], group: str, index: int, direction: str, rounds: int, seconds: float) -> Any:
    """Median and minimum seconds of every peer in its better layout."""
    for worker in workers.values():
        worker.ask(row=index, group=group, direction=direction, seconds=seconds)
    times: dict[str, dict[str, list[float]]] = {peer: {} for peer in workers}
    for _ in range(rounds):
        for peer, worker in workers.items():
            for layout, each in worker.ask(time=True).items():
                times[peer].setdefault(layout, []).extend(each)
    result = {}
    for peer, layouts in times.items():
        best = min(layouts, key=lambda name: statistics.median(layouts[name]))
        each = layouts[best]
        result[peer] = {"layout": best, "median": statistics.median(each), "minimum": min(each), "calls": len(each)}
    return result


def machine() -> str:
    """The processor's name, the number of processors and the date."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} processors, {time.strftime('%Y-%m-%d')}"


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", choices=(*GROUPS, "all"), default="all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.15, help="per peer, layout and round")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--json", help="also write the numbers here")
    options = parser.parse_args()
    print(f"{machine()}; {options.threads} threads; milliseconds are medians, ratio = torch / npconv\n")
    workers = {peer: Worker(peer, options.threads) for peer in PEERS}
    results: list[dict[str, Any]] = []
    for group in GROUPS if options.group == "all" else [options.group]:
        for direction in ("forward", "input_grad", "weight_grad") if group == "conv" else ("forward",):
            print(
                f"| {group} {direction} | npconv ms | layout | torch ms | layout | ratio |\n|---|---|---|---|---|---|"
            )
            ratios = []
            for index, row in enumerate(GROUPS[group]):
                if options.only not in row.name:
                    continue
                found = race(workers, group, index, direction, options.rounds, options.seconds)
                ours, theirs = found["npconv"], found["torch"]
                ratios.append(theirs["median"] / ours["median"])
                results.append({"group": group, "row": row.name, "direction": direction, "ratio": ratios[-1], **found})
                print(
                    f"| {row.name} | {ours['median'] * 1e3:.3f} | {ours['layout']} | {theirs['median'] * 1e3:.3f} "
                    f"| {theirs['layout']} | {ratios[-1]:.2f} |",
                    flush=True,
                )
            if ratios:
                print(f"| **geometric mean** | | | | | **{geometric_mean(ratios):.2f}** |\n")
    for worker in workers.values():
        worker.close()
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": machine(), "threads": options.threads, "rows": results}, file, indent=1)


if __name__ == "__main__":
    main()
