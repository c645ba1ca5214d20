"""What the times say: ratios, group means, and whether they are as promised; all from a run's JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Result = dict[str, Any]
DIRECTIONS = ("forward", "input_grad", "weight_grad")
TITLES = {"forward": "forward", "input_grad": "gradient of the input", "weight_grad": "gradient of the weights"}


@dataclass(frozen=True)
class Aim:
    """A promise: the geometric mean and the worst row of a group, as multiples of the peers' speed."""

    label: str
    group: str
    directions: tuple[str, ...]
    kind: str
    against: str
    mean: float
    worst: float | None = None


BACKWARD = DIRECTIONS[1:]
AIMS = (
    Aim("a", "all", ("forward",), "prepared", "best", 1.5, 0.9),
    Aim("a", "winograd", ("forward",), "prepared", "best", 2.5),
    Aim("a", "large", ("forward",), "prepared", "best", 3.0),
    Aim("b", "all", ("forward",), "functional", "torch", 1.5, 0.8),
    Aim("c", "all", BACKWARD, "functional", "torch", 1.5, 0.8),
    *(
        Aim("d", group, directions, kind, against, mean)
        for group, against, mean in (
            *(("float64", "torch", 2.5), ("grouped32", "torch", 2.0), ("3d", "torch", 2.0)),
            *(("transposed", "torch", 1.5), ("depthwise", "best", 1.2), ("pool", "best", 1.0)),
        )
        for directions, kind in ((("forward",), "prepared"), (BACKWARD, "functional"))
    ),
)


def geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(value) if value > 0 else -math.inf for value in values]
    return math.exp(sum(logs) / len(logs))


def best(result: Result, peer: str, kind: str, statistic: str = "median") -> dict[str, Any] | None:
    """The library's fastest call; where it may prepare, it may also not."""
    calls = result["peers"].get(peer, {"calls": []})["calls"]
    calls = [call for call in calls if kind == "prepared" or call["kind"] == kind]
    return min(calls, key=lambda call: call[statistic], default=None)


def ratio(result: Result, kind: str, against: str, statistic: str = "median") -> float | None:
    """The peer's time over ours: 2 is twice as fast; 0 where npconv failed, None where no peer can."""
    peers = [peer for peer in result["peers"] if peer != "npconv"] if against == "best" else [against]
    times = [call[statistic] for peer in peers if (call := best(result, peer, kind, statistic))]
    ours = best(result, "npconv", kind, statistic)
    if not times:
        return None
    return min(times) / ours[statistic] if ours else 0.0


def in_group(result: Result, group: str) -> bool:
    """"all" is every float32 convolution."""
    if group == "all":
        return not {"pool", "float64"} & set(result["groups"])
    return group in result["groups"]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


# --------------------------------------------------------------------------- row by row
def milliseconds(call: dict[str, Any] | None) -> str:
    """The median and the layout's initial: channels F)irst or L)ast."""
    return f"{call['median'] * 1e3:.3f} {'L' if call['layout'] == 'channels_last' else 'F'}" if call else "–"


def times_of(value: float | None) -> str:
    return "–" if value is None else "failed" if value == 0 else f"{value:.2f}"


def heads(direction: str, peers: Sequence[str]) -> list[str]:
    if direction != "forward":
        return ["layer", "npconv", "torch", "ratio"]
    others = [peer for peer in peers if peer not in ("npconv", "torch")]
    names = ["npconv", "torch"] * ("torch" in peers) or ["npconv"]
    return ["layer", *names, "ratio", *(f"{name} prepared" for name in names), *others, "best peer / npconv"]


def cells(result: Result, peers: Sequence[str]) -> list[str]:
    """One row's cells under `heads`."""
    own = [peer for peer in ("npconv", "torch") if peer in peers]
    given = [milliseconds(best(result, peer, "functional")) for peer in own]
    first = [result["row"], *given, times_of(ratio(result, "functional", "torch"))]
    if result["direction"] != "forward":
        return first
    prepared = [milliseconds(best(result, peer, "prepared")) for peer in (*own, *(p for p in peers if p not in own))]
    return [*first, *prepared, times_of(ratio(result, "prepared", "best"))]


# --------------------------------------------------------------------------- group by group
def groups(results: Sequence[Result]) -> list[str]:
    return ["all", *dict.fromkeys(group for result in results for group in result["groups"])]


def group_line(aim: Aim, results: Sequence[Result], direction: str) -> list[str] | None:
    """The cells of `GROUP_HEADS`, or None where nothing was measured."""
    found = {}
    for result in results:
        if result["direction"] == direction and in_group(result, aim.group):
            value = ratio(result, aim.kind, aim.against)
            if value is not None:
                found[result["row"]] = value, ratio(result, aim.kind, aim.against, "minimum") or 0.0
    if not found:
        return None
    mean, minima = (geometric_mean(pair[i] for pair in found.values()) for i in (0, 1))
    worst = min(found, key=lambda name: found[name][0])
    met = mean >= aim.mean and (aim.worst is None or found[worst][0] >= aim.worst)
    wanted = f"{aim.mean:g}" + (f", no row under {aim.worst:g}" if aim.worst else "") if aim.label else ""
    under = sum(pair[0] < aim.worst for pair in found.values()) if aim.worst else 0
    verdict = ("yes" if met else "no" + f" ({under} rows under)" * bool(under)) if aim.label else ""
    return [
        *(aim.label, aim.group, direction, aim.kind, aim.against, str(len(found))),
        *(f"{mean:.2f}", f"{minima:.2f}", f"{found[worst][0]:.2f} {worst}", wanted, verdict),
    ]


GROUP_HEADS = (
    *("aim", "group", "direction", "calls", "against", "rows"),
    *("mean", "of minima", "worst row", "wanted", "met"),
)


def aims(results: Sequence[Result], threads: int) -> list[str]:
    """What was promised, at one number of threads."""
    chosen = [result for result in results if result["threads"] == threads]
    lines = [group_line(aim, chosen, direction) for aim in AIMS for direction in aim.directions]
    return markdown(GROUP_HEADS, filter(None, lines))


def group_means(results: Sequence[Result], threads: int) -> list[str]:
    """Every group in every direction, promised or not."""
    chosen = [result for result in results if result["threads"] == threads]
    lines = []
    for direction in DIRECTIONS:
        calls = (("prepared", "best"), ("functional", "torch")) if direction == "forward" else (("functional", "torch"),)
        for kind, against in calls:
            for group in groups(chosen):
                lines.append(group_line(Aim("", group, (), kind, against, 0), chosen, direction))
    return [line.removeprefix("|  ") for line in markdown(GROUP_HEADS[:-2], (row[:-2] for row in lines if row))]


def problems(results: Sequence[Result]) -> list[str]:
    """What was left out or failed, with the rows; npconv's own first."""
    found: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for peer, measured in result["peers"].items():
            for text in measured["problems"]:
                found.setdefault((peer, text), []).append(f"{result['row']} {result['direction']}")
    ordered = sorted(found.items(), key=lambda item: (item[0][0] != "npconv", " failed: " not in item[0][1], item[0]))
    lines = []
    for (peer, text), rows in ordered:
        rows = list(dict.fromkeys(rows))
        some = "; ".join(rows[:4]) + (f" and {len(rows) - 4} more" if len(rows) > 4 else "")
        lines.append(f"- {peer} {text} ({some})")
    return lines
