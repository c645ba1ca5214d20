"""Sizes against counting by brute force: everything the specification allows is accepted, and counted right."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest

from npconv import geometry as geo
from npconv.geometry import ConvGeometry


def fits(padded: int, k: int, d: int, s: int) -> int:
    """Windows of k taps, d apart, that start at multiples of s and lie inside, counted one by one."""
    count = 0
    for start in range(0, padded, s):
        count += all(start + t * d < padded for t in range(k))
    return count


def test_windows_are_counted():
    for padded, k, d, s in product(range(1, 15), range(1, 5), range(1, 4), range(1, 5)):
        e = geo.effective_kernel(k, d)
        if e <= padded:
            assert geo.window_count(padded, e, s) == fits(padded, k, d, s), (padded, k, d, s)


def test_the_closing_pad_leaves_exactly_that_many_windows():
    for size, lo, k, d, s, out in product(range(6), range(-2, 4), (1, 2, 3), (1, 2), (1, 2, 3), range(1, 6)):
        hi = geo.closing_pad(size, lo, geo.effective_kernel(k, d), s, out)
        assert fits(size + lo + hi, k, d, s) == out
        assert size + lo + hi == 1 or fits(size + lo + hi - 1, k, d, s) == out - 1


def ceil_by_hand(size: int, lo: int, hi: int, k: int, s: int) -> int:
    """torch's rule in words: a window may overhang, but must not start beyond the input and the low padding."""
    starts = []
    start = 0
    while start + k <= size + lo + hi:
        starts.append(start)
        start += s
    overhangs = start - s + k < size + lo + hi
    if overhangs and start < size + lo:
        starts.append(start)
    return len(starts)


def test_ceil_rounding_by_walking_windows():
    for size, lo, hi, k, s in product(range(1, 12), (0, 1, 2), (0, 1, 2), range(1, 5), range(1, 5)):
        if k <= size + lo + hi and max(lo, hi) < k:
            assert geo.pool_count(size, lo, hi, k, s, "ceil") == ceil_by_hand(size, lo, hi, k, s), (size, lo, hi, k, s)


@pytest.mark.parametrize("size", range(1, 12))
def test_adaptive_bins_cover_everything_in_order(size: int):
    for out in range(1, 9):
        bins = [geo.adaptive_bin(i, size, out) for i in range(out)]
        assert bins[0][0] == 0
        assert bins[-1][1] == size
        assert all(a < b for a, b in bins)
        assert all(after[0] <= before[1] for before, after in pairwise(bins))


def reads(g: ConvGeometry) -> set[tuple[int, int, int]]:
    """Every (output, tap, input) that a 1-D convolution multiplies, by walking the dilated and padded axis."""
    (lo, _), (D,), (s,), (d,), (k,) = g.padding[0], g.input_dilation, g.stride, g.dilation, g.kernel
    where = {i * D + lo: i for i in range(g.in_shape[0])}
    return {(o, t, where[o * s + t * d]) for o in range(g.out_shape[0]) for t in range(k) if o * s + t * d in where}


def lines(seed: int, count: int) -> list[ConvGeometry]:
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < count:
        n, k, s, d, D = (int(v) for v in rng.integers(1, (9, 5, 5, 4, 5)))
        lo, hi = (int(v) for v in rng.integers(-2, 4, 2))
        g = ConvGeometry(1, 1, 1, (n,), (k,), (s,), (d,), ((lo, hi),), (D,))
        if g.padded_shape[0] >= g.effective[0]:
            found.append(g)
    return found


def test_phases_read_what_the_dilated_convolution_reads():
    for g in lines(0, 2000):
        found = set()
        outs = []
        for phase in g.phases():
            o = list(range(*phase.out[0].indices(g.out_shape[0])))
            t = list(range(*phase.taps[0].indices(g.kernel[0])))
            outs += o
            if phase.geometry is not None:
                assert phase.geometry.out_shape == (len(o),)
                found |= {(o[a], t[b], i) for a, b, i in reads(phase.geometry)}
        assert sorted(outs) == list(range(g.out_shape[0])), g
        assert found == reads(g), g


def test_a_tile_is_a_convolution_with_other_padding():
    for g in lines(1, 500):
        for start, stop in ((0, g.out_shape[0]), (g.out_shape[0] // 2, g.out_shape[0]), (0, (g.out_shape[0] + 1) // 2)):
            if start < stop:
                tile = g.with_out((start,), (stop - start,))
                assert tile.out_shape == (stop - start,)
                assert {(o + start, t, i) for o, t, i in reads(tile)} == {r for r in reads(g) if start <= r[0] < stop}


def test_the_transposed_convolution_reads_the_same_triples_backwards():
    for g in lines(2, 2000):
        back, k = g.transposed(), g.kernel[0]
        assert back.out_shape == g.in_shape, g
        assert {(o, k - 1 - t, i) for i, t, o in reads(back)} == reads(g), g


def test_sizes_beyond_64_bits_stay_exact():
    g = ConvGeometry(1, 1, 1, (2**61,), (3,), (1,), (2**60,), ((2**61, 2**61),), (1,))
    assert g.out_shape == (3 * 2**61 - 2**61,)
    assert g.macs == 3 * 2**62
