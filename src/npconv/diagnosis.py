"""What runs here and why: the lines that `npconv doctor` prints."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from . import __version__, dispatch
from .compiled import ahead, catalogue, store, threads
from .convolution import conv

#: What to do about a reason that begins like this.
HINTS = {
    "NPCONV_KERNELS": "unset NPCONV_KERNELS",
    "compiling": "report it with the lines above, please",
    "loading": "install npconv again, or compile here: NPCONV_KERNELS=jit",
}


def report() -> Iterator[tuple[str, str]]:
    """(subject, finding), as they are found."""
    yield "npconv", f"{__version__}, Python {platform.python_version()}, NumPy {np.__version__}"
    yield "numba", ", ".join(f"{name} {_version(name)}" for name in ("numba", "llvmlite"))
    yield "processor", f"{platform.machine()}, {_processor()}"
    yield "threads", f"{threads.get_num_threads()} of {os.cpu_count()} processors{_fork_join()}"
    why = catalogue.unavailable()
    if why is None:
        seconds = _first_call()
        why = catalogue.unavailable()
        if why is None:
            yield "compiled kernels", f"used, {catalogue.provenance()}; ready after {seconds:.3f} s"
    if why is not None:
        yield "compiled kernels", f"not used: {why}"
        yield "", next((hint for start, hint in HINTS.items() if why.startswith(start)), "NumPy does all the work")
    if ahead.loaded() is None:
        yield "ahead of time", f"no kernels: {ahead.why_not()}"
    yield "kept in", store.state()
    if "not used" in store.state():
        yield "", "NPCONV_CACHE_DIR names another directory, which should be yours alone"
    table, date = dispatch.tuned()
    yield "cost table", f"npconv's own ({date}; npconv tune measures one)" if table is None else f"tuned on {date}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _processor() -> str:
    try:
        from .compiled.target import UnsupportedCPUError, host
    except ImportError:
        return "unknown without llvmlite"
    try:
        target = host()
    except ImportError:
        return "unknown without llvmlite"
    except UnsupportedCPUError as error:
        return str(error)
    if (made := ahead.loaded()) is not None:
        return f"kernels for {made.kind.name}, vectors of {8 * target.width} bits"
    asked = " (asked for by NPCONV_VECTOR_BYTES)" if os.environ.get("NPCONV_VECTOR_BYTES") else ""
    return f"{target.cpu}, vectors of {8 * target.width} bits{asked}"


def _fork_join() -> str:
    asked = ", from NPCONV_NUM_THREADS" if os.environ.get("NPCONV_NUM_THREADS") else ""
    return asked if threads.NATIVE else f"{asked}; compiled kernels use one, there is no futex here"


def _first_call() -> float:
    """Seconds until compiled kernels have done their first convolution, compiling included where it is needed."""
    x, w = np.ones((1, 16, 32, 32), np.float32), np.ones((16, 16, 3, 3), np.float32)
    started = time.perf_counter()
    conv(x, w, algorithm="blocked")
    return time.perf_counter() - started
