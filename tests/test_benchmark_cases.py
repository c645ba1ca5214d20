"""The problems that errors are measured on, and the scales they are measured in: `benchmarks.cases`."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks import cases

from npconv.algorithms.base import DIRECTIONS


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("first", [0, cases.COMPILED])
def test_no_output_exceeds_what_its_plane_may_reach(direction, first):
    """S of an output is at most R of its plane; groups, strides and every rank among them, S from the definition's sums."""
    grouped = strided = 0
    for number in range(first, first + 40):
        case = cases.draw(number)
        g = case.geometry
        results, sums = cases.truth(case, direction)
        assert results.shape == {"forward": g.y_shape, "input_grad": g.x_shape, "weight_grad": g.w_shape}[direction]
        reached = cases.reach(case, direction)
        assert reached.shape == (*results.shape[:2], *(1,) * g.rank)
        assert (sums <= reached * (1 + 1e-9)).all(), case
        assert (np.abs(results) <= sums * (1 + 1e-9)).all(), case
        grouped, strided = grouped + (g.groups > 1), strided + (max(g.stride) > 1)
    assert min(grouped, strided) >= 3
