"""`npconv explain`, `bench`, `verify`, `doctor` and `tune` for programs and for people: numbers, notes, exit codes."""

import importlib
import importlib.util
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("click", reason="the command needs the extra `cli`")
pytest.importorskip("tqdm", reason="the command needs the extra `cli`")

from click.testing import CliRunner

import npconv
from npconv import dispatch, testing, tuning
from npconv.algorithms import OWN, registered
from npconv.cli import main, race, racer, verifying, words
from npconv.compiled import catalogue


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments: object):
    return CliRunner().invoke(main, list(map(str, arguments)))


def told(*arguments: object, code: int = 0):
    """The one JSON document on stdout."""
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def module(name: str) -> Any:
    """A module of the commands by its name."""
    return importlib.import_module(f"npconv.cli.{name}")


# --------------------------------------------------------------------------- explain
def test_explain_for_programs():
    found = told("explain", "1,4,9,9", "8,2,3,3", "--groups", "2", "--padding", "same", "--measure")
    expected = npconv.explain((1, 4, 9, 9), (8, 2, 3, 3), groups=2, padding="same")
    assert (found["choice"], found["y_shape"]) == (expected.choice, [1, 8, 9, 9])
    assert [c["name"] for c in found["candidates"]] == [a.name for a in registered()]
    for one, c in zip(found["candidates"], expected.candidates, strict=True):
        assert (one["able"], one["verdict"], one["estimate"]) == (c.able, c.verdict, c.seconds)
        assert (one["measured"] is not None) == (c.able and c.name != "loops")
        assert one["workspace"] == (c.cost.workspace if c.cost else None)


@pytest.mark.parametrize("width", [66, 80, 100])
@pytest.mark.parametrize("measure", [False, True])
def test_explain_fits_a_terminal(width, measure):
    found = npconv.explain((1, 4, 9, 9), (8, 4, 3, 3), padding=1, measure=measure)
    text = module("explain").narrow(found, width)
    assert max(map(len, text.splitlines())) <= width
    flat = " ".join(text.split())
    assert f"choice: {found.choice}" in flat
    for c in found.candidates:
        assert c.name in flat
    words_of = {word for c in found.candidates for word in c.verdict.split()}
    assert words_of <= set(flat.split())
    assert ("measured" in flat) == measure


# --------------------------------------------------------------------------- bench
def test_bench_for_programs():
    """In real processes, npconv alone."""
    found = told(
        "bench", "1,4,12,12", "4,4,3,3", "--padding", "1", "--peers", "none", "--seconds", "0.05", "--threads", 1
    )
    ways = {one["way"]: one for one in found["ways"]}
    able = {c.name for c in npconv.explain((1, 4, 12, 12), (4, 4, 3, 3), padding=1).candidates if c.able}
    assert set(ways) == {"auto", "planned"} | able - {"loops"}
    assert all(one["error"] is None for one in ways.values())
    for one in ways.values():
        assert 0 < one["least"] <= one["median"]
        assert one["calls"] >= race.ROUNDS
        assert one["of_auto"] == pytest.approx([one[name] / ways["auto"][name] for name in ("median", "least")])
    medians = [one["median"] for one in found["ways"]]
    assert medians == sorted(medians)
    assert (found["threads"], found["versions"]) == (1, {"npconv": npconv.__version__})


@pytest.mark.parametrize("direction", ["forward", "input_grad", "weight_grad"])
@pytest.mark.parametrize("library", ["npconv", "torch", "onnxruntime"])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "options"),
    [
        ((2, 4, 9, 8), (6, 2, 3, 2), {"stride": (2, 1), "padding": (1, 2), "groups": 2}),
        ((1, 3, 20), (2, 3, 4), {"padding": "same"}),
        ((1, 2, 5, 6, 7), (3, 2, 2, 3, 2), {"padding": 1, "dilation": (1, 2, 1)}),
    ],
)
def test_every_library_computes_the_same(library, direction, x_shape, w_shape, options):
    """In this process: what is timed is npconv's own result, in every way."""
    if library != "npconv" and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    given = {"x_shape": x_shape, "w_shape": w_shape, "threads": 1}
    layer = racer.Layer(given | {"options": options | {"direction": direction, "dtype": "float32"}})
    try:
        ways = racer.WAYS[library](layer)
    except NotImplementedError as error:
        reason = str(error)
        ways = {}
    if library == "onnxruntime" and direction != "forward":
        assert (ways, reason) == ({}, "onnxruntime has no gradients")
        return
    if library == "torch" and direction != "forward" and options["padding"] == "same":
        assert (ways, reason) == ({}, "torch has no gradient of a padding that differs on both sides")
        return
    if direction == "forward":
        expected = npconv.conv(layer.x, layer.w, **options)
    elif direction == "input_grad":
        expected = npconv.conv_input_grad(layer.g, layer.w, input_shape=x_shape, **options)
    else:
        expected = npconv.conv_weight_grad(layer.x, layer.g, kernel_shape=w_shape, **options)
    assert ways
    for call in ways.values():
        np.testing.assert_allclose(np.asarray(call()), expected, rtol=1e-4, atol=1e-4)
        assert racer.fingerprint(call()) == pytest.approx(racer.fingerprint(expected), rel=1e-3)


def test_another_result_is_not_timed():
    ways = [race.Way("npconv", "auto"), race.Way("other", "")]
    for way, answer in zip(ways, ([1.0, 2.0], [1.0, 2.01]), strict=True):
        race._first(way, answer, ways)
    assert not ways[0].error
    assert "its result is another" in ways[1].error


def raced(**seconds: list[float]) -> race.Race:
    ways = [race.Way("npconv", name, each) for name, each in seconds.items()]
    return race.Race(npconv.explain((1, 1, 4), (1, 1, 2)), 2, "direct", {"npconv": "1"}, ways, None)


def test_notes_are_honest():
    apart = raced(auto=[1.0, 1.01, 1.02], gemm=[2.0, 2.01, 2.02])
    assert apart.notes() == []
    close = raced(auto=[1.0, 1.01, 1.05], gemm=[1.01, 1.02, 1.03])
    assert close.notes() == ["npconv auto and npconv gemm differ by less than the noise"]
    wild = raced(auto=[1.0, 2.0, 3.0])
    assert wild.notes() == ["times scatter by up to 25%: try --seconds 5, and close what else runs"]
    rows, _ = apart.rows()
    assert rows[2] == ("npconv gemm", "2010.000 ms", "1.99", "2000.000 ms", "2.00", "0%", "3")


def test_a_process_that_dies(monkeypatch):
    monkeypatch.setattr(race, "find_spec", lambda name: True)
    answer = race.Racer("no such library", 1)
    try:
        assert "error" in answer.ask({"x_shape": (1, 1, 4), "w_shape": (1, 1, 2), "options": {}, "threads": 1})
        assert "the process ended" in answer.ask({"way": "auto"})["error"]
    finally:
        answer.end()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["resnet50"], 2, "'resnet50' is not a name or integers"),
        (["resne"], 2, "'resne' is no layer; there are resnet, first, pointwise"),
        (["resnet", "1,1,3,3"], 2, "give two shapes or one name"),
        (["resnet", "--padding", "2"], 2, "the layer 'resnet' has its own --padding"),
        (["1,3,9,9"], 2, "the kernel's shape is missing"),
        (["1,3,9,9", "4,2,3,3"], 1, "explain: "),
        (["1,3,9,9", "4,3,3,3", "--peers", "jax"], 2, "'jax' is none of torch, onnxruntime"),
        (["1,3,9,9", "4,3,3,3", "--threads", "0"], 2, "Invalid value for '--threads'"),
        (["1,3,9,9", "4,3,3,3", "--dtype", "float33"], 1, "float33"),
    ],
)
def test_bench_errors_are_one_line(arguments, code, message):
    result = run("bench", *arguments, "--peers", "none") if "--peers" not in arguments else run("bench", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_presets_are_layers():
    for x_shape, w_shape, options in module("bench").PRESETS.values():
        assert npconv.explain(x_shape, w_shape, **options).choice


# --------------------------------------------------------------------------- verify
MINE = """
from npconv.algorithms.direct import Direct
class Right(Direct):
    name = "mine"
class Wrong(Direct):
    name = "wrong\\x1b[31m"
    def forward(self, x, prepared, geometry, out):
        super().forward(x, prepared, geometry, out)
        out *= 1.001
class Broken(Direct):
    name = "broken"
    def forward(self, x, prepared, geometry, out):
        raise KeyError("tap")
instance = Right()
other = 3
"""


@pytest.fixture
def mine(monkeypatch):
    Path("mine_for_tests.py").write_text(MINE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "mine_for_tests"
    sys.modules.pop("mine_for_tests", None)


def test_names_are_the_algorithms():
    assert tuple(a.name for a in OWN) == module("verify").NAMES


def test_verify_own(mine):
    result = run("verify", f"{mine}:Right", f"{mine}:instance", "--cases", 2)
    assert result.exit_code == 0, result.stderr
    report = testing.verify_algorithm(sys.modules[mine].Right(), problems_per_dtype=2)
    assert result.stdout.splitlines()[0].split()[:2] == ["mine", str(report.accepted)]
    assert result.stdout.splitlines()[-1] == "2 algorithms are right"


def test_verify_finds_a_wrong_one(mine):
    result = run("verify", f"{mine}:Wrong", f"{mine}:Broken", f"{mine}:Right", "--cases", 2)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [["wrong?[31m", "failed"], ["broken", "failed"], ["mine", "8"]]
    assert re.search(r"wrong\?\[31m: \w+ in float(32|64): output \(", result.stdout)
    assert "the definition gives" in result.stdout
    assert "the problem: ConvGeometry(" in result.stdout
    assert "KeyError: 'tap'" in result.stdout
    assert result.stderr == ""
    found = told("verify", f"{mine}:Wrong", f"{mine}:Right", "--cases", 2, code=1)
    assert [one["result"] for one in found["algorithms"]] == ["failed", "right"]
    assert found["algorithms"][1]["worst_of_bound"] < 1


def test_seeds_draw_other_problems():
    first, again, other = (
        told("verify", "direct", "--cases", 3, *seed)["algorithms"][0]["worst_of_bound"]
        for seed in ((), (), ("--seed", 1))
    )
    assert first == again != other


def test_kernels_that_are_missing_are_no_failure(monkeypatch):
    monkeypatch.setattr(catalogue, "_failure", "compiling 'x' of 'y' failed: no")
    monkeypatch.setattr(verifying, "registered", lambda: tuple(a for a in OWN if a.name in ("direct", "blocked")))
    result = run("verify", "--cases", 2)
    assert result.exit_code == 0, result.stdout
    assert result.stdout.splitlines()[1] == f"{'blocked':<18}skipped: no compiled kernels: {catalogue.unavailable()}"
    assert result.stdout.splitlines()[2] == "it is right"
    assert run("verify", "blocked", "--cases", 2).exit_code == 1


@pytest.mark.long
def test_verify_all():
    assert run("verify", "--cases", 60).exit_code == 0


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("winograd", 2, "'winograd' is no algorithm; did you mean 'winograd_f"),
        ("zzz", 2, "there are loops, direct"),
        ("no_such_module:A", 1, "cannot be loaded: ModuleNotFoundError"),
        ("mine_for_tests:Nope", 1, "has no attribute 'Nope'"),
        ("mine_for_tests:other", 1, "is no Algorithm of npconv.algorithms.base, but int"),
    ],
)
def test_verify_errors_are_one_line(mine, name, code, message):
    result = run("verify", name)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


# --------------------------------------------------------------------------- doctor, tune
def test_doctor_for_programs():
    found = told("doctor")
    subjects = [one["subject"] for one in found["report"]]
    assert {"npconv", "processor", "threads", "compiled kernels", "cost table"} <= set(subjects)
    assert found["extras"]["cli"]["click"]
    assert all(name.isupper() or "_" in name or name[-1].isdigit() for name in found["cpu_features"])


def test_doctor_gives_advice(monkeypatch):
    monkeypatch.setattr(catalogue, "_failure", "compiling 'x' of 'y' failed: no")
    found = {one["subject"]: one for one in told("doctor")["report"]}
    assert found["compiled kernels"]["advice"] == "report it with the lines above, please"
    assert found["threads"]["advice"] is None


def test_the_doctor_knows_every_extra():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {
        extra: {name.split(">=")[0].split("[")[0].strip() for name in needs if not name.startswith("npconv[")}
        for extra, needs in project["optional-dependencies"].items()
        if extra not in ("all", "test")
    }
    known = {extra: set(names) - {"llvmlite"} for extra, names in module("care").INSTALLED.items()}
    assert known == extras


def test_tune_for_programs(monkeypatch, tmp_path):
    monkeypatch.setenv("NPCONV_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setattr(tuning, "tune", lambda seconds, progress: tuning.Result(dispatch.SECONDS, 1.2, 1.1, 30))
    found = told("tune", "--seconds", 1, "--dry-run")
    assert (found["kept"], found["better"], found["judged_by"], found["regret_after"]) == (False, True, 15, 1.1)
    assert found["seconds_per_unit"] == json.loads(json.dumps(dispatch.SECONDS))
    assert not (tmp_path / "kernels" / "tuning.json").exists()
    monkeypatch.setattr(tuning, "keep", lambda table: False)
    result = run("tune", "--seconds", 1, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["kept"] is False
    assert "there is no directory" in result.stderr


# --------------------------------------------------------------------------- words
def test_json_has_neither_nan_nor_infinity():
    value = {"a": [math.nan, 1.5, (math.inf, 2)], 3: None}
    assert words.finite(value) == {"a": [None, 1.5, [None, 2]], "3": None}


def test_tables_are_aligned():
    assert words.table([("a", "bb", ""), ("ccc", "d", "e")], right=(1,)) == "a    bb\nccc   d  e"
    assert words.table([("漢字", "1"), ("e\u0301", "2"), ("abcde", "3")]) == "漢字   1\ne\u0301      2\nabcde  3"
