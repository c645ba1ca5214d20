"""The algorithms, in the order a reader should meet them, and the door for yours.

A package that declares an entry point in the group ``npconv.algorithms`` joins the tuple: npconv then verifies,
explains, races and may choose its algorithm like its own.
"""

from __future__ import annotations

import os
import sys
import warnings
from functools import lru_cache
from importlib.machinery import PathFinder
from typing import Any

from .base import Algorithm
from .blocked import Blocked
from .channelwise import Channelwise
from .depthwise import Depthwise
from .direct import Direct
from .fft import Fft
from .fused_winograd import FusedWinograd
from .gemm import Gemm
from .loops import Loops
from .pixelwise import Pixelwise
from .tiled_fft import TiledFft
from .winograd import Winograd

OWN: tuple[Algorithm, ...] = (
    Loops(),
    Direct(),
    Gemm(),
    Blocked(),
    Channelwise(),
    Pixelwise(),
    Depthwise(),
    Fft("fft", "multiplies spectra, computed in double precision; cost hardly grows with the kernel", single=False),
    Fft("fft_single", "multiplies spectra in single precision; for accuracy='fast'", single=True),
    TiledFft(),
    FusedWinograd(2),
    FusedWinograd(4),
    Winograd(2),
    Winograd(4),
    Winograd(6),
)

ENTRY_POINTS = "npconv.algorithms"


@lru_cache(maxsize=1)
def registered() -> tuple[Algorithm, ...]:
    """Our algorithms, then those of installed packages, found once per process.

    A package that fails to load must not take convolution down with it: it is left out, with a warning.
    """
    if not _declared():
        return OWN
    from importlib.metadata import entry_points

    found = list(OWN)
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            found.append(_loaded(entry.load(), {a.name for a in found}))
        except Exception as error:
            warnings.warn(f"npconv: the algorithm {entry.name!r} ({entry.value}) is left out: {error}", stacklevel=2)
    return tuple(found)


def _declared() -> bool:
    """Whether an installed package may declare one: the library that knows takes 15 ms to import, this look one."""
    if any(hasattr(finder, "find_distributions") for finder in sys.meta_path if finder is not PathFinder):
        return True
    python = os.path.dirname(os.__file__)
    for folder in sys.path:
        if folder in (python, os.path.join(python, "lib-dynload")):  # the standard library is large, and no package
            continue
        try:
            names = os.listdir(folder or os.curdir)
        except NotADirectoryError:  # an archive
            return True
        except OSError:
            continue
        for name in names:
            if name.lower().endswith("-info"):  # .dist-info, .egg-info, and EGG-INFO in an egg
                try:
                    with open(os.path.join(folder, name, "entry_points.txt"), "rb") as file:
                        if ENTRY_POINTS.encode() in file.read():
                            return True
                except OSError:  # most packages have no such file
                    continue
    return False


def _loaded(value: Any, taken: set[str]) -> Algorithm:
    """What an entry point holds, an algorithm or its class, as an algorithm whose name is free."""
    algorithm = value() if isinstance(value, type) else value
    if not isinstance(algorithm, Algorithm):
        raise TypeError(f"{algorithm!r} is no npconv Algorithm")
    if algorithm.name in taken or algorithm.name in ("", "auto", "winograd"):
        raise ValueError(f"the name {algorithm.name!r} is taken")
    return algorithm


def named(name: str) -> Algorithm:
    """The registered algorithm of this name."""
    return next(a for a in registered() if a.name == name)
