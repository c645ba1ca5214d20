"""A test for each class of silently wrong results that convolution libraries shipped, R1 to R19, with links.

Where a class is about memory layout, test_memory_layouts.py has the full product; here is the reported case
itself.
"""

from itertools import product

import numpy as np
import pytest

import npconv
import reference
from problems import disagreement

U32, U64 = 2.0**-24, 2.0**-53
ALGORITHMS = ("direct", "gemm", "fft", "winograd_f2", "winograd_f4", "winograd_f6")


def random(shape, dtype="float32", seed=0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def same_bits(a, b) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def within(actual, expected, bound) -> None:
    wrong = disagreement(actual, expected, bound)
    assert wrong is None, wrong


def with_odd_strides(a) -> np.ndarray:
    strides = [77 * a.itemsize if n == 1 else s for n, s in zip(a.shape, a.strides, strict=True)]
    return np.lib.stride_tricks.as_strided(a, a.shape, strides)


def test_r1_weights_that_are_not_contiguous():
    # https://github.com/pytorch/pytorch/issues/1246 /16018 /55781 /192212: three backends, 2017 to 2026
    x = random((2, 4, 7, 6))
    for w in (
        random((4, 5, 3, 3)).swapaxes(0, 1),
        random((5, 8, 3, 3))[:, ::2],
        random((5, 4, 3, 3))[..., ::-1],
    ):
        g = random(npconv.conv(x, w).shape)
        assert same_bits(npconv.conv(x, w), npconv.conv(x, w.copy()))
        grad = npconv.conv_input_grad(g, w, input_shape=x.shape)
        assert same_bits(grad, npconv.conv_input_grad(g, w.copy(), input_shape=x.shape))


def test_r2_one_channel_makes_the_layout_ambiguous():
    # https://github.com/pytorch/pytorch/issues/82060
    x, w = random((2, 1, 7, 6)), random((3, 1, 3, 3))
    last = np.ascontiguousarray(w.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for odd in (last, with_odd_strides(w)):
        assert same_bits(npconv.conv(x, odd), npconv.conv(x, w))


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_r3_the_transpose_writes_all_of_its_output(layout):
    # https://github.com/pytorch/pytorch/issues/99519: uninitialised memory.
    # A stride over the kernel leaves real gaps.
    x, w = random((1, 2, 2, 3)), random((3, 3, 2, 3) if layout == "channels_last" else (2, 3, 2, 2))
    options = {"stride": 4, "output_padding": 3, "layout": layout}
    expected = npconv.conv_transpose(x, w, **options)
    out = np.full(expected.shape, np.nan, np.float32)
    assert same_bits(npconv.conv_transpose(x, w, out=out, **options), expected)
    assert np.isfinite(expected).all()
    assert (expected == 0).any()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_r4_a_slice_of_channels_of_an_image_with_channels_last(rank):
    # https://github.com/pytorch/pytorch/issues/180984 /197114
    x, w = random((2, *(6,) * rank, 9)), random((*(3,) * rank, 4, 5))
    view = x[..., 2:6]
    y = npconv.conv(view, w, layout="channels_last")
    assert same_bits(y, npconv.conv(view.copy(), w, layout="channels_last"))


def test_r5_odd_strides_on_spatial_axes_of_one():
    # https://github.com/pytorch/pytorch/issues/195394: a segmentation fault
    x, w = random((2, 3, 1, 1)), random((4, 3, 1, 1))
    g = npconv.conv(x, w)
    assert same_bits(npconv.conv(with_odd_strides(x), with_odd_strides(w)), g)
    grads = npconv.conv_grads(with_odd_strides(g), with_odd_strides(x), with_odd_strides(w))
    for found, expected in zip(grads, npconv.conv_grads(g, x, w), strict=True):
        assert same_bits(found, expected)


@pytest.mark.parametrize("channels", [*range(1, 34), 63, 64, 65])
def test_r6_every_channel_count(channels):
    # https://github.com/pytorch/pytorch/issues/21597 (wrong for six channels alone) /49268
    rng = np.random.default_rng(channels)
    x = rng.integers(-8, 9, (1, channels, 5, 4)).astype(np.float32)
    w = rng.integers(-8, 9, (channels, channels, 3, 3)).astype(np.float32)
    expected = np.zeros((1, channels, 3, 2))
    for i, j in np.ndindex(3, 2):
        expected[0, :, i, j] = np.tensordot(w.astype(float), x[0, :, i : i + 3, j : j + 3].astype(float), 3)
    for algorithm in ("auto", "direct", "gemm", "winograd_f2"):
        assert (npconv.conv(x, w, algorithm=algorithm) == expected).all(), algorithm
    last = npconv.conv(x.transpose(0, 2, 3, 1), w.transpose(2, 3, 1, 0), layout="channels_last")
    assert (last == expected.transpose(0, 2, 3, 1)).all()


def test_r7_more_than_65536_output_channels():
    # https://github.com/pytorch/pytorch/issues/129207 /84488
    x, w = np.arange(1.0, 4).reshape(1, 1, 3), np.arange(70_000.0).reshape(-1, 1, 1)
    y = npconv.conv(x, w)
    assert (y == w.reshape(1, -1, 1) * x).all()
    assert (npconv.conv_input_grad(np.ones_like(y), w, input_shape=x.shape) == w.sum()).all()


def test_r7_more_than_two_to_the_31_elements():
    # the same issues; an axis of 2^31 + 8 equal elements that take no memory, and windows 2^30 apart
    x = np.broadcast_to(np.float32(2), (1, 1, 2**31 + 8))
    y = npconv.conv(x, np.ones((1, 1, 3), np.float32), stride=2**30)
    assert y.shape == (1, 1, 3)
    assert (y == 6).all()


def test_r8_sizes_beyond_int32_and_int64():
    # https://github.com/tensorflow/tensorflow/issues/47525,
    # https://github.com/uxlfoundation/oneDNN/issues/122,
    # https://github.com/pytorch/pytorch/issues/188959: buffer sizes of im2col overflowed
    side = 2**20
    x = np.broadcast_to(np.float32(1), (1, 1, side, side))
    with pytest.raises(npconv.MemoryLimitError, match=str(9 * (side - 2) ** 2 * 4)):
        npconv.unfold(x, 3)
    macs = npconv.explain((1, 512, side, side), (512, 512, 3, 3)).geometry.macs
    assert macs == 512 * 512 * 9 * (side - 2) ** 2 > 2**60
    with pytest.raises(ValueError, match="does not fit"):  # torch 2.13 returns an (1, 1, 8, 8) of garbage
        npconv.conv(np.ones((1, 1, 8, 8)), np.ones((1, 1, 3, 3)), dilation=2**62)
    assert npconv.conv(np.ones((1, 1, 8)), np.ones((1, 1, 3)), stride=2**62).shape == (1, 1, 1)


@pytest.mark.parametrize("channels", [31, 32, 64])
@pytest.mark.parametrize("algorithm", ["winograd_f2", "winograd_f4"])
def test_r9_the_precision_of_winograd(channels, algorithm):
    # https://github.com/ml-explore/mlx/pull/4242: 4860 times worse, only for multiples of 32 channels
    x, w = abs(random((1, channels, 20, 18))), abs(random((4, channels, 3, 3)))
    exact = npconv.conv(x.astype(float), w.astype(float), algorithm="direct")
    within(npconv.conv(x, w, algorithm=algorithm), exact, 128 * U32 * exact.max())


def test_r9_integers_are_exact_whatever_is_chosen():
    # https://github.com/apache/tvm/issues/5363: Winograd on quantised data
    rng = np.random.default_rng(0)
    x, w = rng.integers(0, 256, (1, 64, 30, 30), np.uint8), rng.integers(-128, 128, (8, 64, 3, 3), np.int8)
    exact = npconv.conv(x.astype(float), w.astype(float), algorithm="direct")  # below 2^53
    y = npconv.conv(x, w)
    assert y.dtype == np.int64
    assert (y == exact).all()
    with pytest.raises(ValueError, match="winograd_f4"):
        npconv.conv(x, w, algorithm="winograd_f4")


@pytest.mark.parametrize("channels", [1, 3, 4, 7, 8, 9, 16, 17])
def test_r10_a_nan_at_every_position_of_a_window(channels):
    # https://github.com/tensorflow/tensorflow/issues/125965 (2026: equal channels, different results),
    # https://github.com/pytorch/pytorch/issues/7645 /39846 /40131
    for dtype, layout in product(("float32", "float64"), ("channels_first", "channels_last")):
        for row, column in np.ndindex(3, 3):
            x = np.broadcast_to(random((3, 3), dtype), (1, channels, 3, 3)).copy()
            x[:, :, row, column] = np.nan
            given = x if layout == "channels_first" else np.moveaxis(x, 1, -1)
            y, indices = npconv.max_pool(given, (3, 3), return_indices=True, layout=layout)
            assert np.isnan(y).all()
            assert (indices == 3 * row + column).all()


def test_r10_a_window_of_minus_infinity():
    # https://github.com/pytorch/pytorch/issues/1465, https://github.com/keras-team/keras/issues/16158
    for value, dtype in ((-np.inf, "float32"), (np.iinfo(np.int8).min, "int8")):
        x = np.full((1, 1, 4, 4), value, dtype)
        y, indices = npconv.max_pool(x, (3, 3), stride=1, padding=1, return_indices=True)
        assert (y == value).all()
        # the first real pixel of each window, never one of the padding
        expected = [[4 * max(i - 1, 0) + max(j - 1, 0) for j in range(4)] for i in range(4)]
        assert (indices[0, 0] == expected).all()


@pytest.mark.parametrize(
    "options", [{"stride": 0}, {"dilation": 0}, {"padding": ()}, {"groups": 0}, {"stride": (1, 0)}], ids=str
)
def test_r11_zeros_that_others_divided_by(options):
    # https://github.com/pytorch/pytorch/issues/27598 /121188,
    # https://github.com/tensorflow/tensorflow/issues/42208
    (name,) = options
    with pytest.raises(ValueError, match=f"^conv: {name}"):
        npconv.conv(np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2)), **options)


def test_r11_kernels_without_taps():
    # https://github.com/tensorflow/tensorflow/issues/46540
    with pytest.raises(ValueError, match="kernel size must be >= 1"):
        npconv.conv(np.ones((1, 1, 4, 4)), np.ones((1, 1, 0, 2)))
    for pool in (npconv.max_pool, npconv.avg_pool, npconv.lp_pool):
        with pytest.raises(ValueError, match="kernel"):
            pool(np.ones((1, 1, 4, 4)), (0, 2))


def test_r12_gradients_of_an_empty_batch():
    # https://github.com/pytorch/pytorch/issues/193736 /195547: segmentation faults in 2.13
    x, g = np.ones((0, 2, 4, 4, 4)), np.ones((0, 2, 2, 2, 2))
    assert npconv.max_pool_grad(g, x, (2, 2, 2)).shape == x.shape
    assert npconv.avg_pool_grad(g, x.shape, (2, 2, 2)).shape == x.shape
    with pytest.raises(ValueError, match=r"g\.shape"):
        npconv.max_pool_grad(g, np.ones((1, 2, 4, 4, 4)), (2, 2, 2))
    with pytest.raises(ValueError, match=r"g\.shape"):
        npconv.avg_pool_grad(g, (1, 2, 4, 4, 4), (2, 2, 2))


def test_r12_indices_are_checked_again():
    # https://github.com/pytorch/pytorch/issues/152913 /91555 /197409
    x = np.ones((1, 1, 2, 2))
    for bad in (16, -1, 2**40):
        indices = np.array([[[[0, 2], [8, bad]]]])
        with pytest.raises(ValueError, match=rf"indices.*{bad}"):
            npconv.max_unpool(x, indices, (2, 2))
        with pytest.raises(ValueError, match=rf"indices.*{bad}"):
            npconv.max_pool_grad(x, np.ones((1, 1, 4, 4)), (2, 2), indices=indices)
    with pytest.raises(ValueError, match="indices"):
        npconv.max_unpool(x, np.zeros((1, 1, 2, 1), int), (2, 2))
    with pytest.raises(TypeError, match="indices"):
        npconv.max_unpool(x, np.zeros((1, 1, 2, 2)), (2, 2))


@pytest.mark.parametrize(("stride", "dilation"), list(product((1, 2, 3, 4), (1, 2, 3))))
def test_r13_the_transpose_is_the_adjoint(stride, dilation):
    # https://github.com/pytorch/pytorch/issues/1565 /5112: a gradient check passed, for
    # forward was wrong too
    for k, padding, extra in product((1, 2, 3), (0, 1), range(max(stride, dilation))):
        e = dilation * (k - 1) + 1
        if 3 * stride + e - 2 * padding + extra < 1:
            continue
        x, w = random((2, 3, 4), "float64", 1), random((3, 2, k), "float64", 2)
        options = {"stride": stride, "dilation": dilation, "padding": padding}
        y = npconv.conv_transpose(x, w, output_padding=extra, **options)
        assert y.shape == (2, 2, 3 * stride - 2 * padding + e + extra)
        v = random(y.shape, "float64", 3)
        # output_padding is padding that the convolution does without at the end
        forward = npconv.conv(v, w, **options | {"padding": ((padding, padding - extra),)})
        left, right = (y * v).sum(), (x * forward).sum()
        assert abs(left - right) <= 1e-12 * (abs(y) * abs(v)).sum() + 1e-300


def test_r14_average_pooling_with_padding_counting_and_ceil():
    # https://github.com/onnx/onnx/issues/4958, https://github.com/microsoft/onnxruntime/issues/29631,
    # https://github.com/tensorflow/tensorflow/issues/45579: the full product, on integers, so to the last bit
    for size, k, s, lo, hi, rule, counted in product(
        (1, 4, 5, 7),
        (1, 2, 3),
        (1, 2, 3),
        (0, 1, 2),
        (0, 1, 2),
        ("floor", "ceil", "cover_all"),
        (True, False),
    ):
        if max(lo, hi) >= k or size + lo + hi < k:
            continue
        x = np.arange(1.0, size + 1)[None, None]
        flags = {"ceil_mode": rule == "ceil", "cover_all": rule == "cover_all"}
        y = npconv.avg_pool(x, (k,), stride=s, padding=((lo, hi),), count_include_pad=counted, **flags)
        geometry = {"stride": (s,), "padding": ((lo, hi),), "dilation": (1,)}
        windows = reference.Windows((size,), (k,), **geometry, rule=rule)
        expected = reference.avg_pool(x, windows, reference.divisors(windows, counted))
        assert y.shape == expected.shape, (size, k, s, lo, hi, rule)
        within(y, expected.astype(float), 2 * U64 * size)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_r15_one_nan_reaches_its_windows_alone(algorithm, value):
    # https://github.com/scipy/scipy/issues/15927, https://github.com/scipy/scipy/pull/16032: it
    # reached all 324 outputs
    x, w = random((1, 2, 20, 20)), random((3, 2, 3, 3))
    x[0, 1, 7, 9] = value
    y = npconv.conv(x, w, algorithm=algorithm, accuracy="fast")
    touched = np.zeros((18, 18), bool)
    touched[5:8, 7:10] = True
    assert (np.isfinite(y) == ~touched).all()
    expected = npconv.conv(x, w, algorithm="direct")
    assert (np.isnan(y) == np.isnan(expected)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("accuracy", ["strict", "standard"])
def test_r16_fft_does_not_lose_small_outputs(dtype, accuracy):
    # https://github.com/scipy/scipy/issues/22390: chosen for speed, wrong by a factor of 1e145
    scale = np.array([1.0, 1e30 if dtype == "float32" else 1e150]).repeat(40).astype(dtype)
    x, w = abs(random((1, 1, 80), dtype)) * scale, abs(random((1, 1, 25), dtype))
    wide = np.longdouble
    sums = np.correlate(x[0, 0].astype(wide), w[0, 0].astype(wide), "valid")  # all positive: the sums are their own S
    limit = 32 * sums if accuracy == "strict" else np.full(sums.shape, 128 * sums.max())
    for algorithm in ("auto", "fft"):
        try:
            y = npconv.conv(x, w, algorithm=algorithm, accuracy=accuracy)[0, 0]
        except ValueError:  # the right answer where no bound can be kept, but never of "auto"
            if algorithm == "auto":
                raise
            continue
        assert (abs(y.astype(wide) - sums) <= (U32 if dtype == "float32" else U64) * limit).all(), algorithm


def test_r17_integers_never_wrap():
    # https://github.com/scipy/scipy/issues/8757 /6076 /10390 /10527,
    # https://github.com/numpy/numpy/issues/17234
    image = np.full((1, 1, 3, 3), 200, np.uint8)
    y = npconv.conv(image, np.ones((1, 1, 3, 3), np.uint8))
    assert y.dtype == np.int64
    assert y.item() == 1800
    big = np.full((1, 1, 2), 2**31, np.int64)
    assert npconv.conv(big, np.full((1, 1, 2), 2**30)).item() == 2**62  # beyond what float64 holds exactly
    assert npconv.conv(big + 1, np.full((1, 1, 2), 2**30 + 1)).item() == 2 * (2**31 + 1) * (2**30 + 1)
    with pytest.raises(ValueError, match=r"2\^63-1"):
        npconv.conv(big, np.full((1, 1, 2), 2**32))
    pixels = np.array([[[250, 251, 252, 255]]], np.uint8)
    assert (npconv.avg_pool(pixels, (2,)) == [[[250.5, 253.5]]]).all()


def test_r18_wide_padding_of_a_permuted_input():
    # https://github.com/modular/modular/issues/6712: wrong, and another result each run
    x, w = random((6, 2, 9, 5)).transpose(1, 3, 0, 2), random((4, 5, 3, 3))
    pads = ((1, 1), (400, 700))
    runs = [npconv.conv(x, w, padding=pads) for _ in range(3)]
    padded = np.pad(x, [(0, 0), (0, 0), *pads])
    sums = npconv.conv(abs(padded.astype(float)), abs(w.astype(float)))
    within(runs[0], npconv.conv(padded.astype(float), w.astype(float)), 128 * U32 * sums.max())
    assert all(same_bits(run, runs[0]) for run in runs)
    assert same_bits(npconv.conv(np.ascontiguousarray(x), w, padding=pads), runs[0])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_r19_one_test_for_every_algorithm_on_views(algorithm):
    # https://github.com/ggml-org/llama.cpp/issues/28503: kernels assumed contiguity;
    # a test across backends found it
    x, w = random((3, 9, 22, 20))[1:, ::2, ::-1, 1::2], random((3, 3, 6, 5))[..., :5, ::-1].T[:, :, ::-1]
    w = w[:5]
    assert w.shape == (5, 5, 3, 3)
    y = npconv.conv(x, w, algorithm=algorithm, accuracy="fast")
    wide = (x.astype(float), w.astype(float))
    exact, sums = npconv.conv(*wide, algorithm="direct"), npconv.conv(*map(abs, wide), algorithm="direct")
    if algorithm != "winograd_f6":  # whose bound is wider than a multiple of S
        within(y, exact, 128 * U32 * sums.max())
    assert same_bits(y, npconv.conv(x.copy(), w.copy(), algorithm=algorithm, accuracy="fast"))
