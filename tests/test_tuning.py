"""npconv tune, doctor and warmup: a table that is measured, kept, found again, and ignored when it makes no sense."""

import json
from itertools import islice

import numpy as np
import pytest

from npconv import diagnosis, dispatch, tuning
from npconv.algorithms.base import Cost
from npconv.cli import main
from npconv.compiled import catalogue, store

TABLE = {engine: {unit: 2 * value for unit, value in prices.items()} for engine, prices in dispatch.SECONDS.items()}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NPCONV_CACHE_DIR", str(tmp_path / "kernels"))
    dispatch.prices.cache_clear()
    yield tmp_path / "kernels"
    dispatch.prices.cache_clear()
    dispatch.choose.cache_clear()


def test_a_table_is_kept_and_found(folder):
    cost = Cost(10**9, 0, 0, 0, engine="numpy")
    before = dispatch.estimate(cost, np.dtype(np.float32))
    assert (dispatch.prices(), dispatch.tuned()) == (dispatch.SECONDS, (None, "never measured here"))
    assert tuning.keep(TABLE)
    assert dispatch.prices() == TABLE
    assert dispatch.estimate(cost, np.dtype(np.float32)) == pytest.approx(2 * before)
    assert set(json.loads((folder / "tuning.json").read_text())) == {"machine", "date", "seconds"}


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.pop("seconds"),
        lambda found: found["seconds"].pop("blocked"),
        lambda found: found["seconds"]["numpy"].update(flop=0),
        lambda found: found["seconds"]["numpy"].update(flop=float("nan")),
        lambda found: found["seconds"]["numpy"].update(flop="fast"),
        lambda found: found["seconds"].update(numpy=[1, 2]),
        lambda found: found.update(machine=["another", 1000]),
    ],
)
def test_a_table_that_makes_no_sense_is_ignored(folder, change):
    tuning.keep(TABLE)
    found = json.loads((folder / "tuning.json").read_text())
    change(found)
    (folder / "tuning.json").write_text(json.dumps(found))
    assert (dispatch.tuned()[0], dispatch.prices()) == (None, dispatch.SECONDS)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000])
def test_a_damaged_file_is_ignored(folder, content):
    store.save(dispatch.TUNED, content)
    assert (dispatch.tuned(), dispatch.prices()) == ((None, "damaged"), dispatch.SECONDS)


def test_a_fit_finds_the_prices_that_made_the_times():
    layers = []
    for geometry in islice(tuning.shapes(np.random.default_rng(0)), 40):
        costs = {
            engine: Cost(2 * geometry.macs, geometry.macs % 9973 * 1000, 1 + geometry.macs % 7, 0, 0, engine)
            for engine in TABLE
        }
        seconds = {name: dispatch.estimate(cost, np.dtype(np.float32), TABLE) for name, cost in costs.items()}
        layers.append(tuning.Layer(geometry, "forward", costs, seconds, tuple(costs)))
    found = tuning.fit(layers)
    for engine, prices in TABLE.items():
        for unit in ("flop", "byte", "call"):
            assert found[engine][unit] == pytest.approx(prices[unit], rel=0.02)
    assert tuning.mean_regret(layers, TABLE) == 1


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """The exit code of the command and what it printed."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments), prog_name="npconv")
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_doctor(folder, capsys):
    code, out, err = run("doctor", capsys=capsys)
    lines = dict(
        line.split(maxsplit=1) for line in out.splitlines() if not line.startswith(("compiled", "kept", "cost"))
    )
    assert (code, err) == (0, "")
    assert {"npconv", "numba", "processor", "threads"} <= set(lines)
    assert f"kept in           {folder}" in out
    assert "never measured here" in out


def test_doctor_says_why_there_are_no_kernels(monkeypatch):
    monkeypatch.setattr(catalogue, "_failure", "compiling 'x' of 'y' failed: no")
    found = dict(diagnosis.report())
    assert found["compiled kernels"] == "not used: compiling 'x' of 'y' failed: no"
    assert found[""] == diagnosis.HINTS["compiling"]


def test_warmup_needs_kernels(monkeypatch, capsys):
    monkeypatch.setattr(catalogue, "_failure", "compiling 'x' of 'y' failed: no")
    code, out, err = run("warmup", capsys=capsys)
    assert (code, out) == (1, "")
    assert err == "npconv: there are no compiled kernels here: compiling 'x' of 'y' failed: no\n"


def test_warmup_compiles_everything(monkeypatch, capsys):
    if catalogue.unavailable():
        pytest.skip(str(catalogue.unavailable()))
    done = []
    monkeypatch.setattr(catalogue, "kernel", lambda *entry: done.append(entry))
    code, out, _ = run("warmup", capsys=capsys)
    assert (code, {family for family, _, _ in done}) == (0, set(catalogue.FAMILIES))
    assert out.startswith(f"{len(done)} kernels are ready: ")


@pytest.mark.parametrize(("after", "said", "kept"), [(1.1, "kept; ", True), (1.3, "not kept: ", False)])
def test_tune_keeps_what_is_better(folder, monkeypatch, capsys, after, said, kept):
    monkeypatch.setattr(tuning, "tune", lambda seconds, progress: tuning.Result(TABLE, 1.2, after, 30))
    code, out, _ = run("tune", "--seconds", "1", capsys=capsys)
    assert (code, (folder / "tuning.json").exists()) == (0, kept)
    assert f"1.200 with npconv's own table, {after:.3f} with this one" in out
    assert out.splitlines()[-1].startswith(said)


def test_tune_measures(monkeypatch):
    monkeypatch.setattr(catalogue, "everything", list)
    passed = []
    found = tuning.tune(0.5, progress=passed.append)
    assert found.layers == len(passed) >= 1
    assert set(found.table) == set(dispatch.SECONDS)
    assert min(found.before, found.after) >= 1 - 1e-12
