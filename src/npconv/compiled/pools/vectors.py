"""Vectors as values of Numba's language: what the kernels of pooling are written in, and how they reach memory.

`pools_lanes.Lanes` holds the words for one element type: V is a vector of elements, I one of integers of the same size (where an
element came from), M one of truth values. All work on addresses in bytes, and none depends on the data.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel.models import PrimitiveModel
from numba.core.datamodel.registry import register_default
from numba.extending import intrinsic

from ...geometry import ceil_div
from ..emit import I1, I32, I64, PTR, P, Vectors, function, pointer

ELEMENTS = {"f4": ir.FloatType(), "f8": ir.DoubleType(), "i4": I32, "i8": I64, "b1": I1}
SCALARS = {"f4": types.float32, "f8": types.float64}


class LanesType(types.Type):
    """The Numba type of a vector."""

    def __init__(self, element: str, lanes: int) -> None:
        self.element, self.lanes = element, lanes
        super().__init__(name=f"npconv_lanes({lanes} x {element})")


@register_default(LanesType)
class LanesModel(PrimitiveModel):
    """It lives in a register as LLVM's vector."""

    def __init__(self, manager: Any, fe_type: LanesType) -> None:
        super().__init__(manager, fe_type, ir.VectorType(ELEMENTS[fe_type.element], fe_type.lanes))


def said(result: Any, *arguments: Any) -> Callable[[Callable[..., Any]], Any]:
    """An intrinsic with these types, from a function (builder, *values) that emits its body."""

    def decorate(body: Callable[..., Any]) -> Any:
        def typed(context: Any, *_: Any) -> Any:
            def generate(target: Any, b: Any, signature: Any, values: Any) -> Any:
                found = body(b, *values)
                return target.get_dummy_value() if result is types.void else found

            return result(*arguments), generate

        names = ["context", *(f"a{i}" for i in range(len(arguments)))]  # Numba wants every argument named
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        typed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return intrinsic(typed)

    return decorate


@said(P, P, P)
def quotient(b: Any, x: Any, y: Any) -> Any:
    """x // y of numbers that are not negative, y not zero: Python's rules cost more than the division."""
    return b.udiv(x, y)


@said(P, P, P)
def remainder(b: Any, x: Any, y: Any) -> Any:
    """x % y of the same."""
    return b.urem(x, y)


class Memory:
    """Loads and stores of one element type at one vector width."""

    def __init__(self, v: Vectors) -> None:
        self.v = v
        n, kind = v.lanes, f"i{v.size}"
        self.V, self.I, self.M = LanesType(v.dtype, n), LanesType(kind, n), LanesType("b1", n)
        self.scalar = SCALARS[v.dtype]
        self.integer = ELEMENTS[kind]
        self.integers = ir.VectorType(self.integer, n)

    def _spread(self, b: Any, scalar: Any) -> Any:
        """One scalar of any type in all lanes."""
        n = self.v.lanes
        undefined = ir.Constant(ir.VectorType(scalar.type, n), ir.Undefined)
        first = b.insert_element(undefined, scalar, ir.Constant(I32, 0))
        return b.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, n), [0] * n))

    def _narrow(self, b: Any, number: Any) -> Any:
        return number if self.integer is I64 else b.trunc(number, self.integer)

    # ------------------------------------------------------------------ memory
    @cached_property
    def load(self) -> Any:
        return said(self.V, P)(self.v.load)

    @cached_property
    def load_some(self) -> Any:
        """load_some(address, mask, instead): `instead` where the mask is off, and nothing is read there."""
        v = self.v
        bits = ir.VectorType(I1, v.lanes)

        @said(self.V, P, self.M, self.V)
        def load_some(b: Any, address: Any, mask: Any, instead: Any) -> Any:
            load = function(b, f"llvm.masked.load.{v.suffix}.p0", v.vector, [PTR, I32, bits, v.vector])
            return b.call(load, [pointer(b, address), ir.Constant(I32, v.size), mask, instead])

        return load_some

    @cached_property
    def store(self) -> Any:
        return said(types.void, P, self.V)(lambda b, address, value: self.v.store(b, value, address))

    @cached_property
    def store_some(self) -> Any:
        """store_some(address, value, mask)"""
        return said(types.void, P, self.V, self.M)(
            lambda b, address, value, mask: self.v.masked_store(b, value, mask, address)
        )

    @cached_property
    def one(self) -> Any:
        """The element at an address."""
        v = self.v
        return said(self.scalar, P)(lambda b, address: b.load(pointer(b, address), typ=v.element, align=v.size))

    @cached_property
    def put(self) -> Any:
        v = self.v
        return said(types.void, P, self.scalar)(
            lambda b, address, value: b.store(value, pointer(b, address), align=v.size)
        )

    @cached_property
    def load_numbers(self) -> Any:
        v = self.v
        return said(self.I, P)(lambda b, address: b.load(pointer(b, address), typ=self.integers, align=v.size))

    @cached_property
    def store_numbers(self) -> Any:
        v = self.v
        return said(types.void, P, self.I)(lambda b, address, value: b.store(value, pointer(b, address), align=v.size))

    @cached_property
    def put_word(self) -> Any:
        """A 64-bit integer to an address."""
        return said(types.void, P, P)(lambda b, address, value: b.store(value, pointer(b, address), align=8))

    @cached_property
    def load_words(self) -> Any:
        """load_words(address, mask): 64-bit integers, 0 where the mask is off; the nearest to those that do not fit."""
        n = self.v.lanes
        wide, bits = ir.VectorType(I64, n), ir.VectorType(I1, n)

        @said(self.I, P, self.M)
        def load_words(b: Any, address: Any, mask: Any) -> Any:
            load = function(b, f"llvm.masked.load.v{n}i64.p0", wide, [PTR, I32, bits, wide])
            found = b.call(load, [pointer(b, address), ir.Constant(I32, 8), mask, ir.Constant(wide, None)])
            if self.integer is I64:
                return found
            for name, limit in (("smin", 2**31 - 1), ("smax", -(2**31))):
                bound = function(b, f"llvm.{name}.v{n}i64", wide, [wide, wide])
                found = b.call(bound, [found, ir.Constant(wide, [limit] * n)])
            return b.trunc(found, self.integers)

        return load_words

    @cached_property
    def store_words(self) -> Any:
        """store_words(address, numbers, base, mask): each number plus `base`, as 64-bit integers."""
        n = self.v.lanes
        wide, bits = ir.VectorType(I64, n), ir.VectorType(I1, n)

        @said(types.void, P, self.I, P, self.M)
        def store_words(b: Any, address: Any, numbers: Any, base: Any, mask: Any) -> None:
            long = numbers if self.integer is I64 else b.sext(numbers, wide)
            store = function(b, f"llvm.masked.store.v{n}i64.p0", ir.VoidType(), [wide, PTR, I32, bits])
            value = b.add(long, self._spread(b, base))
            b.call(store, [value, pointer(b, address), ir.Constant(I32, 8), mask])

        return store_words

    @cached_property
    def every(self) -> tuple[Any, ...]:
        """every[s](address): the elements that lie s apart; reads s vectors. every[0] is no word."""
        return (None, self.load, *(self._every(s) for s in (2, 3, 4)))

    def _every(self, apart: int) -> Any:
        v = self.v
        n = v.lanes

        @said(self.V, P)
        def every(b: Any, address: Any) -> Any:
            found, held = None, 0
            for j in range(apart):  # one vector after the other gives its lanes to the result
                part = v.load(b, address, j * v.width)
                upto = ceil_div((j + 1) * n, apart)
                pick = [i if i < held else n + i * apart - j * n if i < upto else 0 for i in range(n)]
                mask = ir.Constant(ir.VectorType(I32, n), pick)
                found = b.shuffle_vector(part if found is None else found, part, mask)
                held = upto
            return found

        return every

    @cached_property
    def weave(self) -> tuple[Any, ...]:
        """weave[s](to, from): the s vectors at `from`, lane by lane in turn."""
        return (None, None, *(self._weave(s) for s in (2, 3, 4)))

    def _weave(self, s: int) -> Any:
        v = self.v
        n = v.lanes

        @said(types.void, P, P)
        def weave(b: Any, to: Any, source: Any) -> None:
            parts = [v.load(b, source, j * v.width) for j in range(s)]
            pick = ir.VectorType(I32, n)
            for j in range(s):
                places = [divmod(j * n + i, s) for i in range(n)]  # lane, vector
                two = [lane + n * min(which, 1) for lane, which in places]
                mixed = b.shuffle_vector(parts[0], parts[1], ir.Constant(pick, two))
                for late in range(2, s):
                    take = [n + lane if which == late else i for i, (lane, which) in enumerate(places)]
                    mixed = b.shuffle_vector(mixed, parts[late], ir.Constant(pick, take))
                v.store(b, mixed, to, j * v.width)

        return weave
