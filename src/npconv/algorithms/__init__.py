"""The algorithms, in the order a reader should meet them, and the door for yours.

A package that declares an entry point in the group ``npconv.algorithms`` joins the tuple: npconv then verifies,
explains, races and may choose its algorithm like its own.
"""

from __future__ import annotations

from functools import lru_cache

from .base import Algorithm
from .depthwise import Depthwise
from .direct import Direct
from .fft import Fft
from .gemm import Gemm
from .loops import Loops
from .winograd import Winograd

OWN: tuple[Algorithm, ...] = (
    Loops(),
    Direct(),
    Gemm(),
    Depthwise(),
    Fft("fft", "multiplies spectra, computed in double precision; cost hardly grows with the kernel", single=False),
    Fft("fft_single", "multiplies spectra in single precision; for accuracy='fast'", single=True),
    Winograd(2),
    Winograd(4),
    Winograd(6),
)

ENTRY_POINTS = "npconv.algorithms"


@lru_cache(maxsize=1)
def registered() -> tuple[Algorithm, ...]:
    """Our algorithms, then those of installed packages, found once per process."""
    from importlib.metadata import entry_points

    found = []
    names = {a.name for a in OWN}
    for entry in entry_points(group=ENTRY_POINTS):
        algorithm = entry.load()
        if isinstance(algorithm, type):
            algorithm = algorithm()
        if not isinstance(algorithm, Algorithm):
            raise TypeError(f"entry point {entry.name!r} of group {ENTRY_POINTS} is no npconv Algorithm: {algorithm!r}")
        if algorithm.name in names:
            raise ValueError(f"entry point {entry.name!r}: an algorithm named {algorithm.name!r} exists already")
        names.add(algorithm.name)
        found.append(algorithm)
    return OWN + tuple(found)


def named(name: str) -> Algorithm:
    """The registered algorithm of this name."""
    return next(a for a in registered() if a.name == name)
