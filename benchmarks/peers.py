"""One peer in one process: builds a row's arrays, then times batches of calls on demand.

Run by `benchmarks.run`, which talks to it over pipes, so that peers never share a thread pool. Every peer gets its best
layout: both are timed, the faster counts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from .rows import GROUPS, Row

Calls = dict[str, Callable[[], Any]]


def npconv_calls(row: Row, direction: str, rng: Any) -> Calls:
    """Our functional call in both layouts."""
    import numpy as np

    import npconv

    calls: Calls = {}
    for layout in ("channels_first", "channels_last"):
        last = layout == "channels_last"

        def arrange(a: Any, weights: bool = False, last: bool = last) -> Any:
            if not last:
                return a
            return np.ascontiguousarray(np.moveaxis(a, (0, 1), (-1, -2)) if weights else np.moveaxis(a, 1, -1))

        x = arrange(rng.standard_normal(row.x_shape, np.float32))
        g = arrange(rng.standard_normal(row.y_shape(), np.float32))
        pool = {"stride": row.stride, "padding": row.padding, "layout": layout}
        if row.operator == "max_pool":
            calls[layout] = lambda x=x, o=pool: npconv.max_pool(x, row.kernel, **o)
            continue
        if row.operator == "avg_pool":
            calls[layout] = lambda x=x, o=pool: npconv.avg_pool(x, row.kernel, **o)
            continue
        w = arrange(rng.standard_normal(row.w_shape, np.float32), weights=True)
        o = pool | {"groups": row.groups}
        if direction == "forward":
            calls[layout] = lambda x=x, w=w, o=o: npconv.conv(x, w, **o)
        elif direction == "input_grad":
            calls[layout] = lambda g=g, w=w, x=x, o=o: npconv.conv_input_grad(g, w, input_shape=x.shape, **o)
        else:
            calls[layout] = lambda g=g, w=w, x=x, o=o: npconv.conv_weight_grad(x, g, kernel_shape=w.shape, **o)
    return calls


def torch_calls(row: Row, direction: str, rng: Any) -> Calls:
    """torch in both memory formats, without autograd's bookkeeping."""
    import numpy as np
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    calls: Calls = {}
    for name, form in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        x = torch.from_numpy(rng.standard_normal(row.x_shape, np.float32)).contiguous(memory_format=form)
        g = torch.from_numpy(rng.standard_normal(row.y_shape(), np.float32)).contiguous(memory_format=form)
        if row.operator == "max_pool":
            calls[name] = lambda x=x: F.max_pool2d(x, row.kernel, row.stride, row.padding)
            continue
        if row.operator == "avg_pool":
            calls[name] = lambda x=x: F.avg_pool2d(x, row.kernel, row.stride, row.padding)
            continue
        w = torch.from_numpy(rng.standard_normal(row.w_shape, np.float32)).contiguous(memory_format=form)
        s, p = [row.stride] * 2, [row.padding] * 2
        if direction == "forward":
            calls[name] = lambda x=x, w=w: F.conv2d(x, w, None, row.stride, row.padding, 1, row.groups)
        else:
            mask = [direction == "input_grad", direction == "weight_grad", False]
            calls[name] = lambda g=g, x=x, w=w, m=mask, s=s, p=p: torch.ops.aten.convolution_backward(
                g, x, w, None, s, p, [1, 1], False, [0, 0], row.groups, m
            )
    return calls


def loops(call: Callable[[], Any], seconds: float) -> int:
    """How many calls take about `seconds`."""
    call()
    started = time.perf_counter()
    call()
    return max(1, int(seconds / max(1e-7, time.perf_counter() - started)))


def main() -> None:
    """Answer requests, one JSON line each: {row, group, direction} builds; {"time": true} times one batch per layout."""
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=("npconv", "torch"))
    peer = parser.parse_args().peer
    import numpy as np

    build = npconv_calls if peer == "npconv" else torch_calls
    calls: Calls = {}
    counts: dict[str, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        if "row" in request:
            row = GROUPS[request["group"]][request["row"]]
            calls = build(row, request["direction"], np.random.default_rng(0))
            counts = {name: loops(call, request["seconds"]) for name, call in calls.items()}
        else:
            for name, call in calls.items():
                each = []
                for _ in range(counts[name]):
                    started = time.perf_counter()
                    call()
                    each.append(time.perf_counter() - started)
                answer[name] = each
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
