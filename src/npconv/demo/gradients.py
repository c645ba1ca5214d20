"""The chapters on going back: the padded gradient, and the check that a gradient is right."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import conv, conv_grads, conv_input_grad, plots
from ..gradcheck import Report, check
from .report import Chapter, Code, Folder, Formula, Table, Text, canvas


def padded_gradient(folder: Folder) -> Chapter:
    """The input gradient is a convolution of the spread, padded gradient with the flipped kernel."""
    g = np.arange(1, 17).reshape(1, 4, 4)
    w = np.array([[[[1, 2, 0], [0, 1, -1], [3, 0, -2]]]])
    figure = canvas(1)
    how = {"input_shape": (1, 7, 7), "stride": 2, "padding": 1}
    by_picture = plots.padded_gradient(g, w, figure=figure, **how)  # type: ignore[arg-type]
    by_function = conv_input_grad(g, w, **how)  # type: ignore[arg-type]
    return Chapter(
        "gradient",
        "Going back: the gradient is a convolution too",
        [
            Text(
                "Training asks: if this output should grow by g, how should each input change? Every input "
                "pixel collects g times the weight from each window it was in. Written down, that is a "
                "convolution again: spread g by the stride, pad it, flip the kernel, slide."
            ),
            folder.save(
                figure,
                "padded-gradient",
                "A kernel of 3 × 3 that went over 7 × 7 pixels with stride 2 and padding 1. Framed cells "
                "are g; the zeros between them are the stride, those around them the padding.",
                "Four tables: the gradient, the flipped kernel, the spread and padded gradient, the input "
                "gradient",
            ),
            Formula(
                "spread: (4 - 1) * 2 + 1 = 7      padded: 7 + 1 + 1 = 9      slid: 9 - 3 + 1 = 7\n"
                "padding of g: k - 1 - padding = 3 - 1 - 1 = 1\n"
                f"largest difference from npconv.conv_input_grad: {np.abs(by_picture - by_function).max()}"
            ),
            Code(
                "import numpy as np\nimport npconv\nfrom npconv import plots\n"
                "g = np.arange(1, 17).reshape(1, 4, 4)\n"
                "w = np.array([[[[1, 2, 0], [0, 1, -1], [3, 0, -2]]]])\n"
                "how = dict(input_shape=(1, 7, 7), stride=2, padding=1)\n"
                "dx = plots.padded_gradient(g, w, **how)\n"
                "print((dx == npconv.conv_input_grad(g, w, **how)).all())"
            ),
        ],
    )


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
        "the kernel not flipped": lambda dx, g, w: conv_input_grad(
            g, w[..., ::-1, ::-1], input_shape=x.shape, **how
        ),
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
            Formula(
                "dy/dx is about (f(x + h) - f(x - h)) / 2h\n<f'(x) v, g> = <v, dx>   for every direction v"
            ),
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
            Text(
                "A check is worth what it rejects. Four input gradients that are wrong in ways people get "
                "wrong:"
            ),
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
