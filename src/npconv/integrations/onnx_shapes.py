"""How large a node's outputs will be, from its inputs' shapes: asked before anything is allocated.

A value is an array where it is known, a `Spec` where only its shape is, and None where not even that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from onnx.helper import tensor_dtype_to_np_dtype

from ..conv_arguments import DEFAULTS, read
from ..geometry import Ints
from ..pool_problem import read_pool
from ..transposed_problem import read_transpose
from .onnx_checks import MOST_AXES, ModelError
from .onnx_operators import conv_options, pool_options, transpose_options


@dataclass(frozen=True)
class Spec:
    """The shape and dtype of an array that is not there yet."""

    shape: Ints
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Its size, in Python ints."""
        return prod(self.shape) * self.dtype.itemsize


Value = Any  # ndarray, Spec or None
Rule = Callable[[dict[str, Any], list[Value], Any], list[Value]]

POOL = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False, "cover_all": False, "layout": "channels_first"}


def outputs(node: Any, ins: list[Value]) -> list[Value]:
    """What a node will give, as far as it can be told; at least one value."""
    rule = RULES.get(node.op_type)
    if rule is None or (ins and ins[0] is None):
        return [None] * max(1, len(node.output))
    attributes = {name: getattr(node, name) for name in node.attributes_names_}
    try:
        found = rule(attributes, ins, node)
    except (IndexError, AttributeError, TypeError):  # a malformed node; it will say so itself when it runs
        return [None] * max(1, len(node.output))
    for value in found:
        if value is not None and len(value.shape) > MOST_AXES:
            raise ModelError(f"an output would have {len(value.shape)} axes, over {MOST_AXES}")
    return found


def known(value: Value) -> Any:
    """The numbers of a value, as a list of ints, or None."""
    return [int(n) for n in value.reshape(-1)] if isinstance(value, np.ndarray) and value.size <= 4096 else None


def _same(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    return [Spec(ins[0].shape, ins[0].dtype)]


def _broadcast(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    if any(value is None for value in ins):
        return [None]
    shape = np.broadcast_shapes(*(value.shape for value in ins))
    dtype = np.dtype(bool) if node.op_type in LOGICAL else ins[-1].dtype
    return [Spec(shape, dtype)]


def _conv(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    x, w = ins[0], ins[3 if node.op_type == "QLinearConv" else 1]
    if w is None:
        return [None]
    if node.op_type.endswith("Transpose"):
        options = transpose_options(attributes, x.shape, w.shape)
        return [Spec(read_transpose("conv_transpose", x.shape, w.shape, options).x_shape, x.dtype)]
    options = {**DEFAULTS, **conv_options(attributes, x.shape, w.shape)}
    dtype = np.dtype(np.int32) if node.op_type == "ConvInteger" else x.dtype
    return [Spec(read("conv", x.shape, w.shape, options).y_shape, dtype)]


def _quantized(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    kind = ins[1] if node.op_type == "DequantizeLinear" else ins[2] if len(ins) > 2 else None
    return [Spec(ins[0].shape, np.dtype(np.uint8) if kind is None else kind.dtype)]


def _pool(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    kernel, options = pool_options(attributes, ins[0].shape)
    shape = read_pool("max_pool", ins[0].shape, kernel, {**POOL, **options}).y_shape
    return [Spec(shape, ins[0].dtype), Spec(shape, np.dtype(np.int64))]


def _global(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    return [Spec((*ins[0].shape[:2], *(1 for _ in ins[0].shape[2:])), ins[0].dtype)]


def _concat(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    if any(value is None for value in ins):
        return [None]
    shape, axis = list(ins[0].shape), attributes["axis"]
    shape[axis] = sum(value.shape[axis] for value in ins)
    return [Spec(tuple(shape), ins[0].dtype)]


def _reshape(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    wanted = known(ins[1]) if len(ins) > 1 else attributes.get("shape")
    if wanted is None:
        return [None]
    old = ins[0].shape
    sizes = [old[i] if n == 0 and not attributes.get("allowzero") else n for i, n in enumerate(wanted)]
    if -1 in sizes:
        rest = prod(n for n in sizes if n != -1)
        sizes[sizes.index(-1)] = prod(old) // rest if rest else 0
    if prod(sizes) != prod(old) or min(sizes, default=0) < 0:
        raise ModelError(f"a value of shape {old} cannot have the shape {tuple(wanted)}")
    return [Spec(tuple(sizes), ins[0].dtype)]


def _flatten(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    shape, axis = ins[0].shape, attributes["axis"]
    axis += len(shape) * (axis < 0)
    return [Spec((prod(shape[:axis]), prod(shape[axis:])), ins[0].dtype)]


def _transpose(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    order = attributes.get("perm") or range(len(ins[0].shape))[::-1]
    return [Spec(tuple(ins[0].shape[i] for i in order), ins[0].dtype)]


def _gemm(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    if ins[1] is None:
        return [None]
    a, b = (v.shape[::-1] if attributes.get(t) else v.shape for v, t in zip(ins, ("transA", "transB"), strict=False))
    return [Spec((a[0], b[1]), ins[0].dtype)]


def _matmul(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    if ins[1] is None or len(ins[0].shape) < 2 or len(ins[1].shape) < 2:
        return [None]
    a, b = ins[0].shape, ins[1].shape
    return [Spec((*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]), ins[0].dtype)]


def _axes(attributes: dict[str, Any], ins: list[Value]) -> Any:
    return known(ins[1]) if len(ins) > 1 and ins[1] is not None else attributes.get("axes")


def _squeeze(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    axes, shape = _axes(attributes, ins), ins[0].shape
    gone = {a % len(shape) for a in axes} if axes else {i for i, n in enumerate(shape) if n == 1}
    return [Spec(tuple(n for i, n in enumerate(shape) if i not in gone), ins[0].dtype)]


def _unsqueeze(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    axes = _axes(attributes, ins)
    if axes is None:
        return [None]
    rank, rest = len(ins[0].shape) + len(axes), iter(ins[0].shape)
    new = {a % rank for a in axes}
    return [Spec(tuple(1 if i in new else next(rest) for i in range(rank)), ins[0].dtype)]


def _reduce(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    if len(ins) > 1 and ins[1] is not None and known(ins[1]) is None:
        return [None]
    axes, shape = _axes(attributes, ins), ins[0].shape
    gone = {a % len(shape) for a in axes} if axes else set(range(len(shape)))
    kept = (1 if i in gone else n for i, n in enumerate(shape) if attributes.get("keepdims", 1) or i not in gone)
    return [Spec(tuple(kept), ins[0].dtype)]


def _filled(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    """ConstantOfShape and Expand: the shape is a value."""
    wanted = known(ins[-1])
    if wanted is None or min(wanted, default=0) < 0:
        return [None]
    if node.op_type == "Expand":
        return [Spec(np.broadcast_shapes(ins[0].shape, tuple(wanted)), ins[0].dtype)]
    value = attributes.get("value")
    return [Spec(tuple(wanted), np.dtype(np.float32) if value is None else value.dtype)]


def _tile(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    times = known(ins[1])
    if times is None:
        return [None]
    return [Spec(tuple(n * t for n, t in zip(ins[0].shape, times, strict=True)), ins[0].dtype)]


def _pad(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    pads = known(ins[1]) if len(ins) > 1 else attributes.get("pads") or attributes.get("paddings")
    if pads is None:
        return [None]
    shape, axes = list(ins[0].shape), known(ins[3]) if len(ins) > 3 and ins[3] is not None else None
    chosen = range(len(shape)) if axes is None else axes
    for axis, lo, hi in zip(chosen, pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True):
        shape[axis] += lo + hi
    return [Spec(tuple(shape), ins[0].dtype)]


def _resize(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    shape = ins[0].shape
    if len(ins) > 3 and ins[3] is not None:
        wanted = known(ins[3])
        axes = attributes.get("axes")
        if wanted is None or (axes is None and len(wanted) != len(shape)):
            return [None]
        sizes = list(shape)
        for axis, n in zip(range(len(shape)) if axes is None else axes, wanted, strict=True):
            sizes[axis] = n
        return [Spec(tuple(sizes), ins[0].dtype)]
    at = 1 if node.op_type == "Upsample" or len(ins) == 2 else 2
    scales = ins[at] if len(ins) > at else attributes.get("scales")
    if scales is None or isinstance(scales, Spec) or len(scales) != len(shape):
        return [None]
    return [Spec(tuple(int(n * float(s)) for n, s in zip(shape, scales, strict=True)), ins[0].dtype)]


def _range(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    if not all(isinstance(v, np.ndarray) and v.size == 1 for v in ins):
        return [None]
    start, limit, step = (v.item() for v in ins)
    return [Spec((max(0, int((limit - start) / step) + 1) if step else 0,), ins[0].dtype)]


def _cast(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    return [Spec(ins[0].shape, tensor_dtype_to_np_dtype(attributes["to"]))]


def _shape(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    start, end = attributes.get("start") or 0, attributes.get("end")
    return [np.array(ins[0].shape[start:end], np.int64)]


def _split(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    return [Spec(ins[0].shape, ins[0].dtype)] + [None] * (len(node.output) - 1)


def _onehot(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    depth = known(ins[1])
    if depth is None or ins[2] is None:
        return [None]
    return [Spec((*ins[0].shape, depth[0]), ins[2].dtype)]


def _gather(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    if ins[1] is None:
        return [None]
    shape, axis = ins[0].shape, attributes["axis"] % len(ins[0].shape)
    return [Spec((*shape[:axis], *ins[1].shape, *shape[axis + 1 :]), ins[0].dtype)]


def _random(attributes: dict[str, Any], ins: list[Value], node: Any) -> list[Value]:
    shape = attributes.get("shape") or (ins[0].shape if ins else ())
    return [Spec(tuple(int(n) for n in shape), np.dtype(np.float64))]


LOGICAL = ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Xor")
SAME = (
    "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Elu", "Selu", "Celu", "Clip", "Erf", "Exp", "Log", "Sqrt", "Neg", "Abs",
    "Floor", "Ceil", "Round", "Sign", "Reciprocal", "Softmax", "LogSoftmax", "Hardmax", "Softplus", "Softsign",
    "HardSigmoid", "HardSwish", "Gelu", "Mish", "ThresholdedRelu", "Identity", "Dropout", "LRN", "CumSum", "Trilu",
    "InstanceNormalization", "BatchNormalization", "LayerNormalization", "GroupNormalization", "LpNormalization",
    "ScaleShift",
)  # fmt: skip
BROADCAST = ("Add", "Sub", "Mul", "Div", "Pow", "PRelu", "Where", "Sum", "Max", "Min", "Mean", *LOGICAL)
CONVOLUTIONS = ("Conv", "PlannedConv", "ConvTranspose", "PlannedConvTranspose", "ConvInteger", "QLinearConv")
REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2")
RULES: dict[str, Rule] = {
    **dict.fromkeys(SAME, _same),
    **dict.fromkeys(BROADCAST, _broadcast),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(CONVOLUTIONS, _conv),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _quantized),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), _pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), _global),
    **dict.fromkeys(("ConstantOfShape", "Expand"), _filled),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    **dict.fromkeys(("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"), _random),
    "Concat": _concat,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Tile": _tile,
    "Pad": _pad,
    "Range": _range,
    "Cast": _cast,
    "Shape": _shape,
    "Split": _split,
    "OneHot": _onehot,
    "Gather": _gather,
}
