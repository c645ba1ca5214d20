"""The chapter on a real training run: digits, read by a small network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import plots
from .report import Chapter, Code, Folder, Formula, Picture, Text, canvas
from .training import Training, train


def learning(folder: Folder, epochs: int, step: Callable[[str], None] | None = None) -> Chapter:
    """Train, and show how it went and what was learned."""
    t = train(epochs, step=step)
    seen, held_out = t.images
    right = held_out - len(t.mistaken)
    return Chapter(
        "training",
        "A network learns to read digits",
        [
            Text(
                f"scikit-learn brings {seen + held_out} handwritten digits of 8 × 8 pixels. A network of "
                f"two convolutions, a max-pool and one dense layer trains on {seen} of them; {held_out} are "
                "held out to test it on. Every gradient is one of npconv's."
            ),
            Formula(
                "1 × 8 × 8 -> conv 3 × 3, relu: 16 × 8 × 8 -> max-pool 2: 16 × 4 × 4\n"
                "          -> conv 3 × 3, relu: 32 × 4 × 4 -> dense: 10 scores\n"
                f"{sum(v.size for v in t.weights.values())} weights, {epochs} epochs, {t.seconds:.1f} s\n"
                f"accuracy = {right} / {held_out} = {right / held_out:.2%} on digits it had never seen"
            ),
            *_pictures(t, folder),
            Code(
                "from npconv.demo.training import train\n"
                "result = train(epochs=3, step=print)\n"
                "print(result.held_out[-1])"
            ),
            Text("The whole network and its training loop are 140 lines: `npconv/demo/training.py`."),
        ],
        summary=(
            f"{right / held_out:.1%}",
            f"of {held_out} held-out digits read right, after {t.seconds:.1f} s of training",
        ),
        terminal=f"training: {right} of {held_out} held-out digits right ({right / held_out:.2%}) "
        f"after {epochs} epochs, {t.seconds:.1f} s",
    )


def _pictures(t: Training, folder: Folder) -> list[Picture]:
    progress = canvas(5)
    plots.history(t.loss, {"training images": t.seen, "held-out images": t.held_out}, figure=progress)

    filters = t.weights["w1"][:, 0]
    learned = canvas(7.2)
    grid = learned.subplots(4, 4)
    for kernel, ax in zip(filters, grid.ravel(), strict=True):
        plots.numbers(kernel, ax=ax, size=10)
    learned.suptitle("the first layer's 16 kernels")

    table = canvas(5.6)
    plots.confusion(t.confusion, ax=table.subplots())
    pictures = [
        folder.save(
            progress,
            "training",
            "Loss and accuracy after every epoch. Held-out images are never trained on.",
            "Two charts over epochs: the loss falls, the accuracies rise",
        ),
        folder.save(
            learned,
            "training-filters",
            "What the first layer learned from random numbers: small detectors of strokes and edges.",
            "Sixteen kernels of 3 by 3 weights",
        ),
        folder.save(
            table,
            "training-confusion",
            "Each held-out digit: its row is what it is, its column what the network answered.",
            "A table of counts, nearly all on the diagonal",
        ),
    ]
    if t.mistaken:
        shown = min(5, len(t.mistaken))
        wrong = canvas(2)
        titles = [f"{is_} read as {answer}" for is_, answer in t.mistaken[:shown]]
        plots.image_grid(
            list(np.asarray(t.mistakes[:shown])), titles=titles, columns=5, limit=1, size=False, figure=wrong
        )
        pictures.append(
            folder.save(
                wrong,
                "training-mistakes",
                f"{shown} of the {len(t.mistaken)} it got wrong. Could you?",
                "Blurry digits that the network misread",
            )
        )
    return pictures
