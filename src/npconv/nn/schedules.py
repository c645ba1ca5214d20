"""Schedules: by what the rate is multiplied after t epochs. They are functions of a number, and can be put together.

    fit(..., schedule=warm_up(1, cosine(19)))     a function t -> factor; t is fractional within an epoch

At whole numbers they are torch's StepLR, CosineAnnealingLR and LinearLR (the last followed by another: SequentialLR).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..reading import shown

Schedule = Callable[[float], float]


def step(every: float, factor: float = 0.1) -> Schedule:
    """Multiply the rate by `factor` whenever `every` epochs are over.

    Examples
    --------
    >>> from npconv import nn
    >>> [nn.step(10, 0.5)(t) for t in (0, 9.9, 10, 20)]
    [1.0, 1.0, 0.5, 0.25]
    """
    _above_zero("step", "every", every)
    _above_zero("step", "factor", factor)
    return lambda t: float(factor ** math.floor(t / every))


def cosine(length: float, lowest: float = 0.0) -> Schedule:
    """Half a wave: from the full rate down to `lowest` of it after `length` epochs, and that from then on.

    Examples
    --------
    >>> from npconv import nn
    >>> [round(nn.cosine(10, 0.1)(t), 3) for t in (0, 5, 10, 11)]
    [1.0, 0.55, 0.1, 0.1]
    """
    _above_zero("cosine", "length", length)
    if not 0 <= lowest <= 1:
        raise ValueError(f"cosine: lowest is {shown(lowest)}, needs a fraction of the rate, from 0 to 1")
    return lambda t: lowest + (1 - lowest) * (1 + math.cos(math.pi * min(t / length, 1))) / 2


def warm_up(length: float, then: Schedule | None = None, *, start: float = 0.1) -> Schedule:
    """A straight line from `start` of the rate to all of it in `length` epochs; `then` goes on from there.

    Examples
    --------
    >>> from npconv import nn
    >>> schedule = nn.warm_up(2, nn.cosine(10), start=0.5)
    >>> [schedule(t) for t in (0, 1, 2, 7)]
    [0.5, 0.75, 1.0, 0.5]
    """
    _above_zero("warm_up", "length", length)
    if not 0 <= start <= 1:
        raise ValueError(f"warm_up: start is {shown(start)}, needs a fraction of the rate, from 0 to 1")

    def factor(t: float) -> float:
        if t < length:
            return start + (1 - start) * t / length
        return then(t - length) if then else 1.0

    return factor


def _above_zero(function: str, name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{function}: {name} is {shown(value)}, needs a number above 0")
