"""What an ONNX file must be before anything of it runs: small enough, well formed, and of known operators.

A file is data from a stranger. Nothing here follows a size that the file declares until the bytes for it are there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

try:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
except ImportError as error:
    raise ImportError('npconv reads and writes ONNX with onnx: pip install "npconv[onnx]"') from error

#: Protocol buffers hold no more than this.
MOST_BYTES = 2**31 - 1
MOST_NODES = 100_000
MOST_NAMES = 1_000_000
MOST_AXES = 16
#: Graphs inside nodes inside graphs.
MOST_DEPTH = 8
LONGEST_NAME = 1024
#: Operators that run other operators as often as the data say, which may be for ever.
ENDLESS = ("Loop", "Scan", "SequenceMap")

EXTERNAL = onnx.TensorProto.EXTERNAL
TENSOR_LISTS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


class ModelError(ValueError):
    """An ONNX model that is refused; the message says why."""


def printable(name: str | bytes, longest: int = 80) -> str:
    """A name from a file as a message may show it: without control characters, and not too long."""
    if isinstance(name, bytes):  # what the parser gives for text that is no UTF-8
        name = name.decode(errors="replace")
    shown = "".join(c if c.isprintable() else "?" for c in name[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."


def read_model(source: Any) -> tuple[Any, Path | None]:
    """The model in a file, in bytes, or as it was given, and the folder it came from; checked."""
    folder = None
    if isinstance(source, onnx.ModelProto):
        model = source
    else:
        data = source if isinstance(source, bytes) else None
        if data is None:
            path = Path(source)
            folder, data = path.resolve().parent, _contents(path)
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
        except DecodeError as error:
            raise ModelError("onnx: this is no ONNX model: the bytes do not follow its format") from error
    check(model)
    return model, folder


def _contents(path: Path) -> bytes:
    with open(path, "rb", opener=_without_waiting) as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise ModelError(f"onnx: {printable(str(path), 200)} is not a regular file")
        if about.st_size > MOST_BYTES:
            raise ModelError(
                f"onnx: the file has {about.st_size} bytes, a model has at most {MOST_BYTES}; keep its weights apart"
            )
        return file.read(MOST_BYTES)


def _without_waiting(path: str, flags: int) -> int:
    """Open without waiting for a writer, should it be a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def check(model: Any) -> None:
    """Refuse a model whose structure is wrong or whose size is absurd. Nothing is computed."""
    if not model.HasField("graph"):
        raise ModelError("onnx: the model holds no graph")
    if not model.opset_import:
        raise ModelError("onnx: the model names no operator set (opset_import)")
    newest = onnx.defs.onnx_opset_version()
    counts = _Counts()
    for opset in model.opset_import:
        counts.texts(opset.domain)
        if opset.domain in ("", "ai.onnx") and not 1 <= opset.version <= newest:
            raise ModelError(
                f"onnx: the model needs operator set {opset.version}, the installed onnx {onnx.__version__} has 1..{newest}"
            )
    for function in model.functions:
        counts.texts(function.name, function.domain, *function.input, *function.output)
    for graph in [model.graph, *model.functions]:
        counts.graph(graph, 1)
    _check_expansion(model)
    _check_order(model.graph, set())


class _Counts:
    """How much of everything there is, over all graphs of a model."""

    def __init__(self) -> None:
        self.nodes = self.names = 0

    def graph(self, graph: Any, depth: int) -> None:
        """Count a graph (or the body of a function), and check what it holds."""
        if depth > MOST_DEPTH:
            raise ModelError(f"onnx: graphs inside graphs are more than {MOST_DEPTH} deep")
        self.nodes += len(graph.node)
        if self.nodes > MOST_NODES:
            raise ModelError(f"onnx: the model has over {MOST_NODES} nodes")
        for node in graph.node:
            self.texts(node.op_type, node.domain, node.name, *node.input, *node.output)
            for attribute in node.attribute:
                self.attribute(attribute, depth)
        if isinstance(graph, onnx.GraphProto):
            if graph.sparse_initializer:
                raise ModelError("onnx: sparse initializers are not supported")
            for tensor in graph.initializer:
                self.texts(tensor.name)
                check_tensor(tensor)
            for value in (*graph.input, *graph.output, *graph.value_info):
                self.texts(value.name, *(d.dim_param for d in value.type.tensor_type.shape.dim))
                if len(value.type.tensor_type.shape.dim) > MOST_AXES:
                    raise ModelError(f"onnx: {printable(value.name)!r} has over {MOST_AXES} axes")

    def texts(self, *names: Any) -> None:
        """Count names, and check that each is text, and not too long."""
        self.names += len(names)
        if self.names > MOST_NAMES:
            raise ModelError(f"onnx: the model has over {MOST_NAMES} names")
        for name in names:
            if not isinstance(name, str) or len(name) > LONGEST_NAME:
                raise ModelError(f"onnx: {printable(name)!r} is no name: not UTF-8, or over {LONGEST_NAME} characters")

    def attribute(self, attribute: Any, depth: int) -> None:
        """Check the tensors and graphs of an attribute."""
        self.texts(attribute.name)
        held = [attribute.t] if attribute.HasField("t") else []
        for tensor in (*held, *attribute.tensors):
            check_tensor(tensor)
        graphs = [attribute.g] if attribute.HasField("g") else []
        for inner in (*graphs, *attribute.graphs):
            self.graph(inner, depth + 1)


def check_tensor(tensor: Any) -> None:
    """Refuse a tensor whose bytes are not what its shape says; those kept in other files are looked at when read."""
    name = printable(tensor.name) or "a constant"
    if len(tensor.dims) > MOST_AXES or any(n < 0 for n in tensor.dims):
        shown = ", ".join(map(str, tensor.dims[:MOST_AXES]))
        raise ModelError(f"onnx: tensor {name} has the shape ({shown}), which is negative or of over {MOST_AXES} axes")
    if tensor.HasField("segment"):
        raise ModelError(f"onnx: tensor {name} is stored in segments, which nobody reads")
    if tensor.data_location == EXTERNAL:
        return
    if tensor.data_type == onnx.TensorProto.STRING:
        if prod(tensor.dims) != len(tensor.string_data):
            raise ModelError(
                f"onnx: tensor {name} declares {prod(tensor.dims)} strings and holds {len(tensor.string_data)}"
            )
        return
    needed = tensor_bytes(tensor)
    if tensor.HasField("raw_data"):
        given = len(tensor.raw_data)
        fits = given == needed
    else:  # a number in a list stands for one element, half a complex one, or several of four bits
        given = sum(len(getattr(tensor, field)) for field in TENSOR_LISTS)
        fits = given * 16 >= needed and given <= max(needed, 2 * prod(tensor.dims))
    if not fits:
        raise ModelError(f"onnx: tensor {name} of shape {tuple(tensor.dims)} needs {needed} bytes and holds {given}")


def tensor_bytes(tensor: Any) -> int:
    """The bytes that a tensor's shape and type stand for."""
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(f"onnx: tensor {printable(tensor.name)} has the unknown type {tensor.data_type}") from error
    bits = dict.fromkeys(("int4", "uint4", "float4_e2m1fn"), 4) | {"int2": 2, "uint2": 2}
    return -(-prod(tensor.dims) * bits.get(dtype.name, 8 * dtype.itemsize) // 8)


def _check_expansion(model: Any) -> None:
    """Refuse functions that call themselves, and those that would unfold into too many nodes."""
    bodies = {(f.domain, f.name): f for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    open_: list[tuple[str, str]] = []

    def size(nodes: Any) -> int:
        total = 0
        for node in nodes:
            key = node.domain, node.op_type
            if key in bodies and key not in sizes:
                if key in open_ or len(open_) > 200:
                    raise ModelError(f"onnx: function {printable(node.op_type)!r} calls itself, or others too deep")
                open_.append(key)
                sizes[key] = size(bodies[key].node)
                open_.pop()
            total += sizes.get(key, 1) + sum(size(graph.node) for graph in subgraphs(node))
            if total > MOST_NODES:
                raise ModelError(f"onnx: functions unfold to over {MOST_NODES} nodes")
        return total

    size(model.graph.node)


def subgraphs(node: Any) -> Iterator[Any]:
    """The graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _check_order(graph: Any, outer: set[str]) -> None:
    """Every name is defined once, and before it is read."""
    known = outer | {""} | {v.name for v in graph.input} | {t.name for t in graph.initializer}
    own: set[str] = set()
    for node in graph.node:
        missing = [name for name in node.input if name not in known]
        if missing:
            raise ModelError(f"onnx: {label(node)} reads {printable(missing[0])!r}, which nothing before it defines")
        for inner in subgraphs(node):
            _check_order(inner, known)
        twice = [name for name in node.output if name and name in own]
        if twice:
            raise ModelError(f"onnx: {printable(twice[0])!r} is computed twice")
        own.update(node.output)
        known.update(node.output)
    for value in graph.output:
        if value.name not in known:
            raise ModelError(f"onnx: nothing computes the output {printable(value.name)!r}")


def label(node: Any) -> str:
    """A node as a message names it: its operator and its name, or that of its first output."""
    name = node.name or next(iter(node.output), "")
    return f"{printable(node.op_type)} {printable(name)!r}"


def check_operators(nodes: Any, opsets: dict[str, int], ours: set[tuple[str, str]]) -> None:
    """Refuse a graph with operators that nothing here can run, all of them by name."""
    from onnx.reference.op_run import RuntimeContextError
    from onnx.reference.ops import load_op

    found: dict[tuple[str, str], None] = {}
    pending = list(nodes)
    while pending:
        node = pending.pop()
        found[node.domain, node.op_type] = None
        pending += [inner for graph in subgraphs(node) for inner in graph.node]
    unknown, endless = [], []
    for domain, op in found:
        if op in ENDLESS and domain == "":
            endless.append(op)
        elif (domain, op) not in ours:
            if domain != "" or domain not in opsets:
                unknown.append(f"{printable(domain)}::{printable(op)}" if domain else printable(op))
                continue
            try:
                load_op(domain, op, opsets[domain])
            except RuntimeContextError:
                pass  # its body depends on its inputs' types, and there is one
            except Exception:  # onnx raises many kinds; an operator may still be defined by others
                if not _is_function(op, opsets[domain]):
                    unknown.append(printable(op))
    if unknown:
        shown = ", ".join(sorted(unknown)[:20])
        raise ModelError(f"onnx: nothing here runs {len(unknown)} of the model's operators: {shown}")
    if endless:
        raise ModelError(f"onnx: {', '.join(sorted(endless))} may run for ever, and no CNN needs it: not supported")


def _is_function(op: str, version: int) -> bool:
    """Whether onnx defines the operator by others, which the evaluator then runs."""
    try:
        schema: Any = onnx.defs.get_schema(op, version, "")
    except Exception:  # its SchemaError has no public name
        return False
    return any(getattr(schema, name) for name in ("has_function", "has_context_dependent_function"))
