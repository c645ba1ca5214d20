"""The steps of a model: its layers in a row, as few as they can be, and which value each reads and writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..activations import TABLE
from ..compiled.calls import Placed
from ..geometry import Ints
from .containers import Identity, Parallel, Sequential
from .convolutions import Conv, ConvTranspose
from .dense import Dropout, Linear
from .layer import Layer, joined, place
from .norms import BatchNorm

if TYPE_CHECKING:
    from .layer import Array

CONVOLUTIONS = (Conv, ConvTranspose)


@dataclass(eq=False)
class Value:
    """An array between two steps. `turned`: the model has its channels first, its memory has them last."""

    number: int
    shape: Ints
    turned: bool = False
    becomes: Value | None = None  # the sum that is written over it

    @property
    def memory_shape(self) -> Ints:
        return (self.shape[0], *self.shape[2:], self.shape[1]) if self.turned else self.shape

    def seen(self, memory: Array) -> Array:
        """The array as the model's layers see it."""
        return np.moveaxis(memory, -1, 1) if self.turned else memory


@dataclass(eq=False)
class Node:
    """A layer or a junction, with the batch norm and the activation that follow it at once.

    `adds`: what it computes is added to what its output's memory holds, then comes the activation.
    """

    layer: Layer
    reads: list[Value]
    writes: Value
    places: list[str]
    norm: BatchNorm | None = None
    activation: Layer | None = None
    adds: bool = False


@dataclass(frozen=True)
class Step:
    """Something to run: on the arrays of the values it reads, and the one it writes.

    `again`: the same as one launch, for arrays that it has just run on, or None.
    """

    name: str
    places: list[str]
    reads: Ints
    writes: int
    shape: Ints
    run: Callable[..., Any] = field(repr=False)
    again: Callable[..., Placed | None] = field(repr=False, default=lambda *arrays: None)


@dataclass(frozen=True)
class Row:
    """A layer in a graph that is no tree: it reads values by number, 0 the input and i what the i-th row gives."""

    layer: Layer
    reads: Ints
    shape: Ints
    place: str


def melted(model: Layer, shape: Ints) -> tuple[Value, list[Node], Value]:
    """The input's value, the nodes in order, and the result's value."""
    source = Value(0, shape)
    rows = _Rows([], [source])
    return _shortened(rows.nodes, source, rows.expand(model, "", source))


def connected(shape: Ints, rows: list[Row], result: int) -> tuple[Value, list[Node], Value]:
    """The same for the rows of a graph, and the number of the value that it gives."""
    source = Value(0, shape)
    found, values = _Rows([], [source]), [source]
    for row in rows:
        values.append(found.append(row.layer, row.place, [values[i] for i in row.reads], row.shape))
    return _shortened(found.nodes, source, values[result])


def _shortened(nodes: list[Node], source: Value, result: Value) -> tuple[Value, list[Node], Value]:
    nodes = _summed(_fused(nodes, result), source, result)
    _share(nodes, source, result)
    return source, nodes, result


class _Rows:
    """Nodes and values while a model is walked."""

    def __init__(self, nodes: list[Node], values: list[Value]) -> None:
        self.nodes, self.values = nodes, values

    def expand(self, layer: Layer, path: str, x: Value) -> Value:
        """Append what `layer` does to x; the value of its output."""
        if isinstance(layer, Sequential):
            for name, child in layer.children.items():
                with place(name, child):
                    x = self.expand(child, joined(path, name), x)
            return x
        if isinstance(layer, (Identity, Dropout)):
            return x
        if isinstance(layer, Parallel):
            branches = []
            for name, child in layer.children.items():
                with place(name, child):
                    branches.append(self.expand(child, joined(path, name), x))
            return self.append(layer, path, branches, layer.out_shape(x.shape))
        return self.append(layer, path, [x], layer.out_shape(x.shape))

    def append(self, layer: Layer, path: str, reads: list[Value], shape: Ints) -> Value:
        """Append a layer that is none of these; the value of its output."""
        layout = layout_of(layer)
        if layout == "channels_last":
            reads = [self._unturned(value, path) for value in reads]
        first = layout == "channels_first" and not isinstance(layer, Parallel)
        follows = isinstance(layer, Parallel) or is_activation(layer) or getattr(layer, "elementwise", False)
        turned = len(shape) > 2 and (first or (follows and any(value.turned for value in reads)))
        return self._add(layer, path, reads, shape, turned)

    def _unturned(self, value: Value, path: str) -> Value:
        """The same in the model's own order, where a layer reads channels last what another wrote channels first."""
        return self._add(Identity(), path, [value], value.shape, False) if value.turned else value

    def _add(self, layer: Layer, path: str, reads: list[Value], shape: Ints, turned: bool) -> Value:
        value = Value(len(self.values), shape, turned)
        self.values.append(value)
        self.nodes.append(Node(layer, reads, value, [path or type(layer).__name__]))
        return value


def layout_of(layer: Layer) -> str | None:
    """Where a layer expects channels; None: it does not care."""
    return getattr(layer, "options", {}).get("layout") or getattr(layer, "layout", None)


def is_activation(layer: Layer | None) -> bool:
    """Whether this is an activation that can end a sweep."""
    return getattr(layer, "name", None) in TABLE


def _fused(nodes: list[Node], result: Value) -> list[Node]:
    """Batch norms and activations become part of what they follow, where nobody else reads that."""
    readers = _readers(nodes, result)
    maker: dict[int, Node] = {}
    kept = []
    for node in nodes:
        before = maker.get(node.reads[0].number) if readers[node.reads[0].number] == 1 else None
        if before is not None and before.activation is None and _goes_on(before, node.layer):
            if isinstance(node.layer, BatchNorm):
                before.norm = node.layer
            else:
                before.activation = node.layer
            before.writes, before.places = node.writes, before.places + node.places
        else:
            kept.append(node)
            before = node
        maker[node.writes.number] = before
    return kept


def _goes_on(node: Node, layer: Layer) -> bool:
    """Whether a step may do this layer too."""
    if isinstance(layer, BatchNorm):
        return isinstance(node.layer, CONVOLUTIONS) and node.norm is None
    added = isinstance(node.layer, Parallel) and node.layer.join == "add"
    return is_activation(layer) and (added or isinstance(node.layer, (*CONVOLUTIONS, BatchNorm, Linear)))


def _summed(nodes: list[Node], source: Value, result: Value) -> list[Node]:
    """A sum of two becomes part of the convolution that gives the later one: it adds to the memory of the other."""
    readers, dropped = _readers(nodes, result), set()
    made = {node.writes.number: i for i, node in enumerate(nodes)}
    for i, node in enumerate(nodes):
        if not (isinstance(node.layer, Parallel) and node.layer.join == "add" and len(node.reads) == 2):
            continue
        first, last = sorted(node.reads, key=lambda value: made.get(value.number, -1))
        maker = nodes[made.get(last.number, i)]
        alone = readers[last.number] == 1 and first is not source and first is not result and first not in maker.reads
        later = any(first in other.reads for other in nodes[made.get(last.number, i) + 1 : i] + nodes[i + 1 :])
        plain = isinstance(maker.layer, CONVOLUTIONS) and maker.activation is None and not maker.adds
        if alone and plain and not later and first.turned == last.turned == node.writes.turned:
            maker.adds, maker.activation, maker.writes = True, node.activation, node.writes
            maker.places = maker.places + node.places
            first.becomes = node.writes
            made[node.writes.number] = made[last.number]
            dropped.add(i)
    return [node for i, node in enumerate(nodes) if i not in dropped]


def _readers(nodes: list[Node], result: Value) -> Counter[int]:
    """How many read each value."""
    counts = Counter(value.number for node in nodes for value in node.reads)
    counts[result.number] += 1
    return counts


def _share(nodes: list[Node], source: Value, result: Value) -> None:
    """A sum is written over its first term, if nobody else reads that."""
    readers = _readers(nodes, result)
    for node in nodes:
        first = node.reads[0]
        alone = readers[first.number] == 1 and first.becomes is None  # or a convolution adds to it
        free = alone and first is not source and first.turned == node.writes.turned
        if isinstance(node.layer, Parallel) and node.layer.join == "add" and free:
            first.becomes = node.writes
