"""Whether threads have cores of their own. A hypervisor may run two processors as the two halves of one core, for seconds
at a time, and tells nobody: then two threads are as fast as one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import numpy as np

from npconv.compiled import catalogue, threads
from npconv.compiled.calls import Words, address
from npconv.compiled.peak import CHAINS
from npconv.compiled.target import host

#: Multiply-adds of a block of `peak`, in vectors and chains of them: half a millisecond.
ROUNDS = 200_000
#: Times as long as one thread takes that two threads take, each for as much, from which on they share a core.
SHARED = 1.5
#: How often to ask, and seconds in between: other libraries' threads run on for some milliseconds after a call.
ASKED, PAUSE = 6, 0.01


def peak(dtype: str, count: int) -> Callable[[], None]:
    """A call of `count` blocks of multiply-adds, one per thread, each `ROUNDS` x `CHAINS` vectors."""
    out = np.full((count, CHAINS * host().width // int(dtype[1])), 0.5, dtype)
    words = Words(catalogue.kernel("peak", "peak", dtype), {"rounds": ROUNDS, "step": out.strides[0]})
    return lambda: words.run(count, 1e9, to=address(out))


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@cache
def _calls(count: int) -> tuple[Callable[[], None], Callable[[], None]]:
    return peak("f4", 1), peak("f4", count)


def shared(count: int) -> bool:
    """Whether so many threads do not have a core each, now and for the next moments; False where nobody can tell."""
    if count == 1 or catalogue.unavailable() is not None:
        return False
    one, all_of = _calls(count)
    with threads.num_threads(count):
        for _ in range(ASKED):
            if min(timed(all_of) for _ in range(2)) < SHARED * min(timed(one) for _ in range(2)):
                return False
            time.sleep(PAUSE)
    return True
