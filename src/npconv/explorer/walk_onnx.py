"""A walk through an ONNX model: every activation, by onnx's reference evaluator with npconv's operators."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..conv_arguments import read as read_conv
from ..conv_arguments import with_defaults
from ..geometry import Ints, ceil_div, effective_kernel, total
from ..integrations import onnx_runtime
from ..nn.summaries import Field
from ..pool_problem import read_pool
from ..pool_problem import with_defaults as with_pool_defaults
from ..transposed_problem import read_transpose
from .crops import Site
from .walk import Step, Walk, output_json, picture

Array = NDArray[Any]
Fields = tuple[Field, ...] | None

#: Operators whose outputs depend on the inputs at their own place alone.
POINTWISE = frozenset(
    re.findall(
        r"\w+",
        """
        Abs Add BatchNormalization Cast Celu Ceil Clip Concat DequantizeLinear Div Dropout Elu Erf Exp Flatten Floor
        Gelu HardSigmoid HardSwish Identity LRN LeakyRelu Log Max Mean Min Mish Mul Neg PRelu Pow QuantizeLinear
        Reciprocal Relu Round Selu Sigmoid Softplus Softsign Sqrt Squeeze Sub Sum Swish Tanh ThresholdedRelu
        Unsqueeze
    """,
    )
)
WHOLE = frozenset(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "Gemm", "MatMul"))
POOLS = {"MaxPool": "max_pool", "AveragePool": "avg_pool"}


def walk_onnx(
    model: onnx_runtime.Model,
    feeds: Mapping[str, Array],
    *,
    name: str = "",
    target: Any = None,
    labels: list[str] | None = None,
) -> Walk:
    """Run a model, loaded with ``intermediate=True``, on one image.

    Parameters
    ----------
    model : npconv.integrations.onnx_runtime.Model
        What ran node by node.
    feeds : mapping of str to ndarray
        Its inputs by name.
    name : str
        Of the model.
    target : int or tuple of int, optional
        Which score of the first output is the chosen one; the largest by default.
    labels : list of str, optional
        Names of the scores.

    Raises
    ------
    ValueError
        If the model refuses the inputs, or has no such score.
    """
    from .walk_layers import chosen_output

    evaluator = model._evaluator
    values = {**evaluator.rt_inits_, **model.run(feeds), **feeds}
    fields: dict[str, Fields] = {key: _own(np.shape(a)) for key, a in feeds.items()}
    counted: set[str] = set()
    steps = []
    for node in evaluator.rt_nodes_:
        ins, y = [values.get(key) for key in node.input], values.get(node.output[0])
        if not isinstance(y, np.ndarray):
            continue
        own = {key for key in node.input if key in evaluator.rt_inits_ and values[key].dtype.kind == "f"} - counted
        counted |= own
        fields[node.output[0]] = found = _fields(node, ins, y, [fields.get(key) for key in node.input])
        image = y.ndim > 1 and y.shape[0] == 1
        steps.append(
            Step(
                name=node.onnx_node.name or node.output[0],
                kind=_kind(node, ins),
                shape=y.shape,
                y=y[0] if image else None,
                parameters=sum(values[key].size for key in own),
                macs=_macs(node, ins, y),
                memory_bytes=y.nbytes,
                field_size=None if found is None else tuple(float(f.size) for f in found),
                field_step=None if found is None else tuple(float(f.step) for f in found),
                site=partial(_site, node, ins, y) if image and _slides(node, ins) else None,
            )
        )
    y, first = values[model.outputs[0]], next(iter(feeds.values()))
    y = y if y.ndim else y[None]
    y = y if y.ndim > 1 else y[None]
    seen = None
    if first.ndim == 4:
        seen = picture(first[0] if first.shape[1] in (1, 3) else np.moveaxis(first[0], -1, 0))
    return Walk(name or "ONNX model", steps, seen, output_json(y[0], chosen_output(y, target), labels))


# --------------------------------------------------------------------------- of one node
def _attributes(node: Any) -> dict[str, Any]:
    return {name: getattr(node, name) for name in node.attributes_names_}


def _slides(node: Any, ins: list[Any]) -> bool:
    x = ins[0] if ins else None
    ready = node.op_type in ("Conv", "ConvTranspose", *POOLS)
    return ready and isinstance(x, np.ndarray) and x.ndim in (3, 4) and x.dtype.kind == "f"


def _kind(node: Any, ins: list[Any]) -> str:
    """The operator with its attributes, those left out that say nothing."""
    said = []
    if node.op_type in ("Conv", "ConvTranspose", "Gemm") and len(ins) > 1 and isinstance(ins[1], np.ndarray):
        said.append("x".join(map(str, ins[1].shape)))
    for name, value in sorted(_attributes(node).items()):
        plain = value.tolist() if isinstance(value, np.ndarray) else value
        if isinstance(plain, (list, tuple)) and 0 < len(plain) <= 8 and any(n not in (0, 1) for n in plain):
            said.append(f"{name}={','.join(map(str, plain))}")
        elif isinstance(plain, (int, float, str)) and plain not in (0, 1, "", "NOTSET"):
            said.append(f"{name}={plain}")
    return f"{node.op_type}({', '.join(said)})" if said else str(node.op_type)


def _macs(node: Any, ins: list[Any], y: Array) -> int:
    """Multiplications, of the operators that are made of them."""
    shapes = [np.shape(a) for a in ins[:2]]
    if len(shapes) == 2 and shapes[1]:
        if node.op_type == "Conv":
            return y.size * total(shapes[1][1:])
        if node.op_type == "ConvTranspose":
            return total(shapes[0]) * total(shapes[1][1:])
        if node.op_type in ("Gemm", "MatMul") and shapes[0]:
            first_turned = node.op_type == "Gemm" and bool(getattr(node, "transA", 0))
            return y.size * shapes[0][0 if first_turned else -1]
    return 0


def _own(shape: Ints) -> Fields:
    return tuple(Field(Fraction(1), Fraction(1), n) for n in shape[2:]) if len(shape) > 2 else None


def _fields(node: Any, ins: list[Any], y: Array, before: list[Fields]) -> Fields:
    """What the elements of an output depend on, where that is known."""
    known = [f for f in before if f is not None]
    if not known or any(len(f) != len(known[0]) for f in known):
        return None
    if node.op_type in POINTWISE:
        widest = zip(*known, strict=True)
        return tuple(Field(max(f.size for f in axis), max(f.step for f in axis), axis[0].extent) for axis in widest)
    if node.op_type in WHOLE:
        return tuple(f.whole() for f in known[0])
    if not _slides(node, ins) or before[0] is None:
        return None
    o = _settled(node, ins)[1]
    kernel = o["kernel"] if "kernel" in o else ins[1].shape[2:]
    spans = [effective_kernel(k, d) for k, d in zip(kernel, o["dilation"], strict=True)]
    reach = [(e, Fraction(s)) for e, s in zip(spans, o["stride"], strict=True)]
    if node.op_type == "ConvTranspose":
        reach = [(ceil_div(e, s), Fraction(1, s)) for e, s in zip(spans, o["stride"], strict=True)]
    return tuple(f.through(e, s, n) for f, (e, s), n in zip(before[0], reach, y.shape[2:], strict=True))


def _settled(node: Any, ins: list[Any]) -> tuple[str, dict[str, Any]]:
    """npconv's operator, and its keywords with the padding as pairs."""
    from ..integrations.onnx_operators import conv_options, pool_options, transpose_options

    attributes, x = _attributes(node), ins[0]
    if node.op_type in POOLS:
        op = POOLS[node.op_type]
        kernel, options = pool_options(attributes, x.shape)
        axes = read_pool(op, x.shape, kernel, with_pool_defaults(op, options)).axes
        options |= {"kernel": kernel, "padding": tuple((a.lo, a.hi) for a in axes)}
        if op == "avg_pool":
            options["count_include_pad"] = bool(attributes.get("count_include_pad") or 0)
        return op, options
    w = ins[1]
    if node.op_type == "Conv":
        options = conv_options(attributes, x.shape, w.shape)
        options["padding"] = read_conv("conv", x.shape, w.shape, with_defaults("conv", options)).geometry.padding
        return "conv", options
    options = transpose_options(attributes, x.shape, w.shape)
    pads = read_transpose("conv_transpose", x.shape, w.shape, options).geometry.padding
    more = options["output_padding"]
    return "conv_transpose", options | {"padding": tuple((lo, hi + m) for (lo, hi), m in zip(pads, more, strict=True))}


def _site(node: Any, ins: list[Any], y: Array) -> Site:
    op, options = _settled(node, ins)
    w = ins[1] if op.startswith("conv") else None
    bias = ins[2] if w is not None and len(ins) > 2 else None
    return Site(op, ins[0][0], y[0], w, bias, options)
