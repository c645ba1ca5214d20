"""The most a core can do: fused multiply-adds on registers alone, to measure other kernels against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .emit import I64, Vectors, emitted, i64
from .target import Target

#: Independent sums: more than latency times throughput of any current core, and no more than AVX2 has registers.
CHAINS = 12


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """One kernel; a block is `rounds` times `CHAINS` multiply-adds of whole vectors."""
    v = Vectors(dtype, target.width)

    @emitted(2)
    def chains(b: Any, a: Any) -> None:
        rounds, to = a
        before, loop, done = b.block, b.append_basic_block("loop"), b.append_basic_block("done")
        factor = v.load(b, to)
        b.branch(loop)
        b.position_at_end(loop)
        left = b.phi(I64)
        left.add_incoming(rounds, before)
        sums = [b.phi(v.vector) for _ in range(CHAINS)]
        added = [v.fma(b, value, factor, factor) for value in sums]
        for value, result in zip(sums, added, strict=True):
            value.add_incoming(factor, before)
            value.add_incoming(result, loop)
        rest = b.sub(left, i64(1))
        left.add_incoming(rest, loop)
        b.cbranch(b.icmp_signed(">", rest, i64(0)), loop, done)
        b.position_at_end(done)
        for i, value in enumerate(added):
            v.store(b, value, to, i * v.width)

    def peak(lo: int, hi: int, thread: int, rounds: int, to: int, step: int) -> None:
        for block in range(lo, hi):
            chains(rounds, to + block * step)

    return {"peak": peak}
