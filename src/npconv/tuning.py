"""Measure the dispatcher's cost table on this machine, and keep it where the compiled kernels are kept.

Times of random layers are fitted by the units of `Cost`, engine by engine; other layers judge the fit, and it is kept
only if it chooses better than the table that npconv came with.
"""

from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from . import dispatch, explanation
from .algorithms import registered
from .algorithms.base import Cost
from .arguments import Dtypes
from .compiled import catalogue, store
from .geometry import ConvGeometry

UNITS = ("flop", "byte", "call", "butterfly")
AMOUNTS = ("flops", "bytes", "calls", "butterflies")
SINGLE = Dtypes(np.dtype(np.float32), np.dtype(np.float32))
#: Algorithms expected to take this many times the least are not timed.
HOPELESS = 5
#: Rows of measurements that an engine needs before a table is fitted to them.
ENOUGH = 12

Table = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Layer:
    """A layer in one direction: the cost of each algorithm that was timed, its seconds, and which may be chosen."""

    geometry: ConvGeometry
    direction: str
    costs: dict[str, Cost]
    seconds: dict[str, float]
    choices: tuple[str, ...]

    def regret(self, table: Table) -> float:
        """Time of the algorithm that `table` chooses / time of the best, be it one that may not be chosen."""
        chosen = min(self.choices, key=lambda name: dispatch.estimate(self.costs[name], SINGLE.compute, table))
        return self.seconds[chosen] / min(self.seconds.values())


@dataclass(frozen=True)
class Result:
    """What tuning found."""

    table: Table
    before: float  # mean regret of the table that npconv came with
    after: float  # and of this one, both on layers that it was not fitted to
    layers: int

    @property
    def better(self) -> bool:
        """Whether the table is worth keeping."""
        return self.after < self.before


def shapes(rng: np.random.Generator, least: float = 1e5, most: float = 6e8) -> Iterator[ConvGeometry]:
    """Random layers of the kinds that networks and filters have, between `least` and `most` products."""
    while True:
        rank = int(rng.choice([1, 2, 2, 2, 3]))
        size = int(rng.choice([7, 14, 28, 56, 112, 224])) if rank == 2 else int(rng.choice([64, 1000, 16000]))
        size = int(rng.choice([8, 16, 28])) if rank == 3 else size
        k, s = int(rng.choice([1, 2, 3, 3, 3, 5, 7, 11, 15])), int(rng.choice([1, 1, 1, 2]))
        c, o = (int(n) for n in rng.choice([1, 3, 8, 17, 32, 64, 128, 256, 512], 2))
        groups, kind = 1, rng.random()
        if kind < 0.35:  # depthwise, or 32 groups
            groups, o = (c, c) if kind < 0.25 or c % 32 else (32, c)
        d = int(rng.choice([1, 1, 1, 1, 2]))
        batch = int(rng.choice([1, 1, 4, 32]))
        ones = (1,) * rank
        pads = ((d * (k // 2),) * 2,) * rank
        geometry = ConvGeometry(batch, c, o, (size,) * rank, (k,) * rank, (s,) * rank, (d,) * rank, pads, ones, groups)
        if least < geometry.macs < most:
            yield geometry.tight()


def time_layer(geometry: ConvGeometry, direction: str, repeats: int = 2) -> Layer:
    """Time every algorithm that may be worth choosing."""
    request = dispatch.Request(SINGLE, direction)
    costs = {
        a: dispatch.whole_cost(a, geometry, SINGLE.compute, direction, request.limit)
        for a in registered()
        if a.automatic and dispatch.against(a, geometry, request) is None
    }
    expected = {a: dispatch.estimate(cost, SINGLE.compute) for a, cost in costs.items()}
    worth = [a for a, seconds in expected.items() if seconds < HOPELESS * min(expected.values())]
    seconds: dict[str, float] = {}
    for a in worth:  # what costs the same to the last byte is the same launch, timed once: noise is no regret
        twin = next((b.name for b in worth if b.name in seconds and costs[b] == costs[a]), None)
        seconds[a.name] = seconds[twin] if twin else explanation.measure(a, geometry, request, repeats)
    choices = tuple(a.name for a in dispatch.apart_from_blas(worth))
    return Layer(geometry, direction, {a.name: costs[a] for a in worth}, seconds, choices)


def fit(layers: list[Layer]) -> Table:
    """The table that explains these times best, relative errors squared; engines with too few keep what they had."""
    table = {engine: dict(prices) for engine, prices in dispatch.SECONDS.items()}
    for engine, prices in table.items():
        rows, times = [], []
        for layer in layers:
            for name, cost in layer.costs.items():
                if cost.engine == engine:
                    both = [c for c in (cost, cost.preparation) if c is not None]
                    rows.append([sum(getattr(c, amount) for c in both) for amount in AMOUNTS])
                    times.append(layer.seconds[name])
        if len(rows) < ENOUGH:
            continue
        found = nonnegative(np.array(rows, float) / np.array(times)[:, None], np.ones(len(times)))
        prices.update({unit: float(v) for unit, v in zip(UNITS, found, strict=True) if v > 0})
    return table


def nonnegative(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least squares under non-negativity, by projected gradient descent on scaled columns."""
    scale = np.linalg.norm(matrix, axis=0) + 1e-300
    a = matrix / scale
    step = 1 / np.linalg.norm(a, 2) ** 2
    x = np.zeros(a.shape[1])
    for _ in range(20_000):
        x = np.maximum(0, x - step * a.T @ (a @ x - target))
    return x / scale


def mean_regret(layers: list[Layer], table: Table) -> float:
    """The geometric mean over `layers`."""
    return math.exp(sum(math.log(layer.regret(table)) for layer in layers) / max(1, len(layers)))


def tune(seconds: float = 30.0, seed: int = 1, progress: Callable[[float], object] = lambda seconds: None) -> Result:
    """Measure for about so many seconds, once all is compiled; `progress` hears of those that passed."""
    for entry in () if catalogue.unavailable() else catalogue.everything():
        catalogue.kernel(*entry)
    layers: list[Layer] = []
    started = last = time.perf_counter()
    for index, geometry in enumerate(shapes(np.random.default_rng(seed), most=5e7)):
        layers.append(time_layer(geometry, ("forward", "weight_grad")[index // 2 % 2]))
        now = time.perf_counter()
        progress(now - last)
        last = now
        if now - started > seconds:
            break
    table, judges = fit(layers[::2]), layers[1::2]
    return Result(table, mean_regret(judges, dispatch.SECONDS), mean_regret(judges, table), len(layers))


def keep(table: Table) -> bool:
    """Store a table for `dispatch` to find, from now on; whether that worked."""
    content = {
        "machine": dispatch.machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seconds": {
            engine: {unit: float(f"{v:.3g}") for unit, v in prices.items()} for engine, prices in table.items()
        },
    }
    kept = store.save(dispatch.TUNED, json.dumps(content, indent=2).encode() + b"\n")
    dispatch.prices.cache_clear()
    dispatch.choose.cache_clear()
    return kept
