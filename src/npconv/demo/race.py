"""The chapter on algorithms: all of them on the same layer, with their verdicts, times and errors."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import conv, explain, plots
from ..explanation import Candidate, Explanation
from .report import Chapter, Code, Folder, Picture, Table, Text, canvas

HEAD = ("algorithm", "time", "largest error", "workspace", "verdict at accuracy='standard'")


@dataclass(frozen=True)
class Layer:
    """A layer to race on."""

    name: str
    title: str
    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    padding: int

    def __str__(self) -> str:
        return f"conv({self.x_shape}, {self.w_shape}, padding={self.padding}), float32"


LAYERS = (
    Layer("race", "a layer of a network", (1, 64, 56, 56), (64, 64, 3, 3), 1),
    Layer("race-large", "one large kernel", (1, 1, 256, 256), (1, 1, 31, 31), 15),
)
CROP = Layer("crop", "a crop", (1, 4, 12, 12), (4, 4, 3, 3), 1)


@dataclass(frozen=True)
class Race:
    """What was explained at the default accuracy, and timed at any."""

    layer: Layer
    usual: Explanation
    seconds: dict[str, float]
    errors: dict[str, float]

    def label(self, name: str) -> str:
        """The algorithm's name, marked where the default accuracy does not admit it."""
        able = {c.name: c.able for c in self.usual.candidates}
        return name if able[name] else f"{name} *"

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """A line for every algorithm: those that ran by time, then the others."""
        order = sorted(self.usual.candidates, key=lambda c: self.seconds.get(c.name, np.inf))
        return [self._row(c) for c in order]

    def _row(self, c: Candidate) -> tuple[str, str, str, str, str]:
        if c.name not in self.seconds:
            return c.name, "", "", "", c.verdict
        workspace = "" if c.cost is None else f"{c.cost.workspace / 1e6:.1f} MB"
        return (
            c.name,
            f"{self.seconds[c.name] * 1e3:.2f} ms",
            f"{self.errors[c.name]:.0e}",
            workspace,
            c.verdict,
        )


def run(layer: Layer) -> Race:
    """Time every algorithm that can run, whatever its accuracy, and compare each with float64."""
    usual = explain(layer.x_shape, layer.w_shape, padding=layer.padding)
    timed = explain(layer.x_shape, layer.w_shape, padding=layer.padding, accuracy="fast", measure=True)
    seconds = {c.name: c.measured for c in timed.candidates if c.measured is not None}
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(layer.x_shape), rng.standard_normal(layer.w_shape)
    x, w = x.astype(np.float32), w.astype(np.float32)
    exact = conv(x.astype(np.float64), w.astype(np.float64), padding=layer.padding)
    errors = {}
    for name in seconds:
        y = conv(x, w, padding=layer.padding, algorithm=name, accuracy="fast")
        errors[name] = float(np.abs(y - exact).max() / np.abs(exact).max())
    return Race(layer, usual, seconds, errors)


def loops_on_a_crop() -> tuple[float, float]:
    """Seconds of the loop nest and of the default on a layer small enough for the loop nest."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(CROP.x_shape).astype(np.float32)
    w = rng.standard_normal(CROP.w_shape).astype(np.float32)
    return (
        _least(lambda: conv(x, w, padding=CROP.padding, algorithm="loops"), 3),
        _least(lambda: conv(x, w, padding=CROP.padding), 20),
    )


def _least(call: Callable[[], Any], times: int) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return min(taken)


def races(folder: Folder, quick: bool) -> Chapter:
    """Everything that can run, on one layer or two, and the loop nest on a crop."""
    found = [run(layer) for layer in (LAYERS[:1] if quick else LAYERS)]
    slow, fast = loops_on_a_crop()
    blocks: list[Any] = [
        Text(
            "The same sums can be organised in many ways. npconv estimates each one's time and takes the "
            "cheapest whose error bound fits the accuracy you asked for; here they all run, so you can see "
            "whether it chose well."
        )
    ]
    for race in found:
        blocks += [_picture(race, folder), Table(HEAD, race.rows(), f"{race.layer}. {_remark(race)}")]
    blocks += [
        Text(
            f"`loops`, the loop nest as one writes it down, runs on a small crop only, {CROP}: "
            f"{slow * 1e3:.1f} ms, where the default takes {fast * 1e3:.3f} ms."
        ),
        Code(
            f"import npconv\nprint(npconv.explain({LAYERS[0].x_shape}, {LAYERS[0].w_shape}, padding=1, measure=True))"
        ),
    ]
    first = found[0]
    return Chapter(
        "race",
        "A race of all algorithms",
        blocks,
        summary=(
            f"{first.seconds[first.usual.choice] * 1e3:.1f} ms",
            f"{first.usual.choice}, chosen of {len(first.usual.candidates)} algorithms for 64 → 64 channels of 56 × 56",
        ),
        terminal="\n\n".join(_as_text(race) for race in found)
        + f"\n\nloops, on a crop only, {CROP}: {slow * 1e3:.1f} ms; the default there: {fast * 1e3:.3f} ms",
    )


def _picture(race: Race, folder: Folder) -> Picture:
    figure = canvas(0.8 + 0.42 * len(race.seconds))
    names = [race.label(name) for name in race.seconds]
    chosen = race.label(race.usual.choice)
    plots.race(names, list(race.seconds.values()), chosen=chosen, ax=figure.subplots(), title=race.layer.title)
    return folder.save(
        figure,
        race.layer.name,
        f"{race.layer.title.capitalize()}, shorter is faster. Orange: what npconv chose before it measured. "
        "*: admitted by accuracy='fast' only.",
        f"Bars of the times of {len(names)} algorithms",
    )


def _remark(race: Race) -> str:
    """Whether the choice was the fastest of those it could choose from."""
    able = {c.name for c in race.usual.candidates if c.able}
    fastest = min((n for n in race.seconds if n in able), key=race.seconds.__getitem__)
    if fastest == race.usual.choice:
        return f"The choice, `{fastest}`, was the fastest that its accuracy admits."
    lost = race.seconds[race.usual.choice] / race.seconds[fastest]
    return f"Here, now, `{fastest}` was {lost:.2f} times as fast as the choice, `{race.usual.choice}`."


def _as_text(race: Race) -> str:
    rows = [HEAD, *race.rows()]
    name, *middle, _ = (max(len(row[i]) for row in rows) for i in range(len(HEAD)))
    lines = [
        "  ".join([row[0].ljust(name), *(cell.rjust(n) for cell, n in zip(row[1:-1], middle, strict=True)), row[-1]])
        for row in rows
    ]
    return "\n".join([f"race on {race.layer.title}: {race.layer}", *lines])
