"""The 25 rules on which systems differ, one test each, with numbers worked out by hand.

The table of who does what is the page "Rules" of the documentation; the tests against the peers themselves
are in test_torch.py, test_torch_pools.py, test_jax_scipy.py and test_onnx_node_tests.py.
"""

import numpy as np
import pytest

import npconv


def line(*values: float) -> np.ndarray:
    """A batch of one, with one channel and one axis."""
    return np.array([[values]], float)


def values(array: np.ndarray) -> list:
    return np.asarray(array).ravel().tolist()


def test_r01_effective_kernel_counts_dilation_from_one():
    """e = d (k - 1) + 1: two taps, three apart, span four."""
    assert values(npconv.conv(line(1, 2, 3, 4, 5), line(1, 10), dilation=3)) == [41, 52]
    assert values(npconv.conv(line(1, 2, 3, 4, 5), line(1, 10), dilation=1)) == [21, 32, 43, 54]


def test_r02_output_size_is_floored():
    """(6 + 0 + 0 - 3) // 2 + 1 = 2: the sixth pixel is not read, and gets no gradient."""
    assert values(npconv.conv(line(1, 2, 3, 4, 5, 6), line(1, 1, 1), stride=2)) == [6, 12]
    assert values(npconv.conv_input_grad(line(1, 10), line(1, 1, 1), input_shape=(1, 1, 6), stride=2)) == [
        1,
        1,
        11,
        10,
        10,
        0,
    ]


def test_r03_ceil_drops_the_window_in_the_padding():
    """L 9, k 4, s 4, padding 2: ceil((13 - 4) / 4) + 1 = 4 windows, the last at 12 >= 9 + 2, in it."""
    x = line(*range(1, 10))
    options = {"stride": 4, "padding": 2}
    assert values(npconv.max_pool(x, (4,), **options)) == [2, 6, 9]
    assert values(npconv.max_pool(x, (4,), ceil_mode=True, **options)) == [2, 6, 9]
    # one pixel more padding before the first window, and the remainder has a window of its own
    assert values(npconv.max_pool(line(*range(1, 7)), (3,), stride=3, padding=((1, 0),))) == [2, 5]
    assert values(npconv.max_pool(line(*range(1, 7)), (3,), stride=3, padding=((1, 0),), ceil_mode=True)) == [
        2,
        5,
        6,
    ]
    # Chainer's cover_all drops nothing: a window wholly in the padding averages to nothing
    covered = npconv.avg_pool(x, (4,), cover_all=True, count_include_pad=False, **options)
    assert values(covered) == [1.5, 4.5, 8, 0]
    # and for an interval that ends in the image both round up alike
    assert values(npconv.max_pool(line(1, 2, 3, 4, 5), (2,), cover_all=True)) == [2, 4, 5]
    assert values(npconv.max_pool(line(1, 2, 3, 4, 5), (2,), ceil_mode=True)) == [2, 4, 5]


@pytest.mark.parametrize(("size", "k", "s", "lo", "hi"), [(6, 2, 1, 0, 1), (7, 3, 2, 1, 1), (8, 3, 2, 0, 1)])
def test_r04_same_puts_the_odd_pixel_at_the_end(size, k, s, lo, hi):
    """ceil(L / s) outputs, P = max(0, (out - 1) s + e - L), P // 2 of it before."""
    x, w = line(*range(1, size + 1)), line(*(10**i for i in range(k)))
    y = npconv.conv(x, w, stride=s, padding="same")
    assert y.shape == (1, 1, -(-size // s))
    assert values(y) == values(npconv.conv(x, w, stride=s, padding=((lo, hi),)))


def test_r04_same_in_numbers():
    assert values(npconv.conv(line(1, 2, 3), line(1, 10), padding="same")) == [21, 32, 3]


def test_r05_same_lower_puts_it_at_the_beginning():
    assert values(npconv.conv(line(1, 2, 3), line(1, 10), padding="same_lower")) == [10, 21, 32]


def test_r06_same_torch_depends_on_the_kernel_alone():
    """d (k - 1) in all, the odd one at the end; with a stride torch refuses, and so do we by that name."""
    assert values(npconv.conv(line(1, 2, 3), line(1, 10), padding="same_torch")) == [21, 32, 3]
    with pytest.raises(ValueError, match="same_torch"):
        npconv.conv(line(1, 2, 3), line(1, 10), padding="same_torch", stride=2)
    # with a stride TensorFlow's "same" depends on the size too: for L 8, k 3, s 2 it pads (0, 1), not (1, 1)
    assert values(npconv.conv(line(*range(1, 9)), line(1, 0, 0), padding="same", stride=2)) == [1, 3, 5, 7]


def test_r07_scipys_same_is_a_centred_crop_of_full():
    """convolve([1, 2, 3], [1, 10]) is [1, 12, 23, 30]; SciPy's "same" its first three: our "same_lower"."""
    x, w = line(1, 2, 3), line(1, 10)
    assert values(npconv.conv(x, w, padding="full", flip=True)) == [1, 12, 23, 30]
    assert values(npconv.conv(x, w, padding="same_lower", flip=True)) == [1, 12, 23]


def test_r08_the_output_follows_the_first_operand():
    """np.convolve(mode="same") has the longer operand's length, ours x's; for "full" both are alike."""
    x, w = line(1, 2), line(1, 0, 10)
    assert len(np.convolve(x[0, 0], w[0, 0], "same")) == 3
    assert values(npconv.conv(x, w, padding="same", flip=True)) == [2, 10]
    full = [1, 2, 10, 20]
    assert values(npconv.conv(x, w, padding="full", flip=True)) == full
    assert values(npconv.conv(w, x, padding="full", flip=True)) == full


def test_r09_transposed_output_size():
    """(L - 1) s - lo - hi + e + output_padding = (2 - 1) 2 + 3 = 5; output_padding stays below max(s, d)."""
    x, w = line(1, 10), line(1, 2, 3)
    assert values(npconv.conv_transpose(x, w, stride=2)) == [1, 2, 13, 20, 30]
    assert values(npconv.conv_transpose(x, w, stride=2, padding=((1, 2),))) == [2, 13]
    assert values(npconv.conv_transpose(x, w, stride=2, padding="same")) == [1, 2, 13, 20]  # L s outputs
    assert values(npconv.conv_transpose(x, w, stride=2, output_size=(6,))) == [1, 2, 13, 20, 30, 0]
    with pytest.raises(ValueError, match="output_padding"):
        npconv.conv_transpose(x, w, stride=2, output_padding=2)
    assert npconv.conv_transpose(x, w, stride=2, dilation=3, output_padding=2).shape == (1, 1, 11)


def test_r10_output_padding_adds_computed_rows():
    """Cropping two rows at each end and asking for one more gives back a row that was cut, not a zero."""
    x, w = line(1, 10), line(1, 2, 3)
    assert values(npconv.conv_transpose(x, w, stride=2, padding=1)) == [2, 13, 20]
    assert values(npconv.conv_transpose(x, w, stride=2, padding=1, output_padding=1)) == [2, 13, 20, 30]


def test_r11_the_kernel_is_not_flipped_unless_asked():
    x, w = line(1, 2, 3), line(1, 10)
    assert values(npconv.conv(x, w)) == [21, 32]
    assert values(npconv.conv(x, w, flip=True)) == values(np.convolve([1, 2, 3], [1, 10], "valid")) == [12, 23]
    # complex weights are not conjugated, as np.correlate would
    assert npconv.conv(np.array([[[1j]]]), np.array([[[1j]]])).item() == -1
    assert np.correlate([1j], [1j]).item() == 1


def test_r12_weight_layouts():
    """One map, its weights in torch's, TensorFlow's and other orders: O 2, I 3, two taps."""
    w = np.arange(12.0).reshape(2, 3, 2)
    x = np.array([[[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]])  # channel c is one at position c
    # y[o, 0] = w[o, 0, 0] + w[o, 1, 1]; y[o, 1] = w[o, 1, 0] + w[o, 2, 1]
    expected = [[0 + 3, 2 + 5], [6 + 9, 8 + 11]]
    assert npconv.conv(x, w)[0].tolist() == expected
    last, kernel = x.transpose(0, 2, 1), w.transpose(2, 1, 0)
    assert npconv.conv(last, kernel, layout="channels_last")[0].T.tolist() == expected
    assert npconv.conv(x, w.transpose(0, 2, 1), layout="NCW", kernel_layout="OWI")[0].tolist() == expected
    # the transpose takes the same array: (in, out, k) first, TensorFlow's (k, out, in) last
    g = np.array([[[1.0, 0], [0, 100]]])
    back = npconv.conv_transpose(g, w)
    assert back[0].tolist() == [[0, 1 + 600, 700], [2, 3 + 800, 900], [4, 5 + 1000, 1100]]
    assert npconv.conv_transpose(g.transpose(0, 2, 1), kernel, layout="channels_last")[0].T.tolist() == back[0].tolist()
    # depthwise: TensorFlow's (k, C, multiplier), output channel c m + j
    depthwise = npconv.depthwise_conv(np.ones((1, 1, 2)), np.array([[[1.0, 2.0], [3.0, 4.0]]]), layout="channels_last")
    assert values(depthwise) == [1, 2, 3, 4]


def test_r13_average_pooling_divides_by_what_it_counts():
    """k 3, s 2, padding 1 over [1, 2, 3, 6]: (0 1 2), (2 3 6); ceil adds (6 0 .), the dot not counted."""
    x, options = line(1, 2, 3, 6), {"stride": 2, "padding": 1}
    assert values(npconv.avg_pool(x, (3,), **options)) == [1, 11 / 3]
    assert values(npconv.avg_pool(x, (3,), ceil_mode=True, **options)) == [1, 11 / 3, 3]
    assert values(npconv.avg_pool(x, (3,), ceil_mode=True, count_include_pad=False, **options)) == [
        1.5,
        11 / 3,
        6,
    ]
    assert values(npconv.avg_pool(x, (3,), ceil_mode=True, divisor=2, **options)) == [1.5, 5.5, 3]


def test_r14_max_pooling_pads_with_minus_infinity():
    x = line(-5, -3, -4)
    assert values(npconv.max_pool(x, (3,), stride=1, padding=1)) == [-3, -3, -3]
    least = np.full((1, 1, 2), -128, np.int8)
    pooled = npconv.max_pool(least, (2,), stride=1, padding=1)
    assert pooled.dtype == np.int8
    assert values(pooled) == [-128, -128, -128]
    # ONNX allows padding 2 for a kernel of 3, which torch refuses; a window wholly in the padding is refused
    assert values(npconv.max_pool(x, (3,), stride=1, padding=2)) == [-5, -3, -3, -3, -4]
    with pytest.raises(ValueError, match="padding"):
        npconv.max_pool(x, (3,), stride=1, padding=3)


def test_r15_the_first_maximum_wins_and_nan_is_the_maximum():
    y, indices = npconv.max_pool(line(2, 2, 1, 2), (4,), return_indices=True)
    assert (y.item(), indices.item()) == (2, 0)
    y, indices = npconv.max_pool(line(5, np.nan, 9, np.nan), (4,), return_indices=True)
    assert np.isnan(y.item())
    assert indices.item() == 1
    assert values(npconv.max_pool_grad(line(7), line(2, 2, 1, 2), (4,))) == [7, 0, 0, 0]
    assert values(npconv.global_max_pool_grad(line(7), line(1, 3, 3))) == [0, 7, 0]


def test_r16_index_spaces():
    """N 2, C 2, plane 2 x 3; the maximum of every plane is at row 1, column 0."""
    x = np.zeros((2, 2, 2, 3))
    x[:, :, 1, 0] = 1

    def places(space: str) -> list:
        return values(npconv.max_pool(x, (2, 3), return_indices=True, indices=space)[1])

    assert places("plane") == [3, 3, 3, 3]  # y W + x
    assert places("onnx") == [3, 9, 15, 21]  # ((n C + c) H + y) W + x
    assert places("onnx_column_major") == [1, 7, 13, 19]  # ((n C + c) W + x) H + y
    assert places("tf") == [6, 7, 6, 7]  # (y W + x) C + c
    assert places("tf_batch") == [6, 7, 18, 19]  # ((n H + y) W + x) C + c
    # the padding is not part of the space, which in TensorFlow is a documented bug
    y, padded = npconv.max_pool(x, (4, 5), padding=1, return_indices=True)
    assert values(y) == [1, 1, 1, 1]
    assert values(padded) == [3, 3, 3, 3]


def test_r17_unpooling():
    """(L - 1) s - lo - hi + k = 4, unless output_size says 5; of two writers the last in row order wins."""
    x, indices = line(7, 8), np.array([[[1, 3]]])
    assert values(npconv.max_unpool(x, indices, (2,))) == [0, 7, 0, 8]
    assert values(npconv.max_unpool(x, indices, (2,), output_size=(5,))) == [0, 7, 0, 8, 0]
    assert values(npconv.max_unpool(x, np.array([[[2, 2]]]), (2,))) == [0, 0, 8, 0]


def test_r18_lp_pooling_takes_absolute_values():
    x = line(-3, 4, -5, -12)
    assert values(npconv.lp_pool(x, (2,))) == [5, 13]
    assert values(npconv.lp_pool(x, (2,), p=1.0)) == [7, 17]
    assert values(npconv.lp_pool(x, (2,), p=np.inf)) == [4, 12]
    assert abs(npconv.lp_pool(line(-3, -4, -5), (3,), p=3.0).item() - 6) <= 2**-50  # 27 + 64 + 125 = 216
    assert values(npconv.lp_pool(x, (2,), stride=1, padding=1)) == [3, 5, 41**0.5, 13, 12]


def test_r19_adaptive_bins():
    """Bins of 7 into 3: [0, 3), [2, 5), [4, 7); they overlap. None keeps an axis."""
    x = line(*range(7))
    assert values(npconv.adaptive_avg_pool(x, (3,))) == [1, 3, 5]
    assert values(npconv.adaptive_max_pool(x, (3,))) == [2, 4, 6]
    assert values(npconv.adaptive_avg_pool(line(1, 2), (3,))) == [1, 1.5, 2]
    assert npconv.adaptive_avg_pool(np.ones((1, 1, 7, 4)), (3, None)).shape == (1, 1, 3, 4)
    assert values(npconv.adaptive_avg_pool_grad(line(3, 6, 9), (1, 1, 7), (3,))) == [1, 1, 3, 2, 5, 3, 3]


def test_r20_padding_modes():
    """NumPy's meaning of the names; ndimage calls our "reflect" mirror and our "symmetric" reflect."""
    x, one = line(1, 2, 3), line(1)
    expected = {
        "zeros": [0, 0, 0, 0, 0, 1, 2, 3, 0, 0],
        "reflect": [2, 1, 2, 3, 2, 1, 2, 3, 2, 1],
        "symmetric": [2, 3, 3, 2, 1, 1, 2, 3, 3, 2],
        "replicate": [1, 1, 1, 1, 1, 1, 2, 3, 3, 3],
        "circular": [2, 3, 1, 2, 3, 1, 2, 3, 1, 2],
    }
    for mode, padded in expected.items():  # five before, two after: more than the axis holds
        assert values(npconv.conv(x, one, padding=((5, 2),), padding_mode=mode)) == padded, mode
    constant = npconv.conv(x, one, padding=1, padding_mode="constant", padding_value=9)
    assert values(constant) == [9, 1, 2, 3, 9]


def test_r21_integers_accumulate_exactly():
    """2 * 200 * 200 = 80000 would wrap to 128 in uint8 and to 14464 in uint16."""
    x = np.full((1, 1, 2), 200, np.uint8)
    y = npconv.conv(x, x)
    assert y.dtype == np.int64
    assert y.item() == 80_000
    big = np.full((1, 1, 1), 2**31 + 1, np.int64)
    assert npconv.conv(big, big).item() == (2**31 + 1) ** 2  # float64 would round it


def test_r22_groups_are_consecutive():
    """Group g maps channels [g C/G, (g+1) C/G) to outputs [g O/G, (g+1) O/G): here 4 to 2 in two groups."""
    x = np.array([[[1.0], [10], [100], [1000]]])
    w = np.array([[[1.0], [2]], [[3], [4]]])
    assert values(npconv.conv(x, w, groups=2)) == [21, 4300]
    dw = npconv.conv_weight_grad(x, np.array([[[1.0], [5]]]), kernel_shape=(2, 2, 1), groups=2)
    assert values(dw) == [1, 10, 500, 5000]


def test_r23_no_batch_or_several_batch_axes():
    x, w = line(1, 2, 3), line(1, 10)
    assert npconv.conv(x[0], w).tolist() == [[21, 32]]
    many = np.broadcast_to(x, (4, 5, 1, 3))
    assert npconv.conv(many, w).tolist() == [[[[21, 32]]] * 5] * 4
    assert npconv.max_pool(x[0], (2,), stride=1).tolist() == [[2, 3]]


def test_r24_empty_arrays():
    """N, C or O may be 0; so may an axis where padding makes room (zeros, as in TensorFlow's test)."""
    w = np.ones((2, 1, 2, 2))
    assert npconv.conv(np.ones((0, 1, 3, 3)), w).shape == (0, 2, 2, 2)
    none = npconv.conv(np.ones((1, 0, 3, 3)), np.ones((2, 0, 2, 2)), np.array([5.0, 6]))
    assert none.tolist() == [[[[5, 5], [5, 5]], [[6, 6], [6, 6]]]]
    assert npconv.conv(np.ones((1, 1, 3, 3)), w[:0]).shape == (1, 0, 2, 2)
    only_padding = npconv.conv(np.ones((1, 1, 0, 2)), w, padding=1)
    assert only_padding.tolist() == [[[[0, 0, 0]]] * 2]
    with pytest.raises(ValueError, match="does not fit"):
        npconv.conv(np.ones((1, 1, 0, 2)), w)
    assert npconv.max_pool(np.ones((0, 1, 4)), (2,)).shape == (0, 1, 2)
    assert npconv.adaptive_avg_pool(np.ones((1, 2, 4)), (0,)).shape == (1, 2, 0)


def test_r25_negative_padding_crops():
    x, w = line(1, 2, 3, 4, 5), line(1, 10)
    assert values(npconv.conv(x, w, padding=-1)) == [32, 43]
    assert values(npconv.conv(x, w, padding=((-2, 1),))) == [43, 54, 5]
    dx = npconv.conv_input_grad(line(1, 100), w, input_shape=(1, 1, 5), padding=-1)
    assert values(dx) == [0, 1, 110, 1000, 0]
