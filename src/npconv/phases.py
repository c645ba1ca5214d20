"""The phases of a strided transposition together: one convolution in place of them all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from .geometry import ConvGeometry, Ints, Phase, closing_pad, effective_kernel, total
from .records import dataclass, replace


@dataclass(frozen=True, eq=False)
class Joint:
    """All phases in one convolution of stride 1: phase i has output channels i O to (i + 1) O of each group.

    Its kernel has the taps of the longest phase; a shorter one is filled up with zeros at the end. Outputs of phase i
    stand from ``starts[i]`` on, ``sizes[i]`` along each axis.
    """

    geometry: ConvGeometry
    phases: tuple[Phase, ...]
    starts: tuple[Ints, ...]
    sizes: tuple[Ints, ...]

    @cached_property
    def one(self) -> ConvGeometry:
        """The same with the outputs of one phase."""
        return replace(self.geometry, out_channels=self.geometry.out_channels // len(self.phases))

    @cached_property
    def kernel(self) -> Ints:
        """The sizes of the kernel whose taps are theirs."""
        ends = [
            [
                (s.start or 0) + (k - 1) * (s.step or 1) + 1
                for s, k in zip(phase.taps, phase.geometry.kernel, strict=True)
            ]
            for phase in self.phases
            if phase.geometry is not None
        ]
        return tuple(map(max, zip(*ends, strict=True)))


def joint(phases: Sequence[Phase]) -> Joint | None:
    """One convolution in place of these phases, or None where there is none."""
    parts = [phase.geometry for phase in phases]
    real = [g for g in parts if g is not None and g.terms and total(g.y_shape)]
    if len(real) < 2 or len(real) < len(parts) or any(s != 1 for g in real for s in g.stride):
        return None
    first, rank = real[0], real[0].rank
    kernel = tuple(max(g.kernel[i] for g in real) for i in range(rank))
    before = tuple(max(g.padding[i][0] for g in real) for i in range(rank))
    starts = tuple(tuple(before[i] - g.padding[i][0] for i in range(rank)) for g in real)
    sizes = tuple(g.out_shape for g in real)
    out = tuple(max(a[i] + n[i] for a, n in zip(starts, sizes, strict=True)) for i in range(rank))
    pads = tuple(
        (lo, closing_pad(n, lo, effective_kernel(k, d), 1, m))
        for n, lo, k, d, m in zip(first.in_shape, before, kernel, first.dilation, out, strict=True)
    )
    whole = replace(first, out_channels=len(real) * first.out_channels, kernel=kernel, padding=pads)
    return Joint(whole, tuple(phases), starts, sizes)


def strided(where: tuple[slice, ...], steps: Ints) -> tuple[int, Ints]:
    """Where the elements at these slices begin, and how far apart they lie, of elements that lie `steps` apart."""
    begin = sum((each.start or 0) * step for each, step in zip(where, steps, strict=True))
    return begin, tuple((each.step or 1) * step for each, step in zip(where, steps, strict=True))
