"""The explorer's arithmetic, run in Node, against npconv: 2,000 random problems, forward and backward, and their cells."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from typing import Any

import numpy as np
import pytest

from explorer_node import Run, disagreement, runner
from explorer_problems import Draw, array, unpack

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs node, which runs the explorer's modules")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Give tasks to the modules."""
    return runner(tmp_path_factory.mktemp("web"))


def said(message: str) -> str:
    """What a refusal says, without the name of the function, the arrays it lists and the advice at its end."""
    message = re.sub(r"^\w+: ", "", message).replace("spatial axis", "axis")
    message = re.sub(r" \((x\.shape|by w)[^;]*\)|\.shape \([^)]*\)", "", message)
    return message.split(";")[0].split(", needs")[0]


def test_the_explorer_computes_what_npconv_computes(node: Run) -> None:
    """Where npconv refuses, the explorer calls the problem invalid, in the same words; and nowhere else."""
    draws = [Draw(seed) for seed in range(2000)]
    expected = [draw.run() for draw in draws]
    tasks = [
        {"kind": "passes", "problem": draw.problem, "dy": array(answer["dy"]) if "dy" in answer else None}
        for draw, answer in zip(draws, expected, strict=True)
    ]
    seen: Counter[str] = Counter()
    for draw, answer, result in zip(draws, expected, node(tasks), strict=True):
        where = f"seed {draw.seed}: {draw.problem}"
        assert result["valid"] == ("error" not in answer), (where, answer.get("error"), result["reasons"])
        if "error" in answer:
            assert said(answer["error"]) in [said(reason) for reason in result["reasons"]], (
                where,
                answer["error"],
                result["reasons"],
            )
            seen["refused"] += 1
            continue
        for name in compared(draw):
            actual, (array_, bound) = unpack(result[name]), answer[name]
            assert not (wrong := disagreement(actual, array_, bound)), f"{name} of {where}: {wrong}"
        seen[draw.operator] += 1
        seen[f"rank {len(draw.problem['stride'])}"] += 1
        seen[draw.style] += 1
        seen[draw.problem["paddingMode"] if draw.operator == "conv" else "no mode"] += 1
    # the dice did not leave anything out
    assert all(
        seen[name] > 60 for name in ("refused", "conv", "conv_transpose", "max_pool", "avg_pool", "rank 1", "rank 2")
    )
    assert all(
        seen[name] > 40
        for name in ("zeros", "constant", "reflect", "symmetric", "replicate", "circular", "x", "w", "dy")
    )


def compared(draw: Draw) -> list[str]:
    """The passes to compare: with weights that are not finite, only those that read whole windows.

    npconv computes the others as a convolution of a zero-padded dy (or x, transposed), where 0 * inf is NaN; the explorer
    has no such terms: a cell gets something back only from the outputs that read it.
    """
    names = {"max_pool": ["y", "argmax", "x"], "avg_pool": ["y", "x"]}.get(draw.operator, ["y", "x", "w", "bias"])
    if draw.style == "w" and not draw.operator.endswith("pool"):
        names.remove("y" if draw.operator == "conv_transpose" else "x")
    return names


def test_every_cell_is_the_sum_of_its_terms(node: Run) -> None:
    """And meets in `links` exactly what its terms read, from both sides; and its gradient is its slope."""
    tasks, operators = [], Counter[str]()
    for seed in range(10_000, 10_120):
        draw = Draw(seed, legal=True, finite=True)
        answer = draw.run()
        if "error" in answer:
            continue
        operators[draw.operator] += 1
        tasks.append({"kind": "cells", "problem": draw.problem, "dy": array(answer["dy"])})
    results = node(tasks)
    for task, result in zip(tasks, results, strict=True):
        assert not result["wrong"], (task, result)
    assert all(operators[name] > 8 for name in ("conv", "conv_transpose", "max_pool", "avg_pool"))
    assert sum(result["sloped"] for result in results) > 2_500
    assert sum(result["noted"] for result in results) > 15


def test_the_lines_of_code_compute_what_they_stand_beside(node: Run) -> None:
    """Both libraries' lines are executed as a reader would paste them; arrays too large to write are given by name."""
    import torch

    draws = [Draw(seed, legal=True, finite=True) for seed in range(20_000, 20_064)]
    # torch's limits: reflect up to size - 1, circular up to size
    draws += [
        padded(mode, size) for mode in ("reflect", "circular", "replicate", "symmetric") for size in (4, 5, 6, 13)
    ]
    cases = [(draw, answer) for draw in draws if "error" not in (answer := draw.run())]
    tasks = [
        {
            "kind": "words",
            "problem": draw.problem,
            "dy": array(answer["dy"]) if draw.seed % 5 else None,
            "cell": {what: [0] * answer[what][0].ndim for what in ("y", "x", "w", "bias") if what in answer},
        }
        for draw, answer in cases
    ]
    apologies: set[str] = set()
    for (draw, answer), task, result in zip(cases, tasks, node(tasks), strict=True):
        for what, lines in result.items():
            for library in ("npconv", "torch"):
                names = {
                    name: value if library == "npconv" else torch.from_numpy(value)
                    for name, value in given(draw, answer).items()
                    if f"# {name}: your" in lines[library]
                }
                exec(lines[library], names)
                actual = names[{"y": "y", "x": "dx", "w": "dw", "bias": "db"}[what]]
                actual = np.asarray(actual.detach() if library == "torch" else actual)
                expected, bound = answer[what] if what == "y" or task["dy"] else with_ones(draw, what)
                wrong = disagreement(actual, expected, bound)
                assert not wrong, f"{library} {what} of seed {draw.seed}: {wrong}\n{lines[library]}"
                apologies |= {line for line in lines["torch"].splitlines() if line.startswith("# torch")}
    assert len(apologies) >= 6, apologies


def test_the_formulas_add_up(node: Run) -> None:
    """Every line that ends with a number says how it comes about; the last one is the cell."""
    cases = [(draw, draw.run()) for draw in (Draw(seed, legal=True, finite=True) for seed in range(25_000, 25_150))]
    cases = [(draw, answer) for draw, answer in cases if "error" not in answer]
    tasks = []
    for draw, answer in cases:
        ends = {what: [n - 1 for n in answer[what][0].shape] for what in ("y", "x", "w", "bias") if what in answer}
        tasks.append({"kind": "words", "problem": draw.problem, "dy": array(answer["dy"]), "cell": ends})
    worked: Counter[str] = Counter()
    for (draw, answer), task, result in zip(cases, tasks, node(tasks), strict=True):
        for what, lines in result.items():
            where = f"{what} of seed {draw.seed}:\n{lines['formula']}"
            rule, *steps = lines["formula"].split("\n")
            assert " = " in rule, where
            sums = [step for step in steps if not step.startswith("s = ")]
            for step in sums:
                left, value = step.rsplit(" = ", 1)
                sum_ = left.split(": ", 1)[1] if ": " in left else left.split(" = ", 1)[1]
                if "more" in sum_:
                    continue
                listed = sum_.removeprefix("largest of ")
                actual = eval(sum_) if listed == sum_ else max(eval(f"({listed},)"))
                assert abs(actual - float(value)) <= 2e-3 * max(1.0, abs(actual)), where
                worked[f"{draw.operator} {what}"] += 1
            cell = answer[what][0][tuple(task["cell"][what])]
            assert sums[-1].startswith(f"{'y' if what == 'y' else 'db' if what == 'bias' else 'd' + what}["), where
            assert abs(float(sums[-1].rsplit(" = ", 1)[1]) - cell) <= 1e-4 * max(1.0, abs(cell)), where
    assert len(worked) == 4 + 4 + 2 + 2
    assert min(worked.values()) >= 5, worked


def padded(mode: str, pad: int) -> Draw:
    """A convolution of 5 x 5 numbers, padded by `pad` at one side."""
    draw = Draw(pad, legal=True, finite=True)
    draw.operator = "conv"
    sizes = {"stride": [1, 1], "dilation": [1, 1], "groups": 1, "flip": False, "bias": None, "paddingValue": 0}
    arrays = {"x": array(draw.values(1, 5, 5)), "w": array(draw.values(1, 1, 3, 3))}
    draw.problem |= sizes | arrays | {"operator": "conv", "paddingMode": mode, "padding": [[pad, 0], [0, 1]]}
    return draw


def given(draw: Draw, answer: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a problem by name."""
    named = {name: unpack(draw.problem[name]) for name in ("x", "w", "bias") if draw.problem[name]}
    return named | {"dy": answer["dy"]}


def with_ones(draw: Draw, what: str) -> tuple[np.ndarray, float]:
    """The gradient where every dy is 1."""
    values, draw.values = draw.values, lambda *shape, spoilt=False: np.ones(shape)  # type: ignore[method-assign]
    answer = draw.run()
    draw.values = values  # type: ignore[method-assign]
    return answer[what]
