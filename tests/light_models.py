"""onnx's light models up to a last softmax. What it is given are numbers of some billions, all equal: which of them
rounding makes the largest depends on the order in which products are added up, and decides its output.
"""

from __future__ import annotations

from pathlib import Path

import onnx


def before_softmax(path: Path) -> onnx.ModelProto:
    """The model, whose output is what its softmax is given, if it ends with one."""
    model = onnx.load(path)
    last = model.graph.node[-1]
    if last.op_type == "Softmax":
        model.graph.output[0].name = last.input[0]
        del model.graph.node[-1]
    return model
