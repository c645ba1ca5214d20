"""One library in one process, so that thread pools never meet: it makes a problem ready in every way it has, and times
calls when it is told to.

    python -m npconv.cli.racer torch

`race` starts it and talks to it over pipes, one JSON object a line.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

Call = Callable[[], Any]
#: Seconds in which the threads of the others stop spinning.
SETTLE = 0.003


class Layer:
    """The problem as every library needs it: random arrays, and sizes as plain numbers."""

    def __init__(self, given: dict[str, Any]) -> None:
        from .. import explain

        self.options, self.threads = given["options"], given["threads"]
        self.direction, self.dtype = self.options.pop("direction"), self.options.pop("dtype")
        self.x_shape, self.w_shape = tuple(given["x_shape"]), tuple(given["w_shape"])
        self.explained = explain(self.x_shape, self.w_shape, dtype=self.dtype, direction=self.direction, **self.options)
        g = self.explained.geometry
        self.stride, self.dilation, self.groups, self.pads, self.rank = (
            g.stride,
            g.dilation,
            g.groups,
            g.padding,
            g.rank,
        )
        rng = np.random.default_rng(0)
        self.x, self.w, self.g = (self._random(rng, s) for s in (self.x_shape, self.w_shape, g.y_shape))

    def _random(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        values = rng.standard_normal(shape)
        if np.dtype(self.dtype).kind == "c":
            values = values + 1j * rng.standard_normal(shape)
        return (values if np.dtype(self.dtype).kind in "fc" else values * 9).astype(self.dtype)


def npconv_ways(layer: Layer) -> dict[str, Call]:
    """What `npconv.conv` chooses, a plan of it, and every algorithm that may run but the loop nest."""
    from .. import conv, conv_input_grad, conv_weight_grad, plan_conv

    def way(algorithm: str) -> Call:
        how = layer.options | {"algorithm": algorithm}
        if layer.direction == "forward":
            return partial(conv, layer.x, layer.w, **how)
        if layer.direction == "input_grad":
            return partial(conv_input_grad, layer.g, layer.w, input_shape=layer.x_shape, **how)
        return partial(conv_weight_grad, layer.x, layer.g, kernel_shape=layer.w_shape, **how)

    ways = {"auto": way("auto")}
    if layer.direction == "forward" and np.dtype(layer.dtype).kind == "f":
        ways["planned"] = partial(plan_conv(layer.x_shape, layer.w, dtype=layer.dtype, **layer.options), layer.x)
    able = [c.name for c in layer.explained.candidates if c.able and c.name != "loops"]
    return ways | {name: way(name) for name in able}


def torch_ways(layer: Layer) -> dict[str, Call]:
    """torch in both memory formats."""
    torch: Any = importlib.import_module("torch")
    even = all(lo == hi for lo, hi in layer.pads)
    sides = [side for pair in reversed(layer.pads) for side in pair]
    padding = [lo if even else 0 for lo, _ in layer.pads]
    rest = (list(layer.stride), padding, list(layer.dilation), False, [0] * layer.rank, layer.groups)
    if not even and layer.direction != "forward":
        raise NotImplementedError("torch has no gradient of a padding that differs on both sides")

    def way(memory_format: Any) -> Call:
        x, w, g = (torch.from_numpy(a) for a in (layer.x, layer.w, layer.g))
        if memory_format is not None:
            x, w, g = (t.contiguous(memory_format=memory_format) for t in (x, w, g))
        if layer.direction != "forward":
            which = ("input_grad", "weight_grad").index(layer.direction)
            mask = [which == 0, which == 1, False]
            return lambda: torch.ops.aten.convolution_backward(g, x, w, None, *rest, mask)[which]
        if even:
            return partial(torch.convolution, x, w, None, *rest)
        return lambda: torch.convolution(torch.nn.functional.pad(x, sides), w, None, *rest)

    formats = {2: torch.channels_last, 3: torch.channels_last_3d}
    return {"": way(None)} | ({"channels last": way(formats[layer.rank])} if layer.rank in formats else {})


def onnxruntime_ways(layer: Layer) -> dict[str, Call]:
    """A model of one node with constant weights, so that it may choose its own layout."""
    if layer.direction != "forward":
        raise NotImplementedError("onnxruntime has no gradients")
    onnxruntime, onnx = (importlib.import_module(name) for name in ("onnxruntime", "onnx"))
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(layer.dtype))
    pads = [lo for lo, _ in layer.pads] + [hi for _, hi in layer.pads]
    sizes = {"strides": layer.stride, "dilations": layer.dilation, "group": layer.groups, "pads": pads}
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=layer.w_shape[2:], **sizes)
    x, y = (helper.make_tensor_value_info(n, kind, a.shape) for n, a in (("x", layer.x), ("y", layer.g)))
    graph = helper.make_graph([node], "layer", [x], [y], [numpy_helper.from_array(layer.w, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = layer.threads, 1, 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return {"": lambda: session.run(None, {"x": layer.x})[0]}


WAYS = {"npconv": npconv_ways, "torch": torch_ways, "onnxruntime": onnxruntime_ways}


def timed(call: Call, seconds: float) -> list[float]:
    """The seconds of each call, as many as fit, but one at least; one call more warms up."""
    clock = time.perf_counter
    time.sleep(SETTLE)
    call()
    each: list[float] = []
    end = clock() + seconds
    while not each or clock() < end:
        started = clock()
        call()
        each.append(clock() - started)
    return each


def fingerprint(result: Any) -> tuple[float, float]:
    """Two numbers that other layouts share and a different result does not: the mean and the maximum of |y|."""
    magnitudes = np.abs(np.asarray(result))
    return float(magnitudes.mean(dtype=np.float64)), float(magnitudes.max(initial=0))


def settle(library: str, threads: int) -> None:
    """What holds for the life of the process; onnxruntime is told with its model."""
    if library == "npconv":
        from .. import set_num_threads

        set_num_threads(threads)
    elif library == "torch":
        torch: Any = importlib.import_module("torch")
        torch.set_num_threads(threads)
        torch.inference_mode().__enter__()  # no bookkeeping for gradients


def main() -> None:
    """Answer until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; `race` ends us
    answers = os.fdopen(os.dup(1), "w")  # what a library prints must not reach the pipe
    os.dup2(2, 1)

    def answer(message: Any) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    library = sys.argv[1]
    ways: dict[str, Call] = {}
    try:
        layer = Layer(json.loads(sys.stdin.readline()))
        version = importlib.metadata.version(library) if library != "npconv" else ""
        settle(library, layer.threads)
        ways = WAYS[library](layer)
        chosen = layer.explained.choice if library == "npconv" else ""
    except Exception as error:  # whatever a library raises belongs in the report
        answer({"error": f"{error or type(error).__name__}".splitlines()[0]})
        return
    answer({"version": version, "chosen": chosen, "ways": list(ways)})
    for line in sys.stdin:
        request = json.loads(line)
        call = ways[request["way"]]
        try:
            answer(timed(call, request["seconds"]) if "seconds" in request else fingerprint(call()))
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}".splitlines()[0]})


if __name__ == "__main__":
    main()
