"""A small convolution as plain arrays of two spatial axes: what the pictures that show numbers start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .. import conv_transpose
from ..conv_arguments import read, with_defaults
from ..geometry import Ints, covered_size
from ..problem import ConvProblem
from ..transposed_problem import read_transpose
from ..windows import pad, pad_mode

#: What would turn or exchange axes: the caller can do that better, and sees what is drawn.
REFUSED = {
    "flip": "draw w[..., ::-1, ::-1]",
    "layout": "move the channels to the front",
    "kernel_layout": "move the channels to the front",
}


@dataclass(frozen=True)
class Drawable:
    """A resolved convolution x * w -> y of one image. `frame` coordinates count all padded and all cropped positions."""

    problem: ConvProblem
    options: dict[str, Any]
    plain: bool  # whether the caller's arrays have no channel axes

    def _two(self, sizes: Ints, fill: int = 1) -> tuple[int, int]:
        """A height and a width from one or two sizes."""
        first, second = ((fill,) * (2 - len(sizes)) + tuple(sizes))[:2]
        return first, second

    @property
    def kernel(self) -> tuple[int, int]:
        return self._two(self.problem.geometry.kernel)

    @property
    def stride(self) -> tuple[int, int]:
        return self._two(self.problem.geometry.stride)

    @property
    def dilation(self) -> tuple[int, int]:
        return self._two(self.problem.geometry.dilation)

    @property
    def out(self) -> tuple[int, int]:
        return self._two(self.problem.geometry.out_shape)

    @property
    def channels(self) -> tuple[int, int, int]:
        """C, O and how many groups."""
        geometry = self.problem.geometry
        return geometry.in_channels, geometry.out_channels, geometry.groups

    @property
    def pads(self) -> tuple[tuple[int, int], ...]:
        """The padding the caller asked for, whatever its mode."""
        found = self.problem.padded.pads if self.problem.padded else self.problem.geometry.padding
        return ((0, 0),) * (2 - len(found)) + tuple(found)

    @property
    def spread(self) -> tuple[int, int]:
        """The input dilation."""
        return self._two(self.problem.input_dilation)

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        channels, outputs, groups = self.channels
        return outputs, channels // groups, *self.kernel

    @property
    def y_shape(self) -> tuple[int, int, int]:
        return self.channels[1], *self.out

    @property
    def x_shape(self) -> tuple[int, int, int]:
        return self.channels[0], *self._two(self.problem.in_shape)

    @cached_property
    def own(self) -> np.ndarray:
        """(FH, FW): where the frame holds an element of x."""
        ones = pad(np.ones((1, *self.x_shape), bool), ((0, 0), (0, 0)), self.spread)
        return pad(ones, self._outside)[0, 0]

    @property
    def _outside(self) -> tuple[tuple[int, int], ...]:
        """The padding without what it crops."""
        return tuple((max(lo, 0), max(hi, 0)) for lo, hi in self.pads)

    def framed(self, x: np.ndarray) -> np.ndarray:
        """x (C, H, W) with the zeros between and the padding around it: (C, FH, FW)."""
        spread = pad(x[None], ((0, 0), (0, 0)), self.spread)
        padded = self.problem.padded
        return pad_mode(spread, self._outside, padded.mode if padded else "zeros", padded.value if padded else 0)[0]

    def at(self, p: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Frame rows (kh, 1) and columns (1, kw) that the window of output `p` reads."""
        taps = [self._start(a) + p[a] * self.stride[a] + self.dilation[a] * np.arange(self.kernel[a]) for a in (0, 1)]
        return taps[0][:, None], taps[1][None]

    def met(self, t: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Frame rows (H', 1) and columns (1, W') that tap `t` reads, output by output."""
        taps = [self._start(a) + t[a] * self.dilation[a] + self.stride[a] * np.arange(self.out[a]) for a in (0, 1)]
        return taps[0][:, None], taps[1][None]

    def _start(self, axis: int) -> int:
        return max(0, -self.pads[axis][0])

    def marked(self, where: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """(FH, FW) of bool."""
        found = np.zeros(self.own.shape, bool)
        found[where] = True
        return found

    def scattered(self, g: np.ndarray, w: np.ndarray) -> np.ndarray:
        """g (O, H', W') spread over the frame by w: (C, FH, FW), padding included."""
        sums = conv_transpose(g, w, stride=self.stride, dilation=self.dilation, groups=self.channels[2])
        frame = np.zeros((self.channels[0], *self.own.shape), sums.dtype)
        sizes = [covered_size(e, s, n) for e, s, n in zip(self._spans, self.stride, self.out, strict=True)]
        (top, height), (left, width) = ((self._start(a), sizes[a]) for a in (0, 1))
        frame[:, top : top + height, left : left + width] = sums
        return frame

    @property
    def _spans(self) -> tuple[int, int]:
        return self._two(self.problem.geometry.effective)


def arrays(op: str, **given: Any) -> dict[str, np.ndarray]:
    """The operands as finite real arrays, integers as int64, whose products do not wrap."""
    found = {name: np.asarray(value) for name, value in given.items()}
    for name, array in found.items():
        if array.dtype.kind not in "iuf":
            raise TypeError(f"{op}: {name} has dtype {array.dtype}, expected real numbers")
        if not np.isfinite(array).all():
            raise ValueError(f"{op}: {name} has NaN or infinity; a cell is drawn empty where a number is not known yet")
    return {name: a.astype(np.int64) if a.dtype.kind in "iu" else a for name, a in found.items()}


def drawable(op: str, x_shape: Ints, w_shape: Ints, options: Mapping[str, Any], transposed: bool = False) -> Drawable:
    """Resolve a call for drawing: x (C, *in) and w (O, C/G, *k), or (*in) and (*k), with one or two spatial axes."""
    for name, instead in REFUSED.items():
        if name in options:
            raise TypeError(f"{op}: {name!r} is not drawn; {instead}")
    plain = len(x_shape) == len(w_shape)
    x_shape, w_shape = ((1, *x_shape), (1, 1, *w_shape)) if plain else (x_shape, w_shape)
    rank = len(w_shape) - 2
    if rank not in (1, 2) or len(x_shape) != rank + 1:
        raise ValueError(
            f"{op}: shapes {x_shape} and {w_shape} are not (C, *in) and (O, C/groups, *k) with one or two spatial axes; "
            "draw one image, without the batch axis"
        )
    if transposed:
        problem = read_transpose(op, x_shape, w_shape, options)
    else:
        problem = read(op, x_shape, w_shape, with_defaults(op, options))
    return Drawable(problem, dict(options), plain)


def in_shape(op: str, name: str, array: np.ndarray, shape: Ints) -> np.ndarray:
    """An operand with its channel axes."""
    if array.shape != shape and array.shape != shape[-array.ndim :]:
        raise ValueError(f"{op}: {name}.shape is {array.shape}, expected {shape}")
    return array.reshape(shape)
