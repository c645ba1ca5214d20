"""How many threads, and who runs them: `set_num_threads`, and one way to run the blocks of a kernel.

Workers start with the first launch that wants them and sleep in native code, without the interpreter's lock. A forked
child starts with none. Where there is no futex, blocks run on the caller's thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator

import numpy as np

from .library import Kernel, kernel

#: Blocks of fewer floating-point operations than this run on the caller's thread: waking a worker costs more.
SERIAL_FLOPS = 1_000_000
ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
NATIVE = sys.platform == "linux"


def _processors() -> int:
    given = os.environ.get("NPCONV_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_default = _processors()
_local = threading.local()


def get_num_threads() -> int:
    """The number of threads that compiled kernels use when called from this thread."""
    return getattr(_local, "threads", _default)


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
    before = getattr(_local, "threads", None)
    _local.threads = n
    try:
        yield
    finally:
        if before is None:
            del _local.threads
        else:
            _local.threads = before


def _checked(op: str, n: object) -> int:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"{op}: n must be an int, got {n!r} of type {type(n).__name__}; use 1 or more")
    if n < 1:
        raise ValueError(f"{op}: n must be >= 1, got {n}; use 1 or more threads")
    return int(n)


class _Pool:
    """The state that workers and launches share; never freed, because a sleeping worker still looks at it."""

    def __init__(self) -> None:
        from .driver import STATE_BYTES

        size = STATE_BYTES + 64
        self.memory = ctypes.create_string_buffer(size)
        self.state = -(-ctypes.addressof(self.memory) // 64) * 64
        self.workers = 0
        self.lock = threading.Lock()
        self.words = (ctypes.c_int64 * 1)(self.state)
        self.worker = ENTRY(kernel("threads", "worker").address)
        self.launch = ENTRY(kernel("threads", "launch").address)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    def grow(self, workers: int) -> None:
        """Have at least this many workers."""
        with self.lock:
            while self.workers < workers:
                index = self.workers + 1
                thread = threading.Thread(
                    target=self.worker,
                    args=(0, 0, index, ctypes.addressof(self.words)),
                    name=f"npconv-{index}",
                    daemon=True,
                )
                try:
                    thread.start()
                except RuntimeError:  # no more threads to be had, or the interpreter is ending: fewer will do
                    return
                self.workers += 1


_pool: _Pool | None = None
_pool_lock = threading.Lock()


def _forget() -> None:
    """A forked child has no workers."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _shared() -> _Pool:
    global _pool
    if _pool is None:
        with _pool_lock:
            if _pool is None:
                _pool = _Pool()
    return _pool


def run(entry: Kernel, words: np.ndarray, blocks: int, flops: float, grain: int = 1) -> None:
    """Run blocks 0..blocks of a kernel on this call's threads; `words` are its arguments, int64.

    Every block must write what no other block of the launch reads or writes.
    """
    address = words.ctypes.data
    threads = get_num_threads()
    if flops < SERIAL_FLOPS:
        _entry(entry.address)(0, blocks, 0, address)
        return
    if not NATIVE:
        for first in range(0, blocks, grain):
            _entry(entry.address)(first, min(blocks, first + grain), 0, address)
        return
    pool = _shared()
    workers = min(threads, -(-blocks // grain)) - 1
    if pool.workers < workers:
        pool.grow(workers)
    order = (ctypes.c_int64 * 9)(pool.state, entry.address, address, blocks, 0, grain, workers, 0, 0)
    place = ctypes.addressof(order)
    order[7] = place + 64
    while order[4] < blocks:
        pool.launch(0, 0, 0, place)
        order[4] = order[8]


_entries: dict[int, object] = {}


def _entry(address: int):  # type: ignore[no-untyped-def]  # ctypes makes a class per prototype
    found = _entries.get(address)
    if found is None:
        found = _entries[address] = ENTRY(address)
    return found
