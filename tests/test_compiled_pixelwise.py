"""Few outputs in machine code: every size, memory layout and number of threads, against the definition."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import npconv
import npconv.testing
import reference
from npconv.algorithms import named
from npconv.compiled import catalogue, threads
from npconv.compiled.panels import weight_steps
from npconv.compiled.pixelwise import launch
from npconv.geometry import ConvGeometry

pytestmark = pytest.mark.skipif(catalogue.unavailable() is not None, reason=str(catalogue.unavailable()))


def drawn(rng: np.random.Generator) -> ConvGeometry:
    """A problem of rank 1 to 3 with at least one output."""
    rank, groups = int(rng.integers(1, 4)), int(rng.choice([1, 1, 1, 2, 3]))
    one = lambda low, high: tuple(int(v) for v in rng.integers(low, high, rank))  # noqa: E731
    c, o = (int(rng.choice([1, 1, 2, 3, 4, 5, 8, 17, 20])) * groups for _ in range(2))
    size, kernel = one(1, (0, 700, 45, 12)[rank]), one(1, (0, 12, 6, 4)[rank])
    stride, dilation = one(1, 5) if rng.random() < 0.5 else (1,) * rank, one(1, 4)
    pads = tuple((int(a), int(b)) for a, b in rng.integers(-1, 5, (rank, 2)))
    g = ConvGeometry(int(rng.choice([1, 2, 5])), c, o, size, kernel, stride, dilation, pads, (1,) * rank, groups)
    fits = all(have >= need for have, need in zip(g.padded_shape, g.effective, strict=True))
    return g.tight() if fits else drawn(rng)


def views(array: np.ndarray) -> list[np.ndarray]:
    """The same numbers in several memory layouts; gaps hold NaN."""
    gaps = np.full((*array.shape[:-1], 2 * array.shape[-1] + 1), np.nan, array.dtype)
    gaps[..., 1::2] = array
    beside = np.full((*np.moveaxis(array, 1, -1).shape[:-1], array.shape[1] + 3), np.nan, array.dtype)
    beside[..., 2:-1] = np.moveaxis(array, 1, -1)
    return [
        array.copy(),
        np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1),
        array[..., ::-1].copy()[..., ::-1],
        gaps[..., 1::2],
        np.moveaxis(beside[..., 2:-1], -1, 1),
    ]


def options(g: ConvGeometry) -> dict:
    return {"stride": g.stride, "padding": g.padding, "dilation": g.dilation, "groups": g.groups}


def computed(g: ConvGeometry, x: np.ndarray, w: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The forward pass of the algorithm alone, with weights brought in order before and on the way."""
    algorithm, found = named("pixelwise"), []
    for make in (algorithm.prepare, algorithm.borrow):
        y[...] = np.nan
        algorithm.forward(x, make(w, g, y.dtype), g, y)
        found.append(y.copy())
    assert np.array_equal(*found, equal_nan=True)
    return found[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(8))
def test_random_problems_in_any_layout_and_on_any_number_of_threads(seed: int, dtype: str) -> None:
    rng = np.random.default_rng([seed, dtype == "float32"])
    for _ in range(20):
        g = drawn(rng)
        x, w = (rng.standard_normal(shape).astype(dtype) for shape in (g.x_shape, g.w_shape))
        exact = reference.conv(x.astype("f8"), w.astype("f8"), **options(g))
        scale = reference.conv(np.abs(x).astype("f8"), np.abs(w).astype("f8"), **options(g))
        first = None
        for given, into in zip(views(x), reversed(views(np.zeros(g.y_shape, dtype))), strict=True):
            with threads.num_threads(int(rng.integers(1, 4))):
                y = computed(g, given, views(w)[int(rng.integers(5))], into)
            assert (np.abs(y - exact) <= 128 * np.finfo(dtype).eps / 2 * scale).all(), g
            assert first is None or np.array_equal(first, y), g
            first = y


def test_boxes_meet_without_a_seam() -> None:
    """Images so wide and channels so many that a call is cut along both axes."""
    rng = np.random.default_rng(4)
    cut = 0
    for c, o, size, kernel, stride in (
        (3, 2, (70, 2100), (5, 3), (1, 1)), (9, 5, (40, 2100), (3, 3), (1, 1)), (40, 1, (30, 4200), (1, 3), (2, 2)),
    ):  # fmt: skip
        g = ConvGeometry(1, c, o, size, kernel, stride, (1, 1), ((1, 2), (2, 1)), (1, 1), 1).tight()
        boxes = launch.cut(g, 4, threads.current()).boxes
        cut += boxes[0] > 1 < boxes[1]
        x, w = (rng.integers(-4, 5, shape).astype("f4") for shape in (g.x_shape, g.w_shape))
        right = reference.conv(x, w, **options(g))
        for given in views(x)[:2]:
            assert np.array_equal(computed(g, given, w, np.empty(g.y_shape, "f4")), right)
    assert cut == 3


def test_a_signal_is_shared_among_threads() -> None:
    """It has one row, which is cut for them; an image of as many pixels has rows enough."""
    for size, boxes in (((16_000,), (1, 5)), ((125, 128), (5, 1))):
        one = (1,) * len(size)
        kernel = (31,) if len(size) == 1 else (5, 6)
        g = ConvGeometry(1, 1, 1, size, kernel, one, one, ((2, 2),) * len(size), one, 1)
        assert launch.cut(g, 4, 2).boxes == boxes
        assert launch.cut(g, 4, 1).boxes == (1, 1)
        x, w = (np.random.default_rng(0).integers(-4, 5, shape).astype("f4") for shape in (g.x_shape, g.w_shape))
        assert np.array_equal(computed(g, x, w, np.empty(g.y_shape, "f4")), reference.conv(x, w, **options(g)))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 16, 17])
@pytest.mark.parametrize("outputs", [1, 2, 3, 4, 5, 16, 17])
def test_every_number_of_channels_side_by_side(channels: int, outputs: int) -> None:
    """Pixels of few numbers are taken apart and put together by vectors: widths around one and two of them."""
    rng = np.random.default_rng([channels, outputs])
    for width, stride in product((1, 15, 16, 17, 31, 32, 33, 40), (1, 2, 3)):
        g = ConvGeometry(2, channels, outputs, (3, width), (2, 1), (1, stride), (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
        x, w = (rng.integers(-9, 10, shape).astype("f4") for shape in (g.x_shape, g.w_shape))
        right = reference.conv(x, w, **options(g))
        for given, into in zip(views(x), views(np.empty(g.y_shape, "f4")), strict=True):
            assert np.array_equal(computed(g, given, w, into), right)


@pytest.mark.parametrize("groups", [2, 3, 4, 5, 6, 8, 16, 17, 24, 40])
@pytest.mark.parametrize(("channels", "outputs"), [(1, 1), (1, 3), (3, 1), (2, 4)])
def test_groups_whose_channels_lie_side_by_side(groups: int, channels: int, outputs: int) -> None:
    """A task reads and writes several of them, in x, in y or in both; the bias and the weights are each one's own."""
    rng, algorithm = np.random.default_rng([groups, channels, outputs]), named("pixelwise")
    for width, stride in product((1, 16, 40), (1, 2)):
        sides, ones = (3, width), (1, 1)
        c, o = channels * groups, outputs * groups
        g = ConvGeometry(2, c, o, sides, (2, 1), (1, stride), ones, ((0, 0), (0, 0)), ones, groups)
        x, w, bias = (rng.integers(-9, 10, shape).astype("f4") for shape in (g.x_shape, g.w_shape, (o,)))
        right = reference.conv(x, w, **options(g))
        for given, into in product(views(x)[:2], views(np.empty(g.y_shape, "f4"))[:2]):
            assert np.array_equal(computed(g, given, w, into), right)
            algorithm.forward(given, algorithm.with_bias(algorithm.prepare(w, g, into.dtype), bias, g), g, into)
            assert np.array_equal(into, right + bias[:, None, None])


@pytest.mark.parametrize(("channels", "kernel"), [(1, (20_000,)), (3, (90, 80)), (300, (3, 3)), (700, (1, 1))])
def test_more_products_than_a_chunk(channels: int, kernel: tuple[int, ...]) -> None:
    """Equal products are all rounded the same way: a single float32 sum of all of them would be far off."""
    rank, few = len(kernel), tuple(k + 2 for k in kernel)
    one = (1,) * rank
    g = ConvGeometry(1, channels, 3, few, kernel, one, one, ((0, 0),) * rank, one, 1)
    x, w = np.full(g.x_shape, 0.1, "f4"), np.full(g.w_shape, 0.7, "f4")
    right = np.float64(x.flat[0]) * np.float64(w.flat[0]) * w[0].size
    assert (np.abs(computed(g, x, w, np.empty(g.y_shape, "f4")) - right) <= 128 * 2.0**-24 * right).all()


def test_bias_and_bounds() -> None:
    algorithm, rng = named("pixelwise"), np.random.default_rng(3)
    for c, o, groups in ((3, 5, 1), (40, 3, 1), (6, 9, 3)):
        g = ConvGeometry(2, c, o, (9, 30), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), (1, 1), groups)
        x, w, bias = (rng.standard_normal(shape) for shape in (g.x_shape, g.w_shape, (o,)))
        y, right = np.full(g.y_shape, np.nan), reference.conv(x, w, bias, **options(g))
        prepared = algorithm.with_bias(algorithm.prepare(w, g, y.dtype), bias, g)
        algorithm.forward(x, prepared, g, y)
        assert np.allclose(y, right, rtol=1e-13, atol=1e-13)
        algorithm.forward(x, algorithm.with_bounds(prepared, 0.0, 6.0), g, y)
        assert np.allclose(y, np.clip(right, 0, 6), rtol=1e-13, atol=1e-13)
    plan = npconv.plan_conv(x.shape, w, bias, padding=1, groups=3, activation="relu", algorithm="pixelwise")
    assert np.allclose(plan(x), np.maximum(right, 0), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    "shape",
    [
        (3, 4, (9, 30), (3, 3), 1),
        (2, 17, (5, 40), (3, 3), 1),
        (300, 2, (4, 9), (2, 2), 1),
        (3, 3, (9, 30), (3, 3), 3),
        (12, 24, (5, 40), (3, 3), 12),
    ],
)
def test_outputs_are_added_to_what_is_there(shape: tuple) -> None:
    """Bounds are those of the sum, in every layout; and of several chunks of products the first alone adds."""
    c, o, size, kernel, groups = shape
    g = ConvGeometry(2, c, o, size, kernel, (1, 1), (1, 1), ((1, 1), (1, 1)), (1, 1), groups)
    algorithm, rng = named("pixelwise"), np.random.default_rng(c)
    x, w, bias, before = (rng.integers(-3, 4, s).astype("f4") for s in (g.x_shape, g.w_shape, (o,), g.y_shape))
    right = np.clip(before + reference.conv(x, w, bias, **options(g)), -20, 30)
    prepared = algorithm.with_bounds(algorithm.with_bias(algorithm.prepare(w, g, x.dtype), bias, g), -20, 30)
    for given, into in zip(views(x), views(before), strict=True):
        algorithm.forward(given, algorithm.with_sum(prepared), g, into)
        assert np.array_equal(into, right)


def test_infinite_and_missing_numbers_reach_what_reads_them() -> None:
    """Lanes between the rows are computed too, and must not show; a zero of the padding times infinity is a NaN."""
    g = ConvGeometry(1, 2, 3, (6, 7), (3, 3), (1, 1), (1, 1), ((1, 2), (2, 1)), (1, 1), 1)
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal(g.x_shape), rng.standard_normal(g.w_shape)
    x[0, 1, 2, 6], x[0, 0, 5, 0], w[1, 0, 0, 1] = np.nan, np.inf, -np.inf
    with np.errstate(all="ignore"):
        right = reference.conv(x, w, **options(g))
    for given in views(x):
        y = computed(g, given, w, np.empty(g.y_shape))
        assert np.array_equal(np.isnan(y), np.isnan(right))
        assert np.array_equal(np.isinf(y), np.isinf(right))


def test_a_launch_stays_within_its_workspace() -> None:
    rng = np.random.default_rng(11)
    for _, dtype, workers in product(range(300), (np.dtype("f4"), np.dtype("f8")), (1, 4)):
        g = drawn(rng)
        w = np.empty(g.w_shape, dtype).strides
        for x, y in zip(*(views(np.empty(shape, dtype))[:2] for shape in (g.x_shape, g.y_shape)), strict=True):
            planned = launch.plan(g, x.strides, y.strides, weight_steps(w, g), dtype, workers)
            assert planned is not None
            assert planned.scratch * workers <= launch.workspace(g, dtype.itemsize, workers)


@pytest.mark.skipif(sys.platform != "linux", reason="guard pages are made with Linux's mprotect")
def test_the_last_pixel_is_the_last_of_its_page() -> None:
    """Whole vectors take apart pixels of a few numbers, and rows that a stride steps over: nothing behind them is read."""
    code = """
import numpy as np
from last_page import at_the_end
from npconv.algorithms import named
from npconv.geometry import ConvGeometry

algorithm, rng = named("pixelwise"), np.random.default_rng(0)
for channels in (1, 2, 3, 4, 5, 16, 17):
    for outputs, stride, width, last in ((1, 1, 48, 0), (3, 1, 33, 1), (4, 2, 32, 1), (2, 2, 31, 0), (2, 3, 46, 0), (5, 4, 61, 0)):
        g = ConvGeometry(1, channels, outputs, (2, width), (2, 1), (1, stride), (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
        axes = (0, 2, 3, 1) if last else (0, 1, 2, 3)
        back = (0, 3, 1, 2) if last else axes
        x, w = (rng.integers(-9, 10, shape).astype("f4") for shape in (g.x_shape, g.w_shape))
        y = np.empty(g.y_shape, "f4")
        results = []
        for place in (np.copy, at_the_end):
            a, b, c = (place(v.transpose(axes).copy()).transpose(back) for v in (x, w, y))
            algorithm.forward(a, algorithm.borrow(b, g, c.dtype), g, c)
            results.append(c.copy())
        assert np.array_equal(*results)
print("whole")
"""
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    assert found.stdout == "whole\n", found.stderr


def test_narrower_vectors(narrower: dict[str, str]) -> None:
    chosen = [f"{__file__}::{name}" for name in (
        "test_boxes_meet_without_a_seam", "test_bias_and_bounds", "test_every_number_of_channels_side_by_side",
    )]  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *chosen]
    found = subprocess.run(command, capture_output=True, text=True, env=narrower)
    assert (found.returncode, "skipped" in found.stdout) == (0, False), found.stdout[-2000:]


def test_the_contract() -> None:
    report = npconv.testing.verify_algorithm(named("pixelwise"), problems_per_dtype=80)
    assert report.accepted > 40


def test_it_refuses_with_a_reason() -> None:
    g = ConvGeometry(1, 64, 64, (8, 8), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    algorithm = named("pixelwise")
    assert "output channels in a group" in (algorithm.why_not(g, np.dtype("f4")) or "")
    assert "float32 or float64" in (algorithm.why_not(g, np.dtype("c8")) or "")
