"""Products of few channels, no more than a vector has lanes: the weights of a position stay in registers, rows go by.

A group of half or a quarter as many channels shares its vectors with the next ones: lanes of groups beside each other.
A broadcast of two or four elements then serves each of them with its own, if the first elements of all of them come
first, then the second ones; so are rows and weights put in order on their way in, and sums back on their way out.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ..emit import I32, Vectors, fetch, i64, pointer
from ..flow import stepped
from ..micro_kernel import fixed
from ..parts import Part
from ..target import Target
from .shape import BUNDLES, NARROW_ROWS

ARGUMENTS = "a w w_step w_far c rows spare"


def kernels(dtype: str, target: Target) -> dict[str, Part]:
    """For each number of groups that may share a vector."""
    v = Vectors(dtype, target.width)
    return {f"products_{q}": _products(v, q) for q in BUNDLES if q < v.lanes and v.registers in NARROW_ROWS}


def _products(v: Vectors, q: int) -> Part:
    """c[r] = sum over k of a[r, k] w[k], for `rows` rows, of `q` groups of `lanes` / q channels each.

    Rows of a and of c are vectors side by side, group after group. Row k of the weights of a group is a vector whose
    first lanes are its outputs; those of the next group lie `w_step` bytes farther. What lies `w_far` bytes behind
    weights is brought into the cache. `spare` has room for a vector of each row of a tile.
    """
    lanes = range(v.lanes)
    depth = v.lanes // q
    mixing, sorting = [i % q * depth + i // q for i in lanes], [i % depth * q + i // depth for i in lanes]

    def body(b: Any, arguments: list[Any]) -> None:
        a, w, w_step, w_far, c, rows, spare = arguments
        weights = []
        for k in range(depth):
            places = [b.add(w, b.mul(w_step, i64(i))) for i in range(q)]
            for place in places:
                fetch(b, b.add(place, w_far), k * v.width)
            weights.append(_mixed(b, [v.load(b, place, k * v.width) for place in places]))

        def tile(state: list[Any], height: int) -> list[Any]:
            left, a, c = state
            source = a
            if q > 1:
                for at in range(0, height * v.width, v.width):
                    v.store(b, _shuffled(b, v.load(b, a, at), mixing), spare, at)
                source = fixed(b, spare)  # or LLVM would rather take the vectors apart again than load a part
            sums = [v.constant(0.0)] * height
            for k, weight in enumerate(weights):
                for r in range(height):
                    sums[r] = v.fma(b, _spread(v, b, source, r * v.lanes + k * q, q), weight, sums[r])
            for r, value in enumerate(sums):
                v.store(b, _shuffled(b, value, sorting) if q > 1 else value, c, r * v.width)
            return [b.sub(left, i64(height)), *(b.add(at, i64(height * v.width)) for at in (a, c))]

        state = [rows, a, c]
        tall = NARROW_ROWS[v.registers]
        for height in (tall if q == 1 else tall // 2, 1):  # broadcasts of several elements take registers of their own
            state = stepped(b, state, height, tile)

    return Part(tuple(ARGUMENTS.split()), body)


def _mixed(b: Any, groups: list[Any]) -> Any:
    """The first elements of all groups, then the second ones."""
    lanes = groups[0].type.count
    order = [i // 2 + lanes * (i % 2) for i in range(lanes)]
    while len(groups) > 1:
        half = len(groups) // 2
        groups = [b.shuffle_vector(*pair, _places(order)) for pair in zip(groups[:half], groups[half:], strict=True)]
    return groups[0]


def _spread(v: Vectors, b: Any, at: Any, first: int, count: int) -> Any:
    """`count` elements, again and again."""
    if count == 1:
        return v.broadcast(b, at, first * v.size)
    few = b.load(pointer(b, at, first * v.size), typ=ir.VectorType(v.element, count), align=v.size)
    return _shuffled(b, few, [i % count for i in range(v.lanes)])


def _shuffled(b: Any, value: Any, order: list[int]) -> Any:
    return b.shuffle_vector(value, value, _places(order))


def _places(order: list[int]) -> Any:
    return ir.Constant(ir.VectorType(I32, len(order)), order)
