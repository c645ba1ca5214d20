"""Vectors as values of Numba's language: arithmetic, truth, and where an element came from."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from llvmlite import ir
from numba import types

from ..emit import I1, I32, I64, PTR, P, Vectors, function, pointer
from ..target import Target
from .vectors import Memory, quotient, remainder, said

__all__ = ["Lanes", "quotient", "remainder"]


class Lanes(Memory):
    """The words of one element type at one vector width."""

    @classmethod
    def of(cls, dtype: str, target: Target) -> Lanes:
        """The words of `dtype` ("f4" or "f8") for a CPU."""
        return cls(Vectors(dtype, target.width))

    # ------------------------------------------------------------------ arithmetic
    @cached_property
    def splat(self) -> Any:
        return said(self.V, self.scalar)(self._spread)

    @cached_property
    def lowest(self) -> Any:
        """Minus infinity."""
        return said(self.V)(lambda b: self.v.constant(float("-inf")))

    @cached_property
    def nan(self) -> Any:
        return said(self.V)(lambda b: self.v.constant(float("nan")))

    @cached_property
    def zero(self) -> Any:
        return said(self.V)(lambda b: ir.Constant(self.v.vector, None))

    @cached_property
    def plus(self) -> Any:
        return said(self.V, self.V, self.V)(lambda b, x, y: b.fadd(x, y))

    @cached_property
    def times(self) -> Any:
        return said(self.V, self.V, self.V)(lambda b, x, y: b.fmul(x, y))

    @cached_property
    def over(self) -> Any:
        return said(self.V, self.V, self.V)(lambda b, x, y: b.fdiv(x, y))

    @cached_property
    def larger(self) -> Any:
        """larger(x, m): x where it is greater, else m: a NaN in m stays, one in x does not count."""
        return said(self.V, self.V, self.V)(lambda b, x, m: b.select(b.fcmp_ordered(">", x, m), x, m))

    @cached_property
    def sum_of(self) -> Any:
        """The sum of all lanes, by halves."""
        return self._folded(lambda b, x, y: b.fadd(x, y))

    @cached_property
    def largest_of(self) -> Any:
        """The largest lane; no lane is NaN."""
        return self._folded(lambda b, x, y: b.select(b.fcmp_ordered(">", y, x), y, x))

    def _folded(self, join: Callable[..., Any]) -> Any:
        n = self.v.lanes

        @said(self.scalar, self.V)
        def folded(b: Any, x: Any) -> Any:
            half = n // 2
            while half:
                pick = [i + half if i < half else i for i in range(n)]
                x = join(b, x, b.shuffle_vector(x, x, ir.Constant(ir.VectorType(I32, n), pick)))
                half //= 2
            return b.extract_element(x, ir.Constant(I32, 0))

        return folded

    # ------------------------------------------------------------------ truth and numbers
    @cached_property
    def first(self) -> Any:
        """The first `count` lanes."""
        return said(self.M, P)(self.v.mask)

    @cached_property
    def span(self) -> Any:
        """span(lo, hi): the lanes from lo up to hi, which may lie outside."""
        return said(self.M, P, P)(lambda b, lo, hi: b.and_(self.v.mask(b, hi), b.not_(self.v.mask(b, lo))))

    @cached_property
    def unordered(self) -> Any:
        """Where x or y is NaN."""
        return said(self.M, self.V, self.V)(lambda b, x, y: b.fcmp_unordered("uno", x, y))

    @cached_property
    def wins(self) -> Any:
        """wins(x, m): where x takes the place of the maximum so far: it is greater, or the first NaN (rule R15)."""

        @said(self.M, self.V, self.V)
        def wins(b: Any, x: Any, m: Any) -> Any:
            return b.and_(b.fcmp_unordered(">", x, m), b.fcmp_ordered("ord", m, m))

        return wins

    @cached_property
    def within(self) -> Any:
        """within(x, limit): whether 0 <= x < limit."""
        return said(types.boolean, P, P)(lambda b, x, limit: b.icmp_unsigned("<", x, limit))

    @cached_property
    def all_within(self) -> Any:
        """all_within(address, mask, limit): whether 0 <= i < limit for the 64-bit integers there."""
        n = self.v.lanes
        wide, bits = ir.VectorType(I64, n), ir.VectorType(I1, n)

        @said(types.boolean, P, self.M, P)
        def all_within(b: Any, address: Any, mask: Any, limit: Any) -> Any:
            load = function(b, f"llvm.masked.load.v{n}i64.p0", wide, [PTR, I32, bits, wide])
            found = b.call(load, [pointer(b, address), ir.Constant(I32, 8), mask, ir.Constant(wide, None)])
            out = b.bitcast(b.icmp_unsigned(">=", found, self._spread(b, limit)), ir.IntType(n))
            return b.icmp_unsigned("==", out, ir.Constant(ir.IntType(n), 0))

        return all_within

    @cached_property
    def either(self) -> Any:
        return said(self.M, self.M, self.M)(lambda b, x, y: b.or_(x, y))

    @cached_property
    def any(self) -> Any:
        """Whether any lane is true."""
        n = self.v.lanes

        @said(types.boolean, self.M)
        def any_(b: Any, mask: Any) -> Any:
            bits = ir.IntType(n)
            return b.icmp_unsigned("!=", b.bitcast(mask, bits), ir.Constant(bits, 0))

        return any_

    @cached_property
    def lacks(self) -> Any:
        """lacks(x, y): whether a lane is in x and not in y."""
        n = self.v.lanes

        @said(types.boolean, self.M, self.M)
        def lacks(b: Any, x: Any, y: Any) -> Any:
            bits = ir.IntType(n)
            return b.icmp_unsigned("!=", b.bitcast(b.and_(x, b.not_(y)), bits), ir.Constant(bits, 0))

        return lacks

    @cached_property
    def none(self) -> Any:
        return said(self.M)(lambda b: ir.Constant(ir.VectorType(I1, self.v.lanes), None))

    @cached_property
    def choose(self) -> Any:
        """choose(mask, x, y)"""
        return said(self.V, self.M, self.V, self.V)(lambda b, mask, x, y: b.select(mask, x, y))

    @cached_property
    def choose_numbers(self) -> Any:
        return said(self.I, self.M, self.I, self.I)(lambda b, mask, x, y: b.select(mask, x, y))

    @cached_property
    def steps(self) -> Any:
        """steps(start, step): start, start + step, ..."""
        n = self.v.lanes

        @said(self.I, P, P)
        def steps(b: Any, start: Any, step: Any) -> Any:
            counted = ir.Constant(self.integers, list(range(n)))
            far = b.mul(counted, self._spread(b, self._narrow(b, step)))
            return b.add(far, self._spread(b, self._narrow(b, start)))

        return steps

    @cached_property
    def shifted(self) -> Any:
        """shifted(numbers, by)"""
        return said(self.I, self.I, P)(lambda b, x, by: b.add(x, self._spread(b, self._narrow(b, by))))

    @cached_property
    def plus_numbers(self) -> Any:
        return said(self.I, self.I, self.I)(lambda b, x, y: b.add(x, y))

    @cached_property
    def same(self) -> Any:
        return said(self.M, self.I, self.I)(lambda b, x, y: b.icmp_signed("==", x, y))

    @cached_property
    def as_element(self) -> Any:
        """An integer as an element."""
        return said(self.scalar, P)(lambda b, number: b.sitofp(number, self.v.element))
