"""A call like one before goes straight to its launch: the same bits, the same refusals, and never where anything differs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import npconv
from npconv import execution, express
from npconv.compiled import calls, catalogue

pytestmark = pytest.mark.skipif(catalogue.unavailable() is not None, reason=str(catalogue.unavailable()))


@pytest.fixture(autouse=True)
def nothing_remembered():
    express._lanes.clear()
    yield
    express._lanes.clear()


@pytest.fixture
def taken(monkeypatch) -> list[bool]:
    """Of every call, whether it went the short way."""
    found: list[bool] = []
    served = express.served

    def spy(*arguments):
        y = served(*arguments)
        found.append(y is not None)
        return y

    monkeypatch.setattr(express, "served", spy)
    return found


def arrays(rng, layout: str, kernel: str, dtype: str, groups: int = 1, k: int = 3):
    x = rng.standard_normal((2, 24, 11, 13) if layout == "channels_first" else (2, 11, 13, 24)).astype(dtype)
    shape = (24, 24 // groups, k, k) if kernel == "OIHW" else (k, k, 24 // groups, 24)
    return x, rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("kernel", ["OIHW", "HWIO"])
@pytest.mark.parametrize(("groups", "k"), [(1, 3), (1, 1), (2, 3), (24, 3)])
@pytest.mark.parametrize("how", [{}, {"stride": 2}, {"padding": (1, 0), "dilation": 2}, {"flip": True}])
def test_the_second_call_gives_what_the_first_gave(dtype, layout, kernel, groups, k, how, taken) -> None:
    """The first asks everything; the others are of other numbers, so that a kept result would show."""
    how = {**how, "layout": layout, "kernel_layout": kernel, "groups": groups}
    answers = []
    for seed in (1, 2, 1):
        x, w = arrays(np.random.default_rng(seed), layout, kernel, dtype, groups, k)
        y = npconv.conv(x, w, **how)
        g = np.random.default_rng(seed + 10).standard_normal(y.shape).astype(dtype)
        dx = npconv.conv_input_grad(g, w, input_shape=x.shape, **how)
        answers.append((y, dx, npconv.conv_weight_grad(x, g, kernel_shape=w.shape, **how)))
    assert taken[:3] == [False] * 3
    assert taken[3], "the forward pass had a launch to remember"
    assert taken[6]
    for first, again in zip(answers[0], answers[2], strict=True):
        assert np.array_equal(first, again)
        assert not np.may_share_memory(first, again)
    express._lanes.clear()
    x, w = arrays(np.random.default_rng(2), layout, kernel, dtype, groups, k)
    y = npconv.conv(x, w, **how)
    g = np.random.default_rng(12).standard_normal(y.shape).astype(dtype)
    long = (
        y,
        npconv.conv_input_grad(g, w, input_shape=x.shape, **how),
        npconv.conv_weight_grad(x, g, kernel_shape=w.shape, **how),
    )
    for short, whole in zip(answers[1], long, strict=True):
        assert np.array_equal(short, whole)


def test_transposed_passes_too(taken) -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype("f4") for s in ((1, 32, 9, 9), (32, 20, 3, 3)))
    g = rng.standard_normal((1, 20, 11, 11)).astype("f4")

    def passes():
        return (
            npconv.conv_transpose(x, w),
            npconv.conv_transpose_input_grad(g, w, input_shape=x.shape),
            npconv.conv_transpose_weight_grad(x, g, kernel_shape=w.shape),
        )

    for first, again in zip(passes(), passes(), strict=True):
        assert np.array_equal(first, again)
    assert taken == [False] * 3 + [True] * 3


@pytest.mark.parametrize("odd", [{"stride": True}, {"stride": 1.0}, {"padding": (1, True)}, {"groups": True}])
def test_what_equals_an_option_is_not_that_option(odd: dict[str, Any]) -> None:
    """1, 1.0 and True are equal and have one hash."""
    rng = np.random.default_rng(0)
    x, w = arrays(rng, "channels_first", "OIHW", "f4")
    plain: dict[str, Any] = {"stride": 1, "padding": (1, 1), "groups": 1}
    npconv.conv(x, w, **plain)
    npconv.conv(x, w, **plain)
    with pytest.raises(TypeError):
        npconv.conv(x, w, **plain | odd)


def test_whatever_differs_goes_the_long_way(taken) -> None:
    """Strides, types, shapes, threads, an output, a bias, lists for tuples, and arrays of other classes."""
    rng = np.random.default_rng(0)
    x, w = arrays(rng, "channels_first", "OIHW", "f4")
    y = npconv.conv(x, w, padding=(1, 1))

    class Other(np.ndarray):
        pass

    npconv.conv(x, w, padding=(1, 1))
    assert taken == [False, True]
    others = [
        lambda: npconv.conv(np.asfortranarray(x), w, padding=(1, 1)),
        lambda: npconv.conv(x, np.asfortranarray(w), padding=(1, 1)),
        lambda: npconv.conv(x, w, padding=(1, 1), out=np.empty_like(y)),
        lambda: npconv.conv(x, w, np.zeros(24, "f4"), padding=(1, 1)),
        lambda: npconv.conv(x, w, padding=[1, 1]),
        lambda: npconv.conv(x.view(Other), w, padding=(1, 1)),
        lambda: npconv.conv(x.astype(">f4"), w, padding=(1, 1)),
    ]
    for other in others:
        taken.clear()
        assert np.allclose(other(), y, rtol=1e-5, atol=1e-5)
        assert not any(taken)
    unaligned = np.frombuffer(b" " + x.tobytes(), np.uint8)[1:].view("f4").reshape(x.shape)
    taken.clear()
    assert np.array_equal(npconv.conv(unaligned, w, padding=(1, 1)), y)
    assert taken == [False]
    with npconv.num_threads(3):
        taken.clear()
        assert np.array_equal(npconv.conv(x, w, padding=(1, 1)), y)
        assert taken == [False]
    with pytest.raises(ValueError, match="channels"):
        npconv.conv(x[:, :5], w, padding=(1, 1))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_where_direct_has_it(value: float) -> None:
    """Kernels that would spread it say so, and the call goes the long way."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype("f4") for s in ((1, 64, 30, 30), (64, 64, 3, 3)))
    for _ in range(2):
        npconv.conv(x, w, padding=1)
    x[0, 3, 4, 5] = value
    y, direct = npconv.conv(x, w, padding=1), npconv.conv(x, w, padding=1, algorithm="direct")
    assert np.array_equal(np.isfinite(y), np.isfinite(direct))
    assert np.array_equal(np.isnan(y), np.isnan(direct))


def test_what_is_remembered_has_a_bound_and_can_be_forgotten(monkeypatch) -> None:
    monkeypatch.setattr(express, "MOST", 5)
    w = np.ones((16, 16, 1, 1), "f4")
    for size in range(1, 20):
        npconv.conv(np.ones((1, 16, size, 3), "f4"), w)
        assert len(express._lanes) <= 5
    calls.forget()
    assert not express._lanes


#: Input gradients whose strides take them apart: their options, (C, *in) of x and O, C/G and the kernel of w.
STRIDED: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "phases in one launch": ({"stride": 2, "padding": 1}, (64, 12, 14), (48, 64, 3, 3)),
    "phases in three dimensions": ({"stride": 2}, (32, 6, 8, 7), (32, 32, 2, 2, 2)),
    "one convolution": ({"stride": 2, "padding": 1}, (3, 40, 38), (32, 3, 4, 4)),
    "one convolution, phases of unequal kernels": (
        {"stride": 2, "padding": 1, "algorithm": "pixelwise"},
        (3, 40, 38),
        (32, 3, 3, 3),
    ),
    "one convolution of a signal": ({"stride": 5}, (1, 400), (70, 1, 10)),
    "one convolution with transforms": ({"stride": 4, "padding": 2}, (3, 83, 83), (64, 3, 11, 11)),
    "zeros where no tap reaches": ({"stride": 2}, (64, 13, 12), (96, 64, 1, 1)),
    "zeros and the first tap": ({"stride": 5, "padding": ((-3, 1), (-3, 1))}, (64, 4, 4), (96, 64, 2, 2)),
    "zeros and phases": ({"stride": 5}, (32, 49), (40, 32, 2)),
    "zeros and a crop": ({"stride": 3, "padding": -1}, (20, 17, 19), (40, 20, 1, 1)),
    "zeros and groups": ({"stride": 2, "groups": 2}, (64, 9, 9), (64, 32, 1, 1)),
    "small groups": ({"stride": 2, "padding": 1, "groups": 8}, (64, 20, 20), (64, 8, 3, 3)),
    "depthwise": ({"stride": 2, "padding": 1, "groups": 40}, (40, 20, 20), (40, 1, 3, 3)),
}


def strided(name: str, layout: str, dtype: str, seed: int) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """The gradient of the output, the weights, and the rest of such a call."""
    options, (c, *sizes), shape = STRIDED[name]
    x_shape, last = (2, c, *sizes), layout == "channels_last"
    made = npconv.conv(np.zeros(x_shape, dtype), np.zeros(shape, dtype), **{**options, "algorithm": "auto"})
    rng = np.random.default_rng(seed)
    g, w = (rng.integers(-4, 5, s).astype(dtype) for s in (made.shape, shape))
    if last:
        g, x_shape = np.ascontiguousarray(np.moveaxis(g, 1, -1)), (2, *sizes, c)
        w = np.ascontiguousarray(w.transpose(*range(2, w.ndim), 1, 0))
    return g, w, {**options, "layout": layout, "input_shape": x_shape}


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("name", STRIDED)
def test_gradients_that_strides_take_apart(
    name: str, layout: str, dtype: str, taken: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Integers, which transforms alone round; on one to three threads; memory that is used again has other numbers in it.

    All but those that the widths of this machine's vectors have computed phase by phase have a short way.
    """
    passes: list[execution.Pass] = []
    ready = execution.ready
    monkeypatch.setattr(execution, "ready", lambda *given: (passes.append(ready(*given)), passes[-1])[1])
    for workers in (1, 2, 3):
        calls.forget()
        taken.clear()
        with npconv.num_threads(workers):
            for seed in (1, 2, 3):
                g, w, how = strided(name, layout, dtype, seed)
                right = npconv.conv_input_grad(g, w, **{**how, "algorithm": "direct"})
                found = npconv.conv_input_grad(g, w, **how)
                exact = all(step.algorithm.exact_on_integers for step in passes[-1].steps)
                scale = 0 if exact else np.abs(right).max()
                assert np.allclose(found, right, rtol=0, atol=1e-4 * scale)
                assert not np.signbit(found[right == 0]).any() or scale
                found[...] = np.nan  # whoever gets this memory next sees it
                del found
        alone = len(passes[-1].steps) == 1
        assert taken[2::3] == [False, alone, alone]
        assert alone or name in ("small groups", "one convolution, phases of unequal kernels")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("name", STRIDED)
def test_gradients_that_strides_take_apart_keep_what_is_not_finite_in_place(
    name: str, layout: str, value: float
) -> None:
    g, w, how = strided(name, layout, "f4", 1)
    for _ in range(2):
        npconv.conv_input_grad(g, w, **how)
    g[(0, *[n // 2 for n in g.shape[1:]])] = value
    right = npconv.conv_input_grad(g, w, **{**how, "algorithm": "direct"})
    found = npconv.conv_input_grad(g, w, **how)
    assert np.array_equal(np.isfinite(found), np.isfinite(right))
    assert np.array_equal(np.isnan(found), np.isnan(right))


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("name", STRIDED)
def test_a_bias_goes_to_all_that_strides_take_apart(name: str, layout: str) -> None:
    """To zeros too."""
    g, w, how = strided(name, layout, "f4", 1)
    size = how.pop("input_shape")
    sizes = size[1:-1] if layout == "channels_last" else size[2:]
    bias = np.arange(1, (size[-1] if layout == "channels_last" else size[1]) + 1).astype("f4")
    plain = npconv.conv_transpose(g, w, **{**how, "algorithm": "direct"}, output_size=sizes)
    for _ in range(3):
        found = npconv.conv_transpose(g, w, bias, **how, output_size=sizes)
        by_channel = bias if layout == "channels_last" else bias.reshape(-1, *(1,) * len(sizes))
        assert np.allclose(found, plain + by_channel, rtol=0, atol=1e-4 * np.abs(plain).max())


def test_where_there_is_no_short_way_nobody_prepares_weights_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros beside the phases of several groups, whose weights are copied first."""
    rng, seen = np.random.default_rng(0), []
    g, w = rng.standard_normal((1, 64, 10), np.float32), rng.standard_normal((64, 32, 2), np.float32)
    prepare = execution.Step.prepare
    monkeypatch.setattr(execution.Step, "prepare", lambda *given, **how: (seen.append(1), prepare(*given, **how))[1])
    options = {"input_shape": (1, 64, 49), "stride": 5, "groups": 2}
    right = npconv.conv_input_grad(g, w, **options, algorithm="direct")
    for _ in range(3):
        seen.clear()
        found = npconv.conv_input_grad(g, w, **options, algorithm="blocked")
        assert len(seen) == 1
        assert np.allclose(found, right, rtol=0, atol=1e-4 * np.abs(right).max())
