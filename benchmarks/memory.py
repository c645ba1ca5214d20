"""Measure what `max_workspace` promises: the peak beyond the output, by tracemalloc, for a 3x3 layer of 64 channels at 224.

python -m benchmarks.memory
"""

from __future__ import annotations

import functools
import tracemalloc

import numpy as np

import npconv


def main() -> None:
    rng = np.random.default_rng(0)
    shapes = {
        "channels_first": ((1, 64, 224, 224), (64, 64, 3, 3)),
        "channels_last": ((1, 224, 224, 64), (3, 3, 64, 64)),
    }
    print("| algorithm | layout | budget MiB | forward | input gradient | weight gradient |\n|---|---|---|---|---|---|")
    tracemalloc.start()
    for layout, (x_shape, w_shape) in shapes.items():
        x, w = rng.standard_normal(x_shape, np.float32), rng.standard_normal(w_shape, np.float32)
        g = rng.standard_normal(x_shape, np.float32)
        npconv.conv_grads(g, x, w, layout=layout, padding=1)  # what is imported once does not count
        for algorithm in ("gemm", "fft"):
            for mebibytes in (1, 4, 16, 64, 256):
                how = {"padding": 1, "layout": layout, "algorithm": algorithm, "max_workspace": mebibytes << 20}
                cells = []
                calls = (
                    functools.partial(npconv.conv, x, w, **how),
                    functools.partial(npconv.conv_input_grad, g, w, input_shape=x_shape, **how),
                    functools.partial(npconv.conv_weight_grad, x, g, kernel_shape=w_shape, **how),
                )
                for call in calls:
                    before = tracemalloc.get_traced_memory()[0]
                    tracemalloc.reset_peak()
                    try:
                        size = call().nbytes
                        used = tracemalloc.get_traced_memory()[1] - before - size
                        cells.append(f"{used / (mebibytes << 20):.2f}")
                    except npconv.MemoryLimitError as error:
                        cells.append("refused: " + str(error).split("; ")[0].rsplit(": ", 1)[-1])
                print(f"| {algorithm} | {layout} | {mebibytes} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
