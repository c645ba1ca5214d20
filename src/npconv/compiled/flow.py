"""What kernels are built of besides arithmetic: loops whose state stays in registers, and functions of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from .emit import I64, emitted, i64, outlined


class Loop:
    """A loop that runs at least once, its state in registers: begin, read `state`, `close` with the next state."""

    def __init__(self, b: Any, name: str, state: list[Any]) -> None:
        before, self.b = b.block, b
        self.block, self.after = b.append_basic_block(name), b.append_basic_block(f"{name}.done")
        b.branch(self.block)
        b.position_at_end(self.block)
        self.state = [b.phi(value.type) for value in state]
        for phi, value in zip(self.state, state, strict=True):
            phi.add_incoming(value, before)

    def close(self, state: list[Any], again: Any) -> None:
        """Go on with `state` while `again` holds."""
        for phi, value in zip(self.state, state, strict=True):
            phi.add_incoming(value, self.b.block)
        self.b.cbranch(again, self.block, self.after)
        self.b.position_at_end(self.after)


def stepped(b: Any, state: list[Any], count: int, step: Callable[[list[Any], int], list[Any]]) -> list[Any]:
    """While at least `count` (state[0]) are left, a step of `count`."""
    before, loop, done = b.block, b.append_basic_block("steps"), b.append_basic_block("steps.done")
    b.cbranch(b.icmp_signed(">=", state[0], i64(count)), loop, done)
    b.position_at_end(loop)
    phis = [b.phi(value.type) for value in state]
    after = step(list(phis), count)
    b.cbranch(b.icmp_signed(">=", after[0], i64(count)), loop, done)
    last = b.block
    b.position_at_end(done)
    results = []
    for phi, value, begun in zip(phis, after, state, strict=True):
        phi.add_incoming(begun, before)
        phi.add_incoming(value, last)
        result = b.phi(value.type)
        result.add_incoming(begun, before)
        result.add_incoming(value, last)
        results.append(result)
    return results


Bodies = list[tuple[str, Callable[..., None]]]


def choice(b: Any, kind: Any, bodies: Bodies, arguments: list[Any]) -> None:
    """Call the kind-th of these functions, each made once under its name."""
    end = b.append_basic_block("chosen")
    cases = b.switch(kind, end)
    for number, (name, body) in enumerate(bodies):
        here = b.append_basic_block(name)
        cases.add_case(i64(number), here)
        b.position_at_end(here)
        b.call(outlined(b, name, len(arguments), body), arguments)
        b.branch(end)
    b.position_at_end(end)


def chosen(count: int, bodies: Bodies) -> Any:
    """run(kind, ...): the kind-th of these functions of `count` addresses."""

    @emitted(count + 1)
    def run(b: Any, a: Any) -> None:
        choice(b, a[0], bodies, list(a[1:]))

    return run


def anew(b: Any, value: Any) -> Any:
    """The same number, which LLVM takes for another at every turn of a loop.

    It would keep dozens of multiples of a step from turn to turn, on the stack; computing them takes less.
    """
    kind = ir.FunctionType(I64, [I64])
    return b.call(ir.InlineAsm(kind, "", "=r,0", side_effect=True), [value])
