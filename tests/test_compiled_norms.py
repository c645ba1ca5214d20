"""Batch norm and rectifiers in machine code: against sums in float64, in both orders, and the same bits on any threads."""

from __future__ import annotations

import numpy as np
import pytest

import npconv
from npconv import nn
from npconv.compiled import catalogue
from npconv.compiled.norms import launch

pytestmark = pytest.mark.skipif(catalogue.unavailable() is not None, reason=str(catalogue.unavailable()))

#: Few and many channels, planes of less than a vector, of odd length, and one that is cut into runs.
SHAPES = [(2, 3, 37, 41), (5, 65, 9, 9), (32, 129, 2, 2), (3, 5, 7001), (700, 33), (1, 1, 5000), (2, 2, 6, 11, 13, 7)]
DTYPES = (np.float32, np.float64)


def arrays(shape, dtype, last: bool, count: int = 2) -> list[np.ndarray]:
    """Canonical (N, C, *in) arrays whose channels lie first or last in memory."""
    rng = np.random.default_rng(len(shape))
    made = [(rng.standard_normal(shape) + 3).astype(dtype) for _ in range(count)]
    return [np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) for a in made] if last else made


def along(numbers: np.ndarray, ndim: int) -> np.ndarray:
    return numbers.reshape(-1, *(1,) * (ndim - 2))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_and_sweeps(dtype, shape, last):
    x, g = arrays(shape, dtype, last)
    assert launch.ready(x, g)
    axes, rng = (0, *range(2, x.ndim)), np.random.default_rng(0)
    pivot = x[(0, slice(None), *(0,) * (x.ndim - 2))]
    d, wide = x.astype(np.float64) - along(pivot, x.ndim), g.astype(np.float64)
    count = x.size // shape[1]
    for found, exact in zip(
        (*launch.channel_sums(x, pivot), *launch.channel_sums(x, pivot, g)), (d, d * d, wide, wide * d), strict=True
    ):
        bound = count * 2.0**-53 * np.abs(exact).sum(axes)  # what any order of adding keeps
        assert (np.abs(found - exact.sum(axes)) <= bound).all()
    a, b, c = (rng.standard_normal(shape[1]) for _ in range(3))
    unit, spread = np.finfo(dtype).eps, [along(n, x.ndim) for n in (a, b, c)]
    for y, terms in (
        (launch.affine(x, pivot, a, b), (d * spread[0], spread[1])),
        (launch.affine_back(x, g, pivot, a, b, c), (wide * spread[0], d * spread[1], spread[2])),
    ):
        assert y.strides == x.strides
        assert y.dtype == dtype
        assert (np.abs(y - sum(terms)) <= 8 * unit * sum(np.abs(t) for t in terms)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_rectifiers(dtype):
    x, g = arrays((3, 5, 33, 31), dtype, False)
    x = x - 3
    x.flat[[0, 100, 5000]] = np.nan, np.inf, -np.inf
    g.flat[[1, 5000]] = np.nan, np.inf
    assert np.array_equal(launch.rectified(x), np.maximum(x, 0), equal_nan=True)
    assert np.array_equal(launch.rectified(x, g), np.where(x > 0, g, 0), equal_nan=True)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_layer_is_the_same_without_machine_code(monkeypatch, dtype, layout):
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, 6, 24, 10, 24)).astype(dtype)
    layer = nn.BatchNorm(24, layout=layout, dtype=dtype) if layout == "channels_last" else nn.BatchNorm(24, dtype=dtype)
    x = (5 * x + 100).reshape(6, 24, 10, 24)

    def both_ways() -> list[np.ndarray]:
        for name in layer.state:
            layer.state[name][...] = 1
        layer.params["weight"][...] = np.linspace(-1, 2, 24)
        found = []
        for training in (True, False):
            y, saved = layer.forward(x, training=training)
            gx, grads = layer.backward(g, saved)
            found += [y, gx, *grads.values(), *(a.copy() for a in layer.state.values())]
        return found

    ours = both_ways()
    monkeypatch.setattr(launch, "ready", lambda *_: False)
    for a, b in zip(ours, both_ways(), strict=True):
        assert a.dtype == b.dtype == dtype
        assert np.abs(a - b).max() <= 500 * np.finfo(dtype).eps * np.abs(b).max()


@pytest.mark.parametrize("last", [False, True])
def test_the_same_bits_on_any_number_of_threads(last):
    x, g = arrays((8, 67, 60, 33), np.float32, last)

    def everything() -> list[np.ndarray]:
        pivot = np.zeros(67, np.float32)
        sums = (*launch.channel_sums(x, pivot), *launch.channel_sums(x, pivot, g))
        factors = [s.astype(np.float32) for s in sums[:3]]
        return [*sums, launch.affine(x, pivot, *factors[:2]), launch.affine_back(x, g, pivot, *factors)]

    with npconv.num_threads(1):
        alone = everything()
    with npconv.num_threads(2):
        together = everything()
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_what_has_no_kernel_is_left_to_numpy():
    x = np.ones((4, 8, 32, 32), np.float32)
    assert launch.ready(x)
    assert not launch.ready(x[:, :, ::2])
    assert not launch.ready(x.astype(np.float16))
    assert not launch.ready(x, x.astype(np.float64))
    assert not launch.ready(x[:1, :, :2])
    assert launch.rectified(x[:, ::2]) is None
    layer = nn.BatchNorm(8)
    y, saved = layer.forward(x)
    wide = np.repeat(x, 2, axis=1)[:, ::2]
    assert np.array_equal(layer.backward(wide, saved)[0], layer.backward(x, saved)[0])
    assert y.shape == x.shape
