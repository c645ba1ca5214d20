"""`npconv explore`: the page as a file, the page of this machine, and what is refused in one line."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("click", reason="the command needs the extra `cli`")

from click.testing import CliRunner

from npconv import nn
from npconv.cli import main
from npconv.nn import models

DATA = re.compile(r'<script type="application/json" id="npconv-data">(.*?)</script>', re.DOTALL)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("image.npy", np.random.default_rng(0).random((1, 28, 28), np.float32))


def run(*arguments: object):
    return CliRunner().invoke(main, ["explore", *map(str, arguments)])


def data(name: str = "page.html") -> dict:
    with open(name, encoding="utf-8") as file:
        return json.loads(DATA.search(file.read())[1])


def written(*arguments: object) -> dict:
    result = run(*arguments, "--html", "page.html")
    assert result.exit_code == 0, result.stderr
    assert re.fullmatch(r"[\d,]+ bytes in page.html; open it in a browser\n", result.stdout)
    return data()


def test_the_example():
    found = written()
    assert found["problem"] is None
    assert set(found["times"]) == {"loops", "direct", "gemm", "fft", "winograd"}


def test_shapes():
    first = written("--input", "2,9,9", "--kernel", "4,2,3,3", "--padding", "same", "--stride", "2,1")["problem"]
    assert (first["x"]["shape"], first["w"]["shape"]) == ([2, 9, 9], [4, 2, 3, 3])
    assert (first["padding"], first["stride"]) == ("same", [2, 1])
    assert len(set(first["x"]["data"])) > 5
    assert run("--input", "2,9,9", "--kernel", "4,2,3,3", "--html", "again.html").exit_code == 0
    assert data("again.html")["problem"]["x"] == first["x"]


@pytest.mark.parametrize(
    ("arguments", "operator", "kernel"),
    [
        (("--input", "1,8,8", "--kernel", "2,2", "--operator", "max_pool"), "max_pool", [2, 2]),
        (("--input", "1,9", "--kernel", "3", "--operator", "avg_pool", "--stride", "1"), "avg_pool", [3]),
        (("--input", "4,5,5", "--kernel", "4,2,3,3", "--operator", "conv_transpose"), "conv_transpose", [3, 3]),
        (("--input", "4,12", "--kernel", "8,1,5", "--groups", "4", "--dilation", "2"), "conv", [5]),
    ],
)
def test_operators(arguments, operator, kernel):
    found = written(*arguments)["problem"]
    assert (found["operator"], found["kernel"]) == (operator, kernel)


def test_arrays_of_a_file():
    np.savez("own.npz", x=np.arange(36.0).reshape(6, 6), w=np.ones((3, 3)), bias=np.ones(1))
    found = written("own.npz", "--stride", "3")["problem"]
    assert found["x"]["data"] == list(range(36))
    assert (found["bias"]["data"], found["stride"]) == ([1], [3, 3])


def test_a_network_by_name():
    Path("labels.txt").write_text("\n".join("abcdefghij"))
    found = written("lenet5", "--image", "image.npy", "--labels", "labels.txt", "--target", "3")
    assert found["walk"]["model"] == "lenet5"
    assert found["walk"]["output"]["labels"] == list("abcdefghij")
    assert found["walk"]["output"]["chosen"] == [3]
    assert len(found["walk"]["layers"]) == 12


def test_weights_of_a_network():
    model = models.lenet5(rng=5)
    nn.save_weights("lenet.npz", model)
    found = written("lenet5", "--weights", "lenet.npz", "--image", "image.npy")
    expected = model(np.load("image.npy")[None])[0]
    np.testing.assert_allclose(found["walk"]["output"]["values"], expected, rtol=1e-5)


def test_a_model_of_npconv_train():
    training = pytest.importorskip("npconv.demo.training", reason="the extra `demo`", exc_type=ImportError)
    model = training.network(10, np.random.default_rng(1))
    nn.save_weights("model.npz", model)
    np.save("digit.npy", np.random.default_rng(0).random((1, 8, 8), np.float32))
    found = written("model.npz", "--image", "digit.npy")
    np.testing.assert_allclose(
        found["walk"]["output"]["values"], model(np.load("digit.npy")[None])[0], rtol=1e-4, atol=1e-5
    )


def test_an_onnx_model_and_a_picture():
    pytest.importorskip("onnx", reason="the models are onnx's (the extra `onnx`)")
    Image = pytest.importorskip("PIL.Image", reason="pictures are read with Pillow (the extra `plot`)")
    from npconv.integrations import onnx_export

    onnx_export.export(nn.Sequential(nn.Conv(3, 4, 3, rng=0), nn.GlobalAvgPool()), (1, 3, 20, 24), "m.onnx")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 40, 3), dtype=np.uint8)).save("p.png")
    found = written("m.onnx", "--image", "p.png")
    assert found["walk"]["image"]["size"] == [20, 24]
    assert found["walk"]["layers"][0]["problem"]["x"]["shape"] == [3, 16, 16]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--input", "1,8,8"), 2, "--input and --kernel go together"),
        (("--stride", "2"), 2, "--input and --kernel go together"),
        (("--stride", "a"), 2, "is not integers"),
        (("--image", "image.npy"), 2, "--image: there is no MODEL"),
        (("lenet5",), 2, "a model needs --image"),
        (("lenet5", "--image", "none.png"), 2, "does not exist"),
        (("lenet5", "--image", "image.npy", "--stride", "2"), 2, "--stride is for a problem without MODEL"),
        (("lenet5", "--input", "1,8,8", "--image", "image.npy"), 2, "without MODEL"),
        (("m.onnx", "--image", "image.npy", "--weights", "image.npy"), 2, "--weights is for a network by name"),
        (("lenet6", "--image", "image.npy"), 2, "none of densenet121"),
        (("--force",), 2, "--force is for --html"),
        (("--html", "x.html", "--port", "8000"), 2, "--html writes a file"),
        (("--html", "x.txt"), 2, "none of the kinds"),
        (("--port", "70000"), 2, "70000 is not in the range"),
        (("--html", "no/x.html"), 1, "no is no folder"),
        (("--input", "1,8,8", "--kernel", "1,2,3,3"), 1, "x has 1 channels but w takes 2"),
        (("--input", "1,8,8", "--kernel", "1,1,9,9"), 1, "does not fit"),
        (("--input", "1,99,99", "--kernel", "1,1,3,3"), 1, "at most 64 along an axis"),
        (("--input", "99999,99999", "--kernel", "1,1,3,3"), 1, "more than 16384 numbers"),
        (("--input", "1,-3,8", "--kernel", "1,1,3,3"), 1, "sizes below 1"),
        (("lenet5", "--image", "image.npy", "--target", "10"), 1, "target is 10"),
        (("lenet5", "--image", "labels.txt"), 1, "cannot be read as PNG or JPEG"),
        (("labels.npz", "--image", "image.npy"), 1, "labels.npz"),
        (("bad.onnx", "--image", "image.npy"), 1, "bad.onnx"),
    ],
)
def test_refusals_are_one_line(arguments, code, words):
    for name in ("labels.txt", "labels.npz", "bad.onnx"):
        Path(name).write_text("x" * 100)
    if arguments[0] == "bad.onnx":
        pytest.importorskip("onnx", reason="the models are onnx's (the extra `onnx`)")
        words = "onnx"
    if arguments[-1] == "labels.txt":
        pytest.importorskip("PIL", reason="pictures are read with Pillow (the extra `plot`)")
    result = run(*arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert words in result.stderr


def test_a_file_is_not_replaced_unasked():
    assert written()
    result = run("--html", "page.html")
    assert (result.exit_code, result.stderr) == (1, "npconv: page.html exists; --force replaces it\n")
    assert run("--html", "page.html", "--force").exit_code == 0


def test_names_that_steer_a_terminal():
    name = "\x1b[31m\u202e.html"
    result = run("--html", name)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout
    os.rename("image.npy", "\x1b[2J.npy")
    result = run("lenet5", "--image", "\x1b[2J.npy", "--target", "99")
    assert "\x1b" not in result.stderr + result.stdout


def test_the_help_has_examples():
    result = run("--help")
    assert result.exit_code == 0
    assert "npconv explore model.onnx --image photo.png" in result.stdout


def test_the_local_page_until_ctrl_c():
    """As a user has it: an address, a page behind it, and a quiet end."""
    command = [sys.executable, "-m", "npconv.cli", "explore", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        ended = threading.Timer(60, process.kill)
        ended.start()
        try:
            address = re.search(r"http://(127\.0\.0\.1:\d+)(/\S+/)", process.stderr.readline())
            assert process.stderr.readline() == "Ctrl-C ends it.\n"
            connection = http.client.HTTPConnection(address[1], timeout=10)
            connection.request("GET", address[2])
            answer = connection.getresponse()
            assert answer.status == 200
            assert json.loads(DATA.search(answer.read().decode())[1])["host"] == "page"
        finally:
            process.send_signal(signal.SIGINT)
        out, error = process.communicate()
        ended.cancel()
    assert (process.returncode, out, error) == (0, "", "")


def test_a_port_that_is_taken():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run("--no-browser", "--port", taken.getsockname()[1])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("npconv: port ")
