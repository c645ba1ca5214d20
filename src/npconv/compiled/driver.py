"""A native fork-join: workers parked outside the interpreter, woken by a futex, that share the blocks of a launch.

The caller claims blocks like everyone else and closes the launch when none are left: it waits only for workers that
have joined, never for one that has not woken. Launches are exclusive; a caller that finds the workers busy runs its
blocks alone. After `SLICE` a launch stops handing out blocks and returns to Python, so that Ctrl-C is noticed.

Waking a sleeper costs the caller a system call of up to 60 microseconds, on a virtual machine. So it is done for large
launches, and for others when they follow each other closely: then workers stay awake from one to the next.

A system may wake a sleeper on the waker's processor, where it waits until the launch is over (seen on two processors:
launches of up to three milliseconds that came alone had no help). So whoever has slept for a while without being asked
keeps off the processor of the last caller, and may be anywhere again once awake. Changing processors takes time, which
launches that follow each other more closely would have to wait.

State, one word per cache line: the ticket (generation << 16 | workers inside; an odd generation is open), a sequence
number to sleep on, how many sleep, the blocks taken, then what to run: function, words, blocks, grain, how many may
help, a deadline; who came so far, which numbers the threads of a launch; the lock and the order to stop; when the last
launch ended, and how many came in a row; at last the processor of the caller who woke others last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.cgutils import alloca_once

from .build import inner
from .emit import I64, PTR, P, emitted, function, i64, pointer, word
from .panels import LINE
from .target import Target
from .threads import STATE_BYTES

(
    TICKET,
    SEQUENCE,
    SLEEPERS,
    TAKEN,
    FUNCTION,
    WORDS,
    BLOCKS,
    GRAIN,
    WANTED,
    DEADLINE,
    CAME,
    BUSY,
    STOP,
    ENDED,
    ROW,
    CALLER,
) = range(0, STATE_BYTES, LINE)
#: Nanoseconds after which a launch returns to Python.
SLICE = 200_000_000
#: Polls before who waits for others inside a launch lets others run, some 20 to 50 microseconds.
SPINS = 2000
#: Nanoseconds that a worker stays awake after a launch, within which the next one is in a row with it; and from the
#: how-manieth in a row on workers are woken. Python takes up to a hundred microseconds from one launch to the next where
#: the first has driven it out of the caches.
AWAKE, WOKEN_FROM = 120_000, 4
#: Polls from one look at the clock to the next, less one: a poll takes from 10 nanoseconds to 40, by the processor.
POLLS = 31

FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE, EVERYONE = 128, 129, 0x7FFFFFFF
#: Linux's numbers of (futex, sched_yield, sched_setaffinity, sched_getaffinity, getcpu).
SYSTEM_CALLS = {"x86_64": (202, 24, 203, 204, 309), "aarch64": (98, 124, 122, 123, 168)}
#: Nanoseconds of sleep after which a worker keeps off the caller's processor.
NAP = 200_000
#: Words of a set of processors: where there are more than this holds, sleepers sleep anywhere.
SET = 16
MONOTONIC = 1
#: Shares of `grain` blocks taken from the back are counted in the upper half of a word, those from the front in the lower one.
HALF, FRONT = 32, 0xFFFFFFFF


@emitted(1, P)
def read(b: Any, a: Any) -> Any:
    return b.load_atomic(pointer(b, a[0]), "seq_cst", 8, typ=I64)


@emitted(2)
def write(b: Any, a: Any) -> None:
    b.store_atomic(a[1], b.inttoptr(a[0], I64.as_pointer()), "release", 8)


@emitted(2, P)
def add(b: Any, a: Any) -> Any:
    return b.atomic_rmw("add", pointer(b, a[0]), a[1], "seq_cst")


@emitted(3, P)
def swap(b: Any, a: Any) -> Any:
    """1 if the word was a[1] and is now a[2]."""
    done = b.extract_value(b.cmpxchg(pointer(b, a[0]), a[1], a[2], "seq_cst", "seq_cst"), 1)
    return b.zext(done, I64)


@emitted(5)
def call(b: Any, a: Any) -> None:
    kernel = ir.FunctionType(ir.VoidType(), [I64, I64, I64, PTR]).as_pointer()
    b.call(b.inttoptr(a[0], kernel), [a[1], a[2], a[3], b.inttoptr(a[4], PTR)])


@emitted(0)
def x86_pause(b: Any, a: Any) -> None:
    b.call(function(b, "llvm.x86.sse2.pause", ir.VoidType(), []), [])


@emitted(0)
def fence(b: Any, a: Any) -> None:
    b.fence("seq_cst")


@emitted(0, P)
def now(b: Any, a: Any) -> Any:
    """Nanoseconds of the monotonic clock."""
    pair = alloca_once(b, ir.ArrayType(I64, 2))
    b.call(
        function(b, "clock_gettime", ir.IntType(32), [ir.IntType(32), PTR]),
        [ir.Constant(ir.IntType(32), MONOTONIC), pair],
    )
    seconds = b.load(b.bitcast(pair, PTR), typ=I64)
    rest = b.load(b.inttoptr(b.add(b.ptrtoint(pair, I64), i64(8)), PTR), typ=I64)
    return b.add(b.mul(seconds, i64(1_000_000_000)), rest)


@emitted(0, P)
def processor_sets(b: Any, a: Any) -> Any:
    """Room for three sets of processors and a time of two words, as long as the function runs."""
    return b.ptrtoint(alloca_once(b, ir.ArrayType(I64, 3 * SET + 2)), I64)


syscall: Any = types.ExternalFunction("syscall", types.int64(types.int64, P, types.int64, types.int64, P))


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """A worker's life, a launch, launches one after the other, and the end of all workers."""
    futex, sched_yield, set_affinity, get_affinity, getcpu = SYSTEM_CALLS[target.architecture]
    pause = x86_pause if target.architecture == "x86_64" else fence

    @inner
    def claim(taken: int, shares: int, thread: int) -> int:
        """The next share of a thread, of all that are not `taken`, or -1; every other thread begins at the back.

        So each meets much the same blocks in every call, has what they read in its cache, and writes to lines that are
        no neighbours of those that another writes at the time.
        """
        if thread & 1:
            before = add(taken, 1 << HALF)
            share = shares - 1 - (before >> HALF)
            return share if share >= before & FRONT else -1
        before = add(taken, 1)
        share = before & FRONT
        return share if share < shares - (before >> HALF) else -1

    @inner
    def share(state: int, thread: int) -> None:
        """Claim and run blocks until none are left or time is up."""
        kernel, words, blocks = read(state + FUNCTION), read(state + WORDS), read(state + BLOCKS)
        grain, deadline = read(state + GRAIN), read(state + DEADLINE)
        shares = (blocks + grain - 1) // grain
        while now() < deadline:
            mine = claim(state + TAKEN, shares, thread)
            if mine < 0:
                break
            call(kernel, mine * grain, min(blocks, (mine + 1) * grain), thread, words)

    @inner
    def idle(ticket: int, seen: int) -> bool:
        """Whether a worker that has served `seen` has nothing to do: the launch is closed, or the one it served."""
        return (ticket >> 16) & 1 == 0 or ticket >> 16 == seen

    @inner
    def keep_off(caller: int, sets: int) -> bool:
        """Stay away from a processor, if there is another; the first set is what was allowed, the second what is now."""
        if syscall(get_affinity, 0, 8 * SET, sets, 0) <= 0:
            return False
        others = 0
        for i in range(SET):
            left = word(sets, i)
            if caller >> 6 == i:
                left &= ~(1 << (caller & 63))
            write(sets + 8 * (SET + i), left)
            others |= left
        return others != 0 and syscall(set_affinity, 0, 8 * SET, sets + 8 * SET, 0) == 0

    @inner
    def go_anywhere(sets: int) -> None:
        """Undo `keep_off`, unless somebody has chosen other processors meanwhile."""
        if syscall(get_affinity, 0, 8 * SET, sets + 16 * SET, 0) > 0:
            same = True
            for i in range(SET):
                same &= word(sets, 2 * SET + i) == word(sets, SET + i)
            if same:
                syscall(set_affinity, 0, 8 * SET, sets, 0)

    @inner
    def sleep(state: int, seen: int, time: int) -> int:
        """Wait for a launch that `seen` does not know, for ever unless a time is given; 0 if there was cause to wake."""
        sequence = read(state + SEQUENCE)
        if idle(read(state + TICKET), seen) and read(state + STOP) == 0:
            return syscall(futex, state + SEQUENCE, FUTEX_WAIT_PRIVATE, sequence & 0xFFFFFFFF, time)
        return 0

    def worker(state: int, hi: int, thread: int) -> None:
        """What a native thread runs; its one argument arrives in the place of `lo`."""
        seen, sets = 0, processor_sets()
        for i in range(3 * SET + 1):  # the system writes as many words as it has processors
            write(sets + 8 * i, 0)
        nap = sets + 8 * 3 * SET
        write(nap + 8, NAP)
        while True:
            spins, until = 0, now() + AWAKE
            ticket = read(state + TICKET)
            while idle(ticket, seen):
                if read(state + STOP) != 0:
                    return
                spins += 1
                pause()
                if spins & POLLS == 0 and now() > until:
                    add(state + SLEEPERS, 1)
                    if sleep(state, seen, nap) != 0:
                        kept_off = keep_off(read(state + CALLER) & 0xFFFF, sets)
                        sleep(state, seen, 0)
                        if kept_off:
                            go_anywhere(sets)
                    add(state + SLEEPERS, -1)
                    until = now() + AWAKE
                ticket = read(state + TICKET)
            if swap(state + TICKET, ticket, ticket + 1) == 1:
                seen = ticket >> 16
                number = add(state + CAME, 1) + 1
                if number <= read(state + WANTED):
                    share(state, number)
                add(state + TICKET, -1)

    def launch(order: int, hi: int, thread: int) -> None:
        """Run the blocks of an order, called like `worker`; from `begin` to `blocks` is left what time did not allow."""
        state, kernel, words, blocks = word(order, 0), word(order, 1), word(order, 2), word(order, 3)
        begin, grain, workers, large = word(order, 4), word(order, 5), word(order, 6), word(order, 7)
        started = now()
        deadline = started + SLICE
        if workers == 0 or swap(state + BUSY, 0, 1) == 0:
            while begin < blocks and now() < deadline:
                stop = min(blocks, begin + grain)
                call(kernel, begin, stop, 0, words)
                begin = stop
            write(order + 8 * 4, begin)
            return
        write(state + FUNCTION, kernel)
        write(state + WORDS, words)
        write(state + BLOCKS, blocks)
        write(state + GRAIN, grain)
        write(state + WANTED, workers)
        write(state + DEADLINE, deadline)
        write(state + TAKEN, begin // grain)
        write(state + CAME, 0)
        row = read(state + ROW) + 1 if started - read(state + ENDED) < AWAKE else 0
        write(state + ROW, row)
        add(state + TICKET, 1 << 16)
        add(state + SEQUENCE, 1)
        if read(state + SLEEPERS) > 0 and (large != 0 or row >= WOKEN_FROM):
            syscall(getcpu, state + CALLER, 0, 0, 0)
            syscall(futex, state + SEQUENCE, FUTEX_WAKE_PRIVATE, workers, 0)
        share(state, 0)
        add(state + TICKET, 1 << 16)
        spins = 0
        while read(state + TICKET) & 0xFFFF != 0:
            pause()
            spins += 1
            if spins > SPINS:  # whoever is inside may be waiting for this processor
                syscall(sched_yield, 0, 0, 0, 0)
        taken = read(state + TAKEN)
        shares = (blocks + grain - 1) // grain
        write(order + 8 * 3, min(blocks, (shares - (taken >> HALF)) * grain))
        write(order + 8 * 4, (taken & FRONT) * grain)
        write(state + ENDED, now())
        write(state + BUSY, 0)

    def sequence(lo: int, hi: int, thread: int, table: int, steps: int, counters: int) -> None:
        """Each of blocks lo..hi goes through all steps, after the others' blocks of each; none needs to come at all.

        A step is a row of `table`: kernel, words, blocks, grain. Its two counters begin at 0: shares taken, and blocks done.
        """
        for _ in range(lo, hi):
            for step in range(steps):
                row, taken = table + 32 * step, counters + 2 * LINE * step
                kernel, words, blocks, grain = word(row, 0), word(row, 1), word(row, 2), word(row, 3)
                done = taken + LINE
                shares = (blocks + grain - 1) // grain
                mine = claim(taken, shares, thread)
                while mine >= 0:
                    first, end = mine * grain, min(blocks, (mine + 1) * grain)
                    call(kernel, first, end, thread, words)
                    add(done, end - first)
                    mine = claim(taken, shares, thread)
                spins = 0
                while read(done) < blocks:
                    pause()
                    spins += 1
                    if spins > SPINS:  # whoever has taken a block may be waiting for this processor
                        syscall(sched_yield, 0, 0, 0, 0)

    def apart(lo: int, hi: int, thread: int, table: int, steps: int) -> None:
        """Each of blocks lo..hi is so many steps, of which one thread does all: what it writes others do not read.

        A step is a row of `table`: kernel, words, blocks; no blocks where a chain is shorter than others.
        """
        for block in range(lo, hi):
            for row in range(table + 24 * steps * block, table + 24 * steps * (block + 1), 24):
                if word(row, 2) > 0:
                    call(word(row, 0), 0, word(row, 2), 0, word(row, 1))

    def stop(lo: int, hi: int, thread: int, state: int) -> None:
        """Send all workers home, when they have finished what they do."""
        write(state + STOP, 1)
        add(state + SEQUENCE, 1)
        syscall(futex, state + SEQUENCE, FUTEX_WAKE_PRIVATE, EVERYONE, 0)

    return {"worker": worker, "launch": launch, "sequence": sequence, "apart": apart, "stop": stop}
