"""Fourier transforms of lines of vectors: every lane is a transform of its own, so butterflies shuffle nothing.

A line is `n` complex points, `step` bytes apart, real and imaginary parts in two planes, transformed in place. The
forward transform decimates in frequency and leaves the frequencies in digit-reversed order; the inverse is its
transpose, decimates in time and takes them in that order: nothing is ever sorted. Swapped planes turn one sign of
the exponent into the other. `plan`, in words: n, passes, then (radix, length, twiddles) of each pass.

Sources: Cooley and Tukey (1965); Gentleman and Sande (1966), "Fast Fourier transforms: for fun and profit".
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from llvmlite import ir

from ..build import inner
from ..emit import Vectors, emitted, word

#: A complex value in two registers.
Pair = tuple[Any, Any]


def _plus(b: Any, x: Pair, y: Pair) -> Pair:
    return b.fadd(x[0], y[0]), b.fadd(x[1], y[1])


def _minus(b: Any, x: Pair, y: Pair) -> Pair:
    return b.fsub(x[0], y[0]), b.fsub(x[1], y[1])


def _four(b: Any, x: list[Pair]) -> list[Pair]:
    even, odd = _plus(b, x[0], x[2]), _plus(b, x[1], x[3])
    p, q = _minus(b, x[0], x[2]), _minus(b, x[1], x[3])
    return [
        _plus(b, even, odd),
        (b.fadd(p[0], q[1]), b.fsub(p[1], q[0])),
        _minus(b, even, odd),
        (b.fsub(p[0], q[1]), b.fadd(p[1], q[0])),
    ]


def _odd(v: Vectors, b: Any, x: list[Pair]) -> list[Pair]:
    """A short prime length by its cosines and sines."""
    n = len(x)
    sums = [_plus(b, x[i], x[n - i]) for i in range(1, n // 2 + 1)]
    gaps = [_minus(b, x[i], x[n - i]) for i in range(1, n // 2 + 1)]
    first = x[0]
    for s in sums:
        first = _plus(b, first, s)
    found: list[Any] = [first] + [None] * (n - 1)
    for k in range(1, n // 2 + 1):
        cosine, sine = x[0], None
        for i, (s, g) in enumerate(zip(sums, gaps, strict=True), 1):
            c, z = (v.constant(f(2 * math.pi * i * k / n)) for f in (math.cos, math.sin))
            cosine = v.fma(b, c, s[0], cosine[0]), v.fma(b, c, s[1], cosine[1])
            sine = (
                (b.fmul(z, g[0]), b.fmul(z, g[1]))
                if sine is None
                else (v.fma(b, z, g[0], sine[0]), v.fma(b, z, g[1], sine[1]))
            )
        if sine is None:
            raise ValueError(f"no radix {n}")
        found[k] = b.fadd(cosine[0], sine[1]), b.fsub(cosine[1], sine[0])
        found[n - k] = b.fsub(cosine[0], sine[1]), b.fadd(cosine[1], sine[0])
    return found


def _eight(v: Vectors, b: Any, x: list[Pair]) -> list[Pair]:
    even, odd = _four(b, x[0::2]), _four(b, x[1::2])
    half, less = v.constant(math.sqrt(0.5)), v.constant(-math.sqrt(0.5))
    (r1, i1), (r2, i2), (r3, i3) = odd[1:]
    turned = [
        None,
        (b.fadd(r1, i1), b.fsub(i1, r1)),
        (i2, b.fneg(r2)),
        (b.fsub(i3, r3), b.fneg(b.fadd(r3, i3))),
    ]
    low, high = [_plus(b, even[0], odd[0])], [_minus(b, even[0], odd[0])]
    for k in (1, 2, 3):
        e, t = even[k], turned[k]
        if t is None or k == 2:
            low.append((b.fadd(e[0], i2), b.fsub(e[1], r2)))
            high.append((b.fsub(e[0], i2), b.fadd(e[1], r2)))
            continue
        low.append((v.fma(b, half, t[0], e[0]), v.fma(b, half, t[1], e[1])))
        high.append((v.fma(b, less, t[0], e[0]), v.fma(b, less, t[1], e[1])))
    return low + high


def _butterfly(v: Vectors, b: Any, x: list[Pair]) -> list[Pair]:
    """The transform of a few points in registers, in natural order."""
    if len(x) == 2:
        return [_plus(b, *x), _minus(b, *x)]
    if len(x) == 4:
        return _four(b, x)
    return _eight(v, b, x) if len(x) == 8 else _odd(v, b, x)


@cache
def _butterflies(v: Vectors, radix: int) -> tuple[Any, Any, Any]:
    """(plain, frequency, time): in place on `radix` points `gap` apart; turned after, or before, by twiddles."""

    def read(b: Any, re: Any, im: Any, gap: Any) -> tuple[list[Any], list[Pair]]:
        offsets = [b.mul(gap, ir.Constant(gap.type, q)) for q in range(radix)]
        return offsets, [(v.load(b, b.add(re, o)), v.load(b, b.add(im, o))) for o in offsets]

    def turned(b: Any, x: list[Pair], twiddles: Any) -> list[Pair]:
        found = x[:1]
        for q in range(1, radix):
            c, s = (v.broadcast(b, twiddles, (2 * q - 2 + i) * v.size) for i in (0, 1))
            re, im = x[q]
            found.append((v.fma(b, b.fneg(im), s, b.fmul(re, c)), v.fma(b, im, c, b.fmul(re, s))))
        return found

    def write(b: Any, re: Any, im: Any, offsets: list[Any], x: list[Pair]) -> None:
        for o, (real, imaginary) in zip(offsets, x, strict=True):
            v.store(b, real, b.add(re, o))
            v.store(b, imaginary, b.add(im, o))

    @emitted(3)
    def plain(b: Any, a: Any) -> None:
        offsets, x = read(b, *a)
        write(b, a[0], a[1], offsets, _butterfly(v, b, x))

    @emitted(4)
    def frequency(b: Any, a: Any) -> None:
        offsets, x = read(b, *a[:3])
        write(b, a[0], a[1], offsets, turned(b, _butterfly(v, b, x), a[3]))

    @emitted(4)
    def time(b: Any, a: Any) -> None:
        offsets, x = read(b, *a[:3])
        write(b, a[0], a[1], offsets, _butterfly(v, b, turned(b, x, a[3])))

    return plain, frequency, time


@cache
def _pass(v: Vectors, radix: int) -> Any:
    """All butterflies of one pass over a line."""
    plain, frequency, time = _butterflies(v, radix)
    twiddle_step = 2 * (radix - 1) * v.size

    @inner
    def whole(re: int, im: int, step: int, n: int, m: int, twiddles: int, backward: int) -> None:
        span = m // radix
        gap = span * step
        for base in range(0, n, m):
            plain(re + base * step, im + base * step, gap)
            for j in range(1, span):
                at = (base + j) * step
                if backward:
                    time(re + at, im + at, gap, twiddles + j * twiddle_step)
                else:
                    frequency(re + at, im + at, gap, twiddles + j * twiddle_step)

    return whole


@cache
def lines(v: Vectors) -> tuple[Any, Any]:
    """(forward, backward): the transform of one line and its transpose."""
    two, three, four, five, eight = (_pass(v, radix) for radix in (2, 3, 4, 5, 8))
    wide = v.registers == 32  # eight complex points do not fit into sixteen registers

    @inner
    def one(re: int, im: int, step: int, n: int, at: int, backward: int) -> None:
        radix, m, twiddles = word(at, 0), word(at, 1), word(at, 2)
        if radix == 8 and wide:
            eight(re, im, step, n, m, twiddles, backward)
        elif radix == 4:
            four(re, im, step, n, m, twiddles, backward)
        elif radix == 2:
            two(re, im, step, n, m, twiddles, backward)
        elif radix == 3:
            three(re, im, step, n, m, twiddles, backward)
        elif radix == 5:
            five(re, im, step, n, m, twiddles, backward)

    @inner
    def forward(re: int, im: int, step: int, plan: int) -> None:
        n, passes = word(plan, 0), word(plan, 1)
        for i in range(passes):
            one(re, im, step, n, plan + 16 + 24 * i, 0)

    @inner
    def backward(re: int, im: int, step: int, plan: int) -> None:
        n, passes = word(plan, 0), word(plan, 1)
        for i in range(passes):
            one(im, re, step, n, plan + 16 + 24 * (passes - 1 - i), 1)

    return forward, backward
