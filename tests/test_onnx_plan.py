"""ONNX graphs that run as plans of `npconv.nn`: the same numbers as node by node, whatever reads what."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the models are onnx's (the extra `test` installs it)")
from onnx import numpy_helper  # noqa: E402

from drawn_graphs import drawn  # noqa: E402
from light_models import before_softmax  # noqa: E402
from npconv import nn  # noqa: E402
from npconv.integrations import onnx_export, onnx_runtime, onnx_shapes  # noqa: E402
from npconv.integrations.onnx_plan import Reader  # noqa: E402
from npconv.nn import models  # noqa: E402

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
OURS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")
STORED = [
    path
    for kind in ("pytorch-converted", "pytorch-operator")
    for path in sorted((DATA / kind).glob("*/model.onnx"))
    if any(node.op_type in OURS for node in onnx.load(path).graph.node)
]
LIGHT = {path.stem.removeprefix("light_"): path for path in sorted((DATA / "light").glob("*.onnx"))}
SLOW = ("vgg19", "zfnet512", "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2")
#: Of the output's scale.
TOLERANCE = {"float32": 1e-4, "float64": 1e-11}


def by_node(model, x):
    """What the model gives without a plan."""
    (name,) = model.inputs
    return model._evaluator.run(None, {name: x})[0]


def close(y, expected):
    assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
    scale = max(float(np.abs(expected).max(initial=0)), 1e-30)
    assert np.abs(y - expected).max(initial=0) <= TOLERANCE[y.dtype.name] * scale


def image(*shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# --------------------------------------------------------------------------- models that there are
def test_none_is_missing():
    assert len(STORED) >= 46
    assert len(LIGHT) >= 9


@pytest.mark.parametrize("path", STORED, ids=lambda p: p.parent.name)
def test_stored_models(path):
    """Each is one operator, which runs on its own; as a layer it gives the same."""
    model = onnx_runtime.load(path)
    ((name, value),) = model.inputs.items()
    assert model.plan(value.shape) is None
    found = Reader(model._evaluator, value, value.shape).plan()
    for seed in range(2):
        x = image(*value.shape, dtype=value.dtype, seed=seed)
        close(found(x), model.run({name: x})[model.outputs[0]])


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.long if n in SLOW else ()) for n in LIGHT])
def test_light_models(name):
    model = onnx_runtime.load(before_softmax(LIGHT[name]))
    ((key, value),) = model.inputs.items()
    x = image(*value.shape)
    assert model.plan(value.shape) is not None
    close(model.run({key: x})[model.outputs[0]], by_node(model, x))


NETWORKS = {
    "lenet5": (1, 28, 28),
    "resnet18": (3, 40, 40),
    "mobilenet_v2": (3, 40, 33),
    "googlenet": (3, 48, 48),
    "densenet121": (3, 32, 32),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_any_batch(name):
    net = getattr(models, name)(7, rng=0)
    rng = np.random.default_rng(1)
    for path, a in net.weights().items():
        if path.endswith("running_var"):
            a[...] = rng.uniform(0.5, 2, a.shape)
    model = onnx_runtime.load(onnx_export.export(net, (None, *NETWORKS[name])))
    for batch in (1, 3, 1):
        x = image(batch, *NETWORKS[name], seed=batch)
        more = name != "lenet5"  # a global mean and its flattening are two nodes
        assert len(model.plan(x.shape).steps) == len(net.plan(x.shape).steps) + more
        close(model(x), by_node(model, x))


# --------------------------------------------------------------------------- graphs drawn at random
def compare(seed: int, theirs) -> None:
    """A drawn model for two batches, the second time each on the memory of the first."""
    proto, shape, dtype = drawn(seed)
    model, expected = onnx_runtime.load(proto), theirs(proto)
    for batch in (1, 3):
        x = image(batch, *shape[1:], dtype=dtype, seed=seed)
        before = x.copy()
        assert model.plan(x.shape) is not None
        for _ in range(2):
            close(model(x), expected(x))
        assert np.array_equal(x, before)


@pytest.mark.parametrize("seeds", [range(i, i + 15) for i in range(0, 60, 15)], ids=str)
def test_drawn_graphs(seeds):
    """Beside the graph as the file has it, nothing fused."""
    for seed in seeds:
        compare(seed, lambda proto: onnx_runtime.load(proto, intermediate=True))


@pytest.mark.long
@pytest.mark.parametrize("seeds", [range(i, i + 50) for i in range(1000, 2000, 50)], ids=str)
def test_many_drawn_graphs(seeds):
    for seed in seeds:
        compare(seed, lambda proto: onnx_runtime.load(proto, intermediate=True))


def test_drawn_graphs_beside_onnxruntime():
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is compared with where it is installed")

    def session(proto):
        found = ort.InferenceSession(proto.SerializeToString())
        return lambda x: found.run(None, {"x": x})[0]

    for seed in range(100, 130, 2):  # it has no convolution of float64
        compare(seed, session)


# --------------------------------------------------------------------------- graphs that are no trees
def parsed(body: str, shape: str = "N, 2, 6, 5", output: str = "float[A, B, C, D] y", **weights):
    text = f'<ir_version: 8, opset_import: ["": 20]>\nf (float[{shape}] x) => ({output}) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), name) for name, a in weights.items())
    return proto


W = {
    "w": image(2, 2, 3, 3, seed=5) / 4,
    "v": image(2, 2, 1, 1, seed=6),
    "k": image(2, 1, 1, seed=7),
    "same": np.zeros(4, int),
}
CONV = "<pads = [1, 1, 1, 1]>"
GRAPHS = {
    "several readers": f"a = Conv {CONV} (x, w) b = Relu(a) c = Conv {CONV} (a, w) d = Add(b, c) y = Concat <axis = 1> (a, d, a)",
    "output read by others": f"y = Conv {CONV} (x, w) a = Relu(y) b = Conv {CONV} (a, w) c = Add(y, b) d = Conv(c, v)",
    "a sum read by others": f"a = Conv {CONV} (x, w) b = Conv {CONV} (a, w) y = Add(a, b) c = Conv(y, v) d = Add(y, c)",
    "twice in a sum": f"a = Conv {CONV} (x, w) b = Add(a, a) c = Conv {CONV} (b, w) y = Sum(c, b, c)",
    "twice in channels": f"a = Concat <axis = 1> (x, x, x) b = Conv {CONV} (x, w) c = Conv(b, v) y = Concat <axis = -3> (c, a)",
    "input in a sum": f"a = Conv {CONV} (x, w) b = Add(x, a) c = Conv(b, v) d = Relu(x) y = Add(c, d)",
    "two sums of one": f"a = Conv {CONV} (x, w) z = Conv(x, v) p = Add(a, z) c = Conv {CONV} (p, w) y = Add(a, c)",
    "a sum later": f"a = Conv {CONV} (x, w) c = Conv {CONV} (a, w) b = Conv(c, v) s = Add(a, c) r = Relu(s) y = Add(r, b)",
    "sums in a row": f"a = Conv {CONV} (x, w) b = Conv(a, v) c = Add(a, b) d = Conv(c, v) e = Add(c, d) y = Tanh(e)",
    "scale read twice": f"a = Conv {CONV} (x, w) b = Mul(x, k) i = Reshape(b, same) c = Add(i, k) d = Conv(c, v) y = Sum(a, b, d)",
    "no way from here": f"a = Conv {CONV} (x, w) d = Conv(a, v) y = Identity(a)",
}  # fmt: skip


@pytest.mark.parametrize("body", GRAPHS.values(), ids=GRAPHS)
def test_graphs(body):
    proto = parsed(body, **{name: a for name, a in W.items() if f"{name})" in body})
    model, plain = onnx_runtime.load(proto), onnx_runtime.load(proto, intermediate=True)
    for batch in (1, 3):
        x = image(batch, 2, 6, 5, seed=batch)
        assert model.plan(x.shape) is not None
        for _ in range(3):
            close(model(x), plain.run({"x": x})["y"])


@pytest.mark.parametrize("seed", range(8))
def test_what_is_not_finite_stays_where_it_was(seed):
    proto, shape, dtype = drawn(2000 + seed)
    model = onnx_runtime.load(proto)
    for value in (np.nan, np.inf, -np.inf):
        x = image(*shape, dtype=dtype, seed=seed)
        x[0, 0, 2, 3] = value
        with np.errstate(all="ignore"):
            y, expected = model(x), by_node(model, x)
        for same in (np.isnan, np.isposinf, np.isneginf):
            assert np.array_equal(same(y), same(expected))
        close(np.where(np.isfinite(y), y, 0), np.where(np.isfinite(expected), expected, 0))


# --------------------------------------------------------------------------- when, and when not
NODE_BY_NODE = {
    "two outputs": (f"a = Conv {CONV} (x, w) y = Conv {CONV} (a, w)", {"output": "float[A, B, C, D] a, float[A, B, C, D] y"}),
    "weights from x": ("t = Conv(x, v) y = Conv(t, x)", {"shape": "2, 2, 6, 5"}),
    "where the largest are": ("a = Conv(x, v) m, i = MaxPool <kernel_shape = [2, 2]> (a) f = Cast <to = 1> (i) y = Add(m, f)", {}),
    "other values": ("a = Conv(x, v) b = Conv(a, v) s = NonZero(b) y = Cast <to = 1> (s)", {"output": "float[A, B] y"}),
    "one convolution": ("a = Conv(x, v) y = Relu(a)", {}),
    "nothing to compute": ("a = Conv(x, v) y = Conv(a, v)", {"shape": "0, 2, 6, 5"}),
}  # fmt: skip


@pytest.mark.parametrize("case", NODE_BY_NODE)
def test_what_runs_node_by_node(case):
    body, options = NODE_BY_NODE[case]
    proto = parsed(body, **options, **{name: a for name, a in W.items() if f"{name})" in body})
    shape = (0 if case == "nothing to compute" else 2, 2, 6, 5)
    model, x = onnx_runtime.load(proto), image(*shape)
    assert model.plan(shape) is None
    close(model.run({"x": x})["y"], onnx_runtime.load(proto, intermediate=True).run({"x": x})["y"])


def test_the_slow_form_has_no_plan():
    model = onnx_runtime.load(parsed("a = Conv(x, v) y = Conv(a, v)", v=W["v"]), intermediate=True)
    assert model.plan((1, 2, 6, 5)) is None


def test_a_node_that_gives_another_shape_than_told(monkeypatch):
    """Then the plan is dropped, and the nodes run one by one."""
    wrong = lambda attributes, ins, node: [onnx_shapes.Spec((*ins[0].shape[:-1], 1), ins[0].dtype)]  # noqa: E731
    monkeypatch.setitem(onnx_shapes.RULES, "Elu", wrong)
    model = onnx_runtime.load(parsed("a = Conv(x, v) b = Conv(a, v) y = Elu(b)", v=W["v"]))
    x = image(1, 2, 6, 5)
    assert model.plan(x.shape) is not None
    for _ in range(2):
        assert model(x).shape == x.shape
        assert model.plan(x.shape) is None


def test_plans_are_few():
    """They hold memory and weights: as many as the limit has room for, and not over `MOST_PLANS`."""
    proto = parsed("a = Conv(x, v) y = Conv(a, v)", "N, 2, H, W", v=W["v"])
    model = onnx_runtime.load(proto)
    for n in range(2, 30):
        model(image(1, 2, n, 5))
        assert len(model._plans) <= onnx_runtime.MOST_PLANS
    small = onnx_runtime.load(proto, max_memory=400_000)
    for n in range(100, 104):
        x = image(1, 2, n, 100)
        close(small(x), model(x))
        assert len(small._plans) <= 2
        assert small.plan(x.shape) is not None


def test_weights_that_do_not_fit_twice():
    big = image(200, 200, 1, 1) / 14
    proto = parsed("a = Conv(x, w) y = Conv(a, w)", "N, 200, 2, 2", w=big)
    x = image(1, 200, 2, 2)
    model, small = onnx_runtime.load(proto), onnx_runtime.load(proto, max_memory=2 * big.nbytes)
    assert model.plan(x.shape) is not None
    assert small.plan(x.shape) is None
    close(small(x), model(x))


def test_threads_share_a_model():
    proto, shape, dtype = drawn(2)
    model = onnx_runtime.load(proto)
    xs = [image(1 + i % 3, *shape[1:], dtype=dtype, seed=i) for i in range(48)]
    expected = [by_node(model, x) for x in xs]
    with ThreadPoolExecutor(8) as pool:
        for y, wanted in zip(pool.map(model, xs), expected, strict=True):
            close(y, wanted)


def test_steps_are_shown():
    body = nn.Sequential(nn.Conv(4, 2, 1, rng=1), nn.Conv(2, 4, 1, rng=2))
    net = nn.Sequential(
        nn.Conv(2, 4, 3, padding=1, rng=0), nn.BatchNorm(4), nn.ReLU(), nn.Residual(body), nn.Softmax(1)
    )
    steps = onnx_runtime.load(onnx_export.export(net, (None, 2, 6, 5))).plan((1, 2, 6, 5)).steps
    assert [step.name for step in steps] == ["conv 3x3, bias, relu", "conv 1x1, bias", "conv 1x1, bias, sum", "Softmax"]
