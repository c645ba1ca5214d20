"""How a call of the channelwise kernels is cut into blocks, and the words it passes; no Numba here.

One `Launch` serves one geometry and its memory layouts, and is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from ...geometry import ConvGeometry, Ints, WindowAxis, ceil_div, covered_size, effective_kernel, three_axes, total
from .. import catalogue
from ..calls import Words
from ..panels import CHUNK, whole_lines
from .sizes import TAPS

#: Blocks that a call is cut into, at most and roughly, so that all threads have work to the end.
BLOCKS = 8
#: Floating-point operations below which a block is not worth a claim.
BLOCK_FLOPS = 100_000
#: Bytes of the inputs of a packed band: it should stay in the second-level cache.
BAND_BYTES = 192 << 10
#: Pixels of a slab of the weight gradient, roughly: what one part of the sum adds up before the parts meet.
SLAB = 64 * CHUNK


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
    from ..target import host

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


@lru_cache(maxsize=4096)
def packing_of(groups: int, channels: int, shape: Ints, strides: Ints, dtype: np.dtype) -> tuple[Words, int, int]:
    """The packing of weights, its blocks, and the elements it writes."""
    inputs, outputs, kernel = channels // groups, shape[0] // groups, shape[2:]
    at = lay_out(groups, inputs, outputs, dtype.itemsize)
    offsets = _tap_offsets(kernel, strides[2:])
    values = {
        "wide": at.wide, "pairs": at.pairs, "groups": groups, "inputs": inputs, "outputs": outputs,
        "step_o": strides[0], "step_c": strides[1], "taps": len(offsets),
    }  # fmt: skip
    arrays = {"tap_offsets": offsets}
    words = Words(catalogue.kernel("channelwise", "prepare", f"f{dtype.itemsize}"), values, arrays)
    return words, at.vectors, at.vectors * at.lanes * at.wide * len(offsets)


class Axes:
    """The three axes of a geometry, (depth, height, width); missing ones have one position."""

    def __init__(self, geometry: ConvGeometry) -> None:
        self.ins, self.outs = three_axes(geometry.in_shape, 1), three_axes(geometry.out_shape, 1)
        self.kernel = three_axes(geometry.kernel, 1)
        # a step is taken only where there is a second window or tap; so huge ones cannot overflow
        pairs = zip(three_axes(geometry.stride, 1), self.outs, strict=True)
        self.moves = tuple(s if m > 1 else 1 for s, m in pairs)
        self.fars = tuple(d if k > 1 else 1 for d, k in zip(three_axes(geometry.dilation, 1), self.kernel, strict=True))
        self.lows = three_axes(tuple(lo for lo, _ in geometry.padding), 0)

    def box(self, band: int) -> Ints:
        """The inputs that `band` rows of outputs read."""
        spans = (effective_kernel(k, d) for k, d in zip(self.kernel, self.fars, strict=True))
        outs = (1, band, self.outs[2])
        return tuple(covered_size(e, s, m) for e, s, m in zip(spans, self.moves, outs, strict=True))

    def words(self, band: int, **others: Ints) -> dict[str, int]:
        """Sizes, steps and whatever else comes in threes, by name and axis."""
        triples = {
            "in": self.ins, "out": self.outs, "taps": self.kernel, "move": self.moves, "far": self.fars,
            "lo": self.lows, "box": self.box(band), **others,
        }  # fmt: skip
        return {f"{name}_{axis}": n for name, three in triples.items() for axis, n in zip("dhw", three, strict=True)}

    def band(self, bands: int, pixel: int, packs: bool) -> int:
        """Rows of a band: an equal share, and where it is packed, no more than fits the cache."""
        band = ceil_div(self.outs[1], max(1, min(self.outs[1], bands)))
        while packs and band > 1 and total(self.box(band)) * pixel > BAND_BYTES:
            band = ceil_div(band, 2)
        return band


@lru_cache(maxsize=4096)
def plan(
    geometry: ConvGeometry, x_strides: Ints, y_strides: Ints, w_strides: Ints | None, dtype: np.dtype
) -> Launch | None:
    """The launch that computes `geometry`; None where there is nothing to compute.

    With `w_strides` the weights are as the caller has them, and each block packs what it uses.
    """
    if not total(geometry.y_shape):
        return None
    size, groups, axes = dtype.itemsize, geometry.groups, Axes(geometry)
    inputs, outputs = geometry.per_group
    at = lay_out(groups, inputs, outputs, size)
    gaps = not inputs == outputs == at.wide
    packs = gaps or (x_strides[1] != size and geometry.in_channels > 1)
    stages = gaps or (y_strides[1] != size and geometry.out_channels > 1)
    columns = 2 if at.pairs else 1
    pixel = columns * at.lanes * size
    depth, height, width = axes.outs
    slices, many = geometry.batch * depth, axes.kernel[0] * axes.kernel[1]
    flops = 2 * slices * height * width * at.vectors * at.lanes * at.wide * geometry.taps
    wanted = min(BLOCKS, ceil_div(flops, BLOCK_FLOPS))
    parts = min(at.panels, ceil_div(wanted, slices))
    band = axes.band(ceil_div(wanted, slices * parts), pixel, packs)
    bands = ceil_div(height, band)
    y_steps = three_axes(y_strides[2:], 0)
    places = np.add.outer(np.arange(band, dtype=np.int64) * y_steps[1], np.arange(width, dtype=np.int64) * y_steps[2])
    packed_at = whole_lines(8 * many * (1 + band))
    staged_at = packed_at + (whole_lines(total(axes.box(band)) * pixel) if packs else 0)
    fresh_at = staged_at + (whole_lines(band * width * pixel) if stages else 0)
    fresh = geometry.taps * at.wide * pixel if w_strides else 0
    w_step_o, w_step_c, *w_steps = w_strides or (0,) * (2 + geometry.rank)
    chunk_taps = min(axes.kernel[2], CHUNK)
    values = {
        "sliding": int(axes.moves[2] == axes.fars[2] == 1), "wide": at.wide, "parts": parts, "panels": at.panels,
        "pairs": at.pairs, "used": at.used, "bands": bands, "band": band, "groups": groups, "inputs": inputs,
        "outputs": outputs, "batch_step": x_strides[0], "step_c": x_strides[1], "y_batch_step": y_strides[0],
        "step_o": y_strides[1], "chunk_rows": CHUNK // chunk_taps if chunk_taps == axes.kernel[2] else 1,
        "chunk_taps": chunk_taps, "packs": int(packs), "stages": int(stages), "gaps": int(gaps),
        "packed_at": packed_at, "staged_at": staged_at,
        "scratch_step": fresh_at + whole_lines(fresh) + 64, "fresh": int(bool(w_strides)), "fresh_at": fresh_at,
        "w_step_o": w_step_o, "w_step_c": w_step_c,
        **axes.words(band, step=three_axes(x_strides[2:], 0), y_step=y_steps),
    }  # fmt: skip
    offsets = _tap_offsets(geometry.kernel, tuple(w_steps))
    arrays = {
        "places": places.reshape(-1),
        "zeros": np.zeros(columns * at.lanes, dtype),
        "tap_offsets": offsets,
    }
    words = Words(catalogue.kernel("channelwise", "forward", f"f{size}"), values, arrays)
    return Launch(words, slices * bands * parts, flops, values["scratch_step"])


@dataclass(frozen=True)
class GradientLaunch:
    """The gradient in parts of `size` elements together, and their sum."""

    parts: Launch
    size: int
    gather: Words
    vectors: int


@lru_cache(maxsize=4096)
def plan_gradient(
    geometry: ConvGeometry, x_strides: Ints, g_strides: Ints, w_strides: Ints, dtype: np.dtype
) -> GradientLaunch:
    """The launches that compute the weight gradient of `geometry`."""
    from ..target import host

    size, groups, axes = dtype.itemsize, geometry.groups, Axes(geometry)
    inputs, outputs = geometry.per_group
    at = lay_out(groups, inputs, outputs, size)
    packs = inputs != at.wide or (x_strides[1] != size and geometry.in_channels > 1)
    packs_g = outputs != at.wide or (g_strides[1] != size and geometry.out_channels > 1)
    depth, height, width = axes.outs
    tiles = TAPS[16 if host().width == 32 else 32]
    kind = at.wide.bit_length() if at.wide > 1 else int(geometry.taps % 9 > 0 and geometry.taps < 6)
    tile_taps = tiles[kind]
    taps = ceil_div(geometry.taps, tile_taps) * tile_taps
    slices, pixel = geometry.batch * depth, at.lanes * size
    flops = 2 * slices * height * width * at.vectors * at.lanes * at.wide * taps
    wanted = ceil_div(min(BLOCKS, ceil_div(flops, BLOCK_FLOPS)), at.vectors)
    band = axes.band(ceil_div(wanted, slices), pixel, True)  # the same for every memory layout
    bands = ceil_div(height, band)
    units = slices * bands
    slabs = min(units, max(wanted, ceil_div(slices * height * width, SLAB)))
    packed_at = whole_lines(8 * 3 * taps)
    packed_g_at = packed_at + (whole_lines(total(axes.box(band)) * pixel) if packs else 0)
    last = WindowAxis(axes.ins[2], axes.kernel[2], axes.moves[2], axes.fars[2], axes.lows[2], 0, width)
    edge_lo, edge_hi = last.inner
    shared = {"taps": taps, "wide": at.wide, "vectors": at.vectors, "slabs": slabs, "groups": groups,
              "inputs": inputs, "outputs": outputs}  # fmt: skip
    values = {
        **shared, "kind": 3 * kind, "tile_taps": tile_taps, "used": at.used, "units": units, "bands": bands, "band": band,
        "batch_step": x_strides[0], "step_c": x_strides[1], "g_batch_step": g_strides[0], "g_step_c": g_strides[1],
        "packs": int(packs), "packs_g": int(packs_g), "packed_at": packed_at, "packed_g_at": packed_g_at,
        "edge_lo": edge_lo, "edge_hi": edge_hi, "chunk": CHUNK,
        "scratch_step": packed_g_at + (whole_lines(band * width * pixel) if packs_g else 0) + 64,
        **axes.words(band, step=three_axes(x_strides[2:], 0), g_step=three_axes(g_strides[2:], 0)),
    }  # fmt: skip
    name = f"f{size}"
    arrays = {"zeros": np.zeros(at.lanes, dtype)}
    words = Words(catalogue.kernel("channelwise", "weight_grad", name), values, arrays)
    launch = Launch(words, slabs * at.vectors, flops, values["scratch_step"])
    places = {"step_o": w_strides[0], "step_c": w_strides[1], "real": geometry.taps}
    offsets = {"tap_offsets": _tap_offsets(geometry.kernel, w_strides[2:])}
    gather = Words(catalogue.kernel("channelwise", "gather", name), {**shared, **places}, offsets)
    return GradientLaunch(launch, slabs * at.vectors * taps * at.wide * at.lanes, gather, at.vectors)


def workspace(geometry: ConvGeometry, dtype: np.dtype, direction: str, workers: int) -> int:
    """Bytes beyond the output, at most: weights, or parts of their gradient, and what each worker packs."""
    at = lay_out(geometry.groups, *geometry.per_group, dtype.itemsize)
    axes = Axes(geometry)
    pixel = 2 * at.lanes * dtype.itemsize
    row = total(axes.box(1)) * pixel + axes.outs[2] * pixel
    per_worker = 2 * max(BAND_BYTES, row) + geometry.taps * (at.wide * pixel + 64 * (1 + axes.outs[1]))
    weights = at.vectors * at.lanes * at.wide * (geometry.taps + 9) * dtype.itemsize
    if direction == "weight_grad":
        weights *= ceil_div(BLOCKS, at.vectors) + ceil_div(geometry.batch * total(axes.outs), SLAB)
    return weights + workers * per_worker


def _tap_offsets(kernel: Ints, steps: Ints) -> np.ndarray:
    """Where each tap lies, in bytes."""
    offsets = [sum(t * s for t, s in zip(tap, steps, strict=True)) for tap in product(*map(range, kernel))]
    return np.array(offsets, np.int64)
