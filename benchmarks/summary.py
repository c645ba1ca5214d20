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
        for group, peer, mean in (
            *(("float64", "torch", 2.5), ("grouped32", "torch", 2.0), ("3d", "torch", 2.0)),
            *(("transposed", "torch", 1.5), ("depthwise", "best", 1.2), ("pool", "best", 1.0)),
        )
        for directions, kind, against in ((("forward",), "prepared", peer), (BACKWARD, "functional", "torch"))
    ),
)


def geometric_mean(values: Iterable[float]) -> float:
    """0 where there are none."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else 0.0


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
    """ "all" is every float32 convolution."""
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
@dataclass(frozen=True)
class Score:
    """The ratios of a group in one direction, by medians and by minima; those that failed are 0, outside the means."""

    medians: dict[str, float]
    minima: dict[str, float]

    @property
    def mean(self) -> float:
        return geometric_mean(filter(None, self.medians.values()))

    @property
    def mean_of_minima(self) -> float:
        return geometric_mean(filter(None, self.minima.values()))

    @property
    def failed(self) -> int:
        return sum(value == 0 for value in self.medians.values())

    @property
    def brief(self) -> str:
        """The mean, the worst, the failures."""
        return f"{self.mean:.2f} ({self.medians[self.worst]:.2f})" + f", {self.failed} failed" * bool(self.failed)

    @property
    def worst(self) -> str:
        return min(self.medians, key=self.medians.__getitem__)


def score(results: Iterable[Result], group: str, direction: str, kind: str, against: str) -> Score | None:
    """None where nothing was measured."""
    found = [result for result in results if result["direction"] == direction and in_group(result, group)]
    medians, minima = (
        {r["row"]: value for r in found if (value := ratio(r, kind, against, statistic)) is not None}
        for statistic in ("median", "minimum")
    )
    return Score(medians, minima) if medians else None


def at(results: Iterable[Result], threads: int) -> list[Result]:
    return [result for result in results if result["threads"] == threads]


def verdict(aim: Aim, found: Score) -> str:
    """Whether it holds; a failure is a broken promise."""
    under = sum(0 < value < aim.worst for value in found.medians.values()) if aim.worst else 0
    if found.mean >= aim.mean and not under and not found.failed:
        return "yes"
    return "no" + f", {under} rows under" * bool(under) + f", {found.failed} failed" * bool(found.failed)


def aims(results: Sequence[Result], threads: int) -> list[str]:
    """What was promised, at one number of threads, and whether it holds."""
    head = ("aim", "group", "direction", "calls", "against", "rows", "mean", "of minima", "worst row", "wanted", "met")
    lines = []
    for aim in AIMS:
        for direction in aim.directions:
            found = score(at(results, threads), aim.group, direction, aim.kind, aim.against)
            if found is None:
                continue
            lines.append(
                [
                    *(aim.label, aim.group, direction, aim.kind, aim.against, str(len(found.medians))),
                    *(f"{found.mean:.2f}", f"{found.mean_of_minima:.2f}"),
                    f"{times_of(found.medians[found.worst])} {found.worst}",
                    f"{aim.mean:g}" + (f", no row under {aim.worst:g}" if aim.worst else ""),
                    verdict(aim, found),
                ]
            )
    return markdown(head, lines)


COLUMNS = {
    "forward, prepared / best peer": ("forward", "prepared", "best"),
    "forward / torch": ("forward", "functional", "torch"),
    "input gradient / torch": ("input_grad", "functional", "torch"),
    "weight gradient / torch": ("weight_grad", "functional", "torch"),
}


def group_means(results: Sequence[Result], threads: int) -> list[str]:
    """Every group in every direction: the mean, and the worst row's ratio."""
    chosen, lines = at(results, threads), []
    for group in dict.fromkeys(["all", *(group for result in chosen for group in result["groups"])]):
        found = [score(chosen, group, *column) for column in COLUMNS.values()]
        rows = max((len(s.medians) for s in found if s), default=0)
        if rows:
            lines.append([group, str(rows), *(s.brief if s else "–" for s in found)])
    return markdown(("group", "rows", *COLUMNS), lines)


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


def disturbed(results: Sequence[Result]) -> str:
    """How often other work had a share of the machine; libraries whose threads wait for each other suffer most."""
    shares = [result["others"] for result in results]
    busy = sum(share > 0.1 for share in shares)
    crowded = sum(result["crowded"] for result in results)
    return (
        f"Other work had more than a tenth of the machine in {busy} of {len(shares)} measurements; in {crowded}, threads "
        "shared a core to the end."
    )
