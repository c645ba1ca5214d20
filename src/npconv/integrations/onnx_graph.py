"""From an ONNX model to an evaluator: weights apart, functions inlined, constants computed, the graph rewritten."""

from __future__ import annotations

from typing import Any

import onnx
from onnx.inliner import inline_local_functions

from ..memory import MemoryLimitError
from .onnx_checks import ModelError, check_operators, printable, subgraphs, tensor_bytes
from .onnx_evaluator import Evaluator, Input
from .onnx_external import external_tensors, read_external
from .onnx_operators import DOMAIN
from .onnx_operators import OPERATORS as PLAIN
from .onnx_quantized import QUANTIZED
from .onnx_rewrite import Graph, rewritten

OPERATORS = (*PLAIN, *QUANTIZED)
#: Operators that give the same for the same inputs; of constants, they are computed once.
FOLDED = {
    "Add", "Cast", "Concat", "Constant", "ConstantOfShape", "DequantizeLinear", "Div", "Expand", "Flatten", "Floor",
    "Gather", "Identity", "Mul", "Neg", "Range", "Reshape", "Shape", "Slice", "Sqrt", "Squeeze", "Sub", "Tile",
    "Transpose", "Unsqueeze",
}  # fmt: skip


def read(given: Any, folder: Any, external_data: bool, limit: int) -> tuple[Graph, list[Input]]:
    """The graph of a checked model from `folder`, functions inlined, and the inputs that a caller gives."""
    outside = external_tensors(given)
    if outside and not external_data:
        shown = ", ".join(printable(t.name) for t in outside[:3])
        raise ModelError(
            f"onnx: {len(outside)} tensors ({shown} ...) are kept in other files; external_data=True reads those"
        )
    if outside and folder is None:
        raise ModelError("onnx: the model keeps weights in other files; load it by its path, so that these are found")
    needed = sum(map(tensor_bytes, given.graph.initializer))
    if needed > limit:
        raise MemoryLimitError(f"onnx: the weights need {needed} bytes, the limit is {limit} bytes; use max_memory=")
    constants = {}
    for tensor in given.graph.initializer:
        constants[tensor.name] = _array(_inside(tensor, folder))
    model = _without_weights(given)
    for tensor in external_tensors(model):
        tensor.CopyFrom(_inside(tensor, folder))
    if model.functions:
        try:
            model = inline_local_functions(model)
        except Exception as error:  # onnx raises many kinds
            raise ModelError(f"onnx: the model's functions cannot be inlined: {printable(str(error), 200)}") from error
    graph = model.graph
    opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
    _plain_domains(graph)
    inputs = [_input(value) for value in graph.input if value.name not in constants]
    return Graph(list(graph.node), constants, [value.name for value in graph.output], opsets), inputs


def _inside(tensor: Any, folder: Any) -> Any:
    """The tensor with its bytes inside."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return tensor
    return onnx.TensorProto(
        name=tensor.name, dims=tensor.dims, data_type=tensor.data_type, raw_data=read_external(tensor, folder)
    )


def _array(tensor: Any) -> Any:
    try:
        return onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # onnx raises many kinds
        raise ModelError(f"onnx: tensor {printable(tensor.name)}: {printable(str(error), 200)}") from error


def _without_weights(model: Any) -> Any:
    """A copy of the model with everything but its initializers."""
    copy = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    for field in ("node", "input", "output", "value_info"):
        getattr(copy.graph, field).extend(getattr(model.graph, field))
    copy.graph.name = "model"
    return copy


def _plain_domains(graph: Any) -> None:
    """The main domain has two names; here it has one."""
    for node in graph.node:
        if node.domain == "ai.onnx":
            node.domain = ""
        for inner in subgraphs(node):
            _plain_domains(inner)


def _input(value: Any) -> Input:
    kind = value.type.tensor_type
    name = printable(value.name)
    if not value.type.HasField("tensor_type"):
        raise ModelError(f"onnx: input {name!r} is not a tensor, and only tensors are supported")
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(f"onnx: input {name!r} has the unknown type {kind.elem_type}") from error
    shape = None
    if kind.HasField("shape"):
        dims = ((d.dim_value if d.HasField("dim_value") else printable(d.dim_param) or None) for d in kind.shape.dim)
        shape = tuple(n if isinstance(n, str) or n is None or n > 0 else None for n in dims)
    return Input(value.name, shape, dtype)


def prepared(graph: Graph, inputs: list[Input], limit: int, fuse: bool) -> Evaluator:
    """The evaluator of a graph."""
    check_operators(graph.nodes, graph.opsets, {(op.op_domain, op.__name__) for op in OPERATORS if not op.op_domain})
    kind: type[Evaluator] = type("Evaluator", (Evaluator,), {"limit": limit})
    _fold(graph, kind)
    if fuse:
        graph = rewritten(graph)
    evaluator = _evaluator(kind, graph.nodes, graph.opsets, inputs, graph.outputs)
    evaluator.rt_inits_ = graph.constants
    evaluator.watch()
    return evaluator


def _evaluator(
    kind: type[Evaluator], nodes: Any, opsets: dict[str, int], inputs: list[Input], outputs: Any
) -> Evaluator:
    graph = onnx.GraphProto()
    graph.node.extend(nodes)
    graph.input.extend(onnx.ValueInfoProto(name=value.name) for value in inputs)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    try:
        return kind(graph, opsets={**opsets, DOMAIN: 1}, new_ops=list(OPERATORS))
    except Exception as error:  # onnx raises many kinds
        raise ModelError(f"onnx: the model cannot be prepared: {printable(str(error), 200)}") from error


def _fold(graph: Graph, kind: type[Evaluator]) -> None:
    """Compute what depends on constants alone."""
    held = sum(a.nbytes for a in graph.constants.values())
    rest = []
    for node in graph.nodes:
        known = all(name in graph.constants or not name for name in node.input)
        pure = node.domain == "" and node.op_type in FOLDED and (len(node.input) > 0 or node.op_type == "Constant")
        if not (pure and known):
            rest.append(node)
            continue
        one = _evaluator(kind, [node], graph.opsets, [], node.output)
        values = one.run(None, {name: graph.constants[name] for name in node.input if name})
        held += sum(value.nbytes for value in values)
        if held > kind.limit:
            raise MemoryLimitError(f"onnx: the model's constants need over {kind.limit} bytes; use max_memory=")
        graph.constants |= zip(node.output, values, strict=False)
    graph.nodes = rest
