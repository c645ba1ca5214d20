"""Convolution by Fourier transforms of overlapping tiles, lanes being channels.

Two tiles of one image are the real and the imaginary part of one complex tile: a real kernel never mixes them. Half of
the frequencies are enough, `Z(f)` and `conj Z(-f)` as two rows of one matrix, because both meet the same `conj W(f)`.

- channel by channel: cut, transform, multiply, transform back and paste, all in one task and its cache;
- dense: `transform` all pairs of tiles; at each frequency one complex matrix product, as real batch-reduce products of
  two; `inverse`. Rows of inputs have three planes, real, imaginary and minus imaginary, for want of a subtraction.
- weight gradient: the same rows of x and of g, summed over tiles at each frequency.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import products
from ..build import inner
from ..emit import Vectors, emitted, word
from ..target import Target
from .tiles import FILLED, PAIRS, PLANE, TABLE, cuts, transforms


def _arithmetic(v: Vectors) -> tuple[Any, Any, Any, Any, Any]:
    """(negate, scaled, add, turn, gather): complex numbers as two vectors in memory."""

    @emitted(2)
    def negate(b: Any, a: Any) -> None:
        v.store(b, b.fneg(v.load(b, a[1])), a[0])

    @emitted(3)
    def scaled(b: Any, a: Any) -> None:
        """a[1] times the scalar at a[2]."""
        v.store(b, b.fmul(v.load(b, a[1]), v.broadcast(b, a[2])), a[0])

    @emitted(2)
    def add(b: Any, a: Any) -> None:
        v.store(b, b.fadd(v.load(b, a[0]), v.load(b, a[1])), a[0])

    def times(b: Any, x: Any, y: Any) -> Any:
        return (
            v.fma(b, b.fneg(x[1]), y[1], b.fmul(x[0], y[0])),
            v.fma(b, x[1], y[0], b.fmul(x[0], y[1])),
        )

    @emitted(6)
    def turn(b: Any, a: Any) -> None:
        """(a[0], a[1]) *= (a[4], a[5]) and (a[2], a[3]) *= its conjugate."""
        u = v.load(b, a[4]), v.load(b, a[5])
        first = times(b, (v.load(b, a[0]), v.load(b, a[1])), u)
        second = times(b, (v.load(b, a[2]), v.load(b, a[3])), (u[0], b.fneg(u[1])))
        for value, at in zip((*first, *second), a[:4], strict=True):
            v.store(b, value, at)

    @emitted(10)
    def gather(b: Any, a: Any) -> None:
        """(a[0], a[1]) += conj(x) g at one frequency + x conj(g) at its negative; x in a[2:6], g in a[6:10]."""
        x, nx, g, ng = ((v.load(b, a[i]), v.load(b, a[i + 1])) for i in (2, 4, 6, 8))
        first = times(b, (x[0], b.fneg(x[1])), g)
        second = times(b, nx, (ng[0], b.fneg(ng[1])))
        for i in (0, 1):
            v.store(b, b.fadd(v.load(b, a[i]), b.fadd(first[i], second[i])), a[i])

    return negate, scaled, add, turn, gather


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """Every step of the forward pass and of the weight gradient."""
    v = Vectors(dtype, target.width)
    size, lanes, width = v.size, v.lanes, v.width
    copy, clear = v.copy, v.clear
    multiply = products.multiply(v)
    cut, paste = cuts(v)
    forward, backward = transforms(v)
    negate, scaled, add, turn, gather = _arithmetic(v)

    @inner
    def load_pair(re: int, tile: int, x: int, shape: int, pair: int, tiles: int, vector: int) -> None:
        """Transform tiles 2 pair and 2 pair + 1 of the image at x together."""
        im = re + word(tile, PLANE)
        cut(re, tile, x, shape, 2 * pair, vector)
        if 2 * pair + 1 < tiles:
            cut(im, tile, x, shape, 2 * pair + 1, vector)
        else:
            for i in range(word(tile, PLANE) // width):
                clear(im + i * width)
        forward(re, tile, word(shape, FILLED), word(shape, FILLED + 1), 0)

    @inner
    def save_pair(re: int, tile: int, y: int, shape: int, pair: int, tiles: int, vector: int) -> None:
        """Transform back and paste both tiles."""
        backward(re, tile, word(shape, FILLED), word(shape, FILLED + 1))
        paste(re, tile, y, shape, 2 * pair, vector)
        if 2 * pair + 1 < tiles:
            paste(re + word(tile, PLANE), tile, y, shape, 2 * pair + 1, vector)

    def transform(
        lo: int, hi: int, thread: int,
        x: int, to: int, scratch: int, scratch_step: int, tile: int, shape: int, first_pair: int, pairs: int, tiles: int,
        vectors: int, frequency_step: int, row_step: int, plane: int, planes: int,
    ) -> None:  # fmt: skip
        """Tasks are pairs x vectors of channels: rows of spectra out of tiles."""
        re = scratch + thread * scratch_step
        im = re + word(tile, PLANE)
        for task in range(lo, hi):
            vector, here = task % vectors, task // vectors
            pair = first_pair + here
            load_pair(re, tile, x + pair // pairs * word(shape, 0), shape, pair % pairs, tiles, vector)
            at = to + 2 * here * row_step + vector * width
            table = word(tile, TABLE)
            for _ in range(word(tile, PAIRS)):
                positive, negative = word(table, 0), word(table, 1)
                below = at + row_step
                copy(at, re + positive)
                copy(at + plane, im + positive)
                copy(below, re + negative)
                negate(below + plane, im + negative)
                if planes == 3:
                    negate(at + 2 * plane, im + positive)
                    copy(below + 2 * plane, im + negative)
                at += frequency_step
                table += 16

    def product(
        lo: int, hi: int, thread: int,
        a: int, w: int, c: int, a_frequency: int, w_frequency: int, c_frequency: int, rows: int, a_rows: int, c_rows: int,
        a_offsets: int, w_offsets: int, a_step: int, w_step: int, depth: int, chunk: int, panels: int, columns: int,
        last_columns: int, panel_step: int, c_plane: int, adds: int,
    ) -> None:  # fmt: skip
        """Tasks are frequencies: real and imaginary part of one complex matrix product."""
        for task in range(lo, hi):
            for panel in range(panels):
                final = panel == panels - 1
                these = last_columns if final else columns
                step = w_step or these * width
                for part in range(2):
                    offsets = 16 * part
                    k = 0
                    while k < depth:
                        multiply(
                            these,
                            a + task * a_frequency + k * a_step,
                            a_rows,
                            a_offsets + offsets,
                            a_step,
                            w + task * w_frequency + panel * panel_step + k * step,
                            w_offsets + offsets + (32 if final else 0),
                            step,
                            2,
                            min(chunk, depth - k),
                            c + task * c_frequency + part * c_plane + panel * columns * width,
                            c_rows,
                            rows,
                            lanes,
                            2 if k or adds else 0,
                            0,
                            0,
                        )
                        k += chunk

    def inverse(
        lo: int, hi: int, thread: int,
        source: int, y: int, scratch: int, scratch_step: int, tile: int, shape: int, first_pair: int, pairs: int, tiles: int,
        vectors: int, frequency_step: int, row_step: int, plane: int,
    ) -> None:  # fmt: skip
        """Tasks are pairs x vectors of channels: outputs out of rows of spectra."""
        re = scratch + thread * scratch_step
        im = re + word(tile, PLANE)
        for task in range(lo, hi):
            vector, here = task % vectors, task // vectors
            pair = first_pair + here
            at = source + 2 * here * row_step + vector * width
            table = word(tile, TABLE)
            for _ in range(word(tile, PAIRS)):
                positive, negative = word(table, 0), word(table, 1)
                copy(re + negative, at + row_step)
                negate(im + negative, at + row_step + plane)
                copy(re + positive, at)
                copy(im + positive, at + plane)
                at += frequency_step
                table += 16
            save_pair(re, tile, y + pair // pairs * word(shape, 0), shape, pair % pairs, tiles, vector)

    def weights(
        lo: int, hi: int, thread: int,
        w: int, to: int, scratch: int, scratch_step: int, tile: int, shape: int, scale: int, channels: int, vectors: int,
        columns: int, frequency_step: int, panel_step: int,
    ) -> None:  # fmt: skip
        """Tasks are input channels x vectors of output channels: conjugate spectra as panels of the products."""
        re = scratch + thread * scratch_step
        im = re + word(tile, PLANE)
        for task in range(lo, hi):
            vector, c = task % vectors, task // vectors
            cut(re, tile, w + c * word(shape, 0), shape, 0, vector)
            for i in range(word(tile, PLANE) // width):
                clear(im + i * width)
            forward(re, tile, word(shape, FILLED), word(shape, FILLED + 1), 1)
            panel = vector // columns
            these = min(columns, vectors - panel * columns)
            at = to + panel * panel_step + (c * these + vector % columns) * width
            table, plane = word(tile, TABLE), channels * these * width
            for _ in range(word(tile, PAIRS)):
                scaled(at, re + word(table, 0), scale)
                scaled(at + plane, im + word(table, 0), scale + size)
                at += frequency_step
                table += 16

    def channelwise(
        lo: int, hi: int, thread: int,
        x: int, w: int, y: int, scratch: int, scratch_step: int, tile: int, shape: int, y_shape: int, pairs: int, tiles: int,
        images: int,
    ) -> None:  # fmt: skip
        """Tasks are vectors of channels x pairs of tiles of all images."""
        re = scratch + thread * scratch_step
        im = re + word(tile, PLANE)
        for task in range(lo, hi):
            vector, rest = task // (images * pairs), task % (images * pairs)
            n, pair = rest // pairs, rest % pairs
            load_pair(re, tile, x + n * word(shape, 0), shape, pair, tiles, vector)
            at = w + 2 * vector * word(tile, PAIRS) * width
            table = word(tile, TABLE)
            for _ in range(word(tile, PAIRS)):
                p, q = word(table, 0), word(table, 1)
                # where a frequency is its own negative both results are the same, because the kernel is real
                turn(re + p, im + p, re + q, im + q, at, at + width)
                at += 2 * width
                table += 16
            save_pair(re, tile, y + n * word(y_shape, 0), y_shape, pair, tiles, vector)

    def correlate(
        lo: int, hi: int, thread: int,
        x: int, g: int, to: int, scratch: int, scratch_step: int, tile: int, shape: int, g_shape: int, pairs: int, tiles: int,
        images: int, parts: int, part_step: int,
    ) -> None:  # fmt: skip
        """Tasks are vectors of channels x parts of the pairs: spectra of x times those of g, summed."""
        first = scratch + thread * scratch_step
        second = first + 2 * word(tile, PLANE)
        for task in range(lo, hi):
            vector, part = task // parts, task % parts
            base = to + part * part_step + 2 * vector * word(tile, PAIRS) * width
            for i in range(2 * word(tile, PAIRS)):
                clear(base + i * width)
            for rest in range(images * pairs * part // parts, images * pairs * (part + 1) // parts):
                n, pair = rest // pairs, rest % pairs
                load_pair(first, tile, x + n * word(shape, 0), shape, pair, tiles, vector)
                load_pair(second, tile, g + n * word(g_shape, 0), g_shape, pair, tiles, vector)
                at, table, plane = base, word(tile, TABLE), word(tile, PLANE)
                for _ in range(word(tile, PAIRS)):
                    p, q = first + word(table, 0), first + word(table, 1)
                    r, s = second + word(table, 0), second + word(table, 1)
                    gather(at, at + width, p, p + plane, q, q + plane, r, r + plane, s, s + plane)
                    at += 2 * width
                    table += 16

    def gradient(
        lo: int, hi: int, thread: int,
        source: int, dw: int, scratch: int, scratch_step: int, tile: int, shape: int, scale: int, vectors: int,
        frequency_step: int, channel_step: int, vector_step: int, plane: int, parts: int, part_step: int,
    ) -> None:  # fmt: skip
        """Tasks are input channels x vectors of output channels: kernels out of spectra, summed over parts."""
        re = scratch + thread * scratch_step
        im = re + word(tile, PLANE)
        for task in range(lo, hi):
            vector, c = task % vectors, task // vectors
            at = source + c * channel_step + vector * vector_step
            table = word(tile, TABLE)
            for _ in range(word(tile, PAIRS)):
                positive, negative = word(table, 0), word(table, 1)
                for part in range(1, parts):
                    add(at, at + part * part_step)
                    add(at + plane, at + plane + part * part_step)
                scaled(re + negative, at, scale)
                scaled(im + negative, at + plane, scale)
                scaled(re + positive, at, scale)
                scaled(im + positive, at + plane, scale + size)
                at += frequency_step
                table += 16
            backward(re, tile, word(shape, FILLED), word(shape, FILLED + 1))
            paste(re, tile, dw + c * word(shape, 0), shape, 0, vector)

    return {
        "transform": transform,
        "product": product,
        "inverse": inverse,
        "weights": weights,
        "channelwise": channelwise,
        "correlate": correlate,
        "gradient": gradient,
    }
