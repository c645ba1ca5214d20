"""Measure the error of every algorithm in every pass on drawn cases, in units of what npconv promises.

    python -m benchmarks.accuracy                         10,000 cases: about half an hour
    python -m benchmarks.accuracy --minutes 15 --json F   as many as fit, and the numbers in F
    python -m benchmarks.accuracy --only 1234             one case, printed pass by pass

u is the unit roundoff; the columns are the largest err / (u scale) for four scales:

    S       the sum of |products| of the output itself
    max S   the largest S of the output's plane
    R       sum over channels of max |x| sum |w|, whatever the windows meet: what a transform sees
    Amp     S computed with the absolute values of Winograd's transforms

Every algorithm runs at accuracy="fast", where it computes in the data's own precision, and where admitted at
"strict", which computes float32 in float64. float32 is compared with float64; float64 with `math.fsum` over
exact products.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

import npconv
from npconv import execution
from npconv.algorithms import OWN
from npconv.algorithms.base import DIRECTIONS, Algorithm, input_grad_weights
from npconv.algorithms.winograd import Winograd
from npconv.geometry import ConvGeometry, closing_pad, effective_kernel, total

UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}
KINDS = ("normal", "positive", "log-normal", "rows x1e4", "integer", "constant")
MOST_CHANNELS, MOST_KERNEL, MOST_POSITIONS = 512, 7, 200_000
SCALES = ("window", "plane", "transform", "norms")
LOOPS_MACS = 30_000  # the nest of Python loops gets no more


@dataclass
class Case:
    """A drawn problem; ``arrays`` are x, w and g."""

    number: int
    geometry: ConvGeometry
    kind: str
    dtype: str
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray]

    def __str__(self) -> str:
        g = self.geometry
        options = f"stride {g.stride} dilation {g.dilation} padding {g.padding} groups {g.groups}"
        return f"case {self.number}: {self.kind} {self.dtype} {g.x_shape} * {g.w_shape} {options}"


# --------------------------------------------------------------------------- drawing
def log_uniform(rng: np.random.Generator, high: float, low: float = 1) -> int:
    return round(math.exp(rng.uniform(math.log(low), math.log(high))))


def draw(number: int) -> Case:
    """Case `number`, always the same one."""
    rng = np.random.default_rng([20261121, number])
    dtype = "float64" if rng.random() < 0.2 else "float32"
    rank = int(rng.choice([1, 2, 2, 2, 3]))
    budget = log_uniform(rng, 4e6 if dtype == "float32" else 4e5, 1e3)
    plain = rng.random() < 0.6
    kernel = tuple(int(k) for k in rng.integers(1, MOST_KERNEL + 1, rank))
    if rng.random() < 0.3:
        kernel = (3,) * rank
    stride, dilation = ((1,) * rank if plain else tuple(int(v) for v in rng.integers(1, 4, rank)) for _ in range(2))
    channels, outputs = log_uniform(rng, MOST_CHANNELS), log_uniform(rng, MOST_CHANNELS)
    batch, positions = log_uniform(rng, 32), log_uniform(rng, MOST_POSITIONS)
    longest = rng.random() < 0.1  # long reductions, whatever they cost
    if longest and rng.random() < 0.5:
        batch, positions, channels, outputs = log_uniform(rng, 8), MOST_POSITIONS, 1, int(rng.integers(1, 3))
        positions, kernel = positions // batch, tuple(min(k, 3) for k in kernel)
    elif longest:
        batch, positions, channels = 1, int(rng.integers(1, 9)), MOST_CHANNELS
        outputs = int(rng.integers(1, 5))
    taps = total(kernel)
    while not longest and batch * positions * taps * channels * outputs > budget:
        which = int(rng.integers(4))
        if which == 0:
            batch = max(1, batch // 2)
        elif which == 1:
            positions = max(1, positions // 2)
        elif which == 2:
            outputs = max(1, outputs // 2)
        else:
            channels = max(1, channels // 2)
        if batch * positions * channels * outputs == 1:
            break
    groups = 1
    if not longest and rng.random() < 0.3:
        groups = int(rng.choice([2, 3, channels]))
        channels, outputs = (max(1, round(n / groups)) * groups for n in (channels, outputs))
    out = spread(rng, positions, rank)
    spans = [effective_kernel(k, d) for k, d in zip(kernel, dilation, strict=True)]
    lows = [int(rng.integers(0, e)) if rng.random() < 0.6 else 0 for e in spans]
    sizes = tuple(
        max(1, closing_pad(0, lo, e, s, n) - int(rng.integers(0, e)))
        for lo, e, s, n in zip(lows, spans, stride, out, strict=True)
    )
    pads = tuple(
        (lo, closing_pad(size, lo, e, s, n)) for size, lo, e, s, n in zip(sizes, lows, spans, stride, out, strict=True)
    )
    geometry = ConvGeometry(batch, channels, outputs, sizes, kernel, stride, dilation, pads, (1,) * rank, groups)
    kind = str(rng.choice(KINDS))
    shapes = (geometry.x_shape, geometry.w_shape, geometry.y_shape)
    x, w, g = (values(rng, shape, kind, rows=i != 1).astype(dtype) for i, shape in enumerate(shapes))
    return Case(number, geometry, kind, dtype, (x, w, g))


def spread(rng: np.random.Generator, positions: int, rank: int) -> tuple[int, ...]:
    """About `positions` outputs on `rank` axes of random proportions."""
    shares = rng.dirichlet([3] * rank)
    return tuple(max(1, round(positions**share)) for share in shares)


def values(rng: np.random.Generator, shape: tuple[int, ...], kind: str, *, rows: bool) -> np.ndarray:
    if kind == "constant":  # a flat image under a box filter: every rounding error has the same sign
        return np.full(shape, rng.uniform(0.1, 1))
    if kind == "positive":
        return rng.uniform(0, 1, shape)
    if kind == "log-normal":
        return np.exp(2 * rng.standard_normal(shape))
    if kind == "integer":
        return rng.integers(-8, 9, shape).astype(float)
    data = rng.standard_normal(shape)
    if kind == "rows x1e4" and rows:
        data[:, :, ::2] *= 1e4
    return data


# --------------------------------------------------------------------------- the truth, by other means
Pair = tuple[np.ndarray, np.ndarray]


def windows(x: np.ndarray, pads: Any, kernel: Any, stride: Any, dilation: Any, out: Any) -> np.ndarray:
    """(N, C, *in) -> (N, C, *out, *k), by padding and a strided view."""
    padded = np.pad(x, ((0, 0), (0, 0), *((max(0, lo), max(0, hi)) for lo, hi in pads)))
    crop = tuple(slice(max(0, -lo), n - max(0, -hi)) for n, (lo, hi) in zip(padded.shape[2:], pads, strict=True))
    padded = padded[(..., *crop)]
    steps = padded.strides[2:]
    strides = (*padded.strides[:2], *(a * s for a, s in zip(steps, stride, strict=True)))
    strides += tuple(a * d for a, d in zip(steps, dilation, strict=True))
    return np.lib.stride_tricks.as_strided(padded, (*padded.shape[:2], *out, *kernel), strides, writeable=False)


def factors(case: Case, direction: str) -> tuple[Pair, tuple[int, ...], tuple[int, ...]]:
    """The pass as products, ``result[group] = a[group] @ b[group]``; its shape; the order of its axes."""
    geometry = case.geometry
    x, w, g = (array.astype(np.float64) for array in case.arrays)
    rank, group, n = geometry.rank, geometry.groups, geometry.batch
    if direction == "input_grad":
        turned = geometry.transposed()
        dense = np.zeros((*g.shape[:2], *turned.dilated_shape))
        dense[(..., *(slice(None, None, s) for s in geometry.stride))] = g
        x, w, geometry = dense, input_grad_weights(w, group), turned
    seen = windows(x, geometry.padding, geometry.kernel, geometry.stride, geometry.dilation, geometry.out_shape)
    per_in, positions = geometry.in_channels // group, total(geometry.out_shape)
    seen = seen.reshape(n, group, per_in, *seen.shape[2:])
    if direction == "weight_grad":  # (G, O/G, N p) @ (G, N p, C/G t)
        order = (1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
        columns = seen.transpose(order).reshape(group, n * positions, per_in * geometry.taps)
        rows = g.reshape(n, group, -1, positions).transpose(1, 2, 0, 3).reshape(group, -1, n * positions)
        return (rows, columns), geometry.w_shape, ()
    # (G, O/G, C/G t) @ (G, C/G t, N p)
    order = (1, 2, *range(3 + rank, 3 + 2 * rank), 0, *range(3, 3 + rank))
    columns = seen.transpose(order).reshape(group, per_in * geometry.taps, n * positions)
    rows = w.reshape(group, -1, per_in * geometry.taps)
    return (rows, columns), (geometry.out_channels, n, *geometry.out_shape), (1, 0, *range(2, 2 + rank))


def truth(case: Case, direction: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The results and S of every output; for float64 the results are NaN but for a sample, which is exact."""
    (a, b), shape, order = factors(case, direction)
    result, sums = a @ b, np.abs(a) @ np.abs(b)
    if case.dtype == "float64":
        wanted = rng.choice(result.size, min(result.size, max(1, 100_000 // max(1, a.shape[2])), 64), replace=False)
        exact = np.full(result.shape, np.nan)
        for flat in wanted:
            i, row, column = np.unravel_index(int(flat), result.shape)
            exact[i, row, column] = exact_dot(a[i, row], b[i, :, column])
        result = exact
    result, sums = result.reshape(shape), sums.reshape(shape)
    return (result.transpose(order), sums.transpose(order)) if order else (result, sums)


def reach(case: Case, direction: str) -> np.ndarray:
    """R of every plane: (N, O), (N, C) or (O, C/G), with two or more axes of length 1."""
    x, w, g = (np.abs(array).astype(np.float64) for array in case.arrays)
    rank, group = case.geometry.rank, case.geometry.groups
    space = tuple(range(2, 2 + rank))
    slid, slides = (g, input_grad_weights(w, group)) if direction == "input_grad" else (x, w)
    largest = slid.max(space, initial=0).reshape(slid.shape[0], group, -1).swapaxes(0, 1)  # (G, N, C/G)
    if direction == "weight_grad":
        sums = g.sum(space).reshape(g.shape[0], group, -1).transpose(1, 2, 0)  # (G, O/G, N)
        result = (sums @ largest).reshape(w.shape[:2])
    else:
        sums = slides.sum(space).reshape(group, -1, largest.shape[2])  # (G, O/G, C/G)
        result = (largest @ sums.swapaxes(1, 2)).swapaxes(0, 1).reshape(slid.shape[0], -1)
    return result.reshape(*result.shape, *(1,) * rank)


def exact_dot(a: np.ndarray, b: np.ndarray) -> float:
    """The sum of products, rounded once: products as sums of two floats (Dekker 1971), then `math.fsum`."""
    highs, lows = zip(*(split(v) for v in (a, b)), strict=True)
    product = a * b
    rest = ((highs[0] * highs[1] - product) + highs[0] * lows[1] + lows[0] * highs[1]) + lows[0] * lows[1]
    return math.fsum((*product.tolist(), *rest.tolist()))


def split(a: np.ndarray) -> Pair:
    """a = high + low with 26 bits each (Veltkamp)."""
    scaled = a * (2.0**27 + 1)
    high = scaled - (scaled - a)
    return high, a - high


# --------------------------------------------------------------------------- measuring
class Magnitudes(Winograd):
    """Winograd with the absolute values of its matrices: from |x| and |w| it computes Amp."""

    def _matrices(self, geometry: ConvGeometry, which: int) -> list[np.ndarray | None]:
        every = super()._matrices(geometry, which)
        return [None if matrix is None else np.abs(matrix) for matrix in every]


def amplified(case: Case, direction: str, algorithm: Winograd) -> np.ndarray:
    """Amp of every output."""
    x, w, g = (np.abs(array).astype(np.float64) for array in case.arrays)
    magnitudes = Magnitudes(algorithm.m)

    def pick(part: ConvGeometry, exact_footprint: bool) -> Winograd:
        return magnitudes

    geometry, parts = case.geometry, execution.parts(case.geometry, direction)
    out = np.empty({"forward": geometry.y_shape, "input_grad": geometry.x_shape}.get(direction, geometry.w_shape))
    if direction == "weight_grad":
        execution.weight_grad(pick, x, g, parts, out, 2**62)
    else:
        a, b = (x, w) if direction == "forward" else (g, input_grad_weights(w, geometry.groups))
        execution.correlate(pick, a, b, parts, out, 2**62)
    return out


def run(case: Case, direction: str, name: str, accuracy: str) -> np.ndarray | None:
    """The pass through the public function, or None where the algorithm cannot run."""
    x, w, g = case.arrays
    geometry = case.geometry
    options: dict[str, Any] = {
        "stride": geometry.stride,
        "padding": geometry.padding,
        "dilation": geometry.dilation,
        "groups": geometry.groups,
        "algorithm": name,
        "accuracy": accuracy,
    }
    try:
        if direction == "forward":
            return npconv.conv(x, w, **options)
        if direction == "input_grad":
            return npconv.conv_input_grad(g, w, input_shape=x.shape, **options)
        return npconv.conv_weight_grad(x, g, kernel_shape=w.shape, **options)
    except ValueError as refusal:
        if "cannot run here" not in str(refusal):
            raise
        return None


def promise(case: Case, direction: str, algorithm: Algorithm) -> str:
    """The bound that holds for every part of the pass: its constant and its scale."""
    parts = [part.geometry for part in execution.parts(case.geometry, direction) if part.geometry]
    bounds = {algorithm.error_bound(part, np.dtype(case.dtype)) for part in parts}
    if not bounds:
        return "1 window"  # no output reads an input: all are zero
    weakest = max(bounds, key=lambda bound: (SCALES.index(bound.scale), bound.constant))
    return "log2 norms" if weakest.scale == "norms" else f"{weakest.constant:g} {weakest.scale}"


def ratio(error: np.ndarray, scale: np.ndarray, u: float) -> float:
    """The largest error in units of u scale; where the scale is 0 the error must be."""
    if not error.size:
        return 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(error == 0, 0.0, error / (u * scale))
    return float(np.nanmax(ratios, initial=0))


def measure(case: Case) -> list[dict[str, Any]]:
    """One row per algorithm and pass that ran."""
    rng, rows = np.random.default_rng(case.number), []
    for direction in DIRECTIONS:
        expected, sums = truth(case, direction, rng)
        plane = np.broadcast_to(sums.max(tuple(range(2, sums.ndim)), keepdims=True, initial=0), sums.shape)
        reached = np.broadcast_to(reach(case, direction), sums.shape)
        terms = case.geometry.terms
        if direction == "weight_grad":
            terms = case.geometry.batch * total(case.geometry.out_shape)
        elif direction == "input_grad":
            terms = case.geometry.taps * case.geometry.out_channels // case.geometry.groups
        for algorithm, accuracy in product(OWN, ("fast", "strict")):
            if algorithm.name == "loops" and case.geometry.macs > LOOPS_MACS:
                continue
            if accuracy == "strict" and case.dtype == "float64":
                continue  # it computes as "fast" does
            y = run(case, direction, algorithm.name, accuracy)
            if y is None:
                continue
            error = np.abs(y.astype(np.float64) - expected)  # NaN where float64 has no exact value
            u = UNIT[case.dtype]
            row = {
                "algorithm": algorithm.name + (" strict" if accuracy == "strict" else ""),
                "direction": direction,
                "dtype": case.dtype,
                "kind": case.kind,
                "case": case.number,
                "terms": terms,
                "window": ratio(error, sums, u),
                "plane": ratio(error, plane, u),
                "reach": ratio(error, reached, u),
                "promise": promise(case, direction, algorithm),
            }
            if isinstance(algorithm, Winograd):
                row["Amp"] = ratio(error, amplified(case, direction, algorithm), u)
            rows.append(row)
    return rows


# --------------------------------------------------------------------------- reporting
COLUMNS = {"window": "err/(u S)", "plane": "err/(u max S)", "reach": "err/(u R)", "Amp": "err/(u Amp)"}


def table(rows: list[dict[str, Any]], *keys: str) -> list[str]:
    """A Markdown table: the maxima of the rows that agree in `keys`."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(str(row[key]) for key in keys), []).append(row)
    lines = ["| " + " | ".join((*keys, "results", *COLUMNS.values(), "kept")) + " |"]
    lines.append("|" + "---|" * (len(keys) + 2 + len(COLUMNS)))
    for key, group in found.items():
        cells = [f"{max(r[name] for r in group):.3g}" if name in group[0] else "" for name in COLUMNS]
        lines.append("| " + " | ".join((*key, str(len(group)), *cells, kept(group))) + " |")
    return lines


def broken(row: dict[str, Any]) -> float:
    """The error as a multiple of the bound promised; the norms of "fast" Fourier are not measured."""
    constant, scale = row["promise"].split()
    if scale == "norms":
        return 0.0
    return row[{"window": "window", "plane": "reach", "transform": "Amp"}[scale]] / float(constant)


def kept(rows: list[dict[str, Any]]) -> str:
    """Whether every row kept the bound; if not, how many broke it."""
    count = sum(broken(row) > 1 for row in rows)
    return f"{count} not" if count else "yes"


def report(rows: list[dict[str, Any]], cases: int) -> str:
    order = {name: i for i, name in enumerate(f"{a.name}{tier}" for a in OWN for tier in ("", " strict"))}
    rows = sorted(
        rows,
        key=lambda r: (r["dtype"], order[r["algorithm"]], r["promise"], DIRECTIONS.index(r["direction"])),
    )
    lines = [f"{cases} cases, {len(rows)} results"]
    even = [row for row in rows if row["kind"] != "constant"]
    lines += ["", "Data of five kinds:", "", *table(even, "dtype", "algorithm", "promise", "direction")]
    lines += [
        "",
        "Constant data:",
        "",
        *table([r for r in rows if r["kind"] == "constant"], "dtype", "algorithm", "promise"),
    ]
    lines += ["", "By kind:", "", *table(rows, "algorithm", "promise", "kind")]
    lines += ["", "The worst by algorithm and pass, as a multiple of its bound:"]
    for name in order:
        for direction in DIRECTIONS:
            group = [r for r in rows if r["algorithm"] == name and r["direction"] == direction and broken(r) > 1]
            for row in sorted(group, key=broken, reverse=True)[:3]:
                lines.append(
                    f"{name} {direction}: {broken(row):.3g} times {row['promise']}, case {row['case']} "
                    f"({row['kind']}, {row['dtype']}, {row['terms']} terms)"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so long")
    parser.add_argument("--json", help="write every row here")
    parser.add_argument("--merge", nargs="*", help="report on files that --json wrote, instead of running")
    parser.add_argument("--only", type=int, help="run and print one case")
    options = parser.parse_args()
    if options.only is not None:
        case = draw(options.only)
        print(case, *measure(case), sep="\n")
        return
    rows: list[dict[str, Any]] = []
    cases, end = 0, time.monotonic() + 60 * options.minutes
    if options.merge:
        for name in options.merge:
            with open(name, encoding="utf-8") as file:
                part = json.load(file)
            rows += part["rows"]
            cases += part["cases"]
    else:
        while cases < options.cases and time.monotonic() < end:
            rows += measure(draw(options.first + cases))
            cases += 1
    print(report(rows, cases))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"cases": cases, "rows": rows}, file)


if __name__ == "__main__":
    main()
