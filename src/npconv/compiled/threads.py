"""How many threads, and who runs them: `set_num_threads`, and one way to run the blocks of a kernel.

Workers start with the first launch that wants them and sleep in native code; Python does not know them. They end before
a fork, and both processes begin anew. Where there is no futex, blocks run on the caller's thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from .catalogue import Kernel, kernel
from .panels import LINE, whole_lines

#: Launches of fewer floating-point operations run on the caller's thread: sharing them costs more.
SERIAL_FLOPS = 1_000_000
#: Launches of one thread with fewer need no look for Ctrl-C on their way: they take some milliseconds.
UNWATCHED_FLOPS = 100_000_000
#: From this many on a single launch is worth waking workers who sleep.
WAKING_FLOPS = 16_000_000
#: What `driver.launch` is told: (state, kernel, words, blocks, begin, grain, workers, whether it is large). Packing is the
#: quickest way there.
ORDER = ctypes.c_int64 * 8
PACKED = struct.Struct("8q").pack
ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
LAUNCH = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
NATIVE = sys.platform == "linux"
#: Linux's number for replacing the set of blocked signals, and more bytes than such a set has.
SIG_SETMASK, SIGNALS = 2, 256
#: Room for the words of `driver`, one in each cache line.
STATE_BYTES = 16 * LINE


def _processors() -> int:
    given = os.environ.get("NPCONV_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Local(threading.local):
    """What a thread asked for, and what the operation that it is in uses; looking for what is not there is slow."""

    threads: int | None = None
    current: int | None = None


_default = _processors()
_local = _Local()


def current() -> int:
    """The number of threads of the operation that this thread is in: scratch is made for as many.

    It follows `set_num_threads` of another thread from one operation to the next, never inside of one.
    """
    return _local.threads or _local.current or begin()


def begin() -> int:
    """An operation begins: what `set_num_threads` said last holds until it ends."""
    _local.current = _default
    return _local.threads or _default


def get_num_threads() -> int:
    """The number of threads that compiled kernels use when called from this thread.

    Examples
    --------
    >>> import npconv
    >>> npconv.get_num_threads() >= 1
    True
    """
    return begin()


def set_num_threads(n: int) -> None:
    """Let compiled kernels use `n` threads, whoever calls them; NPCONV_NUM_THREADS sets it from outside.

    Parameters
    ----------
    n : int
        1 or more. The result of a call does not depend on it.

    Raises
    ------
    TypeError, ValueError
        If `n` is no integer, or less than 1.

    Examples
    --------
    >>> import npconv
    >>> npconv.set_num_threads(npconv.get_num_threads())
    """
    global _default
    _default = _checked("set_num_threads", n)
    begin()


@contextlib.contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Use `n` threads inside a `with` block, for calls from this thread alone.

    Parameters
    ----------
    n : int
        1 or more.

    Examples
    --------
    >>> import npconv
    >>> with npconv.num_threads(1):
    ...     npconv.get_num_threads()
    1
    """
    n = _checked("num_threads", n)
    before = _local.threads
    _local.threads = n
    try:
        yield
    finally:
        _local.threads = before


def _checked(op: str, n: object) -> int:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"{op}: n must be an int, got {n!r} of type {type(n).__name__}; use 1 or more")
    if n < 1:
        raise ValueError(f"{op}: n must be >= 1, got {n}; use 1 or more threads")
    return int(n)


class _Pool:
    """The native threads, and the state that they share with launches; never freed, because they look at it."""

    def __init__(self) -> None:
        size = STATE_BYTES + LINE
        self.memory = ctypes.create_string_buffer(size)
        self.state = whole_lines(ctypes.addressof(self.memory))
        self.words = (ctypes.c_int64 * 1)(self.state)
        self.threads: list[ctypes.c_ulong] = []
        self.full = False
        self.launch = LAUNCH(kernel("threads", "launch").address)
        self.stop = ENTRY(kernel("threads", "stop").address)
        self.worker = ctypes.c_void_p(kernel("threads", "worker").address)
        self.process = ctypes.CDLL(None)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    def grow(self, workers: int) -> None:
        """Have this many workers if the system lets us; signals stay with Python's threads."""
        with _pool_lock:
            if self is not _pool:  # somebody forked meanwhile, and this call runs alone
                return
            # not by `signal`: importing it and naming all signals takes a millisecond of the first call
            every, before = ctypes.create_string_buffer(SIGNALS), ctypes.create_string_buffer(SIGNALS)
            self.process.sigfillset(every)
            self.process.pthread_sigmask(SIG_SETMASK, every, before)
            try:
                while len(self.threads) < workers and not self.full:
                    thread = ctypes.c_ulong()
                    start = (ctypes.byref(thread), None, self.worker, ctypes.c_void_p(self.state))
                    self.full = self.process.pthread_create(*start) != 0
                    if not self.full:
                        self.threads.append(thread)
            finally:
                self.process.pthread_sigmask(SIG_SETMASK, before, None)

    def end(self) -> None:
        """Wait until no worker is left."""
        self.stop(0, 0, 0, ctypes.addressof(self.words))
        for thread in self.threads:
            self.process.pthread_join(thread, None)
        self.threads = []


_pool: _Pool | None = None
_pool_lock = threading.RLock()


def _before_fork() -> None:
    """A process forks without workers: a copy of a running thread is a half-finished one."""
    global _pool
    _pool_lock.acquire()
    pool, _pool = _pool, None
    if pool is not None:
        pool.end()


def _after_fork_in_child() -> None:
    global _pool_lock
    _pool_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=lambda: _pool_lock.release(),
        after_in_child=_after_fork_in_child,
    )


def _shared() -> _Pool:
    global _pool
    pool = _pool
    if pool is None:
        with _pool_lock:
            if _pool is None:
                _pool = _Pool()
            pool = _pool
    return pool


def run(entry: Kernel, address: int, blocks: int, flops: float, grain: int = 1) -> None:
    """Run blocks 0..blocks of a kernel on this call's threads; its arguments are the 64-bit words at `address`.

    Every block must write what no other block of the launch reads or writes, and should take well under 0.1 s:
    between blocks, after 0.2 s, Python looks for Ctrl-C.
    """
    if flops < SERIAL_FLOPS or (flops < UNWATCHED_FLOPS and current() == 1):
        _entry(entry.address)(0, blocks, 0, address)
        return
    if not NATIVE:
        for first in range(0, blocks, grain):
            _entry(entry.address)(first, min(blocks, first + grain), 0, address)
        return
    pool = _shared()
    workers = min(current(), -(-blocks // grain)) - 1
    if len(pool.threads) < workers and not pool.full:
        pool.grow(workers)
    large = flops >= WAKING_FLOPS
    order = ORDER.from_buffer_copy(PACKED(pool.state, entry.address, address, blocks, 0, grain, workers, large))
    while order[4] < order[3]:
        pool.launch(order)


_entries: dict[int, Any] = {}


def _entry(address: int) -> Any:
    found = _entries.get(address)
    if found is None:
        found = _entries[address] = ENTRY(address)
    return found
