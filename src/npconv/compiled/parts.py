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

from .emit import I64, P, emitted
from .target import symbol


@dataclass(frozen=True)
class Part:
    """A function of 64-bit integers, by the names of its arguments and what emits its body."""

    arguments: tuple[str, ...]
    body: Callable[[Any, list[Any]], None]

    def text(self, name: str) -> str:
        """Its module, where it is called `name`."""
        module = ir.Module()
        module.triple = ""
        made = ir.Function(module, _kind(len(self.arguments)), name)
        b = ir.IRBuilder(made.append_basic_block())
        self.body(b, list(made.args))
        b.ret_void()
        return str(module)


def part(arguments: str) -> Callable[[Callable[[Any, list[Any]], None]], Part]:
    """A part from the function (builder, arguments) that emits its body."""
    return lambda body: Part(tuple(arguments.replace(",", " ").split()), body)


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
