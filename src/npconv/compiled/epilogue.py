"""What follows a convolution, in place and in one sweep: bias and activation; and a look for NaN.

An output in C order is a matrix of rows that share the pattern of their bias: with channels first a row is one channel
of one image, and the pattern one vector, repeated; with channels last it is some pixels, and their channels.

e^y is 2^n e^r with r = y - n log 2, |r| <= log(2) / 2, by its Taylor series, scaled in two steps so that it underflows
gradually. tanh keeps e^y - 1, whose leading term cancels. erfc(z) is e^-z^2 / (1 + 2 z) times a polynomial in
(z - 3.75) / (z + 3.75), one for all z >= 0 (see `npconv.activations.ERFC`), with the rounding of z^2 carried along.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir

from ..activations import ERFC, ERFC_SHIFT, LEAST
from .build import inner
from .emit import I64, P, Vectors, emitted, function, i64, pointer
from .target import Target

#: What a row can become, in the order of the kernel's argument `kind`.
KINDS = ("linear", "relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh")
#: Terms of the Taylor series of e^r, and of the series of erfc, that round to the last bit.
TERMS = {"f4": (8, 13), "f8": (14, 24)}


@emitted(2)
def store_word(b: Any, a: Any) -> None:
    b.store(a[1], pointer(b, a[0]), align=8)


@dataclass(frozen=True)
class Sums:
    """Arithmetic on vectors, as instructions at a builder's position."""

    v: Vectors
    b: Any

    def number(self, value: float) -> Any:
        return self.v.constant(value)

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        return self.v.fma(self.b, x, y, z)

    def absolute(self, x: Any) -> Any:
        return self.b.call(function(self.b, f"llvm.fabs.{self.v.suffix}", self.v.vector, [self.v.vector]), [x])

    def choose(self, x: Any, test: str, limit: float, then: Any, other: Any) -> Any:
        """`then` where x compares so with `limit`, else `other`; a NaN compares with nothing."""
        return self.b.select(self.b.fcmp_ordered(test, x, self.number(limit)), then, other)

    def polynomial(self, x: Any, coefficients: list[float]) -> Any:
        """The sum of coefficients[i] x^i."""
        value = self.number(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            value = self.fma(value, x, self.number(c))
        return value

    def exponential(self, y: Any, less_one: bool = False) -> Any:
        """e^y for y <= 0, or e^y - 1."""
        digits, bias, least = (23, 127, -110.0) if self.v.dtype == "f4" else (52, 1023, -760.0)
        y = self.choose(y, "<", least, self.number(least), y)
        magic = self.number(1.5 * 2.0**digits)
        shifted = self.fma(y, self.number(1 / math.log(2)), magic)  # n in the low bits
        n = self.b.fsub(shifted, magic)
        first, second = _log2(self.v.dtype)
        r = self.fma(n, self.number(-second), self.fma(n, self.number(-first), y))
        series = [1 / math.factorial(i) for i in range(TERMS[self.v.dtype][0])]
        more = self.fma(self.polynomial(r, series[2:]), self.b.fmul(r, r), r)  # e^r - 1
        integers = ir.VectorType(ir.IntType(8 * self.v.size), self.v.lanes)

        def constant(value: int) -> Any:
            return ir.Constant(integers, [value] * self.v.lanes)

        whole = self.b.sub(self.b.bitcast(shifted, integers), self.b.bitcast(magic, integers))
        half = self.b.ashr(whole, constant(1))
        scales = [
            self.b.bitcast(self.b.shl(self.b.add(part, constant(bias)), constant(digits)), self.v.vector)
            for part in (half, self.b.sub(whole, half))
        ]
        if not less_one:
            return self.b.fmul(self.b.fmul(self.b.fadd(more, self.number(1)), scales[0]), scales[1])
        scale = self.b.fmul(*scales)
        return self.fma(scale, more, self.b.fsub(scale, self.number(1)))

    # ------------------------------------------------------------------ activations
    def linear(self, x: Any, slope: Any) -> Any:
        return x

    def relu(self, x: Any, slope: Any) -> Any:
        return self.choose(x, "<", 0, self.number(0), x)

    def relu6(self, x: Any, slope: Any) -> Any:
        return self.choose(x, ">", 6, self.number(6), self.relu(x, slope))

    def leaky_relu(self, x: Any, slope: Any) -> Any:
        return self.choose(x, ">", 0, x, self.b.fmul(x, slope))

    def sigmoid(self, x: Any, slope: Any) -> Any:
        small = self.exponential(self.b.fneg(self.absolute(x)))
        return self.b.fdiv(self.choose(x, "<", 0, small, self.number(1)), self.b.fadd(small, self.number(1)))

    def tanh(self, x: Any, slope: Any) -> Any:
        less = self.exponential(self.b.fmul(self.absolute(x), self.number(-2)), less_one=True)
        size = self.b.fdiv(self.b.fneg(less), self.b.fadd(less, self.number(2)))
        sign = function(self.b, f"llvm.copysign.{self.v.suffix}", self.v.vector, [self.v.vector] * 2)
        return self.b.call(sign, [size, x])

    def floor(self, x: Any) -> Any:
        """x, -inf as a number."""
        return self.choose(x, "<", LEAST, self.number(LEAST), x)

    def silu(self, x: Any, slope: Any) -> Any:
        x = self.floor(x)
        return self.b.fmul(x, self.sigmoid(x, slope))

    def gelu(self, x: Any, slope: Any) -> Any:
        x = self.floor(x)
        size = self.absolute(x)
        size = self.choose(size, ">", -LEAST, self.number(-LEAST), size)
        square = self.b.fmul(size, size)
        lost = self.fma(size, size, self.b.fneg(square))
        bell = self.exponential(self.b.fmul(square, self.number(-0.5)))
        bell = self.fma(self.b.fmul(lost, self.number(-0.5)), bell, bell)
        z = self.b.fmul(size, self.number(math.sqrt(0.5)))
        below, doubled = self.b.fadd(z, self.number(ERFC_SHIFT)), self.fma(z, self.number(4), self.number(2))
        both = self.b.fdiv(self.number(1), self.b.fmul(below, doubled))  # one division for two
        t = self.b.fmul(self.b.fmul(self.b.fsub(z, self.number(ERFC_SHIFT)), doubled), both)
        series = self.polynomial(t, _powers(TERMS[self.v.dtype][1]))
        tail = self.b.fmul(self.b.fmul(series, bell), self.b.fmul(below, both))  # erfc(z) / 2
        positive = self.choose(x, "<", 0, self.number(0), x)
        return self.fma(self.b.fneg(size), tail, positive)

    def gelu_tanh(self, x: Any, slope: Any) -> Any:
        x = self.floor(x)
        size = self.choose(x, ">", -LEAST, self.number(-LEAST), x)
        scale = math.sqrt(8 / math.pi)
        cubic = self.fma(self.b.fmul(size, size), self.number(0.044715 * scale), self.number(scale))
        return self.b.fmul(x, self.sigmoid(self.b.fmul(size, cubic), slope))


def _log2(dtype: str) -> tuple[float, float]:
    """log 2 as the nearest number, and the rest."""
    nearest = float(np.dtype(dtype).type(math.log(2)))
    return nearest, (math.log(2) - nearest) + 2.3190468138462996e-17


@cache
def _powers(terms: int) -> list[float]:
    """The first terms of the Chebyshev series of erfc as coefficients of 1, t, t^2, ..."""
    return [float(c) for c in np.polynomial.chebyshev.cheb2poly(ERFC[:terms])]


def _row(v: Vectors, kind: str) -> Any:
    """row(at, n, bias, step, slope): n elements in place, plus a bias that moves on by `step` bytes per vector."""
    size, lanes = v.size, v.lanes

    def become(b: Any, x: Any, bias: Any, slope: Any) -> Any:
        return getattr(Sums(v, b), kind)(b.fadd(x, v.load(b, bias)), v.broadcast(b, slope))

    @emitted(3)
    def whole(b: Any, a: Any) -> None:
        v.store(b, become(b, v.load(b, a[0]), a[1], a[2]), a[0])

    @emitted(4)
    def rest(b: Any, a: Any) -> None:
        mask = v.mask(b, a[3])
        v.masked_store(b, become(b, v.masked_load(b, mask, a[0]), a[1], a[2]), mask, a[0])

    @inner
    def row(at: int, n: int, bias: int, step: int, slope: int) -> None:
        i = 0
        while i + lanes <= n:
            whole(at + i * size, bias, slope)
            bias += step
            i += lanes
        if i < n:
            rest(at + i * size, bias, slope, n - i)

    return row


def _spoiled(v: Vectors) -> Any:
    """spoiled(at, vectors, rest): whether one of so many vectors, and `rest` elements, is NaN or infinite: x 0 != 0."""

    @emitted(3, P)
    def spoiled(b: Any, a: Any) -> Any:
        zero = ir.Constant(v.vector, None)
        before = b.block
        test, loop, done = (b.append_basic_block(name) for name in ("test", "loop", "done"))
        b.branch(test)
        b.position_at_end(test)
        i, at, held = b.phi(I64), b.phi(I64), b.phi(v.vector)
        b.cbranch(b.icmp_signed("<", i, a[1]), loop, done)
        b.position_at_end(loop)
        more = v.fma(b, v.load(b, at), zero, held)
        for value, begun, following in (
            (i, i64(0), b.add(i, i64(1))),
            (at, a[0], b.add(at, i64(v.width))),
            (held, zero, more),
        ):
            value.add_incoming(begun, before)
            value.add_incoming(following, loop)
        b.branch(test)
        b.position_at_end(done)
        more = v.fma(b, v.masked_load(b, v.mask(b, a[2]), at), zero, held)
        return b.zext(v.missing(b, more), I64)

    return spoiled


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """The sweep, and the look for NaN."""
    v = Vectors(dtype, target.width)
    size, lanes = v.size, v.lanes
    linear, relu, relu6, leaky_relu, sigmoid, tanh, silu, gelu, gelu_tanh = (_row(v, kind) for kind in KINDS)
    spoiled = _spoiled(v)

    def finish(
        lo: int, hi: int, thread: int,
        y: int, length: int, total: int, patterns: int, bias: int, bias_row: int, bias_step: int, slope: int, kind: int,
    ) -> None:  # fmt: skip
        """Rows lo..hi of `length` elements; the last may be shorter."""
        for row in range(lo, hi):
            at = y + row * length * size
            n = min(length, total - row * length)
            b = bias + row % patterns * bias_row
            if kind == 0:
                linear(at, n, b, bias_step, slope)
            elif kind == 1:
                relu(at, n, b, bias_step, slope)
            elif kind == 2:
                relu6(at, n, b, bias_step, slope)
            elif kind == 3:
                leaky_relu(at, n, b, bias_step, slope)
            elif kind == 4:
                sigmoid(at, n, b, bias_step, slope)
            elif kind == 5:
                tanh(at, n, b, bias_step, slope)
            elif kind == 6:
                silu(at, n, b, bias_step, slope)
            elif kind == 7:
                gelu(at, n, b, bias_step, slope)
            else:
                gelu_tanh(at, n, b, bias_step, slope)

    def look(lo: int, hi: int, thread: int, y: int, length: int, total: int, found: int) -> None:
        """found[row] becomes what `spoiled` says of rows lo..hi."""
        for row in range(lo, hi):
            n = min(length, total - row * length)
            store_word(found + 8 * row, spoiled(y + row * length * size, n // lanes, n % lanes))

    return {"finish": finish, "look": look}
