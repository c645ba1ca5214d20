"""What normalising layers and rectifiers do to memory: read it once for the sums, once more for the result.

    moments      per channel: sum of d, sum of d^2           with d = x - pivot
    slopes       per channel: sum of g, sum of g d
    affine       y = d k + b
    affine_back  y = g a + (d c + b)
    rectify, rectify_back

Sums are in double precision whatever the elements. The pivot of a variance is an element of its channel, so that the
square of the mean of d is at most the number of elements times the variance: what cancels is bounded.

With channels last a task of a sum owns a panel of two vectors of channels over a run of pixels, with channels first a
run of the pixels of one channel. A sweep goes by rows: numbers per channel come from a table, one vector for a whole row
with channels first, moving along with channels last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from .. import doubles
from ..build import inner
from ..emit import Vectors, emitted, function, i64, pointer
from ..target import Target

#: Vectors that a sum takes at a time.
WIDE = 2


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """Sums, sweeps and rectifiers."""
    v, size = Vectors(dtype, target.width), int(dtype[1])
    sweep, sweep_back, cut, cut_back = _row(v, _affine), _row(v, _affine_back), _row(v, _cut), _row(v, _cut_back)

    def affine(
        lo: int, hi: int, thread: int,
        x: int, y: int, table: int, length: int, total: int, patterns: int, row: int, part: int, step: int,
    ) -> None:  # fmt: skip
        """Rows lo..hi of `length` elements; parts of the table lie `part` bytes apart: pivot, factor, term."""
        for i in range(lo, hi):
            at = i * length * size
            sweep(x + at, x + at, y + at, min(length, total - i * length), table + i % patterns * row, part, step)

    def affine_back(
        lo: int, hi: int, thread: int,
        x: int, g: int, y: int, table: int, length: int, total: int, patterns: int, row: int, part: int, step: int,
    ) -> None:  # fmt: skip
        """The same; parts of the table: pivot, factor of g, factor of d, term."""
        for i in range(lo, hi):
            at = i * length * size
            sweep_back(x + at, g + at, y + at, min(length, total - i * length), table + i % patterns * row, part, step)

    def rectify(lo: int, hi: int, thread: int, x: int, y: int, length: int, total: int) -> None:
        """max(x, 0), NaN kept."""
        for i in range(lo, hi):
            at = i * length * size
            cut(x + at, x + at, y + at, min(length, total - i * length), 0, 0, 0)

    def rectify_back(lo: int, hi: int, thread: int, x: int, g: int, y: int, length: int, total: int) -> None:
        """g where x > 0, else 0."""
        for i in range(lo, hi):
            at = i * length * size
            cut_back(x + at, g + at, y + at, min(length, total - i * length), 0, 0, 0)

    made: dict[str, Callable[..., Any]] = {
        "moments": _sums(v, with_gradient=False),
        "slopes": _sums(v, with_gradient=True),
    }
    return made | {"affine": affine, "affine_back": affine_back, "rectify": rectify, "rectify_back": rectify_back}


# --------------------------------------------------------------------------- sweeps
def _affine(v: Vectors, b: Any, x: Any, g: Any, at: Callable[[int], Any]) -> Any:
    return v.fma(b, b.fsub(x, at(0)), at(1), at(2))


def _affine_back(v: Vectors, b: Any, x: Any, g: Any, at: Callable[[int], Any]) -> Any:
    return v.fma(b, g, at(1), v.fma(b, b.fsub(x, at(0)), at(2), at(3)))


def _cut(v: Vectors, b: Any, x: Any, g: Any, at: Callable[[int], Any]) -> Any:
    zero = ir.Constant(v.vector, None)
    return b.select(b.fcmp_ordered("<", x, zero), zero, x)


def _cut_back(v: Vectors, b: Any, x: Any, g: Any, at: Callable[[int], Any]) -> Any:
    zero = ir.Constant(v.vector, None)
    return b.select(b.fcmp_ordered(">", x, zero), g, zero)


def _row(v: Vectors, become: Callable[..., Any]) -> Any:
    """row(x, g, y, n, table, part, step): n elements, the table moving on by `step` bytes per vector."""
    width, lanes = v.width, v.lanes

    def constants(b: Any, table: Any, part: Any) -> Callable[[int], Any]:
        return lambda i: v.load(b, b.add(table, b.mul(part, i64(i))))

    @emitted(5)
    def whole(b: Any, a: Any) -> None:
        x, g, y, table, part = a
        v.store(b, become(v, b, v.load(b, x), v.load(b, g), constants(b, table, part)), y)

    @emitted(6)
    def rest(b: Any, a: Any) -> None:
        x, g, y, table, part, count = a
        mask = v.mask(b, count)
        loaded = v.masked_load(b, mask, x), v.masked_load(b, mask, g)
        v.masked_store(b, become(v, b, *loaded, constants(b, table, part)), mask, y)

    @inner
    def row(x: int, g: int, y: int, n: int, table: int, part: int, step: int) -> None:
        for _ in range(n // lanes):
            whole(x, g, y, table, part)
            x += width
            g += width
            y += width
            table += step
        if n % lanes:
            rest(x, g, y, table, part, n % lanes)

    return row


# --------------------------------------------------------------------------- sums
def _sums(v: Vectors, with_gradient: bool) -> Callable[..., Any]:
    """The kernel `moments`, which does not look at g, or `slopes`."""
    size, lanes, width = v.size, v.lanes, v.width
    add_wide, add_rest = _add(v, WIDE, with_gradient), _add(v, 1, with_gradient)
    clear, fold = doubles.clear(v, WIDE), _fold(v)
    half = WIDE * lanes * 8

    @inner
    def along(x: int, g: int, pixels: int, pivot: int, to: int) -> None:
        """Pixels that lie side by side."""
        many = pixels // (WIDE * lanes)
        if many:
            add_wide(x, g, WIDE * width, many, lanes, pivot, to, to + half)
        for first in range(many * WIDE * lanes, pixels, lanes):
            add_rest(x + first * size, g + first * size, width, 1, min(lanes, pixels - first), pivot, to, to + half)

    def summed(
        lo: int, hi: int, thread: int,
        x: int, g: int, pivot: int, to: int, scratch: int, last: int, images: int, image_step: int, pixels: int,
        channels: int, channel_step: int, run: int, slots: int,
    ) -> None:  # fmt: skip
        """Tasks lo..hi of runs of `run` pixels x (panels if `last`, else channels).

        A run has two rows of `slots` doubles: the sums, and those of the products.
        """
        panels = slots // (WIDE * lanes)
        for task in range(lo, hi):
            if last:
                begin, panel = task // panels * run, task % panels
                first = panel * WIDE * lanes
                at = begin * channel_step * channels + first * size
                place = to + (task // panels * 2 * slots + first) * 8
                other = place + slots * 8
                clear(place)
                clear(other)
                count, held = min(run, pixels - begin), channels - first
                if held >= WIDE * lanes:
                    add_wide(x + at, g + at, channels * size, count, lanes, pivot + first * size, place, other)
                else:
                    for j in range(0, held, lanes):
                        from_x, from_g, pivots = x + at + j * size, g + at + j * size, pivot + (first + j) * size
                        n = min(lanes, held - j)
                        add_rest(from_x, from_g, channels * size, count, n, pivots, place + j * 8, other + j * 8)
            else:
                begin, channel = task // channels * run, task % channels
                sums = scratch + thread * 2 * half
                clear(sums)
                clear(sums + half)
                for image in range(images):
                    at = image * image_step + channel * channel_step + begin * size
                    along(x + at, g + at, min(run, pixels - begin), pivot + channel * WIDE * width, sums)
                place = to + (task // channels * 2 * slots + channel) * 8
                fold(sums, place)
                fold(sums + half, place + slots * 8)

    return summed


def _add(v: Vectors, columns: int, with_gradient: bool) -> Any:
    """add(x, g, step, count, held, pivot, to, other): `count` rows, of which one vector has `held` elements."""
    wide = doubles.wide(v)
    fma = f"llvm.fma.v{v.lanes}f64"

    @emitted(8)
    def add(b: Any, a: Any) -> None:
        x, g, step, count, held, pivot, to, other = a
        mask = v.mask(b, held) if columns == 1 else None
        zero = ir.Constant(wide, None)

        def read(address: Any, j: int) -> Any:
            plain = v.load(b, address, j * v.width) if mask is None else v.masked_load(b, mask, address, j * v.width)
            return doubles.widened(v, b, plain)

        pivots = [doubles.widened(v, b, v.load(b, pivot, j * v.width)) for j in range(columns)]

        def added(addresses: list[Any], sums: list[Any]) -> list[Any]:
            from_x, from_g = addresses
            found: list[Any] = [None] * len(sums)
            for j in range(columns):
                d = b.fsub(read(from_x, j), pivots[j])
                if mask is not None:
                    d = b.select(mask, d, zero)
                term = read(from_g, j) if with_gradient else d
                found[j] = b.fadd(sums[j], term)
                products = function(b, fma, wide, [wide] * 3)
                found[columns + j] = b.call(products, [term, d, sums[columns + j]])
            return found

        where = doubles.places(v, b, to, columns) + doubles.places(v, b, other, columns)
        doubles.rows(v, b, count, [x, g], step, where, added)

    return add


def _fold(v: Vectors) -> Any:
    """fold(from, to): the sum of `WIDE` vectors of sums, one after the other."""

    @emitted(2)
    def fold(b: Any, a: Any) -> None:
        parts = doubles.held(v, b, doubles.places(v, b, a[0], WIDE))
        name = f"llvm.vector.reduce.fadd.v{v.lanes}f64"
        gather = function(b, name, ir.DoubleType(), [ir.DoubleType(), doubles.wide(v)])
        total = b.call(gather, [ir.Constant(ir.DoubleType(), -0.0), b.fadd(*parts)])
        b.store(total, pointer(b, a[1]), align=8)

    return fold
