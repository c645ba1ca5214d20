"""One tap, channels first: pixels are the lanes, everything is read in place, and the bits are those of any memory layout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import npconv
import reference
from npconv.algorithms import named
from npconv.compiled import catalogue, threads
from npconv.compiled.panels import weight_steps
from npconv.compiled.pointwise import launch as pointwise
from npconv.geometry import ConvGeometry

pytestmark = pytest.mark.skipif(catalogue.unavailable() is not None, reason=str(catalogue.unavailable()))


def geometry(n: int, c: int, o: int, size: tuple[int, ...], groups: int = 1) -> ConvGeometry:
    ones = (1,) * len(size)
    return ConvGeometry(n, c, o, size, ones, ones, ones, ((0, 0),) * len(size), ones, groups)


SHAPES = {
    "one vector": geometry(1, 5, 9, (4, 4)),
    "whole vectors": geometry(2, 24, 16, (8, 12)),
    "half a vector more": geometry(1, 33, 40, (7, 8)),
    "odd everything": geometry(3, 17, 101, (11, 13)),
    "one output": geometry(1, 100, 1, (9, 9)),
    "two outputs": geometry(2, 6, 2, (10, 10)),
    "a tile and one output": geometry(1, 20, 17, (28, 5)),
    "more channels than a sum is long": geometry(1, 600, 30, (6, 8)),
    "groups": geometry(2, 34, 50, (12, 9), groups=2),
    "panels of weights": geometry(1, 31, 150, (10, 13)),
    "whole panels of weights": geometry(1, 16, 128, (14, 14)),
    "planes a power of two apart": geometry(1, 64, 160, (32, 32)),
    "a line": geometry(2, 12, 20, (333,)),
    "a volume": geometry(1, 9, 21, (5, 6, 7)),
}


def problem(g: ConvGeometry, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(g.in_channels)
    shapes = g.x_shape, g.w_shape, (g.out_channels,)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)  # type: ignore[return-value]


def channels_last(a: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.array(np.moveaxis(a, 1, -1), order="C"), -1, 1)


def across(g: ConvGeometry, x: np.ndarray, w: np.ndarray | None = None) -> bool:
    y = np.empty(g.y_shape, x.dtype)
    steps = None if w is None else weight_steps(w.strides, g)
    return pointwise.applies(g, x.strides, y.strides, steps, x.itemsize)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SHAPES)
def test_the_bits_of_channels_last_and_near_the_loops(name: str, dtype: str) -> None:
    g = SHAPES[name]
    x, w, bias = problem(g, dtype)
    assert across(g, x, w)
    assert not across(g, channels_last(x), w)
    algorithm, kind, eps = named("blocked"), np.dtype(dtype), np.finfo(dtype).eps
    exact = [a.astype("f8") for a in (x, w, bias)]
    plain = {"stride": g.stride, "padding": g.padding, "dilation": g.dilation, "groups": g.groups}
    right = reference.conv(*exact, **plain)
    scale = reference.conv(*map(np.abs, exact), **plain)
    by_bring = {}
    ways = [algorithm.borrow, algorithm.prepare] if across(g, x) else [algorithm.borrow]
    assert len(ways) == 2 or name == "one vector"
    for bring in ways:
        prepared = algorithm.with_bounds(algorithm.with_bias(bring(w, g, kind), bias, g), -1.0, 2.5)
        there = np.random.default_rng(0).standard_normal(g.y_shape).astype(dtype)
        found = []
        for adds in (False, True):
            for source in (x, channels_last(x)):
                y = there.copy() if source is x else channels_last(there)
                if not adds:
                    y[...] = np.nan
                algorithm.forward(source, replace(prepared, adds=adds), g, y)
                found.append(y)
        assert np.array_equal(found[0], found[1])
        assert np.array_equal(found[2], found[3])
        clipped = np.clip(right, -1, 2.5)
        assert (np.abs(found[0] - clipped) <= 64 * eps * scale).all()
        assert (np.abs(found[2] - np.clip(right + there, -1, 2.5)) <= 64 * eps * (scale + np.abs(there))).all()
        by_bring[bring] = found
    first, second = by_bring[ways[0]], by_bring[ways[-1]]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", SHAPES)
def test_any_number_of_threads_and_any_order_of_weights_give_the_same_bits(name: str) -> None:
    g = SHAPES[name]
    x, w, _ = problem(g, "float32")
    algorithm, kind = named("blocked"), np.dtype("f4")
    y = np.empty(g.y_shape, kind)
    algorithm.forward(x, algorithm.borrow(w, g, kind), g, y)
    reverse = np.ascontiguousarray(w[::-1, ::-1])[::-1, ::-1]
    for weights in (w, np.moveaxis(np.ascontiguousarray(np.moveaxis(w, 1, 0)), 0, 1), reverse):
        for count in (1, 2, 3, 5):
            with threads.num_threads(count):
                again = np.full(g.y_shape, np.nan, kind)
                algorithm.forward(x, algorithm.borrow(weights, g, kind), g, again)
                assert np.array_equal(y, again)


def test_nothing_behind_the_pixels_is_used() -> None:
    """Planes with NaN between them, forwards and backwards; outputs with gaps that stay as they were."""
    g = geometry(2, 30, 21, (9, 11))
    x, w, _ = problem(g, "float32")
    right = npconv.conv(x, w, algorithm="blocked")
    for order in (1, -1):
        wide = np.full((2, 30, 99 + 7), np.nan, np.float32)
        inside = wide[:, ::order, :99].reshape(2, 30, 9, 11)
        assert inside.base is not None
        inside[...] = x
        apart = np.full((2, 21, 99 + 3), 7, np.float32)
        y = apart[:, ::order, :99].reshape(2, 21, 9, 11)
        steps = weight_steps(w.strides, g)
        assert pointwise.applies(g, inside.strides, y.strides, steps, 4)
        named("blocked").forward(inside, named("blocked").borrow(w, g, np.dtype("f4")), g, y)
        assert np.array_equal(y, right)
        assert (apart[..., 99:] == 7).all()


def test_panels_are_copied_where_they_would_meet_in_a_cache_or_lie_across_its_lines() -> None:
    def packs(size: tuple[int, int], o: int) -> int:
        g = geometry(1, 64, o, size)
        x, y, w = (np.empty(shape, np.float32) for shape in (g.x_shape, g.y_shape, g.w_shape))
        launch = pointwise.plan(g, x.strides, y.strides, weight_steps(w.strides, g), x.dtype, 2)
        return int(launch.words.words[launch.words.at["packs"]])

    assert packs((32, 32), 256)
    assert packs((14, 14), 256)
    assert not packs((28, 28), 256)
    assert not packs((32, 32), 16)


def test_when_pixels_are_lanes() -> None:
    """Where they lie side by side and fill vectors; where weights are as the caller has them, that they are near each other."""
    g = geometry(1, 64, 64, (16, 16))
    x, y = problem(g, "float32")[0], np.empty(g.y_shape, np.float32)
    gaps = np.empty((1, 64, 16, 32), np.float32)[..., ::2]
    last = (1024, 1, 64, 64)
    assert pointwise.applies(g, x.strides, y.strides, None, 4)
    assert not pointwise.applies(g, gaps.strides, y.strides, None, 4)
    assert not pointwise.applies(g, x.strides, tuple(4 * s for s in last), None, 4)
    few = geometry(1, 64, 64, (2, 3))
    assert not across(few, problem(few, "float32")[0])
    for other in (replace(g, stride=(2, 2)), replace(g, padding=((1, 1), (0, 0))), replace(g, kernel=(1, 3))):
        there = np.empty(other.x_shape, np.float32)
        assert not pointwise.applies(other, there.strides, np.empty(other.y_shape, np.float32).strides, None, 4)
    large = geometry(1, 512, 512, (14, 14))
    v, u, _ = problem(large, "float32")
    assert across(large, v, u)
    assert not across(large, v, np.moveaxis(np.ascontiguousarray(np.moveaxis(u, 1, 0)), 0, 1))


@pytest.mark.parametrize("outputs", range(1, 20))
def test_the_last_bias_belongs_to_the_last_output(outputs: int) -> None:
    """Tiles that run over the end repeat the last row, and its bias: zeros times anything leave the bias alone."""
    x, w = np.ones((1, 3, 5, 7), np.float32), np.zeros((outputs, 3, 1, 1), np.float32)
    bias = np.arange(1, outputs + 1, dtype=np.float32)
    assert across(geometry(1, 3, outputs, (5, 7)), x, w)
    y = npconv.conv(x, w, bias, algorithm="blocked")
    assert np.array_equal(y, np.broadcast_to(bias[:, None, None], y.shape))
