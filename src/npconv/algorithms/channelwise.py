"""Small groups in machine code: prefer it for depthwise convolution and for groups of up to eight channels.

With few channels per group there is no matrix product to speak of, so lanes are channels and every tap is a multiply-add
of x as it lies, on sums that stay in registers. Needs numba (extra `fast`). The kernel is `npconv.compiled.channelwise`.

Sources: Sifre (2014), "Rigid-motion scattering for image classification"; Xie et al. (2017), arXiv:1611.05431 (groups).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from ..compiled import library, threads
from ..compiled.calls import Words, address
from ..geometry import ConvGeometry, Ints, ceil_div, covered_size, effective_kernel, total
from .base import Algorithm, Cost, ErrorBound

#: Channels of a group, in or out, at most: wider groups fill the lanes of a matrix product.
WIDEST_GROUP = 8
#: Products summed before they are rounded into the output.
CHUNK = 256
#: Blocks that a call is cut into, at most and roughly, so that all threads have work to the end.
BLOCKS = 8
#: Floating-point operations below which a block is not worth a claim.
BLOCK_FLOPS = 100_000
#: Bytes of the inputs of a packed band: it should stay in the second-level cache.
BAND_BYTES = 192 << 10
#: Positions of a padded axis, at most: the kernel's arithmetic on them stays far from 64 bits.
FAR = 2**40


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
class Prepared:
    """Weights as the kernel reads them, (panel, tap, r, columns, lanes), and the bias by lanes, if any."""

    weights: np.ndarray
    bias: np.ndarray | None = None


@dataclass(frozen=True)
class Launch:
    """A kernel and its arguments for one geometry and its memory layouts."""

    words: Words
    blocks: int
    flops: int
    scratch: int  # bytes per thread


class Channelwise(Algorithm):
    """Lanes are channels; see the module."""

    name = "channelwise"
    summary = "one multiply-add per tap, channels side by side in vectors; for small groups; machine code"
    accuracy = ("standard", "fast")

    def why_not(self, geometry: ConvGeometry, dtype: np.dtype) -> str | None:
        missing = library.unavailable()
        if missing:
            return missing
        if dtype.kind != "f" or dtype.itemsize not in (4, 8):
            return f"needs float32 or float64, the dtype is {dtype}"
        if geometry.rank > 3:
            return f"needs up to 3 spatial axes, there are {geometry.rank}"
        if max(geometry.padded_shape, default=0) > FAR:
            return f"needs axes of up to {FAR} positions, padding included"
        group = _group(geometry)
        lanes = lay_out(geometry.groups, 1, 1, dtype.itemsize).lanes
        if max(group) > min(lanes, WIDEST_GROUP):
            return f"needs groups of up to {min(lanes, WIDEST_GROUP)} channels, in and out, there are {group}"
        return None

    def error_bound(self, geometry: ConvGeometry, dtype: np.dtype) -> ErrorBound:
        return ErrorBound(128, "window")

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        size = dtype.itemsize
        at = lay_out(geometry.groups, *_group(geometry), size)
        lanes, taps = at.vectors * at.lanes, geometry.taps
        pixels = geometry.batch * total(geometry.out_shape)
        inputs = geometry.batch * total(geometry.in_shape) * geometry.in_channels
        weights = lanes * at.wide * taps
        band = 2 * at.lanes * total(geometry.padded_shape[1:]) * (geometry.effective[0] + 8) if geometry.rank else 0
        return Cost(
            2 * pixels * lanes * at.wide * taps,
            (inputs + pixels * geometry.out_channels) * size,
            1,
            (weights + min(band, 2 * at.lanes * total(geometry.padded_shape))) * size,
            engine="compiled",
        )

    def prepare(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Prepared:
        w = np.asarray(w, dtype)
        words, vectors, size = _packing(geometry.groups, geometry.in_channels, w.shape, w.strides, dtype)
        to = np.empty(size, dtype)
        words.run(vectors, 0, w=address(w), to=address(to))
        return Prepared(to)

    def forward(self, x: np.ndarray, prepared: Prepared, geometry: ConvGeometry, out: np.ndarray) -> None:
        x = np.asarray(x, out.dtype)
        launch = plan(geometry, x.strides, out.strides, out.dtype)
        if launch is None:
            return
        scratch = np.empty(launch.scratch * min(threads.get_num_threads(), launch.blocks), np.uint8)
        launch.words.run(
            launch.blocks,
            launch.flops,
            x=address(x),
            w=address(prepared.weights),
            bias=0 if prepared.bias is None else address(prepared.bias),
            y=address(out),
            scratch=address(scratch),
        )


def _group(geometry: ConvGeometry) -> tuple[int, int]:
    """Input and output channels of a group."""
    return geometry.in_channels // geometry.groups, geometry.out_channels // geometry.groups


def _three(values: Ints, fill: int) -> Ints:
    """Per-axis values of up to three axes as (depth, height, width)."""
    return (fill,) * (3 - len(values)) + tuple(values)


@lru_cache(maxsize=4096)
def _packing(groups: int, channels: int, shape: Ints, strides: Ints, dtype: np.dtype) -> tuple[Words, int, int]:
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
    inputs, outputs = _group(geometry)
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

