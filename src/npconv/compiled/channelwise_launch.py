"""How a call of the channelwise kernels is cut into blocks, and the words it passes; no Numba here.

One `Launch` serves one geometry and its memory layouts, and is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from ..geometry import ConvGeometry, Ints, WindowAxis, ceil_div, covered_size, effective_kernel, total
from . import library
from .calls import Words

#: Products summed before they are rounded into the output.
CHUNK = 256
#: Blocks that a call is cut into, at most and roughly, so that all threads have work to the end.
BLOCKS = 8
#: Floating-point operations below which a block is not worth a claim.
BLOCK_FLOPS = 100_000
#: Bytes of the inputs of a packed band: it should stay in the second-level cache.
BAND_BYTES = 192 << 10


@dataclass(frozen=True)
class Lanes:
    """How groups lie in vectors: `wide` lanes per group, `used` lanes in all, `pairs` panels of two vectors."""

    wide: int
    used: int
    vectors: int
    pairs: int
    lanes: int

    @property
    def panels(self) -> int:
        return self.vectors - self.pairs


@lru_cache(maxsize=1024)
def lay_out(groups: int, inputs: int, outputs: int, itemsize: int) -> Lanes:
    """Groups as powers of two, so that none straddles two vectors."""
    from ..compiled.target import host

    width = host().width
    lanes = width // itemsize
    wide = 1 << (max(inputs, outputs) - 1).bit_length()
    vectors = ceil_div(groups * wide, lanes)
    return Lanes(wide, groups * wide, vectors, vectors // 2 if wide == 1 and width != 32 else 0, lanes)


@dataclass(frozen=True)
class Launch:
    """A kernel and its arguments for one geometry and its memory layouts."""

    words: Words
    blocks: int
    flops: int
    scratch: int  # bytes per thread


def group_of(geometry: ConvGeometry) -> tuple[int, int]:
    """Input and output channels of a group."""
    return geometry.in_channels // geometry.groups, geometry.out_channels // geometry.groups


def _three(values: Ints, fill: int) -> Ints:
    """Per-axis values of up to three axes as (depth, height, width)."""
    return (fill,) * (3 - len(values)) + tuple(values)


@lru_cache(maxsize=4096)
def packing_of(groups: int, channels: int, shape: Ints, strides: Ints, dtype: np.dtype) -> tuple[Words, int, int]:
    """The packing of weights, its blocks, and the elements it writes."""
    inputs, outputs, kernel = channels // groups, shape[0] // groups, shape[2:]
    at = lay_out(groups, inputs, outputs, dtype.itemsize)
    offsets = [sum(t * s for t, s in zip(tap, strides[2:], strict=True)) for tap in product(*map(range, kernel))]
    values = {
        "wide": at.wide, "pairs": at.pairs, "groups": groups, "inputs": inputs, "outputs": outputs,
        "step_o": strides[0], "step_c": strides[1], "taps": len(offsets),
    }  # fmt: skip
    arrays = {"tap_offsets": np.array(offsets, np.int64)}
    words = Words(library.kernel("channelwise", "prepare", f"f{dtype.itemsize}"), values, arrays)
    return words, at.vectors, at.vectors * at.lanes * at.wide * len(offsets)


@lru_cache(maxsize=4096)
def plan(geometry: ConvGeometry, x_strides: Ints, y_strides: Ints, dtype: np.dtype) -> Launch | None:
    """The launch that computes `geometry`; None where there is nothing to compute."""
    if not total(geometry.y_shape):
        return None
    size, groups = dtype.itemsize, geometry.groups
    inputs, outputs = group_of(geometry)
    at = lay_out(groups, inputs, outputs, size)
    ins, outs = _three(geometry.in_shape, 1), _three(geometry.out_shape, 1)
    kernel = _three(geometry.kernel, 1)
    # a step is taken only where there is a second window or tap; so huge ones cannot overflow
    moves = tuple(s if m > 1 else 1 for s, m in zip(_three(geometry.stride, 1), outs, strict=True))
    fars = tuple(d if k > 1 else 1 for d, k in zip(_three(geometry.dilation, 1), kernel, strict=True))
    lows = _three(tuple(lo for lo, _ in geometry.padding), 0)
    steps, y_steps = _three(x_strides[2:], 0), _three(y_strides[2:], 0)
    gaps = not inputs == outputs == at.wide
    packs = gaps or (x_strides[1] != size and geometry.in_channels > 1)
    stages = gaps or (y_strides[1] != size and geometry.out_channels > 1)
    spans = tuple(effective_kernel(k, d) for k, d in zip(kernel, fars, strict=True))
    columns = 2 if at.pairs else 1
    flops = 2 * geometry.batch * total(outs) * at.vectors * at.lanes * at.wide * geometry.taps

    def box(band: int) -> Ints:
        return tuple(covered_size(e, s, m) for e, s, m in zip(spans, moves, (1, band, outs[2]), strict=True))

    pixel = columns * at.lanes * size
    wanted = min(BLOCKS, ceil_div(flops, BLOCK_FLOPS))
    parts = min(at.panels, ceil_div(wanted, geometry.batch * outs[0]))
    bands = min(outs[1], ceil_div(wanted, geometry.batch * outs[0] * parts))
    band = ceil_div(outs[1], bands)
    while packs and band > 1 and total(box(band)) * pixel > BAND_BYTES:
        band = ceil_div(band, 2)
    bands = ceil_div(outs[1], band)
    many = kernel[0] * kernel[1]
    packed_at = _aligned(8 * many * (1 + band))
    staged_at = packed_at + (_aligned(total(box(band)) * pixel + 4 * pixel) if packs else 0)
    scratch = staged_at + (_aligned(band * outs[2] * pixel) if stages else 0) + 64
    places = np.add.outer(np.arange(band, dtype=np.int64) * y_steps[1], np.arange(outs[2], dtype=np.int64) * y_steps[2])
    chunk_taps = min(kernel[2], CHUNK)
    values = {
        "sliding": int(moves[2] == fars[2] == 1), "wide": at.wide, "scratch_step": scratch, "parts": parts, "panels": at.panels, "pairs": at.pairs, "used": at.used,
        "out_d": outs[0], "bands": bands, "band": band, "out_h": outs[1], "out_w": outs[2],
        "groups": groups, "inputs": inputs, "outputs": outputs, "batch_step": x_strides[0], "step_c": x_strides[1],
        "y_batch_step": y_strides[0], "step_o": y_strides[1],
        "chunk_rows": max(1, CHUNK // chunk_taps) if chunk_taps == kernel[2] else 1, "chunk_taps": chunk_taps,
        "packs": int(packs), "stages": int(stages), "gaps": int(gaps), "staged_at": staged_at, "packed_at": packed_at,
    }  # fmt: skip
    for name, triple in (
        ("step", steps), ("in", ins), ("y_step", y_steps), ("lo", lows), ("move", moves), ("far", fars),
        ("taps", kernel), ("box", box(band)),
    ):  # fmt: skip
        values |= {f"{name}_{axis}": value for axis, value in zip("dhw", triple, strict=True)}
    arrays = {"places": places.reshape(-1), "zeros": np.zeros(columns * at.lanes, dtype)}
    words = Words(library.kernel("channelwise", "forward", f"f{size}"), values, arrays)
    return Launch(words, geometry.batch * outs[0] * bands * parts, flops, scratch)


def _aligned(count: int) -> int:
    """Bytes in whole cache lines."""
    return ceil_div(count, 64) * 64
