"""ONNX models that are broken or made to harm: each is refused quickly, by name, and before memory is taken.

All are loaded (and run, where loading cannot tell) in one fresh process, which counts its memory and its time.
"""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the models are onnx's (the extra `test` installs it)")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from npconv.integrations import onnx_runtime  # noqa: E402
from npconv.integrations.onnx_checks import ModelError, printable  # noqa: E402

SRC = Path(__file__).parents[1] / "src"
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
HUGE = 1 << 40
SPATIAL = [1, 1, 8, 8]
RED = "\x1b[31mred\u202e"


def array(name: str, values: object, dtype: type = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def shape(*sizes: int, name: str = "s") -> TensorProto:
    return array(name, sizes, np.int64)


def tensor(name: str = "w", dims: tuple = (1, 1, 3, 3), raw: bytes | None = None, kind: int = FLOAT, **fields: object):
    found = TensorProto(name=name, dims=dims, data_type=kind, **fields)
    if raw is not None:
        found.raw_data = raw
    return found


def model(
    nodes: list, weights: tuple = (), x: list | None = None, y: str = "y", opset: int = 17, functions: tuple = ()
):
    inputs = [] if x == [] else [helper.make_tensor_value_info("x", FLOAT, SPATIAL if x is None else x)]
    outputs = [helper.make_tensor_value_info(y, FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)


def node(op: str, inputs: str = "x", outputs: str = "y", **attributes: object):
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


KERNEL = array("w", np.ones((1, 1, 3, 3)))
GOOD = model([node("Conv", "x w")], (KERNEL,))


def external(location: str, *more: tuple[str, str], name: str = "w"):
    found = tensor(name, raw=None, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), *more):
        found.external_data.add(key=key, value=value)
    return found


def with_external(location: str, *more: tuple[str, str]):
    return model([node("Conv", "x w")], (external(location, *more),))


def nested(depth: int):
    """A graph in a node in a graph ..."""
    inner = [node("Identity", "x", "y")]
    for _ in range(depth):
        graph = helper.make_graph(inner, "g", [], [helper.make_tensor_value_info("y", FLOAT, None)])
        inner = [node("If", "b", "y", then_branch=graph, else_branch=graph)] if _ < 3 else [
            node("If", "b", "y", then_branch=graph)
        ]  # fmt: skip
    return model(inner, (array("b", True, bool),))


def laughs(depth: int):
    """Each function calls the one before it ten times."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    made = []
    for i in range(depth):
        op, domain = ("Relu", "") if i == 0 else (f"f{i - 1}", "local")
        names = ["a", *(f"v{j}" for j in range(9)), "r"]
        body = [helper.make_node(op, [p], [q], domain=domain) for p, q in itertools.pairwise(names)]
        made.append(helper.make_function("local", f"f{i}", ["a"], ["r"], body, opsets))
    call = helper.make_node(f"f{depth - 1}", ["x"], ["y"], domain="local")
    return model([call], functions=tuple(made))


def circle(*calls: str):
    """Functions that call each other for ever."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    made = [
        helper.make_function("local", a, ["a"], ["r"], [helper.make_node(b, ["a"], ["r"], domain="local")], opsets)
        for a, b in zip(calls, (*calls[1:], calls[0]), strict=True)
    ]
    return model([helper.make_node(calls[0], ["x"], ["y"], domain="local")], functions=tuple(made))


def doubling(times: int):
    """Concat of a value with itself, again and again."""
    names = ["x", *(f"v{i}" for i in range(times - 1)), "y"]
    return model([node("Concat", f"{a} {a}", b, axis=0) for a, b in itertools.pairwise(names)])


def endless():
    body = helper.make_graph(
        [node("Identity", "c", "d")], "g",
        [helper.make_tensor_value_info("i", INT64, []), helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, [])],
    )  # fmt: skip
    return model([node("Loop", "m b", "y", body=body)], (array("m", 2**62, np.int64), array("b", True, bool)))


def no_graph():
    found = onnx.ModelProto(ir_version=8)
    found.opset_import.extend([helper.make_opsetid("", 17)])
    return found


def no_opset():
    found = onnx.ModelProto()
    found.CopyFrom(GOOD)
    del found.opset_import[:]
    return found


def declared(**fields: object):
    """A Conv whose weights are declared in some other way than they are stored."""
    return model([node("Conv", "x w")], (tensor(**fields),))  # type: ignore[arg-type]


def bodies() -> Iterator[tuple[str, object]]:
    """Name, and a model or the bytes of a file."""
    whole = GOOD.SerializeToString()
    yield "empty", b""
    yield "text", b"this is no model\n" * 10
    yield (
        "pickle",
        b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.",
    )
    for cut in (1, 7, 20, len(whole) // 2, len(whole) - 3):
        yield f"truncated_{cut}", whole[:cut]
    yield "noise", np.random.default_rng(0).bytes(5000)
    yield "deep_messages", b"\x3a" * 20_000
    yield "length_huge", b"\x3a\xff\xff\xff\xff\x7f" + whole
    yield "no_graph", no_graph()
    yield "no_opset", no_opset()
    yield "opset_zero", model([node("Conv", "x w")], (KERNEL,), opset=0)
    yield "opset_of_tomorrow", model([node("Conv", "x w")], (KERNEL,), opset=9999)
    # tensors
    yield "shape_huge", declared(dims=(HUGE, HUGE), raw=b"abcd")
    yield "shape_wraps", declared(dims=(1 << 32, 1 << 32), raw=b"")
    yield "shape_negative", declared(dims=(-1, 3), raw=b"")
    yield "shape_two_negatives", declared(dims=(-3, -3), raw=bytes(36))
    yield "shape_axes", declared(dims=(1,) * 60, raw=bytes(4))
    yield "shape_many_axes", declared(dims=(1,) * 50_000, raw=bytes(4))
    yield "bytes_missing", declared(raw=bytes(35))
    yield "bytes_too_many", declared(raw=bytes(40))
    yield "floats_missing", declared(float_data=[1.0])
    yield "floats_none", declared(dims=(HUGE,))
    yield "type_unknown", declared(raw=bytes(36), kind=99)
    yield "type_none", declared(raw=bytes(36), kind=0)
    yield "strings_missing", declared(dims=(HUGE,), kind=TensorProto.STRING)
    yield "segment", declared(raw=bytes(36), segment=TensorProto.Segment(begin=0, end=9))
    yield "constant_huge", model([node("Constant", "", "y", value=tensor(dims=(HUGE,), raw=b"1234"))], x=[])
    sparse = helper.make_sparse_tensor(array("v", [1.0]), shape(0, name="i"), [HUGE])
    yield "sparse_huge", with_sparse(sparse)
    # structure
    yield "undefined", model([node("Conv", "x nowhere")])
    yield "wrong_order", model([node("Relu", "a", "y"), node("Relu", "x", "a")])
    yield "circle", model([node("Add", "x y", "y")])
    yield "twice", model([node("Relu"), node("Tanh")])
    yield "no_output", model([node("Relu", "x", "z")])
    yield "many_nodes", model([node("Relu", "x", f"v{i}") for i in range(100_001)], y="v0")
    yield "long_name", model([node("Relu", "x", "n" * 5000)], y="n" * 5000)
    yield "nested", nested(12)
    yield "function_calls_itself", circle("f")
    yield "functions_in_a_circle", circle("f", "g", "h")
    yield "billion_laughs", laughs(9)
    # operators
    yield "unknown_operator", model([node("Explode")])
    yield "unknown_domain", model([helper.make_node("Conv", ["x"], ["y"], domain="evil.corp")])
    yield "operator_with_escapes", model([node(RED)])
    yield "python_operator", model([helper.make_node("PyOp", ["x"], ["y"], domain="ai.onnx.contrib")])
    yield "endless_loop", endless()
    # memory
    for name, sizes in (("flat", (HUGE,)), ("square", (1 << 20, 1 << 20)), ("wraps", (1 << 32, 1 << 32))):
        yield f"fill_{name}", model([node("ConstantOfShape", "s")], (shape(*sizes),), x=[])
    yield "fill_negative", model([node("ConstantOfShape", "s")], (shape(-5, 5),), x=[])
    yield "fill_many_axes", model([node("ConstantOfShape", "s")], (shape(*[1] * 500),), x=[])
    yield "expand", model([node("Expand", "x s")], (shape(1 << 20, 1, 1024, 8, 8),))
    yield "tile", model([node("Tile", "x s")], (shape(1 << 20, 1 << 10, 1, 1),))
    yield "pad", model([node("Pad", "x s")], (shape(0, 0, 1 << 20, 1 << 20, 0, 0, 0, 0),))
    yield (
        "range",
        model([node("Range", "a b c")], tuple(array(n, v) for n, v in zip("abc", (0, 1e18, 1), strict=True)), x=[]),
    )
    yield "resize", model([node("Resize", "x e s")], (array("e", []), array("s", [1, 1, 1e6, 1e6])))
    yield "upsample", model([node("Upsample", "x s")], (array("s", [1, 1, 1e6, 1e6]),), opset=9)
    yield "one_hot", model([node("OneHot", "x d v")], (array("d", HUGE, np.int64), array("v", [0, 1])))
    yield "random", model([node("RandomNormal", "", "y", shape=[HUGE, 4])], x=[])
    column, row = array("a", np.ones((60_000, 1))), array("b", np.ones((1, 60_000)))
    yield "outer_product", model([node("MatMul", "a b")], (column, row), x=[])
    yield "broadcast", model([node("Add", "a b")], (column, row), x=[])
    yield "names_no_text", GOOD.SerializeToString().replace(b"Conv", b"Con\xff")
    yield "doubling", doubling(60)
    yield "input_huge", model([node("Relu")], x=[HUGE, 1, 4, 4])
    yield "input_axes", model([node("Relu")], x=[1] * 100)
    # convolutions and pools
    yield "conv_pads_huge", model([node("Conv", "x w", pads=[HUGE] * 4)], (KERNEL,))
    yield "conv_pads_wrap", model([node("Conv", "x w", pads=[2**62] * 4)], (KERNEL,))
    yield "conv_pads_short", model([node("Conv", "x w", pads=[1])], (KERNEL,))
    yield "conv_strides_zero", model([node("Conv", "x w", strides=[0, 0])], (KERNEL,))
    yield "conv_strides_negative", model([node("Conv", "x w", strides=[-1, 1])], (KERNEL,))
    yield "conv_dilations_huge", model([node("Conv", "x w", dilations=[2**62, 1])], (KERNEL,))
    yield "conv_group_negative", model([node("Conv", "x w", group=-7)], (KERNEL,))
    yield "conv_group_wrong", model([node("Conv", "x w", group=5)], (KERNEL,))
    yield "conv_kernel_shape", model([node("Conv", "x w", kernel_shape=[9, 9])], (KERNEL,))
    yield "conv_kernel_too_large", model([node("Conv", "x w")], (array("w", np.ones((1, 1, 30, 30))),))
    yield "conv_auto_pad", model([node("Conv", "x w", auto_pad="EVIL")], (KERNEL,))
    yield "conv_rank", model([node("Conv", "x w")], (array("w", np.ones((1, 1, 3))),))
    yield "conv_channels", model([node("Conv", "x w")], (array("w", np.ones((1, 7, 3, 3))),))
    yield "conv_bias", model([node("Conv", "x w b")], (KERNEL, array("b", np.ones(7))))
    yield "conv_no_weights", model([node("Conv", "x")])
    yield "transpose_strides_huge", model([node("ConvTranspose", "x w", strides=[1 << 30, 1 << 30])], (KERNEL,))
    yield "transpose_output_shape", model([node("ConvTranspose", "x w", output_shape=[HUGE, HUGE])], (KERNEL,))
    yield "transpose_extra", model([node("ConvTranspose", "x w", output_padding=[9, 9])], (KERNEL,))
    yield "pool_kernel_zero", model([node("MaxPool", kernel_shape=[0, 0])])
    yield "pool_kernel_missing", model([node("MaxPool", kernel_shape=[2])])
    yield "pool_pads_huge", model([node("AveragePool", kernel_shape=[2, 2], pads=[HUGE] * 4)])
    yield "pool_pads_over_kernel", model([node("MaxPool", kernel_shape=[2, 2], pads=[5] * 4)])
    yield "lp_pool_power", model([node("LpPool", kernel_shape=[2, 2], p=-3)])
    yield "reshape_wrong", model([node("Reshape", "x s")], (shape(7, 7),))
    yield "reshape_huge", model([node("Reshape", "x s")], (shape(HUGE, HUGE),))
    # files outside
    yield "external_by_default", with_external("w.bin")
    folder = "external!"
    for name, location in {
        "parent": "../w.bin", "inner_parent": "a/../../w.bin", "absolute": "/etc/passwd", "empty": "", "dot": ".",
        "missing": "nothing.bin", "folder": "a", "link": "link.bin", "hard_link": "hard.bin", "linked_folder": "la/w.bin",
        "device": "fifo", "nul": "w.bin\0.txt", "backslash": "..\\w.bin", "escape": "\x1b[2Jw.bin", "long": "a" * 4000,
        "drive": "C:w.bin",
    }.items():  # fmt: skip
        yield f"{folder}{name}", with_external(location)
    yield f"{folder}offset_negative", with_external("w.bin", ("offset", "-4"))
    yield f"{folder}offset_past", with_external("w.bin", ("offset", "40"))
    yield f"{folder}offset_text", with_external("w.bin", ("offset", "many"))
    yield f"{folder}length_huge", with_external("w.bin", ("length", str(HUGE)))
    yield f"{folder}length_short", with_external("w.bin", ("length", "4"))
    yield f"{folder}key_unknown", with_external("w.bin", ("basepath", "/etc"))
    yield f"{folder}key_python", with_external("w.bin", ("__class__", "os"))
    yield f"{folder}key_twice", with_external("w.bin", ("location", "/etc/passwd"))
    yield f"{folder}shape_huge", model([node("Relu")], (huge_outside(),))


def with_sparse(sparse: object):
    found = model([node("Relu")])
    found.graph.sparse_initializer.extend([sparse])
    return found


def huge_outside():
    found = external("w.bin")
    del found.dims[:]
    found.dims.extend([HUGE, HUGE])
    return found


LOADER = """
import json, resource, sys, time
import numpy as np, onnx
from pathlib import Path
from npconv import MemoryLimitError
from npconv.integrations import onnx_runtime
from npconv.integrations.onnx_checks import ModelError
unpickled = []
sys.addaudithook(lambda event, _: unpickled.append(event) if event == "pickle.find_class" else None)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

def refused(path):
    try:
        model = onnx_runtime.load(path, external_data="external!" in path.name)
        feeds = {name: np.zeros([n if isinstance(n, int) else 1 for n in v.shape], v.dtype) for name, v in model.inputs.items()}
        model.run(feeds)
    except (ModelError, MemoryLimitError) as error:
        return type(error).__name__, str(error)
    return "", "nothing was refused"

good = Path(sys.argv[1], "good.onnx")
y = onnx_runtime.load(good)(np.ones((1, 1, 8, 8), np.float32))
assert y.shape == (1, 1, 6, 6) and (y == 9).all()
told = {}
for path in sorted(Path(sys.argv[1], "bad").glob("*.onnx")):
    before, start = peak(), time.perf_counter()
    kind, words = refused(path)
    told[path.stem] = kind, words, time.perf_counter() - start, peak() - before
print(json.dumps([told, unpickled]))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str, float, int]]:
    """For each file: the error's name and words, the seconds it took, and by how much the process grew."""
    home = tmp_path_factory.mktemp("hostile")
    bad = home / "bad"
    (bad / "a").mkdir(parents=True)
    (home / "good.onnx").write_bytes(GOOD.SerializeToString())
    for path in (home / "w.bin", bad / "w.bin", bad / "a" / "w.bin", bad / "one.bin"):
        path.write_bytes(bytes(36))
    (bad / "link.bin").symlink_to(bad / "w.bin")
    (bad / "la").symlink_to(bad / "a")
    os.link(bad / "one.bin", bad / "hard.bin")
    os.mkfifo(bad / "fifo")
    for name, body in bodies():
        (bad / f"{name}.onnx").write_bytes(body if isinstance(body, bytes) else body.SerializeToString())  # type: ignore[attr-defined]
    done = subprocess.run(
        [sys.executable, "-c", LOADER, str(home)], capture_output=True, text=True, timeout=100,
        env={**os.environ, "PYTHONPATH": str(SRC)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, unpickled = json.loads(done.stdout)
    assert unpickled == []
    return found


NAMES = [name for name, _ in bodies()]


def test_there_are_enough():
    assert len(set(NAMES)) == len(NAMES) >= 100


@pytest.mark.parametrize("name", NAMES)
def test_each_is_refused_by_name_and_fast(told, name):
    kind, words, seconds, growth = told[name]
    assert kind in ("ModelError", "MemoryLimitError"), words
    assert words.startswith("onnx: ")
    assert len(words) < 700
    assert words.isprintable()
    assert seconds < 1.0
    assert growth < 64 << 20


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unknown_operator", "nothing here runs 1 of the model's operators: Explode"),
        ("unknown_domain", "evil.corp::Conv"),
        ("operator_with_escapes", "?[31mred?"),
        ("endless_loop", "Loop may run for ever"),
        ("external_by_default", "external_data=True reads those"),
        ("external!parent", "which is not below the model"),
        ("external!link", "external file 'link.bin'"),
        ("external!hard_link", "not a plain file with one name"),
        ("fill_square", "the model needs"),
        ("billion_laughs", "functions unfold to over 100000 nodes"),
        ("conv_group_wrong", "PlannedConv 'y'"),
        ("bytes_missing", "needs 36 bytes and holds 35"),
    ],
)
def test_the_message_says_what_is_wrong(told, name, words):
    assert words in told[name][1]


def test_what_is_no_file(tmp_path):
    """A pipe would wait for a writer, /dev/zero would never end."""
    os.mkfifo(tmp_path / "m.onnx")
    for path in (tmp_path / "m.onnx", "/dev/zero"):
        with pytest.raises(ModelError, match="is not a regular file"):
            onnx_runtime.load(path)


def test_names_are_shown_without_control_characters():
    assert printable(RED + "\n\0") == "?[31mred???"
    assert len(printable("n" * 500)) == 80
    with pytest.raises(ModelError) as caught:
        onnx_runtime.load(model([helper.make_node("Relu", [RED], ["y"])]))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", [-1, True, 1.5, "4G"])
def test_the_limit_is_checked(value):
    with pytest.raises(ValueError, match="max_memory is"):
        onnx_runtime.load(GOOD, max_memory=value)


def test_bytes_are_damaged_everywhere():
    """Every byte of a small model set to others: a result or one of the two errors, never anything else."""
    from npconv import MemoryLimitError

    whole, x = bytearray(GOOD.SerializeToString()), np.ones((1, 1, 8, 8), np.float32)
    rng, results = np.random.default_rng(0), 0
    for i in range(len(whole)):
        for value in (0, 255, int(rng.integers(256))):
            damaged = whole.copy()
            damaged[i] = value
            try:
                found = onnx_runtime.load(bytes(damaged), max_memory=1 << 26)
                found.run(dict.fromkeys(found.inputs, x))
                results += 1
            except (ModelError, MemoryLimitError):
                pass
    assert results > 50
