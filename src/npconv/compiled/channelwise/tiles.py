"""Register tiles whose lanes are channels: forward over a few pixels, weight gradient over a few taps.

Groups of Q channels (a power of two; 1 is depthwise) lie side by side in a vector. Channel i of a group meets output
i ^ r in the r-th of Q products, so x is used as it was loaded and a group costs no shuffle until the sums are done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from ..emit import I32, I64, P, Vectors, emitted, i64, pointer


@emitted(2)
def put(b: Any, a: Any) -> None:
    """Write a 64-bit word."""
    b.store(a[1], pointer(b, a[0]), align=8)


def swapped(v: Vectors, b: Any, value: Any, r: int) -> Any:
    """Lane l of the result is lane l ^ r."""
    if not r:
        return value
    pick = ir.Constant(ir.VectorType(I32, v.lanes), [lane ^ r for lane in range(v.lanes)])
    return b.shuffle_vector(value, ir.Constant(v.vector, ir.Undefined), pick)


def tree(b: Any, v: Vectors, parts: list[Any]) -> Any:
    """The sum of the r-th parts, each put back to the lanes of its outputs: halves join, so every shuffle is shared."""
    while len(parts) > 1:
        half = len(parts) // 2
        parts = [b.fadd(parts[i], swapped(v, b, parts[i + half], half)) for i in range(half)]
    return parts[0]


class Loop:
    """A loop that runs at least once, its state in registers: begin, read `state`, `close` with the next state."""

    def __init__(self, b: Any, name: str, state: list[Any]) -> None:
        before, self.b = b.block, b
        self.block, self.after = b.append_basic_block(name), b.append_basic_block(f"{name}.done")
        b.branch(self.block)
        b.position_at_end(self.block)
        self.state = [b.phi(value.type) for value in state]
        for phi, value in zip(self.state, state, strict=True):
            phi.add_incoming(value, before)

    def close(self, state: list[Any], again: Any) -> None:
        """Go on with `state` while `again` holds."""
        for phi, value in zip(self.state, state, strict=True):
            phi.add_incoming(value, self.b.block)
        self.b.cbranch(again, self.block, self.after)
        self.b.position_at_end(self.after)


#: How much a tile checks: nothing; whether pixels exist; and channels too, whose masked loads cost more.
FAST, SAFE, MASKED = range(3)


@dataclass(frozen=True)
class Tile:
    """A register tile: groups of Q, so many pixels and vectors; sliding: its pixels and taps are neighbours."""

    Q: int
    pixels: int
    columns: int
    sliding: bool


def tiles(v: Vectors) -> list[Tile]:
    """The tiles there are; sums, weights and inputs must fit the registers. A `kind` is 3 i + care."""
    many = v.registers == 32
    made = [Tile(1, 7, columns, sliding) for columns in (1, 2) for sliding in (False, True) if columns == 1 or many]
    wide = {2: 7, 4: 6, 8: 3} if many else {2: 5, 4: 2, 8: 1}
    return made + [Tile(Q, pixels, 1, False) for Q, pixels in wide.items() if v.lanes >= Q]


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


def chosen(count: int, bodies: list[tuple[str, Callable[..., None]]]) -> Any:
    """run(kind, ...): the kind-th of these functions of `count` addresses, each made once under its name."""

    @emitted(count + 1)
    def run(b: Any, a: Any) -> None:
        end = b.append_basic_block("chosen")
        choice = b.switch(a[0], end)
        for kind, (name, body) in enumerate(bodies):
            here = b.append_basic_block(name)
            choice.add_case(i64(kind), here)
            b.position_at_end(here)
            b.call(outlined(b, name, count, body), a[1:])
            b.branch(end)
        b.position_at_end(end)

    return run


def forward_tiles(v: Vectors) -> tuple[Any, Any]:
    """(run, pixels): run(kind, ...) computes tiles, see `forward_tile`; pixels(kind) is their width."""
    made = tiles(v)
    bodies = []
    for tile in made:
        # where few vectors pass, one function does for both kinds of care: less to compile
        rare = tile.Q > 1 or tile.columns < max(t.columns for t in made)
        for care in (FAST, MASKED if rare else SAFE, MASKED):
            name = f"npconv_tile_{v.suffix}_{tile.Q}_{tile.columns}_{int(tile.sliding)}_{care}"
            bodies.append((name, lambda b, args, t=tile, c=care: forward_tile(v, b, t, c, args)))

    @emitted(1, P)
    def pixels(b: Any, a: Any) -> Any:
        found = i64(1)
        for i, tile in enumerate(made):
            found = b.select(b.icmp_signed("==", a[0], i64(3 * i)), i64(tile.pixels), found)
        return found

    return chosen(21, bodies), pixels


def in_order(v: Vectors, b: Any, sums: list[Any], done: list[int]) -> None:
    """Nothing that follows is begun before these sums are done: loads hoisted over them would spill.

    An empty piece of assembly that seems to change a sum costs nothing. The CPU reorders as it likes.
    """
    place = "x" if "x86" in b.module.triple and v.width < 64 else "v" if "x86" in b.module.triple else "w"
    for n in done:
        same = ir.FunctionType(v.vector, [v.vector])
        sums[n] = b.asm(same, "", f"={place},0,~{{memory}}", [sums[n]], True)


def forward_tile(v: Vectors, b: Any, shape: Tile, care: int, arguments: list[Any]) -> None:
    """Outputs of one row, `strip` tiles of them, all taps, some vectors of channels.

    Arguments: strip; x, where tap 0 of pixel 0 reads; x_pixel, from pixel to pixel; rows, a table of offsets of rows of taps, of
    which `many` from `row` on; `taps` in a row from `tap` on, tap_step apart; w, (row, tap, r, columns, lanes); y and
    y_pixel; begin and begin_pixel, what the sums are added to. A tile with care also asks: the column that x stands at,
    columns per pixel and per tap, how wide each row is (`limits`), `zeros` to read beyond it, how many pixels exist
    (`live`), and for MASKED channels in the last vector (`count`).
    """
    (strip, x, x_pixel, rows, many, taps, tap_step, w, y, y_pixel, begin, begin_pixel) = arguments[:12]
    column, column_pixel, column_tap, limits, zeros, live, count, row, tap = arguments[12:]
    Q, columns, each = shape.Q, shape.columns, range(shape.pixels)
    safe, masked = care >= SAFE, care == MASKED
    mask = v.mask(b, count) if masked else None
    x = b.add(x, b.mul(tap, tap_step))
    column = b.add(column, b.mul(tap, column_tap))
    if shape.sliding:
        tap_step, column_pixel, column_tap = x_pixel, i64(1), i64(1)
    along = Loop(b, "strip", [strip, x, y, begin, column, live])
    strip, x, y, begin, column, live = along.state
    outer = Loop(b, "row", [row, w, *[ir.Constant(v.vector, None)] * (shape.pixels * columns * Q)])
    r, weights, *sums = outer.state
    at = b.shl(r, i64(3))
    source = b.add(x, b.load(pointer(b, b.add(rows, at)), typ=I64, align=8))
    limit = b.load(pointer(b, b.add(limits, at)), typ=I64, align=8) if safe else None

    def step(state: list[Any], many_taps: int) -> list[Any]:
        """Several taps that follow each other: an input is loaded once for all of them."""
        left, place, weight, here, *sums = state
        size = Q * columns * v.width

        def read(i: int, c: int) -> Any:
            """An input, or a zero where there is none."""
            where = b.add(place, b.mul(x_pixel, i64(i)))
            if safe:
                inside = b.icmp_unsigned("<", b.add(here, b.mul(column_pixel, i64(i))), limit)
                where = b.select(inside, where, zeros)
            if masked and c == columns - 1:
                return v.masked_load(b, mask, where, c * v.width)
            return v.load(b, where, c * v.width)

        if shape.pixels < Q:  # few inputs stay in registers, many weights pass by
            values = [read(p, 0) for p in each]
            for q in range(Q):
                factor = v.load(b, weight, q * v.width)
                for p in each:
                    sums[p * Q + q] = v.fma(b, values[p], factor, sums[p * Q + q])
                in_order(v, b, sums, [p * Q + q for p in each])
        else:
            factors = [
                [v.load(b, weight, i * v.width + t * size) for i in range(Q * columns)] for t in range(many_taps)
            ]
            for i in range(shape.pixels + many_taps - 1):
                for c in range(columns):
                    value, done = read(i, c), []
                    for t in range(many_taps):
                        for q in range(Q if i - t in each else 0):
                            n = ((i - t) * columns + c) * Q + q
                            sums[n] = v.fma(b, value, factors[t][q * columns + c], sums[n])
                            done.append(n)
                    in_order(v, b, sums, done)
        place = b.add(place, b.mul(tap_step, i64(many_taps)))
        here = b.add(here, b.mul(column_tap, i64(many_taps)))
        return [b.sub(left, i64(many_taps)), place, b.add(weight, i64(many_taps * size)), here, *sums]

    state = [taps, source, weights, column, *sums]
    for many_taps in (3, 2, 1) if shape.sliding else (1,):
        state = repeated(b, state, many_taps, step)
    following = b.add(r, i64(1))
    outer.close([following, state[2], *state[4:]], b.icmp_signed("<", following, b.add(row, many)))
    sums = state[4:]
    end = b.append_basic_block("end")
    for p in each:
        if safe and p:
            more = b.append_basic_block("pixel")
            b.cbranch(b.icmp_signed("<", i64(p), live), more, end)
            b.position_at_end(more)
        source, target = b.add(begin, b.mul(begin_pixel, i64(p))), b.add(y, b.mul(y_pixel, i64(p)))
        for c in range(columns):
            i = (p * columns + c) * Q
            value, offset = tree(b, v, sums[i : i + Q]), c * v.width
            if masked and c == columns - 1:
                v.masked_store(b, b.fadd(v.masked_load(b, mask, source, offset), value), mask, target, offset)
            else:
                v.store(b, b.fadd(v.load(b, source, offset), value), target, offset)
    b.branch(end)
    b.position_at_end(end)
    moves = [(x, x_pixel), (y, y_pixel), (begin, begin_pixel), (column, column_pixel)]
    further = [b.add(value, b.mul(move, i64(shape.pixels))) for value, move in moves]
    strip = b.sub(strip, i64(1))
    along.close([strip, *further, b.sub(live, i64(shape.pixels))], b.icmp_signed(">", strip, i64(0)))


def repeated(b: Any, state: list[Any], count: int, step: Callable[[list[Any], int], list[Any]]) -> list[Any]:
    """While at least `count` (state[0]) are left, a step of `count`."""
    before, loop, done = b.block, b.append_basic_block("taps"), b.append_basic_block("taps.done")
    b.cbranch(b.icmp_signed(">=", state[0], i64(count)), loop, done)
    b.position_at_end(loop)
    phis = [b.phi(value.type) for value in state]
    after = step(list(phis), count)
    b.cbranch(b.icmp_signed(">=", after[0], i64(count)), loop, done)
    last = b.block
    b.position_at_end(done)
    results = []
    for phi, value, begun in zip(phis, after, state, strict=True):
        phi.add_incoming(begun, before)
        phi.add_incoming(value, last)
        result = b.phi(value.type)
        result.add_incoming(begun, before)
        result.add_incoming(value, last)
        results.append(result)
    return results
