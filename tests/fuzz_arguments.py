"""Valid arguments from dice, and odd ones to put in their place."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from fuzz_reading import ACCURACIES, ALGORITHMS, LARGEST, LAYOUTS, MODES, WORDS, Reading


class Dice:
    def __init__(self, seed: int):
        self.rng = np.random.default_rng([20261121, seed])

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def int(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def pick(self, choices: Any) -> Any:
        return choices[self.int(0, len(choices) - 1)]

    def data(self, *sizes: int, dtype: str = "float32") -> np.ndarray:
        return self.rng.integers(0 if dtype[0] == "u" else -3, 4, sizes).astype(dtype)


def masked(array: np.ndarray) -> np.ma.MaskedArray:
    return np.ma.masked_array(array, np.arange(array.size).reshape(array.shape) % 2 == 0)


# fmt: off
ODD_INTS = (
    0, -1, 1, 2, 3, 5, 1.5, 2.0, True, np.True_, "1", "same", None, float("nan"), float("inf"), (1,), (2, 1),
    (1, 2), (1, 1, 1), (), [], [2], [2.0], np.int64(2), np.uint8(1), np.array(2), np.array([1, 2]),
    np.array(1.0), np.array([[1]]), np.float64(1), 2**31, 2**40, 2**62, 2**63 - 1, 2**70, -(2**70), (1, "a"),
    (0, 1), (None, 1), {}, {1: 2}, b"1", 1j, object(), (1, 2**62), range(2), "αβγ", "x" * 500, (2,) * 500,
)
# fmt: on
# fmt: off
ODD_PADDING = (
    *ODD_INTS, *WORDS, "SAME", "Valid", "", -2, -3, ((1, 2), (0, 1)), ((0, 1),), ((1,), (2,)), ((-1, 0), (0,
    -1)), (1, (1, 2)), ((1, 2), None), ((1, 1.5), (0, 0)), ((1, 2, 3), (1, 2, 3)), [[1, 1], [2, 0]],
    np.array([[1, 1], [0, 2]]), ((2**40, 0), (0, 0)), ((0, 2**63), (0, 0)), ((True, 1), (0, 0)),
)
# fmt: on
ODD_FLAGS = (True, False, np.True_, 0, 1, None, "yes", np.array(True), [True], 1.0)
# fmt: off
ODD_SHAPES = (
    None, 3, "ab", (), (1,), (1, 2), (1, 1, 4), (1, 2, 5, 5), [1, 2, 5, 5], (1, 2, 5, -5), (1, 2, 5.0, 5),
    (0, 0, 0, 0), (1, 2, 2**40, 5), (1, 2, 2**70, 5), (True, 2, 5, 5), (1, None, 5), np.array([1, 2, 5, 5]),
    (1,) * 70,
)
# fmt: on


def odd_array(dice: Dice, old: Any) -> Any:
    """Something else in place of an array: other shapes, dtypes, containers, or no array at all."""
    usable = isinstance(old, np.ndarray) and old.dtype.kind in "iufc" and old.size <= LARGEST
    base = old if usable else dice.data(1, 2, 5, 5)
    choices: tuple[Callable[[], Any], ...] = (
        lambda: None,
        lambda: "image.png",
        lambda: b"",
        lambda: 3,
        lambda: 2.5,
        lambda: np.float32(1),
        lambda: True,
        list,
        lambda: [[[1, 2], [3]]],
        lambda: (n for n in range(3)),
        lambda: {"a": 1},
        lambda: object(),
        lambda: base.tolist(),
        lambda: base[..., None],
        lambda: base[None],
        lambda: base[0] if base.ndim and base.shape[0] else base,
        lambda: base.ravel(),
        lambda: base[..., :0],
        lambda: base[:0],
        lambda: base.swapaxes(0, -1) if base.ndim else base,
        lambda: base.T,
        lambda: np.concatenate([base, base], 1) if base.ndim > 1 else base,
        lambda: base[:, :1] if base.ndim > 1 else base,
        lambda: base > 0,
        lambda: base.astype(object),
        lambda: base.astype(str),
        lambda: base.real.astype(np.longdouble),
        lambda: base.astype(np.complex64),
        lambda: base.real.astype(np.float16),
        lambda: base.real.astype(ml_dtypes.bfloat16),
        lambda: base.real.astype(ml_dtypes.float8_e4m3fn),
        lambda: base.real.astype("m8[s]"),
        lambda: base.real.astype(">f4"),
        lambda: base.real.astype(np.uint8),
        lambda: base.real.astype(np.int64),
        lambda: base.real.astype(np.int64) * 2**61,
        lambda: np.zeros(base.shape, [("a", "f4")]),
        lambda: np.zeros(base.shape, "V3"),
        lambda: masked(base),
        lambda: base[::-1],
        lambda: np.broadcast_to(np.float32(1), (1, base.shape[1] if base.ndim > 1 else 1, 2**20, 2**20)),
        lambda: np.broadcast_to(np.float32(1), (2**40,) * 1),
        lambda: np.asfortranarray(base),
        lambda: base.view(Tagged),
        lambda: np.zeros((1,) * 60, np.float32),
        lambda: np.full(base.shape, np.nan, object),
    )
    return dice.pick(choices)()


class Tagged(np.ndarray):
    """A subclass."""


# fmt: off
ODD: dict[str, Any] = {
    **dict.fromkeys(
        ("stride", "dilation", "input_dilation", "kernel", "output_padding", "output_size"), ODD_INTS
    ),
    "padding": ODD_PADDING,
    "groups": (
        0, -1, 1.0, True, 1, 2, 3, 4, 2**70, None, "1", (1,), (1, 1), np.int64(2), np.array(2), float("nan"),
        [],
    ),
    "layout": (
        *LAYOUTS, "NCHW", "NHWC", "HWC", "CHW", "CHWN", "NCW", "NWC", "nhwc", "NCDHW", "channel_last", "",
        "C", "NC", "NOHW", "NHW", "NCHH", "NC HW", None, 3, True, b"NCHW", ["N"], ("channels_first",), {},
    ),
    "kernel_layout": (
        None, *LAYOUTS, "OIHW", "HWIO", "OHWI", "IOHW", "OIW", "WIO", "oihw", "OI", "OINW", "OIHH", "HWI",
        "", 3, False, b"OIHW", [],
    ),
    "algorithm": (
        *ALGORITHMS, "winograd_f6", "fft_single", "winogard", "", "AUTO", "im2col", None, 3, True, [], {},
        b"auto", ("auto",),
    ),
    "accuracy": (*ACCURACIES, "exact", "", None, 3, [], b"fast"),
    "padding_mode": (*MODES, "edge", "wrap", "reflct", "", None, 0, [], b"zeros"),
    "padding_value": (
        0, 0.0, 1, 2, -1, 1.5, 300, 2**40, 10**30, float("nan"), float("inf"), "a", None, True, 1j, 1 + 0j,
        (1,), np.float32(2), np.int8(3), np.array(1), np.array([1.0, 2.0]), [], {},
    ),
    "max_workspace": (None, 0, 1, 100, 10**4, 10**6, 2**70, -1, 1.5, "1", True, np.int64(10**6), (1,)),
    **dict.fromkeys(("flip", "ceil_mode", "cover_all", "count_include_pad"), ODD_FLAGS),
    "divisor": (None, 1, 2, 0, -1, 1.5, True, "2", (2,), 2**70, np.int64(3)),
    **dict.fromkeys(("input_shape", "kernel_shape"), ODD_SHAPES),
}
# fmt: on
ARRAYS = ("x", "w", "g", "bias")


def odd_out(dice: Dice, arguments: dict[str, Any]) -> Any:
    x = arguments.get("x", arguments.get("g"))
    sizes = (1, 2, dice.int(1, 6), dice.int(1, 6))
    return dice.pick(
        (
            np.empty(sizes, np.float32),
            np.empty(sizes[1:]),
            [0.0],
            "out",
            3,
            x,
            np.empty(sizes, object),
            masked(np.ones(3)),
        )
    )


def base_conv(dice: Dice) -> dict[str, Any]:
    """A valid convolution, some of its options at their defaults."""
    rank = dice.pick((1, 1, 2, 2, 2, 3))
    groups = dice.pick((1, 1, 1, 2))
    per_group, outs = dice.int(1, 3), groups * dice.int(1, 2)
    kernel = tuple(dice.int(1, 3) for _ in range(rank))
    dilation = tuple(dice.int(1, 2) for _ in range(rank)) if dice.chance(0.3) else 1
    lengths = tuple(dice.int(5, {1: 12, 2: 7, 3: 5}[rank]) for _ in range(rank))
    layout = dice.pick(("channels_first", "channels_first", "channels_last"))
    dtype = dice.pick(("float32", "float32", "float64", "int32", "uint8", "complex64"))
    batch = dice.pick(((1,), (2,), (), (0,)))
    channels = groups * per_group
    last = layout == "channels_last"
    x_shape = (*batch, *lengths, channels) if last else (*batch, channels, *lengths)
    w_shape = (*kernel, per_group, outs) if last else (outs, per_group, *kernel)
    return {
        "x": dice.data(*x_shape, dtype=dtype),
        "w": dice.data(*w_shape, dtype=dtype),
        "bias": dice.data(outs, dtype=dtype) if dice.chance(0.4) else None,
        "stride": dice.pick((1, 1, 2, (2,) * rank, [1] * rank)),
        "padding": dice.pick((0, 1, "same", "valid", "full", ((1, 0),) * rank)),
        "dilation": dilation,
        "groups": groups,
        "input_dilation": dice.pick((1, 1, 1, 2)),
        "padding_mode": dice.pick(("zeros", "zeros", "zeros", "reflect", "circular", "replicate")),
        "padding_value": 0,
        "flip": dice.chance(0.2),
        "layout": layout,
        "kernel_layout": None,
        "algorithm": dice.pick(("auto", "auto", "direct", "gemm", "loops")),
        "accuracy": dice.pick(ACCURACIES),
        "max_workspace": None,
        "out": None,
    }


def draw_conv(dice: Dice) -> dict[str, Any]:
    return base_conv(dice)


def with_gradient(dice: Dice) -> tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]:
    a = base_conv(dice)
    del a["bias"]
    dtype = a["x"].dtype.name
    r = Reading(a, a["x"].shape, a["w"].shape)
    a["g"] = r.user(dice.data(r.canonical[0], r.outs, *r.out, dtype=dtype))
    return a, a["x"].shape, a["w"].shape


def draw_input_grad(dice: Dice) -> dict[str, Any]:
    a, x_shape, _ = with_gradient(dice)
    del a["x"]
    return a | {"input_shape": x_shape}


def draw_weight_grad(dice: Dice) -> dict[str, Any]:
    a, _, w_shape = with_gradient(dice)
    del a["w"]
    return a | {"kernel_shape": w_shape}


def draw_transpose(dice: Dice) -> dict[str, Any]:
    a = base_conv(dice)
    for name in ("input_dilation", "padding_mode", "padding_value"):
        del a[name]
    last = a["layout"] == "channels_last"
    rank, groups = a["w"].ndim - 2, a["groups"]
    channels = groups * dice.int(1, 2)
    per_group = dice.int(1, 3)
    lengths = tuple(dice.int(2, 4) for _ in range(rank))
    kernel = a["w"].shape[:rank] if last else a["w"].shape[2:]
    batch = dice.pick(((1,), (2,), ()))
    dtype = a["x"].dtype.name
    a["x"] = dice.data(*((*batch, *lengths, channels) if last else (*batch, channels, *lengths)), dtype=dtype)
    a["w"] = dice.data(*((*kernel, per_group, channels) if last else (channels, per_group, *kernel)), dtype=dtype)
    a["bias"] = dice.data(groups * per_group, dtype=dtype) if dice.chance(0.4) else None
    return a | {
        "padding": dice.pick((0, 0, "valid", "same", ((0, 0),) * rank)),
        "output_padding": 0,
        "output_size": None,
    }


def draw_unfold(dice: Dice) -> dict[str, Any]:
    a = base_conv(dice)
    last = a["layout"] == "channels_last"
    rank = a["w"].ndim - 2
    kernel = a["w"].shape[:rank] if last else a["w"].shape[2:]
    return {name: a[name] for name in ("x", "stride", "padding", "dilation", "layout")} | {"kernel": tuple(kernel)}


def draw_max_pool(dice: Dice) -> dict[str, Any]:
    rank = dice.pick((1, 2, 2, 3))
    lengths = tuple(dice.int(4, 8 if rank < 3 else 5) for _ in range(rank))
    last = dice.chance(0.3)
    sizes = (dice.int(0, 2), *lengths, dice.int(0, 3)) if last else (dice.int(0, 2), dice.int(0, 3), *lengths)
    return {
        "x": dice.data(*sizes, dtype=dice.pick(("float32", "float64", "int32", "uint8"))),
        "kernel": dice.pick((2, 3, (2,) * rank, [3] * rank)),
        "stride": dice.pick((None, 1, 2, (2,) * rank)),
        "padding": dice.pick((0, 0, 1, "valid", "same", ((0, 1),) * rank)),
        "dilation": 1,
        "ceil_mode": dice.chance(0.2),
        "cover_all": False,
        "layout": "channels_last" if last else "channels_first",
        "out": None,
    }


def draw_avg_pool(dice: Dice) -> dict[str, Any]:
    return draw_max_pool(dice) | {
        "count_include_pad": dice.chance(0.5),
        "divisor": dice.pick((None, None, 3)),
    }
