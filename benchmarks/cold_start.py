"""What a library costs before it computes: bytes to install, time to import, and a first call.

    python -m benchmarks.cold_start [NAME ...]

Each library runs in processes of its own, five times; the least counts. Importing it includes NumPy, whose own time
stands beside. The layer is 3x3 64 -> 64 at 56 x 56, batch 1.
`--python NAME=PATH` has the interpreter of an environment where that library is installed; one that is not installed
is named and left out. The sizes are those of the files that pip recorded, of all that a library needs, NumPy included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

from .machine import machine

LAYER = "x = np.ones((1, 64, 56, 56), np.float32); w = np.ones((64, 64, 3, 3), np.float32)"
#: name -> (the distribution, the import, what makes `call` from x and w).
LIBRARIES = {
    "npconv": (
        "npconv",
        "import npconv",
        "call = lambda: npconv.conv(x, w, padding=1)",
    ),
    "torch": (
        "torch",
        "import torch",
        "X, W = torch.from_numpy(x), torch.from_numpy(w); call = lambda: torch.nn.functional.conv2d(X, W, padding=1)",
    ),
    "onnxruntime": (
        "onnxruntime",
        "import onnxruntime",
        """
import onnx
from onnx import helper, numpy_helper
kind = onnx.TensorProto.FLOAT
node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
info = helper.make_tensor_value_info
graph = helper.make_graph([node], "g", [info("x", kind, x.shape)], [info("y", kind, None)],
                          [numpy_helper.from_array(w, "w")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
started = time.perf_counter()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = THREADS
session = onnxruntime.InferenceSession(model, options)
call = lambda: session.run(None, {"x": x})
""",
    ),
    "tensorflow": (
        "tensorflow-cpu",
        "import tensorflow",
        "X, W = np.moveaxis(x, 1, -1).copy(), w.transpose(2, 3, 1, 0).copy(); "
        "call = lambda: tensorflow.nn.conv2d(X, W, 1, 'SAME').numpy()",
    ),
    "jax": (
        "jax",
        "import jax",
        "f = jax.jit(lambda x, w: jax.lax.conv(x, w, (1, 1), 'SAME')); call = lambda: f(x, w).block_until_ready()",
    ),
}
CODE = """
import json, re, sys, time
from importlib.metadata import PackageNotFoundError, distribution

def closure(name, seen):
    name = re.split(r"[^\\w.-]", name.strip())[0].lower().replace("_", "-")
    if name in seen:
        return 0
    seen.add(name)
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return 0
    total = sum(path.locate().stat().st_size for path in found.files or () if path.locate().is_file())
    return total + sum(closure(each, seen) for each in found.requires or () if "extra ==" not in each)

THREADS = %(threads)d
began = time.perf_counter()
import numpy as np
numpy_seconds = time.perf_counter() - began
began = time.perf_counter()
%(load)s
import_seconds = time.perf_counter() - began
%(layer)s
started = time.perf_counter()
%(make)s
call()
first = time.perf_counter() - started
times = []
while len(times) < 30:
    began = time.perf_counter()
    call()
    times.append(time.perf_counter() - began)
print(json.dumps([closure(%(name)r, set()) / 1e6, numpy_seconds, import_seconds, first, min(times)]))
"""


def measured(name: str, python: str, threads: int) -> list[float]:
    """[megabytes, NumPy's import, its own, first call, later call], the least of five."""
    distribution, load, make = LIBRARIES[name]
    code = CODE % {"threads": threads, "load": load, "layer": LAYER, "make": make, "name": distribution}
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "NPCONV_NUM_THREADS": str(threads)}
    runs = []
    for _ in range(5):
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(f"{name} left out: {done.stderr.strip().splitlines()[-1]}")
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return [min(column) for column in zip(*runs, strict=True)]


def main() -> None:
    """Measure, and print a table for docs/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*LIBRARIES, []], help="all by default")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    interpreters = dict(each.split("=", 1) for each in options.python)
    print(machine())
    print(
        "| | installed, MB | import | of it NumPy | first call | later calls |\n| --- | --- | --- | --- | --- | --- |"
    )
    for name in options.names or LIBRARIES:
        try:
            found = measured(name, interpreters.get(name, sys.executable), options.threads)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            continue
        size, *seconds = found
        base, load, first, later = (1e3 * each for each in seconds)
        times = f"{base + load:.0f} ms | {base:.0f} ms | {first:.1f} ms | {later:.2f} ms"
        print(f"| {name} | {size:.0f} | {times} |")


if __name__ == "__main__":
    main()
