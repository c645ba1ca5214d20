"""Calling a kernel: its arguments as 64-bit words, most of them known ahead."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .library import Kernel
from .threads import run


def address(array: np.ndarray) -> int:
    """Where the first element of `array` lies."""
    return array.__array_interface__["data"][0]  # type: ignore[no-any-return]


class Words:
    """A kernel with all arguments that do not change from call to call.

    Parameters
    ----------
    kernel : the entry point.
    values : arguments by name, integers.
    arrays : arguments by name whose address is passed; they are kept alive.
    """

    def __init__(
        self, kernel: Kernel, values: Mapping[str, int], arrays: Mapping[str, np.ndarray] | None = None
    ) -> None:
        self.kernel, self.arrays = kernel, dict(arrays or {})
        known = {**values, **{name: address(array) for name, array in self.arrays.items()}}
        self.at = {name: i for i, name in enumerate(kernel.arguments)}
        unknown = set(known) - set(self.at)
        if unknown:
            raise ValueError(f"{kernel.name} takes no {', '.join(sorted(unknown))}")
        self.words = np.array([known.get(name, 0) for name in kernel.arguments], np.int64)
        self.missing = set(self.at) - set(known)

    def run(self, blocks: int, flops: float, grain: int = 1, **rest: int) -> None:
        """Run blocks 0..blocks with the remaining arguments."""
        if rest.keys() != self.missing:
            raise ValueError(f"{self.kernel.name} needs {sorted(self.missing)}, got {sorted(rest)}")
        words = self.words.copy()
        for name, value in rest.items():
            words[self.at[name]] = value
        run(self.kernel, words, blocks, flops, grain)
