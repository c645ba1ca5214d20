"""The vocabulary of the kernels: loads, stores, atomics and vector blocks as LLVM instructions.

Kernels are Numba functions over plain addresses (`intp`, in bytes); what Numba cannot say, these intrinsics emit. All
vectors are explicit, so the code does not depend on what an auto-vectorizer believes about a CPU. A `Vectors` holds
the words of one element type and one vector width.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .panels import TILE_ROWS, registers

I1, I32, I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
PTR = ir.PointerType()
P = types.intp


def i64(value: int) -> ir.Constant:
    """A 64-bit constant."""
    return ir.Constant(I64, value)


def pointer(b: Any, address: Any, offset: int = 0) -> Any:
    """An address in bytes as a pointer."""
    return b.inttoptr(b.add(address, i64(offset)) if offset else address, PTR)


def function(b: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """A function of this module, declared once."""
    found = b.module.globals.get(name)
    return found or ir.Function(b.module, ir.FunctionType(result, arguments), name)


def fetch(b: Any, address: Any, offset: int = 0, to_write: bool = False) -> None:
    """Have the line of an address brought into the cache; any address will do."""
    wanted = function(b, "llvm.prefetch.p0", ir.VoidType(), [PTR, I32, I32, I32])
    how = (int(to_write), 3, 1)  # to read or to write, keep, data
    b.call(wanted, [pointer(b, address, offset), *(ir.Constant(I32, value) for value in how)])


def emitted(count: int, result: Any = types.void) -> Callable[[Any], Any]:
    """An intrinsic of `count` addresses from a function (builder, arguments) that emits its body."""

    def decorate(body: Callable[..., Any]) -> Any:
        def typed(context: Any, *arguments: Any) -> Any:
            def generate(target: Any, b: Any, signature: Any, values: Any) -> Any:
                found = body(b, values)
                return target.get_dummy_value() if result is types.void else found

            return result(*[P] * count), generate

        names = ["context", *(f"a{i}" for i in range(count))]  # Numba wants every argument named
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        typed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return intrinsic(typed)

    return decorate


def outlined(b: Any, name: str, count: int, body: Callable[..., None]) -> Any:
    """A function of its own, made once: its loops have all registers to themselves, whoever calls it."""
    if name not in b.module.globals:
        made = ir.Function(b.module, ir.FunctionType(ir.VoidType(), [I64] * count), name)
        made.linkage = "linkonce_odr"
        made.attributes.add("noinline")
        inside = ir.IRBuilder(made.append_basic_block())
        body(inside, list(made.args))
        inside.ret_void()
    return b.module.globals[name]


def by_itself(count: int, name: str) -> Callable[[Any], Any]:
    """As `emitted`, in a function of its own: less for LLVM to do where it is called from many places."""

    def decorate(body: Callable[..., Any]) -> Any:
        @emitted(count)
        def call(b: Any, a: Any) -> None:
            b.call(outlined(b, name, count, body), a)

        return call

    return decorate


@emitted(1)
def prefetch(b: Any, a: Any) -> None:
    """prefetch(at): `fetch`, in a kernel."""
    fetch(b, a[0])


@emitted(2, P)
def word(b: Any, a: Any) -> Any:
    """The i-th 64-bit word at an address."""
    return b.load(pointer(b, b.add(a[0], b.shl(a[1], i64(3)))), typ=I64, align=8)


@dataclass(frozen=True)
class Vectors:
    """The words of one element type at one vector width."""

    dtype: str  # "f4" or "f8"
    width: int  # bytes of a vector register

    @property
    def size(self) -> int:
        return int(self.dtype[1])

    @property
    def lanes(self) -> int:
        return self.width // self.size

    @property
    def half(self) -> Vectors:
        """Vectors of half the width."""
        return Vectors(self.dtype, self.width // 2)

    @property
    def suffix(self) -> str:
        return f"v{self.lanes}f{8 * self.size}"

    @cached_property
    def element(self) -> Any:
        return ir.FloatType() if self.dtype == "f4" else ir.DoubleType()

    @cached_property
    def vector(self) -> Any:
        return ir.VectorType(self.element, self.lanes)

    @property
    def registers(self) -> int:
        """How many there are of them."""
        return registers(self.width)

    # ------------------------------------------------------------------ building blocks, inside an intrinsic
    def load(self, b: Any, address: Any, offset: int = 0) -> Any:
        return b.load(pointer(b, address, offset), typ=self.vector, align=self.size)

    def store(self, b: Any, value: Any, address: Any, offset: int = 0) -> None:
        b.store(value, pointer(b, address, offset), align=self.size)

    def broadcast(self, b: Any, address: Any, offset: int = 0) -> Any:
        scalar = b.load(pointer(b, address, offset), typ=self.element, align=self.size)
        return self.splat(b, scalar)

    def splat(self, b: Any, scalar: Any) -> Any:
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = b.insert_element(undefined, scalar, ir.Constant(I32, 0))
        return b.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes))

    def low(self, b: Any, wider: Any) -> Any:
        """The first lanes of a wider vector."""
        undefined = ir.Constant(wider.type, ir.Undefined)
        return b.shuffle_vector(wider, undefined, ir.Constant(ir.VectorType(I32, self.lanes), list(range(self.lanes))))

    def constant(self, value: float) -> Any:
        import numpy as np

        exact = float(np.dtype(self.dtype).type(value))
        return ir.Constant(self.vector, [exact] * self.lanes)

    def fma(self, b: Any, x: Any, y: Any, z: Any) -> Any:
        return b.call(function(b, f"llvm.fma.{self.suffix}", self.vector, [self.vector] * 3), [x, y, z])

    def mask(self, b: Any, count: Any) -> Any:
        """The first `count` lanes."""
        wide = ir.VectorType(I64, self.lanes)
        undefined = ir.Constant(wide, ir.Undefined)
        first = b.insert_element(undefined, count, ir.Constant(I32, 0))
        spread = b.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes))
        return b.icmp_signed("<", ir.Constant(wide, list(range(self.lanes))), spread)

    def masked_load(self, b: Any, mask: Any, address: Any, offset: int = 0) -> Any:
        bits = ir.VectorType(I1, self.lanes)
        load = function(b, f"llvm.masked.load.{self.suffix}.p0", self.vector, [PTR, I32, bits, self.vector])
        zero = ir.Constant(self.vector, None)
        return b.call(load, [pointer(b, address, offset), ir.Constant(I32, self.size), mask, zero])

    def masked_store(self, b: Any, value: Any, mask: Any, address: Any, offset: int = 0) -> None:
        bits = ir.VectorType(I1, self.lanes)
        store = function(b, f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), [self.vector, PTR, I32, bits])
        b.call(store, [value, pointer(b, address, offset), ir.Constant(I32, self.size), mask])

    def rows(self, b: Any, at: Any, step: Any, rows: Any, columns: Any) -> list[tuple[Any, Any]]:
        """(mask, address) of each row of a block of which rows x columns exist; those that do not stay at the first.

        Not a lane of those is touched, but where nothing is mapped, to find that out takes hundreds of cycles.
        """
        row, none = self.mask(b, columns), ir.Constant(ir.VectorType(I1, self.lanes), None)
        there = [b.icmp_signed("<", i64(r), rows) for r in range(self.lanes)]
        return [
            (b.select(exists, row, none), b.select(exists, b.add(at, b.mul(step, i64(r))), at))
            for r, exists in enumerate(there)
        ]

    def between(self, b: Any, value: Any, bounds: Any) -> Any:
        """The value, but no less than the first and no more than the second number at `bounds`; a NaN stays."""
        low, high = self.broadcast(b, bounds), self.broadcast(b, bounds, self.size)
        value = b.select(b.fcmp_ordered("<", value, low), low, value)
        return b.select(b.fcmp_ordered(">", value, high), high, value)

    def missing(self, b: Any, value: Any) -> Any:
        """Which lanes are NaN, a bit each."""
        return b.bitcast(b.fcmp_unordered("uno", value, value), ir.IntType(self.lanes))

    # ------------------------------------------------------------------ words for kernels
    @cached_property
    def copy(self) -> Any:
        """copy(to, from): one vector."""

        @emitted(2)
        def copy(b: Any, a: Any) -> None:
            self.store(b, self.load(b, a[1]), a[0])

        return copy

    @cached_property
    def copy_head(self) -> Any:
        """copy_head(to, from, count): the first `count` elements, and zeros up to a vector."""

        @emitted(3)
        def copy_head(b: Any, a: Any) -> None:
            self.store(b, self.masked_load(b, self.mask(b, a[2]), a[1]), a[0])

        return copy_head

    @cached_property
    def copy_first(self) -> Any:
        """copy_first(to, from, count): the first `count` elements of a vector, all of which can be read."""

        @emitted(3)
        def copy_first(b: Any, a: Any) -> None:
            self.masked_store(b, self.load(b, a[1]), self.mask(b, a[2]), a[0])

        return copy_first

    @cached_property
    def copy_span(self) -> Any:
        """copy_span(to, from, first, stop): these elements of a vector, of which no others are read, and zeros around."""

        @emitted(4)
        def copy_span(b: Any, a: Any) -> None:
            inside = b.and_(self.mask(b, a[3]), b.not_(self.mask(b, a[2])))
            self.store(b, self.masked_load(b, inside, a[1]), a[0])

        return copy_span

    @cached_property
    def clear(self) -> Any:
        """clear(to): one vector of zeros."""

        @emitted(1)
        def clear(b: Any, a: Any) -> None:
            self.store(b, ir.Constant(self.vector, None), a[0])

        return clear

    @cached_property
    def clear_first(self) -> Any:
        """clear_first(to, count): the first `count` elements of a vector become zero."""

        @emitted(2)
        def clear_first(b: Any, a: Any) -> None:
            self.masked_store(b, ir.Constant(self.vector, None), self.mask(b, a[1]), a[0])

        return clear_first

    @cached_property
    def copy_one(self) -> Any:
        """copy_one(to, from): one element."""

        @emitted(2)
        def copy_one(b: Any, a: Any) -> None:
            value = b.load(pointer(b, a[1]), typ=self.element, align=self.size)
            b.store(value, pointer(b, a[0]), align=self.size)

        return copy_one

    @cached_property
    def clear_one(self) -> Any:
        """clear_one(to): one element of zero."""

        @emitted(1)
        def clear_one(b: Any, a: Any) -> None:
            b.store(ir.Constant(self.element, 0.0), pointer(b, a[0]), align=self.size)

        return clear_one

    @cached_property
    def transpose(self) -> Any:
        """transpose(to, to_step, from, from_step): a lanes x lanes block, rows `step` bytes apart."""

        @by_itself(4, f"transpose_{self.suffix}")
        def transpose(b: Any, a: Any) -> None:
            to, to_step, source, step = a
            n = self.lanes
            rows = [self.load(b, b.add(source, b.mul(step, i64(r)))) for r in range(n)]
            for i, row in enumerate(self.transposed(b, rows)):
                self.store(b, row, b.add(to, b.mul(to_step, i64(i))))

        return transpose

    @cached_property
    def transpose_narrow(self) -> Any:
        """transpose_narrow(to, to_step, from, from_step): `lanes` rows of half a vector become half as many vectors."""

        @by_itself(4, f"transpose_narrow_{self.suffix}")
        def transpose_narrow(b: Any, a: Any) -> None:
            to, to_step, source, step = a
            n = self.lanes
            halves = [self.half.load(b, b.add(source, b.mul(step, i64(r)))) for r in range(n)]
            whole = ir.Constant(ir.VectorType(I32, n), list(range(n)))
            rows = [b.shuffle_vector(*pair, whole) for pair in zip(halves[: n // 2], halves[n // 2 :], strict=True)]
            for i, row in enumerate(self.transposed(b, rows)):
                self.store(b, row, b.add(to, b.mul(to_step, i64(i))))

        return transpose_narrow

    @cached_property
    def transpose_flat(self) -> Any:
        """transpose_flat(to, to_step, from, from_step): half as many vectors as lanes become `lanes` rows of half of one."""

        @by_itself(4, f"transpose_flat_{self.suffix}")
        def transpose_flat(b: Any, a: Any) -> None:
            to, to_step, source, step = a
            n = self.lanes // 2
            rows = [self.load(b, b.add(source, b.mul(step, i64(r)))) for r in range(n)]
            for i, row in enumerate(self.transposed(b, rows)):
                for j in range(2):
                    part = b.shuffle_vector(row, row, ir.Constant(ir.VectorType(I32, n), list(range(j * n, j * n + n))))
                    self.half.store(b, part, b.add(to, b.mul(to_step, i64(i + j * n))))

        return transpose_flat

    @cached_property
    def transpose_edge(self) -> Any:
        """transpose_edge(to, to_step, from, from_step, rows, columns, wide): a block of rows x columns, neither above lanes.

        It becomes `columns` rows, of which `wide` elements are written; those past `rows` repeat the last one.
        """

        @by_itself(7, f"transpose_edge_{self.suffix}")
        def transpose_edge(b: Any, a: Any) -> None:
            to, to_step, source, step, rows, columns, wide = a
            there = self.mask(b, columns)
            loaded = [self.masked_load(b, there, at) for at in self._repeated(b, source, step, rows)]
            self._write_columns(b, loaded, to, to_step, columns, self.mask(b, wide))

        return transpose_edge

    @cached_property
    def transpose_every_other(self) -> Any:
        """transpose_every_other(to, to_step, from, from_step, rows, columns, wide): as `transpose_edge`, of every other column."""

        @by_itself(7, f"transpose_every_other_{self.suffix}")
        def transpose_every_other(b: Any, a: Any) -> None:
            to, to_step, source, step, rows, columns, wide = a
            n, span = self.lanes, b.sub(b.shl(columns, i64(1)), i64(1))
            first, second = self.mask(b, span), self.mask(b, b.sub(span, i64(n)))
            picked, loaded = ir.Constant(ir.VectorType(I32, n), list(range(0, 2 * n, 2))), []
            for at in self._repeated(b, source, step, rows):
                pair = self.masked_load(b, first, at), self.masked_load(b, second, at, self.width)
                loaded.append(b.shuffle_vector(*pair, picked))
            self._write_columns(b, loaded, to, to_step, columns, self.mask(b, wide))

        return transpose_every_other

    @cached_property
    def transpose_apart(self) -> Any:
        """transpose_apart(to, to_step, from, from_step, rows, columns): as `transpose_edge`, to every other place."""

        @by_itself(6, f"transpose_apart_{self.suffix}")
        def transpose_apart(b: Any, a: Any) -> None:
            to, to_step, source, step, rows, columns = a
            there = self.mask(b, columns)
            loaded = [self.masked_load(b, there, at) for at in self._repeated(b, source, step, rows)]
            for i, row in enumerate(self.transposed(b, loaded)):
                with b.if_then(b.icmp_signed("<", i64(i), columns)):
                    self.store_apart(b, row, rows, b.add(to, b.mul(to_step, i64(i))))

        return transpose_apart

    def _repeated(self, b: Any, source: Any, step: Any, rows: Any) -> list[Any]:
        """Where the rows of a square begin; those past `rows` are the last one."""
        last = b.sub(rows, i64(1))
        return [
            b.add(source, b.mul(step, b.select(b.icmp_signed("<", i64(r), last), i64(r), last)))
            for r in range(self.lanes)
        ]

    def _write_columns(self, b: Any, loaded: list[Any], to: Any, to_step: Any, columns: Any, written: Any) -> None:
        """The first columns of a square as rows, under a mask."""
        for i, row in enumerate(self.transposed(b, loaded)):
            with b.if_then(b.icmp_signed("<", i64(i), columns)):
                self.masked_store(b, row, written, b.add(to, b.mul(to_step, i64(i))))

    def store_apart(self, b: Any, values: Any, count: Any, to: Any) -> None:
        """The first `count` elements to every other place; those between stay."""
        n, undefined = self.lanes, ir.Constant(self.vector, ir.Undefined)
        even, places = ir.Constant(ir.VectorType(I1, n), [i % 2 == 0 for i in range(n)]), b.shl(count, i64(1))
        for half in range(2):
            picked = ir.Constant(ir.VectorType(I32, n), [(half * n + i) // 2 for i in range(n)])
            mask = b.and_(self.mask(b, b.sub(places, i64(half * n))), even)
            self.masked_store(b, b.shuffle_vector(values, undefined, picked), mask, to, half * self.width)

    def transposed(self, b: Any, rows: list[Any]) -> list[Any]:
        """A square block in registers, or two beside each other, by interleaving halves: rounds of two-input shuffles."""
        n = self.lanes
        half = len(rows) // 2
        while half:
            mixed: list[Any] = [None] * len(rows)
            for r in range(len(rows)):
                if r & half:
                    continue
                low, high = rows[r], rows[r + half]
                take = [i if not i & half else n + i - half for i in range(n)]
                give = [i + half if not i & half else n + i for i in range(n)]
                pick = ir.VectorType(I32, n)
                mixed[r] = b.shuffle_vector(low, high, ir.Constant(pick, take))
                mixed[r + half] = b.shuffle_vector(low, high, ir.Constant(pick, give))
            rows, half = mixed, half // 2
        return rows

    def tile_rows(self, columns: int) -> int:
        """Rows of the register tile that is `columns` vectors wide."""
        return TILE_ROWS[self.width][columns - 1]

    @property
    def widest(self) -> int:
        """Vectors in the widest panel."""
        return len(TILE_ROWS[self.width])
