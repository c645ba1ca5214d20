"""What register tiles whose lanes are channels are made of.

Groups of Q channels (a power of two; 1 is depthwise) lie side by side in a vector. Channel i of a group meets output
i ^ r in the r-th of Q products, so x is used as it was loaded and a group costs no shuffle until the sums are done.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ..emit import I32, I64, Vectors, emitted, pointer


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


def store(v: Vectors, b: Any, value: Any, target: Any, mask: Any) -> None:
    """Write a vector, or as much of it as there are channels."""
    if mask is None:
        v.store(b, value, target)
    else:
        v.masked_store(b, value, mask, target)


def between(v: Vectors, b: Any, values: list[Any], bounds: Any) -> list[Any]:
    """Vectors kept between the two numbers at `bounds`, a NaN stays; where these are infinite, nothing is compared."""
    low, high = (b.load(pointer(b, bounds, at), typ=v.element, align=v.size) for at in (0, v.size))
    end = ir.Constant(v.element, float("inf"))
    some = b.or_(b.fcmp_ordered(">", low, b.fneg(end)), b.fcmp_ordered("<", high, end))
    before, inside, after = b.block, b.append_basic_block("bounds"), b.append_basic_block("bounds.done")
    b.cbranch(some, inside, after)
    b.position_at_end(inside)
    lows, highs, found = v.splat(b, low), v.splat(b, high), []
    for value in values:
        held = b.select(b.fcmp_ordered("<", value, lows), lows, value)
        found.append(b.select(b.fcmp_ordered(">", held, highs), highs, held))
    b.branch(after)
    b.position_at_end(after)
    results = []
    for value, held in zip(values, found, strict=True):
        phi = b.phi(value.type)
        phi.add_incoming(value, before)
        phi.add_incoming(held, inside)
        results.append(phi)
    return results


#: The words that a forward tile finds in its frame: from pixel to pixel of x; a table of offsets of rows of taps, of which
#: those from `row` to `end_row`; the taps of a row from `tap` on, `tap_step` apart; from pixel to pixel of y and of what the
#: sums are added to; columns per pixel and per tap, a table of how wide each row is, zeros to read beyond it; channels in
#: the vector; from row to row of y, and how many rows there are; two numbers between which outputs stay; and how far its
#: arguments move from tile to tile. The rest is for `quads`, but for `ahead`: whether square tiles fetch the next rows.
FRAME = (
    *("x_pixel", "rows", "row", "end_row", "taps", "tap", "tap_step", "y_pixel", "begin_pixel"),
    *("column_pixel", "column_tap", "limits", "zeros", "count", "y_row", "live_rows", "bounds"),
    *("x_move", "w_move", "y_move", "begin_move", "column_move", "live_move"),
    *("wrap", "row_at", "column_end", "y_rows", "y_columns", "dump", "ahead"),
)
#: How much a tile checks: nothing; whether pixels exist; and channels too, whose masked loads cost more.
FAST, SAFE, MASKED = range(3)


def in_order(v: Vectors, b: Any, sums: list[Any], done: list[int]) -> None:
    """Nothing that follows is begun before these sums are done: loads hoisted over them would spill.

    An empty piece of assembly that seems to change a sum costs nothing. The CPU reorders as it likes.
    """
    place = "x" if "x86" in b.module.triple and v.width < 64 else "v" if "x86" in b.module.triple else "w"
    for n in done:
        same = ir.FunctionType(v.vector, [v.vector])
        sums[n] = b.asm(same, "", f"={place},0,~{{memory}}", [sums[n]], True)


def framed(b: Any, frame: Any, quads: bool = False) -> list[Any]:
    """The words of a frame, for `quads` theirs too."""
    count = FRAME.index("ahead" if quads else "wrap")
    return [b.load(pointer(b, frame, 8 * i), typ=I64, align=8) for i in range(count)]
