"""Parts of kernels: functions that LLVM compiles by themselves, once for all the kernels that call them.

A kernel knows a part by its symbol (`shared`), or gets its address as an argument and calls that (`invoke`): so it is
compiled without them, and of parts that take each other's place only those that are used ever are. Their bodies are
emitted, without Numba, which takes longer to type a function than LLVM to compile it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types

from .emit import I64, P, emitted, i64
from .flow import Bodies, choice
from .target import symbol


@dataclass(frozen=True)
class Part:
    """A function of 64-bit integers, by the names of its arguments and what emits its body."""

    arguments: tuple[str, ...]
    body: Callable[[Any, list[Any]], None]

    def text(self, name: str, triple: str) -> str:
        """Its module for a kind of machine, where it is called `name`."""
        module = ir.Module()
        module.triple = triple
        made = ir.Function(module, _kind(len(self.arguments)), name)
        b = ir.IRBuilder(made.append_basic_block())
        self.body(b, list(made.args))
        b.ret_void()
        return str(module)


def cases(arguments: str, bodies: Bodies, first: int = 0) -> Part:
    """A part of several bodies, of which its first argument says one; they are counted from `first`."""

    def taking_all(body: Callable[[Any, list[Any]], None]) -> Callable[[Any, list[Any]], None]:
        def whole(b: Any, a: list[Any]) -> None:
            # of use, or LLVM drops it: then all others move, where a jump would do
            b.asm(ir.FunctionType(ir.VoidType(), [I64]), "", "r", a[:1], side_effect=True)
            body(b, a[1:])

        return whole

    whole = [(name, taking_all(body)) for name, body in bodies]
    names = tuple(arguments.replace(",", " ").split())
    return Part(names, lambda b, a: choice(b, b.sub(a[0], i64(first)), whole, a))


def _kind(count: int) -> Any:
    return ir.FunctionType(ir.VoidType(), [I64] * count)


def shared(family: str, name: str, dtype: str, count: int) -> Any:
    """The part of `count` arguments with this name in the catalogue, for kernels to call."""
    return types.ExternalFunction(symbol(family, name, dtype), types.void(*[P] * count))


@cache
def invoke(count: int) -> Any:
    """invoke(address, ...): call a part of `count` arguments."""

    @emitted(count + 1)
    def call(b: Any, a: Any) -> None:
        b.call(b.inttoptr(a[0], _kind(count).as_pointer()), a[1:])

    return call
