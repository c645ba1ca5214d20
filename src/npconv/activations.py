"""Activations: what a layer does to every output of its convolution, by name. Each function is a definition.

They take real arrays, return new ones of the same dtype and never overflow on the way. They run where there is no
machine code, and `npconv.compiled.epilogue` is tested against them in float64. NaN stays NaN, and an infinity gives the
limit: gelu(-inf) is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .records import dataclass

#: Activations that keep a number between two others, and do no more.
BOUNDS = {"relu": (0.0, math.inf), "relu6": (0.0, 6.0)}
#: What leaky_relu multiplies negative numbers by, unless told.
SLOPE = 0.01
#: Below this, x sigmoid(x) and x Phi(x) are 0 in float64; it stands for -inf, so that no inf * 0 arises.
LEAST = -1000.0
#: (1 + 2 z) e^(z^2) erfc(z) for z >= 0 as a Chebyshev series in t = (z - 3.75) / (z + 3.75). The form is that of
#: Shepherd and Laframboise (1981), Math. Comp. 36, 249; its end, t = 1, is 2 / sqrt(pi).
ERFC_SHIFT = 3.75
ERFC = (
    1.1775789345674017,
    -0.004590054580646478,
    -0.08424913336651792,
    0.05920993999819189,
    -0.026658668435305753,
    0.009074997670705265,
    -0.002413163540417608,
    0.0004907758365258086,
    -6.916973302501207e-05,
    4.13902798607301e-06,
    7.74038306619849e-07,
    -2.1886401049234397e-07,
    1.076499946567091e-08,
    4.521959811218287e-09,
    -7.754400208831351e-10,
    -6.318088340886684e-11,
    2.86879501093067e-11,
    1.9455868545777347e-13,
    -9.65469674843344e-13,
    3.25254814814874e-14,
    3.3478119482868056e-14,
    -1.864562880419313e-15,
    -1.2507950530688648e-15,
    7.418235256624044e-17,
)


@dataclass(frozen=True)
class Activation:
    """An activation by its name, and the slope of leaky_relu."""

    name: str
    slope: float = 0.0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The activation of every element."""
        return leaky_relu(x, self.slope) if self.name == "leaky_relu" else TABLE[self.name](x)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The numbers between which it keeps its argument; None: it does something else."""
        return BOUNDS.get(self.name)

    def __str__(self) -> str:
        return f"leaky_relu of slope {self.slope:g}" if self.name == "leaky_relu" else self.name


def relu(x: np.ndarray) -> np.ndarray:
    """max(x, 0)"""
    return np.maximum(x, 0)


def relu6(x: np.ndarray) -> np.ndarray:
    """min(max(x, 0), 6)"""
    return np.minimum(np.maximum(x, 0), 6)


def leaky_relu(x: np.ndarray, slope: float = SLOPE) -> np.ndarray:
    """x where x > 0, else slope x"""
    return np.where(x > 0, x, x * x.dtype.type(slope))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x)"""
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1) / (1 + small)


def tanh(x: np.ndarray) -> np.ndarray:
    """(e^x - e^-x) / (e^x + e^-x)"""
    return np.tanh(x)


def silu(x: np.ndarray) -> np.ndarray:
    """x / (1 + e^-x)"""
    x = np.maximum(x, LEAST)
    return x * sigmoid(x)


def gelu(x: np.ndarray) -> np.ndarray:
    """x Phi(x), Phi the normal distribution: x (1 + erf(x / sqrt 2)) / 2"""
    wide = np.maximum(x, LEAST).astype(np.float64)
    size = np.minimum(np.abs(wide), -LEAST)
    z = size * math.sqrt(0.5)
    rough = size.astype(np.float32).astype(np.float64)  # whose square is exact
    bell = np.exp(-rough * rough / 2) * np.exp((rough - size) * (rough + size) / 2)
    series = np.polynomial.chebyshev.chebval((z - ERFC_SHIFT) / (z + ERFC_SHIFT), ERFC)
    return (np.maximum(wide, 0) - size * (bell * series / (1 + 2 * z) / 2)).astype(x.dtype)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2"""
    x = np.maximum(x, LEAST)
    inner = np.minimum(x, -LEAST)
    return x * sigmoid(math.sqrt(8 / math.pi) * (inner + 0.044715 * inner**3))


TABLE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    f.__name__: f for f in (relu, relu6, leaky_relu, sigmoid, tanh, silu, gelu, gelu_tanh)
}
#: Those that give integers for integers.
EXACT = ("relu", "relu6")
