"""What weights are before training, by name.

A weight array is (O, I, *k): every output reads `fan_in` = I * taps numbers, every input is read by `fan_out` = O * taps,
counted on the array as it lies, as torch does. A good start keeps the size of numbers from layer to layer: the variance
of a weight is about 1 / fan, times 2 where a ReLU throws half away.

==================  ============================  ==========================================================
he_uniform          up to sqrt(6 / fan_in)        He et al. (2015), arXiv:1502.01852
he_normal           std sqrt(2 / fan_in)          the same
glorot_uniform      up to sqrt(6 / (in + out))    Glorot and Bengio (2010), AISTATS
glorot_normal       std sqrt(2 / (in + out))      the same
lecun_uniform       up to sqrt(3 / fan_in)        LeCun et al. (1998), "Efficient BackProp"
lecun_normal        std sqrt(1 / fan_in)          the same
torch               up to sqrt(1 / fan_in)        torch's Conv and Linear, weight and bias
orthogonal          rows or columns orthonormal   Saxe et al. (2013), arXiv:1312.6120
zeros, ones
("uniform", a)      up to a
("normal", a)       std a
==================  ============================  ==========================================================
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..geometry import Ints, total
from ..reading import did_you_mean, shown

if TYPE_CHECKING:
    from .layer import Array

#: name -> (what it draws, its variance times the fan, which fan)
_SPREADS = {
    "he_uniform": ("uniform", 2.0, "in"),
    "he_normal": ("normal", 2.0, "in"),
    "glorot_uniform": ("uniform", 1.0, "mean"),
    "glorot_normal": ("normal", 1.0, "mean"),
    "lecun_uniform": ("uniform", 1.0, "in"),
    "lecun_normal": ("normal", 1.0, "in"),
    "torch": ("uniform", 1 / 3, "in"),
}
#: All that `initial` may be; the last two with a number.
NAMES = (*_SPREADS, "orthogonal", "zeros", "ones", "uniform", "normal")


def generator(rng: Any) -> np.random.Generator:
    """What ``rng=`` stands for: a Generator is used as it is, an int seeds a new one, None takes entropy."""
    if isinstance(rng, np.random.RandomState):
        raise TypeError("rng must be None, an int or a numpy.random.Generator; use np.random.default_rng(seed)")
    return np.random.default_rng(rng)


def drawn(op: str, initial: Any, shape: Ints, rng: np.random.Generator, dtype: np.dtype) -> Array:
    """Weights of this shape, (O, I, *k).

    Parameters
    ----------
    op : str
        Who asks, for messages.
    initial : str, (str, number) or function
        A name of the table above, or a function of (shape, rng) that returns an array.
    shape : tuple of int
        Of the weights.
    rng : numpy.random.Generator
        Drawn from.
    dtype : dtype
        Of the result; draws are in float64, so that every dtype starts from the same numbers.
    """
    if callable(initial):
        array = np.asarray(initial(shape, rng))
        if array.shape != shape:
            raise ValueError(f"{op}: initial gave an array of shape {array.shape}, the weights have {shape}")
        return array.astype(dtype)
    name, scale = _read(op, initial)
    if name in ("zeros", "ones"):
        return np.full(shape, name == "ones", dtype)
    if name == "orthogonal":
        return _orthogonal(shape, rng).astype(dtype)
    kind = name
    if name in _SPREADS:
        kind, gain, which = _SPREADS[name]
        fan_in, fan_out = fans(shape)
        deviation = math.sqrt(gain / max(1, fan_in if which == "in" else (fan_in + fan_out) / 2))
        scale = deviation * math.sqrt(3) if kind == "uniform" else deviation
    draw = rng.uniform(-scale, scale, shape) if kind == "uniform" else rng.normal(0.0, scale, shape)
    return draw.astype(dtype)


def bias(initial: Any, fan_in: int, length: int, rng: np.random.Generator, dtype: np.dtype) -> Array:
    """A bias to go with weights of `initial`: zeros, but for torch's own, which draws it as it draws weights."""
    if initial != "torch":
        return np.zeros(length, dtype)
    limit = math.sqrt(1 / max(1, fan_in))
    return rng.uniform(-limit, limit, length).astype(dtype)


def fans(shape: Ints) -> tuple[int, int]:
    """How many inputs an output reads, and how many outputs read an input, of weights (O, I, *k)."""
    return total(shape[1:]), shape[0] * total(shape[2:])


def _read(op: str, initial: Any) -> tuple[str, float]:
    """The name, and the number that comes with it."""
    scaled = isinstance(initial, (tuple, list)) and len(initial) == 2
    name, scale = initial if scaled else (initial, 0.0)
    if not isinstance(name, str):
        raise TypeError(f"{op}: initial must be a name, (name, number) or a function, got {shown(initial)}")
    if name not in NAMES:
        raise ValueError(f"{op}: initial={shown(name)} is unknown, needs {did_you_mean(name, NAMES)}")
    if scaled != (name in NAMES[-2:]):
        raise ValueError(
            f"{op}: initial={shown(initial)}; write ('uniform', 0.1) or ('normal', 0.1), other names alone"
        )
    if isinstance(scale, bool) or not isinstance(scale, (int, float, np.number)) or not 0 <= scale < math.inf:
        raise ValueError(f"{op}: initial={shown(initial)}: the number must be finite and not negative")
    return name, float(scale)


def _orthogonal(shape: Ints, rng: np.random.Generator) -> Array:
    """Rows of (O, I * taps) that are orthonormal, or columns where there are more rows than columns."""
    rows, columns = shape[0], total(shape[1:])
    q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)  # else the result would not be uniform over all rotations
    return (q if rows >= columns else q.T).reshape(shape)
