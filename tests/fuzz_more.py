"""The operators that fuzz_arguments.py leaves out: problems.py draws a valid call, and odd arguments take the place of some.

What valid calls give is compared with the reference elsewhere. Here each must come back with some result; a call with
odd arguments with a result or an honest refusal; and what no operator takes (`NEVER`) must be refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

import npconv
import problems
from fuzz_arguments import ODD, ODD_FLAGS, ODD_INTS, ODD_SHAPES, Dice, odd_array
from npconv import filters

CONV = ("stride", "padding", "dilation", "flip", "layout", "algorithm", "accuracy", "max_workspace")
FULL = (*CONV, "groups", "input_dilation", "padding_mode", "padding_value", "kernel_layout")
TRANSPOSE = (*CONV, "groups", "kernel_layout")
DEPTHWISE = (*CONV, "padding_mode", "padding_value")
ACTIVATIONS = ("relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "gelu")

#: operator: (what problems.py draws, the operands by the caller's names, keywords beyond those of the signature)
OPERATORS: dict[str, tuple[str, dict[str, str], tuple[str, ...]]] = {
    "conv_grads": ("conv", {"g": "g", "x": "x", "w": "w"}, FULL),
    "conv_jvp": ("conv", {"x": "x", "w": "w", "dx": "x", "dw": "w"}, FULL),
    "plan_conv": ("conv", {"x_shape": "x.shape", "w": "w", "bias": "bias"}, FULL),
    "explain": ("conv", {"x_shape": "x.shape", "w_shape": "w.shape"}, FULL),
    "conv_transpose_grads": ("conv_transpose", {"g": "g", "x": "x", "w": "w"}, TRANSPOSE),
    "conv_transpose_input_grad": ("conv_transpose", {"g": "g", "w": "w"}, TRANSPOSE),
    "conv_transpose_weight_grad": ("conv_transpose", {"x": "x", "g": "g"}, TRANSPOSE),
    "depthwise_conv": ("depthwise_conv", {"x": "x", "w": "w", "bias": "bias"}, DEPTHWISE),
    "depthwise_conv_grads": ("depthwise_conv", {"g": "g", "x": "x", "w": "w"}, DEPTHWISE),
    "separable_conv": (
        "separable_conv",
        {"x": "x", "w_depthwise": "w", "w_pointwise": "pointwise", "bias": "bias"},
        DEPTHWISE,
    ),
    "separable_conv_grads": (
        "separable_conv",
        {"g": "g", "x": "x", "w_depthwise": "w", "w_pointwise": "pointwise"},
        DEPTHWISE,
    ),
    "local_conv": ("local_conv", {"x": "x", "w": "w", "bias": "bias"}, ()),
    "local_conv_grads": ("local_conv", {"g": "g", "x": "x", "w": "w"}, ()),
    "fold": ("unfold", {"columns": "g", "output_size": "x.space", "kernel": "0"}, ()),
    "max_pool_grad": ("max_pool", {"g": "g", "x": "x", "kernel": "0"}, ()),
    "avg_pool_grad": ("avg_pool", {"g": "g", "input_shape": "x.shape", "kernel": "0"}, ()),
    "lp_pool": ("lp_pool", {"x": "x", "kernel": "0"}, ()),
    "lp_pool_grad": ("lp_pool", {"g": "g", "x": "x", "kernel": "0"}, ()),
    "adaptive_max_pool": ("adaptive_max_pool", {"x": "x", "size": "0"}, ()),
    "adaptive_max_pool_grad": ("adaptive_max_pool", {"g": "g", "x": "x", "size": "0"}, ()),
    "adaptive_avg_pool": ("adaptive_avg_pool", {"x": "x", "size": "0"}, ()),
    "adaptive_avg_pool_grad": ("adaptive_avg_pool", {"g": "g", "input_shape": "x.shape", "size": "0"}, ()),
    "global_max_pool": ("global_max_pool", {"x": "x"}, ()),
    "global_max_pool_grad": ("global_max_pool", {"g": "g", "x": "x"}, ()),
    "global_avg_pool": ("global_avg_pool", {"x": "x"}, ()),
    "global_avg_pool_grad": ("global_avg_pool", {"g": "g", "input_shape": "x.shape"}, ()),
    "fractional_max_pool": ("fractional_max_pool", {"x": "x", "kernel": "0"}, ()),
    "fractional_max_pool_grad": ("fractional_max_pool", {"g": "g", "x": "x", "kernel": "0"}, ()),
    "max_unpool": ("max_unpool", {"x": "x", "indices": "indices", "kernel": "0"}, ()),
    "max_unpool_grad": ("max_unpool", {"g": "g", "indices": "indices", "kernel": "0"}, ()),
    "filters.apply": ("image", {"image": "x", "kernel": "w"}, ()),
    "filters.gradient_magnitude": ("image", {"image": "x", "operator": "word"}, ()),
}
#: The operators that others are made of, whose names their messages may begin with.
MADE_OF = {
    "plan_conv": ("plan",),
    "separable_conv": ("depthwise_conv", "conv"),
    "separable_conv_grads": ("depthwise_conv", "conv_grads"),
    "filters.apply": ("conv",),
    "filters.gradient_magnitude": ("filters.apply", "conv"),
}
WIDEST = 1_000  # of a window that is one number: padding="same" lets any fit, and some passes walk it tap by tap
#: What messages may call an argument that is handed on.
CALLED = {"input_shape": "x", "w_depthwise": "w", "w_pointwise": "w", "size": "kernel"}
BORDERS = (*filters.modes, "wrap", "", None, 3, [], b"zeros")
# fmt: off
MORE_ODD: dict[str, Any] = {
    **ODD,
    **dict.fromkeys(("size", "anchor"), (*ODD_INTS, (None, 2), (2, None), (None,), (None, None))),
    **dict.fromkeys(("x_shape", "w_shape"), ODD_SHAPES),
    **dict.fromkeys(("keepdims", "return_indices", "bias"), ODD_FLAGS),
    "p": (1, 2, 2.0, 1.5, 0, 0.5, -1, float("inf"), float("nan"), 1e300, 2**70, "2", None, True, 1j, (2,), np.float32(3)),
    "output_ratio": (0.5, 1.0, 0, 1.5, -0.5, float("nan"), float("inf"), "half", None, True, (0.5, 0.5), (0.5,), [], 1j, 2**70),
    "rng": (None, 0, 3, -1, "seed", np.random.default_rng(0), 1.5, object(), [1, 2]),
    "indices_space": ("plane", "onnx", "onnx_column_major", "tf", "tf_batch", "", None, 3, [], b"plane"),
    "indices": ("plane", "onnx", "onnx_column_major", "tf", "tf_batch", "", None, 3, [], b"plane"),
    "activation": (*ACTIVATIONS, "softmax", "", None, 3, True, [], b"relu", np.tanh),
    "slope": (0, 0.1, 1, -1, 2, float("nan"), float("inf"), "0.1", None, True, (0.1,), 1j, 2**70),
    "dtype": ("float32", "float64", "uint8", "float16", np.int32, np.dtype("f8"), "bool", "no", 3, None, object, [], ">f4"),
    "out_layout": (*ODD["layout"], "NWHC", "WCN"),
    "mode": BORDERS,
    "cval": ODD["padding_value"],
    "direction": ("forward", "input_grad", "weight_grad", "", None, 3, [], b"forward"),
    "measure": ODD_FLAGS,
    "add": ODD_FLAGS,
    "operator": ("sobel", "prewitt", "scharr", "laplacian", "", None, 3, [], b"sobel"),
}
#: No operator takes these: accepted is wrong, whatever else is in the call.
NEVER = ("1", 1.5, {}, {1: 2}, b"1", 1j, (1, "a"), "αβγ", -1, 0, True, float("nan"), 2**70 + 0.5)
# fmt: on
NEVER_FOR = ("stride", "dilation", "input_dilation", "groups", "kernel")
ARRAYS = ("x", "w", "g", "dx", "dw", "columns", "w_depthwise", "w_pointwise", "image")


def never(name: str, value: Any) -> bool:
    return name in NEVER_FOR and any(type(value) is type(bad) and value == bad for bad in NEVER)


def image_problem(dice: Dice) -> tuple[dict[str, Any], dict[str, Any]]:
    """An image, a kernel, and what filters take."""
    shape = dice.pick(((7, 6), (5, 5, 3), (1, 9), (0, 4), (6, 6, 0)))
    x = dice.data(*shape, dtype=dice.pick(("float32", "float64", "uint8", "int16", "float16")))
    w = dice.pick((dice.data(3, 3), dice.data(2, 4, dtype="int64"), dice.data(1, 1, dtype="float64")))
    return {"x": x, "w": w, "word": dice.pick(("sobel", "prewitt", "scharr"))}, {
        "mode": dice.pick(("zeros", "replicate"))
    }


def base(dice: Dice, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A valid call: operands by name, then keywords."""
    drawn, operands, _ = OPERATORS[name]
    if drawn == "image":
        given, options = image_problem(dice)
        return {key: given[source] for key, source in operands.items()}, options
    problem = problems.draw(drawn, dice.int(0, 2**40))
    while {"output_size", "output_padding"} & set(problem.options) and drawn == "conv_transpose":  # not the gradients'
        problem = problems.draw(drawn, dice.int(0, 2**40))
    options = dict(problem.options)
    if drawn == "max_unpool":
        options.pop("indices_space", None)
    if name == "conv_transpose_input_grad":
        options["input_shape"] = problem.given("x").shape
    if name == "conv_transpose_weight_grad":
        options["kernel_shape"] = problem.given("w").shape
    if name == "plan_conv":
        options["dtype"] = problem.canonical["x"].dtype
    values: dict[str, Any] = {}
    for key, source in operands.items():
        array, _, part = source.partition(".")
        if source == "0":
            values[key] = problem.arguments[0]
        elif part == "shape":
            values[key] = problem.given(array).shape
        elif part == "space":
            values[key] = problem.canonical[array].shape[2:]
        else:
            values[key] = problem.given(array)
    return values, options


def keywords(name: str) -> tuple[str, ...]:
    """All that the operator takes by keyword."""
    found = [p.name for p in inspect.signature(target(name)).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return (*found, *OPERATORS[name][2])


def target(name: str) -> Callable[..., Any]:
    return getattr(filters, name.partition(".")[2]) if "." in name else getattr(npconv, name)


def spoil(dice: Dice, name: str, operands: dict[str, Any], options: dict[str, Any]) -> list[str]:
    """Replace some arguments, and say which."""
    odd: list[str] = []
    for _ in range(dice.pick((0, 0, 1, 1, 1, 1, 2, 3))):
        which = dice.pick((*operands, *keywords(name)))
        holder = operands if which in operands else options
        old = holder.get(which)
        if which in ARRAYS or which in ("samples", "dbias") or (which in ("bias", "indices") and which in operands):
            holder[which] = odd_array(dice, old)
        elif which == "out":
            holder[which] = dice.pick((np.empty((1, 2, 3)), [0.0], "out", 3, operands.get("x"), np.empty(3, object)))
        elif which in MORE_ODD:
            holder[which] = dice.pick(MORE_ODD[which])
            if which == "kernel" and "pool" in name and isinstance(holder[which], int) and holder[which] > WIDEST:
                holder[which] = WIDEST
        else:
            raise LookupError(f"{name} takes {which}, of which fuzz_more.py knows nothing odd")
        odd.append(which)
    return odd


def call(name: str, dice: Dice, operands: dict[str, Any], options: dict[str, Any], odd: list[str]) -> Any:
    """What the operator gives; a plan is also run, on the input that it was made for."""
    result = target(name)(*operands.values(), **options)
    if name == "plan_conv" and not {"x_shape", "dtype"} & set(odd):
        out = np.zeros(result.output_shape, result.dtype) if options.get("add") else None
        return result(dice.data(*operands["x_shape"]).astype(options["dtype"]), out)
    return result


def draw(seed: int) -> tuple[str, dict[str, Any], dict[str, Any], list[str], bool, Dice]:
    """(operator, operands, keywords, the odd ones of both, whether the call must be refused, the dice)."""
    dice = Dice(seed)
    name = dice.pick(tuple(OPERATORS))
    operands, options = base(dice, name)
    odd = spoil(dice, name, operands, options)
    bad = any(never(which, (operands | options)[which]) for which in odd)
    if dice.chance(0.02) and OPERATORS[name][0] != "image":
        options[dice.pick(("strides", "data_format", "kernal", "x1"))] = 1
        odd, bad = ["keyword"], True
    return name, operands, options, odd, bad, dice
