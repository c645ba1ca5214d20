"""Fit the dispatcher's cost table to this machine, and report its regret on other shapes.

    python -m benchmarks.calibrate            prints SECONDS for npconv/dispatch.py, and chosen time / best time

`npconv tune` does the same in half a minute. Half of the drawn shapes fit the table, the other half judge it. Times
are minima of a few runs in this process.
"""

from __future__ import annotations

import argparse
from itertools import islice

import numpy as np

from npconv import dispatch, tuning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    layers = []
    for index, geometry in enumerate(islice(tuning.shapes(np.random.default_rng(options.seed)), options.shapes)):
        layers.append(tuning.time_layer(geometry, ("forward", "weight_grad")[index // 2 % 2], repeats=3))
        regret = layers[-1].regret(dispatch.SECONDS)
        if regret > 1.5:
            print(
                f"regret {regret:.2f}, best {min(layers[-1].seconds, key=layers[-1].seconds.__getitem__)}: {geometry}"
            )
    table, judges = tuning.fit(layers[::2]), layers[1::2]
    print("SECONDS = {")
    for engine, prices in table.items():
        print(f'    "{engine}": {{{", ".join(f"{unit!r}: {value:.3g}" for unit, value in prices.items())}}},')
    print("}")
    for name, one in (("the table in use", dispatch.SECONDS), ("the fitted table", table)):
        worst = max(layer.regret(one) for layer in judges)
        print(f"regret of {name} on {len(judges)} other shapes: ", end="")
        print(f"mean {tuning.mean_regret(judges, one):.3f}, worst {worst:.2f}")


if __name__ == "__main__":
    main()
