"""How far a model is better run image by image: while a batch of values would not stay in the cache, and weights do."""

from __future__ import annotations

from typing import Any

from ..geometry import total
from .containers import Identity, Parallel
from .graph import CONVOLUTIONS, Node, Value, is_activation
from .norms import BatchNorm
from .pools import AvgPool, MaxPool

#: Bytes that a step reads and writes, from which on a batch of them goes through memory, and up to which an image's stay.
FAR, NEAR = 12 << 20, 8 << 20
#: Bytes of weights that stay for the next image, and bytes whose way to memory takes as long as beginning a step.
LIGHT, BEGINNING = 256 << 10, 128 << 10
#: Layers that take each image of a batch by itself.
APART = (*CONVOLUTIONS, BatchNorm, MaxPool, AvgPool, Parallel, Identity)


def first_steps(source: Value, nodes: list[Node], itemsize: int) -> int:
    """How many of the first nodes to run image by image, so that one value goes on from there; 0: none."""
    batch = source.shape[0]
    best, saved, most = 0, 0, 0
    for i, node in enumerate(nodes[:-1]):
        if not (isinstance(node.layer, APART) or is_activation(node.layer)):
            break
        moved = sum(total(value.shape) for value in (*node.reads, node.writes)) * itemsize
        if moved > FAR and moved <= NEAR * batch:
            saved += moved
        weights = sum(_size(array) for array in node.layer.params.values())
        saved -= (batch - 1) * (BEGINNING + (weights if weights > LIGHT else 0))
        if saved > most and _crossing(nodes, i) == {node.writes.number} and node.writes.becomes is None:
            best, most = i + 1, saved
    return best


def _crossing(nodes: list[Node], last: int) -> set[int]:
    """The values from before that nodes after this one read, or add to."""
    before, after = nodes[: last + 1], nodes[last + 1 :]
    made = {node.writes.number for node in after}
    added = {node.writes.number for node in before if node.writes.becomes and node.writes.becomes.number in made}
    return ({value.number for node in after for value in node.reads} - made) | added


def _size(array: Any) -> int:
    return int(array.nbytes)
