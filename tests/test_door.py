"""A call that was read before is not read again: what is remembered must not be seen from outside."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest

import npconv
from npconv import conv_arguments
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


@pytest.mark.parametrize("padding", [[1, 2], [[1, 1], (2, 2)], np.array([1, 2]), (np.int64(1), np.uint8(2))])
def test_lists_and_integers_of_numpy_are_read_once(padding, monkeypatch):
    """They took ten times as long as tuples; a list that cannot be taken is still shown as one."""
    read, seen = conv_arguments._check_channels, []
    monkeypatch.setattr(conv_arguments, "_check_channels", lambda *values: (seen.append(values), read(*values)))
    x, w = np.ones((1, 5, 6, 7)), np.ones((3, 5, 2, 2))
    right = npconv.conv(x, w, padding=(1, 2))
    for _ in range(3):
        assert np.array_equal(npconv.conv(x, w, padding=padding), right)
    assert len(seen) <= 2
    for _ in range(2):
        with pytest.raises(ValueError, match=r"stride.*\[1, 2, 3\]"):
            npconv.conv(x, w, stride=[1, 2, 3])


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


# ------------------------------------------------------------------------------------------------ the short way
needs_kernels = pytest.mark.skipif(bool(catalogue.unavailable()), reason=str(catalogue.unavailable()))


def single(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@needs_kernels
@pytest.mark.parametrize("algorithm", ["blocked", "fused_winograd_f2", "auto"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_warm_plan_allocates_nothing(algorithm, threads):
    """Scratch waits from call to call: NumPy, which tells tracemalloc of every array, asks for no more than a few words."""
    x, w = single(1, 32, 40, 40), single(32, 32, 3, 3)
    plan = npconv.plan_conv(x.shape, w, single(32), padding=1, algorithm=algorithm, activation="relu")
    out = np.empty(plan.output_shape, np.float32)
    with npconv.num_threads(threads):
        for _ in range(3):
            plan(x, out)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(5):
                plan(x, out)
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
    assert peak < 4096


@needs_kernels
@pytest.mark.parametrize("algorithm", ["blocked", "fused_winograd_f2", "fused_winograd_f4"])
def test_nan_stay_in_place_on_the_short_way(algorithm):
    x, w = single(2, 8, 12, 12), single(8, 8, 3, 3)
    plan, how = npconv.plan_conv(x.shape, w, padding=1, algorithm=algorithm), {"padding": 1, "algorithm": algorithm}
    out = plan(x)
    x[0, 3, 5, 6] = np.nan
    expected = np.isnan(npconv.conv(x, w, padding=1, algorithm="direct"))
    assert expected.sum() == 8 * 9
    for _ in range(2):
        assert np.array_equal(np.isnan(plan(x, out)), expected)
        assert np.array_equal(np.isnan(npconv.conv(x, w, **how)), expected)
        dx = npconv.conv_input_grad(x, w, input_shape=x.shape, **how)
        assert np.array_equal(np.isnan(dx), expected)
        dw = npconv.conv_weight_grad(x, out, kernel_shape=w.shape, **how)
        assert np.isnan(dw[:, 3]).all()


def test_a_plan_takes_any_strides_one_after_the_other():
    x, w = single(2, 6, 9, 9), single(5, 6, 3, 3)
    plan, expected = npconv.plan_conv(x.shape, w), npconv.conv(x, w)
    out = np.empty_like(expected)
    views = [x, np.asfortranarray(x), x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2), x[::-1].copy()[::-1]]
    for _ in range(2):
        for view in views:
            out.fill(np.nan)
            np.testing.assert_allclose(plan(view, out), expected, rtol=1e-5, atol=1e-5)


def test_memory_of_a_result_is_given_to_nobody_while_a_view_lives():
    """What a dead array leaves is used again; a view, of a view, of its base keeps it."""
    x, w = single(1, 4, 70, 70), single(4, 4, 3, 3)
    first = npconv.conv(x, w)
    expected = first.copy()
    view = first[0, 1:, 2:]
    base = first.base[::2] if first.base is not None else None
    del first
    others = [npconv.conv(x * k, w) for k in range(20)]
    assert np.array_equal(view, expected[0, 1:, 2:])
    assert not any(np.may_share_memory(view, other) for other in others)
    del base
    others += [npconv.conv(x * k, w) for k in range(20)]
    assert np.array_equal(view, expected[0, 1:, 2:])
    assert not any(np.may_share_memory(a, b) for a, b in itertools.pairwise(others))


def test_what_waits_for_the_next_call_is_bounded():
    from npconv.compiled import calls

    held = [calls.aligned(5 << 20) for _ in range(40)]
    del held
    assert sum(piece.size for piece in calls._shelf) <= calls.KEPT <= 96 << 20
    assert len(calls._shelf) <= calls.PIECES
    again = calls.aligned((3, 1 << 20), np.float32)
    assert again.shape == (3, 1 << 20)
    assert calls.address(again) % 64 == 0


@needs_kernels
def test_a_launch_keeps_little_scratch_and_calls_at_once_have_their_own() -> None:
    """More than that comes from the shelf, where any launch finds it."""
    from npconv.compiled import calls

    launches = []
    for channels in (16, 300):
        x, w = np.ones((1, channels, 9, 9), "f4"), np.ones((16, channels, 3, 3), "f4")
        plan = npconv.plan_conv(x.shape, w, algorithm="blocked", padding=1)
        plan(x)
        launches.append(next(iter(plan._bound.values()))[0])
    little, much = launches
    little.scratch = calls.KEPT_WITH
    at = little.words.at["scratch"]
    held = [little.fresh() for _ in range(3)]
    rooms = sorted(((int(words[at]), room) for words, _, _, room in held), key=lambda each: each[0])
    for begin, room in rooms:
        assert begin % 64 == 0
        assert calls.address(room) <= begin <= calls.address(room) + room.nbytes - little.scratch
    assert all(a + little.scratch <= b for (a, _), (b, _) in itertools.pairwise(rooms))
    assert much.scratch > calls.KEPT_WITH
    assert much.fresh()[3] is None
