"""Random arguments, valid and invalid mixed, in a process of its own: 3,000 of each kind, or 20,000 with `-m long`.

What is allowed, and how it is judged, is in fuzz_worker.py, which repeats one case when run with SEED 1.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fuzz_worker
import npconv
from npconv import dispatch, memory, problem

WORKER = Path(__file__).with_name("fuzz_worker.py")
CHUNK = 500
CHUNKS = [
    pytest.param(first, id=f"from-{first}", marks=() if first < 3_000 else pytest.mark.long)
    for first in range(0, 20_000, CHUNK)
]


def run(first: int, count: int, *kind: str) -> dict:
    """What the worker reports; a signal or an exception of its own fails here and shows the last seed."""
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, str(WORKER), str(first), str(count), *kind],
        env=os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"exit status {done.returncode}, stderr ends with: {done.stderr[-3000:]}"
    return json.loads(done.stdout)


@pytest.mark.parametrize("first", CHUNKS)
def test_only_right_results_and_honest_refusals(first: int):
    report = run(first, CHUNK)
    assert report["failures"] == []
    assert sum(report["outcomes"].values()) == CHUNK
    assert report["grown"] < 64, f"{report['grown']} MiB more than after the first calls"
    for outcome in ("result", "TypeError", "ValueError"):  # the dice are neither too wild nor too tame
        assert report["outcomes"][outcome] > CHUNK / 8


@pytest.mark.parametrize("first", CHUNKS)
def test_the_other_operators_give_results_or_honest_refusals(first: int):
    report = run(first, CHUNK, "more")
    assert report["failures"] == []
    assert report["grown"] < 256, f"{report['grown']} MiB more than after the first calls"
    for outcome in ("result", "TypeError", "ValueError"):
        assert report["outcomes"][outcome] > CHUNK / 8


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1j, 1.5, 300])
@pytest.mark.parametrize("operator", ["conv", "conv_weight_grad"])
def test_a_padding_value_that_integers_cannot_hold(operator: str, value: complex):
    x, other = np.ones((1, 1, 3), np.int8), np.ones((1, 1, 3), np.int8)
    shape = {"kernel_shape": (1, 1, 3)} if operator == "conv_weight_grad" else {}
    with pytest.raises((TypeError, ValueError), match=rf"{operator}: padding_value=.* does not fit x of dtype int8"):
        getattr(npconv, operator)(x, other, padding=1, padding_mode="constant", padding_value=value, **shape)


def test_a_padding_value_without_an_imaginary_part_is_real():
    x, w = np.ones((1, 1, 3), np.int8), np.ones((1, 1, 3), np.int8)
    y = npconv.conv(x, w, padding=1, padding_mode="constant", padding_value=2 + 0j)
    assert y.tolist() == [[[4, 3, 4]]]


def test_an_unknown_dtype_of_a_filter():
    with pytest.raises(TypeError, match=r"filters\.apply: dtype='no' is unknown to NumPy"):
        npconv.filters.apply(np.ones((3, 3)), "sharpen", dtype="no")


def test_a_local_convolution_padded_beyond_memory():
    x, w = np.ones((1, 1, 9), np.float32), np.ones((1, 1, 2, 9), np.float32)
    with pytest.raises(npconv.MemoryLimitError, match="local_conv: an x padded to"):
        npconv.local_conv(x, w, padding="same", dilation=2**62)


# --- the judge itself


def judged(text: str, error: type[Exception] = ValueError, odd: tuple[str, ...] = ("stride",), verdict: str = "bad"):
    return fuzz_worker.judge(error(text), "conv", list(odd), verdict, "")


def test_the_judge_accepts_an_honest_refusal():
    assert judged("conv: stride must be >= 1, got 0; use 1 or more") is None


@pytest.mark.parametrize(
    ("text", "odd", "verdict", "complaint"),
    [
        ("conv: stride must be >= 1", (), "valid", "refused a valid call"),
        ("conv: stride must be >= 1", ("stride",), "valid", "refused what the specification allows"),
        ("stride must be >= 1", ("stride",), "bad", "begins with the operation"),
        ("conv: stride\nmust be >= 1", ("stride",), "bad", "one line"),
        ("conv: dilation must be >= 1", ("stride",), "bad", "names none"),
        ("conv: input_dilation must be >= 1", ("dilation",), "bad", "names none"),
    ],
)
def test_the_judge_objects(text, odd, verdict, complaint):
    assert complaint in judged(text, odd=odd, verdict=verdict)


def test_the_judge_of_the_other_operators_objects(monkeypatch: pytest.MonkeyPatch):
    """An accepted bad argument and a raw exception both show."""
    for module in (memory, dispatch, problem):
        monkeypatch.setattr(module, "machine_memory", lambda: fuzz_worker.MEMORY)
    seeds = range(60)
    assert [wrong for seed in seeds if (wrong := fuzz_worker.play_more(seed)[1])] == []
    with monkeypatch.context() as patch:
        patch.setattr(fuzz_worker.fuzz_more, "call", lambda *_: None)
        assert any("accepted" in (fuzz_worker.play_more(seed)[1] or "") for seed in seeds)
    with monkeypatch.context() as patch:
        patch.setattr(fuzz_worker.fuzz_more, "call", lambda *_: {}["dw"])
        assert all("KeyError" in (fuzz_worker.play_more(seed)[1] or "") for seed in seeds)


def test_a_wrong_result_and_an_accepted_bad_argument_show(monkeypatch: pytest.MonkeyPatch):
    for module in (memory, dispatch, problem):
        monkeypatch.setattr(module, "machine_memory", lambda: fuzz_worker.MEMORY)
    seeds = range(40)
    assert [wrong for seed in seeds if (wrong := fuzz_worker.play(seed)[1])] == []
    real = fuzz_worker.npconv.conv
    with monkeypatch.context() as patch:
        patch.setattr(fuzz_worker.npconv, "conv", lambda *a, **k: real(*a, **k) + 1)
        assert any("are wrong" in (fuzz_worker.play(seed)[1] or "") for seed in seeds)
    with monkeypatch.context() as patch:
        patch.setattr(fuzz_worker.npconv, "conv", lambda *a, **k: None)
        assert any("accepted" in (fuzz_worker.play(seed)[1] or "") for seed in seeds)
