"""`npconv run`: what a picture becomes, what is printed and written, and what is refused."""

import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("click", reason="the command needs the extra `cli`")
onnx = pytest.importorskip("onnx", reason="the models are onnx's (the extra `onnx`)")
Image = pytest.importorskip("PIL.Image", reason="pictures are read with Pillow (the extra `plot`)")

from click.testing import CliRunner  # noqa: E402
from onnx import numpy_helper, parser  # noqa: E402

from npconv.cli import main  # noqa: E402

RED = "\x1b[31m"
HEADER = '<ir_version: 8, opset_import: ["": 17]>\n'


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def model(text: str, name: str = "m.onnx", **weights) -> str:
    proto = parser.parse_model(HEADER + text)
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items())
    onnx.save(proto, name)
    return name


def same(shape: str, kind: str = "float") -> str:
    """A model that gives what it takes."""
    return model(f"f ({kind}[{shape}] x) => ({kind}[{shape}] y) {{ y = Identity(x) }}")


def scores() -> str:
    """A model whose three scores are the means of the channels."""
    return model("f (float[N, 3, 2, 2] x) => (float[N, 3] y) { g = GlobalAveragePool(x)  y = Flatten(g) }")


def picture(pixels: np.ndarray, name: str = "p.png", **options) -> str:
    Image.fromarray(pixels).save(name, **options)
    return name


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def run(*arguments: object):
    return CliRunner().invoke(main, ["run", *map(str, arguments)])


def given(*arguments: object) -> np.ndarray:
    """The y that `npconv run` writes."""
    result = run(*arguments, "--out", "y.npz")
    assert result.exit_code == 0, result.stderr
    with np.load("y.npz") as file:
        return file["y"]


# --------------------------------------------------------------------------- pictures
@pytest.mark.parametrize(("shape", "last"), [("1, 3, 4, 5", False), ("N, 3, H, W", False), ("1, 4, 5, 3", True)])
def test_pixels_in_the_order_of_the_model(shape, last):
    pixels = drawn(4, 5, 3)
    y = given(same(shape), "--input", picture(pixels))
    np.testing.assert_array_equal(y[0] if last else np.moveaxis(y[0], 0, -1), (pixels / 255).astype(np.float32))


def test_scale_mean_and_std():
    pixels = drawn(4, 5, 3)
    how = ("--scale", "0.5", "--mean", "1,2,3", "--std", "4,5,6")
    y = given(same("1, 3, 4, 5"), "--input", picture(pixels), *how)
    expected = (pixels * 0.5 - np.array([1, 2, 3])) / np.array([4, 5, 6])
    np.testing.assert_allclose(np.moveaxis(y[0], 0, -1), expected, rtol=1e-6)


def test_integers_get_the_pixels():
    pixels = drawn(4, 5)
    y = given(same("1, 1, 4, 5", "uint8"), "--input", picture(pixels))
    assert y.dtype == np.uint8
    np.testing.assert_array_equal(y[0, 0], pixels)


def test_a_grey_model_gets_grey():
    y = given(same("1, 1, 2, 2"), "--input", picture(np.full((2, 2, 3), (255, 0, 0), np.uint8)))
    np.testing.assert_allclose(y, 0.299, atol=2e-3)  # red's weight in luma, ITU-R BT.601


def test_proportions_stay_and_the_middle_is_taken():
    pixels = drawn(4, 12, 3)
    y = given(same("1, 3, 4, 4"), "--input", picture(pixels))
    np.testing.assert_array_equal(np.moveaxis(y[0], 0, -1), (pixels[:, 4:8] / 255).astype(np.float32))


def test_resized():
    halves = np.repeat(np.array([[0], [200]], np.uint8), 40, 0).repeat(80, 1)
    y = given(same("1, 1, 8, 8", "uint8"), "--input", picture(halves, "p.jpg", quality=100))[0, 0]
    assert (abs(y[:3] - 0.0) <= 2).all()
    assert (abs(y[5:] - 200.0) <= 2).all()


def test_what_is_transparent_is_white():
    clear = np.zeros((2, 2, 4), np.uint8)
    clear[0, 0] = 10, 20, 30, 255
    y = given(same("1, 2, 2, 3", "uint8"), "--input", picture(clear))
    assert y[0, 0, 0].tolist() == [10, 20, 30]
    assert (y[0, 1] == 255).all()


def test_a_camera_held_sideways():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees, clockwise
    pixels = np.zeros((16, 32), np.uint8)
    pixels[:, :16] = 255
    y = given(same("1, 1, 32, 16", "uint8"), "--input", picture(pixels, "p.jpg", exif=exif, quality=100))[0, 0]
    assert (y[:15] > 250).all()
    assert (y[17:] < 5).all()


# --------------------------------------------------------------------------- what is said
def test_what_a_model_takes():
    model("f (float[N, 3, 8, 8] x, int64[?] s) => (float[N] y, float[M] z) { y = Identity(x)  z = Identity(x) }")
    assert run("m.onnx").stdout == "takes x: float32 (N, 3, 8, 8)\ntakes s: int64 (?)\ngives y\ngives z\n"
    assert json.loads(run("m.onnx", "--json").stdout) == {
        "inputs": [
            {"name": "x", "dtype": "float32", "shape": ["N", 3, 8, 8]},
            {"name": "s", "dtype": "int64", "shape": [None]},
        ],
        "outputs": ["y", "z"],
    }


def test_the_largest_scores_with_labels():
    pixels = np.full((2, 2, 3), (51, 255, 102), np.uint8)
    Path("l.txt").write_text(f"red\ngr{RED}een\nblue\n\n")
    arguments = scores(), "--input", picture(pixels), "--labels", "l.txt", "--top", 2
    assert run(*arguments).stdout == (
        "y: float32 (1, 3)\n       1  1           gr?[31meen\n       2  0.4         blue\n"
    )
    assert json.loads(run(*arguments, "--json").stdout)["y"] == {
        "dtype": "float32",
        "shape": [1, 3],
        "top": [
            [
                {"index": 1, "score": 1.0, "label": "gr?[31meen"},
                {"index": 2, "score": pytest.approx(0.4), "label": "blue"},
            ]
        ],
    }


def test_rows_of_a_batch_and_numbers_that_json_has_not():
    x = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 2, 2)
    x[1, 0], x[1, 1] = np.nan, np.inf
    np.save("x.npy", x)
    rows = json.loads(run(scores(), "--input", "x.npy", "--json").stdout)["y"]["top"]
    assert [[one["index"] for one in row] for row in rows] == [[2, 1, 0], [1, 2, 0]]
    assert [one["score"] for one in rows[1]] == [None, 21.5, None]
    np.save("x.npy", np.zeros((30, 3, 2, 2), np.float32))
    lines = run("m.onnx", "--input", "x.npy", "--top", 1).stdout.splitlines()
    assert lines[1:3] == ["  row 0", "       0  0"]
    assert lines[-1] == "  10 rows more"


def test_the_range_of_what_is_no_score():
    np.save("x.npy", np.array([[[1.0, 2.0], [3.0, 6.0]]], np.float32))
    assert run(same("1, 2, 2"), "--input", "x.npy").stdout == "y: float32 (1, 2, 2)\n  min 1\n  mean 3\n  max 6\n"


def test_several_inputs():
    model("f (float[2] a, float[2] b) => (float[2] y) { y = Sub(a, b) }")
    np.save("a.npy", [5.0, 7.0])  # float64 becomes the model's float32
    np.save("b.npy", np.array([1, 2], np.float32))
    assert given("m.onnx", "--input", "b=b.npy", "--input", "a=a.npy").tolist() == [4, 5]


def test_a_file_whose_name_has_an_equals_sign():
    np.save("a=b.npy", np.ones(2, np.float32))
    assert given(same("2"), "--input", "a=b.npy").tolist() == [1, 1]


def test_names_of_outputs_lead_nowhere():
    proto = parser.parse_model(HEADER + "f (float[2] x) => (float[2] p, float[2] q, float[2] file) "
                               "{ p = Neg(x)  q = Abs(x)  file = Identity(x) }")  # fmt: skip
    for old, new in (("p", "../up"), ("q", ".._up")):
        for names in [proto.graph.node[0].output, proto.graph.node[1].output]:
            names[:] = [new if name == old else name for name in names]
        for value in proto.graph.output:
            value.name = new if value.name == old else value.name
    onnx.save(proto, "m.onnx")
    np.save("x.npy", np.array([-1, 2], np.float32))
    assert run("m.onnx", "--input", "x.npy", "--out", "y.npz").exit_code == 0
    with np.load("y.npz") as file:
        found = {name: file[name].tolist() for name in file.files}
    assert found == {".._up": [1, -2], ".._up_2": [1, 2], "file": [-1, 2]}


# --------------------------------------------------------------------------- what is refused
def bomb(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes that declares a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def npy(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("bomb.png", bomb(50_000, 50_000), "cannot be read"),
        ("large.png", bomb(8001, 8000), "has 8001 x 8000 pixels, over 64000000"),
        ("cut.png", bomb(20, 20)[:60], "cannot be read as PNG or JPEG"),
        ("short.png", bomb(20, 20), "cannot be read as PNG or JPEG"),
        ("text.png", b"no picture", "cannot be read as PNG or JPEG"),
        ("a.gif", b"GIF89a" + bytes(50), "cannot be read as PNG or JPEG"),
        ("huge.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }\n"), "no .npy of plain"),
        ("cut.npy", b"\x93NUMPY\x01", "no .npy of plain numbers"),
        ("empty.npy", b"", "no .npy of plain numbers"),
        ("objects.npy", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", b"cos\nsystem\n."), "no .npy of"),
        ("complex.npy", npy("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }\n", bytes(8)), "holds complex64"),
        ("shape.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n", bytes(4)), "has shape (1,)"),
    ],
)  # fmt: skip
def test_files_that_are_no_input(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    result = run(scores(), "--input", name)
    assert result.exit_code == 1
    assert result.stderr.startswith("npconv: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Missing argument 'MODEL'"),
        (["none.onnx"], 2, "Invalid value for 'MODEL': File 'none.onnx' does not exist"),
        (["p.png"], 1, "onnx: this is no ONNX model"),
        (["m.onnx", "--input", "none.png"], 1, "none.png: No such file or directory"),
        (["m.onnx", "--input", "."], 1, ". is not a regular file"),
        (["m.onnx", "--input", "z=p.png"], 1, "z=p.png: No such file"),
        (["m.onnx", "--input", "x=p.png", "--input", "p.png"], 1, "--input p.png: x has a file already"),
        (["two.onnx", "--input", "p.png"], 1, "--input p.png: the model takes a, b; use NAME=FILE"),
        (["two.onnx", "--input", "a=p.png"], 1, "the input is no batch of pictures; give it as .npy"),
        (["eight.onnx", "--input", "p.png"], 1, "takes 8 pictures at once"),
        (["many.onnx", "--input", "p.png"], 1, "takes 7 channels"),
        (["wide.onnx", "--input", "p.png"], 1, "pictures of 9000 x 9000 pixels"),
        (["m.onnx", "--input", "p.png", "--mean", "1,2"], 1, "--mean has 2 numbers, expected 1 or 3"),
        (["m.onnx", "--input", "p.png", "--std", "0"], 1, "--std is 0"),
        (["m.onnx", "--input", "p.png", "--std", "a"], 2, "Invalid value for '--std': 'a' is not numbers"),
        (["m.onnx", "--input", "p.png", "--top", "0"], 2, "Invalid value for '--top'"),
        (["m.onnx", "--input", "p.png", "--labels", "l.txt"], 1, "l.txt has 2 labels, but y has shape (1, 3)"),
        (["m.onnx", "--input", "p.png", "--labels", "p.png"], 1, "p.png is no list of labels"),
        (["m.onnx", "--input", "p.png", "--out", "no/y.npz"], 1, "No such file or directory"),
        (["m.onnx", "--input", "deep.png"], 1, "more than 8 bits a pixel"),
        (["evil.onnx"], 1, "nothing here runs 1 of the model's operators: ?[31m"),
        (["outside.onnx"], 1, "--external-data reads those"),
        (["wide.onnx", "--memory", "0.1"], 1, "the limit is 107374182 bytes; use --memory or"),
    ],
)
def test_errors_are_one_line(arguments, code, message):
    model("f (float[2] a, float[2] b) => (float[2] y) { y = Sub(a, b) }", "two.onnx")
    for name, shape in (("eight", "8, 3, 2, 2"), ("many", "1, 7, 2, 2"), ("wide", "1, 3, 9000, 9000")):
        model(f"f (uint8[{shape}] x) => (float[A] y) {{ y = Shape(x) }}", f"{name}.onnx")
    evil = onnx.load(model("f (float[2] x) => (float[2] y) { y = Neg(x) }", "evil.onnx"))
    evil.graph.node[0].op_type = RED
    onnx.save(evil, "evil.onnx")
    outside = onnx.load(
        model("f (float[2] x) => (float[2] y) { y = Add(x, w) }", "outside.onnx", w=np.ones(2, np.float32))
    )
    onnx.save(outside, "outside.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    scores()
    picture(drawn(2, 2, 3))
    picture(np.full((2, 2), 999, np.uint16), "deep.png")
    Path("l.txt").write_text("a\nb\n")
    result = run(*arguments)
    assert result.exit_code == code
    assert result.stderr.startswith("npconv: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.rstrip("\n").isprintable()
    assert result.stdout == ""


def test_weights_outside():
    outside = onnx.load(model("f (float[2] x) => (float[2] y) { y = Add(x, w) }", w=np.ones(2, np.float32)))
    onnx.save(outside, "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    np.save("x.npy", np.zeros(2, np.float32))
    assert given("m.onnx", "--external-data", "--input", "x.npy").tolist() == [1, 1]


@pytest.mark.parametrize(("library", "extra"), [("onnx", "onnx"), ("PIL", "plot")])
def test_what_is_missing_is_named(library, extra, monkeypatch):
    arguments = scores(), "--input", picture(drawn(2, 2, 3))
    for name in [name for name in sys.modules if name.startswith("npconv.integrations.onnx")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("npconv: npconv r")
    assert result.stderr.endswith(f': pip install "npconv[{extra}]"\n')
