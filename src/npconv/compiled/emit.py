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

from .panels import TILE_ROWS

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
        """Vector registers: AVX-512 and NEON have 32, AVX2 has 16."""
        return 16 if self.width == 32 else 32

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

    def between(self, b: Any, value: Any, bounds: Any) -> Any:
        """The value, but no less than the first and no more than the second number at `bounds`; a NaN stays."""
        low, high = self.broadcast(b, bounds), self.broadcast(b, bounds, self.size)
        value = b.select(b.fcmp_ordered("<", value, low), low, value)
        return b.select(b.fcmp_ordered(">", value, high), high, value)

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
    def clear(self) -> Any:
        """clear(to): one vector of zeros."""

        @emitted(1)
        def clear(b: Any, a: Any) -> None:
            self.store(b, ir.Constant(self.vector, None), a[0])

        return clear

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

        @emitted(4)
        def transpose(b: Any, a: Any) -> None:
            to, to_step, source, step = a
            n = self.lanes
            rows = [self.load(b, b.add(source, b.mul(step, i64(r)))) for r in range(n)]
            for i, row in enumerate(self.transposed(b, rows)):
                self.store(b, row, b.add(to, b.mul(to_step, i64(i))))

        return transpose

    @cached_property
    def transpose_edge(self) -> Any:
        """transpose_edge(to, to_step, from, from_step, rows, columns, wide): a block of rows x columns, neither above lanes.

        It becomes `columns` rows, of which `wide` elements are written; those past `rows` repeat the last one.
        """

        @emitted(7)
        def transpose_edge(b: Any, a: Any) -> None:
            to, to_step, source, step, rows, columns, wide = a
            there, last = self.mask(b, columns), b.sub(rows, i64(1))
            loaded = []
            for r in range(self.lanes):
                at = b.select(b.icmp_signed("<", i64(r), last), i64(r), last)
                loaded.append(self.masked_load(b, there, b.add(source, b.mul(step, at))))
            written = self.mask(b, wide)
            for i, row in enumerate(self.transposed(b, loaded)):
                with b.if_then(b.icmp_signed("<", i64(i), columns)):
                    self.masked_store(b, row, written, b.add(to, b.mul(to_step, i64(i))))

        return transpose_edge

    def transposed(self, b: Any, rows: list[Any]) -> list[Any]:
        """A square block in registers, by interleaving halves: log2(lanes) rounds of two-input shuffles."""
        n = self.lanes
        half = n // 2
        while half:
            mixed: list[Any] = [None] * n
            for r in range(n):
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

    @cached_property
    def block(self) -> Callable[..., Any]:
        """block(MR, NV, narrow, bounded): the batch-reduce micro-kernel of that register tile (see `micro_kernel`)."""
        made: dict[tuple[int, int, bool, bool], Any] = {}

        def of(rows: int, columns: int, narrow: bool = False, bounded: bool = False) -> Any:
            key = rows, columns, narrow, bounded
            if key not in made:
                made[key] = micro_kernel(self, *key)
            return made[key]

        return of

    def tile_rows(self, columns: int) -> int:
        """Rows of the register tile that is `columns` vectors wide."""
        return TILE_ROWS[self.width][columns - 1]

    @property
    def widest(self) -> int:
        """Vectors in the widest panel."""
        return len(TILE_ROWS[self.width])


def micro_kernel(v: Vectors, MR: int, NV: int, narrow: bool, bounded: bool) -> Any:
    """The batch-reduce matrix product of MR rows and NV vectors of columns, in registers; `narrow`: half of the last.

        C[r, :] (+)= sum over b < batch, k < depth of  A_b[r, k] B_b[k, :]

    Arguments, addresses and byte strides: (a, a_rows, a_offsets, a_step, b, b_offsets, b_step, batch, depth, c, c_rows,
    count, start, bias, bounds). Row r begins at a + a_rows[r]; batch item i at + a_offsets[i] and b + b_offsets[i]; k advances
    by a_step and b_step. Result row r goes to c + c_rows[r], of which the last vector has `count` elements. `start`
    is a sum: 1 begins with the row `bias` (all vectors readable), 2 adds to what is there. Equal rows are allowed: all
    results are read before any is written, so a tile is filled up by repeating its last row.
    A narrow tile takes half a vector at the end of each row: no more than that is summed, read and written there.
    What a `bounded` tile writes lies between the two numbers at `bounds`; others do not look there.

    Source: Georganas et al. (2020), "Harnessing deep learning via a single building block", IPDPS.
    """

    kinds = [*[v] * (NV - 1), v.half if narrow else v]
    splat = v if NV > 1 else kinds[0]

    @emitted(15)
    def block(b: Any, arguments: Any) -> None:
        a, a_rows, a_offsets, a_step, w, b_offsets, b_step, batch, depth, c, c_rows, count, start, bias, bounds = (
            arguments
        )
        # opaque, or the optimizer keeps a running pointer for every row
        rows = [fixed(b, b.add(a, b.load(pointer(b, a_rows, 8 * r), typ=I64, align=8))) for r in range(MR)]
        begin = b.select(b.trunc(start, I1), bias, zeros(b, NV * v.width))
        begun = [kind.load(b, begin, j * v.width) for j, kind in enumerate(kinds)]
        length = b.mul(b_step, depth)
        before = b.block
        each, inner, after, done = (b.append_basic_block(name) for name in ("batch", "depth", "next", "sum"))
        b.branch(each)
        b.position_at_end(each)
        i = b.phi(I64)
        i.add_incoming(i64(0), before)
        held = [[b.phi(kind.vector) for kind in kinds] for _ in range(MR)]
        for row in held:
            for value, first in zip(row, begun, strict=True):
                value.add_incoming(first, before)
        at = b.shl(i, i64(3))
        a_offset = b.load(pointer(b, b.add(a_offsets, at)), typ=I64, align=8)
        first = b.add(w, b.load(pointer(b, b.add(b_offsets, at)), typ=I64, align=8))
        end = b.add(first, length)
        b.branch(inner)
        b.position_at_end(inner)
        column, row_at = b.phi(I64), b.phi(I64)
        column.add_incoming(first, each)
        row_at.add_incoming(a_offset, each)
        sums = [[b.phi(kind.vector) for kind in kinds] for _ in range(MR)]
        for row, outer in zip(sums, held, strict=True):
            for value, so_far in zip(row, outer, strict=True):
                value.add_incoming(so_far, each)
        columns = [kind.load(b, column, j * v.width) for j, kind in enumerate(kinds)]
        added = []
        for r in range(MR):
            whole = splat.broadcast(b, b.add(rows[r], row_at))
            scalars = [whole if kind is splat else kind.low(b, whole) for kind in kinds]
            each_sum = zip(kinds, scalars, columns, sums[r], strict=True)
            added.append([kind.fma(b, scalar, weight, so_far) for kind, scalar, weight, so_far in each_sum])
        following = b.add(column, b_step)
        column.add_incoming(following, inner)
        row_at.add_incoming(b.add(row_at, a_step), inner)
        for r in range(MR):
            for j in range(NV):
                sums[r][j].add_incoming(added[r][j], inner)
        b.cbranch(b.icmp_signed("!=", following, end), inner, after)
        b.position_at_end(after)
        item = b.add(i, i64(1))
        i.add_incoming(item, after)
        for r in range(MR):
            for j in range(NV):
                held[r][j].add_incoming(added[r][j], after)
        b.cbranch(b.icmp_signed("<", item, batch), each, done)
        b.position_at_end(done)
        _write(kinds, v.width, b, added, c, c_rows, count, start, bounds if bounded else None)

    return block


def fixed(b: Any, value: Any) -> Any:
    """The same value, of which the optimizer knows nothing."""
    return b.asm(ir.FunctionType(I64, [I64]), "", "=r,0", [value], side_effect=False)


def zeros(b: Any, size: int) -> Any:
    """The address of `size` bytes of zeros."""
    name, kind = f"npconv_zeros_{size}", ir.ArrayType(ir.IntType(8), size)
    found = b.module.globals.get(name)
    if found is None:
        found = ir.GlobalVariable(b.module, kind, name)
        found.linkage, found.global_constant, found.align = "internal", True, 64
        found.initializer = ir.Constant(kind, None)
    return b.ptrtoint(found, I64)


def _write(
    kinds: list[Vectors], width: int, b: Any, sums: list[list[Any]], c: Any, c_rows: Any, count: Any, start: Any, bounds: Any
) -> None:  # fmt: skip
    """Write the sums, added to what is there if `start` has the 2, within bounds; the last vector of a row under a mask."""
    MR, last = len(sums), len(kinds) - 1
    places = [b.add(c, b.load(pointer(b, c_rows, 8 * r), typ=I64, align=8)) for r in range(MR)]
    mask = kinds[last].mask(b, count)
    done, add, write = b.block, b.append_basic_block("add"), b.append_basic_block("write")
    b.cbranch(b.trunc(b.lshr(start, i64(1)), I1), add, write)
    b.position_at_end(add)
    totals: list[list[Any]] = []
    for r in range(MR):
        there = [kind.load(b, places[r], j * width) for j, kind in enumerate(kinds[:last])]
        there.append(kinds[last].masked_load(b, mask, places[r], last * width))
        totals.append([b.fadd(old, new) for old, new in zip(there, sums[r], strict=True)])
    b.branch(write)
    b.position_at_end(write)
    for r in range(MR):
        for j, kind in enumerate(kinds):
            value = b.phi(kind.vector)
            value.add_incoming(sums[r][j], done)
            value.add_incoming(totals[r][j], add)
            totals[r][j] = value
    if bounds is not None:
        totals = [[kind.between(b, value, bounds) for kind, value in zip(kinds, row, strict=True)] for row in totals]
    for r in range(MR):
        for j, kind in enumerate(kinds[:last]):
            kind.store(b, totals[r][j], places[r], j * width)
        kinds[last].masked_store(b, totals[r][last], mask, places[r], last * width)
