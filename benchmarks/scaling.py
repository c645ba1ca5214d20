"""How npconv's time grows: with threads on layers over 100 MFLOP, with the batch, with the pixels.

python -m benchmarks.scaling               forward, prepared where there are plans
python -m benchmarks.scaling --direction weight_grad --json scaling.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from .machine import machine
from .race import Settings, Worker, race
from .rows import FAMILIES, NETWORKS, Row, depthwise, row, unique
from .summary import DIRECTIONS, best, geometric_mean, markdown

LARGE = 100_000_000  # operations from which two threads should pay
BATCHES = (1, 2, 4, 8, 16, 32)
SWEEPS: dict[str, list[Row]] = {
    "batch, 3x3 64@28": [row(64, 28, 64, 3, n=n) for n in BATCHES],
    "batch, 1x1 128->64@28": [row(128, 28, 64, 1, n=n) for n in BATCHES],
    "batch, depthwise 3x3 96@28": [depthwise(96, 28, n=n) for n in BATCHES],
    "pixels, 3x3 64": [row(64, size, 64, 3) for size in (7, 14, 28, 56, 112, 224)],
    "pixels, 1x1 128->64": [row(128, size, 64, 1) for size in (7, 14, 28, 56, 112, 224)],
    "pixels, depthwise 3x3 32": [depthwise(32, size) for size in (14, 28, 56, 112, 224)],
}


class Timer:
    """npconv at one thread and at several, each in its process, by turns."""

    def __init__(self, threads: int, direction: str, settings: Settings) -> None:
        self.direction, self.settings = direction, settings
        self.workers = {name: Worker("npconv", n, name=name) for n in (1, threads) for name in [f"{n} threads"]}

    def __call__(self, layer: Row) -> list[float]:
        """The minimal seconds per number of threads; nan where it failed."""
        result = race(self.workers, layer, self.direction, self.settings)
        calls = [best(result, name, "prepared", "minimum") for name in self.workers]
        return [call["minimum"] if call else float("nan") for call in calls]

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()


def milliseconds(times: Sequence[float]) -> list[str]:
    return [f"{seconds * 1e3:.3f}" for seconds in times]


def threads_table(timer: Timer, both: tuple[str, str]) -> dict[str, Sequence[float]]:
    """One thread against several on every layer that is large enough."""
    families = ("layers", *NETWORKS, "volume", "dilated")
    layers = unique(layer for name in families for layer in FAMILIES[name] if layer.flops > LARGE)
    found: dict[str, Sequence[float]] = {layer.name: timer(layer) for layer in layers}
    gains = {name: one / many for name, (one, many) in found.items()}
    lines = [[name, *milliseconds(times), f"{gains[name]:.2f}"] for name, times in found.items()]
    print("\n".join(markdown(("layer", *both, "times faster"), lines)))
    known = {name: gain for name, gain in gains.items() if gain == gain}
    worst = min(known, key=known.__getitem__)
    print(f"\ngeometric mean {geometric_mean(known.values()):.2f}, worst {known[worst]:.2f} ({worst})\n")
    return found


def sweep_table(timer: Timer, both: tuple[str, str], title: str, sweep: Sequence[Row]) -> dict[str, Sequence[float]]:
    """The time per unit of work along a sweep."""
    found, last, lines = [timer(layer) for layer in sweep], sweep[-1], []
    for layer, times in zip(sweep, found, strict=True):
        share = last.flops / layer.flops
        relative = [f"{share * mine / full:.2f}" for mine, full in zip(times, found[-1], strict=True)]
        lines.append([layer.name, *milliseconds(times), *relative])
    head = (title, *both, *(f"{threads}: time per work" for threads in both))
    print("\n".join(markdown(head, lines)) + "\n", flush=True)
    return {layer.name: times for layer, times in zip(sweep, found, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--direction", choices=DIRECTIONS, default="forward")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.05, help="per layout and round")
    parser.add_argument("--json", help="write the numbers here")
    options = parser.parse_args()
    timer = Timer(options.threads, options.direction, Settings(options.rounds, options.seconds))
    out: dict[str, Any] = {"machine": machine(), "direction": options.direction, "threads": options.threads}
    print(f"{out['machine']}; {options.direction}; minima in milliseconds\n")
    both = ("1 thread", f"{options.threads} threads")
    out["layers"] = threads_table(timer, both)
    out["sweeps"] = {name: sweep_table(timer, both, name, sweep) for name, sweep in SWEEPS.items()}
    print("time per work: that of the sweep's last row is 1")
    timer.close()
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(out, file, indent=1)


if __name__ == "__main__":
    main()
