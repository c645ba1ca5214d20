"""Pooling in machine code against NumPy's path, which `test_pooling_against_reference` holds to the definition.

Those problems are small; here they are larger than the vectors, the boxes and the caches that the kernels cut them into.
"""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest

import npconv
import reference
from npconv import pool_passes, pool_problem
from npconv.compiled import catalogue
from npconv.compiled.pools import launch as pools_launch
from npconv.geometry import BinAxis, WindowAxis

pytestmark = pytest.mark.skipif(catalogue.unavailable() is not None, reason=str(catalogue.unavailable()))

SIZES = {1: (1, 90), 2: (1, 36), 3: (1, 11)}
CHANNELS = (1, 3, 5, 17, 64, 100)
SPACES = ("plane", "onnx", "onnx_column_major", "tf", "tf_batch")


@pytest.fixture
def ran(monkeypatch) -> list[str]:
    """The kernels that ran, by name."""
    names: list[str] = []
    run = pools_launch.Launch.run

    def noted(self, *arrays):
        names.append(self.entry.name)
        return run(self, *arrays)

    monkeypatch.setattr(pools_launch.Launch, "run", noted)
    return names


def by_numpy(monkeypatch, call, *args, **options):
    with monkeypatch.context() as patch:
        patch.setattr(pool_passes, "_launched", lambda *_, **__: False)
        return call(*args, **options)


def numbers(rng, shape, dtype, style: str) -> np.ndarray:
    """Normal numbers; few small integers, so that most windows have ties; or those with NaN, infinities and -0.0."""
    if style == "normal":
        return rng.standard_normal(shape).astype(dtype)
    x = rng.integers(-2, 3, shape).astype(dtype)
    if style == "special":
        for value in (np.nan, np.inf, -np.inf, -0.0):
            x[rng.random(shape) < 0.04] = value
    return x


def problem(seed: int) -> tuple[np.ndarray, Any, dict[str, Any], Any]:
    """x, kernel, options, rng."""
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    low, high = SIZES[rank]
    size = rng.integers(low, high, rank)
    c, n = int(rng.choice(CHANNELS)), int(rng.integers(1, 3))
    kernel = rng.integers(1, 5 if seed % 7 else 12, rank)
    dilation = rng.integers(1, 3, rank) if seed % 3 == 0 else np.ones(rank, int)
    span = (kernel - 1) * dilation + 1
    stride = rng.integers(1, 4 if seed % 5 else 8, rank) if seed % 4 else kernel
    pads = np.stack(
        [
            rng.integers(-1, e, 2) if seed % 6 == 0 else [min(k // 2, e - 1)] * 2
            for k, e in zip(kernel, span, strict=True)
        ]
    )
    short = np.maximum(0, span - size - pads.sum(1))
    x = numbers(
        rng, (n, c, *(size + short)), rng.choice(["float32", "float64"]), ("normal", "ties", "special")[seed % 3]
    )
    options: dict[str, Any] = {
        "stride": tuple(map(int, stride)),
        "padding": tuple(tuple(map(int, p)) for p in pads),
        "dilation": tuple(map(int, dilation)),
        "layout": "channels_first",
    }
    options |= {"ceil_mode": True} if seed % 5 == 1 else {"cover_all": True} if seed % 5 == 2 else {}
    if seed % 2:
        x, options["layout"] = np.ascontiguousarray(np.moveaxis(x, 1, -1)), "channels_last"
    return x, tuple(map(int, kernel)), options, rng


def same(got, expected) -> None:
    assert got.dtype == expected.dtype
    assert np.array_equal(got, expected, equal_nan=got.dtype.kind == "f")


def near(got, expected, size) -> None:
    """|err| <= 32 u S of each, NaN and infinities alike."""
    assert got.dtype == expected.dtype
    finite = np.isfinite(expected) & np.isfinite(got)
    assert np.array_equal(np.where(finite, 0, got), np.where(finite, 0, expected), equal_nan=True)
    bound = 64 * np.finfo(got.dtype).eps / 2 * size
    assert (np.abs(np.where(finite, got, 0) - np.where(finite, expected, 0)) <= bound).all()


def positive(x: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.abs(x.astype(np.float64)), nan=0, posinf=0, neginf=0)


def poisoned(shape, dtype) -> np.ndarray:
    return np.full(shape, np.nan, dtype)


@pytest.mark.usefixtures("where_inputs_lie")
@pytest.mark.parametrize("start", range(0, 320, 20))
def test_maxima(start, monkeypatch, ran):
    for seed in range(start, start + 20):
        x, kernel, options, rng = problem(seed)
        before, space = x.copy(), SPACES[seed % 5]
        try:
            y, indices = by_numpy(
                monkeypatch, npconv.max_pool, x, kernel, **options, return_indices=True, indices=space
            )
        except ValueError:  # a window that reads no input
            continue
        done = len(ran)
        same(npconv.max_pool(x, kernel, **options, out=poisoned(y.shape, y.dtype)), y)
        found, places = npconv.max_pool(x, kernel, **options, return_indices=True, indices=space)
        same(found, y)
        same(places, indices)
        g = numbers(rng, y.shape, y.dtype, "normal")
        dx = by_numpy(monkeypatch, npconv.max_pool_grad, g, x, kernel, **options)
        size = by_numpy(monkeypatch, npconv.max_pool_grad, positive(g), x, kernel, **options)
        near(npconv.max_pool_grad(g, x, kernel, **options, out=poisoned(x.shape, x.dtype)), dx, size)
        near(npconv.max_pool_grad(g, x, kernel, **options, indices=places, indices_space=space), dx, size)
        assert np.array_equal(x, before, equal_nan=True)
        assert len(ran) >= done + 2, f"no kernel ran for {seed}"


@pytest.mark.usefixtures("where_inputs_lie")
@pytest.mark.parametrize("start", range(0, 320, 20))
def test_means(start, monkeypatch, ran):
    for seed in range(start, start + 20):
        x, kernel, options, rng = problem(seed)
        options |= {"divisor": 5} if seed % 11 == 0 else {"count_include_pad": bool(seed % 2)}
        y = by_numpy(monkeypatch, npconv.avg_pool, x, kernel, **options)
        size = by_numpy(monkeypatch, npconv.avg_pool, positive(x), kernel, **options)
        done = len(ran)
        near(npconv.avg_pool(x, kernel, **options, out=poisoned(y.shape, y.dtype)), y, size)
        g = numbers(rng, y.shape, y.dtype, ("normal", "special")[seed % 2])
        dx = by_numpy(monkeypatch, npconv.avg_pool_grad, g, x.shape, kernel, **options)
        size = by_numpy(monkeypatch, npconv.avg_pool_grad, positive(g), x.shape, kernel, **options)
        near(npconv.avg_pool_grad(g, x.shape, kernel, **options, out=poisoned(x.shape, x.dtype)), dx, size)
        assert len(ran) >= done + (np.prod(kernel) < 8), f"no kernel ran for {seed}"


@pytest.mark.parametrize("seed", range(60))
def test_bins_and_planes(seed, monkeypatch, ran):
    x, kernel, options, _ = problem(seed)
    layout = options["layout"]
    spatial = x.shape[2:] if layout == "channels_first" else x.shape[1:-1]
    bins = tuple(min(k, n) for k, n in zip(kernel, spatial, strict=True))

    def calls(x):
        yield npconv.adaptive_max_pool(x, bins, layout=layout), 0
        y, places = npconv.adaptive_max_pool(x, bins, layout=layout, return_indices=True)
        yield y, 0
        yield places, 0
        yield npconv.adaptive_max_pool_grad(y, x, bins, layout=layout), 1
        yield npconv.adaptive_avg_pool(x, bins, layout=layout), 1
        yield npconv.adaptive_avg_pool_grad(y, x.shape, bins, layout=layout), 1
        for keep in (True, False):
            top = npconv.global_max_pool(x, layout=layout, keepdims=keep)
            yield top, 0
            yield npconv.global_max_pool_grad(top, x, layout=layout, keepdims=keep), 0
            yield npconv.global_avg_pool(x, layout=layout, keepdims=keep), 1
            yield npconv.global_avg_pool_grad(top, x.shape, layout=layout, keepdims=keep), 1

    expected = by_numpy(monkeypatch, list, calls(x))
    for (got, _), (value, summed) in zip(calls(x), expected, strict=True):
        if summed:
            near(got, value, 9 * positive(x).max() + positive(value))
        else:
            same(got, value)
    assert len(ran) > 10


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("kernel", "options"), [((3, 3), {"stride": 2, "padding": 1}), ((2, 2), {}), ((3, 2), {"stride": 1})]
)
def test_the_number_of_threads_changes_no_bit(kernel, options, dtype, layout):
    rng = np.random.default_rng(5)
    shape = (3, 37, 61, 58) if layout == "channels_first" else (3, 61, 58, 37)
    x = rng.standard_normal(shape).astype(dtype)
    options = options | {"layout": layout}

    def everything():
        y, places = npconv.max_pool(x, kernel, **options, return_indices=True)
        yield from (y, places, npconv.avg_pool(x, kernel, **options), npconv.max_pool(x, kernel, **options))
        yield npconv.max_pool_grad(y, x, kernel, **options)
        yield npconv.max_pool_grad(y, x, kernel, **options, indices=places)
        yield npconv.avg_pool_grad(y, x.shape, kernel, **options)
        yield npconv.global_avg_pool(x, layout=layout)
        yield npconv.adaptive_avg_pool(x, (7, 5), layout=layout)

    with npconv.num_threads(1):
        alone = [array.tobytes() for array in everything()]
    for threads in (2, 3):
        with npconv.num_threads(threads):
            assert [array.tobytes() for array in everything()] == alone


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("indices", [False, True])
def test_inputs_from_memory_are_brought_ahead(layout, indices, where_inputs_lie, monkeypatch):
    """The kernel is told how far, and how much; with the tables of the small call, it finds the same."""
    told, run = [], pools_launch.Launch.run

    def noted(self, *arrays):
        told.append({name: self.words[i] for i, name in enumerate(self.entry.arguments) if name in ("far", "fresh")})
        return run(self, *arrays)

    monkeypatch.setattr(pools_launch.Launch, "run", noted)
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 20, 33, 40) if layout == "channels_first" else (3, 33, 40, 20), dtype=np.float32)
    options = {"stride": 2, "padding": 1, "layout": layout}
    got = npconv.max_pool(x, 3, return_indices=indices, **options)
    expected = by_numpy(monkeypatch, npconv.max_pool, x, 3, return_indices=indices, **options)
    for a, b in zip(got, expected, strict=True) if indices else [(got, expected)]:
        assert np.array_equal(a, b)
    # a row of outputs begins two rows of 40 numbers further, a pixel two pixels of 20 channels
    fresh = -(-33 * 40 * 4 // 17) if layout == "channels_first" else 2 * 20 * 4
    assert told == [{"far": 4096 if where_inputs_lie == "from memory" else 0, "fresh": fresh}]


@pytest.mark.usefixtures("where_inputs_lie")
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("k", [2, 3])
def test_against_the_loops(k, layout, ran):
    rng = np.random.default_rng(k)
    x = rng.integers(-3, 4, (2, 18, 21, 37)).astype(np.float32)
    windows = reference.Windows((21, 37), (k, k), stride=(2, 2), padding=((1, 1), (1, 1)), dilation=(1, 1))
    given = x if layout == "channels_first" else np.ascontiguousarray(np.moveaxis(x, 1, -1))
    y, places = npconv.max_pool(given, k, stride=2, padding=1, layout=layout, return_indices=True)
    best, winners = reference.max_pool(x, windows)
    order = (0, 1, 2, 3) if layout == "channels_first" else (0, 3, 1, 2)
    same(y.transpose(order), best.astype(np.float32))
    assert np.array_equal(places.transpose(order), winners)
    g = rng.integers(-9, 9, y.shape).astype(np.float32)
    expected = reference.max_pool_grad(g.transpose(order), winners, (21, 37))
    for indices in (None, places):
        dx = npconv.max_pool_grad(g, given, k, stride=2, padding=1, layout=layout, indices=indices)
        same(dx.transpose(order), expected.astype(np.float32))
    assert ran


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bad", [-1, 36, 2**32 + 1, -(2**63)])
def test_a_place_outside_its_plane_is_refused(bad, stride, layout):
    x = np.random.default_rng(0).standard_normal((1, 6, 6, 5)).astype(np.float32)
    x = np.ascontiguousarray(np.moveaxis(x, -1, 1)) if layout == "channels_first" else x
    y, places = npconv.max_pool(x, 2, stride=stride, layout=layout, return_indices=True)
    places[0, 1, 2, 1] = bad
    with pytest.raises(ValueError, match="outside its plane"):
        npconv.max_pool_grad(y, x, 2, stride=stride, layout=layout, indices=places)


def test_a_place_outside_its_window_gets_its_g():
    x = np.zeros((1, 4, 4, 3), np.float32)
    g, places = np.ones((1, 2, 2, 3), np.float32), np.zeros((1, 2, 2, 3), np.int64)
    dx = npconv.max_pool_grad(g, x, 2, layout="channels_last", indices=places)
    assert dx[0, 0, 0].tolist() == [4, 4, 4]
    assert dx.sum() == 12


@pytest.mark.parametrize("place", range(9))
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_nan_wins_in_every_lane(place, layout):
    """Wherever it stands in the window, and whatever the other lanes hold (rule R15)."""
    for channel in range(0, 40, 3):
        x = np.random.default_rng(place).standard_normal((1, 40, 9, 48)).astype(np.float32)
        x[0, channel, 3 + place // 3, 30 + place % 3] = np.nan
        x[0, channel, 5, 32] = np.nan
        given = x if layout == "channels_first" else np.ascontiguousarray(np.moveaxis(x, 1, -1))
        y, places = npconv.max_pool(given, 3, layout=layout, return_indices=True)
        again = npconv.max_pool(given, 3, layout=layout)
        y, again, places = (a if layout == "channels_first" else np.moveaxis(a, -1, 1) for a in (y, again, places))
        assert np.argwhere(np.isnan(y)).tolist() == np.argwhere(np.isnan(again)).tolist() == [[0, channel, 1, 10]]
        assert places[0, channel, 1, 10] == (3 + place // 3) * 48 + 30 + place % 3


def test_windows_of_minus_infinity_have_an_index():
    for shape, layout in (((1, 20, 8, 40), "channels_first"), ((1, 8, 40, 20), "channels_last")):
        x = np.full(shape, -np.inf, np.float32)
        y, places = npconv.max_pool(x, 3, stride=2, padding=1, layout=layout, return_indices=True)
        assert (y == -np.inf).all()
        assert places.min() == 0
        assert places.max() < 320
        flat = places if layout == "channels_first" else np.moveaxis(places, -1, 1)
        assert flat[0, 7, 1, 3] == 1 * 40 + 5


def test_strides_decide_nothing_but_the_time(ran):
    x = np.random.default_rng(1).standard_normal((2, 9, 40, 41)).astype(np.float32)
    wide = np.full((2, 9, 40, 82), np.nan, np.float32)
    wide[..., ::2] = x
    odd = {
        "gaps": wide[..., ::2],
        "reversed": np.ascontiguousarray(x[:, ::-1, ::-1])[:, ::-1, ::-1],
        "channels innermost": np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
        "fortran": np.asfortranarray(x),
    }
    for name, view in odd.items():
        for call in (
            lambda x: npconv.max_pool(x, 3, stride=2, padding=1),
            lambda x: npconv.avg_pool(x, 3, stride=2, padding=1),
            npconv.global_avg_pool,
            lambda x: npconv.avg_pool_grad(x, (2, 9, 80, 82), 2),
        ):
            assert call(view).tobytes() == call(x).tobytes(), name
    assert len(ran) == 2 * 4 * len(odd)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_kernels_are_kept_apart_by_dtype(layout, monkeypatch):
    """The gradient's dtype comes from g and x together, where g and the indices stay what they were."""
    x = np.random.default_rng(2).standard_normal((1, 6, 6, 5))
    for dtypes in itertools.product(("float32", "float64"), repeat=2):
        g, given = np.ones((1, *npconv.max_pool(x, 2, layout=layout).shape[1:]), dtypes[0]), x.astype(dtypes[1])
        for indices in (None, npconv.max_pool(x, 2, layout=layout, return_indices=True)[1]):
            dx = npconv.max_pool_grad(g, given, 2, layout=layout, indices=indices)
            same(dx, by_numpy(monkeypatch, npconv.max_pool_grad, g, given, 2, layout=layout))


def test_tables_against_the_axes():
    for size, taps, stride, dilation, lo, hi in itertools.product(
        (5, 12), (1, 3, 4), (1, 2, 5), (1, 2), (0, 1), (-1, 0, 2)
    ):
        padded = size + lo + hi - (taps - 1) * dilation - 1
        if padded < 0 or lo >= (taps - 1) * dilation + 1:
            continue
        check_tables(WindowAxis(size, taps, stride, dilation, lo, hi, padded // stride + 1))
    for size, out in itertools.product((1, 5, 12), (1, 3, 7)):
        check_tables(BinAxis(size, out))


def check_tables(axis) -> None:
    from npconv.compiled.pools.tables import AxisTables

    tables = AxisTables(axis)
    opened, readers = tables.readers
    reads = [list(axis.reads(o)) for o in range(axis.out)]
    for i in range(axis.size):
        assert readers[opened[i] : opened[i + 1]].tolist() == [o for o in range(axis.out) if i in reads[o]]
    for o, inputs in enumerate(reads):
        assert tables.counts[o] == len(inputs)
        assert not inputs or tables.begins[o] == inputs[0]
    for count in (1, 2, 3):
        for first, stop, begin, end in tables.boxes(count):
            for o, inputs in enumerate(reads):
                assert begin <= o < end or not set(inputs) & set(range(first, stop))


def test_other_dtypes_and_no_compiler_take_numpys_path(ran, monkeypatch):
    x = np.random.default_rng(0).integers(0, 9, (1, 20, 8, 8))
    for dtype in (np.float16, np.int32):
        npconv.max_pool(x.astype(dtype), 2)
        npconv.avg_pool(x.astype(dtype), 2)
    assert not ran
    monkeypatch.setattr(catalogue, "unavailable", lambda: "not here")
    npconv.max_pool(x[:, :7].astype(np.float32), 2)
    assert not ran


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("layout", ["NCW", "NWC"])
def test_huge_windows_take_little_memory(layout, dtype):
    """A list of all windows that read an input would have millions of entries."""
    n, rng = 4000, np.random.default_rng(0)
    x = rng.permutation(n).astype(dtype).reshape((1, 1, n) if layout == "NCW" else (1, n, 1))
    g = np.ones((1, 1, n + 1) if layout == "NCW" else (1, n + 1, 1), dtype)
    options = {"stride": 1, "padding": n // 2, "layout": layout}
    npconv.max_pool_grad(g[:, :8] if layout == "NWC" else g[..., :8], x[:, :7] if layout == "NWC" else x[..., :7], (6,),
                         stride=1, padding=3, layout=layout)  # fmt: skip
    tracemalloc.start()
    dx = npconv.max_pool_grad(g, x, (n,), **options)
    shared = npconv.avg_pool_grad(g, x.shape, (n,), **options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20
    assert float(dx.astype("f8").sum()) == n + 1
    reads = [n // 2 + min(i, n - 1 - i) + 1 for i in range(n)]  # windows that read input i
    assert np.allclose(shared.reshape(-1), np.array(reads) / n, rtol=2e-3 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.0, np.inf])
def test_norms_taken_apart_by_window_and_by_tap(power):
    rng = np.random.default_rng(4)
    x, kernel, options = (
        rng.integers(-3, 4, (2, 3, 9, 8)).astype("f8"),
        (3, 2),
        {"stride": 1, "padding": 1, "dilation": 2},
    )
    x[0, 1, 4, 4], x[1, 2, 0, 0] = np.nan, np.inf
    p = pool_problem.read_pool("lp_pool_grad", x.shape, kernel, pool_problem.DEFAULTS | options)
    g = rng.standard_normal(p.y_shape)
    with np.errstate(all="ignore"):
        by_tap = pool_passes.norm_gradient(p, g, x, power)
        y, empty = pool_passes.norms(p, x, power), np.zeros_like(x)
        by_window = pool_passes._norm_gradient_by_window(p, g, x, y, power, empty)
    assert np.allclose(by_window, by_tap, rtol=1e-13, atol=1e-13, equal_nan=True)
    one, x = np.ones((1, 1, 1)), np.arange(1.0, 11).reshape(1, 1, 10)
    few = npconv.lp_pool_grad(one, x, (10**7,), stride=10**6, padding=5 * 10**6)
    assert np.allclose(few, x / np.sqrt((x * x).sum()), rtol=1e-13)
