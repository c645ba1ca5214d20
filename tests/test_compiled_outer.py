"""The weight gradient in machine code: every size, memory layout and number of threads, against the loops."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

import npconv
import reference
from npconv.algorithms import named
from npconv.compiled import calls, catalogue, chains, threads
from npconv.compiled.outer import arrange
from npconv.compiled.outer import launch as outer_launch
from npconv.compiled.outer.bias import channel_sums
from npconv.compiled.panels import vector_bytes
from npconv.geometry import ConvGeometry

pytestmark = pytest.mark.skipif(catalogue.unavailable() is not None, reason=str(catalogue.unavailable()))
CHANNELS = (1, 2, 3, 5, 8, 16, 17, 32, 33, 65, 100)


def weight_grad(x, grad, g: ConvGeometry, out: np.ndarray, *, more: bool = True) -> None:
    """Of `pixelwise`, `blocked` and others, which have it in common."""
    of = named("blocked")
    (of.weight_grad if more else of.write_weight_grad)(x, grad, g, out)


def geometry(n, c, o, size, kernel, stride=1, dilation=1, pads=(0, 0), groups=1) -> ConvGeometry:
    per = lambda value: (value,) * len(size)  # noqa: E731
    return ConvGeometry(n, c, o, size, kernel, per(stride), per(dilation), per(pads), per(1), groups).tight()


def drawn(rng: np.random.Generator) -> ConvGeometry:
    """A problem of any rank with at least one output."""
    rank, groups = int(rng.integers(4)), int(rng.choice([1, 1, 2, 3]))
    c, o = (int(v) * groups for v in rng.choice(CHANNELS, 2))
    one = lambda low, high: tuple(int(v) for v in rng.integers(low, high, rank))  # noqa: E731
    size, kernel, stride, dilation = one(4, (9, 300, 16, 8)[rank]), one(1, 4), one(1, 4), one(1, 3)
    pads = tuple((int(a), int(b)) for a, b in rng.integers(-1, 4, (rank, 2)))
    if rng.random() < 0.4:
        pads = ((0, 0),) * rank
    g = ConvGeometry(int(rng.choice([1, 2, 7])), c, o, size, kernel, stride, dilation, pads, (1,) * rank, groups)
    fits = all(have >= need for have, need in zip(g.padded_shape, g.effective, strict=True))
    return g.tight() if fits else drawn(rng)


def views(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same numbers in some memory layout."""
    kind = rng.integers(4)
    if kind == 0:
        return np.ascontiguousarray(array)
    if kind == 1:  # channels last
        return np.moveaxis(np.array(np.moveaxis(array, 1, -1), order="C"), -1, 1)
    if kind == 2:
        return np.asfortranarray(array[..., ::-1].copy() if array.ndim > 2 else array)[
            ..., slice(None, None, -1 if array.ndim > 2 else 1)
        ]
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1] + 1), np.nan, array.dtype)
    wide[..., 1::2] = array
    return wide[..., 1::2]


def checked(g: ConvGeometry, dtype: str, rng: np.random.Generator) -> None:
    x, grad = rng.standard_normal(g.x_shape).astype(dtype), rng.standard_normal(g.y_shape).astype(dtype)
    options = {"stride": g.stride, "padding": g.padding, "dilation": g.dilation, "groups": g.groups}
    right = reference.conv_weight_grad(x.astype("f8"), grad.astype("f8"), g.w_shape, **options)
    scale = reference.conv_weight_grad(np.abs(x.astype("f8")), np.abs(grad.astype("f8")), g.w_shape, **options)
    first = np.zeros(g.w_shape, dtype)
    weight_grad(x, grad, g, first)
    assert (np.abs(first - right) <= 128 * np.finfo(dtype).eps / 2 * scale).all()
    for count in (1, 2, 3):
        xs, gs, out = views(x, rng), views(grad, rng), views(np.zeros(g.w_shape, dtype), rng)
        with threads.num_threads(count):
            weight_grad(xs, gs, g, out)
            assert np.array_equal(out, first), (count, xs.strides, gs.strides, out.strides)
            out[...] = np.nan
            weight_grad(xs, gs, g, out, more=False)
            assert np.array_equal(out, first), (count, xs.strides, gs.strides, out.strides)


@pytest.mark.parametrize("channels_last", [True, False])
def test_operands_from_memory_are_brought_ahead(channels_last: bool, where_inputs_lie: str) -> None:
    """Where pixels are read one after the other, each of them apart from the next; planes are runs that hardware sees."""
    g = ConvGeometry(2, 32, 48, (9, 9), (1, 1), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    x, grad = np.empty(g.x_shape, np.float32), np.empty(g.y_shape, np.float32)
    if channels_last:
        x, grad = (np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) for a in (x, grad))
    launches, *_ = outer_launch.plan(g, x.strides, grad.strides, np.empty(g.w_shape, "f4").strides, np.dtype("f4"), 2)
    ahead = catalogue.kernel("products", "both_ahead", "f4").address
    for launch in launches:
        words = launch.multiply
        expected = ahead if channels_last and where_inputs_lie == "from memory" else 0
        assert words.words[words.at["ahead"]] == expected


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.usefixtures("where_inputs_lie")
def test_random_problems_in_random_layouts(seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(26):
        checked(drawn(rng), dtype, rng)


SHAPES = {
    "pixels in parts": geometry(2, 16, 16, (60, 50), (1, 1)),
    "a row longer than a sum": geometry(1, 8, 20, (3, 700), (1, 3), pads=(1, 1)),
    "several chunks of images": geometry(9, 64, 64, (40, 41), (1, 1)),
    "several chunks of one image": geometry(1, 256, 10, (100, 101), (1, 1), 2),
    "very short rows": geometry(40, 12, 18, (6, 3), (3, 2), pads=(1, 0)),
    "many outputs": geometry(1, 3, 300, (9, 9), (3, 3), pads=(1, 1)),
    "wide stride and dilation": geometry(2, 5, 7, (31, 33), (3, 2), 5, 4, (6, 2)),
    "cropped, one tap": geometry(2, 20, 30, (12, 13), (1, 1), 2, pads=(-3, -2)),
    "nothing but padding": geometry(1, 4, 20, (2, 3), (3, 3), pads=(7, 6)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_sizes_at_the_edges_of_the_method(name: str) -> None:
    checked(SHAPES[name], "float32", np.random.default_rng(len(name)))


ROWS_OF_CHANNELS = {
    "few": geometry(2, 3, 5, (9, 8), (3, 3), pads=(1, 1)),
    "one channel": geometry(1, 1, 6, (12, 13), (5, 4), 2, pads=(2, 0)),
    "a little more than a vector": geometry(1, 17, 19, (7, 30), (3, 3), pads=(1, 1)),
    "cropped and strided": geometry(3, 6, 4, (10, 11), (2, 3), 3, pads=(-1, 2)),
    "several panels": geometry(1, 40, 12, (5, 9), (1, 7), pads=(0, 3)),
    "a line": geometry(2, 7, 3, (70,), (9,), 2, pads=(4, 4)),
    "a volume": geometry(1, 5, 9, (4, 5, 6), (3, 2, 3), pads=(1, 1)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ROWS_OF_CHANNELS)
def test_the_channels_of_neighbouring_pixels_as_lanes(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels last in x, and lanes (tap, channel) in one step in the gradient: kernels as HWIO and as OHWI."""
    g, rng = ROWS_OF_CHANNELS[name], np.random.default_rng(7)
    x, grad = rng.standard_normal(g.x_shape).astype(dtype), rng.standard_normal(g.y_shape).astype(dtype)
    first, last = np.full(g.w_shape, np.nan, dtype), np.ascontiguousarray(np.moveaxis(x, 1, -1))
    weight_grad(x, grad, g, first, more=False)
    spatial, runs = tuple(range(2, 2 + g.rank)), []

    def joined(*given):
        runs.append(arrange.arrange(*given).run)
        return arrange._arranged(*given, True, True, g.kernel[-1])

    for cached in (outer_launch.plan, outer_launch.bind):
        monkeypatch.setattr(outer_launch, cached.__name__, cached.__wrapped__)
    monkeypatch.setattr(outer_launch, "arrange", joined)
    orders = [(*spatial, 1, 0), (0, *spatial, 1)]
    if g.in_channels == 1:
        orders.append((0, 1, *spatial))
    for order in orders:
        out = np.full([g.w_shape[axis] for axis in order], np.nan, dtype).transpose(np.argsort(order))
        weight_grad(np.moveaxis(last, -1, 1), grad, g, out, more=False)
        assert np.array_equal(out, first), order
    assert name != "few" or g.kernel[-1] in runs  # it is chosen, too


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradient_of_a_bias(dtype: str) -> None:
    rng = np.random.default_rng(8)
    shapes = [(1, 1), (2, 3, 5), (1, 64, 7, 7), (3, 65, 20, 31), (2, 130, 3, 4, 5), (1, 17, 1, 1), (2, 3, 300, 301)]
    for shape in shapes:
        for last in (False, True):
            g = rng.standard_normal(shape).astype(dtype)
            if last:
                g = np.moveaxis(np.ascontiguousarray(np.moveaxis(g, 1, -1)), -1, 1)
            axes = (0, *range(2, g.ndim))
            right, scale = (a.astype(np.longdouble).sum(axes) for a in (g, np.abs(g)))
            found = []
            for count in (1, 2, 3):
                with threads.num_threads(count):
                    found.append(channel_sums(g))
            assert all(np.array_equal(one, found[0]) for one in found)
            assert (np.abs(found[0] - right) <= 8 * np.finfo(np.float64).eps * scale).all(), (shape, last)
    g[0, 1, 2, 3], g[1, 2, 0, 0] = np.nan, np.inf
    sums = channel_sums(g)
    assert np.isfinite(sums[0])
    assert np.isnan(sums[1])
    assert sums[2] == np.inf
    assert channel_sums(g[:, :, ::2]) is None
    assert channel_sums(g.astype(np.float16)) is None


def test_it_adds_and_writes_nothing_else() -> None:
    rng = np.random.default_rng(0)
    for o in (1, 3, 15, 16, 17, 65):
        for c in (1, 6, 17):
            g = geometry(1, c, o, (9, 7), (3, 3), pads=(1, 1))
            x, grad = (rng.standard_normal(s).astype("f4") for s in (g.x_shape, g.y_shape))
            x.flags.writeable = grad.flags.writeable = False
            alone = np.zeros(g.w_shape, "f4")
            weight_grad(x, grad, g, alone)
            for order in ((0, 1, 2, 3), (3, 2, 0, 1)):  # OIHW and HWIO in memory
                shape = tuple((g.w_shape[axis] + 2) for axis in np.argsort(order))
                frame = np.full(shape, 7.0, "f4")
                inside = frame.transpose(order)[1:-1, 1:-1, 1:-1, 1:-1]
                inside[...] = 1.0
                weight_grad(x, grad, g, inside)
                assert np.array_equal(inside, 1.0 + alone)
                inside[...] = 7.0
                assert (frame == 7.0).all()


def test_a_nan_reaches_exactly_the_weights_that_meet_it() -> None:
    """Padding takes part in the sums: zero times NaN is NaN there too, as in the direct algorithm."""
    rng = np.random.default_rng(4)
    for stride, pads in ((1, (1, 1)), (2, (0, 0)), (1, (-1, 2))):
        g = geometry(2, 9, 21, (8, 9), (3, 3), stride, pads=pads)
        for place in ((0, 0, 0, 0), (1, 5, 7, 8), (1, 8, 3, 4)):
            x, grad = (rng.standard_normal(s).astype("f4") for s in (g.x_shape, g.y_shape))
            x[place] = np.nan
            grad[0, 20, 0, 1] = np.inf
            out, plain = np.zeros(g.w_shape, "f4"), np.zeros(g.w_shape, "f4")
            with np.errstate(invalid="ignore"):
                weight_grad(x, grad, g, out)
                named("direct").weight_grad(x, grad, g, plain)
            assert np.array_equal(np.isnan(out), np.isnan(plain))
            assert np.array_equal(np.isinf(out), np.isinf(plain))


def test_the_public_gradient_and_its_transposed_relative() -> None:
    rng = np.random.default_rng(5)
    for layout in ("channels_first", "channels_last"):
        for groups in (1, 2):
            first = layout == "channels_first"
            x = rng.standard_normal((2, 10 * groups, 9, 11) if first else (2, 9, 11, 10 * groups)).astype("f4")
            w = rng.standard_normal((18, 10, 3, 3) if first else (3, 3, 10, 18)).astype("f4")
            options = {"stride": 2, "padding": 1, "groups": groups, "layout": layout}
            grad = rng.standard_normal(npconv.conv(x, w, **options).shape).astype("f4")
            found, right = (
                npconv.conv_weight_grad(x, grad, kernel_shape=w.shape, algorithm=name, **options)
                for name in ("blocked", "direct")
            )
            assert np.allclose(found, right, rtol=1e-4, atol=1e-4)


def test_no_work_is_no_problem() -> None:
    g = replace(geometry(1, 3, 4, (5, 5), (3, 3)), batch=0)
    out = np.ones(g.w_shape, "f4")
    weight_grad(np.zeros(g.x_shape, "f4"), np.zeros(g.y_shape, "f4"), g, out)
    assert (out == 1).all()
    assert outer_launch.flops(g, out.dtype) == 0


def test_scratch_and_sums_stay_within_what_is_promised() -> None:
    rng = np.random.default_rng(6)
    for g in [*SHAPES.values(), *(drawn(rng) for _ in range(60))]:
        for dtype in (np.dtype("f4"), np.dtype("f8")):
            x, y = np.empty(g.x_shape, dtype), np.empty(g.y_shape, dtype)
            launches, fixed, each = outer_launch.plan(
                g, x.strides, y.strides, np.empty(g.w_shape, dtype).strides, dtype, 2
            )
            assert fixed + 2 * each <= outer_launch.workspace(g, dtype)
            for launch in launches:
                steps = launch.multiply.arrays["steps"]
                assert (steps[:, 1] * steps[:, 2]).max() <= 256


@pytest.mark.parametrize("algorithm", ["blocked", "fused_winograd_f4", "channelwise"])
def test_the_launches_of_a_gradient_are_one_or_several(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bits, on any number of threads, whether written or added to what is there."""
    channels, groups = (40, 40) if algorithm == "channelwise" else (40, 1)
    rng, launches = np.random.default_rng(0), []
    x, grad = rng.standard_normal((2, channels, 31, 30)).astype("f4"), rng.standard_normal((2, 40, 31, 30)).astype("f4")
    g = ConvGeometry(2, channels, 40, (31, 30), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), (1, 1), groups)
    of, found, counts = named(algorithm), [], []
    run = chains.run
    monkeypatch.setattr(chains, "run", lambda kernel, *args: (launches.append(kernel.name), run(kernel, *args)))
    for most, count in itertools.product((0, 1e12), (1, 2, 3)):
        monkeypatch.setattr(chains, "ONE_LAUNCH", most)
        calls.forget()
        with threads.num_threads(count):
            out = np.full(g.w_shape, np.nan, "f4")
            launches.clear()
            of.write_weight_grad(x, grad, g, out)
            counts.append(len(launches))
            again = out.copy()
            of.weight_grad(x, grad, g, again)
            found.append((out, again))
    calls.forget()
    assert all(np.array_equal(a, found[0][0]) and np.array_equal(b, found[0][1]) for a, b in found)
    assert np.allclose(found[0][1], 2 * found[0][0])
    assert counts[3:] == [1] * 3 or not threads.NATIVE
    assert all(count >= 1 for count in counts[:3])
    assert algorithm == "channelwise" or counts[0] > 1  # threads may have shares, which are one launch
    assert algorithm != "blocked" or min(counts[:3]) > 1


@pytest.mark.parametrize("outputs", range(1, 19))
def test_rows_that_no_tall_tile_fills(outputs: int) -> None:
    """Few outputs of few channels: rows of one vector, of which tiles compute more than there are."""
    rng = np.random.default_rng(outputs)
    x, grad = rng.standard_normal((2, 3, 9, 40)).astype("f4"), rng.standard_normal((2, outputs, 9, 40)).astype("f4")
    g = ConvGeometry(2, 3, outputs, (9, 40), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    shifted = np.pad(x.astype("f8"), ((0, 0), (0, 0), (1, 1), (1, 1)))
    right = np.empty(g.w_shape)
    for i, j in np.ndindex(3, 3):
        right[:, :, i, j] = np.einsum("nohw,nchw->oc", grad.astype("f8"), shifted[:, :, i : i + 9, j : j + 40])
    last = lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)  # noqa: E731
    for a, b in ((x, grad), (last(x), last(grad)), (x, last(grad))):
        out = np.full(g.w_shape, np.nan, "f4")
        named("blocked").write_weight_grad(a, b, g, out)
        assert np.allclose(out, right, rtol=1e-5, atol=1e-4)


def test_a_chain_knows_what_its_kernels_need() -> None:
    words = calls.Words(catalogue.kernel("outer", "pack", "f4"), {})
    chain = chains.Chain([chains.Link(words, 1, 0, {"a": (chains.FIRST, 0)}, {})], 0, 1)
    with pytest.raises(ValueError, match=r"needs .*a_record.*got \['a'\]"):
        chain.run(0, 0, 0)


def test_what_a_narrow_panel_and_a_crowded_set_cost() -> None:
    """Channels that fill one vector are rows where the others fill more; columns 4096 bytes apart are packed, others not."""
    if vector_bytes() != 64:
        pytest.skip("which panels are narrow, or meet in a cache, follows from the width of a vector")

    def way(c: int, o: int, size: int) -> arrange.Arrangement:
        g = geometry(1, c, o, (size, size), (1, 1))
        x, grad = (np.moveaxis(np.empty((1, size, size, n), "f4"), -1, 1) for n in (c, o))
        dw = np.empty((1, 1, c, o), "f4").transpose(3, 2, 0, 1)
        return arrange.arrange(g, x.strides, grad.strides, dw.strides, np.dtype("f4"))

    assert way(32, 16, 112).swapped
    assert not way(16, 32, 112).swapped
    assert way(256, 1024, 14).b.bytes > 0
    assert way(64, 64, 56).b.bytes == 0


def layer(c: int, o: int, size: int) -> ConvGeometry:
    return ConvGeometry(1, c, o, (size, size), (1, 1), (1, 1), (1, 1), ((0, 0),) * 2, (1, 1))


@pytest.mark.parametrize("g", [layer(64, 384, 14), layer(384, 64, 14), layer(512, 512, 7), layer(96, 576, 14)])
def test_tasks_are_as_many_as_threads_need(g: ConvGeometry) -> None:
    """All threads have about the same, of few large tasks; the sums and their order are those of any number of threads."""
    parts = set()
    for swapped in (False, True):
        for workers in (1, 2, 3, 4, 7):
            cut = outer_launch.Cut.of(g, np.dtype("f4"), workers, swapped)
            rounds = -(-cut.tasks // workers)
            assert rounds * workers <= 1.1 * cut.tasks or cut.tasks >= outer_launch.TASKS
            assert cut.blocks == 1 or workers > 1 or cut.block_rows >= outer_launch.TILES
            parts.add(cut.parts)
    assert parts == {1}  # both operands are near, and one sum for each task will do


def test_parts_are_as_large_as_a_cache_holds() -> None:
    g = ConvGeometry(1, 16, 16, (16, 64, 64), (3, 3, 3), (1, 1, 1), (1, 1, 1), ((1, 1),) * 3, (1, 1, 1))
    read = 4 * (16 + 16) * 16 * 64 * 64
    for workers in (1, 2, 5):
        cut = outer_launch.Cut.of(g, np.dtype("f4"), workers, False)
        assert read / cut.parts <= outer_launch.PART_BYTES < 2 * read
