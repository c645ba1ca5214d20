"""The blocked convolution in machine code: large and odd sizes, any memory layout, any number of threads, the same bits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import npconv
import reference
from npconv.algorithms import blocked, named, registered
from npconv.algorithms.base import input_grad_weights, joined
from npconv.compiled import bringing, calls, catalogue, chains, tasks, threads
from npconv.compiled import panels as panels_module
from npconv.compiled.bringing import Brought
from npconv.compiled.panels import collide, panels, vector_bytes, weight_steps
from npconv.compiled.winograd import shape as winograd_shape
from npconv.geometry import ConvGeometry, ceil_div

pytestmark = pytest.mark.skipif(catalogue.unavailable() is not None, reason=str(catalogue.unavailable()))


def geometry(n, c, o, size, kernel, stride=1, dilation=1, pads=(0, 0), groups=1) -> ConvGeometry:
    rank = len(size)
    per = lambda value: (value,) * rank  # noqa: E731
    return ConvGeometry(n, c, o, size, kernel, per(stride), per(dilation), per(pads), per(1), groups)


SHAPES = {
    "more products than a chunk": geometry(1, 300, 20, (5, 6), (3, 2), pads=(1, 1)),
    "more channels than a panel": geometry(2, 5, 200, (7, 9), (3, 3), pads=(1, 0)),
    "a panel and one channel": geometry(1, 17, 65, (9, 9), (1, 1)),
    "one channel": geometry(1, 1, 1, (40, 3), (5, 2), pads=(2, 2)),
    "odd everything": geometry(3, 3, 17, (11, 13), (5, 3), 3, 2, (4, 1)),
    "groups": geometry(2, 15, 51, (8, 7), (3, 3), 2, pads=(1, 1), groups=3),
    "cropped": geometry(1, 8, 8, (12, 12), (3, 3), pads=(-2, -1)),
    "padding wider than the input": geometry(1, 4, 20, (2, 3), (3, 3), pads=(7, 6)),
    "a line": geometry(2, 20, 33, (501,), (9,), 2, 3, (5, 20)),
    "a volume": geometry(1, 7, 19, (6, 5, 9), (3, 2, 3), 2, 1, (1, 1)),
    "no space": geometry(5, 37, 70, (), ()),
    "whole vectors": geometry(2, 9, 48, (11, 10), (3, 3), pads=(1, 1)),
    "whole panels": geometry(1, 70, 128, (9, 9), (3, 3), 2),
    "whole vectors of a group": geometry(1, 8, 64, (9, 9), (2, 2), groups=2),
    "half a vector more": geometry(1, 40, 72, (14, 15), (3, 3)),
    "few pixels": geometry(1, 300, 160, (7, 7), (1, 1)),
    "few pixels and zeros": geometry(1, 24, 40, (7, 7), (3, 3), pads=(1, 1)),
    "a kernel of many chunks": geometry(1, 30, 5, (9, 9), (7, 7), pads=(3, 3)),
    "large image": geometry(1, 16, 24, (130, 61), (3, 3), pads=(1, 1)),
}


def expected(g: ConvGeometry, x, w) -> np.ndarray:
    return reference.conv(x, w, stride=g.stride, padding=g.padding, dilation=g.dilation, groups=g.groups)


def layouts(array: np.ndarray):
    """The same array in other memory: channels last, reversed, with gaps."""
    yield "channels last", np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)
    yield "reversed", np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1] + 1), np.nan, array.dtype)
    wide[..., 1::2] = array
    yield "with gaps", wide[..., 1::2]


def taps_first(w: np.ndarray) -> np.ndarray:
    """The same weights in the memory order of channels last: (*k, C/G, O)."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(w, (0, 1), (-1, -2))), (-1, -2), (0, 1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.usefixtures("where_inputs_lie")
def test_against_the_loops_in_every_layout_and_on_any_number_of_threads(name: str, dtype: str) -> None:
    g = SHAPES[name]
    rng = np.random.default_rng(len(name))
    x, w = rng.standard_normal(g.x_shape).astype(dtype), rng.standard_normal(g.w_shape).astype(dtype)
    algorithm, kind = named("blocked"), np.dtype(dtype)
    right = expected(g, x.astype("f8"), w.astype("f8"))
    scale = expected(g, np.abs(x).astype("f8"), np.abs(w).astype("f8"))
    y = np.full(g.y_shape, np.nan, kind)
    algorithm.forward(x, algorithm.prepare(w, g, kind), g, y)
    borrowed = np.full(g.y_shape, np.nan, kind)
    algorithm.forward(x, algorithm.borrow(w, g, kind), g, borrowed)
    assert np.array_equal(y, borrowed)
    assert (np.abs(y - right) <= 128 * np.finfo(kind).eps / 2 * scale).all()
    for count in (1, 2, 3, 5):
        with threads.num_threads(count):
            for bring in (algorithm.prepare, algorithm.borrow):
                again = np.full(g.y_shape, np.nan, kind)
                algorithm.forward(x, bring(w, g, kind), g, again)
                assert np.array_equal(y, again)
    if not g.rank:
        return
    for of_x, xs in layouts(x):
        for of_w, ws in (*layouts(w), ("kernel last", np.ascontiguousarray(w.T).T), ("taps first", taps_first(w))):
            for of_y, ys in layouts(np.full(g.y_shape, np.nan, kind)):
                algorithm.forward(xs, algorithm.borrow(ws, g, kind), g, ys)
                assert np.array_equal(ys, y), (of_x, of_w, of_y)


@pytest.mark.parametrize(("channels_last", "groups", "k"), [(True, 1, 1), (True, 2, 3), (False, 1, 1), (False, 2, 3)])
@pytest.mark.parametrize("o", [48, 72])
def test_inputs_from_memory_are_brought_ahead(channels_last, groups, k, o, where_inputs_lie) -> None:
    """Products that bring rows and weights, by every panel; half of the last vector is a kind of its own."""
    g = geometry(2, 64 * groups, o * groups, (9, 9), (k, k), pads=(k // 2, k // 2), groups=groups)
    x = np.empty(g.x_shape, np.float32)
    if channels_last:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    launch = blocked.plan(g, x.strides, np.empty(g.y_shape, np.float32).strides, None, np.dtype("f4"), 2)
    address = lambda name: catalogue.kernel("products", name, "f4").address  # noqa: E731
    last = "narrow" if panels(o, 4).halved else "bounded"
    ahead = "_ahead" if where_inputs_lie == "from memory" else ""
    expected = [address("bounded" + ahead), address(last + ahead)]
    assert launch.words.arrays["kinds"].tolist() == 2 * expected


def test_rows_are_brought_ahead_by_the_first_panel_alone(monkeypatch) -> None:
    """Where inputs come from memory, and weights do not; those of the caller's order lie in the cache when they are read."""
    calls.forget()
    monkeypatch.setattr(panels_module, "AHEAD_BYTES", 60_000)
    try:
        g = geometry(4, 64, 128, (9, 9), (1, 1))  # x has 82944 bytes, w 32768
        x, y = (np.moveaxis(np.empty((s[0], *s[2:], s[1]), "f4"), -1, 1) for s in (g.x_shape, g.y_shape))
        wide = geometry(1, 64, 512, (9, 9), (1, 1))  # 20736 and 131072
        one = np.moveaxis(np.empty((1, 9, 9, 64), "f4"), -1, 1), np.moveaxis(np.empty((1, 9, 9, 512), "f4"), -1, 1)
        plain, ahead = (catalogue.kernel("products", name, "f4").address for name in ("bounded", "bounded_ahead"))
        kinds = lambda g, x, y, w: blocked.plan(g, x.strides, y.strides, w, x.dtype, 2).words.arrays["kinds"].tolist()  # noqa: E731
        assert kinds(g, x, y, None) == [ahead, ahead, plain, plain]
        assert kinds(wide, *one, None) == [ahead] * 4
        assert kinds(wide, *one, (512 * 256, 256, 4, 4, 4)) == [plain] * 4  # brought in order a chunk at a time
    finally:
        calls.forget()


@pytest.mark.parametrize("algorithm", ["blocked", "fused_winograd_f4", "channelwise"])
@pytest.mark.parametrize("biased", [False, True])
def test_weights_of_a_call_and_what_reads_them_are_one_launch_or_two(algorithm, biased, monkeypatch) -> None:
    """The same bits as with prepared weights, however many launches and threads."""
    rng, launches = np.random.default_rng(0), []
    run = bringing.run
    for module in (bringing, calls, chains):
        monkeypatch.setattr(module, "run", lambda *a: (launches.append(a[0].name), run(*a))[1])
    monkeypatch.setattr(winograd_shape, "LATE_RUNS", 0)  # or they are transformed where they are used
    groups = 80 if algorithm == "channelwise" else 1
    n = 40 if algorithm == "channelwise" else 2  # so many images that weights are not brought in order on the way
    x, bias = (rng.standard_normal(s).astype("f4") for s in ((n, 80, 26, 26), (80,)))
    w = rng.standard_normal((80, 80 // groups, 3, 3)).astype("f4")
    how = {"padding": 1, "groups": groups, "algorithm": algorithm}
    expected = npconv.plan_conv(x.shape, w, bias if biased else None, **how)(x)
    two = {"pack", "weights", "prepare", "forward"}
    for most, native, names in ((1e18, True, {"sequence"}), (0, True, two), (1e18, False, two)):
        calls.forget()
        monkeypatch.setattr(bringing, "ONE_LAUNCH", most)
        monkeypatch.setattr(bringing, "NATIVE", native)
        for workers in (1, 2, 3):
            launches.clear()
            with npconv.num_threads(workers):
                for _ in range(3):
                    assert np.array_equal(npconv.conv(x, w, bias if biased else None, **how), expected)
            assert launches
            assert set(launches) <= names


@pytest.mark.parametrize("algorithm", ["fused_winograd_f2", "pixelwise"])
def test_a_small_call_brings_its_weights_without_a_launch(algorithm, monkeypatch) -> None:
    rng, brought = np.random.default_rng(0), []
    run_with = Brought.run_with
    monkeypatch.setattr(Brought, "run_with", lambda self, *a: (brought.append(self), run_with(self, *a))[1])
    for module in (bringing, calls, chains):
        monkeypatch.setattr(module, "run", None)
    monkeypatch.setattr(winograd_shape, "LATE_RUNS", 0)  # or they are transformed where they are used
    calls.forget()
    x, w, bias = (rng.standard_normal(s).astype("f4") for s in ((1, 6, 7, 7), (5, 6, 3, 3), (5,)))
    for b in (None, bias):
        expected = npconv.plan_conv(x.shape, w, b, algorithm=algorithm)(x)
        for _ in range(3):
            assert np.array_equal(npconv.conv(x, w, b, algorithm=algorithm), expected)
    assert len(brought) == 6


@pytest.mark.parametrize("rows", [17, 64, 100, 128])
@pytest.mark.parametrize("pitch", [64, 192, 256])
def test_rows_collide_where_a_set_has_too_few_ways(rows: int, pitch: int) -> None:
    """Counted line by line, in a cache of 64 sets of 12 lines."""
    for step in range(pitch, 5000, 32):
        sets = Counter((row * step + byte) // 64 % 64 for row in range(rows) for byte in range(0, pitch, 64))
        assert collide(rows, step, pitch) == (step % 64 == 0 and max(sets.values()) > 12), step


@pytest.mark.parametrize(
    ("channels", "outputs", "bytes_of_a_row", "place"),
    [(64, 64, 256, True), (64, 256, 1024, False), (128, 128, 512, False), (64, 192, 768, True), (64, 512, 2048, False)],
)
def test_weights_are_read_in_place_where_a_cache_holds_them(
    channels: int, outputs: int, bytes_of_a_row: int, place: bool
) -> None:
    """Rows of four vectors of 64 bytes; those that collide are brought in order, as those of many pages are."""
    if vector_bytes() != 64:
        pytest.skip("how many lines a row has, and where they meet, follows from the width of a vector")
    g = geometry(1, channels, outputs, (30, 30), (1, 1))
    steps = (0, 4, bytes_of_a_row, bytes_of_a_row * channels, bytes_of_a_row * channels)
    assert blocked._in_place(steps, g, panels(outputs, 4), 1, channels, 4) == place


def tasks_of(size: tuple[int, int, int], outputs: int, images: int, fresh: bool, workers: int) -> int:
    """How many tasks a 1 x 1 convolution of 64 channels is cut into."""
    boxes, parts, cuts = tasks.split(
        size, (1, 1, 1), (1, 1, 1), 1, 256, images, panels(outputs, 4), True, 0, fresh, workers
    )
    return images * int(np.prod([ceil_div(m, b) for m, b in zip(size, boxes, strict=True)])) * parts * cuts


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(("size", "outputs"), [((1, 24, 24), 64), ((1, 2, 2), 3072)])
def test_threads_share_a_small_image_in_as_many_tasks(
    workers: int, fresh: bool, size: tuple[int, int, int], outputs: int
) -> None:
    """Rows of pixels, or panels where pixels are few; a task more would read the weights or pack the image again."""
    assert tasks_of(size, outputs, 1, fresh, workers) == workers


@pytest.mark.parametrize("workers", [2, 3, 5])
@pytest.mark.parametrize("images", [1, 2, 3, 4, 5, 7, 9, 31])
@pytest.mark.parametrize("outputs", [16, 64, 256])
def test_no_thread_waits_long_for_the_last_one(workers: int, images: int, outputs: int) -> None:
    """Batches that threads do not divide."""
    made = tasks_of((1, 60, 20), outputs, images, False, workers)
    assert ceil_div(made, workers) * workers <= 1.1 * made


def test_nothing_but_the_output_is_written() -> None:
    """The output lies in the middle of a larger array; everything around it keeps its value."""
    algorithm, rng = named("blocked"), np.random.default_rng(0)
    for o in (1, 3, 15, 16, 17, 31, 33, 65):
        for width in (1, 5, 15, 16, 17):
            g = geometry(1, 6, o, (3, width), (3, 3), pads=(1, 1))
            x, w = (rng.standard_normal(s).astype("f4") for s in (g.x_shape, g.w_shape))
            for last in (False, True):
                frame = np.full((3, 5, width + 2, o + 2), 7.0, "f4")
                inside = frame[1:2, 1:4, 1:-1, 1:-1]
                if not last:
                    frame = np.full((3, o + 2, 5, width + 2), 7.0, "f4")
                    inside = frame[1:2, 1:-1, 1:4, 1:-1]
                out = np.moveaxis(inside, -1, 1) if last else inside
                algorithm.forward(x, algorithm.prepare(w, g, np.dtype("f4")), g, out)
                inside[...] = 7.0
                assert (frame == 7.0).all()


def plain(stride: int, dilation: int, padding: int) -> dict:
    """The options of two equal axes."""
    return {"stride": (stride,) * 2, "dilation": (dilation,) * 2, "padding": ((padding,) * 2,) * 2}


@pytest.mark.parametrize("first", [0, 1, 4, 15, 16])
@pytest.mark.parametrize("channels", [3, 8, 24, 37])
def test_planes_that_meet_in_one_set_of_the_cache(channels: int, first: int) -> None:
    """Planes 4 KiB apart that begin anywhere in a line: turned in another order, exactly, and nothing around them."""
    rng = np.random.default_rng(channels)
    x = rng.integers(-9, 10, (2, channels, 32, 32)).astype("f4")
    for name, kernel, stride in (("blocked", 1, 1), ("blocked", 3, 1), ("fused_winograd_f2", 3, 1), ("auto", 3, 2)):
        options = plain(stride, 1, kernel // 2)
        w = rng.integers(-3, 4, (channels, channels, kernel, kernel)).astype("f4") * 4  # halves of halves are exact
        y = reference.conv(x, w, **options)
        for operation, operands, extra, shape in (
            (npconv.conv, (x, w), {}, y.shape),
            (npconv.conv_input_grad, (y.astype("f4"), w), {"input_shape": x.shape}, x.shape),
        ):
            frame = np.full(np.prod(shape) + 64, 7.0, "f4")
            out = frame[first : first + np.prod(shape)].reshape(shape)
            operation(*operands, algorithm=name, out=out, **extra, **options)
            right = y if operation is npconv.conv else reference.conv_input_grad(y, w, x.shape, **options)
            assert np.array_equal(out, right), (name, kernel, operation)
            out[...] = 7.0
            assert (frame == 7.0).all()


@pytest.mark.parametrize("name", ["blocked", "fused_winograd_f2"])
@pytest.mark.parametrize("apart", [1, 2, 3])
def test_rows_whose_numbers_lie_apart(name: str, apart: int) -> None:
    """Every other or third number of a row, to its very end; for Winograd, of strides and dilations too."""
    rng = np.random.default_rng(apart)
    for channels in (4, 5, 16, 33):
        for width in (9, 32, 47):
            wide = rng.integers(-9, 10, (1, channels, 3, (width - 1) * apart + 1)).astype("f4")
            x = wide[..., ::apart]
            w = rng.integers(-3, 4, (20, channels, 3, 3)).astype("f4") * 4
            for options in (plain(2, 1, 1), plain(1, 2, 1), plain(1, 1, 1)):
                found = npconv.conv(x, w, algorithm=name, **options)
                assert np.array_equal(found, reference.conv(x, w, **options)), (channels, width, options)


def test_inputs_are_only_read() -> None:
    g = SHAPES["odd everything"]
    rng = np.random.default_rng(3)
    x, w = (rng.standard_normal(s).astype("f4") for s in (g.x_shape, g.w_shape))
    x.flags.writeable = w.flags.writeable = False
    before = x.copy(), w.copy()
    out = np.empty(g.y_shape, "f4")
    named("blocked").forward(x, named("blocked").prepare(w, g, out.dtype), g, out)
    assert np.array_equal(before[0], x)
    assert np.array_equal(before[1], w)


def test_weights_of_the_input_gradient_are_packed_from_their_view() -> None:
    """Flipped and swapped weights have negative strides; packing reads them in place."""
    rng = np.random.default_rng(1)
    for groups in (1, 2):
        w = rng.standard_normal((36, 34, 3, 2)).astype("f4")
        g = geometry(1, 36, 34 * groups, (6, 6), (3, 2), groups=groups)
        view = input_grad_weights(w, groups)
        assert np.shares_memory(view, w)
        copied = np.ascontiguousarray(view if groups == 1 else joined(view))
        packed = [named("blocked").prepare(each, g, np.dtype("f4")).weights for each in (view, copied)]
        assert np.array_equal(*packed)
        x, outs = rng.standard_normal(g.x_shape).astype("f4"), [np.empty(g.y_shape, "f4") for _ in range(2)]
        for each, out in zip((view, copied), outs, strict=True):
            named("blocked").forward(
                x, replace(named("blocked").prepare(each, g, x.dtype), weights=each, fresh=True), g, out
            )
        assert np.array_equal(*outs)


@pytest.mark.parametrize(("o", "c"), [(20, 17), (6, 5)])
@pytest.mark.parametrize("first", [False, True], ids=["taps last", "taps first"])
def test_groups_of_weights_need_no_common_axis(first: bool, o: int, c: int) -> None:
    """What takes an input gradient's weights with groups apart finds the numbers of those that were joined."""
    rng, kind = np.random.default_rng(5), np.dtype("f4")
    w = rng.standard_normal((3 * o, c, 3, 3)).astype(kind)
    view = input_grad_weights(taps_first(w) if first else w, 3)
    g = geometry(1, 3 * o, 3 * c, (9, 8), (3, 3), pads=(1, 1), groups=3)
    x, able = rng.standard_normal(g.x_shape).astype(kind), [a for a in registered() if a.takes_groups]
    able = [a for a in able if a.why_not(g, kind) is None]
    assert {"blocked", "fused_winograd_f2", "fused_winograd_f4"} <= {a.name for a in able}
    for algorithm in able:
        outs = [np.empty(g.y_shape, kind) for _ in range(3)]
        for weights, out in zip((view, joined(view)), outs, strict=False):
            algorithm.forward(x, algorithm.prepare(weights, g, kind), g, out)
        algorithm.forward(x, algorithm.borrow(view, g, kind), g, outs[2])
        assert np.array_equal(outs[0], outs[1])
        assert np.allclose(outs[0], outs[2], atol=1e-4)


@pytest.mark.parametrize(("channels", "k", "brought"), [(48, 1, False), (96, 3, True)])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_a_call_takes_its_own_weights(layout: str, channels: int, k: int, brought: bool) -> None:
    """A launch that reads the caller's weights, or brings them in order first, is kept for others that lie alike."""
    rng, kind = np.random.default_rng(6), np.dtype("f4")
    with npconv.num_threads(2):
        for _ in range(3):
            x, w = (rng.integers(-4, 5, n).astype(kind) for n in ((1, *(channels,) * 3), (channels, channels, k, k)))
            if layout == "channels_last":
                w = w.transpose(2, 3, 0, 1).copy()
            options = {"layout": layout, "padding": k // 2}
            ways = [{**options, "algorithm": name} for name in ("blocked", "direct")]
            assert np.array_equal(*(npconv.conv(x, w, **way) for way in ways))
            assert np.array_equal(*(npconv.conv_input_grad(x, w, input_shape=x.shape, **way) for way in ways))
        g = geometry(1, channels, channels, (channels, channels), (k, k), pads=(k // 2, k // 2))
        strides = np.empty((channels, channels, k, k), kind).strides
        found = named("blocked").lend(strides, g, *(np.empty(g.x_shape, kind).strides,) * 2, kind)
    assert isinstance(found, Brought) == brought


def test_whole_vectors_of_weights_are_read_where_they_lie() -> None:
    g, kind = SHAPES["whole vectors"], np.dtype("f4")
    w = taps_first(np.random.default_rng(4).standard_normal(g.w_shape).astype(kind))
    assert np.shares_memory(named("blocked").borrow(w, g, kind).weights, w)
    x = np.ones(g.x_shape, kind)
    y_strides = np.empty(g.y_shape, kind).strides
    launch = blocked.plan(g, x.strides, y_strides, weight_steps(w.strides, g), kind, 2)
    assert launch is not None
    told = dict(zip(launch.words.kernel.arguments, launch.words.words.tolist(), strict=True))
    assert (told["fresh"], told["w_row"]) == (0, 48 * 4)


def test_small_calls_have_work_for_all_threads() -> None:
    for o, size in ((64, 7), (16, 14), (160, 7), (960, 7)):
        g = geometry(1, 64, o, (size, size), (3, 3), pads=(1, 1))
        strides = np.empty(g.x_shape, "f4").strides, np.empty(g.y_shape, "f4").strides
        alone, shared = (blocked.plan(g, *strides, None, np.dtype("f4"), workers) for workers in (1, 2))
        assert alone is not None
        assert shared is not None
        assert alone.blocks <= 2 <= shared.blocks


def test_half_precision_and_integers_run_on_it() -> None:
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((2, 8, 9, 9)).astype("f2"), rng.standard_normal((20, 8, 3, 3)).astype("f2")
    y = npconv.conv(x, w, algorithm="blocked")
    assert y.dtype == np.float16
    assert np.allclose(y, npconv.conv(x.astype("f8"), w.astype("f8"), algorithm="direct"), atol=0.05)
    i, j = rng.integers(-9, 9, (1, 8, 9, 9)), rng.integers(-9, 9, (20, 8, 3, 3))
    assert np.array_equal(npconv.conv(i, j, algorithm="blocked"), npconv.conv(i, j, algorithm="direct"))


@pytest.mark.parametrize("direction", ["forward", "input_grad", "weight_grad"])
@pytest.mark.parametrize(("c", "o", "size"), [(1024, 2048, 14), (192, 32, 28), (32, 16, 112), (64, 10, 1)])
def test_auto_leaves_the_processors_to_the_kernels(c: int, o: int, size: int, direction: str) -> None:
    """After a product the threads of NumPy's BLAS spin for a while, and the kernels of the next calls wait for them."""
    chosen = npconv.explain((1, c, size, size), (o, c, 1, 1), direction=direction)
    assert not named(chosen.choice).blas, chosen.choice
    assert named(npconv.explain((1, c, size, size), (o, c, 1, 1), accuracy="strict").choice).blas


@pytest.mark.parametrize("pixels", [49, 64, 100, 196, 784])
def test_two_threads_share_panels_evenly(pixels):
    """They take tasks in order: sizes that alternate would give one of them all the large ones."""
    for channels in range(48, 2100, 48):
        p = panels(channels, 4)
        boxes, parts, cuts = tasks.split(
            (1, 1, pixels), (1, 1, 1), (1, 1, 1), 1, 1024, 1, p, packs=False, staged=0, fresh=False, workers=2
        )
        busy = [0.0, 0.0]
        for _ in range(ceil_div(pixels, boxes[2])):
            for part in range(parts):
                size = p.count * (part + 1) // parts - p.count * part // parts
                for _ in range(cuts):
                    busy[busy.index(min(busy))] += size / cuts
        assert max(busy) <= 1.1 * sum(busy) / 2, (channels, parts, cuts, busy)


@pytest.mark.parametrize(
    ("said", "expected"),
    [("1024K\n", 1 << 20), ("2048K\n", 2 << 20), ("4096K\n", 2 << 20), ("", 1 << 20), ("2M\n", 1 << 20)],
)
def test_the_size_of_a_cache_is_what_the_system_says(said: str, expected: int, monkeypatch, tmp_path) -> None:
    """As far as it can be understood and believed."""
    (tmp_path / "size").write_text(said)
    monkeypatch.setattr(panels_module, "CACHE_SIZE", str(tmp_path / "size"))
    assert panels_module._cache_bytes() == expected
    monkeypatch.setattr(panels_module, "CACHE_SIZE", str(tmp_path / "none"))
    assert panels_module._cache_bytes() == 1 << 20


@pytest.mark.parametrize("far", [False, True])
def test_boxes_are_not_cut_where_all_weights_would_be_read_again(far: bool, monkeypatch) -> None:
    """38 MB of weights come from memory for every box; 9 MB stay in the last cache, and boxes in the second.

    Where the last cache is far away, a box may fill the second.
    """
    calls.forget()
    monkeypatch.setattr(tasks, "FULL_BYTES", 1 << 20 if far else 0)
    for channels, whole in ((1024, True), (512, far)):
        g = ConvGeometry(1, channels, channels, (10, 10), (3, 3), (2, 2), (1, 1), ((1, 1),) * 2, (1, 1))
        launch = blocked.plan(g, *(np.empty(s, "f4").strides for s in (g.x_shape, g.y_shape)), None, np.dtype("f4"), 2)
        assert launch is not None
        told = dict(zip(launch.words.kernel.arguments, launch.words.words.tolist(), strict=True))
        assert (told["boxes_h"] * told["boxes_w"] == 1) == whole
    calls.forget()


def test_sums_of_up_to_192_products_are_not_cut_and_longer_ones_at_128() -> None:
    once = (1, 1, 1)
    assert tasks.chunks((1, 7, 7), once, 3) == (7, 7, 21)
    assert tasks.chunks(once, once, 192) == (1, 1, 192)
    assert tasks.chunks(once, once, 256) == (1, 1, 128)
    for kernel, channels in product([(1, 1, 1), (1, 3, 3), (3, 5, 7), (1, 31, 31)], [1, 3, 64, 100, 193, 1000]):
        _, taps, depth = tasks.chunks(kernel, once, channels)
        whole = channels * np.prod(kernel)
        assert taps * depth <= (192 if whole <= 192 else 128), (kernel, channels)


def test_outputs_of_short_sums_stay_in_the_cache() -> None:
    """Ten products and five hundred outputs: boxes whose outputs a cache holds; with longer sums, or on the way, as they were."""

    def written(terms: int, staged: int) -> int:
        p = panels(512, 4)
        box, _, _ = tasks.split((1, 1, 100_000), (1, 1, terms), (1, 1, 5), terms, 4, 1, p, False, staged, False, 1)
        return box[2] * p.vectors * vector_bytes()

    assert written(10, 0) <= tasks.WRITTEN_BYTES < 3 * written(10, 0)
    assert written(tasks.SHORT + 1, 0) > tasks.WRITTEN_BYTES
    assert tasks.split((1, 1, 20), (1, 1, 10), (1, 1, 5), 10, 4, 1, panels(512, 4), False, 0, False, 1)[0] == (1, 1, 20)
