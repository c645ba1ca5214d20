"""Fused Winograd: random problems in both passes, memory layouts, threads, and what may not be touched."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import npconv
from npconv.algorithms import named
from npconv.algorithms.base import input_grad_weights
from npconv.compiled import calls, catalogue, chains, threads
from npconv.compiled.calls import address
from npconv.compiled.panels import vector_bytes
from npconv.compiled.winograd import grad_launch as winograd_grad_launch
from npconv.compiled.winograd import launch as winograd_launch
from npconv.compiled.winograd import shape as winograd_shape
from npconv.geometry import ConvGeometry, interleaved, strided_parts

pytestmark = pytest.mark.skipif(catalogue.unavailable() is not None, reason=str(catalogue.unavailable()))

NAMES = ("fused_winograd_f2", "fused_winograd_f4")
CHANNELS = (1, 3, 5, 16, 17, 32, 40, 64, 100)
#: Of the promise (128 u R), what no random problem came near to.
MEASURED = 24


def geometry(n, c, o, size, kernel, pads=(1, 1), groups=1, dilation=1) -> ConvGeometry:
    ones = (1,) * len(size)
    return ConvGeometry(n, c, o, size, kernel, ones, (dilation,) * len(size), (pads,) * len(size), ones, groups)


def random_geometry(rng: np.random.Generator, name: str) -> ConvGeometry:
    """Ranks 1 to 3, any channels, groups, dilation, negative padding, strides."""
    while True:
        rank, groups = int(rng.integers(1, 4)), int(rng.choice([1, 1, 1, 2, 3]))
        kernel = tuple(int(k) for k in rng.choice([1, 2, 2, 3, 3, 3, 4, 5, 6], rank))
        stride = tuple(int(s) for s in rng.choice([1, 1, 1, 1, 2, 2, 3], rank))
        dilation = tuple(int(d) for d in rng.choice([1, 1, 1, 2, 3], rank))
        pads = tuple((int(lo), int(hi)) for lo, hi in rng.integers(-2, 4, (rank, 2)))
        size = tuple(int(s) for s in rng.integers(5, (60, 20, 10)[rank - 1], rank))
        c, o = (groups * int(v) for v in rng.choice(CHANNELS, 2))
        share = int(rng.choice([0, 0, 0, 1, 2, 4]))
        if share:  # so many groups have as many channels as a vector
            groups *= share
            c = o = groups // share * vector_bytes() // 4
        g = ConvGeometry(int(rng.integers(1, 4)), c, o, size, kernel, stride, dilation, pads, (1,) * rank, groups)
        if min(g.out_shape) > 0 and named(name).why_not(g, np.dtype("f4")) is None:
            return g


def in_memory(array: np.ndarray, last: bool) -> np.ndarray:
    """The same array, channels innermost or not."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1) if last else np.ascontiguousarray(array)


def weights_in_memory(w: np.ndarray, kind: int) -> np.ndarray:
    """The same weights: as they are, output channels innermost, taps backwards, with gaps, input channels innermost."""
    if kind == 1:
        return np.ascontiguousarray(np.moveaxis(w, (0, 1), (-1, -2))).transpose(
            w.ndim - 1, w.ndim - 2, *range(w.ndim - 2)
        )
    if kind == 2:
        taps = tuple(range(2, w.ndim))
        return np.flip(np.ascontiguousarray(np.flip(w, taps)), taps)
    if kind == 3:
        return np.repeat(np.repeat(w, 2, -1), 2, 0)[::2, ..., ::2]
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(w, 1, -1)), -1, 1) if kind == 4 else w


@pytest.mark.parametrize(("size", "lo", "d", "out"), [(9, 2, 3, 8), (5, -1, 2, 3), (1, 4, 4, 9), (7, 0, 5, 2)])
def test_a_dilated_axis_is_interleaved_axes(size: int, lo: int, d: int, out: int) -> None:
    """Position by position: tap t of output o reads what tap t of its image's output reads."""
    images = interleaved(size, lo, d, out)
    for o in range(out):
        first, inputs, before, outputs = images[o % d]
        assert o // d < outputs
        for t in range(4):
            there = o // d + t - before
            position = o + t * d - lo
            assert (0 <= there < inputs) == (0 <= position < size)
            assert position == first + there * d


@pytest.mark.parametrize(
    ("size", "lo", "k", "s"), [(9, 2, 3, 2), (5, -1, 4, 2), (1, 4, 5, 3), (7, 0, 2, 3), (8, -3, 7, 3)]
)
def test_a_strided_axis_is_a_sum_of_axes(size: int, lo: int, k: int, s: int) -> None:
    """Position by position: tap t of output o reads what its part's tap reads there, and no tap is in two parts."""
    parts = strided_parts(size, lo, k, s)
    assert sum(taps for *_, taps in parts) == k
    for o in range(6):
        for t in range(k):
            first, inputs, before, taps = parts[t % s]
            assert t // s < taps
            there, position = o + t // s - before, o * s + t - lo
            assert (0 <= there < inputs) == (0 <= position < size)
            assert position == first + there * s


def test_a_strided_kernel_is_chosen_where_it_saves() -> None:
    """5 x 5 taps of stride 2: some six products for each output, in place of 25."""
    found = npconv.explain((8, 64, 112, 112), (64, 64, 5, 5), stride=2, padding=2)
    assert found.choice.startswith("fused_winograd"), found


def sums(a: np.ndarray, axes) -> np.ndarray:
    return np.abs(a).sum(tuple(axes))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_random_problems(name: str, dtype: str) -> None:
    algorithm, direct, kind = named(name), named("direct"), np.dtype(dtype)
    rng, u, wide = np.random.default_rng(len(name + dtype)), np.finfo(dtype).eps / 2, np.dtype("f8")
    for _ in range(160):
        g = random_geometry(rng, name)
        x, w, slopes = (rng.standard_normal(s).astype(kind) for s in (g.x_shape, g.w_shape, g.y_shape))
        right, right_dw = np.empty(g.y_shape), np.zeros(g.w_shape)
        direct.forward(x.astype(wide), direct.prepare(w.astype(wide), g, wide), g, right)
        direct.weight_grad(x.astype(wide), slopes.astype(wide), g, right_dw)
        last = rng.integers(0, 2, 3)
        x, slopes, ws = in_memory(x, last[0]), in_memory(slopes, last[1]), weights_in_memory(w, int(rng.integers(5)))
        out = in_memory(np.full(g.y_shape, np.nan, kind), last[2])
        algorithm.forward(x, algorithm.prepare(ws, g, kind), g, out)
        per_o, space = g.out_channels // g.groups, range(2, 2 + g.rank)
        largest = np.abs(x).max(tuple(space)).reshape(g.batch, g.groups, -1)
        scale = np.einsum("ngc,goc->ngo", largest, sums(w, space).reshape(g.groups, per_o, -1))
        assert (np.abs(out - right) <= MEASURED * u * scale.reshape(g.batch, -1, *(1,) * g.rank)).all(), g
        begun = rng.standard_normal(g.w_shape).astype(kind)
        dw = weights_in_memory(begun, int(rng.integers(5))).copy("K")
        algorithm.weight_grad(x, slopes, g, dw)
        scale = sums(slopes, (0, *space)).reshape(g.groups, per_o, 1) * largest.max(0).reshape(g.groups, 1, -1)
        scale = 1 + scale.reshape(*g.w_shape[:2], *(1,) * g.rank)
        assert (np.abs(dw - (right_dw + begun)) <= MEASURED * u * scale).all(), g
        dw[...] = np.nan
        algorithm.write_weight_grad(x, slopes, g, dw)
        assert (np.abs(dw - right_dw) <= MEASURED * u * scale).all(), g


@pytest.fixture
def always_late(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Weights that serve one call are transformed where they are used, however few they are, in small pieces."""
    monkeypatch.setattr(winograd_shape, "LATE_RUNS", 1 << 30)
    monkeypatch.setattr(winograd_shape, "PIECE_BYTES", 1 << 17)
    caches = (
        winograd_shape.late,
        winograd_shape.cheapest,
        winograd_launch.forward_launch,
        winograd_launch.weight_launch,
    )
    for cached in caches:
        cached.cache_clear()
    yield
    monkeypatch.undo()
    for cached in caches:
        cached.cache_clear()


@pytest.mark.usefixtures("always_late")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_weights_for_one_call(name: str, dtype: str) -> None:
    """Transformed where they are used, for any number of threads to the same bits, and not written to."""
    algorithm, direct, kind, wide = named(name), named("direct"), np.dtype(dtype), np.dtype("f8")
    rng, u = np.random.default_rng(len(name + dtype) + 1), np.finfo(dtype).eps / 2
    for i in range(100):
        g = random_geometry(rng, name)
        x, w = (rng.standard_normal(s).astype(kind) for s in (g.x_shape, g.w_shape))
        ws, last = weights_in_memory(w, int(rng.integers(5))), rng.integers(0, 2, 2)
        ws.flags.writeable = False
        right, found = np.empty(g.y_shape), []
        direct.forward(x.astype(wide), direct.prepare(w.astype(wide), g, wide), g, right)
        x = in_memory(x, last[0])
        for count in (1, 2, 3) if i % 4 == 0 else (2,):
            with threads.num_threads(count):
                found.append(in_memory(np.full(g.y_shape, np.nan, kind), last[1]))
                algorithm.forward(x, algorithm.borrow(ws, g, kind), g, found[-1])
        largest = np.abs(x).max(tuple(range(2, 2 + g.rank))).reshape(g.batch, g.groups, -1)
        per_o = g.out_channels // g.groups
        scale = np.einsum("ngc,goc->ngo", largest, sums(w, range(2, 2 + g.rank)).reshape(g.groups, per_o, -1))
        assert (np.abs(found[0] - right) <= MEASURED * u * scale.reshape(g.batch, -1, *(1,) * g.rank)).all(), g
        assert all(np.array_equal(found[0], other) for other in found[1:]), g


def test_weights_of_few_tiles_are_transformed_where_they_are_used() -> None:
    for g, expected in (
        (geometry(1, 512, 512, (7, 7), (3, 3)), True),
        (geometry(1, 64, 64, (7, 7), (3, 3)), True),
        (geometry(1, 256, 256, (112, 112), (3, 3)), False),  # again and again
    ):
        w = np.zeros(g.w_shape, "f4")
        for name in NAMES:
            borrowed = named(name).borrow(w, g, w.dtype)
            assert (borrowed.weights is w) == expected == (borrowed.strides is not None)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("step", [2, 3])
def test_outputs_with_others_between(step: int, dtype: str) -> None:
    """Channels first, every other pixel, as the phases of a transposed convolution: what lies between keeps its value."""
    algorithm, rng, kind = named("fused_winograd_f2"), np.random.default_rng(9), np.dtype(dtype)
    for o in (1, 15, 17, 32, 40):
        for width in (1, 2, 8, 9, 33, 67):
            g = geometry(1, 7, o, (5, width), (2, 2), (0, 1))
            x, w = (rng.standard_normal(s).astype(kind) for s in (g.x_shape, g.w_shape))
            alone, frame = np.empty(g.y_shape, kind), np.full((1, o, 5 * step, width * step), 7.0, kind)
            prepared = algorithm.prepare(w, g, kind)
            algorithm.forward(x, prepared, g, alone)
            inside = frame[..., ::step, ::step]
            algorithm.forward(x, prepared, g, inside)
            assert np.array_equal(inside, alone)
            inside[...] = 7.0
            assert (frame == 7.0).all()


SHAPES = {
    "many tiles": geometry(2, 40, 70, (37, 41), (3, 3)),
    "few tiles": geometry(1, 300, 130, (9, 7), (3, 3)),
    "a volume": geometry(2, 17, 33, (7, 11, 13), (3, 3, 3)),
    "groups": geometry(2, 51, 96, (14, 14), (3, 3), groups=3),
    "a line": geometry(3, 20, 33, (501,), (3,), (0, 2)),
    "dilated": geometry(2, 33, 48, (19, 22), (3, 3), (2, 5), dilation=4),
    "long sums": geometry(1, 700, 16, (6, 6), (3, 3)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_threads_gives_the_same_bits(name: str, shape: str, dtype: str) -> None:
    g, algorithm, kind = SHAPES[shape], named(name), np.dtype(dtype)
    rng = np.random.default_rng(1)
    x, w, slopes = (rng.standard_normal(s).astype(kind) for s in (g.x_shape, g.w_shape, g.y_shape))
    x.flags.writeable = w.flags.writeable = slopes.flags.writeable = False
    before = x.copy(), w.copy(), slopes.copy()
    found = []
    for count in (1, 2, 3, 16):
        with threads.num_threads(count):
            out, dw = np.full(g.y_shape, np.nan, kind), np.zeros(g.w_shape, kind)
            algorithm.forward(x, algorithm.prepare(w, g, kind), g, out)
            algorithm.weight_grad(x, slopes, g, dw)
            found.append((out, dw))
    assert all(np.array_equal(y, found[0][0]) and np.array_equal(dw, found[0][1]) for y, dw in found)
    with threads.num_threads(1):
        prepared = algorithm.prepare(w, g, kind)
    for last in (False, True):
        out = in_memory(np.full(g.y_shape, np.nan, kind), last)
        algorithm.forward(in_memory(x, not last), prepared, g, out)
        assert np.array_equal(out, found[0][0])
    assert all(np.array_equal(a, b) for a, b in zip(before, (x, w, slopes), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_gradient_in_batches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    g, rng = SHAPES["many tiles"], np.random.default_rng(8)
    x, slopes = rng.standard_normal(g.x_shape), rng.standard_normal(g.y_shape)
    whole, parts = np.ones(g.w_shape), np.ones(g.w_shape)
    named(name).weight_grad(x, slopes, g, whole)
    for name_of in ("BATCH_BYTES", "PER_SUM", "WHOLE_BYTES"):
        monkeypatch.setattr(winograd_grad_launch, name_of, 0)
    for cached in (winograd_grad_launch.layout, winograd_grad_launch._words, winograd_grad_launch.bind):
        monkeypatch.setattr(winograd_grad_launch, cached.__name__, cached.__wrapped__)
    named(name).weight_grad(x, slopes, g, parts)
    assert np.allclose(whole, parts, rtol=1e-11, atol=1e-11)


SHARED = {
    "many channels": geometry(1, 40, 70, (20, 21), (3, 3)),
    "more outputs than a panel": geometry(2, 16, 150, (13, 12), (3, 3)),
    "groups": geometry(1, 34, 54, (14, 15), (3, 3), groups=2),
    "three groups and few channels": geometry(1, 15, 9, (30, 30), (3, 3), groups=3),
    "a volume": geometry(1, 33, 40, (5, 9, 10), (3, 3, 3)),
    "a line": geometry(2, 48, 40, (700,), (3,)),
}


@pytest.mark.parametrize("most", [0, 1 << 24])
@pytest.mark.parametrize("name", SHARED)
def test_shares_of_a_weight_gradient(name: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread transforms what it multiplies: the same bits as one thread alone, in one batch of tiles or in many."""
    g, rng, of = SHARED[name], np.random.default_rng(3), named("fused_winograd_f4")
    for name_of in ("BATCH_BYTES", "WHOLE_BYTES"):
        monkeypatch.setattr(winograd_grad_launch, name_of, most)
    monkeypatch.setattr(winograd_grad_launch, "HANDED", 40)  # as where the other processor is far
    x, slopes = rng.standard_normal(g.x_shape).astype("f4"), rng.standard_normal(g.y_shape).astype("f4")
    kinds, found = [], []
    calls.forget()
    try:
        for count in (1, 2, 3, 4, 7):
            with threads.num_threads(count):
                out = np.full(g.w_shape, np.nan, "f4")
                of.write_weight_grad(x, slopes, g, out)
                again = out.copy()
                of.weight_grad(np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1), slopes, g, again)
                found.append((out, again))
                strides = x.strides, slopes.strides, out.strides
                kinds.append(type(winograd_grad_launch.bind(g, 6, *strides, x.dtype, False, count)))
    finally:
        calls.forget()
    assert all(np.array_equal(a, b) for pair in found for a, b in zip(pair, found[0], strict=True))
    assert np.allclose(found[0][1], 2 * found[0][0], rtol=1e-4, atol=1e-3)
    assert kinds[:2] == [chains.Chain, chains.Shares]


@pytest.mark.parametrize("name", SHARED)
def test_shares_are_all_of_it_once(name: str) -> None:
    g = SHARED[name]
    for workers in (2, 3, 5, 16):
        count = np.zeros((g.groups, *g.per_group), int)
        for part in winograd_grad_launch.shares(g, 6, 4, workers) or winograd_grad_launch.whole(g):
            rows = slice(part.channel, part.channel + part.channels)
            count[part.group, rows, part.output : part.output + part.outputs] += 1
        assert (count == 1).all()


@pytest.mark.parametrize("workers", [2, 3])
def test_groups_take_turns_in_the_scratch_of_one_thread(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty-two groups need no more memory than a few for each thread, and all of them are computed."""
    monkeypatch.setattr(winograd_grad_launch, "HANDED", 40)
    calls.forget()
    g = geometry(1, 512, 512, (14, 14), (3, 3), groups=32)
    strides = [np.empty(shape, "f4").strides for shape in (g.x_shape, g.y_shape, g.w_shape)]
    with threads.num_threads(workers):
        chain = winograd_grad_launch.bind(g, 6, *strides, np.dtype("f4"), False, workers)
    parts = winograd_grad_launch.shares(g, 6, 4, workers)
    bundles = winograd_grad_launch._bundles(parts, workers)
    assert isinstance(chain, chains.Shares)
    assert [part for bundle in bundles for part in bundle] == parts
    assert len(bundles) == winograd_grad_launch.BUNDLES * workers
    assert chain.scratch == winograd_grad_launch.workspace(g, 6, 4, workers)
    assert chain.scratch * 2 < 32 * winograd_grad_launch.workspace(geometry(1, 16, 16, (14, 14), (3, 3)), 6, 4, 1)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("share", [1, 2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_groups_of_few_channels_share_vectors(name: str, share: int, dtype: str) -> None:
    """Each is multiplied by its own weights, in both passes, and a NaN of one does not reach the others."""
    lanes, rng = vector_bytes() // int(dtype[1]), np.random.default_rng(share)
    if lanes // share < 2:
        pytest.skip("a group of one channel is depthwise")
    channels, groups = 3 * lanes, 3 * share
    g = geometry(2, channels, channels, (9, 14), (3, 3), groups=groups)
    assert winograd_shape.cut(g, named(name).n, int(dtype[1])).bundle == share
    x, slopes = rng.standard_normal((2, 2, channels, 9, 14)).astype(dtype)
    w, bias = (
        rng.standard_normal((channels, lanes // share, 3, 3)).astype(dtype),
        rng.standard_normal(channels).astype(dtype),
    )
    near = {"rtol": 0, "atol": 1e-4 if dtype == "f4" else 1e-12}
    exact = [a.astype("f8") for a in (x, w, bias, slopes)]
    right = npconv.conv(*exact[:3], padding=1, groups=groups, algorithm="direct")
    back = npconv.conv_input_grad(exact[3], exact[1], input_shape=x.shape, padding=1, groups=groups, algorithm="direct")
    for last in (False, True):
        options = {"padding": 1, "groups": groups, "algorithm": name}
        options["layout"] = "channels_last" if last else "channels_first"
        to = (lambda a: np.ascontiguousarray(np.moveaxis(a, 1, -1))) if last else np.copy
        v = np.ascontiguousarray(w.transpose(2, 3, 1, 0)) if last else w
        assert np.allclose(npconv.conv(to(x), v, bias, **options), to(right), **near)
        plan = npconv.plan_conv(to(x).shape, v, bias, **options)
        assert np.allclose(plan(to(x)), to(right), **near)
        found = npconv.conv_input_grad(to(slopes), v, input_shape=to(x).shape, **options)
        assert np.allclose(found, to(back), **near)
        spoilt = x.copy()
        spoilt[:, 0, 0, 0] = np.nan
        found = plan(to(spoilt))
        others = found[..., lanes // share :] if last else found[:, lanes // share :]
        assert np.isnan(found).any()
        assert np.isfinite(others).all()


@pytest.mark.parametrize(
    ("channels", "outputs", "groups", "stride"), [(2, 1, 6, 1), (1, 2, 6, 1), (1, 1, 5, 1), (1, 1, 6, 2)]
)
def test_other_groups_do_not_share_vectors(channels: int, outputs: int, groups: int, stride: int) -> None:
    """Of unequal sides, which leave a part of the last vector empty, or whose phases are summed."""
    half, ones = vector_bytes() // 8, (1, 1)
    g = ConvGeometry(
        1,
        channels * half * groups,
        outputs * half * groups,
        (14, 14),
        (3, 3),
        (stride,) * 2,
        ones,
        (ones,) * 2,
        ones,
        groups,
    )
    assert winograd_shape.cut(g, 4, 4).bundle == (1 if (channels, outputs, stride) == (2, 1, 1) else 0)


def test_work_of_a_long_time_is_not_shared_out_once_for_all() -> None:
    """Between the parts of a chain nobody looks for Ctrl-C."""
    small, large = geometry(1, 64, 64, (56, 56), (3, 3)), geometry(64, 256, 256, (112, 112), (3, 3))
    assert winograd_grad_launch.shares(small, 6, 4, 2)
    assert not winograd_grad_launch.shares(large, 6, 4, 2)
    assert not winograd_grad_launch.shares(small, 6, 4, 1)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_the_output_is_written(name: str) -> None:
    """The output lies in the middle of a larger array; everything around it keeps its value."""
    algorithm, rng = named(name), np.random.default_rng(0)
    for o in (1, 15, 16, 17, 33, 65):
        for width in (1, 4, 5, 17, 31):
            g = geometry(1, 6, o, (6, width), (3, 3))
            x, w = (rng.standard_normal(s).astype("f4") for s in (g.x_shape, g.w_shape))
            for last in (False, True):
                frame = np.full((3, 8, width + 2, o + 2) if last else (3, o + 2, 8, width + 2), 7.0, "f4")
                inside = frame[1:2, 1:-1, 1:-1, 1:-1]
                out = np.moveaxis(inside, -1, 1) if last else inside
                algorithm.forward(x, algorithm.prepare(w, g, np.dtype("f4")), g, out)
                inside[...] = 7.0
                assert (frame == 7.0).all()
            frame = np.full((o + 2, 8, 5, 5), 7.0, "f4")
            algorithm.weight_grad(x, np.ones(g.y_shape, "f4"), g, frame[1:-1, 1:-1, 1:-1, 1:-1])
            frame[1:-1, 1:-1, 1:-1, 1:-1] = 7.0
            assert (frame == 7.0).all()


@pytest.mark.parametrize("groups", [1, 2])
def test_outputs_to_memory_are_brought_ahead(groups: int, where_inputs_lie: str) -> None:
    """Where they are written in place, and not if groups lie between them; the outputs are those of `blocked`."""
    g = ConvGeometry(1, 32, 64, (18, 19), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), (1, 1), groups)
    rng, last = np.random.default_rng(5), lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)
    x, w = (rng.integers(-3, 4, shape).astype(np.float32) for shape in (g.x_shape, g.w_shape))
    y, expected = (last(np.full(g.y_shape, np.nan, np.float32)) for _ in range(2))
    for name, out in (("fused_winograd_f4", y), ("blocked", expected)):
        algorithm = named(name)
        algorithm.forward(last(x), algorithm.prepare(w, g, x.dtype), g, out)
    assert np.allclose(y, expected, rtol=0, atol=1e-3)
    launch = winograd_launch.forward_launch(g, 6, 2, last(x).strides, None, y.strides, x.dtype, 1)
    assert launch is not None
    far = launch.words.words[launch.words.at["far"]]
    assert far == (2 * 4 * 64 * 4 if groups == 1 and where_inputs_lie == "from memory" else 0)


@pytest.mark.parametrize("name", NAMES)
def test_bias(name: str) -> None:
    algorithm, rng, g = named(name), np.random.default_rng(4), SHAPES["groups"]
    x, w, bias = (rng.standard_normal(s) for s in (g.x_shape, g.w_shape, g.out_channels))
    plain, biased = np.empty(g.y_shape), np.empty(g.y_shape)
    prepared = algorithm.prepare(w, g, x.dtype)
    algorithm.forward(x, prepared, g, plain)
    algorithm.forward(x, algorithm.with_bias(prepared, bias, g), g, biased)
    assert np.allclose(biased, plain + bias.reshape(-1, 1, 1), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", NAMES)
def test_a_launch_tells_whether_all_outputs_are_finite(name: str, dtype: str) -> None:
    """Before they are bounded; and one call says nothing of the next."""
    algorithm, rng, told = named(name), np.random.default_rng(12), set()
    for i in range(24):
        g, kind = random_geometry(rng, name), np.dtype(dtype)
        x, w = (rng.standard_normal(s).astype(dtype) for s in (g.x_shape, g.w_shape))
        x, out = in_memory(x, i % 2 > 0), in_memory(np.empty(g.y_shape, dtype), i % 4 > 1)
        prepared = algorithm.with_bounds(algorithm.prepare(w, g, kind), -1.0, 1.0)
        for count in (1, 3):
            with threads.num_threads(count):
                bound = algorithm.bind(prepared, g, x.strides, out.strides, kind)
                assert bound is not None
                assert bound.looks
                assert bound.run(address(x), address(out))
                at = tuple(int(rng.integers(n)) for n in x.shape)
                kept, x[at] = x[at], rng.choice([np.nan, np.inf, -np.inf])
                right = np.empty(g.y_shape, dtype)
                with np.errstate(all="ignore"):
                    named("direct").forward(x, named("direct").prepare(w, g, kind), g, right)
                finite = bool(np.isfinite(right).all())
                assert bound.run(address(x), address(out)) == finite, (g, at)
                told.add(finite)
                x[at] = kept
                assert bound.run(address(x), address(out))
                assert np.abs(out).max() <= 1
    assert told == {False, True}


@pytest.mark.parametrize("name", NAMES)
def test_what_overflows_in_the_sum_alone_is_seen(name: str) -> None:
    """Every number is finite, and so are the products of most transforms; what direct sums say holds."""
    x, w = np.full((1, 4, 8, 8), 1e19, np.float32), np.full((17, 4, 3, 3), 3e18, np.float32)
    for channels in (1, 2, 4):
        right = npconv.conv(x[:, :channels], w[:, :channels], padding=1, algorithm="direct")
        for layout, given, wanted in (
            ("channels_first", x[:, :channels].copy(), right),
            ("channels_last", np.moveaxis(x[:, :channels], 1, -1).copy(), np.moveaxis(right, 1, -1)),
        ):
            plan = npconv.plan_conv(
                given.shape, w[:, :channels], np.zeros(17, "f4"), padding=1, layout=layout, kernel_layout="OIHW",
                algorithm=name, activation="relu6",
            )  # fmt: skip
            call = npconv.conv(given, w[:, :channels], padding=1, layout=layout, kernel_layout="OIHW", algorithm=name)
            assert np.array_equal(np.isinf(call), np.isinf(wanted))
            for _ in range(2):
                assert np.array_equal(plan(given), np.clip(wanted, 0, 6))


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_any_strides_are_transformed_alike(name: str) -> None:
    rng = np.random.default_rng(5)
    for dtype in ("f4", "f8"):
        w = rng.standard_normal((34, 36, 3, 3)).astype(dtype)
        g = geometry(1, 34, 36, (6, 6), (3, 3))
        views = [input_grad_weights(w, 1)]
        views += [weights_in_memory(np.ascontiguousarray(views[0]), i) for i in range(4)]
        x, same = rng.standard_normal(g.x_shape).astype(dtype), []
        for view in views:
            same.append(np.empty(g.y_shape, dtype))
            named(name).forward(x, named(name).prepare(view, g, np.dtype(dtype)), g, same[-1])
        assert all(np.array_equal(same[0], other) for other in same)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("name", NAMES)
def test_strided_phases(name: str, layout: str) -> None:
    """A transposed convolution of six taps and stride 2 is four convolutions of three taps, written between each other."""
    rng = np.random.default_rng(6)
    x, w = rng.standard_normal((2, 20, 9, 11)), rng.standard_normal((20, 19, 6, 6))
    right = npconv.conv_transpose(x, w, stride=2, padding=2, algorithm="direct")
    if layout == "channels_last":
        x, w, right = np.moveaxis(x, 1, -1).copy(), w.transpose(2, 3, 1, 0).copy(), np.moveaxis(right, 1, -1)
    found = npconv.conv_transpose(x, w, stride=2, padding=2, algorithm=name, layout=layout)
    assert np.allclose(found, right, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_what_no_window_reads_does_not_round(name: str) -> None:
    """A tile overhangs the output: a large number there must not reach the outputs beside it."""
    x, w = np.ones((1, 4, 10, 10)), np.ones((3, 4, 3, 3))
    x[..., 7:, :] = x[..., 7:] = 1e12
    out = npconv.conv(x, w, padding=((0, -3), (0, -3)), algorithm=name)
    assert np.allclose(out, 36.0, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_verified(name: str) -> None:
    npconv.testing.verify_algorithm(named(name), problems_per_dtype=20)


def test_refuses() -> None:
    algorithm = named(NAMES[0])
    single = np.dtype("f4")
    assert algorithm.why_not(geometry(1, 4, 4, (9, 9), (3, 3)), single) is None
    assert "2 taps" in algorithm.why_not(geometry(1, 4, 4, (9, 9), (4, 4)), single)
    assert named(NAMES[1]).why_not(geometry(1, 4, 4, (9, 9), (5, 5)), single) is None
    assert "dilation (17, 17)" in algorithm.why_not(geometry(1, 4, 4, (50, 50), (3, 3), dilation=17), single)
    assert "float32 or float64" in algorithm.why_not(geometry(1, 4, 4, (9, 9), (3, 3)), np.dtype("c8"))
    for kernel, stride, dilation in (((3, 3), (4, 4), (1, 1)), ((8, 8), (4, 4), (1, 1)), ((3, 3), (2, 2), (2, 2))):
        strided = ConvGeometry(1, 4, 4, (30, 30), kernel, stride, dilation, ((0, 0),) * 2, (1, 1))
        assert f"the stride {stride}" in algorithm.why_not(strided, single)


@pytest.mark.parametrize(("algorithm", "kernel"), [("fused_winograd_f2", (3, 1)), ("fused_winograd_f4", (5, 5))])
def test_long_sums_of_equal_numbers_keep_their_bound(algorithm, kernel):
    """Rounding errors of equal numbers all have one sign: no chain of additions may be long, however many the images."""
    x, g = np.full((30_000, 2, 7, 7), 0.1, np.float32), np.full((30_000, 2, 7, 7), 0.3, np.float32)
    dw = npconv.conv_weight_grad(x, g, kernel_shape=(2, 2, *kernel), padding="same", algorithm=algorithm)
    ones = np.ones(x.shape)
    counts = npconv.conv_weight_grad(ones, ones, kernel_shape=dw.shape, padding="same", algorithm="direct")
    product = float(x[0, 0, 0, 0]) * float(g[0, 0, 0, 0])
    assert np.max(abs(dw - counts * product)) <= 128 * 2.0**-24 * 30_000 * 7 * 7 * product


@pytest.mark.parametrize("name", NAMES)
def test_sums_over_many_equal_channels_keep_their_bound(name: str) -> None:
    """Rounding errors of equal numbers are equal in every channel; two taps have the largest transforms."""
    rng, channels, pads = np.random.default_rng(14), 1000, ((1, 1), (1, 0))
    x, w = (np.ones(shape, np.float32) for shape in ((5, channels, 3, 2), (4, channels, 2, 2)))
    counts = npconv.conv(x.astype("f8"), w.astype("f8"), padding=pads, algorithm="direct")
    for _ in range(250):
        a, b = (np.float32(v) for v in rng.standard_normal(2))
        product = float(a) * float(b)
        y = npconv.conv(x * a, w * b, padding=pads, algorithm=name)
        assert np.max(abs(y - counts * product)) <= 128 * 2.0**-24 * channels * 4 * abs(product), (a, b)
