"""The chapter on the gradient check: its numbers, and the wrong gradients it rejects."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import conv, conv_grads, conv_input_grad
from ..gradcheck import Report, check
from .report import Chapter, Code, Formula, Table, Text


def checked() -> tuple[Report, dict[str, Report]]:
    """The check of npconv's gradients, and of four wrong input gradients that look right."""
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((2, 4, 9, 8)), rng.standard_normal((6, 2, 3, 3)), rng.standard_normal(6)
    how: dict[str, Any] = {"stride": 2, "padding": "same", "groups": 2}

    def forward(x: Any, w: Any, b: Any) -> Any:
        return conv(x, w, b, **how)

    def right(g: Any, x: Any, w: Any, b: Any) -> Any:
        return conv_grads(g, x, w, **how)

    mistakes = {
        "0.05 % too large": lambda dx, g, w: dx * 1.0005,
        "the kernel not flipped": lambda dx, g, w: conv_input_grad(g, w[..., ::-1, ::-1], input_shape=x.shape, **how),
        "shifted by one pixel": lambda dx, g, w: np.roll(dx, 1, axis=-1),
        "upside down": lambda dx, g, w: dx[..., ::-1, :],
    }
    found = {}
    for name, spoil in mistakes.items():

        def wrong(g: Any, x: Any, w: Any, b: Any, spoil: Any = spoil) -> Any:
            dx, dw, db = right(g, x, w, b)
            return spoil(dx, g, w), dw, db

        found[name] = check(forward, wrong, x, w, b, raise_on_failure=False, samples=30)
    return check(forward, right, x, w, b, raise_on_failure=False), found


def gradient_check() -> Chapter:
    """The numbers of the check, and what it rejects."""
    report, wrong = checked()
    worst = max(max(part.inner_error, part.entry_error) for part in report.inputs)
    rows = [
        (
            name,
            " × ".join(map(str, part.shape)),
            part.entries,
            f"{part.inner_error:.1e}",
            f"{part.entry_error:.1e}",
            f"{part.analytic.real:.6f}",
            f"{part.numeric.real:.6f}",
            "passed" if part.passed else "FAILED",
        )
        for name, part in zip(("input", "weights", "bias"), report.inputs, strict=True)
    ]
    rejected = [
        (
            name,
            f"{r.inputs[0].inner_error:.1e}",
            f"{r.inputs[0].entry_error:.1e}",
            "passed" if r else "rejected",
        )
        for name, r in wrong.items()
    ]
    return Chapter(
        "check",
        "Is the gradient right?",
        [
            Text(
                "A wrong gradient still trains a little, so it is measured: move one number by a small "
                "step h, see how much the output moves, and compare. Errors are relative to the size of "
                f"the gradient; above {report.rtol:.0e} the check fails."
            ),
            Formula("dy/dx is about (f(x + h) - f(x - h)) / 2h\n<f'(x) v, g> = <v, dx>   for every direction v"),
            Table(
                (
                    "gradient of",
                    "shape",
                    "entries",
                    "inner product",
                    "worst entry",
                    "given",
                    "measured",
                    "verdict",
                ),
                rows,
                'npconv\'s gradients of a convolution with stride 2, padding "same" and 2 groups; '
                "`given` and `measured` are the values at the worst entry.",
            ),
            Text("A check is worth what it rejects. Four input gradients that are wrong in ways people get wrong:"),
            Table(("mistake", "inner product", "worst entry", "verdict"), rejected, "Wrong on purpose."),
            Code(
                "import numpy as np\nimport npconv\nfrom npconv.gradcheck import check\n"
                "rng = np.random.default_rng(0)\n"
                "x, w = rng.standard_normal((2, 4, 9, 8)), rng.standard_normal((6, 4, 3, 3))\n"
                "print(check(lambda x, w: npconv.conv(x, w, stride=2),\n"
                "            lambda g, x, w: npconv.conv_grads(g, x, w, stride=2, bias=False), x, w))"
            ),
        ],
        summary=(f"{worst:.0e}", "largest relative error of the gradient check"),
        terminal=f"gradient check\n{report}\nwrong on purpose: "
        + ", ".join(f"{name} {'passed' if r else 'rejected'}" for name, r in wrong.items()),
    )
