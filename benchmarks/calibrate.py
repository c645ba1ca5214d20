"""Fit the dispatcher's cost table to this machine, and report its regret on other shapes.

    python -m benchmarks.calibrate            prints SECONDS for npconv/dispatch.py, and chosen time / best time

Half of the drawn shapes fit the table, the other half judge it. Times are minima of a few runs in this process.
"""

from __future__ import annotations

import argparse

import numpy as np

from npconv import dispatch, explanation
from npconv.algorithms import registered
from npconv.arguments import Dtypes
from npconv.geometry import ConvGeometry

from .summary import geometric_mean

UNITS = ("flop", "byte", "call", "butterfly")


def shapes(rng: np.random.Generator, count: int) -> list[ConvGeometry]:
    """Random layers of the kinds that networks and filters have, between 0.1 and 600 million products."""
    found: list[ConvGeometry] = []
    while len(found) < count:
        rank = int(rng.choice([1, 2, 2, 2, 3]))
        size = int(rng.choice([7, 14, 28, 56, 112, 224])) if rank == 2 else int(rng.choice([64, 1000, 16000]))
        size = int(rng.choice([8, 16, 28])) if rank == 3 else size
        k, s = int(rng.choice([1, 2, 3, 3, 3, 5, 7, 11, 15])), int(rng.choice([1, 1, 1, 2]))
        c, o = (int(n) for n in rng.choice([1, 3, 8, 17, 32, 64, 128, 256, 512], 2))
        groups = 1
        if rng.random() < 0.25:
            groups, o = c, c
        batch = int(rng.choice([1, 1, 4]))
        ones = (1,) * rank
        pads = ((k // 2, k // 2),) * rank
        geometry = ConvGeometry(batch, c, o, (size,) * rank, (k,) * rank, (s,) * rank, ones, pads, ones, groups)
        if 1e5 < geometry.macs < 6e8:
            found.append(geometry.tight())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    single = Dtypes(np.dtype(np.float32), np.dtype(np.float32))
    rng = np.random.default_rng(options.seed)
    rows, times, regrets = [], [], []
    for index, geometry in enumerate(shapes(rng, options.shapes)):
        direction = ("forward", "weight_grad")[index // 2 % 2]
        request = dispatch.Request(single, direction)
        measured, estimated = {}, {}
        for algorithm in registered():
            if not algorithm.automatic or dispatch.against(algorithm, geometry, request):
                continue
            cost = dispatch.whole_cost(algorithm, geometry, single.compute, direction, request.limit)
            estimated[algorithm.name] = dispatch.estimate(cost, single.compute)
            if estimated[algorithm.name] > 20 * min(estimated.values()):
                continue
            seconds = explanation.measure(algorithm, geometry, request)
            measured[algorithm.name] = seconds
            if index % 2:
                rows.append([cost.flops, cost.bytes, cost.calls, cost.butterflies])
                times.append(seconds)
        if index % 2 == 0 and len(measured) > 1:
            chosen = min(measured, key=lambda name: estimated[name])
            regrets.append(measured[chosen] / min(measured.values()))
            if regrets[-1] > 1.5:
                print(f"regret {regrets[-1]:.2f}: {chosen}, best {min(measured, key=measured.__getitem__)}: {geometry}")
    weighted = np.array(rows, float) / np.array(times)[:, None]
    fitted = nonnegative(weighted, np.ones(len(times)))
    table = ", ".join(f'"{unit}": {value:.3g}' for unit, value in zip(UNITS, fitted, strict=True))
    print(f"SECONDS = {{{table}}}")
    print(f"regret of the table in use on {len(regrets)} other shapes: ", end="")
    print(f"mean {geometric_mean(regrets):.3f}, worst {max(regrets):.2f}")


def nonnegative(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least squares under non-negativity, by projected gradient descent on scaled columns."""
    scale = np.linalg.norm(matrix, axis=0) + 1e-300
    a = matrix / scale
    step = 1 / np.linalg.norm(a, 2) ** 2
    x = np.zeros(a.shape[1])
    for _ in range(20_000):
        x = np.maximum(0, x - step * a.T @ (a @ x - target))
    return x / scale


if __name__ == "__main__":
    main()
