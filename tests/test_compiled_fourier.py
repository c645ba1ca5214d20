"""Fourier tiles in machine code: random problems in every memory layout, nasty data, any number of threads, the same bits."""

from __future__ import annotations

import numpy as np
import pytest

import npconv
import npconv.testing
import reference
from npconv.algorithms import named
from npconv.algorithms.tiled_fft import plan
from npconv.compiled import catalogue, threads
from npconv.compiled.fourier.cuts import cut
from npconv.geometry import ConvGeometry

pytestmark = pytest.mark.skipif(catalogue.unavailable() is not None, reason=str(catalogue.unavailable()))

ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53}
CHANNELS = (1, 2, 3, 5, 16, 17, 33, 100)
LAYOUTS = ("channels first", "channels last", "with gaps", "reversed")


def draw(rng: np.random.Generator) -> ConvGeometry:
    """A small problem: any rank, cropping and padding, dense, grouped or channel by channel."""
    while True:
        rank = int(rng.integers(1, 4))
        largest, longest = {1: (90, 40), 2: (14, 8), 3: (7, 4)}[rank]
        kernel = tuple(int(k) for k in rng.integers(1, longest, rank))
        size = tuple(int(n) for n in rng.integers(1, largest, rank))
        pads = tuple((int(a), int(b)) for a, b in rng.integers(-2, 5, (rank, 2)))
        c, o = (int(rng.choice(CHANNELS[: 8 if rank < 3 else 5])) for _ in range(2))
        groups = int(rng.choice((1, 1, 3)))
        if rng.random() < 0.3:
            groups, c, o = c, 1, int(rng.integers(1, 3))
        if c * o * groups > 1800:
            continue
        one = (1,) * rank
        found = ConvGeometry(int(rng.integers(1, 4)), c * groups, o * groups, size, kernel, one, one, pads, one, groups)
        if min(found.padded_shape) > 0 and min(found.out_shape) > 0:
            return found.tight()


def laid(array: np.ndarray, layout: str) -> np.ndarray:
    """The same values in other memory."""
    if layout == "channels last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)
    if layout == "with gaps":  # like a phase of a transposed convolution
        wide = np.full((array.shape[0], *(2 * n for n in array.shape[1:])), np.nan, array.dtype)
        view = wide[(slice(None), *(slice(None, None, 2),) * (array.ndim - 1))]
        view[...] = array
        return view
    if layout == "reversed":
        flipped = np.flip(array, tuple(range(2, array.ndim)))
        return np.flip(np.ascontiguousarray(flipped), tuple(range(2, array.ndim)))
    return np.ascontiguousarray(array)


def options(g: ConvGeometry) -> dict[str, object]:
    return {"stride": g.stride, "padding": g.padding, "dilation": g.dilation, "groups": g.groups}


def forward(g: ConvGeometry, x: np.ndarray, w: np.ndarray, layout: str) -> np.ndarray:
    algorithm = named("tiled_fft")
    y = laid(np.full(g.y_shape, np.nan, w.dtype), layout)
    algorithm.forward(x, algorithm.prepare(w, g, w.dtype), g, y)
    return y


def weight_grad(g: ConvGeometry, x: np.ndarray, grad: np.ndarray) -> np.ndarray:
    dw = np.ones(g.w_shape, x.dtype)
    named("tiled_fft").weight_grad(x, grad, g, dw)
    return dw - 1  # it adds


def plane(g: ConvGeometry, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """R: the sum over channels of max|x_c| times the sum of |w_oc|, (N, O, 1...)."""
    axes = tuple(range(2, x.ndim))
    largest = np.abs(x).astype("f8").max(axes).reshape(g.batch, g.groups, -1)
    sums = np.abs(w).astype("f8").sum(axes).reshape(g.groups, g.out_channels // g.groups, -1)
    return np.einsum("ngc,goc->ngo", largest, sums).reshape(g.batch, g.out_channels, *(1,) * g.rank)


def gradient_plane(g: ConvGeometry, x: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """R of a weight gradient, (O, C/G, 1...)."""
    axes = tuple(range(2, x.ndim))
    largest = np.abs(x).astype("f8").max(axes).reshape(g.batch, g.groups, -1)
    sums = np.abs(grad).astype("f8").sum(axes).reshape(g.batch, g.groups, -1)
    return np.einsum("ngc,ngo->goc", largest, sums).reshape(*g.w_shape[:2], *(1,) * g.rank)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_problems_in_every_layout(dtype: str) -> None:
    rng = np.random.default_rng(20261121)
    u = ROUNDOFF[dtype]
    for i in range(300):
        g = draw(rng)
        x, w, grad = (rng.standard_normal(shape).astype(dtype) for shape in (g.x_shape, g.w_shape, g.y_shape))
        of_x, of_w, of_y = (str(layout) for layout in rng.choice(LAYOUTS, 3))
        before = x.copy(), w.copy(), grad.copy()
        xs, ws, gs = laid(x, of_x), laid(w, of_w), laid(grad, of_y)
        y = forward(g, xs, ws, of_y)
        right = reference.conv(x.astype("f8"), w.astype("f8"), **options(g))
        limit = 16 * u * plane(g, x, w)
        assert (np.abs(y - right) <= limit).all(), (i, g, of_x, of_w, of_y)
        dw = weight_grad(g, xs, gs)
        right = reference.conv_weight_grad(x.astype("f8"), grad.astype("f8"), g.w_shape, **options(g))
        limit = 16 * u * gradient_plane(g, x, grad) + 4 * u
        assert (np.abs(dw - right) <= limit).all(), (i, g, of_x, of_y)
        assert all(np.array_equal(a, b) for a, b in zip((xs, ws, gs), before, strict=True))


LARGER = {
    "more channels than a chunk": ConvGeometry(1, 300, 70, (20, 9), (5, 3), (1, 1), (1, 1), ((2, 2),) * 2, (1, 1)),
    "many panels": ConvGeometry(2, 17, 133, (15, 14), (7, 7), (1, 1), (1, 1), ((3, 3),) * 2, (1, 1)),
    "a long line": ConvGeometry(1, 5, 19, (5000,), (255,), (1,), (1,), ((127, 127),), (1,)),
    "more pairs than are in flight": ConvGeometry(6, 40, 40, (64, 64), (3, 3), (1, 1), (1, 1), ((1, 1),) * 2, (1, 1)),
    "large tiles": ConvGeometry(1, 20, 40, (90, 100), (48, 47), (1, 1), (1, 1), ((24, 20),) * 2, (1, 1), 20),
    "many tiles of one channel": ConvGeometry(9, 1, 1, (40, 50), (9, 9), (1, 1), (1, 1), ((4, 4),) * 2, (1, 1)),
    "grouped": ConvGeometry(2, 24, 36, (30, 31), (9, 9), (1, 1), (1, 1), ((4, 4),) * 2, (1, 1), 4),
    "a volume": ConvGeometry(2, 18, 20, (9, 17, 20), (5, 5, 5), (1,) * 3, (1,) * 3, ((2, 2),) * 3, (1,) * 3),
}


@pytest.mark.parametrize("name", LARGER)
def test_any_number_of_threads_gives_the_same_bits(name: str) -> None:
    g, rng = LARGER[name].tight(), np.random.default_rng(len(name))
    x, w, grad = (rng.standard_normal(shape).astype("f4") for shape in (g.x_shape, g.w_shape, g.y_shape))
    with threads.num_threads(1):
        y, dw = forward(g, x, w, "channels last"), weight_grad(g, x, grad)
    kind = np.dtype("f8")
    wide = [a.astype(kind) for a in (x, w, grad)]
    direct = named("direct")
    right = np.empty(g.y_shape)
    direct.forward(wide[0], direct.prepare(wide[1], g, kind), g, right)
    assert (np.abs(y - right) <= 16 * ROUNDOFF["float32"] * plane(g, x, w)).all()
    right = np.zeros(g.w_shape)
    direct.weight_grad(wide[0], wide[2], g, right)
    assert (np.abs(dw - right) <= 16 * ROUNDOFF["float32"] * gradient_plane(g, x, grad) + 1e-6).all()
    for count in (2, 3, 5):
        with threads.num_threads(count):
            assert np.array_equal(y, forward(g, x, w, "channels last"))
            assert np.array_equal(dw, weight_grad(g, x, grad))


def nasty(rng: np.random.Generator, shape: tuple[int, ...], kind: int) -> np.ndarray:
    """Data that transforms are bad at: one sign, constant, one huge sample, channels or samples of all scales, a tone."""
    a = rng.standard_normal(shape)
    if kind == 0:
        return np.abs(a)
    if kind == 1:
        return np.ones(shape)
    if kind == 2:
        a[tuple(int(rng.integers(n)) for n in shape)] *= 1e6
        return a
    if kind == 3:
        return a * 10 ** rng.uniform(-4, 4, (*shape[:2], *(1,) * (len(shape) - 2)))
    if kind == 4:
        return a * 10 ** rng.uniform(-5, 5, shape)
    return np.broadcast_to(np.cos(np.arange(shape[-1]) * rng.uniform(0, 3.2)), shape)


def test_nasty_data_keep_the_bound_of_the_plane() -> None:
    rng, worst = np.random.default_rng(7), 0.0
    for _ in range(150):
        g = draw(rng)
        x, w, grad = (
            nasty(rng, shape, int(rng.integers(6))).astype("f4") for shape in (g.x_shape, g.w_shape, g.y_shape)
        )
        right = reference.conv(x.astype("f8"), w.astype("f8"), **options(g))
        error, scale = np.abs(forward(g, x, w, "channels first") - right), plane(g, x, w)
        worst = max(worst, float((error / (ROUNDOFF["float32"] * np.maximum(scale, 1e-30))).max()))
        dw = np.zeros(g.w_shape, "f4")
        named("tiled_fft").weight_grad(x, grad, g, dw)
        right = reference.conv_weight_grad(x.astype("f8"), grad.astype("f8"), g.w_shape, **options(g))
        scale = np.maximum(gradient_plane(g, x, grad), 1e-30)
        worst = max(worst, float((np.abs(dw - right) / (ROUNDOFF["float32"] * scale)).max()))
    assert worst <= 32  # a quarter of what is promised


def test_the_contract_of_an_algorithm() -> None:
    report = npconv.testing.verify_algorithm(named("tiled_fft"), problems_per_dtype=40)
    assert report.accepted > 20
    assert report.worst < 0.25


def test_the_public_passes_use_it() -> None:
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((2, 20, 20, 5)), rng.standard_normal((6, 7, 5, 9))
    y = npconv.conv(x, w, padding=2, layout="channels_last", algorithm="tiled_fft")
    assert np.allclose(y, npconv.conv(x, w, padding=2, layout="channels_last", accuracy="strict"), atol=1e-12)
    keep = {"padding": 2, "layout": "channels_last"}
    dx = npconv.conv_input_grad(y, w, input_shape=x.shape, algorithm="tiled_fft", **keep)
    assert np.allclose(dx, npconv.conv_input_grad(y, w, input_shape=x.shape, accuracy="strict", **keep), atol=1e-10)
    big = npconv.conv_transpose(x, rng.standard_normal((6, 7, 9, 5)), stride=2, layout="channels_last")
    assert np.isfinite(big).all()


def test_a_nan_spreads_no_further_than_it_should() -> None:
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal((1, 2, 30, 30)).astype("f4"), rng.standard_normal((3, 2, 7, 7)).astype("f4")
    x[0, 1, 15, 15] = np.nan
    y = npconv.conv(x, w, algorithm="tiled_fft")
    assert np.array_equal(np.isnan(y), np.isnan(npconv.conv(x, w, algorithm="direct")))


def test_a_plan_covers_every_output_and_wastes_little() -> None:
    for size, kernel in (((128, 128), (15, 15)), ((56, 56), (7, 7)), ((16000,), (31,)), ((30, 31, 32), (5, 5, 5))):
        rank = len(size)
        one = (1,) * rank
        g = ConvGeometry(1, 32, 32, size, kernel, one, one, tuple((k // 2, k // 2) for k in kernel), one)
        c = plan(g, np.dtype("f4"))
        assert c == cut(g, c.lengths)
        assert all(
            s * n >= out for s, n, out in zip(c.step[3 - rank :], c.counts[3 - rank :], g.out_shape, strict=True)
        )
        assert c.frequencies * c.pairs * 8 < np.prod(kernel) * np.prod(size)  # fewer products than a direct sum


def test_refusals_say_why() -> None:
    algorithm, kind = named("tiled_fft"), np.dtype("f4")
    base = ConvGeometry(1, 1, 1, (30,), (5,), (1,), (1,), ((0, 0),), (1,))
    assert algorithm.why_not(base, kind) is None
    for change, word in (
        ({"stride": (2,)}, "stride"),
        ({"dilation": (3,)}, "dilation"),
        ({"kernel": (1600,)}, "kernel"),
    ):
        values = {**base.__dict__, **change}
        other = ConvGeometry(*(values[name] for name in ConvGeometry.__dataclass_fields__))
        assert word in (algorithm.why_not(other, kind) or "")
    assert "complex64" in (algorithm.why_not(base, np.dtype("complex64")) or "")
