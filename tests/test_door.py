"""A call that was read before is not read again: what is remembered must not be seen from outside."""

from __future__ import annotations

import numpy as np
import pytest

import npconv
from npconv.compiled import catalogue

RNG = np.random.default_rng(0)
X, W = RNG.standard_normal((2, 4, 9, 8)), RNG.standard_normal((6, 2, 3, 3))
HOW = {"stride": 2, "padding": ((1, 1), (1, 1)), "groups": 2}
G = RNG.standard_normal(npconv.conv(X, W, **HOW).shape)
CALLS = {
    "conv": lambda **how: npconv.conv(X, W, **HOW | how),
    "conv2d": lambda **how: npconv.conv2d(X, W, **HOW | how),
    "conv_input_grad": lambda **how: npconv.conv_input_grad(G, W, input_shape=X.shape, **HOW | how),
    "conv_weight_grad": lambda **how: npconv.conv_weight_grad(X, G, kernel_shape=W.shape, **HOW | how),
    "conv_transpose": lambda **how: npconv.conv_transpose(G, W, **HOW | {"output_padding": (0, 1)} | how),
}


@pytest.fixture(params=CALLS)
def call(request: pytest.FixtureRequest):
    """A call whose usual form is known by heart."""
    function = CALLS[request.param]
    for _ in range(3):
        function()
    return function


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2.0},
        {"stride": (2, 2.0)},
        {"groups": 2.0},
        {"groups": np.float64(2)},
        {"padding": ((1, 1), (1, True))},
        {"padding": ((1, 1), (1.0, 1))},
        {"dilation": True},
        {"dilation": (1, True)},
        {"flip": 0},
        {"layout": None},
        {"max_workspace": 1e9},
    ],
)
def test_equal_is_not_the_same(call, options):
    """1, 1.0 and True are equal and have one hash; only the first is an int, and the others are refused every time."""
    for _ in range(2):
        with pytest.raises(TypeError, match=next(iter(options))):
            call(**options)


def test_every_spelling_gives_the_same_bits(call):
    expected = call().tobytes()
    for options in (
        {"stride": [2, 2]},
        {"stride": (2, np.int64(2))},
        {"stride": np.array([2, 2])},
        {"padding": 1},
        {"padding": [[1, 1], (1, np.int8(1))]},
        {"dilation": (1, 1)},
        {"layout": "NCHW"},
        {"kernel_layout": "OIHW"},
        {"accuracy": "standard", "algorithm": "auto", "max_workspace": None},
    ):
        assert call(**options).tobytes() == expected, options
        assert call(**options).tobytes() == expected, options


class Counter:
    """An index that is another number each time."""

    def __init__(self):
        self.now = 0

    def __index__(self):
        self.now += 1
        return self.now


def test_an_object_is_asked_every_time():
    step = Counter()
    x, w = np.arange(12.0).reshape(1, 12), np.ones((1, 1, 1))
    assert [npconv.conv(x, w, stride=step).shape[-1] for _ in range(4)] == [12, 6, 4, 3]


def test_a_list_may_change_between_calls():
    steps = [1]
    x, w = np.arange(12.0).reshape(1, 12), np.ones((1, 1, 1))
    assert npconv.conv(x, w, stride=steps).shape == (1, 12)
    steps[0] = 3
    assert npconv.conv(x, w, stride=steps).shape == (1, 4)


def test_results_are_new_arrays(call):
    first = call()
    kept = first.copy()
    first[...] = np.nan
    second = call()
    assert np.array_equal(second, kept)
    assert not np.may_share_memory(first, second)


def test_the_dtype_is_that_of_the_call():
    for _ in range(2):
        for x_dtype, w_dtype, result in (
            ("float64", "float64", "float64"),
            ("float32", "float32", "float32"),
            ("float32", "float64", "float64"),
            ("int32", "uint8", "int64"),
            ("float16", "float16", "float16"),
            ("complex64", "float32", "complex64"),
        ):
            x, w = np.ones(X.shape, x_dtype), np.ones(W.shape, w_dtype)
            y = npconv.conv(x, w, **HOW)
            assert y.dtype == result
            assert complex(y[0, 0, 1, 1]) == 18


def test_integers_are_measured_every_time():
    """What they sum up to decides how they are computed, not the shapes alone."""
    w = np.array([[[1, 1]]])
    for _ in range(2):
        for n in (1, 2**53 + 1, 2**61 + 1):
            assert npconv.conv(np.array([[n, 0, n]]), w).tolist() == [[n, n]]
        with pytest.raises(ValueError, match="exceeds 2\\^63-1"):
            npconv.conv(np.array([[2**62, 2**62, 0]]), w)


def test_a_refusal_is_not_remembered_as_an_answer(call):
    for _ in range(3):
        with pytest.raises(ValueError, match="groups"):
            call(groups=5)
    call()


def test_nan_is_a_padding_value_like_any_other():
    for _ in range(2):
        y = npconv.conv(np.ones((1, 3)), np.ones((1, 1, 3)), padding=1, padding_mode="constant", padding_value=np.nan)
        assert np.isnan(y).tolist() == [[True, False, True]]


def test_a_strided_operand_is_taken_like_its_copy():
    """Where the bits depend on strides the operand is copied first: both ways are remembered side by side."""
    x = np.asfortranarray(X)
    for algorithm in ("auto", "gemm", "direct", "fft"):
        expected = npconv.conv(X, W, algorithm=algorithm, **HOW).tobytes()
        for _ in range(2):
            assert npconv.conv(x, W, algorithm=algorithm, **HOW).tobytes() == expected
            assert npconv.conv(X, W, algorithm=algorithm, **HOW).tobytes() == expected


FUSING = [
    "auto",
    pytest.param(
        "blocked", marks=pytest.mark.skipif(bool(catalogue.unavailable()), reason=str(catalogue.unavailable()))
    ),
]


@pytest.mark.parametrize("algorithm", FUSING)
def test_a_bias_comes_and_goes(algorithm):
    """Added once, by the algorithm or after it."""
    bias, how = np.arange(6.0), HOW | {"algorithm": algorithm}
    plain = npconv.conv(X, W, **how)
    for _ in range(2):
        both = npconv.conv(X, W, bias, **how)
        np.testing.assert_allclose(both, plain + bias.reshape(-1, 1, 1), rtol=1e-13, atol=1e-13)
        assert np.array_equal(npconv.conv(X, W, **how), plain)


@pytest.mark.parametrize("algorithm", FUSING)
def test_a_bias_reaches_outputs_that_no_tap_does(algorithm):
    """A transposed convolution with stride 3 and one tap leaves two outputs of three without any."""
    x, w, bias = np.ones((1, 1, 3)), np.full((1, 1, 1), 2.0), np.array([0.5])
    y = npconv.conv_transpose(x, w, bias, stride=3, algorithm=algorithm)
    assert y.ravel().tolist() == [2.5, 0.5, 0.5, 2.5, 0.5, 0.5, 2.5]
