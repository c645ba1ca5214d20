"""The 86 bad inputs of docs/errors.md: each by its number, with the type and the full text of its message.

A refusal comes in under a millisecond and before anything is allocated.  A case with several faces has
letters (9a, 9b).
"""

import re
import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import npconv
from npconv.algorithms import named
from npconv.compiled import catalogue
from npconv.dispatch import names

F = np.float32
X = np.arange(192, dtype=F).reshape(1, 3, 8, 8)
W = np.arange(108, dtype=F).reshape(4, 3, 3, 3)
BIAS = np.arange(4, dtype=F)
G = np.ones((1, 4, 6, 6), F)
SHAPES = "x.shape (1, 3, 8, 8), w.shape (4, 3, 3, 3)"
FIRST = "layout 'channels_first', kernel_layout 'channels_first'"
LAYOUTS = "layout 'channels_first' and kernel_layout 'channels_first'"
HUGE = np.broadcast_to(F(1), (1, 1, 2**20, 2**20))
PADDINGS = "one of 'valid', 'same', 'same_lower', 'same_torch', 'full', 'causal'"
MODES = "one of 'zeros', 'constant', 'reflect', 'symmetric', 'replicate', 'circular'"
OUT = "use out=np.empty((1, 4, 6, 6), 'float32')"
OPTIONS = (
    "'stride', 'padding', 'dilation', 'groups', 'input_dilation', 'padding_mode', 'padding_value', 'flip', "
    "'layout', 'kernel_layout', 'algorithm', 'accuracy', 'max_workspace'"
)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, F)


def masked(array: np.ndarray, count: int) -> np.ma.MaskedArray:
    mask = np.zeros(array.shape, bool)
    mask.reshape(-1)[:count] = True
    return np.ma.masked_array(array, mask)


class Frame:
    """As much of a pandas DataFrame as its reader sees."""

    __module__ = "pandas.core.frame"

    def to_numpy(self) -> np.ndarray:
        return X


Frame.__name__ = "DataFrame"

# which algorithms can run case 45, of integers that are exact in float64
ABLE = (
    "loops, direct, gemm, fft"
    if catalogue.unavailable()
    else "loops, direct, gemm, blocked, channelwise, pixelwise, fft"
)


@dataclass(frozen=True)
class Refused:
    """One case: the call, and exactly what it raises."""

    number: str
    call: Callable[[], Any]
    error: type[Exception]
    text: str  # the whole message; for MemoryLimitError, with MEMORY for the size of this machine

    def __str__(self) -> str:
        return self.number


conv, conv2d, conv_transpose = npconv.conv, npconv.conv2d, npconv.conv_transpose

RANK_AND_SHAPE = [
    Refused(
        "1",
        lambda: conv2d(ones(1, 3, 4, 8, 8), W),
        ValueError,
        "conv2d: x.shape is (1, 3, 4, 8, 8), 5 axes, expected 3 or 4 for the 2 spatial axes of w; use conv3d",
    ),
    Refused(
        "2",
        lambda: conv2d(ones(8, 8), W),
        ValueError,
        "conv2d: x.shape is (8, 8), 2 axes, expected 3 or 4 for the 2 spatial axes of w; "
        "add batch and channel axes: x[None, None]",
    ),
    Refused(
        "3",
        lambda: conv2d(F(1), W),
        ValueError,
        "conv2d: x.shape is (), 0 axes, expected 3 or 4 for the 2 spatial axes of w; "
        "use an array with batch and channel axes and 2 spatial axes",
    ),
    Refused(
        "4a",
        lambda: conv2d(X, ones(4, 3, 3)),
        ValueError,
        "conv2d: w.shape is (4, 3, 3), 3 axes, expected 4: (O, C/groups, kh, kw); use conv1d",
    ),
    Refused(
        "4b",
        lambda: conv(X, ones(4, 3, 3)),
        ValueError,
        "conv: x has 8 channels but w takes 3 * groups = 3 * 1 = 3 "
        f"(x.shape (1, 3, 8, 8), w.shape (4, 3, 3), {FIRST}); w has 3 axes, so 1 spatial axis, and the "
        "other 2 "
        "axes of x are batch; use w of 4 axes if that is not meant",
    ),
    Refused(
        "4c",
        lambda: conv(X, ones(3)),
        ValueError,
        "conv: w.shape is (3,), 1 axes, expected (O, C/groups, *k), 2 or more; use an array with both channel axes",
    ),
    Refused(
        "5a",
        lambda: conv(ones(1, 2, 8, 8), W),
        ValueError,
        "conv: x has 2 channels but w takes 3 * groups = 3 * 1 = 3 "
        f"(x.shape (1, 2, 8, 8), w.shape (4, 3, 3, 3), {FIRST}); use w with 2 input channels",
    ),
    Refused(
        "5b",
        lambda: conv(ones(1, 8, 9, 9), ones(8, 1, 3, 3)),
        ValueError,
        "conv: x has 8 channels but w takes 1 * groups = 1 * 1 = 1 "
        f"(x.shape (1, 8, 9, 9), w.shape (8, 1, 3, 3), {FIRST}); did you mean groups=8?",
    ),
    Refused(
        "5c",
        lambda: conv(X, ones(3, 4, 3, 3)),
        ValueError,
        "conv: x has 3 channels but w takes 4 * groups = 4 * 1 = 4 "
        f"(x.shape (1, 3, 8, 8), w.shape (3, 4, 3, 3), {FIRST}); did you mean kernel_layout='IOHW'?",
    ),
    Refused(
        "6a",
        lambda: conv(ones(1, 8, 8, 3), W),
        ValueError,
        "conv: x has 8 channels but w takes 3 * groups = 3 * 1 = 3 "
        f"(x.shape (1, 8, 8, 3), w.shape (4, 3, 3, 3), {FIRST}); "
        "did you mean layout='NHWC', kernel_layout='OIHW'?",
    ),
    Refused(
        "6b",
        lambda: conv(ones(1, 8, 8, 3), ones(3, 3, 3, 4)),
        ValueError,
        "conv: x has 8 channels but w takes 3 * groups = 3 * 1 = 3 "
        f"(x.shape (1, 8, 8, 3), w.shape (3, 3, 3, 4), {FIRST}); did you mean layout='NHWC'?",
    ),
    Refused(
        "6c",
        lambda: conv(X, W, layout="channels_last"),
        ValueError,
        f"conv: x has 8 channels but w takes 3 * groups = 3 * 1 = 3 ({SHAPES}, layout 'channels_last', "
        "kernel_layout 'channels_last'); did you mean layout='NCHW'?",
    ),
    Refused(
        "7",
        lambda: conv(ones(1, 5, 8, 8), ones(4, 2, 3, 3), groups=2),
        ValueError,
        "conv: x has 5 channels, not divisible by groups=2: 5 = 2 * 2 + 1 "
        f"(x.shape (1, 5, 8, 8), w.shape (4, 2, 3, 3), {FIRST}); use a multiple of 2 channels",
    ),
    Refused(
        "8",
        lambda: conv(ones(1, 4, 8, 8), ones(5, 2, 3, 3), groups=2),
        ValueError,
        "conv: w has 5 output channels, not divisible by groups=2: 5 = 2 * 2 + 1 "
        f"(x.shape (1, 4, 8, 8), w.shape (5, 2, 3, 3), {FIRST}); use a multiple of 2 channels",
    ),
    Refused("9a", lambda: conv(X, W, groups=0), ValueError, "conv: groups must be >= 1, got 0; use 1 or more"),
    Refused("9b", lambda: conv(X, W, groups=-1), ValueError, "conv: groups must be >= 1, got -1; use 1 or more"),
    Refused(
        "9c",
        lambda: conv(X, W, groups=1.0),
        TypeError,
        "conv: groups must be an integer, got 1.0 of type float; write 1",
    ),
    Refused(
        "9d",
        lambda: conv(X, W, groups=True),
        TypeError,
        "conv: groups must be an integer, got True of type bool; write 1",
    ),
    Refused(
        "10",
        lambda: conv(X, W, ones(3)),
        ValueError,
        "conv: bias.shape is (3,), expected (4,), one number per output channel (by w and groups); use 4 numbers",
    ),
    Refused(
        "11",
        lambda: conv(X, W, ones(4, 1)),
        ValueError,
        "conv: bias.shape is (4, 1), expected (4,), one number per output channel (by w and groups); use "
        "bias.reshape(-1)",
    ),
    Refused(
        "12a",
        lambda: npconv.conv_grads(ones(1, 4, 3, 2), X, W, stride=2, padding=((0, 1), (1, 0))),
        ValueError,
        "conv_grads: g.shape is (1, 4, 3, 2), expected (1, 4, 4, 4), the output of x.shape (1, 3, 8, 8) and "
        "w.shape (4, 3, 3, 3) with stride (2, 2), padding ((0, 1), (1, 0)), dilation (1, 1) and "
        "input_dilation (1, 1) "
        f"in {LAYOUTS}, so on spatial axis 0 (8 + 0 + 1 - 1 * (3 - 1) - 1) // 2 + 1 = 4; "
        "use the shapes and options of the forward call",
    ),
    Refused(
        "12b",
        lambda: npconv.conv_input_grad(ones(1, 5, 6, 6), W, input_shape=(1, 3, 8, 8)),
        ValueError,
        "conv_input_grad: g.shape is (1, 5, 6, 6), expected (1, 4, 6, 6), the output of input_shape (1, 3, "
        "8, 8) "
        "and w.shape (4, 3, 3, 3) with stride (1, 1), padding ((0, 0), (0, 0)), dilation (1, 1) and "
        f"input_dilation (1, 1) in {LAYOUTS}; use the shapes and options of the forward call",
    ),
    Refused(
        "12c",
        lambda: npconv.conv_weight_grad(X, ones(4, 6, 6), kernel_shape=(4, 3, 3, 3)),
        ValueError,
        "conv_weight_grad: g.shape is (4, 6, 6), expected (1, 4, 6, 6), the output of x.shape (1, 3, 8, 8) "
        "and "
        "kernel_shape (4, 3, 3, 3) with stride (1, 1), padding ((0, 0), (0, 0)), dilation (1, 1) and "
        f"input_dilation (1, 1) in {LAYOUTS}; use the shapes and options of the forward call",
    ),
]

EMPTY_AND_DEGENERATE = [
    Refused(
        "20",
        lambda: conv(ones(1, 3, 0, 8), W),
        ValueError,
        "conv: the kernel of w does not fit x on spatial axis 0: effective kernel dilation (k - 1) + 1 = "
        "1 * (3 - 1) + 1 = 3 > padded size 0 + 0 + 0 = 0; add at least 3 padding, use a smaller kernel or "
        "check layout",
    ),
    Refused(
        "22",
        lambda: conv(X, ones(4, 3, 3, 0)),
        ValueError,
        "conv: kernel size must be >= 1, got 0 on spatial axis 1 of w.shape (4, 3, 3, 0); use 1 or more taps",
    ),
    Refused(
        "23",
        lambda: conv(X, W, dilation=(1, 5), padding=((0, 0), (1, 0))),
        ValueError,
        "conv: the kernel of w does not fit x on spatial axis 1: effective kernel dilation (k - 1) + 1 = "
        "5 * (3 - 1) + 1 = 11 > padded size 8 + 1 + 0 = 9; add at least 2 padding, use a smaller dilation "
        "or check layout",
    ),
]

PARAMETERS = [
    Refused(
        "29a",
        lambda: conv(X, W, stride=0),
        ValueError,
        "conv: stride on every axis must be >= 1, got 0; use 1 or more",
    ),
    Refused(
        "29b",
        lambda: conv(X, W, stride=(1, 0)),
        ValueError,
        "conv: stride on spatial axis 1 must be >= 1, got 0; use 1 or more",
    ),
    Refused(
        "30",
        lambda: conv(X, W, stride=(-1, 1)),
        ValueError,
        "conv: stride on spatial axis 0 must be >= 1, got -1; use 1 or more",
    ),
    Refused(
        "31",
        lambda: conv(X, W, stride=1.5),
        TypeError,
        "conv: stride on every axis must be an integer, got 1.5 of type float; write 1 or 2",
    ),
    Refused(
        "32",
        lambda: conv(X, W, stride=(1, 2.0)),
        TypeError,
        "conv: stride on spatial axis 1 must be an integer, got 2.0 of type float; write 2",
    ),
    Refused(
        "33",
        lambda: conv(X, W, stride=True),
        TypeError,
        "conv: stride on every axis must be an integer, got True of type bool; write 1",
    ),
    Refused(
        "35a",
        lambda: conv(X, W, stride="1"),
        TypeError,
        "conv: stride on every axis must be an integer, got '1' of type str; write 1",
    ),
    Refused(
        "35b",
        lambda: conv(X, W, stride=None),
        TypeError,
        "conv: stride on every axis must be an integer, got None of type NoneType; write a plain int such as 1",
    ),
    Refused(
        "36a",
        lambda: conv(X, W, stride=float("nan")),
        TypeError,
        "conv: stride on every axis must be an integer, got nan of type float; write a plain int such as 1",
    ),
    Refused(
        "36b",
        lambda: conv(X, W, stride=float("inf")),
        TypeError,
        "conv: stride on every axis must be an integer, got inf of type float; write a plain int such as 1",
    ),
    Refused(
        "37",
        lambda: conv(X, W, stride=(1, 1, 1)),
        ValueError,
        "conv: stride has 3 values, needs 1 or 2 for the 2 spatial axes of w, got stride=(1, 1, 1); "
        "write one int to use it on every axis",
    ),
    Refused(
        "38",
        lambda: conv(X, W, padding=()),
        ValueError,
        "conv: padding has 0 values, needs 1 or 2 for the 2 spatial axes of w, got padding=(); "
        "write one int to use it on every axis",
    ),
    Refused(
        "39a",
        lambda: conv(X, W, padding=-3),
        ValueError,
        "conv: the kernel of w does not fit x on spatial axis 0: effective kernel dilation (k - 1) + 1 = "
        "1 * (3 - 1) + 1 = 3 > padded size 8 - 3 - 3 = 2; add at least 1 padding, use a smaller kernel or "
        "check layout",
    ),
    Refused(
        "40",
        lambda: conv(X, W, padding="SAME"),
        ValueError,
        "conv: padding='SAME' is unknown, needs an int, one int or (lo, hi) pair per axis, or "
        f"{PADDINGS}; did you mean 'same'?",
    ),
    Refused(
        "41a",
        lambda: conv(X, W, padding="same_torch", stride=2),
        ValueError,
        "conv: padding='same_torch' needs stride 1, got stride=(2, 2); "
        "use padding='same' (TensorFlow's rule), which takes any stride",
    ),
    Refused(
        "42a",
        lambda: conv(X, W, padding=((1, 1), (1,))),
        ValueError,
        "conv: padding=((1, 1), (1,)) is malformed, expected one (lo, hi) pair per spatial axis of w: "
        "((lo, hi), (lo, hi))",
    ),
    Refused(
        "42b",
        lambda: conv(X, W, padding=(1, (1, 2))),
        ValueError,
        "conv: padding=(1, (1, 2)) is malformed, expected one (lo, hi) pair per spatial axis of w: "
        "((lo, hi), (lo, hi))",
    ),
    Refused(
        "42c",
        lambda: conv(X, W, padding=((1, 1), (1, 1.5))),
        TypeError,
        "conv: padding after spatial axis 1 must be an integer, got 1.5 of type float; write 1 or 2",
    ),
    Refused(
        "43a",
        lambda: conv(X, W, dilation=(1, 0)),
        ValueError,
        "conv: dilation on spatial axis 1 must be >= 1, got 0; use 1 or more",
    ),
    Refused(
        "43b",
        lambda: conv(X, W, dilation=-1),
        ValueError,
        "conv: dilation on every axis must be >= 1, got -1; use 1 or more",
    ),
    Refused(
        "44a",
        lambda: conv(X, W, layout="nhwc"),
        ValueError,
        "conv: layout='nhwc' is unknown, needs letters such as 'NCHW' or 'HWC', or "
        "one of 'channels_first', 'channels_last'; did you mean 'NHWC'?",
    ),
    Refused(
        "44b",
        lambda: conv(X, W, algorithm="winogard"),
        ValueError,
        "conv: algorithm='winogard' is unknown, needs one of "
        + ", ".join(repr(name) for name in names())
        + "; did you mean 'winograd'?",
    ),
    Refused(
        "44c",
        lambda: conv(X, W, padding_mode="reflct"),
        ValueError,
        f"conv: padding_mode='reflct' is unknown, needs {MODES}; did you mean 'reflect'?",
    ),
    Refused(
        "44d",
        lambda: conv(X, W, padding_mode="edge"),
        ValueError,
        f"conv: padding_mode='edge' is unknown, needs {MODES}; did you mean 'replicate'?",
    ),
    Refused(
        "44e",
        lambda: conv(X, W, kernel_layout="channel_last"),
        ValueError,
        "conv: kernel_layout='channel_last' is unknown, needs letters such as 'OIHW' or 'HWIO', or "
        "one of 'channels_first', 'channels_last'; did you mean 'channels_last'?",
    ),
    Refused(
        "45",
        lambda: conv(X, ones(4, 3, 5, 5), stride=4, algorithm="winograd_f4"),
        ValueError,
        "conv: algorithm='winograd_f4' cannot run here: winograd_f4 needs stride 1, the stride is (4, 4); "
        f"these can: {ABLE}",
    ),
    Refused(
        "49a",
        lambda: conv(X, W, strides=2),
        TypeError,
        f"conv: unknown keyword 'strides', needs one of 'x', 'w', 'bias', {OPTIONS}, 'out'; did you mean 'stride'?",
    ),
    Refused(
        "49b",
        lambda: npconv.conv_grads(G, X, W, data_format="NHWC"),
        TypeError,
        f"conv_grads: unknown keyword 'data_format', needs one of 'bias', {OPTIONS}; did you mean 'layout'?",
    ),
    Refused("49c", lambda: conv(X), TypeError, "conv: missing a required argument: 'w'"),
    Refused(
        "49d",
        lambda: conv(X, W, BIAS, 2),
        TypeError,
        "conv: too many positional arguments of the 4; pass options by keyword",
    ),
]

TRANSPOSED = [
    Refused(
        "15",
        lambda: conv_transpose(X, ones(3, 4, 3, 3), stride=(3, 2), output_padding=2),
        ValueError,
        "conv_transpose: output_padding 2 on axis 1 must be less than max(stride, dilation) = max(2, 1) = 2",
    ),
    Refused(
        "15b",
        lambda: conv_transpose(X, ones(3, 4, 3, 3), stride=2, padding="same", output_padding=(0, 1)),
        ValueError,
        "conv_transpose: padding='same' makes the output size in * stride, to which output_padding 1 on axis 1 adds nothing; "
        "use output_size, or padding in numbers",
    ),
    Refused(
        "16a",
        lambda: conv_transpose(X, ones(3, 4, 3, 3), stride=2, output_size=(17, 20)),
        ValueError,
        "conv_transpose: output_size 20 on axis 1 is not reachable: (in - 1) stride - lo - hi + effective "
        "kernel = "
        "(8 - 1) * 2 - 0 - 0 + 3 = 17, so 17..18",
    ),
    Refused(
        "16b",
        lambda: conv_transpose(X, ones(3, 4, 3, 3), stride=2, padding="same", output_size=(16, 17)),
        ValueError,
        "conv_transpose: output_size 17 on axis 1 is not reachable with padding='same': "
        "ceil(output_size / stride) = ceil(17 / 2) must be 8, so 15..16",
    ),
]

SIZES = [
    Refused(
        "51a",
        lambda: conv(X, W, padding=2**40),
        npconv.MemoryLimitError,
        "conv: an output of shape (1, 4, 2199023255558, 2199023255558) needs 77371252455758479646261824 "
        "bytes, "
        "the limit is MEMORY bytes of machine memory; use chunks of x or less padding or input_dilation",
    ),
    Refused(
        "51b",
        lambda: conv(X, W, padding=2**40, stride=2**40, padding_mode="reflect"),
        npconv.MemoryLimitError,
        "conv: an input padded to (2199023255560, 2199023255560) needs 58028439341924412850963200 bytes, "
        "the limit is MEMORY bytes of machine memory; use chunks of x or less padding or input_dilation",
    ),
    Refused(
        "52",
        lambda: conv(X, W, padding=2**62),
        ValueError,
        "conv: padding (4611686018427387904, 4611686018427387904) makes the size of spatial axis 0 "
        "8 + 4611686018427387904 + 4611686018427387904 = 9223372036854775816, "
        "which exceeds 2^63-1 = 9223372036854775807; use less padding, or a smaller kernel or dilation if "
        "they made it",
    ),
    Refused(
        "53",
        lambda: conv(X, W, padding=(0, 2**70)),
        ValueError,
        "conv: padding (1180591620717411303424, 1180591620717411303424) makes the size of spatial axis 1 "
        "8 + 1180591620717411303424 + 1180591620717411303424 = 2361183241434822606856, "
        "which exceeds 2^63-1 = 9223372036854775807; use less padding, or a smaller kernel or dilation if "
        "they made it",
    ),
    *(
        Refused(
            f"54{letter}",
            lambda d=d: conv(X, W, dilation=d),
            ValueError,
            "conv: the kernel of w does not fit x on spatial axis 0: effective kernel dilation (k - 1) + 1 = "
            f"{d} * (3 - 1) + 1 = {2 * d + 1} > padded size 8 + 0 + 0 = 8; "
            f"add at least {2 * d - 7} padding, use a smaller dilation or check layout",
        )
        for letter, d in (("a", 2**62), ("b", 2**62 + 1), ("c", 2**63 - 1))
    ),
    Refused(
        "54d",
        lambda: conv(X, W, input_dilation=(1, 2**62)),
        ValueError,
        "conv: x.shape (1, 3, 8, 8) with input_dilation 4611686018427387904 makes the size of spatial axis 1 "
        "32281802128991715329, which exceeds 2^63-1 = 9223372036854775807; use less",
    ),
    Refused(
        "56",
        lambda: conv(HUGE, ones(4, 1, 3, 3)),
        npconv.MemoryLimitError,
        "conv: an output of shape (1, 4, 1048574, 1048574) needs 17592118935616 bytes, "
        "the limit is MEMORY bytes of machine memory; use chunks of x or less padding or input_dilation",
    ),
]


def bad_dtype(number: str, array: Any, text: str) -> Refused:
    return Refused(number, lambda: conv(array, W), TypeError, f"conv: x has dtype {text}")


DTYPES = [
    Refused(
        "62",
        lambda: conv(np.full((1, 3, 8, 8), 2**61), np.full((4, 3, 3, 3), 2)),
        ValueError,
        f"conv: sums of these integers could reach {2**61 * 2 * 27} in magnitude, which exceeds 2^63-1 = "
        "9223372036854775807; convert an operand (x, w or g) to float64",
    ),
    bad_dtype("63", X > 1, "bool: booleans are no numbers here; use x.astype(np.uint8) to count"),
    bad_dtype(
        "65",
        X.astype(np.longdouble),
        f"{np.dtype(np.longdouble)}: no algorithm computes in it and it is never rounded silently; "
        "use x.astype(np.float64)",
    ),
    bad_dtype(
        "69a",
        np.full((1, 3, 8, 8), Decimal(1)),
        "object: element 0 is of type Decimal; use x.astype(np.float64) if all are numbers",
    ),
    bad_dtype(
        "69b",
        np.array([[[1, 2.0, "3", None]]], object),
        "object: element 2 is of type str; use x.astype(np.float64) if all are numbers",
    ),
    bad_dtype("70a", X.astype("U3"), "<U3: text has no products; use x.astype(np.float64) if it spells numbers"),
    bad_dtype("70b", X.astype("S3"), "|S3: text has no products; use x.astype(np.float64) if it spells numbers"),
    Refused(
        "70c",
        lambda: conv("image.png", W),
        TypeError,
        "conv: x must be an array or a nested list of numbers, got 'image.png' of type str; use np.asarray on numbers",
    ),
    bad_dtype(
        "71a",
        X.astype("M8[s]"),
        "datetime64[s]: dates and durations have no products; use x.astype(np.int64)",
    ),
    bad_dtype(
        "71b",
        X.astype("m8[s]"),
        "timedelta64[s]: dates and durations have no products; use x.astype(np.int64)",
    ),
    bad_dtype(
        "72a",
        np.zeros((1, 3, 8, 8), [("red", "f4"), ("green", "f4")]),
        "structured: its fields ('red', 'green') are numbers of their own; use one field, x['red']",
    ),
    bad_dtype(
        "72b",
        np.zeros((1, 3, 8, 8), "V4"),
        "|V4: needs a float, complex or integer dtype; use x.astype(np.float32)",
    ),
    bad_dtype(
        "74a",
        X.astype(ml_dtypes.float8_e4m3fn),
        "float8_e4m3fn: needs a float, complex or integer dtype; use x.astype(np.float32)",
    ),
    Refused(
        "74b",
        lambda: conv(X.astype(ml_dtypes.bfloat16), W.astype(np.float16)),
        TypeError,
        "conv: the dtypes have no common one: x bfloat16, w float16; convert one with .astype(np.float32)",
    ),
]


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


CONTAINERS = [
    Refused(
        "78a",
        lambda: conv(masked(X, 2), W),
        ValueError,
        "conv: x has 2 masked elements, and a mask is never dropped silently; fill them, as in x.filled(0)",
    ),
    Refused(
        "80a",
        lambda: conv([[[1.0, 2.0, 3.0], [1.0]]], [[[1.0]]]),
        ValueError,
        "conv: x is a ragged nested list, its rows differ in length; pad them to one length",
    ),
    Refused(
        "81a",
        lambda: conv(None, W),
        TypeError,
        "conv: x must be an array or a nested list of numbers, got None; use np.asarray on numbers",
    ),
    Refused(
        "81b",
        lambda: conv(X, (row for row in W)),
        TypeError,
        "conv: w must be an array or a nested list of numbers, got a generator; use np.asarray on numbers",
    ),
    Refused(
        "81c",
        lambda: conv(Frame(), W),
        TypeError,
        "conv: x is a pandas DataFrame, not a NumPy array; use x.to_numpy()",
    ),
    Refused(
        "81d",
        lambda: conv(X, torch.ones(4, 3, 3, 3)),
        TypeError,
        "conv: w is a torch Tensor, not a NumPy array; use w.numpy()",
    ),
    Refused(
        "81e",
        lambda: conv(X, torch.ones(4, 3, 3, 3, requires_grad=True)),
        TypeError,
        "conv: w is a torch Tensor, not a NumPy array; use w.detach().numpy()",
    ),
    Refused(
        "82a",
        lambda: conv(X, W, out=ones(1, 4, 6, 5)),
        ValueError,
        f"conv: out.shape is (1, 4, 6, 5), expected (1, 4, 6, 6); {OUT}",
    ),
    Refused(
        "82b",
        lambda: conv(X, W, out=np.ones((1, 4, 6, 6))),
        TypeError,
        f"conv: out.dtype is float64, expected float32; {OUT}",
    ),
    Refused(
        "82c",
        lambda: conv(X, W, out=read_only(ones(1, 4, 6, 6))),
        ValueError,
        f"conv: out is read-only, needs a writable array; {OUT}",
    ),
    Refused(
        "82d",
        lambda: conv(X, W, out=ones(1, 4, 6, 12)[..., ::2]),
        ValueError,
        f"conv: out must be C-contiguous and aligned, its strides are (1152, 288, 48, 8); {OUT}",
    ),
    Refused(
        "82e",
        lambda: conv(X, W, out=[0.0]),
        TypeError,
        f"conv: out must be a NumPy array, got a list; {OUT}",
    ),
    Refused(
        "83a",
        lambda: conv(X, ones(3, 3, 1, 1), out=X),
        ValueError,
        "conv: out overlaps x in memory, needs an array of its own; use out=np.empty((1, 3, 8, 8), 'float32')",
    ),
    Refused(
        "83b",
        lambda: conv(ones(1, 1, 3, 3), W[:1, :1], out=W[0, 0, :1, :1].reshape(1, 1, 1, 1)),
        ValueError,
        "conv: out overlaps w in memory, needs an array of its own; use out=np.empty((1, 1, 1, 1), 'float32')",
    ),
]


POOLED, INDICES = npconv.max_pool(X, 2, return_indices=True)
FORWARD = (
    "expected (1, 3, 4, 4), the output of x.shape (1, 3, 8, 8) with kernel (2, 2), stride (2, 2), "
    "padding ((0, 0), (0, 0)), dilation (1, 1) and rounding 'floor'; use the arguments of the forward call"
)


def with_index(value: int) -> np.ndarray:
    changed = INDICES.copy()
    changed[0, 1, 2, 3] = value
    return changed


def outside(op: str, value: int, where: str) -> str:
    return (
        f"{op}: indices[0, 1, 2, 3] = {value} is outside its plane: indices_space='plane' needs "
        f"0 <= index < 64 for {where}; use the indices that max_pool returned"
    )


POOLING = [
    Refused(
        "13a",
        lambda: npconv.max_pool_grad(POOLED, X, 2, indices=INDICES[:, :, :3]),
        ValueError,
        f"max_pool_grad: indices.shape is (1, 3, 3, 4), {FORWARD}",
    ),
    Refused(
        "13b",
        lambda: npconv.max_pool_grad(POOLED, X, 2, indices=INDICES[:0]),
        ValueError,
        f"max_pool_grad: indices.shape is (0, 3, 4, 4), {FORWARD}",
    ),
    Refused(
        "13c",
        lambda: npconv.max_pool_grad(POOLED, X, 2, indices=INDICES.astype(F)),
        TypeError,
        "max_pool_grad: indices has dtype float32, needs an integer dtype; use indices.astype(np.int64)",
    ),
    Refused(
        "13d",
        lambda: npconv.max_unpool(POOLED, INDICES[:0], 2),
        ValueError,
        "max_unpool: indices.shape is (0, 3, 4, 4), expected (1, 3, 4, 4), that of x; use what max_pool gave",
    ),
    Refused(
        "14a",
        lambda: npconv.max_unpool(POOLED, with_index(64), 2),
        ValueError,
        outside("max_unpool", 64, "an output of spatial sizes (8, 8)"),
    ),
    Refused(
        "14b",
        lambda: npconv.max_unpool(POOLED, with_index(-1), 2),
        ValueError,
        outside("max_unpool", -1, "an output of spatial sizes (8, 8)"),
    ),
    Refused(
        "14c",
        lambda: npconv.max_pool_grad(POOLED, X, 2, indices=with_index(64)),
        ValueError,
        outside("max_pool_grad", 64, "spatial sizes (8, 8)"),
    ),
    Refused(
        "24",
        lambda: npconv.max_pool(X, 3, padding=((0, 0), (3, 3))),
        ValueError,
        "max_pool: padding (3, 3) on axis 1 would leave a window wholly in the padding: needs padding < "
        "effective kernel 3 (kernel 3, dilation 1); pad the input first if that is meant",
    ),
    Refused(
        "26a",
        lambda: npconv.adaptive_avg_pool(X, -1),
        ValueError,
        "adaptive_avg_pool: size on every axis must be >= 0, got -1; use 0 or more",
    ),
    Refused(
        "26b",
        lambda: npconv.adaptive_max_pool(X, (None, -2)),
        ValueError,
        "adaptive_max_pool: size on spatial axis 1 must be >= 0, got -2; use 0 or more",
    ),
    Refused(
        "47a",
        lambda: npconv.max_pool(X, 0),
        ValueError,
        "max_pool: kernel on every axis must be >= 1, got 0; use 1 or more",
    ),
    Refused(
        "47b",
        lambda: npconv.avg_pool(X, (2, 0)),
        ValueError,
        "avg_pool: kernel on spatial axis 1 must be >= 1, got 0; use 1 or more",
    ),
    Refused(
        "48",
        lambda: npconv.avg_pool(X, 2, divisor=0),
        ValueError,
        "avg_pool: divisor must be >= 1, got 0; use 1 or more",
    ),
    Refused(
        "67",
        lambda: npconv.max_pool(X.astype(np.complex64), 2),
        TypeError,
        "max_pool: x has dtype complex64: complex numbers have no ordering; pool abs(x) or x.real",
    ),
]

REFUSED = [
    *RANK_AND_SHAPE,
    *POOLING,
    *TRANSPOSED,
    *EMPTY_AND_DEGENERATE,
    *PARAMETERS,
    *SIZES,
    *DTYPES,
    *CONTAINERS,
]
each_refusal = pytest.mark.parametrize("case", REFUSED, ids=str)


@each_refusal
def test_refused(case: Refused):
    with pytest.raises(case.error) as caught:
        case.call()
    text = str(caught.value)
    assert caught.type is case.error
    if "MEMORY" in case.text:  # the only part that depends on the machine
        assert re.fullmatch(re.escape(case.text).replace("MEMORY", r"\d+"), text), text
    else:
        assert text == case.text


def refuse(case: Refused) -> None:
    try:
        case.call()
    except case.error:
        return
    pytest.fail(f"case {case} was accepted")


@each_refusal
def test_refused_within_a_millisecond(case: Refused):
    refuse(case)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        refuse(case)
        seconds.append(time.perf_counter() - started)
    assert statistics.median(seconds) < 1e-3, seconds


@each_refusal
def test_refused_before_anything_is_allocated(case: Refused):
    refuse(case)
    tracemalloc.start()
    try:
        refuse(case)
        assert tracemalloc.get_traced_memory()[1] < 64 << 10
    finally:
        tracemalloc.stop()


@each_refusal
def test_message_is_one_line_that_names_the_operation(case: Refused):
    assert re.fullmatch(r"[a-z_]+[123]?d?: [^\n]+", case.text)


# --- what looks odd and is fine


def test_case_17_an_empty_batch():
    assert conv(X[:0], W, BIAS).shape == (0, 4, 6, 6)


def test_case_18_no_input_channels():
    y = conv(X[:, :0], W[:, :0], BIAS)
    assert y.shape == (1, 4, 6, 6)
    assert (y == BIAS[:, None, None]).all()


def test_case_19_no_output_channels():
    assert conv(X, W[:0], BIAS[:0]).shape == (1, 0, 6, 6)


def test_case_21_an_empty_axis_in_enough_padding():
    y = conv(X[:, :, :0], W, BIAS, padding=((2, 2), (0, 0)))
    assert y.shape == (1, 4, 2, 6)
    assert (y == BIAS[:, None, None]).all()


def test_case_25_adaptive_pooling_to_nothing():
    assert npconv.adaptive_avg_pool(X, (0, 2)).shape == (1, 3, 0, 2)
    assert npconv.adaptive_max_pool(X, 0).shape == (1, 3, 0, 0)


def test_case_28_an_average_over_nothing_is_zero():
    # the windows start at -1, 2 and 5; torch's rule keeps the last, and of 5 and 6 no tap is an input
    y = npconv.avg_pool(ones(1, 1, 5), 2, stride=3, padding=(1,), cover_all=True, count_include_pad=False)
    assert y.tolist() == [[[1, 1, 0]]]


def test_case_27_gradients_of_an_empty_batch():
    grads = npconv.conv_grads(G[:0], X[:0], W)
    assert [g.shape for g in grads] == [(0, 3, 8, 8), W.shape, (4,)]
    assert (grads.w == 0).all()
    assert (grads.bias == 0).all()


@pytest.mark.parametrize("stride", [np.int64(2), np.array(2), np.array([2, 2]), [np.uint8(2)]], ids=repr)
def test_case_34_integers_of_numpy(stride):
    assert np.array_equal(conv(X, W, stride=stride), conv(X, W, stride=2))


def test_case_39_negative_padding_crops():
    assert np.array_equal(conv(X, W, padding=((-1, 0), (-2, -1))), conv(X[:, :, 1:, 2:-1], W))


def test_case_41_same_with_a_stride():
    # ceil(8 / 2) = 4 outputs; (4 - 1) * 2 + 3 - 8 = 1 more column, at the end
    y = conv(X, W, padding="same", stride=2)
    assert np.array_equal(y, conv(X, W, padding=((0, 1), (0, 1)), stride=2))


def footprint(values: np.ndarray, bad: tuple[int, int]) -> np.ndarray:
    """Which outputs of a 3x3 window read the input at `bad`."""
    rows, columns = np.indices(values.shape[-2:])
    return (rows <= bad[0]) & (bad[0] < rows + 3) & (columns <= bad[1]) & (bad[1] < columns + 3)


@pytest.mark.parametrize("name", ["fft", "fft_single", "winograd_f2", "winograd_f4", "winograd_f6"])
def test_case_46_transforms_confine_nan(name):
    x = X.copy()
    x[0, 1, 4, 5] = np.nan
    y = conv(x, W, algorithm=name, accuracy="fast")
    hit = footprint(y, (4, 5))
    assert np.isnan(y[..., hit]).all()
    expected = conv(X, W, algorithm="loops")
    assert np.abs(y - expected)[..., ~hit].max() <= 128 * 2.0**-24 * expected.max()  # all data are positive


def test_case_55_a_stride_beyond_everything():
    assert np.array_equal(conv(X, W, stride=2**62), conv(X, W)[..., :1, :1])


def test_case_57_a_low_workspace_falls_back_and_says_so():
    limited = npconv.explain(X.shape, W.shape, max_workspace=600)
    verdicts = {c.name: c.verdict for c in limited.candidates}
    assert limited.choice == "direct"
    for name in ("gemm", npconv.explain(X.shape, W.shape).choice):
        assert re.fullmatch(r"no: needs at least \d+ bytes of workspace, the limit is 600", verdicts[name])
    assert np.array_equal(conv(X, W, max_workspace=600), conv(X, W))  # integers: exact either way


def test_case_58_more_than_2_31_elements():
    row = np.arange(2**15, dtype=F)
    x = np.broadcast_to(row, (1, 1, 2**17, 2**15))
    y = conv(x, np.array([[[[1, 2], [3, 4]]]], F), stride=(2**16, 1))
    expected = 4 * row[:-1] + 6 * row[1:]
    assert y.shape == (1, 1, 2, 2**15 - 1)
    assert (y == expected).all()


def test_case_58_one_axis_of_more_than_2_31_elements():
    x = np.broadcast_to(F(1), (1, 1, 2**31 + 5))
    assert conv(x, np.array([[[1, 2, 4]]], F), stride=2**31 + 2).tolist() == [[[7, 7]]]


def test_case_59_memory_that_runs_out_on_the_way(monkeypatch: pytest.MonkeyPatch):
    def starved(self, x, prepared, geometry, out):
        np.empty(2**60, F)

    direct = type(named("direct"))
    out = np.full((1, 4, 6, 6), 7, F)
    with monkeypatch.context() as patch:
        patch.setattr(direct, "forward", starved)
        with pytest.raises(npconv.MemoryLimitError) as caught:
            conv(X, W, algorithm="direct", out=out)
    assert str(caught.value) == (
        "conv: out of memory: Unable to allocate 4.00 EiB for an array with shape (1152921504606846976,) "
        "and data type "
        "float32; use a smaller max_workspace or chunks of x"
    )
    assert (out == 7).all()
    assert np.array_equal(conv(X, W, algorithm="direct", out=out), conv(X, W, algorithm="loops"))


def test_case_60_mixed_floats_promote():
    assert conv(X.astype(np.float64), W).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_case_61_small_integers_do_not_wrap(dtype):
    y = conv(np.full((1, 3, 8, 8), 100, dtype), np.full((4, 3, 3, 3), 100, dtype))
    assert y.dtype == np.int64
    assert (y == 27 * 100 * 100).all()


def test_case_64_half_precision_rounds_once():
    x, w = X.astype(np.float16) / 7, W.astype(np.float16) / 3
    y = conv(x, w)
    assert y.dtype == np.float16
    assert np.array_equal(y, conv(x.astype(F), w.astype(F)).astype(np.float16))


def test_case_66_complex():
    y = conv(X * np.complex64(1j), W + np.complex64(2j))
    assert y.dtype == np.complex64
    assert np.array_equal(y, conv(X, W) * 1j - conv(X, np.full_like(W, 2)))


def test_case_68_complex_with_real():
    y = conv(X * np.complex64(1j), W)
    assert y.dtype == np.complex64
    assert np.array_equal(y, conv(X, W) * 1j)


def test_case_73_foreign_byte_order():
    y = conv(X.astype(">f4"), W.astype(">f4"))
    assert y.dtype == np.dtype("=f4")
    assert y.tobytes() == conv(X, W).tobytes()


def test_case_74_bfloat16_rounds_once():
    x, w = (X / 7).astype(ml_dtypes.bfloat16), (W / 3).astype(ml_dtypes.bfloat16)
    y = conv(x, w)
    assert y.dtype == ml_dtypes.bfloat16
    assert np.array_equal(y, conv(x.astype(F), w.astype(F)).astype(ml_dtypes.bfloat16))


STRIDED = {
    "reversed": X[:, :, ::-1, ::-1],
    "Fortran": np.asfortranarray(X),
    "sliced": np.repeat(X, 2, axis=3)[..., ::2],
    "transposed": X.swapaxes(2, 3),
}


@pytest.mark.parametrize("x", STRIDED.values(), ids=STRIDED)
def test_case_75_strided_arrays(x):
    assert conv(x, W).tobytes() == conv(x.copy(), W).tobytes()


def test_case_76_broadcast_and_read_only():
    x = read_only(np.broadcast_to(X[:, :, :1], X.shape))
    w = np.broadcast_to(W[:1], W.shape)
    assert conv(x, w).tobytes() == conv(x.copy(), w.copy()).tobytes()


def test_case_77_memory_mapped_files(tmp_path):
    np.save(tmp_path / "x.npy", X)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert type(x) is np.memmap
    y = conv(x, W)
    assert type(y) is np.ndarray
    assert y.tobytes() == conv(X, W).tobytes()
    assert conv(x[:0], W).shape == (0, 4, 6, 6)


def test_case_78_a_mask_without_a_masked_element():
    assert np.array_equal(conv(masked(X, 0), W), conv(X, W))


def test_case_79_subclasses_come_back_as_arrays():
    class Tagged(np.ndarray):
        pass

    y = conv(X.view(Tagged), W)
    assert type(y) is np.ndarray
    assert np.array_equal(y, conv(X, W))
    with pytest.warns(PendingDeprecationWarning):
        row = np.matrix([[1.0, 2.0, 3.0]])
    y = conv(row, [[[1.0, 1.0]]])
    assert type(y) is np.ndarray
    assert y.tolist() == [[3.0, 5.0]]


def test_case_80_nested_lists():
    assert conv([[[1, 2, 3]]], [[[10, 1]]]).tolist() == [[[12, 23]]]


def test_case_83_an_out_beside_x_in_one_buffer():
    buffer = np.zeros((2, 3, 8, 8), F)
    buffer[:1] = X
    y = conv(buffer[:1], np.eye(3, dtype=F)[:, :, None, None], out=buffer[1:])
    assert np.array_equal(y, X)


def test_case_84_unaligned():
    data = np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view(F).reshape(X.shape)
    assert not data.flags.aligned
    assert conv(data, W).tobytes() == conv(X, W).tobytes()


@pytest.mark.parametrize("name", ["auto", "loops", "direct", "gemm", "fft", "winograd_f4"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_case_85_only_windows_that_read_it(name, value):
    x = X.copy()
    x[0, 2, 0, 3] = value
    y = conv(x, W + 1, algorithm=name)
    hit = footprint(y, (0, 3))
    assert not np.isfinite(y[..., hit]).any()
    assert np.isfinite(y[..., ~hit]).all()


@pytest.mark.parametrize("name", ["auto", "loops", "direct", "gemm", "fft", "winograd_f4"])
def test_case_85_zero_times_infinity_is_nan(name):
    x, w = np.zeros((1, 1, 6, 6), F), np.ones((1, 1, 3, 3), F)
    x[0, 0, 2, 2] = np.inf
    w[0, 0, 1, 1] = 0
    y = conv(x, w, algorithm=name)
    assert np.isnan(y[0, 0, 1, 1])  # 0 * inf
    assert np.isposinf(y[0, 0, 0, 0])


def test_case_86_nan_wins_wherever_it_stands():
    for at in range(9):
        x = np.arange(9, dtype=F)
        x[at] = np.nan
        y, index = npconv.max_pool(x.reshape(1, 1, 3, 3), 3, return_indices=True)
        assert np.isnan(y).all()
        assert index.tolist() == [[[[at]]]]


@pytest.mark.parametrize("least", [F(-np.inf), np.int8(-128)])
def test_case_86_the_least_number_in_padding(least):
    y, index = npconv.max_pool(np.full((1, 1, 3), least), 2, padding=1, return_indices=True)
    assert y.dtype == least.dtype
    assert (y == least).all()
    assert index.tolist() == [[[0, 1]]]  # the first input of each window, never the padding


# --- the list itself


def listed() -> dict[int, str]:
    """Number and answer of the rows of docs/errors.md."""
    page = (Path(__file__).parents[1] / "docs" / "errors.md").read_text()
    return {int(n): answer for n, answer in re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", page, re.M)}


def number(name: str) -> int:
    return int(re.search(r"\d+", name)[0])


ACCEPTED = {number(name) for name in globals() if name.startswith("test_case_")}


def test_every_case_is_here_and_in_the_docs():
    """Case 50 is about layers, which this version has not: eps, momentum, learning rate and dropout."""
    here = ACCEPTED | {number(case.number) for case in REFUSED}
    assert set(range(1, 87)) - here == {50}
    assert sorted(listed()) == list(range(1, 87))


def test_the_docs_tell_the_same_answers():
    rows = listed()
    assert {n for n, answer in rows.items() if "works" in answer} | {59} == ACCEPTED  # 59 fails on the way
    for case in REFUSED:
        assert case.error.__name__ in rows[number(case.number)], case.number


def test_no_number_twice():
    numbers = [case.number for case in REFUSED]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("value", [10**400, -(10**400)], ids=["huge", "-huge"])
def test_a_padding_value_that_is_no_float(value: int) -> None:
    with pytest.raises(ValueError, match=r"of 1329 bits, over the largest float, 1\.8e308; use np\.inf"):
        npconv.conv(X, W, padding=1, padding_mode="constant", padding_value=value)
