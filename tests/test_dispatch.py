"""The choice as a decision table, the printed explanation, and algorithms that come from outside."""

from __future__ import annotations

import importlib.metadata
import warnings
from pathlib import Path

import numpy as np
import pytest

import npconv
from npconv import algorithms, testing
from npconv.algorithms.base import Algorithm
from npconv.algorithms.direct import Direct
from npconv.algorithms.gemm import Gemm
from npconv.compiled import catalogue
from npconv.geometry import ConvGeometry

# what anyone would choose, whatever the machine: (x, w, options) -> the names that are right on NumPy, and compiled
DECISIONS = {
    "pointwise": ((1, 64, 56, 56), (256, 64, 1, 1), {}, {"gemm"}, {"blocked"}),
    "pointwise, many": ((8, 256, 14, 14), (64, 256, 1, 1), {}, {"gemm", "direct"}, {"blocked"}),
    "pointwise, few outputs": ((4, 512, 112, 112), (8, 512, 1, 1), {"stride": 2}, {"gemm", "direct"}, {"blocked"}),
    "pointwise groups' weight gradient": (
        (32, 512, 14, 14),
        (512, 16, 1, 1),
        {"groups": 32, "direction": "weight_grad"},
        {"gemm", "direct"},
        {"blocked"},
    ),
    "strided": ((1, 512, 14, 14), (512, 512, 3, 3), {"stride": 2, "padding": 1}, {"gemm", "direct"}, {"blocked"}),
    "5x5, strided": (
        (1, 128, 56, 56),
        (128, 128, 5, 5),
        {"stride": 2, "padding": 2},
        {"gemm", "direct"},
        {"fused_winograd_f4"},
    ),
    "3x3, many channels": (
        (1, 256, 56, 56),
        (256, 256, 3, 3),
        {"padding": 1},
        {"winograd_f4"},
        {"fused_winograd_f4"},
    ),
    "3x3, strict": (
        (1, 256, 56, 56),
        (256, 256, 3, 3),
        {"padding": 1, "accuracy": "strict"},
        {"gemm", "direct"},
        {"gemm", "direct"},
    ),
    "depthwise": ((1, 64, 56, 56), (64, 1, 3, 3), {"padding": 1, "groups": 64}, {"depthwise"}, {"channelwise"}),
    "small groups": ((1, 128, 56, 56), (128, 4, 3, 3), {"padding": 1, "groups": 32}, {"gemm"}, {"channelwise"}),
    "an image filter": ((1, 1, 512, 512), (1, 1, 5, 5), {"padding": 2}, {"depthwise"}, {"pixelwise"}),
    "to grey": ((1, 3, 512, 512), (1, 3, 1, 1), {}, {"gemm", "direct"}, {"pixelwise"}),
    "large kernel": ((1, 16, 128, 128), (16, 16, 31, 31), {"padding": 15}, {"fft"}, {"tiled_fft"}),
    "large depthwise": (
        (1, 64, 64, 64),
        (64, 1, 31, 31),
        {"padding": 15, "groups": 64},
        {"fft"},
        {"tiled_fft"},
    ),
    "depthwise, small": (
        (1, 32, 7, 7),
        (32, 1, 3, 3),
        {"padding": 1, "groups": 32},
        {"depthwise", "direct", "gemm"},
        {"channelwise"},
    ),
    "integers": ((1, 64, 56, 56), (64, 64, 3, 3), {"dtype": "int32"}, {"gemm", "direct"}, {"blocked"}),
    "long filter": ((1, 1, 100_000), (1, 1, 2001), {}, {"fft"}, {"fft", "tiled_fft"}),
    "a matrix product": ((32, 512), (10, 512), {}, {"gemm", "direct"}, {"gemm", "direct", "blocked"}),
}


@pytest.mark.parametrize("algorithm", algorithms.OWN, ids=lambda a: a.name)
def test_writing_a_weight_gradient_is_adding_the_same_to_zeros(algorithm: Algorithm):
    """A class with a gradient of its own does not write the one that it inherits."""
    order = type(algorithm).__mro__
    adds, writes = (next(c for c in order if name in vars(c)) for name in ("weight_grad", "write_weight_grad"))
    assert writes is Algorithm or order.index(writes) <= order.index(adds)


@pytest.mark.parametrize("case", DECISIONS)
def test_decisions(case: str):
    x, w, options, numpy_alone, compiled = DECISIONS[case]
    assert npconv.explain(x, w, **options).choice in (numpy_alone if catalogue.unavailable() else compiled)


@pytest.mark.parametrize("direction", ["forward", "input_grad", "weight_grad"])
def test_an_explanation_names_every_algorithm_with_a_reason(direction: str):
    found = npconv.explain((2, 8, 20, 20), (8, 8, 3, 3), padding=1, stride=2, direction=direction)
    text = str(found)
    assert [c.name for c in found.candidates] == [a.name for a in algorithms.registered()]
    assert all(c.verdict.startswith(("no: ", "chosen: ")) and len(c.verdict) > 8 for c in found.candidates)
    assert sum(c.verdict.startswith("chosen") for c in found.candidates) == 1
    for c in found.candidates:
        assert c.name in text
        assert c.verdict in text
        if c.cost is not None:
            assert min(c.cost.flops + c.cost.butterflies, c.cost.workspace) >= 0


def test_measuring_times_everything_that_can_run():
    found = npconv.explain((1, 8, 16, 16), (8, 8, 3, 3), padding=1, measure=True)
    for c in found.candidates:
        assert (c.measured is not None) == (c.able and c.name != "loops"), c
        assert c.measured is None or 0 < c.measured < 60
    assert "measured" in str(found)


def test_a_budget_excludes_with_bytes_and_the_last_one_refuses():
    shapes = ((1, 64, 64, 64), (64, 64, 3, 3))
    found = npconv.explain(*shapes, max_workspace=1 << 20)
    fft = next(c for c in found.candidates if c.name == "fft")
    assert not fft.able
    assert "bytes of workspace, the limit is 1048576" in fft.verdict
    with pytest.raises(npconv.MemoryLimitError, match=r"the least any algorithm needs is [0-9]+"):
        npconv.explain(*shapes, max_workspace=100)


def test_an_algorithm_that_cannot_says_why_and_which_can():
    with pytest.raises(ValueError, match=r"algorithm='winograd_f4' cannot run here: .*needs stride 1.*gemm"):
        npconv.conv(np.ones((1, 1, 9, 9)), np.ones((1, 1, 3, 3)), stride=2, algorithm="winograd_f4")


def test_winograd_is_the_best_tile_that_the_tier_admits():
    how = {"padding": 1, "algorithm": "winograd"}
    compiled = "" if catalogue.unavailable() else "fused_"
    assert npconv.explain((1, 64, 56, 56), (64, 64, 3, 3), **how).choice in (
        f"{compiled}winograd_f2",
        f"{compiled}winograd_f4",
    )
    with pytest.raises(ValueError, match="exceeds accuracy='strict'"):
        npconv.explain((1, 64, 56, 56), (64, 64, 3, 3), accuracy="strict", **how)


def runs_here(algorithm: Algorithm) -> bool:
    """Not so for machine code where the extra `fast` is missing or turned off."""
    return algorithm.why_not(ConvGeometry(1, 1, 1, (3,), (2,), (1,), (1,), ((0, 0),), (1,)), np.dtype("f4")) != (
        catalogue.unavailable() or ""
    )


@pytest.mark.parametrize(
    "algorithm", [a for a in algorithms.OWN if a.name != "loops" and runs_here(a)], ids=lambda a: a.name
)
def test_our_own_algorithms_verify(algorithm: Algorithm):
    report = testing.verify_algorithm(algorithm, problems_per_dtype=40, rng=7)
    assert report.accepted > 0
    assert report.worst <= 1


class OffByLittle(Direct):
    """Wrong in one output of many, by far more than rounding."""

    name, summary = "off", "wrong on purpose"

    def forward(self, x, prepared, geometry, out):
        super().forward(x, prepared, geometry, out)
        out[(-1, -1, *(-1 for _ in geometry.kernel))] *= 1 + 1e-4


class Forgetful(Direct):
    """Leaves the last output as it found it."""

    name, summary = "forgetful", "wrong on purpose"

    def forward(self, x, prepared, geometry, out):
        kept = out[(-1, -1, *(-1 for _ in geometry.kernel))].copy()
        super().forward(x, prepared, geometry, out)
        out[(-1, -1, *(-1 for _ in geometry.kernel))] = kept


class Scribbler(Direct):
    """Writes to its input."""

    name, summary = "scribbler", "wrong on purpose"

    def forward(self, x, prepared, geometry, out):
        super().forward(x, prepared, geometry, out)
        if x.size:
            x[(0,) * x.ndim] += 1


class Claims(Gemm):
    """Says it needs no memory for a reason that is no text."""

    name, summary = "claims", "wrong on purpose"

    def why_not(self, geometry, dtype):
        return 0


class Transposed(Direct):
    """Forgets to swap in and out in the weight gradient."""

    name, summary = "transposed", "wrong on purpose"

    def weight_grad(self, x, g, geometry, out):
        super().weight_grad(x, g, geometry, out)
        if out.shape[0] == out.shape[1]:
            out[...] = out.swapaxes(0, 1).copy()


@pytest.mark.parametrize("wrong", [OffByLittle, Forgetful, Scribbler, Claims, Transposed], ids=lambda c: c.__name__)
def test_verification_rejects(wrong: type[Algorithm]):
    with pytest.raises(testing.VerificationError):
        testing.verify_algorithm(wrong(), problems_per_dtype=40)


def test_a_broken_plug_in_is_left_out_with_a_warning(monkeypatch: pytest.MonkeyPatch):
    broken = importlib.metadata.EntryPoint("broken", "npconv_no_such_module:Thing", algorithms.ENTRY_POINTS)
    second = importlib.metadata.EntryPoint("again", "npconv.algorithms.gemm:Gemm", algorithms.ENTRY_POINTS)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: (broken, second))
    monkeypatch.setattr(algorithms, "_declared", lambda: True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        names = [a.name for a in algorithms.registered.__wrapped__()]
    assert names == [a.name for a in algorithms.OWN]
    assert [str(w.message).split(": ")[1] for w in caught] == [
        "the algorithm 'broken' (npconv_no_such_module:Thing) is left out",
        "the algorithm 'again' (npconv.algorithms.gemm:Gemm) is left out",
    ]


@pytest.mark.parametrize("where", ["a-1.dist-info", "a.egg-info", "EGG-INFO"])
def test_a_plug_in_is_seen_wherever_packages_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str):
    (tmp_path / where).mkdir()
    (tmp_path / "none.dist-info").mkdir()
    file = tmp_path / where / "entry_points.txt"
    file.write_text("[console_scripts]\nnpconv = npconv.cli:main\n")
    monkeypatch.setattr(algorithms.sys, "path", [str(tmp_path / "missing"), str(tmp_path)])
    assert not algorithms._declared()
    file.write_text("[npconv.algorithms]\nmine = mine:Mine\n")
    assert algorithms._declared()


def test_a_plug_in_may_be_where_only_python_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(algorithms.sys, "path", [str(tmp_path)])
    assert not algorithms._declared()
    (tmp_path / "archive.zip").write_bytes(b"")
    monkeypatch.setattr(algorithms.sys, "path", [str(tmp_path / "archive.zip")])
    assert algorithms._declared()
    monkeypatch.setattr(algorithms.sys, "path", [])
    monkeypatch.setattr(algorithms.sys, "meta_path", [type("Finder", (), {"find_distributions": None})()])
    assert algorithms._declared()


@pytest.mark.skipif(catalogue.unavailable() is not None, reason=str(catalogue.unavailable()))
def test_small_layers_of_whole_numbers_are_exact() -> None:
    """Where so little is computed, an algorithm that rounds is taken only by its name."""
    rng = np.random.default_rng(5)
    for shape, w_shape in (
        ((2, 4, 9, 8), (4, 4, 3, 3)),
        ((1, 16, 14, 14), (16, 16, 3, 3)),
        ((1, 24, 12, 12), (24, 24, 3, 3)),
    ):
        for options in ({"padding": 1}, {"stride": 2}):
            x, w = rng.integers(-9, 10, shape).astype(float), rng.integers(-9, 10, w_shape).astype(float)
            assert np.array_equal(npconv.conv(x, w, **options), npconv.conv(x, w, algorithm="direct", **options))
            found = npconv.explain(x.shape, w.shape, dtype="float64", **options)
            assert algorithms.named(found.choice).exact_on_integers
            assert "fused_winograd" not in found.choice
    assert "rounds whole numbers" in str(npconv.explain((1, 8, 9, 9), (8, 8, 3, 3)))
    assert npconv.explain((1, 64, 28, 28), (64, 64, 3, 3), padding=1).choice == "fused_winograd_f4"
