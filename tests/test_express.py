"""A call like one before goes straight to its launch: the same bits, the same refusals, and never where anything differs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import npconv
from npconv import express
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


def test_where_there_is_no_short_way_nobody_prepares_weights_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stride of two takes the weights apart, of a kernel of three into parts of two and of one: NaN are looked for."""
    from npconv import joining

    rng, seen = np.random.default_rng(0), []
    g, w = rng.standard_normal((1, 32, 20, 20), np.float32), rng.standard_normal((32, 3, 3, 3), np.float32)
    weights = joining.weights
    monkeypatch.setattr(joining, "weights", lambda *given: (seen.append(1), weights(*given))[1])
    options = {"input_shape": (1, 3, 40, 40), "stride": 2, "padding": 1, "algorithm": "pixelwise"}
    counts = []
    for _ in range(3):
        seen.clear()
        npconv.conv_input_grad(g, w, **options)
        counts.append(len(seen))
    assert counts[1:] == [1, 1]
