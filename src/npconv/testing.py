"""Verify an algorithm, ours or yours, against the definition: every pass, drawn problems, the bound it promises."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import execution
from .algorithms.base import DIRECTIONS, Algorithm, Cost, ErrorBound, input_grad_weights
from .definition import definition, definition_input_grad, definition_weight_grad, problems
from .geometry import ConvGeometry, total

#: u, per dtype in which problems are drawn.
_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53, "complex64": 2.0**-24, "complex128": 2.0**-53}


class VerificationError(AssertionError):
    """An algorithm broke its contract; the message names the problem, the pass and the numbers."""


@dataclass
class Report:
    """What `verify_algorithm` tried."""

    name: str
    accepted: int = 0
    refused: int = 0
    worst: float = 0.0
    reasons: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        text = f"{self.name}: {self.accepted} problems right, the worst error {self.worst:.2g} of its bound; "
        text += f"{self.refused} refused"
        return text + "".join(f"\n  refused: {reason}" for reason in sorted(self.reasons))


def _data(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, last: bool) -> np.ndarray:
    """Random values; `last` lays the second axis innermost in memory."""
    values = rng.standard_normal(shape)
    if dtype.startswith("complex"):
        values = values + 1j * rng.standard_normal(shape)
    values = values.astype(dtype)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 1, -1)), -1, 1) if last else values


def _scale(sums: np.ndarray, bound: ErrorBound) -> np.ndarray | float:
    """What the bound's constant multiplies, from S of every output."""
    if bound.scale == "window":
        return sums
    return sums.max(tuple(range(2, sums.ndim)), keepdims=True, initial=0) if sums.ndim > 2 else sums


def verify_algorithm(algorithm: Algorithm, *, problems_per_dtype: int = 60, rng: Any = None) -> Report:
    """Run the whole correctness suite on one algorithm.

    For drawn problems in four dtypes: it refuses with a reason, or computes all three passes within its error bound of the
    definition, writes every output (they are poisoned first), leaves its inputs alone, repeats bit for bit, splits into
    tiles of any size, and sees non-contiguous inputs; its cost is a `Cost` of non-negative integers; if it claims exactness,
    integer-valued data are exact; if it claims an exact footprint, a NaN reaches just the outputs that read it.

    Parameters
    ----------
    algorithm : Algorithm
        An object with the contract of `npconv.algorithms.base.Algorithm`.
    problems_per_dtype : int
        How many problems to draw for each of float32, float64, complex64, complex128.
    rng : seed or numpy.random.Generator, optional
        By default a fixed seed: the same problems every time.

    Returns
    -------
    Report
        Counts, the worst error as a fraction of the bound, the reasons for refusals. Print it.

    Raises
    ------
    VerificationError
        On the first broken promise, with the geometry, the pass and the numbers.

    Examples
    --------
    >>> import npconv.testing
    >>> from npconv.algorithms.direct import Direct
    >>> npconv.testing.verify_algorithm(Direct(), problems_per_dtype=5).accepted
    20
    """
    rng = np.random.default_rng(20261121 if rng is None else rng)
    report = Report(algorithm.name)
    if not isinstance(algorithm, Algorithm) or not algorithm.name or not algorithm.summary:
        raise VerificationError(f"{algorithm!r} must be an Algorithm with a name and a summary")
    for dtype in _ROUNDOFF:
        drawn = problems(rng)
        for i in range(problems_per_dtype):
            geometry = next(drawn)
            why = algorithm.why_not(geometry, np.dtype(dtype))
            if why is not None:
                if not isinstance(why, str) or not why:
                    raise VerificationError(f"{algorithm.name}: why_not must give a reason or None, got {why!r}")
                report.refused += 1
                report.reasons.add(why)
                continue
            for direction in DIRECTIONS:
                _check(algorithm, geometry, dtype, direction, rng, report, last=bool(i % 2))
            report.accepted += 1
    if not report.accepted:
        raise VerificationError(f"{algorithm.name}: refused all {report.refused} problems: {sorted(report.reasons)}")
    _check_claims(algorithm, rng)
    return report


def _fail(algorithm: Algorithm, geometry: ConvGeometry, dtype: str, direction: str, what: str) -> None:
    raise VerificationError(f"{algorithm.name}: {direction} in {dtype}: {what}; the problem: {geometry}")


def _check(
    algorithm: Algorithm,
    geometry: ConvGeometry,
    dtype: str,
    direction: str,
    rng: np.random.Generator,
    report: Report,
    *,
    last: bool,
) -> None:
    """One problem, one pass: bound, poison, inputs, repetition, tiles."""
    cost = algorithm.cost(geometry, np.dtype(dtype), direction)
    if not isinstance(cost, Cost) or min(cost.flops, cost.bytes, cost.calls, cost.workspace) < 0:
        _fail(algorithm, geometry, dtype, direction, f"cost must be a Cost of non-negative integers, got {cost!r}")
    x = _data(rng, geometry.x_shape, dtype, last)
    w = _data(rng, geometry.w_shape, dtype, False)
    g = _data(rng, geometry.y_shape, dtype, last)
    truth, sums, operands = _expected(direction, geometry, x, w, g)
    if direction == "input_grad" and any(
        part.geometry and algorithm.why_not(part.geometry, np.dtype(dtype))
        for part in execution.parts(geometry, direction)
    ):
        return
    before = [a.copy() for a in operands]
    whole = _run(algorithm, direction, geometry, operands, truth.shape, dtype, last, None)
    bound = algorithm.error_bound(geometry, np.dtype(dtype))
    limit = bound.constant * _ROUNDOFF[dtype] * _scale(sums, bound)
    if bound.scale in ("window", "plane"):
        error = np.abs(whole - truth)
        if not np.all(error <= limit):
            worst = np.unravel_index(int(np.argmax(np.nan_to_num(error - limit, nan=np.inf))), error.shape)
            at = tuple(int(i) for i in worst)
            _fail(
                algorithm, geometry, dtype, direction, f"output {at} is {whole[at]}, the definition gives {truth[at]}"
            )
        if error.size and np.max(limit) > 0:
            report.worst = max(report.worst, float(np.max(error / np.maximum(limit, np.max(limit) * 1e-30))))
    elif not np.allclose(whole, truth, rtol=1e-2, atol=1e-2 * float(np.max(sums, initial=0))):
        _fail(algorithm, geometry, dtype, direction, "the result is far from the definition")
    if any(not np.array_equal(a, b) for a, b in zip(operands, before, strict=True)):
        _fail(algorithm, geometry, dtype, direction, "an input was written to")
    again = _run(algorithm, direction, geometry, operands, truth.shape, dtype, last, None)
    if whole.tobytes() != again.tobytes():
        _fail(algorithm, geometry, dtype, direction, "a second run gave other bits")
    tiled = _run(algorithm, direction, geometry, operands, truth.shape, dtype, last, 2)
    if bound.scale in ("window", "plane") and not np.all(np.abs(tiled - truth) <= 2 * limit):
        _fail(algorithm, geometry, dtype, direction, "computed in tiles it gives another result")


def _expected(
    direction: str, geometry: ConvGeometry, x: np.ndarray, w: np.ndarray, g: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """The truth, S of every output, and the operands of a pass."""
    if direction == "forward":
        return definition(x, w, geometry), definition(np.abs(x), np.abs(w), geometry), [x, w]
    if direction == "weight_grad":
        return definition_weight_grad(x, g, geometry), definition_weight_grad(np.abs(x), np.abs(g), geometry), [x, g]
    truth, sums = (definition_input_grad(a, b, geometry) for a, b in ((g, w), (np.abs(g), np.abs(w))))
    return truth, sums, [g, w]


def _run(
    algorithm: Algorithm,
    direction: str,
    geometry: ConvGeometry,
    operands: list[np.ndarray],
    shape: tuple[int, ...],
    dtype: str,
    last: bool,
    tile: int | None,
) -> np.ndarray:
    """One pass through the executor, into poisoned memory; `tile` forces outputs into boxes of that size."""
    out = np.full(shape, np.nan, dtype)
    if last and direction != "weight_grad":
        out = np.moveaxis(np.ascontiguousarray(np.moveaxis(out, 1, -1)), -1, 1)
    runner = algorithm if tile is None else _Tiled(algorithm, tile)

    def pick(part: ConvGeometry, exact_footprint: bool) -> Algorithm:
        return runner

    a, b = operands
    limit = 2**62
    with np.errstate(all="ignore"):
        if direction == "weight_grad":
            execution.weight_grad(pick, a, b, execution.parts(geometry, direction), out, limit)
        else:
            weights = b if direction == "forward" else input_grad_weights(b, geometry.groups)
            execution.correlate(pick, a, weights, execution.parts(geometry, direction), out, limit)
    return out


class _Tiled(Algorithm):
    """Another algorithm that asks for small tiles."""

    def __init__(self, inner: Algorithm, size: int) -> None:
        self.inner, self.size, self.name = inner, size, inner.name
        self.cost, self.prepare = inner.cost, inner.prepare  # type: ignore[method-assign]
        self.forward, self.weight_grad = inner.forward, inner.weight_grad  # type: ignore[method-assign]
        self.exact_footprint = DIRECTIONS

    def tile(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> tuple[int, tuple[int, ...]]:
        return 1, tuple(min(self.size, n) for n in geometry.out_shape)


def _check_claims(algorithm: Algorithm, rng: np.random.Generator) -> None:
    """Exactness on integers and the footprint of a NaN, on the problems where the algorithm runs."""
    double = np.dtype(np.float64)
    drawn = problems(rng)
    able = []
    for _ in range(400):
        geometry = next(drawn)
        if algorithm.why_not(geometry, double) is None and total(geometry.in_shape) > 0:
            able.append(geometry)
        if len(able) == 12:
            break
    for geometry in able:
        x, w = rng.integers(-9, 10, geometry.x_shape), rng.integers(-9, 10, geometry.w_shape)
        operands = [x.astype(np.float64), w.astype(np.float64)]
        y = _run(algorithm, "forward", geometry, operands, geometry.y_shape, "float64", False, None)
        truth = definition(operands[0], operands[1], geometry)
        if algorithm.exact_on_integers and not np.array_equal(y, truth):
            _fail(algorithm, geometry, "float64", "forward", "claims exact_on_integers, but integer data are not exact")
        if "forward" in algorithm.exact_footprint:
            operands[0][(0, 0, *(n // 2 for n in geometry.in_shape))] = np.nan
            y = _run(algorithm, "forward", geometry, operands, geometry.y_shape, "float64", False, None)
            if not np.array_equal(np.isnan(y), np.isnan(definition(operands[0], operands[1], geometry))):
                _fail(
                    algorithm, geometry, "float64", "forward", "claims exact_footprint, but a NaN reached other outputs"
                )
