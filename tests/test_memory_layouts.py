"""Every operand of every operator in 14 memory layouts: bit-equal to the results of contiguous copies.

Each call also runs twice and gives the same bits, leaves its inputs' memory as it was, returns a base
ndarray, and writes all of an output (and of every workspace) that held NaN before.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest

import npconv
from npconv import filters

# --- the layouts


def fortran(a):
    return np.asfortranarray(a)


def transposed(a):
    """The axes in another order in memory: rotated by one, so that channels lie innermost."""
    order = (0, *range(2, a.ndim), 1) if a.ndim > 1 else (0,)
    return np.ascontiguousarray(a.transpose(order)).transpose(np.argsort(order))


def sliced(a):
    holder = np.full([2 * n for n in a.shape], 7, a.dtype)
    holder[(slice(1, None, 2),) * a.ndim] = a
    return holder[(slice(1, None, 2),) * a.ndim]


def reversed_(a):
    back = (slice(None, None, -1),) * a.ndim
    return np.ascontiguousarray(a[back])[back]


def last_axis_reversed(a):
    return np.ascontiguousarray(a[..., ::-1])[..., ::-1]


def broadcast(a):
    """Stride 0 along the first axis of two or more."""
    axis = next((i for i, n in enumerate(a.shape) if n > 1), 0)
    return np.broadcast_to(a.take([0], axis), a.shape)


def offset(a):
    """In the middle of a larger allocation: a window of a bigger image, at another address modulo 64."""
    holder = np.full([n + 3 for n in a.shape], 7, a.dtype)
    inside = holder[tuple(slice(1, n + 1) for n in a.shape)]
    inside[...] = a
    return inside


def read_only(a):
    copy = a.copy()
    copy.flags.writeable = False
    return copy


def unaligned(a):
    raw = b"x" + a.tobytes()
    return np.frombuffer(raw, a.dtype, offset=1).reshape(a.shape)


def byte_swapped(a):
    return a.astype(a.dtype.newbyteorder("S"))


def memory_mapped(a, folder):
    mapped = np.memmap(folder / "operand.bin", a.dtype, "w+", shape=a.shape)
    mapped[...] = a
    mapped.flush()
    return np.memmap(folder / "operand.bin", a.dtype, "r", shape=a.shape)


def odd_strides_on_size_one(a):
    """Axes of size 1 may have any stride at all; here ones that no allocation would give."""
    copy = a.copy()
    odd = [
        (-1) ** i * (1000 + i) * a.itemsize if n == 1 else s
        for i, (n, s) in enumerate(zip(a.shape, copy.strides, strict=True))
    ]
    return np.lib.stride_tricks.as_strided(copy, a.shape, odd)


class Image(np.ndarray):
    """Someone's own array class, one that overrides what arithmetic returns."""

    def __array_wrap__(self, array, context=None, return_scalar=False):
        raise AssertionError("arithmetic ran in the user's class")


def subclass(a):
    return a.copy().view(Image)


def nested_list(a):
    return a.tolist()


LAYOUTS = {
    f.__name__.rstrip("_"): f
    for f in (
        fortran,
        transposed,
        sliced,
        reversed_,
        last_axis_reversed,
        broadcast,
        offset,
        read_only,
        unaligned,
    )
} | {f.__name__: f for f in (byte_swapped, memory_mapped, odd_strides_on_size_one, subclass, nested_list)}


# --- the calls


class Call(NamedTuple):
    """One call of one operator: a function of its operands, and the operands."""

    function: Callable
    operands: dict[str, np.ndarray]

    def __call__(self, **others) -> tuple:
        result = self.function(**self.operands | others)
        return tuple(result) if isinstance(result, tuple) else (result,)

    @property
    def takes_out(self) -> bool:
        return "out" in inspect.signature(self.function).parameters


CONVS = {  # name: x, w, options
    "3x3": ((2, 6, 9, 8), (5, 6, 3, 3), {"padding": 1}),
    "1x1": ((3, 16, 7, 6), (33, 16, 1, 1), {}),
    "groups": ((2, 6, 9, 8), (4, 3, 3, 2), {"groups": 2, "stride": 2, "dilation": (1, 2)}),
    "1-D": ((2, 16, 40), (8, 16, 5), {"stride": 3}),
    "3-D": ((1, 3, 6, 5, 7), (2, 3, 2, 3, 1), {"padding": ((1, 0), (-1, 2), (0, 3))}),
    "0-D": ((5, 20), (7, 20), {}),
    "one channel": ((1, 1, 9, 1), (1, 1, 4, 1), {}),
    "one pixel": ((4, 40, 1, 1), (65, 40, 1, 1), {}),
    "one column": ((2, 9, 11, 1), (3, 9, 5, 1), {"padding": (2, 0)}),
    "unbatched": ((3, 9, 8), (4, 3, 3, 3), {"padding": "same"}),
    "input dilation": ((2, 3, 5, 4), (4, 3, 3, 3), {"input_dilation": (2, 3), "padding": 2}),
    "border": ((2, 3, 5, 4), (4, 3, 3, 3), {"padding": 9, "padding_mode": "reflect"}),
    "flip": ((2, 3, 9, 8), (4, 3, 3, 3), {"flip": True}),
    "channels_last": ((2, 9, 8, 6), (3, 3, 6, 5), {"layout": "channels_last", "padding": 1}),
    "letters": ((9, 6, 2, 8), (6, 3, 5, 3), {"layout": "HCNW", "kernel_layout": "IWOH"}),
    "wide": ((1, 8, 5, 300), (8, 8, 3, 3), {"padding": ((1, 1), (40, 60))}),
}
ALGORITHMS = ("direct", "gemm", "fft", "winograd_f2", "winograd_f4", "loops")


def random(rng, dtype, *shapes):
    return [np.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def conv_calls(rng, dtype) -> dict[str, Call]:
    calls = {}
    for name, (x_shape, w_shape, options) in CONVS.items():
        x, w = random(rng, dtype, x_shape, w_shape)
        y = npconv.conv(x, w, **options)
        channels = npconv.conv_grads(y, x, w, **options).bias.shape
        g, bias = random(rng, dtype, y.shape, channels)
        calls[f"conv {name}"] = Call(partial(npconv.conv, **options), {"x": x, "w": w, "bias": bias})
        calls[f"conv_input_grad {name}"] = Call(
            partial(npconv.conv_input_grad, input_shape=x.shape, **options), {"g": g, "w": w}
        )
        calls[f"conv_weight_grad {name}"] = Call(
            partial(npconv.conv_weight_grad, kernel_shape=w.shape, **options), {"x": x, "g": g}
        )
        calls[f"conv_grads {name}"] = Call(partial(npconv.conv_grads, **options), {"g": g, "x": x, "w": w})
    x, w, dx, dw, bias, dbias = random(rng, dtype, (2, 3, 9, 8), (4, 3, 3, 3), (2, 3, 9, 8), (4, 3, 3, 3), 4, 4)
    calls["conv_jvp"] = Call(npconv.conv_jvp, {"x": x, "w": w, "dx": dx, "dw": dw, "bias": bias, "dbias": dbias})
    for algorithm in ALGORITHMS:
        small = {"x": x[:1, :, :6, :6], "w": w}
        calls[f"conv by {algorithm}"] = Call(partial(npconv.conv, algorithm=algorithm), small)
        g = random(rng, dtype, (1, 4, 4, 4))[0]
        calls[f"conv_input_grad by {algorithm}"] = Call(
            partial(npconv.conv_input_grad, input_shape=(1, 3, 6, 6), algorithm=algorithm), {"g": g, "w": w}
        )
        calls[f"conv_weight_grad by {algorithm}"] = Call(
            partial(npconv.conv_weight_grad, kernel_shape=(4, 3, 3, 3), algorithm=algorithm),
            {"x": small["x"], "g": g},
        )
    return calls


def relative_calls(rng, dtype) -> dict[str, Call]:
    """Transposed, depthwise, separable and local convolution, unfold and fold."""
    calls = {}
    for name, x_shape, w_shape, options in (
        ("3x3", (2, 6, 5, 4), (6, 5, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
        ("groups", (2, 6, 5, 4), (6, 2, 3, 3), {"groups": 3, "dilation": 2}),
        (
            "channels_last",
            (2, 5, 4, 6),
            (3, 3, 5, 6),
            {"layout": "channels_last", "padding": "same", "stride": 2},
        ),
    ):
        x, w = random(rng, dtype, x_shape, w_shape)
        g, bias = random(rng, dtype, npconv.conv_transpose(x, w, **options).shape, 6 if name == "groups" else 5)
        calls[f"conv_transpose {name}"] = Call(
            partial(npconv.conv_transpose, **options), {"x": x, "w": w, "bias": bias}
        )
        calls[f"conv_transpose_input_grad {name}"] = Call(
            partial(npconv.conv_transpose_input_grad, input_shape=x.shape, **options), {"g": g, "w": w}
        )
        calls[f"conv_transpose_weight_grad {name}"] = Call(
            partial(npconv.conv_transpose_weight_grad, kernel_shape=w.shape, **options), {"x": x, "g": g}
        )
        calls[f"conv_transpose_grads {name}"] = Call(
            partial(npconv.conv_transpose_grads, **options), {"g": g, "x": x, "w": w}
        )
    for layout, x_shape, w_shape, p_shape, local in (
        ("channels_first", (2, 5, 7, 6), (10, 1, 3, 3), (4, 10, 1, 1), (4, 5, 3, 3, 5, 4)),
        ("channels_last", (2, 7, 6, 5), (3, 3, 5, 2), (1, 1, 10, 4), (5, 4, 3, 3, 5, 4)),
    ):
        x, w, pointwise, unshared, bias = random(rng, dtype, x_shape, w_shape, p_shape, local, 4)
        depthwise = partial(npconv.depthwise_conv, layout=layout)
        g, gs = random(rng, dtype, depthwise(x, w).shape, npconv.local_conv(x, unshared, layout=layout).shape)
        calls |= {
            f"depthwise_conv {layout}": Call(depthwise, {"x": x, "w": w}),
            f"depthwise_conv_grads {layout}": Call(
                partial(npconv.depthwise_conv_grads, layout=layout), {"g": g, "x": x, "w": w}
            ),
            f"separable_conv {layout}": Call(
                lambda x, w, pointwise, bias, layout=layout: npconv.separable_conv(
                    x, w, pointwise, bias, layout=layout
                ),
                {"x": x, "w": w, "pointwise": pointwise, "bias": bias},
            ),
            f"separable_conv_grads {layout}": Call(
                lambda g, x, w, pointwise, layout=layout: npconv.separable_conv_grads(
                    g, x, w, pointwise, layout=layout
                ),
                {"g": gs, "x": x, "w": w, "pointwise": pointwise},
            ),
            f"local_conv {layout}": Call(
                partial(npconv.local_conv, layout=layout), {"x": x, "w": unshared, "bias": bias}
            ),
            f"local_conv_grads {layout}": Call(
                partial(npconv.local_conv_grads, layout=layout), {"g": gs, "x": x, "w": unshared}
            ),
            f"unfold {layout}": Call(partial(npconv.unfold, kernel=(3, 2), padding=1, layout=layout), {"x": x}),
            f"unfold 1x1 {layout}": Call(partial(npconv.unfold, kernel=(1, 1), layout=layout), {"x": x}),
            f"fold {layout}": Call(
                partial(npconv.fold, output_size=(7, 6), kernel=(3, 2), layout=layout),
                {"columns": npconv.unfold(x, (3, 2), layout=layout)},
            ),
        }
    return calls


def pool_calls(rng, dtype) -> dict[str, Call]:
    calls = {}
    for layout, shape in (
        ("channels_first", (2, 5, 8, 7)),
        ("channels_last", (2, 8, 7, 5)),
        ("HNWC", (8, 2, 7, 5)),
    ):
        (x,) = random(rng, dtype, shape)
        options = {"kernel": (3, 2), "stride": (2, 3), "padding": (1, 0), "layout": layout}
        y, indices = npconv.max_pool(x, return_indices=True, **options)
        (g,) = random(rng, dtype, y.shape)
        unpool = options | {"output_size": (8, 7)}
        calls |= {
            f"max_pool {layout}": Call(partial(npconv.max_pool, **options), {"x": x}),
            f"max_pool indices {layout}": Call(partial(npconv.max_pool, return_indices=True, **options), {"x": x}),
            f"max_pool_grad {layout}": Call(partial(npconv.max_pool_grad, **options), {"g": g, "x": x}),
            f"max_pool_grad indices {layout}": Call(
                partial(npconv.max_pool_grad, **options), {"g": g, "x": x, "indices": indices}
            ),
            f"avg_pool {layout}": Call(partial(npconv.avg_pool, **options), {"x": x}),
            f"avg_pool_grad {layout}": Call(partial(npconv.avg_pool_grad, input_shape=shape, **options), {"g": g}),
            f"lp_pool {layout}": Call(partial(npconv.lp_pool, p=3.0, **options), {"x": x}),
            f"lp_pool_grad {layout}": Call(partial(npconv.lp_pool_grad, p=3.0, **options), {"g": g, "x": x}),
            f"max_unpool {layout}": Call(partial(npconv.max_unpool, **unpool), {"x": y, "indices": indices}),
            f"max_unpool_grad {layout}": Call(partial(npconv.max_unpool_grad, **unpool), {"g": x, "indices": indices}),
        }
        for name in ("max", "avg"):
            adaptive, whole = (getattr(npconv, f"{kind}_{name}_pool") for kind in ("adaptive", "global"))
            grads = [getattr(npconv, f"{kind}_{name}_pool_grad") for kind in ("adaptive", "global")]
            given = {"x": x} if name == "max" else {}
            shapes = {} if name == "max" else {"input_shape": shape}
            slope, one = random(rng, dtype, adaptive(x, (3, 4), layout=layout).shape, whole(x, layout=layout).shape)
            calls |= {
                f"adaptive_{name}_pool {layout}": Call(partial(adaptive, size=(3, 4), layout=layout), {"x": x}),
                f"adaptive_{name}_pool_grad {layout}": Call(
                    partial(grads[0], size=(3, 4), layout=layout, **shapes), {"g": slope, **given}
                ),
                f"global_{name}_pool {layout}": Call(partial(whole, layout=layout), {"x": x}),
                f"global_{name}_pool_grad {layout}": Call(
                    partial(grads[1], layout=layout, **shapes), {"g": one, **given}
                ),
            }
        options = {"kernel": 2, "output_size": (3, 4), "layout": layout}
        samples = rng.random((2, 5, 2))
        y = npconv.fractional_max_pool(x, samples=samples, **options)
        (g,) = random(rng, dtype, y.shape)
        calls[f"fractional_max_pool {layout}"] = Call(
            partial(npconv.fractional_max_pool, **options), {"x": x, "samples": samples}
        )
        calls[f"fractional_max_pool_grad {layout}"] = Call(
            partial(npconv.fractional_max_pool_grad, **options), {"g": g, "x": x, "samples": samples}
        )
    return calls


def filter_calls(rng, dtype) -> dict[str, Call]:
    image, kernel = random(rng, dtype, (12, 11, 3), (3, 5))
    return {
        "filters.apply": Call(filters.apply, {"image": image, "kernel": kernel}),
        "filters.apply separable": Call(
            filters.apply, {"image": image[..., 0], "kernel": np.outer(kernel[0], kernel[1]).astype(dtype)}
        ),
        "filters.apply named": Call(partial(filters.apply, kernel="sobel"), {"image": image}),
    }


def calls(dtype) -> dict[str, Call]:
    rng = np.random.default_rng(0)
    made = conv_calls(rng, dtype) | relative_calls(rng, dtype) | filter_calls(rng, dtype)
    return made | (pool_calls(rng, dtype) if hasattr(npconv, "max_pool") else {})


# --- the tests


def memory(array) -> bytes:
    """All of the memory an array is a view of: what lies between its elements too."""
    while isinstance(getattr(array, "base", None), np.ndarray):
        array = array.base
    return array.tobytes() if isinstance(array, np.ndarray) else repr(array).encode()


def laid_out(layout: str, array: np.ndarray, folder):
    make = LAYOUTS[layout]
    return make(array, folder) if layout == "memory_mapped" else make(array)


def plain(array) -> np.ndarray:
    """A contiguous, native, aligned copy: what every layout is compared with."""
    values = np.asarray(array)
    return np.array(values, values.dtype.newbyteorder("="), order="C", copy=True, subok=False)


def bits(results: tuple) -> list:
    return [None if r is None else (r.shape, r.dtype, r.tobytes()) for r in results]


CALLS = {dtype: calls(dtype) for dtype in ("float32", "float64")}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CALLS["float64"])
def test_bit_equal_to_contiguous_copies(name, layout, tmp_path):
    for dtype, made in CALLS.items():
        call = made[name]
        for operand, array in call.operands.items():
            odd = laid_out(layout, array, tmp_path)
            before = memory(odd)
            expected = call(**{operand: plain(odd)})
            found = call(**{operand: odd})
            assert bits(found) == bits(expected), f"{name}, {dtype} {operand}: {difference(found, expected)}"
            assert bits(call(**{operand: odd})) == bits(found), f"{name}, {dtype} {operand}: two runs differ"
            assert memory(odd) == before, f"{name} wrote to {operand}"
            for result in found:
                assert result is None or type(result) is np.ndarray
                assert result is None or not np.may_share_memory(result, np.asarray(odd)), "the result is the input"
                assert result is None or result.flags.writeable


def difference(found: tuple, expected: tuple) -> list:
    """How far apart, in units of the largest result: tells another order of summation from a wrong answer."""
    pairs = [(a, b) for a, b in zip(found, expected, strict=True) if a is not None]
    return [
        float(np.abs(a - b).max(initial=0) / np.abs(b).max(initial=1e-300)) if a.shape == b.shape else a.shape
        for a, b in pairs
    ]


@pytest.mark.parametrize("name", CALLS["float64"])
def test_all_operands_strange_at_once(name, tmp_path):
    """Each operand in a layout of its own."""
    call = CALLS["float64"][name]
    for shift in range(4):
        kinds = [list(LAYOUTS)[(3 * i + shift) % 10] for i in range(len(call.operands))]
        odd = {n: laid_out(kind, a, tmp_path) for kind, (n, a) in zip(kinds, call.operands.items(), strict=True)}
        found, expected = call(**odd), call(**{n: plain(a) for n, a in odd.items()})
        assert bits(found) == bits(expected), f"{name} {kinds}: {difference(found, expected)}"


@pytest.mark.parametrize("name", [n for n, call in CALLS["float64"].items() if call.takes_out])
def test_out_is_written_in_full(name):
    for made in CALLS.values():
        call = made[name]
        expected, *others = call()
        out = np.full(expected.shape, np.nan, expected.dtype)
        found, *again = call(out=out)
        assert found is out
        assert bits((out, *again)) == bits((expected, *others))


@pytest.mark.parametrize("name", CALLS["float64"])
def test_no_workspace_is_read_before_it_is_written(name, monkeypatch):
    """Every array that npconv leaves uninitialised holds NaN here, and no result changes."""
    call = CALLS["float32"][name]
    expected = bits(call())

    def poisoned(make, *args, **kwargs):
        array = make(*args, **kwargs)
        array.fill(np.nan if array.dtype.kind in "fc" else 77)
        return array

    with monkeypatch.context() as patch:
        for name in ("empty", "empty_like"):
            patch.setattr(np, name, partial(poisoned, getattr(np, name)))
        found = bits(call())
    assert found == expected


@pytest.mark.parametrize("channels", [*range(1, 34), 63, 64, 65])
def test_channel_counts(channels):
    """Bit-equality at every width of a vector register and next to it."""
    rng = np.random.default_rng(channels)
    x, w = random(rng, "float32", (2, channels, 6, 5), (3, channels, 3, 3))
    (g,) = random(rng, "float32", npconv.conv(x, w).shape)
    calls = [
        Call(npconv.conv, {"x": x, "w": w}),
        Call(npconv.conv, {"x": x, "w": w.swapaxes(0, 1)[:, :1].repeat(channels, 1)}),
        Call(partial(npconv.conv_input_grad, input_shape=x.shape), {"g": g, "w": w}),
        Call(partial(npconv.conv_weight_grad, kernel_shape=w.shape), {"x": x, "g": g}),
        Call(partial(npconv.conv, groups=channels), {"x": x, "w": w[:1].swapaxes(0, 1)}),
        Call(partial(npconv.conv, layout="channels_last"), {"x": np.moveaxis(x, 1, -1).copy(), "w": w.T.copy()}),
    ]
    for call in calls:
        for operand, array in call.operands.items():
            for layout in ("transposed", "sliced", "reversed", "fortran"):
                odd = LAYOUTS[layout](np.ascontiguousarray(array))
                others = {n: plain(a) for n, a in call.operands.items()}
                found, expected = call(**others | {operand: odd}), call(**others | {operand: plain(odd)})
                assert bits(found) == bits(expected), f"C={channels} {operand} {layout}: {difference(found, expected)}"
