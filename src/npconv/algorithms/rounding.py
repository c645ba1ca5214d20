"""How much the transforms of F(m, r) amplify rounding errors: what `cook_toom.amplification` finds, written down.

Every choice of an algorithm asks for it, and deriving matrices in exact fractions takes longer than a small layer.
"""

from __future__ import annotations

#: For the tiles that our algorithms have, at the default points: by m, for r = 2 and more.
AMPLIFICATION = {
    2: (2.0, 2.6666667, 5.3320313, 7.4526912, 10.292259, 16.412698, 39.290764, 49.794084),
    3: (3.0, 5.7760417, 7.6819805, 10.827052, 16.388889, 40.104384, 49.663823),
    4: (6.8828125, 8.2998316, 12.208018, 17.355556, 42.251744, 52.119094),
    5: (9.5355339, 14.669192, 19.305556, 45.645647, 56.595399),
    6: (18.987374, 22.555556, 50.544132, 63.177782),
}


def amplification(m: int, r: int, ndim: int = 1) -> float:
    """The factor of F(m, r) nested over `ndim` axes."""
    return AMPLIFICATION[m][r - 2] ** ndim
