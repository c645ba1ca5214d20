"""How much of the machine the direct kernels use: layers of 64 channels and up against the measured multiply-add peak.

    python -m benchmarks.efficiency                     one thread, float32 and float64
    NPCONV_VECTOR_BYTES=32 python -m benchmarks.efficiency      the same on vectors of eight lanes

The peak is measured on registers alone, in turns with every layer, because a shared machine's clock moves. A share is
the median of the layer's rates over the median of the peak's.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np

from npconv import plan_conv
from npconv.compiled import threads
from npconv.compiled.peak import CHAINS
from npconv.compiled.target import host

from .cores import ROUNDS, peak, timed
from .machine import machine

LAYERS = (
    ("1x1 64->256@56", (1, 56, 56, 64), (1, 1, 64, 256), {}),
    ("1x1 256->64@56", (1, 56, 56, 256), (1, 1, 256, 64), {}),
    ("1x1 512->128@28", (1, 28, 28, 512), (1, 1, 512, 128), {}),
    ("1x1 1024->256@14", (1, 14, 14, 1024), (1, 1, 1024, 256), {}),
    ("1x1 512->2048@7", (1, 7, 7, 512), (1, 1, 512, 2048), {}),
    ("3x3 64@56", (1, 56, 56, 64), (3, 3, 64, 64), {"padding": 1}),
    ("3x3 s2 128@56", (1, 56, 56, 128), (3, 3, 128, 128), {"padding": 1, "stride": 2}),
    ("3x3 256@14", (1, 14, 14, 256), (3, 3, 256, 256), {"padding": 1}),
    ("3x3 512@28", (1, 28, 28, 512), (3, 3, 512, 512), {"padding": 1}),
    ("3x3 d2 128@28", (1, 28, 28, 128), (3, 3, 128, 128), {"padding": 2, "dilation": 2}),
    ("5x5 96->128@27", (1, 27, 27, 96), (5, 5, 96, 128), {"padding": 2}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    print(f"{machine()}; {host().cpu}, vectors of {host().width} bytes, {options.threads} threads\n")
    rng = np.random.default_rng(0)
    for dtype in ("f4", "f8"):
        print("| layer | GFLOP/s | peak | share |\n|---|---|---|---|")
        lanes, shares = host().width // int(dtype[1]), []
        flops_of_peak = 2 * ROUNDS * CHAINS * lanes * options.threads
        for name, x_shape, w_shape, how in LAYERS:
            x, w = rng.standard_normal(x_shape).astype(dtype), rng.standard_normal(w_shape).astype(dtype)
            plan = plan_conv(x_shape, w, layout="channels_last", algorithm="blocked", **how)
            y = plan(x)
            flops = 2 * y.size * w.size // w_shape[-1]
            with threads.num_threads(options.threads):
                most, rates = peak(dtype, options.threads), []
                most()
                top = []
                for _ in range(options.rounds):
                    top.append(flops_of_peak / timed(most) / 1e9)
                    rates.append(flops / timed(lambda plan=plan, x=x, y=y: plan(x, out=y)) / 1e9)
            rate, best = statistics.median(rates), statistics.median(top)
            shares.append(rate / best)
            print(f"| {name} {dtype} | {rate:.0f} | {best:.0f} | {rate / best:.2f} |", flush=True)
        print(f"| **least** | | | **{min(shares):.2f}** |\n")


if __name__ == "__main__":
    main()
