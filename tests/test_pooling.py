"""Pooling by hand: small cases worked out on paper, rules R3, R13 to R19, and paths that drawn problems miss.

Drawn problems against the loops of reference.py are in test_pooling_against_reference.py, torch is in
test_torch_pools.py.
"""

import itertools

import ml_dtypes
import numpy as np
import pytest

import npconv
from npconv import reduction
from npconv.geometry import BinAxis, WindowAxis
from npconv.pool_problem import read_geometry

NAN, INF = np.nan, np.inf
SQUARE = np.array([[1.0, 5.0, 2.0, 0.0], [4.0, 3.0, 8.0, 8.0], [7.0, 6.0, 1.0, 2.0], [0.0, 9.0, 4.0, 3.0]])
IMAGE = SQUARE[None, None]


def line(*values, dtype=float) -> np.ndarray:
    """One sample of one channel."""
    return np.array([[values]], dtype=dtype)


def same(got, expected, dtype=None) -> None:
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == (np.dtype(float) if dtype is None else dtype)


# --- maximum, average, norm


def test_max_pool_of_a_square():
    same(npconv.max_pool(IMAGE, 2)[0, 0], [[5, 8], [9, 4]])
    same(npconv.max_pool(IMAGE, 3, stride=1)[0, 0], [[8, 8], [9, 9]])
    same(npconv.max_pool(IMAGE, (1, 3), stride=(2, 1))[0, 0], [[5, 5], [7, 6]])
    same(npconv.max_pool(IMAGE, 2, dilation=2, stride=1)[0, 0], [[7, 6], [8, 9]])


def test_avg_pool_of_a_square():
    same(npconv.avg_pool(IMAGE, 2)[0, 0], [[13 / 4, 18 / 4], [22 / 4, 10 / 4]])
    same(npconv.avg_pool(IMAGE, 2, dilation=2, stride=1)[0, 0], [[11 / 4, 13 / 4], [16 / 4, 23 / 4]])


def test_lp_pool_of_a_line():
    same(npconv.lp_pool(line(3, -4, 0, 0, 5, 12), (2,)), line(5, 0, 13))
    same(npconv.lp_pool(line(3, -4, 0, 0, 5, 12), (2,), p=1), line(7, 0, 17))
    same(npconv.lp_pool(line(3, -4, 0, 0, 5, 12), (2,), p=INF), line(4, 0, 12))
    np.testing.assert_allclose(npconv.lp_pool(line(1, 1, 1), (3,), p=0.5), line(9))


def test_gradients_of_a_line():
    g, x = line(10, 20, 30), line(1, 4, 2, 3)
    same(npconv.max_pool_grad(g, x, (2,), stride=1), line(0, 30, 0, 30))
    same(npconv.avg_pool_grad(g, (1, 1, 4), (2,), stride=1), line(5, 15, 25, 15))
    same(npconv.lp_pool_grad(line(10), line(-3, 4), (2,)), line(-6, 8))
    same(npconv.lp_pool_grad(line(10), line(-3, 4), (2,), p=1), line(-10, 10))
    same(npconv.lp_pool_grad(line(10), line(-4, 4), (2,), p=INF), line(-10, 0))  # the first takes it
    same(npconv.lp_pool_grad(line(10), line(0, 0), (2,)), line(0, 0))
    np.testing.assert_allclose(npconv.lp_pool_grad(line(1), line(0, 4), (2,), p=0.5), line(0, 1))


# --- sizes and divisors: R3, R13


@pytest.mark.parametrize(("options", "size"), [({}, 3), ({"ceil_mode": True}, 3), ({"cover_all": True}, 4)])
def test_r3_rounding_of_nine_by_four(options, size):
    assert npconv.avg_pool(np.ones((1, 1, 9)), (4,), stride=4, padding=2, **options).shape == (1, 1, size)


@pytest.mark.parametrize(
    ("length", "k", "s", "lo", "hi", "rounding", "count"),
    [
        (9, 4, 4, 2, 2, "floor", 3),
        (9, 4, 4, 2, 2, "ceil", 3),  # the fourth window would start at 12 >= 9 + 2
        (9, 4, 4, 2, 2, "cover_all", 4),
        (7, 2, 2, 0, 0, "floor", 3),
        (7, 2, 2, 0, 0, "ceil", 4),
        (7, 2, 2, 0, 0, "cover_all", 4),
        (8, 2, 2, 0, 0, "ceil", 4),
        (5, 2, 3, 0, 1, "ceil", 2),
    ],
)
def test_r3_counts(length, k, s, lo, hi, rounding, count):
    flags = {"ceil_mode": rounding == "ceil", "cover_all": rounding == "cover_all"}
    assert read_geometry("pool", (length,), k, s, ((lo, hi),), 1, **flags).out_shape == (count,)


def test_r13_what_a_window_counts():
    """Windows of 3, 2 apart, over [pad 1 2 3 4 5 6 pad] and one position more that ceil_mode adds."""
    x = line(1, 2, 3, 4, 5, 6)
    options = {"stride": 2, "padding": 1, "ceil_mode": True}
    same(npconv.avg_pool(x, (3,), **options), line(3 / 3, 9 / 3, 15 / 3, 6 / 2))
    same(npconv.avg_pool(x, (3,), count_include_pad=False, **options), line(3 / 2, 9 / 3, 15 / 3, 6 / 1))
    same(npconv.avg_pool(x, (3,), divisor=2, **options), line(3 / 2, 9 / 2, 15 / 2, 6 / 2))


def test_r13_a_window_that_counts_nothing_gives_zero():
    """The third window of cover_all reads positions 6 and 7; the input ends at 5 and its padding at 6."""
    options = {"stride": 3, "padding": ((0, 1),), "cover_all": True}
    same(npconv.avg_pool(line(1, 2, 3, 4, 5), (2,), **options), line(1.5, 4.5, 0))
    gap = {"stride": 1, "padding": 1, "dilation": 2}  # taps at -1 and 1 of a single input at 0
    same(npconv.avg_pool(line(7), (2,), **gap), line(0))
    same(npconv.avg_pool(line(7), (2,), count_include_pad=False, **gap), line(0))
    same(npconv.avg_pool_grad(line(1), (1, 1, 1), (2,), count_include_pad=False, **gap), line(0))
    same(npconv.lp_pool(line(7), (2,), **gap), line(0))


# --- R14, R15: padding, ties, NaN


def test_r14_padding_never_wins():
    same(npconv.max_pool(line(-3, -5), (3,), stride=1, padding=2), line(-3, -3, -3, -5))
    least = np.iinfo(np.int8).min
    y, i = npconv.max_pool(line(least, least, dtype=np.int8), (3,), stride=1, padding=2, return_indices=True)
    same(y, line(least, least, least, least), np.int8)
    same(i, line(0, 0, 0, 1), np.int64)
    y, i = npconv.max_pool(line(-INF, -INF), (2,), stride=1, padding=1, return_indices=True)
    same(y, line(-INF, -INF, -INF))
    same(i, line(0, 0, 1), np.int64)


def test_r14_a_window_without_any_input_is_refused():
    with pytest.raises(ValueError) as error:
        npconv.max_pool(line(7), (2,), stride=1, padding=1, dilation=2)
    assert str(error.value) == (
        "max_pool: window 0 on axis 0 reads no input: its taps stand at -1 + 2 t for t < 2, "
        "the inputs at 0 <= position < 1; use less padding or dilation, pad x first, or change ceil_mode, cover_all or "
        "layout='channels_first'"
    )
    for call in (
        lambda: npconv.max_pool_grad(line(7), line(7), (2,), stride=1, padding=1, dilation=2),
        lambda: npconv.max_pool(np.ones((1, 1, 0)), (3,), padding=2),
        lambda: npconv.adaptive_max_pool(np.ones((1, 1, 0)), 1),
        lambda: npconv.global_max_pool(np.ones((1, 1, 0))),
    ):
        with pytest.raises(ValueError, match="window 0 on axis 0 reads no input"):
            call()


def test_r15_ties_go_to_the_first_in_row_major_order():
    x = np.array([[0.0, 8.0], [8.0, 8.0]])[None, None]
    assert npconv.max_pool(x, 2, return_indices=True)[1].item() == 1
    same(npconv.max_pool_grad(np.full((1, 1, 1, 1), 5.0), x, 2)[0, 0], [[0, 5], [0, 0]])
    same(npconv.global_max_pool_grad(np.full((1, 1, 1, 1), 5.0), x)[0, 0], [[0, 5], [0, 0]])


@pytest.mark.parametrize("place", range(9))
def test_r15_nan_is_the_maximum_wherever_it_stands(place):
    x = np.arange(9.0)
    x[place] = x[8] = NAN
    square = x.reshape(1, 1, 3, 3)
    for one in (
        npconv.max_pool(square, 3, return_indices=True),
        npconv.adaptive_max_pool(square, 1, return_indices=True),
    ):
        assert np.isnan(one[0]).all()
        assert one[1].item() == place
    y, i = npconv.max_pool(np.tile(square, (2, 2)), 3, return_indices=True)  # few large windows take another path
    assert np.isnan(y).all()
    first = np.array([[0, 3], [18, 21]]) + place // 3 * 6 + place % 3
    np.testing.assert_array_equal(i[0, 0], first)


def test_nan_stays_in_its_windows():
    x = np.ones((1, 2, 6, 6))
    x[0, 0, 2, 2] = NAN
    for pool in (npconv.max_pool, npconv.avg_pool, npconv.lp_pool):
        bad = np.isnan(pool(x, 2, stride=1))
        assert not bad[0, 1].any()
        np.testing.assert_array_equal(np.argwhere(bad[0, 0]), [[1, 1], [1, 2], [2, 1], [2, 2]])


# --- R16: index spaces, R17: unpooling


def test_r16_one_maximum_in_every_space():
    """The maximum of sample 1, channel 2 of (2, 3, 4, 5) stands in row 3, column 1."""
    x = np.zeros((2, 3, 4, 5))
    x[1, 2, 3, 1] = 1
    expected = {
        "plane": 3 * 5 + 1,
        "onnx": ((1 * 3 + 2) * 4 + 3) * 5 + 1,
        "onnx_column_major": (1 * 3 + 2) * 20 + 1 * 4 + 3,
        "tf": (3 * 5 + 1) * 3 + 2,
        "tf_batch": ((1 * 4 + 3) * 5 + 1) * 3 + 2,
    }
    orders = {"channels_first": (0, 1, 2, 3), "channels_last": (0, 2, 3, 1), "CHWN": (1, 2, 3, 0)}
    for (layout, axes), (space, number) in itertools.product(orders.items(), expected.items()):
        given = x.transpose(axes)
        _, i = npconv.max_pool(given, (4, 5), return_indices=True, indices=space, layout=layout)
        assert i.transpose(np.argsort(axes))[1, 2, 0, 0] == number, (layout, space)


@pytest.mark.parametrize("space", ["plane", "onnx", "onnx_column_major", "tf", "tf_batch"])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_r16_indices_come_back(space, layout):
    x = np.random.default_rng(0).permutation(2 * 3 * 6 * 4).reshape(2, 3, 6, 4).astype(float)
    if layout == "channels_last":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    y, i = npconv.max_pool(x, 2, return_indices=True, indices=space, layout=layout)
    back = npconv.max_unpool(y, i, 2, indices_space=space, layout=layout)
    np.testing.assert_array_equal(back[back > 0], x[back > 0])
    assert np.count_nonzero(back) >= y.size - 1  # one maximum may be the 0
    assert np.array_equal(npconv.max_unpool_grad(x, i, 2, indices_space=space, layout=layout), y)
    g = np.arange(1.0, y.size + 1).reshape(y.shape)
    routed = npconv.max_pool_grad(g, x, 2, indices=i, indices_space=space, layout=layout)
    np.testing.assert_array_equal(routed, npconv.max_pool_grad(g, x, 2, layout=layout))


def test_r17_sizes_and_duplicates():
    x, i = line(7, 8, 9), line(1, 1, 4, dtype=int)
    same(npconv.max_unpool(x, i, (2,)), line(0, 8, 0, 0, 9, 0))
    same(npconv.max_unpool(x, i, (2,), output_size=7), line(0, 8, 0, 0, 9, 0, 0))
    same(npconv.max_unpool(x, i, (2,), output_size=(5,)), line(0, 8, 0, 0, 9))
    same(npconv.max_unpool(x, i, (3,), stride=2, padding=1), line(0, 8, 0, 0, 9))
    same(npconv.max_unpool_grad(line(1, 2, 3, 4, 5, 6), i, (2,)), line(0, 2, 5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: npconv.max_unpool(line(7, 8), line(0, 4, dtype=int), (2,)),
            "max_unpool: indices[0, 0, 1] = 4 is outside its plane: indices_space='plane' needs "
            "0 <= index < 4 for an output of spatial sizes (4,); use the indices that max_pool returned",
        ),
        (
            lambda: npconv.max_unpool(np.ones((1, 3, 1)), np.array([[[0], [4], [3]]]), (2,), indices_space="tf"),
            "max_unpool: indices[0, 2, 0] = 3 is outside its plane: indices_space='tf' needs "
            "2 <= index < 8 in steps of 3 for an output of spatial sizes (2,); use the indices that max_pool "
            "returned",
        ),
        (
            lambda: npconv.max_unpool(line(7, 8), line(0, 2, dtype=int), (2,), output_size=6),
            "max_unpool: output_size 6 on axis 0 is out of reach: needs 4 - 2 < size < 4 + 2, where "
            "4 = (size - 1) stride - lo - hi + kernel; use output_size=(4,)",
        ),
        (
            lambda: npconv.max_unpool(line(7, 8), line(0, 2, dtype=int), (2,), padding="same"),
            "max_unpool: padding='same' needs the unknown size; use the (lo, hi) pairs it stood for",
        ),
    ],
)
def test_unpooling_refuses(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


def test_a_uint64_index_does_not_wrap():
    huge = np.array([[[0, 2**64 - 1]]], np.uint64)
    with pytest.raises(ValueError, match=r"indices\[0, 0, 1\] = 18446744073709551615 is outside its plane"):
        npconv.max_unpool(line(7, 8), huge, (2,))


# --- R18, R19


def test_r18_powers_that_leave_the_range_of_float64():
    big, tiny = line(3e200, 4e200), line(3e-200, 4e-200)
    np.testing.assert_allclose(npconv.lp_pool(big, (2,)), line(5e200), rtol=1e-15)
    np.testing.assert_allclose(npconv.lp_pool(tiny, (2,)), line(5e-200), rtol=1e-15)
    same(npconv.lp_pool(line(3e30, 4e30, dtype="f4"), (2,)), line(5e30, dtype="f4"), np.float32)
    np.testing.assert_allclose(npconv.lp_pool_grad(line(1), tiny, (2,)), line(0.6, 0.8), rtol=1e-15)
    same(npconv.lp_pool(line(INF, 1, NAN, 1), (2,)), line(INF, NAN))


def test_r18_power_is_checked():
    for bad, kind in (
        (0, ValueError),
        (-1, ValueError),
        (NAN, ValueError),
        (True, TypeError),
        ("2", TypeError),
    ):
        with pytest.raises(kind, match=r"^lp_pool: p must be "):
            npconv.lp_pool(line(1, 2), (2,), p=bad)


def test_r19_bins_may_overlap():
    same(npconv.adaptive_avg_pool(np.arange(7.0).reshape(1, 1, 7), 3), line(1, 3, 5))
    y, i = npconv.adaptive_max_pool(line(5, 1, 1, 6, 1, 1, 2), 3, return_indices=True)  # 0-2, 2-4, 4-6
    same(y, line(5, 6, 2))
    same(i, line(0, 3, 6), np.int64)
    same(npconv.adaptive_avg_pool_grad(line(3, 6, 9), (1, 1, 7), 3), line(1, 1, 3, 2, 5, 3, 3))
    same(npconv.adaptive_max_pool_grad(line(3, 6, 9), line(0, 0, 5, 0, 7, 0, 0), 3), line(0, 0, 3, 0, 15, 0, 0))


def test_r19_more_bins_than_inputs_none_and_zero():
    same(npconv.adaptive_avg_pool(line(1, 3), 3), line(1, 2, 3))
    same(npconv.adaptive_avg_pool(IMAGE, (None, 1))[0, 0, :, 0], SQUARE.mean(1))
    assert npconv.adaptive_max_pool(IMAGE, (0, 2)).shape == (1, 1, 0, 2)
    assert npconv.adaptive_max_pool_grad(np.ones((1, 1, 0, 2)), IMAGE, (0, 2)).sum() == 0


def test_global_pools_keep_or_drop_axes():
    x = np.arange(24.0).reshape(1, 2, 3, 4)
    assert npconv.global_max_pool(x).shape == (1, 2, 1, 1)
    same(npconv.global_max_pool(x, keepdims=False), [[11, 23]])
    same(npconv.global_avg_pool(x, keepdims=False), [[5.5, 17.5]])
    same(npconv.global_avg_pool(x[0].transpose(1, 2, 0), keepdims=False, layout="HWC"), [5.5, 17.5])
    with pytest.raises(ValueError, match=r"^global_max_pool_grad: g.shape is \(1, 2, 1, 1\), expected \(1, 2\)"):
        npconv.global_max_pool_grad(np.ones((1, 2, 1, 1)), x, keepdims=False)


# --- fractional


def test_fractional_windows_by_hand():
    """in 7, k 2, out 4: a = 5/3; u = 0.5 starts at int(.83) - 0, int(2.5), int(4.17), 5 = 0, 2, 4, 5."""
    y, i = npconv.fractional_max_pool(
        line(0, 1, 2, 3, 9, 5, 6), (2,), output_size=4, samples=[[[0.5]]], return_indices=True
    )
    same(y, line(1, 3, 9, 6))
    same(i, line(1, 3, 4, 6), np.int64)


def test_fractional_ratio_and_rng():
    x = np.random.default_rng(0).standard_normal((2, 3, 10, 8))
    y = npconv.fractional_max_pool(x, 2, output_ratio=(0.5, 0.75), rng=7)
    assert y.shape == (2, 3, 5, 6)
    assert np.array_equal(y, npconv.fractional_max_pool(x, 2, output_size=(5, 6), rng=7))
    with pytest.raises(ValueError, match=r"^fractional_max_pool: needs one of output_size and output_ratio, got both"):
        npconv.fractional_max_pool(x, 2, output_size=3, output_ratio=0.5)
    with pytest.raises(ValueError, match=r"^fractional_max_pool: samples\[1, 2, 0\] = 1.0 is out of range"):
        npconv.fractional_max_pool(x, 2, output_size=3, samples=np.where(np.arange(12).reshape(2, 3, 2) > 9, 1.0, 0))


# --- kernels of many taps: the paths by doubling and by halving


def windows_by_hand(x, k, s, d, lo, hi):
    """Every window of the last axis as a list of values, no padding among them."""
    starts = range(-lo, x.shape[-1] + hi - d * (k - 1), s)
    return [[x[..., i] for i in range(start, start + d * k, d) if 0 <= i < x.shape[-1]] for start in starts]


@pytest.mark.parametrize("k", [8, 9, 10, 15, 16, 17, 31, 33])
@pytest.mark.parametrize(
    ("s", "d", "lo", "hi"), [(1, 1, 0, 0), (2, 1, 5, 3), (1, 3, 7, 0), (20, 1, 0, 6), (40, 2, 3, 3)]
)
def test_many_taps(k, s, d, lo, hi):
    x = np.random.default_rng(k).standard_normal((2, 3, 120))
    expected = windows_by_hand(x, k, s, d, lo, hi)
    options = {"stride": s, "dilation": d, "padding": ((lo, hi),)}
    best = np.stack([np.max(w, 0) for w in expected], -1)
    y, i = npconv.max_pool(x, (k,), return_indices=True, **options)
    np.testing.assert_array_equal(y, best)
    np.testing.assert_array_equal(np.take_along_axis(x, i, -1), best)
    sums = np.stack([np.sum(w, 0) for w in expected], -1)
    np.testing.assert_allclose(npconv.avg_pool(x, (k,), divisor=1, **options), sums, rtol=0, atol=1e-13)
    g = np.random.default_rng(1).standard_normal(sums.shape)
    dx = npconv.avg_pool_grad(g, x.shape, (k,), divisor=1, **options)
    np.testing.assert_allclose((dx * x).sum(), (g * sums).sum(), rtol=1e-12)


def test_long_sums_keep_a_few_u():
    """All terms positive: |err| <= 16 u S however long the window."""
    x = np.random.default_rng(0).random((1, 2, 40_000), np.float32)
    exact = x.astype(np.float64).mean(-1, keepdims=True)
    for y in (npconv.global_avg_pool(x), npconv.avg_pool(x, (40_000,)), npconv.adaptive_avg_pool(x, 1)):
        assert np.abs(y / exact - 1).max() < 16 * 2.0**-24
    sliding = npconv.avg_pool(x, (5000,), stride=1)[..., ::7]
    running = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), 5000, -1)[..., ::7, :].mean(-1)
    assert np.abs(sliding / running - 1).max() < 16 * 2.0**-24
    ones = np.ones((1, 1, 36_000), np.float32)
    dx = npconv.avg_pool_grad(x[:, :1, :31_001], ones.shape, (5000,), stride=1, divisor=1)
    assert np.abs(dx[0, 0, 17_000] / x[0, 0, 12_001:17_001].astype(np.float64).sum() - 1) < 16 * 2.0**-24


def test_blocks_of_samples_change_nothing(monkeypatch):
    x = np.random.default_rng(0).standard_normal((7, 3, 9, 8))
    whole = [npconv.max_pool(x, 3, stride=2, padding=1), npconv.avg_pool(x, 3, stride=2, padding=1)]
    monkeypatch.setattr(reduction, "BLOCK", 2 * x[0].nbytes)
    parts = [npconv.max_pool(x, 3, stride=2, padding=1), npconv.avg_pool(x, 3, stride=2, padding=1)]
    assert all(np.array_equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_columns_of_narrow_channels_last_images():
    """16 to 64 float32 channels and stride 2 take a path of their own."""
    x = np.random.default_rng(0).standard_normal((2, 32, 9, 10)).astype(np.float32)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    for k, p, d in itertools.product((2, 3), (0, 1), (1, 2)):
        for pool in (npconv.max_pool, npconv.avg_pool):
            y = pool(x, k, stride=2, padding=p, dilation=d)
            z = pool(last, k, stride=2, padding=p, dilation=d, layout="channels_last")
            assert np.array_equal(y, z.transpose(0, 3, 1, 2)), (k, p, d)


def test_rank_zero_and_four():
    x = np.arange(6.0).reshape(2, 3)
    same(npconv.max_pool(x, ()), x)
    same(npconv.avg_pool(x, ()), x)
    assert npconv.max_pool(np.ones((1, 1, 4, 4, 4, 4)), 2).shape == (1, 1, 2, 2, 2, 2)


# --- dtypes, layouts, arrays


def test_integers():
    x = line(250, 251, 3, 4, dtype=np.uint8)
    same(npconv.max_pool(x, (2,)), line(251, 4), np.uint8)
    same(npconv.avg_pool(x, (2,)), line(250.5, 3.5))
    same(npconv.lp_pool(line(3, 4, dtype=np.int8), (2,)), line(5))
    same(npconv.max_pool_grad(line(7, 8, dtype=np.int8), x, (2,)), line(0, 7, 0, 8), np.int64)
    same(npconv.avg_pool_grad(line(7, 8, dtype=np.int8), (1, 1, 4), (2,)), line(3.5, 3.5, 4, 4))
    same(npconv.lp_pool(line(np.iinfo(np.int64).min, 0, dtype=np.int64), (2,)), line(2.0**63))
    huge = line(2**62, 2**62, 2**62, dtype=np.int64)
    with pytest.raises(ValueError, match=r"^max_pool_grad: sums of these integers could reach"):
        npconv.max_pool_grad(huge, line(0, 9, 0, 0, dtype=np.int64), (2,), stride=1)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_short_floats_round_once(dtype):
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(dtype)
    x32 = x.astype(np.float32)
    for pool in (npconv.max_pool, npconv.avg_pool):
        y = pool(x, 3, stride=2, padding=1)
        assert y.dtype == dtype
        assert np.array_equal(y, pool(x32, 3, stride=2, padding=1).astype(dtype))
    g = np.ones((2, 3, 4, 4), dtype)
    assert npconv.max_pool_grad(g, x, 3, stride=2, padding=1).dtype == dtype
    with np.errstate(over="ignore"):
        big = np.full((1, 1, 4), 60000.0, np.float16)
    same(npconv.avg_pool(big, (4,)), [[[60000]]], np.float16)  # whose sum is beyond float16


@pytest.mark.parametrize("dtype", [bool, np.complex64, np.longdouble, object, "U1"])
def test_refused_dtypes(dtype):
    x = np.zeros((1, 1, 4)).astype(dtype)
    for pool in (npconv.max_pool, npconv.avg_pool, npconv.lp_pool):
        with pytest.raises(TypeError, match=f"^{pool.__name__}: x has dtype"):
            pool(x, (2,))


def test_layouts_agree():
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 5))
    y = npconv.max_pool(x, (2, 3), stride=1)
    for layout in map("".join, itertools.permutations("NCHW")):
        if layout.index("H") > layout.index("W"):
            continue  # the kernel goes with the letters in the order they stand
        axes = ["NCHW".index(c) for c in layout]
        z = npconv.max_pool(x.transpose(axes), (2, 3), stride=1, layout=layout)
        assert np.array_equal(z, y.transpose(axes)), layout
    assert np.array_equal(npconv.max_pool(x[0], (2, 3), stride=1), y[0])
    assert np.array_equal(npconv.max_pool(x[None], (2, 3), stride=1), y[None])
    with pytest.raises(ValueError) as error:
        npconv.max_pool(x[0, 0], 2)
    assert str(error.value) == (
        "max_pool: x.shape is (6, 5), 2 axes, expected 3 or more: batch, channels and 1 spatial axis "
        "(by kernel and layout); use x[None, None]"
    )


def test_out_is_filled_and_inputs_are_left_alone():
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6))
    x.flags.writeable = False
    for pool in (npconv.max_pool, npconv.avg_pool, npconv.lp_pool):
        out = np.full((2, 3, 3, 3), NAN)
        assert pool(x, 2, out=out) is out
        assert np.array_equal(out, pool(x, 2))
    out = np.full(x.shape, NAN)
    assert npconv.max_pool_grad(np.ones((2, 3, 3, 3)), x, 2, out=out) is out
    assert out.sum() == 2 * 3 * 9
    with pytest.raises(ValueError, match=r"^max_pool: out.shape is \(3,\), expected \(2, 3, 3, 3\)"):
        npconv.max_pool(x, 2, out=np.zeros(3))


def test_no_samples_and_no_channels():
    for shape in ((0, 3, 6, 6), (2, 0, 6, 6)):
        x, g = np.ones(shape), np.ones((*shape[:2], 3, 3))
        y, i = npconv.max_pool(x, 2, return_indices=True)
        assert y.shape == i.shape == npconv.avg_pool(x, 2).shape == npconv.lp_pool(x, 2).shape == g.shape
        assert npconv.max_pool_grad(g, x, 2).shape == npconv.avg_pool_grad(g, shape, 2).shape == shape
        assert npconv.lp_pool_grad(g, x, 2).shape == shape
        assert npconv.max_unpool(g, i, 2).shape == shape
        assert npconv.adaptive_max_pool(x, 4, return_indices=True)[1].shape == (*shape[:2], 4, 4)
        assert npconv.fractional_max_pool(x, 2, output_size=3).shape == (*shape[:2], 3, 3)


def test_negative_padding_crops():
    x = line(9, 1, 2, 3, 8)
    y, i = npconv.max_pool(x, (2,), stride=1, padding=((-1, -1),), return_indices=True)
    same(y, line(2, 3))
    same(i, line(2, 3), np.int64)
    same(npconv.max_pool(x, (2,), padding=((-1, -1),), ceil_mode=True), line(2, 3))  # not 8: it is cropped
    same(npconv.avg_pool_grad(line(2, 4), (1, 1, 5), (2,), stride=1, padding=((-1, -1),)), line(0, 1, 3, 2, 0))


def test_arguments_that_are_equal_but_not_the_same():
    """The sizes of a call are looked up; 1.0 and True equal 1 and must be refused all the same."""
    x = np.ones((1, 1, 4, 4))
    npconv.max_pool(x, (2, 2), stride=1, ceil_mode=True)
    for options in ({"stride": 1.0}, {"stride": True}, {"ceil_mode": 1}, {"dilation": (1.0, 1)}):
        with pytest.raises(TypeError, match=r"^max_pool: "):
            npconv.max_pool(x, (2, 2), **({"stride": 1} | options))
    assert npconv.max_pool(x, [2, 2], stride=np.int64(1)).shape == (1, 1, 3, 3)


# --- axes, against their definition


@pytest.mark.parametrize("seed", range(300))
def test_window_axis_against_its_definition(seed):
    dice = np.random.default_rng(seed)
    size, taps, s, d, out = (int(dice.integers(1, top)) for top in (12, 6, 5, 4, 8))
    lo, hi = int(dice.integers(-3, 9)), int(dice.integers(-3, 9))
    axis = WindowAxis(size, taps, s, d, lo, hi, out)
    end = size + min(hi, 0)
    inputs = [list(range(o * s - lo, o * s - lo + d * taps, d)) for o in range(out)]
    read = [[p for p in window if 0 <= p < end] for window in inputs]
    assert [list(axis.reads(o)) for o in range(out)] == read
    assert list(axis.starts) == [window[0] for window in inputs]
    whole = [o for o in range(out) if len(read[o]) == taps]
    assert list(range(*axis.inner)) == whole
    assert axis.first_empty() == next((o for o in range(out) if not read[o]), None)
    for t in range(taps):
        windows, where = axis.tap(t)
        hits = [(o, inputs[o][t]) for o in range(out) if 0 <= inputs[o][t] < end]
        assert list(zip(range(out)[windows], range(size)[where], strict=True)) == hits
        if whole:
            assert [*range(size)[axis.inner_taps[t]]] == [inputs[o][t] for o in whole]
    padded = [[p for p in window if p < size + hi] for window in inputs]
    assert axis.counts(False) == [len(window) for window in read]
    assert axis.counts(True) == [len(window) for window in padded]


def test_bin_axis_covers_everything():
    for size, out in itertools.product(range(1, 12), range(1, 15)):
        axis = BinAxis(size, out)
        assert set().union(*(axis.reads(o) for o in range(out))) == set(range(size))
        assert axis.taps == max(len(axis.reads(o)) for o in range(out))
