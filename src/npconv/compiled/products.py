"""All rows of a matrix with one panel of another: the micro-kernel, tile after tile. A part that many kernels share."""

from __future__ import annotations

from typing import Any

from .emit import Vectors, i64
from .flow import Bodies, stepped
from .micro_kernel import micro_kernel
from .panels import HALVED, REST, tall_from
from .parts import Part, cases, invoke, shared
from .target import Target

ARGUMENTS = "a rows a_offsets a_step w w_offsets w_step batch depth c c_rows pixels count start bias bounds"
#: Those that take each other's place when a call is planned have three more: see `micro_kernel`; with rows ahead, what is
#: fetched moves by `far_row` from row to row.
FAR = "far far_row far_step"
#: What tiles may do besides.
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "columns_ahead": {"ahead": "columns"},
    "both_ahead": {"ahead": "both"},
    "bounded": {"bounded": True},
    "narrow": {"narrow": True, "bounded": True},
    "bounded_ahead": {"bounded": True, "ahead": "rows"},
    "narrow_ahead": {"narrow": True, "bounded": True, "ahead": "rows"},
    "across": {"bounded": True, "across": True, "ahead": "beside"},
}
#: The kinds that kernels call by name.
OFTEN = ("plain", "columns_ahead")
#: invoke(address, columns, a, rows, ..., far, far_row, far_step): products whose kind is known when a call is planned.
INVOKED = invoke(1 + len(f"{ARGUMENTS} {FAR}".split()))


def kernels(dtype: str, target: Target) -> dict[str, Part]:
    """The products of each kind, on processors whose vectors are worth halving the narrow ones too."""
    kinds = {name: kind for name, kind in KINDS.items() if target.width == HALVED or not kind.get("narrow")}
    return {name: _products(Vectors(dtype, target.width), name, **kind) for name, kind in kinds.items()}


def multiply(v: Vectors, kind: str = "plain") -> Any:
    """multiply(columns, a, rows, ...): the arguments are those of `micro_kernel`, and `pixels`, the rows in all.

    The tables of rows must be `SPARE` entries longer than they have rows, filled with the last one.
    """
    return shared("products", kind, v.dtype, 1 + len(ARGUMENTS.split()))


def _products(v: Vectors, name: str, **kind: Any) -> Part:
    """All rows of a box with one panel, of as many vectors as `columns` says."""
    walks: Bodies = []
    for n in range(1, v.widest + 1):
        walks.append((f"walk_{name}_{n}", lambda b, a, n=n: _walk(b, a, v, n, kind)))
    arguments = ARGUMENTS if name in OFTEN else f"{ARGUMENTS} {FAR}"
    return cases(f"columns {arguments}", walks, first=1)


def _walk(b: Any, arguments: list[Any], v: Vectors, columns: int, kind: dict[str, Any]) -> None:
    """The rows of one width: tiles as tall as the registers allow, then short ones."""
    many = len(ARGUMENTS.split())
    a, rows, *matrices, c, c_rows, pixels, count, start, bias, bounds = arguments[:many]
    far, far_row, far_step = arguments[many:] or [i64(0)] * 3
    tall, last, across = v.tile_rows(columns), i64((columns - 1) * v.width), kind.get("across", False)
    last_bias = b.add(bias, b.mul(b.sub(pixels, i64(1)), i64(v.size)))

    def tile(state: list[Any], height: int) -> list[Any]:
        left, rows, c_rows, far, turn, at = state
        begins = at
        if across:  # the last one again where the last row is
            begins = [_sooner(b, b.add(at, i64(r * v.size)), last_bias) for r in range(height)]
            at = b.add(at, i64(height * v.size))
        block = micro_kernel(v, height, columns, **kind)
        block(b, [a, rows, *matrices, c, c_rows, count, start, begins, bounds, far, far_step, turn])
        if kind.get("ahead") == "rows":
            far = b.add(far, b.mul(far_row, i64(height)))
        turn = b.select(b.icmp_signed("<", turn, last), b.add(turn, i64(v.width)), i64(0))
        return [b.sub(left, i64(height)), b.add(rows, i64(8 * height)), b.add(c_rows, i64(8 * height)), far, turn, at]

    state = [pixels, rows, c_rows, far, i64(0), bias]
    # runs of rows across may end before their tables do: a tile must not reach into the next run
    state = stepped(
        b, state, tall - REST + 1 if across else tall_from(columns, tall), lambda state, _: tile(state, tall)
    )
    stepped(b, state, 1, lambda state, _: tile(state, REST))


def _sooner(b: Any, one: Any, other: Any) -> Any:
    return b.select(b.icmp_unsigned("<", one, other), one, other)
