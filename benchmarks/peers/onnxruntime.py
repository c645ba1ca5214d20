"""onnxruntime: a model of one node with constant weights, so that it may choose its own layout; bound outputs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ..rows import Row
from . import Call, Candidate, Operands, forward_only

OPERATORS = {
    "conv": "Conv",
    "conv_transpose": "ConvTranspose",
    "max_pool": "MaxPool",
    "avg_pool": "AveragePool",
    "global_avg_pool": "GlobalAveragePool",
}
session_options = onnxruntime.SessionOptions()


def setup(threads: int) -> None:
    session_options.intra_op_num_threads = threads
    session_options.inter_op_num_threads = 1
    session_options.log_severity_level = 4
    session_options.add_session_config_entry("session.set_denormal_as_zero", "1")


def version() -> str:
    return onnxruntime.__version__


def to_numpy(result: Any) -> np.ndarray:
    return result.numpy()


def candidates(row: Row, direction: str, arrays: Operands) -> Iterator[Candidate]:
    yield Candidate("channels_first", "prepared", partial(call, row, direction, arrays))


def call(row: Row, direction: str, arrays: Operands) -> Call:
    forward_only(direction)
    if row.operator not in OPERATORS:
        raise NotImplementedError(f"ONNX has no {row.operator}")
    how: dict[str, Any] = {}
    if row.operator != "global_avg_pool":
        how = {"kernel_shape": row.kernel, "strides": row.stride, "pads": (*row.padding, *row.padding)}
    if row.operator in ("conv", "conv_transpose"):
        how |= {"group": row.groups, "dilations": row.dilation}
    if row.operator == "avg_pool":
        how["count_include_pad"] = 1
    weights = [] if row.pool else [numpy_helper.from_array(arrays.w, "w")]
    element = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}[row.dtype]
    graph = helper.make_graph(
        [helper.make_node(OPERATORS[row.operator], ["x"] + ["w"] * bool(weights), ["y"], **how)],
        "row",
        [helper.make_tensor_value_info("x", element, row.x_shape)],
        [helper.make_tensor_value_info("y", element, row.y_shape)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), session_options, ["CPUExecutionProvider"])
    y = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty(row.y_shape, row.dtype))
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(arrays.x))
    binding.bind_ortvalue_output("y", y)

    def run() -> Any:
        session.run_with_iobinding(binding)
        return y

    return run
