"""What an ONNX model means, corner by corner, against onnxruntime: fused and node by node."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the models are onnx's (the extra `test` installs it)")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is what is compared with (the extra `test` installs it)")
from onnx import helper, numpy_helper  # noqa: E402

from npconv.integrations import onnx_runtime  # noqa: E402
from npconv.integrations.onnx_checks import ModelError  # noqa: E402

#: Of the output's scale; float16 has 11 bits.
TOLERANCE = {"float16": 3e-3, "float32": 1e-5, "uint8": 0, "int8": 0, "int32": 0}
RNG = np.random.default_rng(0)


def drawn(*shape: int, dtype: str = "float32") -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def whole(*shape: int, dtype: str = "uint8") -> np.ndarray:
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def model(nodes: list, x: np.ndarray, weights: dict, opset: int, outputs: dict, open_shape: bool = False):
    kind = {name: helper.np_dtype_to_tensor_dtype(np.dtype(dtype)) for name, dtype in outputs.items()}
    shape = [None] * x.ndim if open_shape else x.shape
    ends = [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), shape)]
    stored = [numpy_helper.from_array(np.asarray(a), name) for name, a in weights.items()]
    given = [helper.make_tensor_value_info(name, k, None) for name, k in kind.items()]
    graph = helper.make_graph(nodes, "g", ends, given, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def compare(proto, x: np.ndarray) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    theirs = ort.InferenceSession(proto.SerializeToString(), options).run(None, {"x": x})
    for intermediate in (False, True):
        found = onnx_runtime.load(proto, intermediate=intermediate).run({"x": x})
        for value, expected in zip(proto.graph.output, theirs, strict=True):
            ours = found[value.name]
            assert (ours.dtype, ours.shape) == (expected.dtype, expected.shape)
            difference = np.abs(ours.astype(float) - expected).max(initial=0)
            limit = TOLERANCE.get(x.dtype.name, 0) if ours.dtype.kind == "f" else 0
            assert difference <= limit * np.abs(expected.astype(float)).max(initial=1e-30), (
                f"intermediate={intermediate}"
            )


def node(op: str, inputs: str = "x", outputs: str = "y", **attributes: object):
    return helper.make_node(op, inputs.split(" "), outputs.split(" "), **attributes)


X, W, B, WT = drawn(2, 4, 9, 8), drawn(6, 4, 3, 3), drawn(6), drawn(4, 6, 3, 3)
CHANNEL = {"s": drawn(6), "t": drawn(6), "m": drawn(6), "v": drawn(6) ** 2 + 1}
CASES: dict[str, tuple] = {}


def case(name: str, nodes: list, x: np.ndarray = X, opset: int = 20, outputs: dict | None = None, **weights: object):
    assert name not in CASES
    CASES[name] = nodes, x, weights, opset, outputs or {"y": x.dtype}


for auto in ("SAME_LOWER", "SAME_UPPER", "VALID"):
    for s in (1, 2, 3):
        how = {"auto_pad": auto, "strides": [s, s]}
        case(f"conv {auto} {s}", [node("Conv", "x w b", **how)], w=W, b=B)
        case(f"transpose {auto} {s}", [node("ConvTranspose", "x w", **how)], w=WT)
        case(f"max {auto} {s}", [node("MaxPool", kernel_shape=[3, 2], **how)])
        case(f"mean {auto} {s}", [node("AveragePool", kernel_shape=[3, 2], **how)])
    for s, more in ((2, [1, 0]), (3, [1, 2])):
        how = {"auto_pad": auto, "strides": [s, s], "output_padding": more}
        case(f"transpose {auto} {s} and {more}", [node("ConvTranspose", "x w", **how)], w=WT)
for pads in ([0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]):
    for k, s in ((3, 2), (2, 3)):
        how = {"kernel_shape": [k, k], "strides": [s, s], "pads": pads, "ceil_mode": 1}
        for counted in (0, 1):
            case(f"mean ceil {pads} {k} {counted}", [node("AveragePool", count_include_pad=counted, **how)], opset=22)
        case(f"max ceil {pads} {k}", [node("MaxPool", **how)])
        case(f"norm ceil {pads} {k}", [node("LpPool", p=3, **how)])
for order in (0, 1):
    nodes = [node("MaxPool", "x", "y i", kernel_shape=[3, 2], pads=[1, 0, 1, 1], strides=[2, 2], storage_order=order)]
    case(f"indices {order}", nodes, outputs={"y": "float32", "i": "int64"})
for shape in ([18, 16], [19, 18], [11, 10], [8, 7]):
    case(f"output_shape {shape}", [node("ConvTranspose", "x w b", strides=[2, 2], output_shape=shape)], w=WT, b=B)
for opset in range(7, 23):
    nodes = [
        node("Conv", "x w b", "c", pads=[1] * 4), node("BatchNormalization", "c s t m v", "n"), node("Relu", "n", "r"),
        node("MaxPool", "r", "p", kernel_shape=[2, 2]), node("AveragePool", "p", "q", kernel_shape=[2, 2]),
        node("GlobalAveragePool", "q"),
    ]  # fmt: skip
    case(f"opset {opset}", nodes, opset=opset, w=W, b=B, **CHANNEL)
then = [node("Conv", "x w", "c")]
case("asymmetric", [node("Conv", "x w", pads=[0, 1, 2, 3], strides=[2, 1])], w=W)
case("no bias", [node("Conv", "x w ")], w=W)
for size in (1, 5, 19):
    case(f"neighbours {size}", [node("LRN", size=size, alpha=0.7, beta=0.6, bias=1.5)], drawn(2, 7, 4, 3))
case("line", [node("Conv", "x w", pads=[1, 2], strides=[2], group=2)], drawn(2, 4, 11), w=drawn(6, 2, 3))
case("space", [node("Conv", "x w", pads=[1] * 6)], drawn(1, 2, 5, 6, 7), w=drawn(3, 2, 3, 3, 3))
case("space back", [node("ConvTranspose", "x w", strides=[2] * 3)], drawn(1, 2, 3, 4, 3), w=drawn(2, 3, 3, 3, 3))
case("groups back", [node("ConvTranspose", "x w b", group=2, strides=[2, 2], pads=[1, 0, 1, 2], output_padding=[1, 0])],
     w=drawn(4, 3, 3, 3), b=B)  # fmt: skip
case("weights used twice", [node("Conv", "x w", "c", pads=[1] * 4), node("Mul", "c k", "r"), node("Conv", "r w")],
     w=drawn(4, 4, 3, 3), k=drawn(4, 1, 1))  # fmt: skip
case("weights computed", [node("Transpose", "w", "t", perm=[1, 0, 2, 3]), node("Conv", "x t")], w=WT)
case("weights from x", [node("Transpose", "x", "t", perm=[1, 0, 3, 2]), node("Slice", "t a e d", "k"), node("Conv", "x k")],
     drawn(4, 4, 9, 8), a=np.array([0, 0]), e=np.array([3, 2]), d=np.array([2, 3]))  # fmt: skip
case("relu read twice", [*then, node("Relu", "c", "r"), node("Add", "r r")], w=W)
case("swish read twice", [*then, node("Sigmoid", "c", "g"), node("Mul", "c g", "m"), node("Add", "m g")], w=W)
case("slope 0", [*then, node("LeakyRelu", "c", alpha=0.0)], w=W)
case("slope", [*then, node("LeakyRelu", "c")], w=W)
case("clip below", [*then, node("Clip", "c l")], w=W, l=np.float32(0))
case("clip above", [*then, node("Clip", "c  h")], w=W, h=np.float32(6))
case("clip of old", [*then, node("Clip", "c", min=0.0, max=6.0)], opset=10, w=W)
case("gelu", [*then, node("Gelu", "c")], w=W)
case("no variance", [*then, node("BatchNormalization", "c s t m v")], w=W, **{**CHANNEL, "v": np.zeros(6, "float32")})
case("by the last axis", [*then, node("Mul", "c k")], w=W, k=drawn(6))
case("wider than the sum", [*then, node("Add", "c k")], w=W, k=drawn(1, 1, 6, 1, 1))
case("more channels", [*then, node("Add", "c k")], w=drawn(1, 4, 3, 3), k=drawn(5, 1, 1))
case("no picture", [*then, node("Relu", "c")], np.zeros((0, 4, 9, 8), "float32"), w=W)
case("half", [*then, node("Relu", "c")], X.astype("float16"), w=W.astype("float16"))
case("half, means in single", [node("BatchNormalization", "x s t m v", "n"), node("Relu", "n")], drawn(2, 6, 4, 4, dtype="float16"),
     **CHANNEL)  # fmt: skip
byte, signed = whole(2, 4, 9, 8), whole(6, 4, 3, 3, dtype="int8")
case("integers", [node("ConvInteger", "x w z", pads=[1] * 4)], byte, 13, {"y": "int32"}, w=signed, z=np.uint8(7))
scales = {"xs": np.float32(0.02), "xz": np.uint8(120), "ys": np.float32(1.7), "yz": np.uint8(100)}
scales |= {"ws": np.float32(0.03), "wz": np.int8(0), "b": whole(6, dtype="int16").astype(np.int32)}
case(
    "quantized",
    [node("QLinearConv", "x xs xz w ws wz ys yz b", strides=[2, 1], pads=[1, 0, 2, 1])],
    byte,
    13,
    w=signed,
    **scales,
)
each = {"ws": np.abs(drawn(6)) / 9, "wz": np.zeros(6, "int8")}
case(
    "quantized per channel", [node("QLinearConv", "x xs xz w ws wz ys yz b")], byte, 13, w=signed, **{**scales, **each}
)
nodes = [node("DequantizeLinear", "w ws wz", "k", axis=0), node("Conv", "x k")]
case("weights in bytes", nodes, X, 21, w=signed, **each)


@pytest.mark.parametrize("name", CASES)
def test_as_onnxruntime(name):
    nodes, x, weights, opset, outputs = CASES[name]
    compare(model(nodes, x, weights, opset, outputs, open_shape=name.startswith("opset")), x)


def test_weights_in_bytes_are_planned():
    nodes, x, weights, opset, outputs = CASES["weights in bytes"]
    loaded = onnx_runtime.load(model(nodes, x, weights, opset, outputs))
    assert [n.op_type for n in loaded._evaluator.rt_nodes_] == ["PlannedConv"]


def test_nan_is_not_hidden():
    """Where onnxruntime's max pool drops NaN, the maximum of NaN and a number is NaN here, as in NumPy and torch."""
    x = X.copy()
    x[0, 0, 0, 0] = np.nan
    y = onnx_runtime.load(model([node("MaxPool", kernel_shape=[2, 2])], x, {}, 17, {"y": "float32"}))(x)
    assert np.isnan(y[0, 0, 0, 0])
    assert np.isnan(y).sum() == 1


def test_double_precision():
    """onnxruntime has no convolution of float64. Without a variance, all digits of the default epsilon count."""
    x, w = X.astype(float), W.astype(float)
    nodes = [*then, node("BatchNormalization", "c s t m v")]
    given = {"w": w, **{name: a.astype(float) for name, a in CHANNEL.items()}, "v": np.zeros(6)}
    y = onnx_runtime.load(model(nodes, x, given, 17, {"y": "float64"}))(x)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
    s, t, m, v = (given[name].reshape(-1, 1, 1) for name in "stmv")
    expected = (np.einsum("ncyxij,ocij->noyx", windows, w) - m) / np.sqrt(v + float(np.float32(1e-5))) * s + t
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("nodes", "x", "weights", "message"),
    [
        ([node("BatchNormalization", "x s t m v", training_mode=1)], drawn(2, 6, 4, 4), CHANNEL, "training mode"),
        ([node("ConvInteger", "x w z")], byte, {"w": signed, "z": np.zeros(4, "uint8")}, "only one number"),
        ([node("QLinearConv", "x xs xz w ws wz ys yz")], byte, {"w": signed, **scales, "ws": np.ones(4, "float32")}, "w_scale has"),
    ],
)  # fmt: skip
def test_what_is_not_supported_says_so(nodes, x, weights, message):
    kept = {name: a for name, a in weights.items() if any(name in n.input for n in nodes)}
    with pytest.raises(ModelError, match=message):
        onnx_runtime.load(model(nodes, x, kept, 15, {"y": x.dtype}))(x)
