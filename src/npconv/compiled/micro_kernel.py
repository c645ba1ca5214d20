"""The micro-kernel: a register tile of sums, and the loop over all that is multiplied into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from .emit import I1, I64, Vectors, fetch, i64, pointer
from .flow import Loop


def micro_kernel(
    v: Vectors, MR: int, NV: int, narrow: bool = False, bounded: bool = False, ahead: str = "", across: bool = False
) -> Callable[[Any, list[Any]], None]:
    """What emits the batch-reduce matrix product of MR rows and NV vectors of columns, in registers; `narrow`: half of the last.

        C[r, :] (+)= sum over b < batch, k < depth of  A_b[r, k] B_b[k, :]

    Arguments, addresses and byte strides: (a, a_rows, a_offsets, a_step, b, b_offsets, b_step, batch, depth, c, c_rows,
    count, start, bias, bounds, far, far_step, turn). Row r begins at a + a_rows[r]; batch item i at + a_offsets[i] and
    b + b_offsets[i]; k advances by a_step and b_step. Result row r goes to c + c_rows[r], of which the last vector has
    `count` elements. `start` is a sum: 1 begins with the row `bias` (all vectors readable), 2 adds to what is there. Equal
    rows are allowed: all results are read before any is written, so a tile is filled up by repeating its last row.
    `across`: a number for each row begins it, not a row of them; `bias` is the list of their addresses.
    A narrow tile takes half a vector at the end of each row: no more than that is summed, read and written there.
    What a `bounded` tile writes lies between the two numbers at `bounds`; others do not look there.

    What comes from the last cache or from memory is brought `ahead`, a little in each step, as hardware does not see it come:

    - "columns": of what follows these columns in memory a vector in each step, beginning `turn` x `depth` bytes behind
      them. Tiles that take turns have brought the next columns when it is their time, line after line: so hardware sees
      the rest of them come.
    - "rows": this too (one vector leaves no register for it), and the line at `far`, in the next step at `far_step` more,
      and so again in every batch item.
    - "beside": what lies `far` bytes behind these columns, a vector in each step: of as many tiles as there are columns each
      brings one, or the first would wait for all of them.
    - "both": `far` bytes behind the element of the last row, and `far_step` bytes behind the columns.

    Source: Georganas et al. (2020), "Harnessing deep learning via a single building block", IPDPS.
    """

    kinds = [*[v] * (NV - 1), v.half if narrow else v]
    splat = v if NV > 1 else kinds[0]

    def block(b: Any, arguments: list[Any]) -> None:
        a, a_rows, a_offsets, a_step, w, b_offsets, b_step, batch, depth, *others = arguments
        c, c_rows, count, start, bias, bounds, far, far_step, turn = others
        # opaque, or the optimizer keeps a running pointer for every row
        rows = [fixed(b, b.add(a, b.load(pointer(b, a_rows, 8 * r), typ=I64, align=8))) for r in range(MR)]
        begins, nothing = b.trunc(start, I1), zeros(b, NV * v.width)
        if across:
            begun = [v.broadcast(b, b.select(begins, at, nothing)) for at in bias for _ in kinds]
        else:
            begin = b.select(begins, bias, nothing)
            begun = [kind.load(b, begin, j * v.width) for j, kind in enumerate(kinds)] * MR
        each = Loop(b, "batch", [i64(0), *begun])
        i, *sums = each.state
        at = b.shl(i, i64(3))
        row_at = b.load(pointer(b, b.add(a_offsets, at)), typ=I64, align=8)
        first = b.add(w, b.load(pointer(b, b.add(b_offsets, at)), typ=I64, align=8))
        end = b.add(first, b.mul(b_step, depth))
        inner = Loop(b, "depth", [first, row_at, far, b.add(end, b.mul(turn, depth)), *sums])
        column, row_at, line, following, *sums = inner.state
        weights = [kind.load(b, column, j * v.width) for j, kind in enumerate(kinds)]
        if ahead == "columns" or (ahead == "rows" and NV > 1):
            fetch(b, following)
        if ahead == "rows":
            fetch(b, line)
            line = b.add(line, far_step)
        elif ahead == "beside":
            fetch(b, b.add(column, b.add(far, turn)))
        elif ahead == "both":
            fetch(b, b.add(b.add(rows[-1], row_at), far))
            for j in range(NV):
                fetch(b, b.add(column, far_step), j * v.width)
        n = 0
        for row in rows:
            whole = splat.broadcast(b, b.add(row, row_at))
            for kind, weight in zip(kinds, weights, strict=True):
                sums[n] = kind.fma(b, whole if kind is splat else kind.low(b, whole), weight, sums[n])
                n += 1
        column = b.add(column, b_step)
        state = [column, b.add(row_at, a_step), line, b.add(following, i64(v.width)), *sums]
        inner.close(state, b.icmp_signed("!=", column, end))
        i = b.add(i, i64(1))
        each.close([i, *sums], b.icmp_signed("<", i, batch))
        results = [sums[n : n + NV] for n in range(0, MR * NV, NV)]
        _write(kinds, v.width, b, results, c, c_rows, count, start, bounds if bounded else None)

    return block


def fixed(b: Any, value: Any) -> Any:
    """The same value, of which the optimizer knows nothing."""
    return b.asm(ir.FunctionType(I64, [I64]), "", "=r,0", [value], side_effect=False)


def zeros(b: Any, size: int) -> Any:
    """The address of `size` bytes of zeros."""
    name, kind = f"zeros_{size}", ir.ArrayType(ir.IntType(8), size)
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
    for place, row in zip(places, totals, strict=True):  # a row at a time: stores wait where they come all at once
        if bounds is not None:
            place = fixed(b, place)  # or every vector's address is kept from above, on the stack
            row = [kind.between(b, value, bounds) for kind, value in zip(kinds, row, strict=True)]
        for j, kind in enumerate(kinds[:last]):
            kind.store(b, row[j], place, j * width)
        kinds[last].masked_store(b, row[last], mask, place, last * width)
