"""An ONNX graph made shorter before it runs: constants computed once, normalizations folded, activations fused.

The numbers stay, to rounding: a folded weight is computed in double precision and rounded once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .onnx_checks import subgraphs
from .onnx_operators import DOMAIN, scale_and_shift

Array = NDArray[Any]

PLANNED = {"Conv": "PlannedConv", "ConvTranspose": "PlannedConvTranspose"}
SIMPLE = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh"}


@dataclass
class Graph:
    """The nodes of a model in order, and apart from them the arrays that it holds."""

    nodes: list[Any]
    constants: dict[str, Array]
    outputs: list[str]
    opsets: dict[str, int]
    _taken: set[str] = field(default_factory=set)

    def readers(self) -> Counter[str]:
        """How many nodes read each value; the caller, and a graph inside a node, count as more than one."""
        found = Counter(name for node in self.nodes for name in node.input)
        for name in (*self.outputs, *(name for node in self.nodes for name in captured(node))):
            found[name] += 2
        return found

    def keep(self, array: Array) -> str:
        """Add a constant; its name."""
        if not self._taken:
            self._taken = {*self.constants, *(name for node in self.nodes for name in (*node.input, *node.output))}
        name = next(name for i in count(len(self._taken)) if (name := f"npconv.{i}") not in self._taken)
        self.constants[name] = array
        self._taken.add(name)
        return name


def captured(node: Any) -> set[str]:
    """The names that the graphs inside a node read, those of their own included."""
    found: set[str] = set()
    pending = list(subgraphs(node))
    while pending:
        graph = pending.pop()
        found.update(value.name for value in graph.output)
        for inner in graph.node:
            found.update(inner.input)
            pending += subgraphs(inner)
    return found


def attributes_of(node: Any) -> dict[str, Any]:
    """The attributes of a node as Python values."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def rewritten(graph: Graph) -> Graph:
    """The graph with plans, folded normalizations and fused activations; `graph` itself is used up."""
    _drop_idle(graph)
    _take_over(graph)
    _merge_scales(graph)
    _fuse_activations(graph)
    read = {name for node in graph.nodes for name in (*node.input, *captured(node))} | set(graph.outputs)
    graph.constants = {name: a for name, a in graph.constants.items() if name in read}
    return graph


def _drop_idle(graph: Graph) -> None:
    """Dropout does nothing in inference, nor does Identity: whoever reads them reads their input."""
    alias: dict[str, str] = {}
    kept, readers = [], graph.readers()
    pinned = {*graph.outputs, *(name for node in graph.nodes for name in captured(node))}
    for node in graph.nodes:
        for i, name in enumerate(node.input):
            node.input[i] = alias.get(name, name)
        training = len(node.input) > 2 and node.input[2] != ""
        idle = node.op_type == "Identity" or (
            node.op_type == "Dropout" and not training and not any(readers[name] for name in node.output[1:])
        )
        if node.domain == "" and idle and node.output[0] not in pinned:
            alias[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    graph.nodes = kept


def _take_over(graph: Graph) -> None:
    """Convolutions of constant weights become plans; normalizations of constant numbers become scales."""
    for i, node in enumerate(graph.nodes):
        held: list[Any] = [graph.constants.get(name) for name in node.input[1:] if name]
        if node.domain != "" or not held or not all(a is not None and a.dtype.kind == "f" for a in held):
            continue
        attributes = attributes_of(node)
        if node.op_type in PLANNED:
            graph.nodes[i] = _made(PLANNED[node.op_type], list(node.input), node, attributes)
        elif node.op_type == "BatchNormalization" and _inference(node, attributes):
            pair = scale_and_shift(held[0], held[1], held[2], held[3], attributes.get("epsilon"))
            names = [graph.keep(a.astype(held[0].dtype)) for a in pair]
            graph.nodes[i] = _made("ScaleShift", [node.input[0], *names], node, {})


def _inference(node: Any, attributes: dict[str, Any]) -> bool:
    alone = sum(map(bool, node.output)) == 1 and len(node.input) == 5
    return alone and not attributes.get("training_mode") and attributes.get("spatial", 1) != 0


def _made(op: str, inputs: list[str], node: Any, attributes: dict[str, Any]) -> Any:
    """A node of our domain in the place of `node`."""
    return onnx.helper.make_node(op, inputs, [node.output[0]], node.name, domain=DOMAIN, **attributes)


# --------------------------------------------------------------------------- what follows a convolution
def _open(node: Any) -> bool:
    """Whether more can be fused into this node."""
    return node is not None and node.domain == DOMAIN and all(a.name != "activation" for a in node.attribute)


def _merge_scales(graph: Graph) -> None:
    """A scale and a shift after a convolution or after another scale become part of it."""
    readers, made = graph.readers(), dict[str, int]()
    nodes: list[Any] = []
    for node in graph.nodes:
        at = made.get(node.input[0]) if node.input else None
        first: Any = None if at is None else nodes[at]
        pair = None
        if at is not None and _open(first) and readers[node.input[0]] == 1:
            pair = _scale_of(node, first, graph.constants)
        if at is None or pair is None:
            made.update(dict.fromkeys(node.output[:1], len(nodes)))
            nodes.append(node)
            continue
        arrays = _scaled(first, pair, graph.constants)
        nodes[at] = _made(first.op_type, [first.input[0], *map(graph.keep, arrays)], node, attributes_of(first))
        made[node.output[0]] = at
    graph.nodes = nodes


def _scale_of(node: Any, first: Any, constants: dict[str, Array]) -> tuple[Array, Array] | None:
    """What `node` multiplies each channel of `first` by and adds to it, if that is all it does."""
    if node.domain == DOMAIN and node.op_type == "ScaleShift" and _open(node):
        return constants[node.input[1]].astype(np.float64), constants[node.input[2]].astype(np.float64)
    a = constants.get(node.input[1]) if len(node.input) == 2 and node.domain == "" else None
    if a is None or node.op_type not in ("Mul", "Add") or first.op_type == "ScaleShift" or a.dtype.kind != "f":
        return None
    w = constants[first.input[1]]
    channels = w.shape[0]
    if first.op_type == PLANNED["ConvTranspose"]:
        channels = w.shape[1] * attributes_of(first).get("group", 1)
    wide = (1,) * (w.ndim - a.ndim) + a.shape
    if len(wide) != w.ndim or a.size not in (1, channels) or wide[1] != a.size:
        return None
    numbers = np.broadcast_to(a.reshape(-1).astype(np.float64), (channels,))
    return (numbers, np.zeros(channels)) if node.op_type == "Mul" else (np.ones(channels), numbers)


def _scaled(first: Any, pair: tuple[Array, Array], constants: dict[str, Array]) -> tuple[Array, Array]:
    """The weights (or the scale) and the bias (or the shift) of `first` with another scale and shift after it."""
    factor, shift = pair
    w = constants[first.input[1]]
    bias = constants[first.input[2]].astype(np.float64) if len(first.input) > 2 and first.input[2] else 0.0
    if first.op_type == PLANNED["ConvTranspose"]:  # (C, O/G, *k): the channels of a group share the second axis
        groups = attributes_of(first).get("group", 1)
        grouped = w.reshape(groups, -1, *w.shape[1:]) * factor.reshape(groups, 1, -1, *(1,) * (w.ndim - 2))
        wide = grouped.reshape(w.shape)
    else:
        wide = w * factor.reshape(-1, *(1,) * (w.ndim - 1))
    return wide.astype(w.dtype), (bias * factor + shift).astype(w.dtype)


def _fuse_activations(graph: Graph) -> None:
    """An activation after one of our nodes becomes part of it."""
    readers, made = graph.readers(), dict[str, int]()
    nodes: list[Any] = []
    for node in graph.nodes:
        found = activation_of(node, graph.constants)
        source, reads = (node.input[0], 1) if found else ("", 0)
        gate = _gate(node, nodes, made, readers)
        if gate is not None:
            source, reads, found = node.input[1 - gate], 2, {"activation": "silu"}
        at = made.get(source)
        if found is None or at is None or not _open(nodes[at]) or readers[source] != reads:
            made.update(dict.fromkeys(node.output[:1], len(nodes)))
            nodes.append(node)
            continue
        if gate is not None:
            nodes[made[node.input[gate]]] = None
        first = nodes[at]
        nodes[at] = _made(first.op_type, list(first.input), node, attributes_of(first) | found)
        made[node.output[0]] = at
    graph.nodes = [node for node in nodes if node is not None]


def _gate(node: Any, nodes: list[Any], made: dict[str, int], readers: Counter[str]) -> int | None:
    """Which input of a product x * sigmoid(x) is the sigmoid."""
    if node.op_type != "Mul" or node.domain != "" or len(node.input) != 2:
        return None
    for i, name in enumerate(node.input):
        before = nodes[made[name]] if name in made else None
        if before is not None and before.op_type == "Sigmoid" and readers[name] == 1:
            return i if before.domain == "" and before.input[0] == node.input[1 - i] else None
    return None


def activation_of(node: Any, constants: dict[str, Array]) -> dict[str, Any] | None:
    """The activation that a node is, as attributes of ours."""
    if node.domain != "" or not node.input:
        return None
    if node.op_type in SIMPLE:
        return {"activation": SIMPLE[node.op_type]}
    attributes = attributes_of(node)
    if node.op_type == "LeakyRelu":
        return {"activation": "leaky_relu", "slope": attributes.get("alpha", float(np.float32(0.01)))}
    if node.op_type == "Gelu":
        return {"activation": "gelu_tanh" if attributes.get("approximate") == b"tanh" else "gelu"}
    if node.op_type == "Clip":
        limits = [attributes.get(name) for name in ("min", "max")]
        for i, name in enumerate(node.input[1:3]):
            limits[i] = constants[name].item() if name in constants and constants[name].size == 1 else None
        return {"activation": "relu6"} if limits == [0, 6] else None
    return None
