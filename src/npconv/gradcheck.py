"""Is this gradient right?  Two checks for any NumPy function, with relative bounds that hold at every size.

For y = f(x) and a cotangent g (the gradient of some loss with respect to y), `grads` must return dx with

    <f'(x) v, g> = <v, dx>   for every direction v            <a, b> = Re sum conj(a) b

1. inner product: both sides, for a few random directions v and one random g.  All entries of dx take part
   in one number, so a single wrong entry among thousands is seen, at the price of a few calls of f;
2. entry by entry: v is one unit vector after the other (a sample of them if there are many), which says
   where it is wrong.

g has random distinct values: all-ones cotangents hide transposed, flipped and shifted gradients.  The left
side is (4 D(h) - D(2h)) / 3 with D the central difference: exact for polynomials up to degree 4, so for
everything linear in one argument, at any step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

_EPS = float(np.finfo(np.float64).eps)


class GradientError(ValueError):
    """A gradient that does not pass; `.report` has the numbers."""

    def __init__(self, report: Report) -> None:
        super().__init__(f"gradcheck: wrong gradient\n{report}")
        self.report = report


@dataclass(frozen=True)
class InputReport:
    """What was found for one input; errors are relative to the size of its gradient."""

    position: int
    shape: tuple[int, ...]
    passed: bool
    note: str  # why nothing was measured, or what could not be resolved
    inner_error: float = 0.0  # worst of the random directions
    entry_error: float = 0.0  # worst of the entries looked at
    entries: int = 0  # how many were
    worst: tuple[int, ...] = ()  # index of the worst one
    analytic: complex = 0.0  # the gradient given there
    numeric: complex = 0.0  # the one measured there

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        head = f"input {self.position} {self.shape}: {'passed' if self.passed else 'FAILED'}"
        if not self.entries:
            return f"{head}, {self.note}"
        text = (
            f"{head}, inner product off by {self.inner_error:.1e}, worst of {self.entries} entries "
            f"by {self.entry_error:.1e} at {self.worst}: "
            f"{self.analytic:.9g} given, {self.numeric:.9g} measured"
        )
        return f"{text}; {self.note}" if self.note else text


@dataclass(frozen=True)
class Report:
    """The result of `check`: true if every gradient passed; printable."""

    inputs: tuple[InputReport, ...]
    rtol: float

    @property
    def passed(self) -> bool:
        return all(part.passed for part in self.inputs)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return "\n".join([str(part) for part in self.inputs] + [f"(relative tolerance {self.rtol:.1e})"])


def check(
    f: Callable[..., Any],
    grads: Callable[..., Any],
    *inputs: Any,
    rng: np.random.Generator | int | None = None,
    rtol: float = 1e-6,
    step: float = 1e-4,
    directions: int = 8,
    samples: int = 100,
    raise_on_failure: bool = True,
) -> Report:
    """Check that `grads(g, *inputs)` is the gradient of `<f(*inputs), g>`.

    Parameters
    ----------
    f : callable
        f(*inputs) -> one array (or number), the same every time it is called.
    grads : callable
        grads(g, *inputs) -> one gradient per input (an array if there is one input), None for none.
    *inputs : array_like
        Real ones are used in float64, complex ones in complex128; integers go to `f` as they are.
    rng : numpy.random.Generator or int, optional
        Source of g, the directions and the sampled entries; a fixed seed by default.
    rtol : float
        Largest error, relative to the size of the gradient (root mean square of what is compared).
    step : float
        Step of the differences, relative to the root mean square of the input.  f must be smooth within
        3 steps of the inputs: keep data that far away from kinks (ties of a maximum, zero in a ReLU).
    directions, samples : int
        How many random directions; how many entries per input at most.
    raise_on_failure : bool
        Raise `GradientError` rather than return a report that is false.

    Returns
    -------
    Report
        Per input the errors and the worst entry, with the value given and the value measured.

    Raises
    ------
    GradientError
        If a gradient has the wrong shape or value, or its rounding noise hides it from the differences.
    ValueError
        If `f` or `grads` cannot be checked: not repeatable, not finite, below double precision, a wrong
        number of gradients.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv.gradcheck import check
    >>> x, w = np.linspace(-1, 1, 12).reshape(3, 4), np.linspace(0, 2, 8).reshape(4, 2)
    >>> bool(check(lambda x, w: x @ w, lambda g, x, w: (g @ w.T, x.T @ g), x, w))
    True
    >>> bool(check(np.tanh, lambda g, x: g * (1 - np.tanh(x)), x, raise_on_failure=False))
    False
    """
    rng = np.random.default_rng(0 if rng is None else rng)
    arrays = [_in_double(value) for value in inputs]
    y = _output(f, arrays)
    if np.linalg.norm((_output(f, arrays) - y).ravel()) > 1e-9 * np.linalg.norm(y.ravel()):
        raise ValueError("gradcheck: f gave two results for the same inputs; fix its random numbers")
    g = _random(rng, y.shape, y.dtype)
    noise = 4 * _EPS * float(np.linalg.norm((np.conj(g) * y).ravel()))
    parts = []
    for position, dx in enumerate(_gradients(grads, g, arrays)):
        x = arrays[position]

        def moved(shifted: np.ndarray, position: int = position) -> np.ndarray:
            return _output(f, [*arrays[:position], shifted, *arrays[position + 1 :]])

        note, passed = _refusal(position, x, dx)
        if note:
            parts.append(InputReport(position, x.shape, passed, note))
            continue
        h = step * (float(np.sqrt(np.mean(np.abs(x) ** 2))) or 1.0)
        slope = _Slope(moved, x, g, h)
        parts.append(_compare(position, slope, np.asarray(dx), noise / h, rng, rtol, directions, samples))
    report = Report(tuple(parts), rtol)
    if raise_on_failure and not report.passed:
        raise GradientError(report)
    return report


def adjoint_error(
    operator: Callable[[np.ndarray], Any],
    adjoint: Callable[[np.ndarray], Any],
    x_shape: tuple[int, ...],
    y_shape: tuple[int, ...],
    rng: np.random.Generator | int | None = None,
    *,
    dtype: Any = np.float64,
    draws: int = 4,
) -> float:
    """Give the relative error of <operator(x), y> = <x, adjoint(y)>, the worst of some random x and y.

    For a linear operator and its true adjoint this is rounding, about 1e-16 in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv.gradcheck import adjoint_error
    >>> adjoint_error(np.cumsum, lambda y: np.cumsum(y[::-1])[::-1], (100,), (100,)) < 1e-13
    True
    >>> adjoint_error(np.cumsum, np.cumsum, (100,), (100,)) > 0.1
    True
    """
    rng = np.random.default_rng(0 if rng is None else rng)
    worst = 0.0
    for _ in range(draws):
        x, y = _random(rng, x_shape, dtype), _random(rng, y_shape, dtype)
        images = np.asarray(operator(x.copy())), np.asarray(adjoint(y.copy()))
        for name, image, shape in (("operator", images[0], y_shape), ("adjoint", images[1], x_shape)):
            if image.shape != tuple(shape):
                raise ValueError(f"adjoint_error: the {name} gave shape {image.shape}, expected {tuple(shape)}")
        left, right = np.conj(images[0]) * y, np.conj(x) * images[1]
        if not (np.isfinite(left).all() and np.isfinite(right).all()):
            return float("inf")
        size = max(float(np.linalg.norm(left.ravel())), float(np.linalg.norm(right.ravel())))
        worst = max(worst, _ratio(abs(left.real.sum() - right.real.sum()), size))
    return worst


class _Slope:
    """The derivative of <f(x), g> along a direction, by differences of step h."""

    def __init__(self, f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, g: np.ndarray, h: float) -> None:
        self.f, self.x, self.g, self.h = f, x, g, h

    def __call__(self, v: np.ndarray) -> float:
        return (4 * self._central(v, self.h) - self._central(v, 2 * self.h)) / 3

    def _central(self, v: np.ndarray, h: float) -> float:
        # f's outputs are subtracted one by one before they are summed: what v does not touch cancels exactly.
        change = self.f(self.x + h * v) - self.f(self.x - h * v)
        return float(np.vdot(self.g, change).real) / (2 * h)

    def entry(self, index: tuple[int, ...]) -> complex:
        v = np.zeros_like(self.x)
        v[index] = 1
        real = self(v)
        return complex(real, self(1j * v)) if np.iscomplexobj(v) else real


def _compare(
    position: int,
    slope: _Slope,
    dx: np.ndarray,
    noise: float,
    rng: np.random.Generator,
    rtol: float,
    directions: int,
    samples: int,
) -> InputReport:
    inner, resolved, agree = 0.0, True, True
    for _ in range(directions):
        v = _random(rng, dx.shape, slope.x.dtype)
        measured, terms = slope(v), np.conj(v) * dx
        size = max(abs(measured), float(np.linalg.norm(terms.ravel())))
        error = abs(measured - float(terms.real.sum()))
        inner = max(inner, _ratio(error, size))
        agree &= error <= rtol * size + noise
        # A gradient of the noise's size is no more than zero; one that stands out must stand out clearly.
        resolved &= size <= noise or noise <= 1e-4 * size
    chosen = rng.choice(dx.size, size=min(samples, dx.size), replace=False)
    places = [tuple(int(i) for i in np.unravel_index(k, dx.shape)) for k in chosen]
    numeric = np.array([slope.entry(place) for place in places])
    analytic = np.array([dx[place] for place in places])
    errors = np.abs(numeric - analytic)
    size = max(_rms(dx), _rms(numeric))
    k = int(np.argmax(errors))
    agree &= bool(errors[k] <= rtol * size + noise)
    note = "" if resolved else "rounding noise of f hides this gradient: use a larger step"
    return InputReport(
        position,
        dx.shape,
        agree and resolved,
        note,
        inner,
        _ratio(errors[k], size),
        len(places),
        places[k],
        analytic[k].item(),
        numeric[k].item(),
    )


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Signs times 0.5 to 1.5: distinct, no entry negligible, none far out (a kink may be there)."""

    def real() -> np.ndarray:
        return rng.choice([-1.0, 1.0], size=shape) * rng.uniform(0.5, 1.5, size=shape)

    values = real() + 1j * real() if np.issubdtype(dtype, np.complexfloating) else real()
    return np.asarray(values, dtype=dtype)


def _in_double(value: Any) -> np.ndarray:
    array = np.array(value)
    if array.dtype.kind in "biu":
        return array
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _output(f: Callable[..., Any], arrays: list[np.ndarray]) -> np.ndarray:
    y = np.asarray(f(*(array.copy() for array in arrays)))  # copies: f may write to its arguments
    if y.dtype not in (np.float64, np.complex128):
        raise ValueError(
            f"gradcheck: f returned {y.dtype}; differences need float64 or complex128, "
            "compute in the dtype of the inputs"
        )
    if not np.isfinite(y).all():
        raise ValueError("gradcheck: f is not finite at or near these inputs; choose others")
    return y


def _gradients(grads: Callable[..., Any], g: np.ndarray, arrays: list[np.ndarray]) -> Iterator[Any]:
    given = grads(g.copy(), *(array.copy() for array in arrays))
    given = list(given) if isinstance(given, (tuple, list)) else [given]
    while len(given) > len(arrays) and given[-1] is None:  # ConvGrads(x, w, bias=None) for f(x, w)
        given.pop()
    if len(given) != len(arrays):
        raise ValueError(f"gradcheck: grads returned {len(given)} gradients for {len(arrays)} inputs")
    return iter(given)


def _refusal(position: int, x: np.ndarray, dx: Any) -> tuple[str, bool]:
    """Say what there is to say without measuring, and whether that is in order."""
    if dx is None:
        return "no gradient", True
    if x.dtype.kind not in "fc":
        raise ValueError(
            f"gradcheck: input {position} is {x.dtype}, which has no derivative; "
            "give it as float64, or return None for its gradient"
        )
    array = np.asarray(dx)
    if array.shape != x.shape:
        return f"its gradient has shape {array.shape}", False
    if not np.isfinite(array).all():
        return "its gradient is not finite", False
    if array.dtype.kind == "c" and x.dtype.kind != "c":
        return "its gradient is complex, the input real", False
    return ("empty", True) if x.size == 0 else ("", True)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.abs(values) ** 2)))


def _ratio(error: float, size: float) -> float:
    return float(error / size) if error else 0.0  # nothing is wrong with 0 against 0
