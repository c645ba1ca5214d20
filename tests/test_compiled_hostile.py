"""Shapes and memory that machine code may not like, against `direct` in double precision.

1 to 70 channels and pixels per axis, kernels larger than images, strides and dilations beyond them, negative and uneven
padding, no samples, one channel per group; arrays that are reversed, spread, unaligned, read-only, broadcast, big-endian,
Fortran-ordered or of half precision. 300 problems of each kind run by default, 5,000 with `-m long`.

    |computed - exact| <= 128 u R        R: the sum over channels of max |x| sum |w|
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import npconv
from npconv.algorithms import OWN
from npconv.algorithms.base import Compiled
from npconv.compiled import catalogue

CHUNK = 50
each_chunk = pytest.mark.parametrize(
    "start",
    [
        pytest.param(start, id=f"from-{start}", marks=() if start < 300 else pytest.mark.long)
        for start in range(0, 5_000, CHUNK)
    ],
)
pytestmark = pytest.mark.skipif(catalogue.unavailable() is not None, reason=str(catalogue.unavailable()))
NAMES = ("auto", *(algorithm.name for algorithm in OWN if isinstance(algorithm, Compiled)))
UNIT = {"float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}
MOST_WORK, MOST_ELEMENTS = 1e6, 2e5


# --- drawing


def some(rng: np.random.Generator, most: int) -> int:
    """1 to `most`, small numbers more often."""
    return int(rng.integers(1, most + 1)) if rng.random() < 0.5 else round(float(np.exp(rng.uniform(0, np.log(most)))))


def draw(seed: int) -> tuple[np.random.Generator, dict[str, tuple[int, ...]], dict[str, Any]]:
    """The dice, the canonical shapes of x, w and g, and the options."""
    rng = np.random.default_rng([20261121, seed])
    while True:
        rank, style = int(rng.integers(1, 4)), seed % 5
        size = tuple(some(rng, 70) for _ in range(rank))
        kernel, stride = (tuple(some(rng, most) for _ in range(rank)) for most in (9, 4 if rng.random() < 0.9 else 100))
        dilation = tuple(1 if rng.random() < 0.6 else int(rng.choice([2, 3, 17, 60, 2**20])) for _ in range(rank))
        if style == 1:  # Winograd's
            kernel, stride = tuple(int(rng.choice([2, 3, 3, 5, 1])) for _ in range(rank)), (1,) * rank
        elif style == 2:  # Fourier's
            kernel, stride, dilation = tuple(some(rng, (300, 40, 12)[rank - 1]) for _ in size), (1,) * rank, (1,) * rank
        groups, channels, outputs = 1, some(rng, 70), some(rng, 70)
        if style == 3:
            groups, outputs = channels, channels * int(rng.integers(1, 4))
        elif style == 4:
            groups = some(rng, 12)
            channels, outputs = groups * some(rng, 8), groups * some(rng, 8)
        batch = 0 if rng.random() < 0.03 else some(rng, 4)
        padding, out = [], []
        for n, k, d, s in zip(size, kernel, dilation, stride, strict=True):
            span = (k - 1) * d + 1
            lo, hi = (int(rng.integers(0, min(span, 30) + 1)) for _ in range(2))
            lo, hi = (p - int(rng.integers(0, n + 3)) * (rng.random() < 0.1) for p in (lo, hi))
            hi += max(0, span - n - lo - hi)
            padding.append((lo, hi))
            out.append((n + lo + hi - span) // s + 1)
        reach = np.prod([n + lo + hi for n, (lo, hi) in zip(size, padding, strict=True)], dtype=float)
        steps = np.prod([(m - 1) * s + 1 for m, s in zip(out, stride, strict=True)], dtype=float)
        taps = np.prod(kernel, dtype=float)
        work = batch * channels * outputs / groups * taps * max(np.prod(out), np.prod(size))
        if work <= MOST_WORK and max(batch, 1) * max(channels * reach, outputs * steps, taps) <= MOST_ELEMENTS:
            break
    shapes = {
        "x": (batch, channels, *size),
        "w": (outputs, channels // groups, *kernel),
        "g": (batch, outputs, *out),
    }
    return rng, shapes, {"stride": stride, "padding": tuple(padding), "dilation": dilation, "groups": groups}


def spread_out(rng: np.random.Generator, a: np.ndarray) -> np.ndarray:
    room = np.zeros([2 * n + 1 for n in a.shape], a.dtype)
    view = room[tuple(slice(1, 2 * n + 1, 2) for n in a.shape)]
    view[...] = a
    return view


def unaligned(rng: np.random.Generator, a: np.ndarray) -> np.ndarray:
    return np.frombuffer(bytearray(b"\0\0\0" + a.tobytes()), np.uint8)[3:].view(a.dtype).reshape(a.shape)


def reversed_axes(rng: np.random.Generator, a: np.ndarray) -> np.ndarray:
    turn = tuple(slice(None, None, int(rng.choice([-1, 1]))) for _ in a.shape)
    return np.ascontiguousarray(a[turn])[turn]


def read_only(rng: np.random.Generator, a: np.ndarray) -> np.ndarray:
    a.flags.writeable = False
    return a


def repeated(rng: np.random.Generator, a: np.ndarray) -> np.ndarray:
    """Broadcast along one or two axes, as the gradient of a mean is."""
    first = a
    for axis in rng.integers(0, a.ndim, 2):
        first = first[(slice(None),) * int(axis) + (slice(0, 1),)]
    return np.broadcast_to(first, a.shape)


FORMS: tuple[Callable[[np.random.Generator, np.ndarray], np.ndarray], ...] = (
    lambda rng, a: a,
    spread_out,
    unaligned,
    reversed_axes,
    read_only,
    repeated,
    lambda rng, a: a.astype(a.dtype.newbyteorder(">")),
    lambda rng, a: np.asfortranarray(a),
    lambda rng, a: a.astype(np.float16),
)


class Call:
    """A drawn problem as a caller holds it: some layout, some memory."""

    def __init__(self, seed: int, spoiled: bool) -> None:
        rng, shapes, self.options = draw(seed)
        self.seed, self.last, self.shapes = seed, bool(rng.integers(2)), shapes
        dtype = str(rng.choice(["float32", "float32", "float64"]))
        self.given: dict[str, np.ndarray] = {}
        for name, shape in shapes.items():
            a = rng.standard_normal(shape).astype(dtype)
            if spoiled and a.size and rng.random() < 0.5:
                a.flat[rng.integers(0, a.size, 2)] = rng.choice([np.nan, np.inf, -np.inf], 2)
            self.given[name] = FORMS[int(rng.integers(len(FORMS)))](rng, np.ascontiguousarray(self.user(name, a)))
        self.options["layout"] = "channels_last" if self.last else "channels_first"

    def user(self, name: str, a: np.ndarray) -> np.ndarray:
        if not self.last:
            return a
        return np.moveaxis(a, (0, 1), (-1, -2)) if name == "w" else np.moveaxis(a, 1, -1)

    def run(self, result: str, algorithm: str, *, double: bool = False) -> np.ndarray | None:
        """y, dx or dw, or None where the algorithm cannot."""
        a = {name: array.astype(np.float64) if double else array for name, array in self.given.items()}
        options = self.options | {"algorithm": algorithm}
        try:
            if result == "g":
                return npconv.conv(a["x"], a["w"], **options)
            if result == "x":
                return npconv.conv_input_grad(a["g"], a["w"], input_shape=a["x"].shape, **options)
            return npconv.conv_weight_grad(a["x"], a["g"], kernel_shape=a["w"].shape, **options)
        except ValueError as refusal:
            if "cannot run here" not in str(refusal):
                raise
            return None

    def unit(self, result: str) -> float:
        """u of what computes: half precision is computed in single."""
        kinds = [self.given[name].dtype for name in self.given if name != result]
        return min(UNIT["float32"], UNIT[np.result_type(*kinds).name])

    def reach(self, result: str) -> np.ndarray:
        """R of every plane, in the caller's order of the axes."""
        x, w, g = (np.abs(self.canonical(name)) for name in self.shapes)
        groups, space = self.options["groups"], tuple(range(2, x.ndim))
        per_in, per_out = x.shape[1] // groups, w.shape[0] // groups
        top_x, top_g = (a.max(space, initial=0).reshape(len(a), groups, -1 if len(a) else n)
                        for a, n in ((x, per_in), (g, per_out)))  # fmt: skip
        taps = w.sum(space).reshape(groups, per_out, per_in)
        if result == "g":
            r = np.einsum("ngc,goc->ngo", top_x, taps).reshape(len(x), -1 if len(x) else w.shape[0])
        elif result == "x":
            r = np.einsum("ngo,goc->ngc", top_g, taps).reshape(len(x), -1 if len(x) else x.shape[1])
        else:
            slid = g.sum(space).reshape(len(g), groups, -1 if len(g) else per_out)
            r = np.einsum("ngc,ngo->goc", top_x, slid).reshape(w.shape[:2])
        return self.user(result, r.reshape(*r.shape, *(1,) * len(space)))

    def canonical(self, name: str) -> np.ndarray:
        a = self.given[name].astype(np.float64)
        if not self.last:
            return a
        return np.moveaxis(a, (-1, -2), (0, 1)) if name == "w" else np.moveaxis(a, -1, 1)

    def __str__(self) -> str:
        held = {name: (a.dtype.str, a.shape, a.strides) for name, a in self.given.items()}
        return f"Call({self.seed}): {held} {self.options}"


# --- what must hold


@each_chunk
def test_results_keep_their_bound_and_do_not_depend_on_threads(start):
    for seed in range(start, start + CHUNK):
        call = Call(seed, spoiled=False)
        for result in call.shapes:
            exact, bound = call.run(result, "direct", double=True), 128 * call.unit(result) * call.reach(result)
            for name in NAMES:
                y = call.run(result, name)
                if y is None:
                    continue
                with npconv.num_threads(1):
                    assert y.tobytes() == call.run(result, name).tobytes(), f"{result}, {name}, threads: {call}"
                limit = bound if y.dtype.itemsize > 2 else bound + UNIT["float16"] * np.abs(exact) + 2.0**-25
                wrong = ~(np.abs(y - exact) <= limit)
                assert not wrong.any(), f"{result}, {name}: {wrong.sum()} of {y.size} wrong; {call}"


@each_chunk
def test_nan_and_infinities_are_where_direct_has_them(start):
    for seed in range(start, start + CHUNK):
        call = Call(seed, spoiled=True)
        for result in call.shapes:
            expected = call.run(result, "direct")
            for name in NAMES:
                y = call.run(result, name)
                if y is not None:
                    for kind in (np.isnan, np.isposinf, np.isneginf):
                        wrong = kind(y) != kind(expected)
                        assert not wrong.any(), f"{result}, {name}: {kind.__name__} of {wrong.sum()}; {call}"


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "channelwise"])
def test_the_gradient_of_a_mean_is_broadcast(name, layout):
    """g has steps of 0 along the image: a kernel that counts by steps stands still."""
    rng, last = np.random.default_rng(3), layout == "channels_last"
    x = rng.standard_normal((2, 9, 9, 16) if last else (2, 16, 9, 9)).astype(np.float32)
    o = 4 if name == "pixelwise" else 32  # few outputs are what that one is for
    one = rng.standard_normal((2, 1, 1, o) if last else (2, o, 1, 1)).astype(np.float32)
    g = np.broadcast_to(one, (2, 9, 9, o) if last else (2, o, 9, 9))
    options = {"kernel_shape": (3, 3, 16, o) if last else (o, 16, 3, 3), "padding": 1, "layout": layout}
    found = npconv.conv_weight_grad(x, g, algorithm=name, **options)
    exact = npconv.conv_weight_grad(x.astype(float), g.astype(float), algorithm="direct", **options)
    assert np.abs(found - exact).max() < 1e-4 * np.abs(exact).max()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_image_shorter_than_the_stride(dtype):
    """Some phases of the stride have no pixels, and so no part in what is computed for all at once."""
    rng = np.random.default_rng(0)
    w, g = rng.integers(-4, 5, (22, 2, 3, 4)).astype(dtype), rng.integers(-4, 5, (4, 22, 2, 15)).astype(dtype)
    options = {"input_shape": (4, 2, 2, 43), "stride": 3, "padding": ((4, 0), (1, 3))}
    exact = npconv.conv_input_grad(g, w, algorithm="direct", **options)
    for _ in range(3):
        np.full(4096, np.nan, dtype)  # what is not written may hold this
        assert np.array_equal(npconv.conv_input_grad(g, w, algorithm="blocked", **options), exact)


# --- what launches keep


def test_the_tables_of_launches_do_not_grow_without_bound(monkeypatch):
    """Each size of an image has tables of its own, kept for the next call."""
    from npconv.compiled import calls

    monkeypatch.setattr(calls, "TABLES", 1 << 20)
    w = np.ones((16, 16, 3, 3), np.float32)

    def call(i: int) -> np.ndarray:
        return npconv.conv(np.full((1, 16, 60 + i % 40, 90), i % 5, np.float32), w, algorithm="blocked")

    expected = [call(i) for i in range(5)]
    held = []
    for i in range(120):
        call(i)
        held.append(sum(words.bytes for words in list(calls._alive)))
    assert max(held) < 2 << 20
    assert min(held[60:]) < max(held[:60])
    for i in range(5):
        np.testing.assert_array_equal(call(i), expected[i])
