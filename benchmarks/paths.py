"""How fast the kernels of the wheel are beside those compiled here: the same rows, each path in its process, by turns.

    python -m pip install ".[fast]"             # the wheel's kernels, and numba beside them
    python -m benchmarks.paths                  every row and direction: some eight minutes
    python -m benchmarks.paths --group layers --direction forward

A ratio is the time of kernels compiled here over that of the wheel's, of minima: 1 is as fast, 2 twice.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from .machine import machine
from .race import Settings, Worker, race
from .run import GROUPS, chosen_rows
from .summary import DIRECTIONS, best, geometric_mean, markdown

PATHS = ("ahead", "jit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a choice of rows")
    parser.add_argument("--group", nargs="+", choices=GROUPS, metavar="GROUP")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="rows whose name contains one of these")
    parser.add_argument("--direction", nargs="+", choices=DIRECTIONS, default=list(DIRECTIONS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="write the numbers here")
    options = parser.parse_args()
    workers = {path: Worker("npconv", options.threads, name=path, NPCONV_KERNELS=path) for path in PATHS}
    for path, worker in workers.items():
        if worker.missing:
            raise SystemExit(f"{path}: {worker.missing}")
    out: dict[str, Any] = {"machine": machine(), "threads": options.threads, "rows": []}
    print(f"{out['machine']}; {options.threads} threads, minima in milliseconds\n")
    print("\n".join(markdown(("row", "direction", "calls", *PATHS, "ratio"), ())))
    for direction in options.direction:
        for row in chosen_rows(options):
            if row.pool and direction == "weight_grad":
                continue
            result = race(workers, row, direction, Settings())
            for kind in ("functional", "prepared") if direction == "forward" else ("functional",):
                calls = [best(result, path, kind, "minimum") for path in PATHS]
                if all(calls):
                    times = [call["minimum"] * 1e3 for call in calls if call]
                    line = [row.name, direction, kind, *(f"{t:.3f}" for t in times), f"{times[1] / times[0]:.2f}"]
                    out["rows"].append([row.name, direction, kind, *times])
                    print("| " + " | ".join(line) + " |", flush=True)
    for worker in workers.values():
        worker.close()
    ratios = {" ".join(line[:3]): line[4] / line[3] for line in out["rows"]}
    print(f"\ngeometric mean {geometric_mean(ratios.values()):.3f}; below 0.95:")
    for name, ratio in sorted(ratios.items(), key=lambda pair: pair[1]):
        if ratio < 0.95:
            print(f"- {name} {ratio:.2f}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(out, file, indent=1)


if __name__ == "__main__":
    main()
