"""Depthwise and small groups in machine code: every size, memory layout and number of threads, against the loops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import npconv
import npconv.testing
import reference
from npconv.algorithms import named
from npconv.algorithms.base import input_grad_weights
from npconv.algorithms.channelwise import ChannelwisePhases
from npconv.compiled import catalogue, threads
from npconv.compiled.calls import address
from npconv.compiled.channelwise import launch, phases
from npconv.compiled.channelwise.launch import plan, plan_gradient
from npconv.compiled.channelwise.sizes import BELOW, BESIDE, NOTHING
from npconv.compiled.panels import registers, vector_bytes
from npconv.execution import parts
from npconv.geometry import ConvGeometry
from npconv.phases import joint

pytestmark = pytest.mark.skipif(catalogue.unavailable() is not None, reason=str(catalogue.unavailable()))
GROUPS = (1, 2, 3, 5, 16, 17, 33, 64, 100)
PAIRS = (
    (1, 1),
    (1, 1),
    (1, 1),
    (2, 2),
    (4, 4),
    (1, 2),
    (1, 3),
    (1, 4),
    (1, 8),
    (3, 1),
    (2, 3),
    (4, 3),
    (8, 8),
    (8, 5),
    (2, 1),
    (4, 1),
    (8, 1),
    (1, 2),
    (1, 5),
)


def drawn(rng: np.random.Generator) -> ConvGeometry:
    """A problem of rank 1 to 3 with at least one output."""
    rank, groups = int(rng.integers(1, 4)), int(rng.choice(GROUPS))
    c, o = PAIRS[rng.integers(len(PAIRS))]
    groups = min(groups, 160 // max(c, o))
    one = lambda low, high: tuple(int(v) for v in rng.integers(low, high, rank))  # noqa: E731
    size, kernel = one(1, (0, 300, 15, 7)[rank]), one(1, (0, 10, 5, 4)[rank])
    stride, dilation = one(1, 4) if rng.random() < 0.6 else (1,) * rank, one(1, 3)
    pads = tuple((int(a), int(b)) for a, b in rng.integers(-1, 4, (rank, 2)))
    batch = int(rng.choice([1, 2, 5]))
    g = ConvGeometry(batch, c * groups, o * groups, size, kernel, stride, dilation, pads, (1,) * rank, groups)
    fits = all(have >= need for have, need in zip(g.padded_shape, g.effective, strict=True))
    return g.tight() if fits else drawn(rng)


def runs(g: ConvGeometry, dtype: str) -> bool:
    return named("channelwise").why_not(g, np.dtype(dtype)) is None


def view(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same numbers in some memory layout: ours, channels last, reversed, or with gaps that hold NaN."""
    kind = rng.integers(5)
    if kind == 0:
        return array.copy()
    if kind <= 2:
        return np.moveaxis(np.array(np.moveaxis(array, 1, -1), order="C"), -1, 1)
    if kind == 3:
        return array[..., ::-1].copy()[..., ::-1]
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1] + 1), np.nan, array.dtype)
    wide[..., 1::2] = array
    return wide[..., 1::2]


def options(g: ConvGeometry) -> dict:
    return {"stride": g.stride, "padding": g.padding, "dilation": g.dilation, "groups": g.groups}


def within(result: np.ndarray, right: np.ndarray, scale: np.ndarray) -> bool:
    """The bound that the algorithm promises: 128 u S."""
    return bool((np.abs(result - right) <= 128 * np.finfo(result.dtype).eps / 2 * scale).all())


def computed(what: str, g: ConvGeometry, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
    """One pass of the algorithm alone, straight into `out`."""
    algorithm = named("channelwise")
    if what == "weight_grad":
        out[...] = 0
        algorithm.weight_grad(a, b, g, out)
        return out
    out[...] = np.nan
    algorithm.forward(a, algorithm.prepare(b, g, out.dtype), g, out)
    first = out.copy()
    out[...] = np.nan
    algorithm.forward(a, algorithm.borrow(b, g, out.dtype), g, out)
    assert np.array_equal(first, out, equal_nan=True)
    return out


@pytest.mark.parametrize("what", ["forward", "weight_grad"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(10))
def test_random_problems_in_any_layout_and_on_any_number_of_threads(seed: int, dtype: str, what: str) -> None:
    rng = np.random.default_rng([seed, dtype == "float32", what == "forward"])
    done = 0
    while done < 16:
        g = drawn(rng)
        if not runs(g, dtype):
            continue
        done += 1
        shapes = (g.x_shape, g.w_shape) if what == "forward" else (g.x_shape, g.y_shape)
        a, b = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
        if what == "forward":
            right, scale = (
                reference.conv(p.astype("f8"), q.astype("f8"), **options(g)) for p, q in ((a, b), (abs(a), abs(b)))
            )
        else:
            right, scale = (
                reference.conv_weight_grad(p.astype("f8"), q.astype("f8"), g.w_shape, **options(g))
                for p, q in ((a, b), (abs(a), abs(b)))
            )
        a, b, out = view(a, rng), view(b, rng), view(np.empty(right.shape, dtype), rng)
        before = a.tobytes(), b.tobytes()
        first = computed(what, g, a, b, out).copy()
        assert within(first, right, scale), g
        assert (a.tobytes(), b.tobytes()) == before
        for count in (1, 2, 3):
            with threads.num_threads(count):
                assert np.array_equal(computed(what, g, a, b, out), first), (g, count)


@pytest.mark.parametrize(
    ("size", "stride", "expected", "far"),
    [(9, 1, BESIDE, False), (20, 1, BELOW, True), (28, 2, BELOW, False), (10, 2, BESIDE, False)],
)
def test_squares_bring_what_comes_from_memory(
    size: int, stride: int, expected: int, far: bool, where_inputs_lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows below, or where an image is no wider than two squares what the next vectors read; the forward pass rows alone.

    Where caches are far, that one leaves short rows and strides to hardware.
    """
    if registers(vector_bytes()) != 32:
        pytest.skip("there are squares where there are 32 registers")
    one, pads = (1, 1), ((1, 1), (1, 1))
    g = ConvGeometry(2, 64, 64, (size, size), (3, 3), (stride, stride), one, pads, one, 64)
    x, y = (np.moveaxis(np.empty((s[0], *s[2:], s[1]), np.float32), -1, 1) for s in (g.x_shape, g.y_shape))
    w = np.empty(g.w_shape, np.float32)
    gradient = plan_gradient(g, x.strides, y.strides, w.strides, w.dtype).parts.words
    comes = where_inputs_lie == "from memory"
    assert gradient.words[gradient.at["ahead"]] == (expected if comes else NOTHING)
    for caches in (False, True):
        monkeypatch.setattr(launch, "FAR_CACHE", caches)
        plan.cache_clear()
        forward = plan(g, x.strides, y.strides, None, w.dtype).words
        assert forward.words[forward.at["ahead"]] == int(comes and (far or not caches))
    plan.cache_clear()


@pytest.mark.usefixtures("where_inputs_lie")
@pytest.mark.parametrize("what", ["forward", "weight_grad"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_squares_of_three_taps_in_both_layouts(dtype: str, what: str) -> None:
    """Tiles of two rows, what they leave at the end of rows and columns, and the borders: the same bits everywhere."""
    rng = np.random.default_rng(11)
    last = lambda a: np.moveaxis(np.array(np.moveaxis(a, 1, -1), order="C"), -1, 1)  # noqa: E731
    for i in range(24):
        rank = 2 + (i % 4 == 3)
        c, s = int(rng.choice([3, 16, 33, 40])), 1 + i % 2
        size = tuple(int(n) for n in rng.integers(3, (0, 0, 40, 17)[rank], rank))
        pads = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (rank, 2)))
        one = (1,) * rank
        g = ConvGeometry(int(rng.choice([1, 3])), c, c, size, (3,) * rank, (s,) * rank, one, pads, one, c)
        shapes = (g.x_shape, g.w_shape) if what == "forward" else (g.x_shape, g.y_shape)
        a, b = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
        right, scale = (
            reference.conv(p, q, **options(g))
            if what == "forward"
            else reference.conv_weight_grad(p, q, g.w_shape, **options(g))
            for p, q in ((a.astype("f8"), b.astype("f8")), (abs(a).astype("f8"), abs(b).astype("f8")))
        )
        first = computed(what, g, a, b, np.empty(right.shape, dtype))
        assert within(first, right, scale), g
        other = last(b) if what == "weight_grad" else b
        for count in (1, 2):
            with threads.num_threads(count):
                assert np.array_equal(computed(what, g, last(a), other, last(np.empty_like(first))), first), (g, count)


def test_writing_and_adding_a_weight_gradient() -> None:
    """What a gradient is written over does not matter; what it is added to does; infinities stay where they belong."""
    algorithm, rng = named("channelwise"), np.random.default_rng(5)
    for c, group, last in ((40, 1, True), (40, 1, False), (12, 4, True)):
        g = ConvGeometry(2, c, c, (9, 17), (3, 3), (1, 1), (1, 1), ((1, 0), (0, 1)), (1, 1), c // group)
        if not runs(g, "float64"):  # two lanes are fewer than a group
            continue
        x, gy = rng.standard_normal(g.x_shape), rng.standard_normal(g.y_shape)
        x[0, 2, 8, 16] = np.inf  # the last tap alone reads it
        with np.errstate(invalid="ignore"):
            right = reference.conv_weight_grad(x, gy, g.w_shape, **options(g))
        dw = np.full(g.w_shape, np.nan)
        if last:
            dw = np.moveaxis(np.full((3, 3, group, c), np.nan), (3, 2), (0, 1))
        algorithm.write_weight_grad(x, gy, g, dw)
        assert np.array_equal(np.isfinite(dw), np.isfinite(right))
        assert np.allclose(dw, right, rtol=1e-12, atol=1e-12)
        algorithm.weight_grad(x, gy, g, dw)
        assert np.allclose(dw, 2 * right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_public_passes_and_transposed(layout: str) -> None:
    """Strided phases of the input gradient and of the transposed convolution write into every second pixel."""
    rng = np.random.default_rng(7)
    last = layout == "channels_last"
    turned = lambda a: np.ascontiguousarray(np.moveaxis(a, 1, -1)) if last else a  # noqa: E731
    for _ in range(60):
        g = drawn(rng)
        x, w = rng.standard_normal(g.x_shape), rng.standard_normal(g.w_shape)
        y = rng.standard_normal(g.y_shape)
        if not (runs(g, "float64") and runs(g.transposed(), "float64")):
            continue
        given = {**options(g), "layout": layout, "algorithm": "channelwise"}
        kernel = np.ascontiguousarray(w.transpose(*range(2, w.ndim), 1, 0)) if last else w
        dx = npconv.conv_input_grad(turned(y), kernel, input_shape=turned(x).shape, **given)
        scale = reference.conv_input_grad(abs(y), abs(w), g.x_shape, **options(g))
        right = reference.conv_input_grad(y, w, g.x_shape, **options(g))
        assert within(np.moveaxis(dx, -1, 1) if last else dx, right, scale), g
    x, w = rng.standard_normal((2, 12, 9, 8)), rng.standard_normal((12, 1, 4, 3))
    kernel = np.ascontiguousarray(w.transpose(2, 3, 1, 0)) if last else w
    more = {"stride": (2, 3), "padding": ((1, 0), (0, 2)), "dilation": (1, 1), "groups": 12}
    result = npconv.conv_transpose(
        turned(x),
        kernel if not last else np.ascontiguousarray(w.transpose(2, 3, 1, 0)),
        layout=layout,
        algorithm="channelwise",
        **more,
    )
    size = tuple(np.moveaxis(result, -1, 1).shape[2:] if last else result.shape[2:])
    right = reference.conv_transpose(x, w, out_size=size, **more)
    assert np.allclose(np.moveaxis(result, -1, 1) if last else result, right, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_phases_of_a_stride_in_one_launch(layout: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients and transposed convolutions of any stride: the same bits on any number of threads, every output written."""
    rng, last, ran = np.random.default_rng(31), layout == "channels_last", []
    run = phases.Bundle.run
    monkeypatch.setattr(phases.Bundle, "run", lambda self, x, y: ran.append(len(self.launch.table)) or run(self, x, y))
    turned = lambda a: np.ascontiguousarray(np.moveaxis(a, 1, -1)) if last else a  # noqa: E731
    for rank, batch, c, kernel, stride in (
        (1, 1, 33, (5,), (2,)),
        (2, 1, 40, (3, 3), (2, 2)),
        (2, 7, 16, (5, 4), (3, 2)),  # more images than weights are packed anew for
        (2, 2, 3, (2, 2), (2, 2)),
        (2, 1, 17, (1, 3), (2, 2)),  # some outputs are read by no tap
        (3, 1, 20, (3, 2, 3), (2, 1, 2)),
    ):
        out = tuple(int(n) for n in rng.integers(4, 9, rank))
        size = tuple((m - 1) * s + k - 1 for m, s, k in zip(out, stride, kernel, strict=True))
        geometry = {"stride": stride, "padding": ((1, 0),) * rank, "groups": c}
        w, g = (rng.standard_normal(n).astype(dtype) for n in ((c, 1, *kernel), (batch, c, *out)))
        weights = np.ascontiguousarray(w.transpose(*range(2, rank + 2), 1, 0)) if last else w
        given = {**geometry, "layout": layout, "algorithm": "channelwise"}
        whole = {**geometry, "dilation": (1,) * rank}
        right, scale = (
            reference.conv_input_grad(a.astype("f8"), b.astype("f8"), (batch, c, *size), **whole)
            for a, b in ((g, w), (abs(g), abs(w)))
        )
        shape, results = turned(right).shape, []
        for count in (1, 2, 3):
            with threads.num_threads(count):
                dx = np.full(shape, np.nan, dtype)
                results.append(npconv.conv_input_grad(turned(g), weights, input_shape=shape, out=dx, **given))
        assert within(np.moveaxis(results[0], -1, 1) if last else results[0], right, scale), (kernel, stride)
        assert all(np.array_equal(results[0], each) for each in results[1:])
        bias = rng.standard_normal(c).astype(dtype)
        plain = npconv.conv_transpose(turned(g), weights, **given)
        added = np.expand_dims(bias, tuple(range(1, rank + 1))) if not last else bias
        plan = npconv.plan_conv_transpose(turned(g).shape, weights, bias, **given)
        for result in (npconv.conv_transpose(turned(g), weights, bias, **given), plan(turned(g)), plan(turned(g))):
            assert np.allclose(result, plain + added, rtol=1e-5, atol=1e-5), kernel
    assert {2, 4, 6} <= set(ran)  # phases; where few channels fill no vector, one convolution of all is better


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_four_phases_in_one_sweep(dtype: str, monkeypatch) -> None:
    """Quads of outputs have the bits of phase after phase, at every border and padding, in any layout."""
    rng, kind = np.random.default_rng(17), np.dtype(dtype)
    last = lambda a: np.moveaxis(np.array(np.moveaxis(a, 1, -1), order="C"), -1, 1)  # noqa: E731
    for i in range(24):
        kernel = int(rng.integers(2, 6)), int(rng.choice([3, 5]))
        pads = tuple((int(a), int(b)) for a, b in rng.integers(0, 4, (2, 2)))
        c, n, size = (
            int(rng.choice([3, 16, 33, 64])),
            int(rng.choice([1, 2, 5])),
            tuple(rng.integers(6, 40, 2).tolist()),
        )
        whole = ConvGeometry(n, c, c, size, kernel, (2, 2), (1, 1), pads, (1, 1), c)
        g, w = (rng.standard_normal(shape).astype(dtype) for shape in (whole.y_shape, whole.w_shape))
        right, scale = (
            reference.conv_input_grad(a.astype("f8"), b.astype("f8"), whole.x_shape, **options(whole))
            for a, b in ((g, w), (abs(g), abs(w)))
        )
        if i % 3 == 0:
            g[0, 0, 0, -1] = np.inf
        of = joint(parts(whole, "input_grad"))
        assert of is not None
        assert phases.quads(of) is not None, whole
        run, flat = ChannelwisePhases(of), input_grad_weights(w, c)
        first = np.empty(whole.x_shape, dtype)
        with monkeypatch.context() as apart:
            apart.setattr(phases, "quad_launch", lambda *arguments: None)
            ready = run.prepare(flat, of.geometry, kind)
            bound = run.bind(ready, of.geometry, g.strides, first.strides, kind)
            assert isinstance(bound, phases.Bundle)
            bound.run(address(g), address(first))
        found = [first.copy()]
        for x, y in ((g, first), (last(g), last(first)), (last(g), first), (g, last(first))):
            for count in (1, 2, 3):
                with threads.num_threads(count):
                    for ready in (run.prepare(flat, of.geometry, kind), run.borrow(flat, of.geometry, kind)):
                        y[...] = np.nan
                        bound = run.bind(ready, of.geometry, x.strides, y.strides, kind)
                        assert not isinstance(bound, phases.Bundle)
                        bound.run(address(x), address(y))
                        found.append(y.copy())
                    lent = run.lend(flat.strides, of.geometry, x.strides, y.strides, kind)
                    if lent is not None:
                        y[...] = np.nan
                        lent.run_with(address(x), address(y), address(flat))
                        found.append(y.copy())
        assert all(np.array_equal(found[0], each, equal_nan=True) for each in found), whole
        assert i % 3 == 0 or within(found[-1], right, scale), whole
        bias = rng.standard_normal(c).astype(dtype)
        ready = run.with_bounds(run.with_bias(run.prepare(flat, of.geometry, kind), bias, of.geometry), -0.5, 1.0)
        run.bind(ready, of.geometry, x.strides, y.strides, kind).run(address(x), address(y))
        assert np.array_equal(y, np.clip(found[0] + bias[:, None, None], -0.5, 1.0).astype(dtype), equal_nan=True), (
            whole
        )


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_threads_in_different_phases_at_a_time(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large enough for several threads: each has scratch of its own, whatever phase it is in."""
    steps, run = [], phases.Bundle.run_with

    def noted(self: phases.Bundle, *given: int) -> bool:
        steps.append(set(self.launch.table[:, self.launch.at["scratch_step"]].tolist()) == {self.launch.scratch})
        return run(self, *given)

    monkeypatch.setattr(phases.Bundle, "run_with", noted)
    rng, c, n = np.random.default_rng(8), 72, 41
    g, w = rng.standard_normal((2, c, n, n)).astype("f4"), rng.standard_normal((c, 1, 5, 4)).astype("f4")
    shape, options = (2, c, 84, 83), {"stride": 2, "padding": 1, "groups": c, "kernel_layout": "OIHW"}
    right = npconv.conv_input_grad(g.astype("f8"), w.astype("f8"), input_shape=shape, algorithm="direct", **options)
    if layout == "channels_last":
        g, right = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (g, right))
    results = []
    for count in (1, 2, 3, 2, 3):
        with threads.num_threads(count):
            given = {**options, "layout": layout, "algorithm": "channelwise"}
            results.append(npconv.conv_input_grad(g, w, input_shape=right.shape, **given))
    assert steps == [True] * 5
    assert np.allclose(results[0], right, rtol=1e-4, atol=1e-4)
    assert all(np.array_equal(results[0], each) for each in results[1:])


def test_a_bias_is_added_on_the_way() -> None:
    algorithm, rng = named("channelwise"), np.random.default_rng(3)
    for c, o, groups in ((17, 17, 17), (33, 66, 33), (7, 21, 7), (20, 20, 5)):
        g = ConvGeometry(2, c, o, (9, 8), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), (1, 1), groups)
        if not runs(g, "float64"):
            continue
        x, w, bias = (rng.standard_normal(shape) for shape in (g.x_shape, g.w_shape, (o,)))
        for make in (algorithm.prepare, algorithm.borrow):
            y = np.full(g.y_shape, np.nan)
            algorithm.forward(x, algorithm.with_bias(make(w, g, y.dtype), bias, g), g, y)
            assert np.allclose(y, reference.conv(x, w, bias, **options(g)), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("kernel", [(20000,), (150, 140)])
@pytest.mark.parametrize("what", ["forward", "weight_grad"])
def test_more_products_than_a_chunk(what: str, kernel: tuple[int, ...]) -> None:
    """Equal products are all rounded the same way: a single float32 sum of all of them would be far off."""
    rank, few = len(kernel), tuple(k + 2 for k in kernel)
    one, none = (1,) * rank, ((0, 0),) * rank
    g = ConvGeometry(1, 3, 3, few, kernel if what == "forward" else (3,) * rank, one, one, none, one, 3)
    x = np.full(g.x_shape, 0.1, "f4")
    other = np.full(g.w_shape if what == "forward" else g.y_shape, 0.7, "f4")
    result = computed(what, g, x, other, np.empty(g.y_shape if what == "forward" else g.w_shape, "f4"))
    right = np.float64(x.flat[0]) * np.float64(other.flat[0]) * other[0, 0].size
    assert within(result, right, right)


@pytest.mark.parametrize("lanes", [2, 4, 8])
def test_pixels_far_apart_are_packed_and_mean_the_same(lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where many channels lie between the pixels that a tile reads, they are brought together first: the same sums."""
    rng = np.random.default_rng(lanes)
    at, one = vector_bytes() // 4, (1, 1)
    for stride, vectors, expected in ((1, 3, 1), (2, 3, 0), (1, 1, 0)):
        c = at * vectors
        g = ConvGeometry(2, c, c, (5, 61), (3, 3), (stride, stride), one, ((1, 0), (2, 1)), one, c // lanes)
        x, w = rng.standard_normal(g.x_shape, np.float32), rng.standard_normal(g.w_shape, np.float32)
        x[0, 1, 0, 0], x[1, 3, 4, 60], w[1, 0, 0, 1] = np.nan, np.inf, -np.inf
        x, y = (np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) for a in (x, np.empty(g.y_shape, "f4")))
        results = []
        for limit in (1 << 60, 0):
            monkeypatch.setattr(launch, "FAR_APART", limit)
            plan.cache_clear()
            results.append(computed("forward", g, x, w, y).copy())
            words = plan(g, x.strides, y.strides, None, x.dtype).words
            assert words.words[words.at["packs"]] == (expected if limit == 0 else 0)
        assert np.array_equal(*results, equal_nan=True)
        with np.errstate(all="ignore"):
            right = reference.conv(x.astype(float), w.astype(float), **options(g))
        assert np.array_equal(np.isfinite(results[1]), np.isfinite(right))
        assert np.allclose(results[1], right, 1e-4, 1e-4, equal_nan=True)
    plan.cache_clear()


def test_infinite_and_missing_numbers_reach_what_reads_them() -> None:
    """A zero of the padding times an infinite weight is a NaN, as it is in the definition."""
    g = ConvGeometry(1, 20, 20, (6, 7), (3, 3), (1, 1), (1, 1), ((1, 2), (2, 1)), (1, 1), 20)
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal(g.x_shape), rng.standard_normal(g.w_shape)
    x[0, 3, 2, 2], w[5, 0, 0, 1], w[19, 0, 2, 2] = np.nan, np.inf, -np.inf
    with np.errstate(all="ignore"):
        right = reference.conv(x, w, **options(g))
    for source in (x, np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)):
        y = computed("forward", g, source, w, np.empty(g.y_shape))
        assert np.array_equal(np.isnan(y), np.isnan(right))
        assert np.array_equal(np.isinf(y), np.isinf(right))


def test_the_last_pixel_is_the_last_of_its_page() -> None:
    """Nothing is read beyond the arrays: they end where the memory ends."""
    code = """
import numpy as np
from last_page import at_the_end
from npconv.algorithms import named
from npconv.geometry import ConvGeometry

for channels, wide, times in ((1, 1, 1), (17, 1, 1), (33, 1, 1), (20, 4, 1), (6, 2, 1), (9, 1, 2), (17, 1, 4), (5, 1, 3)):
    for pads in (((0, 0), (0, 0)), ((1, 1), (1, 1))):
        groups, made = channels // wide, channels * times
        g = ConvGeometry(1, channels, made, (9, 16), (3, 3), (1, 1), (1, 1), pads, (1, 1), groups)
        rng = np.random.default_rng(0)
        x, w = rng.random((1, 9, 16, channels), "f4"), rng.random(g.w_shape, "f4")
        y = np.empty((1, *g.out_shape, made), "f4")
        results = []
        for place in (np.copy, at_the_end):
            a, b, c = (np.moveaxis(place(x), -1, 1), place(w), np.moveaxis(place(y), -1, 1))
            algorithm, dw = named("channelwise"), place(np.zeros(g.w_shape, "f4"))
            algorithm.forward(a, algorithm.borrow(b, g, c.dtype), g, c)
            algorithm.weight_grad(a, c, g, dw)
            results.append((c.copy(), dw.copy()))
        assert all(np.array_equal(p, q) for p, q in zip(*results))
print("whole")
"""
    if sys.platform != "linux":
        pytest.skip("guard pages are made with Linux's mprotect")
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    assert found.stdout == "whole\n", found.stderr


def test_narrower_vectors(narrower: dict[str, str]) -> None:
    code = """
import numpy as np
import npconv
rng = np.random.default_rng(5)
for c, groups, layout in ((33, 33, "channels_last"), (24, 6, "channels_last"), (10, 5, "channels_first")):
    for dtype in ("f4",):
        shape = (2, 9, 14, c) if layout == "channels_last" else (2, c, 9, 14)
        kernel = (3, 5, c // groups, c) if layout == "channels_last" else (c, c // groups, 3, 5)
        x, w = rng.standard_normal(shape).astype(dtype), rng.standard_normal(kernel).astype(dtype)
        given = {"padding": 2, "groups": groups, "layout": layout}
        for make in (lambda **k: npconv.conv(x, w, **k),
                     lambda **k: npconv.conv_weight_grad(x, npconv.conv(x, w, **given), kernel_shape=w.shape, **k)):
            try:
                found = make(algorithm="channelwise", **given)
            except ValueError as error:
                assert "groups of up to" in str(error)
                continue
            right = make(algorithm="direct", **given)
            assert np.abs(found - right).max() <= (1e-4 if dtype == "f4" else 1e-12) * np.abs(right).max()
print("right")
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=narrower)
    assert found.stdout == "right\n", found.stderr


def test_the_contract() -> None:
    report = npconv.testing.verify_algorithm(named("channelwise"), problems_per_dtype=80)
    assert report.accepted > 60


def test_it_refuses_with_a_reason() -> None:
    g = ConvGeometry(1, 64, 64, (8, 8), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), (1, 1), 2)
    algorithm = named("channelwise")
    assert "needs groups of up to" in (algorithm.why_not(g, np.dtype("f4")) or "")
    assert "float32 or float64" in (algorithm.why_not(g, np.dtype("c8")) or "")


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (1, 1)])
@pytest.mark.parametrize(
    "shape", [(4, 2, 6686, 5), (30_000, 2, 7, 7), (1, 2, 9, 40_001), (1, 2, 40_001, 9), (1, 2, 3, 300_001)]
)
def test_long_sums_of_equal_numbers_keep_their_bound(shape, kernel):
    """Rounding errors of equal numbers all have one sign: no chain of additions may be long, whatever the image's form."""
    options = {"padding": "same", "groups": 2}
    x, g = np.full(shape, 0.1, np.float32), np.full(shape, 0.3, np.float32)
    dw = npconv.conv_weight_grad(x, g, kernel_shape=(2, 1, *kernel), algorithm="channelwise", **options)
    ones = np.ones(shape)
    counts = npconv.conv_weight_grad(ones, ones, kernel_shape=(2, 1, *kernel), algorithm="direct", **options)
    sums = counts * float(x[0, 0, 0, 0]) * float(g[0, 0, 0, 0])
    assert (abs(dw - sums) <= 128 * 2.0**-24 * sums).all(), np.max(abs(dw - sums) / sums) * 2**24
