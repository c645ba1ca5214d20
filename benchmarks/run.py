"""Time npconv and its peers, each library in its own process, by turns.

    python -m benchmarks.run --json speed.json         every row and direction at 2 threads: about ten minutes
    python -m benchmarks.run --quick --threads 1 2     a choice of rows, at one thread and at two
    python -m benchmarks.run --group winograd depthwise --direction forward
    python -m benchmarks.run --python tensorflow=OTHER/bin/python        a library in an environment of its own

Forward calls come in two kinds. Functional: weights as given, a fresh output. Prepared: weights prepared once, the
output reused where the library can; whoever may prepare may also not, if that is faster. Gradients are functional and
compared with torch. Every library has the faster of its layouts, row by row: F is channels first, L is channels last.
Times are medians in milliseconds; the ratio is the peer's time over npconv's: 2 is twice as fast. Minima are in the JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from .machine import machine
from .peers import NAMES
from .race import Settings, Worker, race
from .rows import FAMILIES, QUICK, ROWS, Row
from .summary import DIRECTIONS, TITLES, aims, cells, disturbed, group_means, heads, markdown, problems

GROUPS = list(dict.fromkeys((*FAMILIES, *(group for row in ROWS for group in row.groups_of))))


def chosen_rows(options: argparse.Namespace) -> list[Row]:
    rows = QUICK if options.quick else ROWS
    if options.group:
        families = {row for name in options.group for row in FAMILIES.get(name, ())}
        rows = [row for row in ROWS if row in families or set(options.group) & set(row.groups_of)]
    return [row for row in rows if not options.only or any(part in row.name for part in options.only)]


def start(options: argparse.Namespace, threads: int) -> dict[str, Worker]:
    """A process per library; those not installed are named and left out."""
    pythons = dict(pair.split("=", 1) for pair in options.python)
    workers = {}
    for peer in options.peers:
        worker = Worker(peer, threads, pythons.get(peer, sys.executable))
        if worker.missing:
            print(f"{peer} is left out: {worker.missing}", file=sys.stderr)
            worker.close()
        else:
            workers[peer] = worker
    return workers


def run(options: argparse.Namespace, threads: int, out: dict[str, Any]) -> None:
    """Time all rows at one number of threads; print as they come."""
    settings = Settings(
        options.rounds, options.seconds, options.row_seconds, patience=options.patience, layout=options.layout
    )
    workers = start(options, threads)
    out["versions"] = {peer: worker.version for peer, worker in workers.items()}
    for direction in options.direction:
        able = list(workers) if direction == "forward" else [p for p in workers if p in ("npconv", "torch")]
        print(f"\n{TITLES[direction]}, threads: {threads}\n\n" + "\n".join(markdown(heads(direction, able), ())))
        for row in chosen_rows(options):
            if row.pool and direction == "weight_grad":
                continue
            result: dict[str, Any] = {"row": row.name, "groups": row.groups_of, "flops": row.flops}
            result |= {"direction": direction, "threads": threads}
            result |= race({peer: workers[peer] for peer in able}, row, direction, settings)
            out["results"].append(result)
            busy = f" others had {result['others']:.0%}" * (result["others"] > settings.quiet)
            print("| " + " | ".join(cells(result, able)) + " |" + busy, flush=True)
    for worker in workers.values():
        worker.close()


def conclusions(out: dict[str, Any]) -> str:
    lines = []
    for threads in out["threads"]:
        for title, table in (("Aims", aims), ("Groups", group_means)):
            lines += ["", f"{title}, threads: {threads}", "", *table(out["results"], threads)]
    return "\n".join(
        [
            *lines,
            "",
            "Left out or failed",
            "",
            *(problems(out["results"]) or ["nothing"]),
            "",
            disturbed(out["results"]),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a choice of rows")
    parser.add_argument("--group", nargs="+", choices=GROUPS, metavar="GROUP", help="; ".join(GROUPS))
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="rows whose name contains one of these")
    parser.add_argument("--layout", choices=("channels_first", "channels_last"), help="one for all, not each its best")
    parser.add_argument("--direction", nargs="+", choices=DIRECTIONS, default=list(DIRECTIONS))
    parser.add_argument("--threads", nargs="+", type=int, default=[2])
    parser.add_argument("--peers", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--python", nargs="+", default=[], metavar="PEER=PATH", help="the interpreter for a library")
    parser.add_argument("--rounds", type=int, default=Settings.rounds)
    parser.add_argument("--seconds", type=float, default=Settings.seconds, help="per candidate and round")
    parser.add_argument("--row-seconds", type=float, default=Settings.row_seconds, help="no new round after so long")
    parser.add_argument("--patience", type=int, default=Settings.patience, help="attempts while others use the machine")
    parser.add_argument("--json", help="write the numbers here")
    parser.add_argument("--markdown", help="write the conclusions here")
    options = parser.parse_args()
    out: dict[str, Any] = {"machine": machine(), "threads": options.threads, "results": []}
    print(f"{out['machine']}; medians in milliseconds", flush=True)
    began = time.monotonic()
    try:
        for threads in options.threads:
            run(options, threads, out)
    except KeyboardInterrupt:
        print("\ninterrupted; what there is:")
    out["minutes"] = round((time.monotonic() - began) / 60, 1)
    print(text := conclusions(out))
    print(f"\n{out['minutes']} minutes; {', '.join(f'{peer} {v}' for peer, v in out.get('versions', {}).items())}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(out, file, indent=1)
    if options.markdown:
        with open(options.markdown, "w", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
