"""ONNX models on npconv: onnx's own stored models, what torch exports, what the rewriting may and may not change.

The oracle is the stored output, torch itself, or onnx's evaluator where that is right; onnxruntime is asked too where it
is installed, but nothing depends on it.
"""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the models are onnx's (the extra `test` installs it)")
from onnx import numpy_helper, parser  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from light_models import before_softmax  # noqa: E402
from npconv import MemoryLimitError  # noqa: E402
from npconv.integrations import onnx_runtime  # noqa: E402
from npconv.integrations.onnx_checks import ModelError  # noqa: E402

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
OURS = {
    "Conv",
    "ConvTranspose",
    "MaxPool",
    "AveragePool",
    "LpPool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GlobalLpPool",
}


def tensor(path: Path) -> np.ndarray:
    proto = onnx.TensorProto()
    proto.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(proto)


def listed(folder: Path, kind: str) -> list[np.ndarray]:
    return [tensor(folder / f"{kind}_{i}.pb") for i in range(len(list(folder.glob(f"{kind}_*.pb"))))]


def has_ours(path: Path) -> bool:
    return any(node.op_type in OURS for node in onnx.load(path).graph.node)


STORED = [
    data
    for kind in ("pytorch-converted", "pytorch-operator")
    for model in sorted((DATA / kind).glob("*/model.onnx"))
    if has_ours(model)
    for data in sorted(model.parent.glob("test_data_set_*"))
]
LIGHT = sorted((DATA / "light").glob("*.onnx"))


def test_none_is_missing():
    assert len(STORED) >= 46
    assert len(LIGHT) >= 9


def whose(model: onnx_runtime.Model) -> list[str]:
    """The package that runs each of the model's convolutions and pools."""
    names = {*OURS, "PlannedConv", "PlannedConvTranspose"}
    return [type(n).__module__.split(".")[0] for n in model._evaluator.rt_nodes_ if n.op_type in names]


@pytest.mark.parametrize("data", STORED, ids=lambda d: d.parent.name)
@pytest.mark.parametrize("intermediate", [False, True])
def test_stored_models(data, intermediate):
    model = onnx_runtime.load(data.parent / "model.onnx", intermediate=intermediate)
    assert set(whose(model)) == {"npconv"}
    found = model(*listed(data, "input"))
    expected = listed(data, "output")
    for ours, stored in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
        assert ours.dtype == stored.dtype
        np.testing.assert_allclose(ours, stored, rtol=1e-4, atol=1e-5)


LARGE = ("light_vgg19", "light_zfnet512", "light_bvlc_alexnet")  # hundreds of megabytes of weights


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=p.stem, marks=pytest.mark.long if p.stem in LARGE else ()) for p in LIGHT]
)
def test_light_models(path):
    """Full networks, whose weights the graph makes itself, with the input that onnx's own runner makes."""
    model = onnx_runtime.load(path)
    assert set(whose(model)) == {"npconv"}
    (value,) = model.inputs.values()
    size = np.prod(value.shape)
    x = (np.arange(size).reshape(value.shape) / size).astype(np.float32)
    y, stored = model(x), tensor(path.with_name(f"{path.stem}_output_0.pb"))
    if onnx.load(path).graph.node[-1].op_type != "Softmax":
        np.testing.assert_allclose(y, stored, rtol=1e-3, atol=1e-6)
        return
    np.testing.assert_allclose(y.sum(), 1, rtol=1e-5)
    given = onnx_runtime.load(before_softmax(path))(x)
    assert stored.min() > 0
    expected = np.log(stored) - np.log(stored).max()
    np.testing.assert_allclose(given - given.max(), expected, rtol=1e-3, atol=1e-6 * float(np.abs(given).max()))


def scale(y: np.ndarray) -> float:
    return max(float(np.abs(y).max()), 1e-30)


# --------------------------------------------------------------------------- models that torch exports
torch = pytest.importorskip("torch", reason="torch exports models (the extra `test` installs it)")


def small_resnet():
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            conv = lambda a, b, k, s: nn.Conv2d(a, b, k, s, k // 2, bias=False)  # noqa: E731
            self.body = nn.Sequential(
                conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs), nn.ReLU(),
                conv(outputs, outputs, 3, 1), nn.BatchNorm2d(outputs),
            )  # fmt: skip
            self.short = (
                nn.Identity()
                if stride == 1
                else nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
            )

        def forward(self, x):
            return torch.relu(self.body(x) + self.short(x))

    return nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1), Block(8, 8, 1),
        Block(8, 12, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5),
    )  # fmt: skip


def small_mobilenet():
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 24, 1, bias=False),
        nn.BatchNorm2d(24), nn.SiLU(), nn.Conv2d(24, 24, 3, 1, 1, groups=24, bias=False), nn.BatchNorm2d(24),
        nn.Hardswish(), nn.Conv2d(24, 10, 1), nn.LeakyReLU(0.1), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(640, 3),
    )  # fmt: skip


def small_unet():
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.down = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
            self.deep = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU())
            self.up = nn.Sequential(nn.ConvTranspose2d(8, 6, 2, 2), nn.BatchNorm2d(6))
            self.end = nn.Conv2d(12, 2, 1)

        def forward(self, x):
            a = self.down(x)
            b = self.up(self.deep(a))
            return torch.sigmoid(self.end(torch.cat([a, b], 1)))

    return Net()


def written(network, shape: tuple[int, ...], path: Path, dynamo: bool = False) -> torch.Tensor:
    """Write `network` as ONNX; an input for it."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            torch.onnx.export(network, (x,), str(path), dynamo=True, external_data=False, verbose=False)
        else:
            torch.onnx.export(network, (x,), str(path), dynamo=False, input_names=["x"], output_names=["y"])
    return x


def exported(network, shape: tuple[int, ...], path: Path, dynamo: bool = False) -> torch.Tensor:
    """The same with random statistics and weights."""
    torch.manual_seed(0)
    for name, a in network.state_dict().items():
        if a.is_floating_point():
            a.copy_(torch.rand_like(a) + 0.5 if name.endswith("running_var") else torch.randn_like(a) * 0.3)
    return written(network.eval(), shape, path, dynamo)


NETWORKS = {"resnet": small_resnet, "mobilenet": small_mobilenet, "unet": small_unet}


@pytest.mark.parametrize("dynamo", [False, pytest.param(True, marks=pytest.mark.long)], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_torch_exports(name, dynamo, tmp_path):
    if dynamo:
        pytest.importorskip("onnxscript", reason="torch's newer exporter needs it; the older one is tested without")
    network = NETWORKS[name]()
    x = exported(network, (2, 3, 32, 32), tmp_path / "m.onnx", dynamo)
    model = onnx_runtime.load(tmp_path / "m.onnx")
    with torch.no_grad():
        expected = network(x).numpy()
    found = model(x.numpy())
    assert np.abs(found - expected).max() <= 1e-4 * scale(expected)
    nodes = [node.op_type for node in model._evaluator.rt_nodes_]
    assert "BatchNormalization" not in nodes
    assert "Conv" not in nodes
    assert "PlannedConv" in nodes


def test_onnxruntime_agrees(tmp_path):
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is compared with where it is installed")
    for name, make in NETWORKS.items():
        x = exported(make(), (2, 3, 32, 32), tmp_path / f"{name}.onnx").numpy()
        theirs = ort.InferenceSession(tmp_path / f"{name}.onnx").run(None, {"x": x})[0]
        ours = onnx_runtime.load(tmp_path / f"{name}.onnx")(x)
        assert np.abs(ours - theirs).max() <= 1e-4 * scale(theirs), name


@pytest.mark.long
@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "unet"])
def test_full_size(name, dynamo, tmp_path):
    """The networks themselves at 224 x 224, against onnxruntime."""
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is compared with where it is installed")
    if dynamo:
        pytest.importorskip("onnxscript", reason="torch's newer exporter needs it; the older one is tested without")
    import torch_models as made

    path = tmp_path / "m.onnx"
    kinds = {
        "resnet18": lambda: made.ResNet((2, 2, 2, 2), deep=False),
        "mobilenet_v2": made.MobileNet,
        "unet": made.UNet,
    }
    x = written(made.checkpoint(kinds[name]()), (1, 3, 224, 224), path, dynamo).numpy()
    session = ort.InferenceSession(path)
    theirs = session.run(None, {session.get_inputs()[0].name: x})[0]
    model = onnx_runtime.load(path)
    assert set(whose(model)) == {"npconv"}
    assert np.abs(model(x) - theirs).max() <= 1e-4 * scale(theirs)


# --------------------------------------------------------------------------- what the rewriting does
def parsed(
    body: str, inputs: str = "float[1, 2, 6, 6] x", opset: int = 17, output: str = "float[N, C, H, W] y", **weights
):
    """A model from onnx's text form, and initializers."""
    text = f'<ir_version: 8, opset_import: ["": {opset}]>\nf ({inputs}) => ({output}) {{ {body} }}'
    model = parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items())
    return model


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def statistics(channels: int) -> dict[str, np.ndarray]:
    return {
        "s": drawn(channels),
        "t": drawn(channels, seed=1),
        "m": drawn(channels, seed=2),
        "v": drawn(channels) ** 2 + 1,
    }


W = drawn(4, 2, 3, 3)
FUSED = {
    "relu": ("c = Conv(x, w) y = Relu(c)", ["PlannedConv"]),
    "norm": ("c = Conv(x, w, b) y = BatchNormalization(c, s, t, m, v)", ["PlannedConv"]),
    "norm relu": ("c = Conv(x, w) n = BatchNormalization(c, s, t, m, v) y = Relu(n)", ["PlannedConv"]),
    "scale": ("c = Conv(x, w) n = Mul(c, k) p = Add(n, k) y = Tanh(p)", ["PlannedConv"]),
    "two norms": (
        "c = Conv(x, w) n = BatchNormalization(c, s, t, m, v) y = BatchNormalization(n, t, s, m, v)",
        ["PlannedConv"],
    ),
    "silu": ("c = Conv(x, w) a = Sigmoid(c) y = Mul(a, c)", ["PlannedConv"]),
    "leaky": ("c = Conv(x, w) y = LeakyRelu <alpha = 0.3> (c)", ["PlannedConv"]),
    "relu6": ("c = Conv(x, w) y = Clip(c, low, high)", ["PlannedConv"]),
    "clip": ("c = Conv(x, w) y = Clip(c, low, one)", ["PlannedConv", "Clip"]),
    "dropout": ("c = Conv(x, w) d = Dropout(c) y = Relu(d)", ["PlannedConv"]),
    "norm alone": (
        "c = MaxPool <kernel_shape = [2, 2]> (x) n = BatchNormalization(c, s2, t2, m2, v2) y = Relu(n)",
        ["MaxPool", "ScaleShift"],
    ),
    "read twice": ("c = Conv(x, w) r = Relu(c) y = Add(c, r)", ["PlannedConv", "Relu", "Add"]),
    "norm read twice": (
        "c = Conv(x, w) n = BatchNormalization(c, s, t, m, v) y = Mul(c, n)",
        ["PlannedConv", "ScaleShift", "Mul"],
    ),
    "not by channel": ("c = Conv(x, w) y = Mul(c, row)", ["PlannedConv", "Mul"]),
    "transpose": (
        "c = ConvTranspose <group = 2, strides = [2, 2]> (x, wt, b) n = BatchNormalization(c, s, t, m, v) y = Relu(n)",
        ["PlannedConvTranspose"],
    ),
}  # fmt: skip
WEIGHTS = {
    "w": W, "b": drawn(4, seed=3), **statistics(4), **{f"{n}2": a for n, a in statistics(2).items()},
    "k": drawn(4, 1, 1), "row": drawn(1, 1, 1, 4), "wt": drawn(2, 2, 3, 3), "low": np.float32(0), "high": np.float32(6),
    "one": np.float32(1),
}  # fmt: skip


@pytest.mark.parametrize("case", FUSED)
def test_fusing_keeps_the_numbers(case):
    body, nodes = FUSED[case]
    used = {
        name: a
        for name, a in WEIGHTS.items()
        if name in body.replace("(", " ").replace(")", " ").replace(",", " ").split()
    }
    proto = parsed(body, **used)
    x = 3 * drawn(1, 2, 6, 6, seed=9)
    model, plain = onnx_runtime.load(proto), onnx_runtime.load(proto, intermediate=True)
    assert [node.op_type for node in model._evaluator.rt_nodes_] == nodes
    assert len(plain._evaluator.rt_nodes_) == len(proto.graph.node)
    expected = plain.run({"x": x})["y"]
    if case != "transpose":  # where onnx's evaluator is wrong for groups
        np.testing.assert_allclose(ReferenceEvaluator(proto).run(None, {"x": x})[0], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-5)


def test_a_value_that_the_caller_reads_is_not_fused_away():
    proto = parsed("c = Conv(x, w) y = Relu(c)", output="float[N, C, H, W] c, float[N, C, H, W] y", w=W)
    c, y = onnx_runtime.load(proto)(drawn(1, 2, 6, 6))
    assert c.min() < 0
    assert np.array_equal(np.maximum(c, 0), y)


def test_the_rewriting_leaves_the_given_model_as_it_was():
    proto = parsed("d = Identity(x) c = Conv(d, w) y = Relu(c)", w=W)
    before = proto.SerializeToString()
    onnx_runtime.load(proto)(drawn(1, 2, 6, 6))
    assert proto.SerializeToString() == before


def test_names_that_the_rewriting_would_choose_are_taken():
    body = FUSED["norm relu"][0].replace("n =", "npc =").replace("(n)", "(npc)")
    used = {"w": W, **statistics(4)}
    proto = parsed(body, **used)
    for i in range(40):
        proto.graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.float32), f"npconv.{i}"))
    x = drawn(1, 2, 6, 6)
    np.testing.assert_allclose(onnx_runtime.load(proto)(x), ReferenceEvaluator(proto).run(None, {"x": x})[0], atol=1e-5)


def test_weights_that_the_caller_gives():
    """They may change from call to call, in place too, so nothing of them is kept."""
    proto = parsed("y = Conv(x, w)", inputs="float[1, 2, 6, 6] x, float[4, 2, 3, 3] w")
    model, x, w = onnx_runtime.load(proto), drawn(1, 2, 6, 6), W.copy()
    first = model(x, w)
    w *= 2
    np.testing.assert_allclose(model(x, w), 2 * first, rtol=1e-6)


@pytest.mark.parametrize("opset", [7, 9, 13, 15])
def test_batch_normalization_is_that_of_inference_in_every_operator_set(opset):
    """onnx 1.23's evaluator takes the statistics of the batch in sets 9 to 13."""
    numbers, x = statistics(2), drawn(3, 2, 6, 6)
    proto = parsed("y = BatchNormalization(x, s, t, m, v)", "float[3, 2, 6, 6] x", opset, **numbers)
    s, t, m, v = (a.reshape(-1, 1, 1).astype(np.float64) for a in numbers.values())
    for intermediate in (False, True):
        found = onnx_runtime.load(proto, intermediate=intermediate).run({"x": x})["y"]
        np.testing.assert_allclose(found, (x - m) / np.sqrt(v + 1e-5) * s + t, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("opset", "axis"), [(9, ""), (12, "<axis = 2>"), (13, ""), (13, "<axis = 1>")])
def test_softmax_has_the_meaning_of_its_operator_set(opset, axis):
    x = drawn(2, 3, 4, 5).astype(np.float64)
    proto = parsed(f"y = Softmax {axis} (x)", "double[2, 3, 4, 5] x", opset, output="double[2, 3, 4, 5] y")
    axes = {(9, ""): (1, 2, 3), (12, "<axis = 2>"): (2, 3), (13, ""): 3, (13, "<axis = 1>"): 1}[opset, axis]
    powers = np.exp(x)
    np.testing.assert_allclose(onnx_runtime.load(proto)(x), powers / powers.sum(axes, keepdims=True), rtol=1e-12)


def test_pools_and_what_they_return():
    proto = parsed(
        "y, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) "
        "z = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (y, i)",
        output="float[N, C, H, W] y, int64[N, C, H, W] i, float[N, C, H, W] z",
    )
    x = drawn(1, 2, 6, 6)
    for ours, theirs in zip(onnx_runtime.load(proto)(x), ReferenceEvaluator(proto).run(None, {"x": x}), strict=True):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)


def test_a_graph_inside_a_node_uses_our_operators_and_outer_names():
    text = """<ir_version: 8, opset_import: ["": 17]>
    f (bool b, float[1, 2, 6, 6] x, float[4, 2, 3, 3] w) => (float[N, C, H, W] y) {
        c = Conv(x, w)
        y = If (b) <then_branch = g1 () => (float[N, C, H, W] p) { p = Relu(c) },
                    else_branch = g2 () => (float[N, C, H, W] q) { q = Conv(x, w) }>
    }"""
    proto, x = parser.parse_model(text), drawn(1, 2, 6, 6)
    model = onnx_runtime.load(proto)
    for flag in (True, False):
        feeds = {"b": np.array(flag), "x": x, "w": W}
        theirs = ReferenceEvaluator(proto).run(None, feeds)[0]
        np.testing.assert_allclose(model.run(feeds)["y"], theirs, rtol=1e-5, atol=1e-5)


def test_functions_are_inlined():
    text = """<ir_version: 8, opset_import: ["": 17, "local": 1]>
    f (float[1, 2, 6, 6] x) => (float[N, C, H, W] y) <float[1, 2, 1, 1] w = {2.0, 3.0}> { y = local.block(x, w) }
    <domain: "local", opset_import: ["": 17]>
    block (a, k) => (r) { c = Conv(a, k)  r = Relu(c) }"""
    proto, x = parser.parse_model(text), drawn(1, 2, 6, 6)
    model = onnx_runtime.load(proto)
    assert [node.op_type for node in model._evaluator.rt_nodes_] == ["PlannedConv"]
    np.testing.assert_allclose(model(x), np.maximum(2 * x[:, :1] + 3 * x[:, 1:], 0), rtol=1e-6)


def test_every_activation_is_returned_on_demand():
    proto = parsed("c = Conv(x, w) y = Relu(c)", w=W)
    found = onnx_runtime.load(proto, intermediate=True).run({"x": drawn(1, 2, 6, 6)})
    assert set(found) == {"x", "c", "y"}
    assert np.array_equal(np.maximum(found["c"], 0), found["y"])


def test_shapes_may_be_open():
    proto = parsed("c = Conv(x, w) y = Relu(c)", "float[N, 2, H, W] x", w=W)
    model = onnx_runtime.load(proto)
    assert model.inputs["x"].shape == ("N", 2, "H", "W")
    assert model.inputs["x"].dtype == np.float32
    for shape in ((1, 2, 6, 6), (3, 2, 8, 5), (1, 2, 6, 6)):
        x = drawn(*shape)
        theirs = ReferenceEvaluator(proto).run(None, {"x": x})[0]
        np.testing.assert_allclose(model(x), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "'x' is missing"),
        ({"x": drawn(1, 2, 6, 6), "z": drawn(1)}, "not 'z'"),
        ({"x": drawn(1, 3, 6, 6)}, r"has shape \(1, 3, 6, 6\), the model takes \('N', 2"),
        ({"x": drawn(2, 6, 6)}, r"has shape \(2, 6, 6\)"),
        ({"x": drawn(1, 2, 6, 6).astype(float)}, "has dtype float64, the model takes float32"),
        ({"x": drawn(1, 2, 2, 2)}, "PlannedConv 'y'"),
    ],
)
def test_what_a_caller_gives_is_checked(feeds, message):
    model = onnx_runtime.load(parsed("c = Conv(x, w) y = Relu(c)", "float[N, 2, H, W] x", w=W))
    with pytest.raises(ModelError, match=message):
        model.run(feeds)


def test_the_number_of_inputs_is_checked():
    model = onnx_runtime.load(parsed("y = Conv(x, w)", w=W))
    with pytest.raises(TypeError, match="takes 1 inputs"):
        model()


def test_memory_is_planned_for_the_shapes_that_come():
    model = onnx_runtime.load(parsed("c = Conv(x, w) y = Relu(c)", "float[N, 2, H, W] x", w=W), max_memory=100_000)
    model(drawn(1, 2, 6, 6))
    with pytest.raises(MemoryLimitError, match="the limit is 100000 bytes"):
        model(np.broadcast_to(np.float32(0), (1, 2, 3000, 3000)))


def test_dead_values_are_freed():
    """Twenty sums of 4 MB each in 17 MB: x, what a node reads, and what it writes."""
    body = " ".join(f"v{i} = Add(v{i - 1}, x)" for i in range(1, 20)).replace("v0", "x").replace("v19", "y")
    proto = parsed(body, "float[1, 1, 1024, 1024] x")
    x = np.ones((1, 1, 1024, 1024), np.float32)
    assert onnx_runtime.load(proto, max_memory=17 << 20)(x).max() == 20
    with pytest.raises(MemoryLimitError):
        onnx_runtime.load(proto, max_memory=9 << 20)


def test_a_model_may_be_shared_by_threads(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    exported(small_resnet(), (1, 3, 32, 32), tmp_path / "m.onnx")
    model = onnx_runtime.load(tmp_path / "m.onnx")
    xs = [drawn(1, 3, 32, 32, seed=i) for i in range(8)]
    alone = [model(x) for x in xs]
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(a, b) for a, b in zip(alone, pool.map(model, xs), strict=True))


def test_external_data(tmp_path):
    proto = parsed("c = Conv(x, w) y = Relu(c)", w=drawn(4, 2, 3, 3))
    plain, x = onnx_runtime.load(proto), drawn(1, 2, 6, 6)
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    assert os.path.getsize(tmp_path / "m.bin") == 288
    with pytest.raises(ModelError, match=r"1 tensors \(w \.\.\.\) are kept in other files; external_data=True"):
        onnx_runtime.load(tmp_path / "m.onnx")
    assert np.array_equal(onnx_runtime.load(tmp_path / "m.onnx", external_data=True)(x), plain(x))
