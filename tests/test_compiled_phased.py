"""All phases of a strided transposition in one launch, against the same one by one."""

from __future__ import annotations

import numpy as np
import pytest

import npconv
from npconv import execution
from npconv.algorithms import named
from npconv.compiled import catalogue, tasks
from npconv.compiled.phased.launch import _cut, forward_launch, lay
from npconv.compiled.phased.records import RECORD
from npconv.geometry import ConvGeometry, total
from npconv.phased import Phased, Prepared
from npconv.phases import joint
from test_joining import operands, random_geometry

if catalogue.unavailable():
    pytest.skip(str(catalogue.unavailable()), allow_module_level=True)


def phased(made: ConvGeometry) -> Phased:
    """What computes the input gradient of a convolution."""
    whole = joint(execution.parts(made, "input_grad"))
    assert whole is not None
    return Phased(whole)


def run(algorithm: Phased, x: np.ndarray, w: np.ndarray, y: np.ndarray, bias: np.ndarray | None, fresh: bool) -> None:
    geometry = algorithm.joint.geometry
    prepared = Prepared(w, fresh=True) if fresh else algorithm.prepare(w, geometry, y.dtype)
    if bias is not None:
        prepared = algorithm.with_bias(prepared, bias, geometry)
    algorithm.forward(x, prepared, geometry, y)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.usefixtures("where_inputs_lie")
def test_integers_come_out_as_one_by_one(seed):
    """Any rank, groups, dilation, cropping and both layouts; weights prepared and fresh; a result full of NaN before."""
    rng = np.random.default_rng([seed, 7])
    kinds = set()
    for _ in range(60):
        made, dtype = random_geometry(rng), np.dtype(rng.choice(["f4", "f8"]))
        last, fresh, biased = (bool(rng.integers(2)) for _ in range(3))
        x, w, y = operands(made, rng, dtype, last)
        expected = y.copy()
        phases = execution.parts(made, "input_grad")
        one_by_one = execution.ready(lambda *_: named("direct"), phases, "input_grad", dtype, 2**40)
        one_by_one.forward(x, one_by_one.prepare(w), expected)
        bias = rng.integers(-3, 4, y.shape[1]).astype(dtype) if biased else None
        if bias is not None:
            expected += bias.reshape(-1, *(1,) * made.rank)
        before = x.tobytes(), w.tobytes()
        with npconv.num_threads(int(rng.integers(1, 4))):
            run(phased(made), x, w, y, bias, fresh)
        assert np.array_equal(y, expected), (made, dtype, last, fresh)
        assert (x.tobytes(), w.tobytes()) == before
        kinds.add((last, fresh, biased))
    assert len(kinds) == 8


def test_inputs_from_memory_are_brought_ahead(where_inputs_lie):
    """By the products of the first panel, where x is read in place; weights by all."""
    made = ConvGeometry(1, 48, 64, (16, 16), (2, 2), (2, 2), (1, 1), ((0, 0),) * 2, (1, 1))
    whole = joint(execution.parts(made, "input_grad"))
    x, y = (np.moveaxis(np.empty((s[0], *s[2:], s[1]), np.float32), -1, 1) for s in (made.y_shape, made.x_shape))
    launch = forward_launch(whole, x.strides, y.strides, None, x.dtype, 2)
    first, _, later, _ = launch.words.arrays["kinds"]
    name = "bounded_ahead" if where_inputs_lie == "from memory" else "bounded"
    assert first == later == catalogue.kernel("products", name, "f4").address
    assert bool(launch.words.words[launch.words.at["far_step"]]) == (where_inputs_lie == "from memory")


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("last", [False, True])
def test_threads_and_fresh_weights_change_no_bit(dtype, last):
    rng = np.random.default_rng(0)
    for made in (
        ConvGeometry(2, 70, 90, (26, 30), (4, 4), (2, 2), (1, 1), ((1, 1),) * 2, (1, 1)),
        ConvGeometry(1, 33, 100, (301,), (9,), (4,), (1,), ((2, 3),), (1,)),
        ConvGeometry(1, 24, 20, (9, 12, 10), (3, 2, 3), (2, 2, 2), (1, 1, 1), ((1, 1), (0, 0), (1, 1)), (1, 1, 1), 2),
        # so few outputs that threads share a box, in cuts of unequal size
        ConvGeometry(1, 1, 5, (9, 10), (4, 5), (1, 2), (2, 1), ((0, 0), (0, 1)), (1, 1)),
    ):
        x, w, y = (rng.standard_normal(a.shape).astype(dtype) for a in operands(made, rng, np.dtype(dtype), last))
        if last:
            x, y = (np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) for a in (x, y))
        results = set()
        for fresh in (False, True):
            for workers in (1, 2, 3):
                with npconv.num_threads(workers):
                    run(phased(made), x, w, y, None, fresh)
                results.add(y.tobytes())
        assert len(results) == 1, made


def test_outputs_that_no_tap_reaches_are_zero_and_get_the_bias():
    x, w = np.ones((1, 40, 9), np.float32), np.ones((40, 32, 2), np.float32)
    bias = np.arange(32, dtype=np.float32)
    plan = npconv.plan_conv_transpose(x.shape, w, bias, stride=5, algorithm="blocked")
    y = plan(x)
    assert np.array_equal(y[0, :, 2], bias)
    assert np.array_equal(y[0, :, 0], bias + 40)
    assert np.array_equal(npconv.conv_transpose(x, w, bias, stride=5, algorithm="blocked"), y)


def test_nan_reach_what_reads_them_and_nothing_else():
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 12, 12, 40), (3, 3, 48, 40)))
    x[0, 5, 5, 3] = np.nan
    options = {"stride": 2, "padding": 1, "layout": "channels_last"}
    y = npconv.conv_transpose(x, w, algorithm="blocked", **options)
    expected = npconv.conv_transpose(x, w, algorithm="direct", **options)
    assert np.array_equal(np.isnan(y), np.isnan(expected))
    assert np.isnan(y).any()
    assert not np.isnan(y).all()


def test_the_limit_on_workspace_holds():
    x, w = np.ones((1, 64, 20, 20), np.float32), np.ones((64, 64, 4, 4), np.float32)
    free = npconv.plan_conv_transpose(x.shape, w, stride=2, algorithm="blocked")
    tight = npconv.plan_conv_transpose(x.shape, w, stride=2, algorithm="blocked", max_workspace=free.workspace - 1)
    assert tight.workspace < free.workspace
    assert np.array_equal(tight(x), free(x))


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize(("channels", "size"), [(128, 56), (256, 28), (512, 14), (160, 40)])
@pytest.mark.parametrize("workers", [2, 3])
def test_no_thread_waits_long_for_the_last(channels, size, workers, far, monkeypatch):
    """Phases have one, two, two and four taps: threads that take the next panels when they are free end together."""
    monkeypatch.setattr(tasks, "FULL_BYTES", 3 << 19 if far else 0)
    monkeypatch.setattr(tasks, "FRESH_BOXES", 2 if far else 4)
    made = ConvGeometry(1, channels, channels, (size,) * 2, (3, 3), (2, 2), (1, 1), ((1, 1),) * 2, (1, 1))
    whole = phased(made).joint
    laid, at = lay(whole, 4), _cut.__wrapped__(whole, 4, True, 0, True, workers)
    panels = [dict(zip(RECORD, record, strict=True)) for record in laid.records]
    taps = [panel["kernel"] * panel["columns"] for panel in panels]
    assert sorted(panel for part in at.parts for panel in part) == list(range(len(panels)))
    free = [0.0] * workers
    for _, part, _ in np.ndindex(total(at.counts), len(at.parts), at.cuts):
        free[free.index(min(free))] += sum(taps[panel] for panel in at.parts[part]) / at.cuts
    assert max(free) <= 1.1 * sum(free) / workers


def test_parts_of_unequal_panels_take_the_same_time():
    costs = (16, 8, 8, 4, 16, 8, 8, 4, 8, 4, 4, 2)
    for parts in range(1, 13):
        found = tasks.evenly(costs, parts)
        assert sorted(panel for part in found for panel in part) == list(range(12))
        assert all(found)
        sums = [sum(costs[panel] for panel in part) for part in found]
        assert 3 * max(sums) <= 4 * max(16, sum(costs) / parts)  # Graham's bound; 16 is the dearest panel
        assert parts != 2 or sums == [46, 44]  # all are even, and 45 is not
        assert sums == sorted(sums, reverse=True)
    assert tasks.runs((1,) * 7, 3) == [[0, 1], [2, 3], [4, 5, 6]]
