"""Measure the error of every algorithm in every pass on drawn cases, in units of what npconv promises.

    python -m benchmarks.accuracy                         10,000 cases: about half an hour
    python -m benchmarks.accuracy --minutes 15 --json F   as many as fit, and the numbers in F
    python -m benchmarks.accuracy --compiled --torch      until each compiled algorithm has had 10,000; PyTorch beside
    python -m benchmarks.accuracy --only 1234             one case, printed pass by pass

u is the unit roundoff; the columns are the largest err / (u scale) for four scales:

    S       the sum of |products| of the output itself
    max S   the largest S of the output's plane
    R       sum over channels of max |x| sum |w|, whatever the windows meet: what a transform sees
    Amp     S computed with the absolute values of Winograd's transforms

Every algorithm runs at accuracy="fast", where it computes in the data's own precision, and NumPy's where admitted at
"strict", which computes float32 in float64. Integers must be exact where they are promised to be, and sums of nothing
are 0: "0 window". The columns of torch are its err / (u S) in the same passes of the same cases, in both layouts, on one
thread.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

import npconv
from npconv import execution
from npconv.algorithms import OWN
from npconv.algorithms.base import DIRECTIONS, Algorithm, Compiled, input_grad_weights
from npconv.algorithms.winograd import Winograd
from npconv.geometry import ConvGeometry, total

from .cases import COMPILED, UNIT, Case, draw, reach, truth
from .machine import machine

SCALES = ("window", "plane", "transform", "norms")
LOOPS_MACS = 30_000  # the nest of Python loops gets no more
NUMPY_ALGORITHMS = tuple(a for a in OWN if not isinstance(a, Compiled))
COMPILED_ALGORITHMS = tuple(a for a in OWN if isinstance(a, Compiled))
ORDER = {name: i for i, name in enumerate(f"{a.name}{tier}" for a in OWN for tier in ("", " strict"))}


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


def run_torch(case: Case, direction: str, last: bool) -> np.ndarray:
    """The pass by PyTorch; zeros are put around x where it cannot."""
    import torch
    from torch.nn import functional

    geometry, form = case.geometry, {2: torch.channels_last, 3: torch.channels_last_3d}.get(case.geometry.rank)
    even = all(lo == hi for lo, hi in geometry.padding)
    pads = [0 if even else n for pair in geometry.padding[::-1] for n in pair]
    x, w, g = map(torch.from_numpy, case.arrays)
    x = functional.pad(x, pads)
    if last and form:
        x, w, g = (array.contiguous(memory_format=form) for array in (x, w, g))
    padding = [lo if even else 0 for lo, _ in geometry.padding]
    options = (geometry.stride, padding, geometry.dilation, False, [0] * geometry.rank, geometry.groups)
    if direction == "forward":
        return torch.convolution(x, w, None, *options).numpy()
    wanted = [direction == "input_grad", direction == "weight_grad", False]
    dx, dw, _ = torch.ops.aten.convolution_backward(g, x, w, None, *options, wanted)
    inner = (slice(pads[i], pads[i] + n) for i, n in zip(range(len(pads) - 2, -1, -2), geometry.in_shape, strict=True))
    return dw.numpy() if dx is None else dx[(..., *inner)].numpy()


def torch_errors(case: Case, direction: str, expected: np.ndarray, sums: np.ndarray) -> dict[str, float]:
    """PyTorch's columns."""
    found = {}
    for name in ("torch", "torch last")[: 1 + (case.geometry.rank > 1)]:
        y = run_torch(case, direction, name != "torch")
        found[name] = ratio(np.abs(y - expected), sums, UNIT[case.dtype])
    return found


def promise(case: Case, direction: str, algorithm: Algorithm, largest: float) -> str:
    """The bound that holds for every part of the pass: its constant and its scale. `largest` is the largest S."""
    if case.kind == "integer" and algorithm.exact_on_integers and largest < 1 / UNIT[case.dtype]:
        return "0 window"
    parts = [part.geometry for part in execution.parts(case.geometry, direction) if part.geometry]
    bounds = {algorithm.error_bound(part, np.dtype(case.dtype)) for part in parts}
    if not bounds:
        return "0 window"  # no output reads an input: all are zero
    weakest = max(bounds, key=lambda bound: (SCALES.index(bound.scale), bound.constant))
    return "log2 norms" if weakest.scale == "norms" else f"{weakest.constant:g} {weakest.scale}"


def ratio(error: np.ndarray, scale: np.ndarray, u: float) -> float:
    """The largest error in units of u scale; where the scale is 0 the error must be."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(error == 0, 0.0, error / (u * scale))
    return float(np.nan_to_num(ratios, nan=np.inf, posinf=np.inf).max(initial=0))


def measure(case: Case, algorithms: Sequence[Algorithm], torch: bool) -> list[dict[str, Any]]:
    """One row per algorithm and pass that ran."""
    rows = []
    for direction in DIRECTIONS:
        expected, sums = truth(case, direction)
        plane = np.broadcast_to(sums.max(tuple(range(2, sums.ndim)), keepdims=True, initial=0), sums.shape)
        reached = np.broadcast_to(reach(case, direction), sums.shape)
        terms = case.geometry.terms
        if direction == "weight_grad":
            terms = case.geometry.batch * total(case.geometry.out_shape)
        elif direction == "input_grad":
            terms = case.geometry.taps * case.geometry.out_channels // case.geometry.groups
        beside = torch_errors(case, direction, expected, sums) if torch else {}
        for algorithm, accuracy in product(algorithms, ("fast", "strict")):
            if algorithm.name == "loops" and case.geometry.macs > LOOPS_MACS:
                continue
            if accuracy == "strict" and (case.dtype == "float64" or isinstance(algorithm, Compiled)):
                continue  # it computes as "fast" does
            y = run(case, direction, algorithm.name, accuracy)
            if y is None:
                continue
            error = np.abs(y - expected)
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
                "promise": promise(case, direction, algorithm, sums.max(initial=0)),
                **beside,
            }
            if isinstance(algorithm, Winograd):
                row["Amp"] = ratio(error, amplified(case, direction, algorithm), u)
            rows.append(row)
    return rows


# --------------------------------------------------------------------------- reporting
COLUMNS = {
    "window": "err/(u S)",
    "plane": "err/(u max S)",
    "reach": "err/(u R)",
    "Amp": "err/(u Amp)",
    "torch": "torch",
    "torch last": "torch, channels last",
}


def table(rows: list[dict[str, Any]], *keys: str) -> list[str]:
    """A Markdown table: the maxima of the rows that agree in `keys`."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(str(row[key]) for key in keys), []).append(row)
    columns = [name for name in COLUMNS if any(name in row for row in rows)]
    lines = ["| " + " | ".join((*keys, "results", *(COLUMNS[name] for name in columns), "kept", "worst case")) + " |"]
    lines.append("|" + "---|" * (len(keys) + 3 + len(columns)))
    for key, group in found.items():
        worst = max(group, key=lambda r: (broken(r), r["window"]))["case"]
        most = (max((r[name] for r in group if name in r), default=None) for name in columns)
        cells = ["" if value is None else f"{value:.3g}" for value in most]
        lines.append("| " + " | ".join((*key, str(len(group)), *cells, kept(group), str(worst))) + " |")
    return lines


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """The table of docs/accuracy.md: per pass the largest error in the unit of its promise, its case, and torch's."""
    heads = ("err / u scale (case)", "torch", "channels last")
    lines = ["| | algorithm | pass | results | " + " | ".join((*heads, *(f"constant: {h}" for h in heads))) + " |"]
    lines.append("|" + "---|" * (4 + 2 * len(heads)))
    keys = {(row["dtype"], row["algorithm"], row["direction"]) for row in rows}
    for key in sorted(keys, key=lambda key: (key[0], ORDER[key[1]], DIRECTIONS.index(key[2]))):
        group = [row for row in rows if (row["dtype"], row["algorithm"], row["direction"]) == key]
        scale = "window" if all(row["promise"].endswith("window") for row in group) else "reach"
        cells = [*key, f"{len(group):,}"]
        for constant in (False, True):
            some = [row for row in group if (row["kind"] == "constant") == constant]
            worst = max(some, key=lambda row: row[scale], default=None)
            cells.append(
                "" if worst is None else f"{worst[scale]:.3g} {'R' if scale == 'reach' else 'S'} ({worst['case']})"
            )
            cells += [f"{max((row.get(name, 0) for row in some), default=0):.3g}" for name in ("torch", "torch last")]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def broken(row: dict[str, Any]) -> float:
    """The error as a multiple of the bound promised; the norms of "fast" Fourier are not measured."""
    constant, scale = row["promise"].split()
    if scale == "norms":
        return 0.0
    error = row[{"window": "window", "plane": "reach", "transform": "Amp"}[scale]]
    return error and (error / float(constant) if float(constant) else math.inf)


def kept(rows: list[dict[str, Any]]) -> str:
    """Whether every row kept the bound; if not, how many broke it."""
    count = sum(broken(row) > 1 for row in rows)
    return f"{count} not" if count else "yes"


def report(rows: list[dict[str, Any]], cases: int) -> str:
    rows = sorted(
        rows,
        key=lambda r: (r["dtype"], ORDER[r["algorithm"]], r["promise"], DIRECTIONS.index(r["direction"])),
    )
    lines = [f"{cases:,} cases, {len(rows):,} results; {machine()}", "", *summary(rows)]
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
    for name in ORDER:
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
    parser.add_argument("--cases", type=int, default=10_000, help="how many; with --compiled, for each algorithm")
    parser.add_argument("--first", type=int, help="the number of the first case")
    parser.add_argument("--compiled", action="store_true", help="the compiled algorithms, on cases that suit them")
    parser.add_argument("--torch", action="store_true", help="measure PyTorch on the same data")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so long")
    parser.add_argument("--json", help="write every row here")
    parser.add_argument("--merge", nargs="*", help="report on files that --json wrote, instead of running")
    parser.add_argument("--only", type=int, help="run and print one case")
    options = parser.parse_args()
    if options.torch:
        import torch

        torch.set_num_threads(1)
    algorithms = COMPILED_ALGORITHMS if options.compiled else NUMPY_ALGORITHMS
    if options.only is not None:
        case = draw(options.only)
        print(case, *measure(case, OWN, options.torch), sep="\n")
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
        first = options.first if options.first is not None else COMPILED if options.compiled else 0
        each: Counter[str] = Counter()
        while (
            time.monotonic() < end
            and (min(each[a.name] for a in algorithms) if options.compiled else cases) < options.cases
        ):
            found = measure(draw(first + cases), algorithms, options.torch)
            each.update({row["algorithm"] for row in found})
            rows += found
            cases += 1
    print(report(rows, cases))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"cases": cases, "rows": rows}, file)


if __name__ == "__main__":
    main()
