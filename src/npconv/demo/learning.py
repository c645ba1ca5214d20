"""The chapter on a real training run: digits, read by a small network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import matplotlib
import numpy as np

from .. import nn, plots
from .report import LOOK, Chapter, Code, Folder, Formula, Picture, Text, canvas
from .training import Training, train


def learning(folder: Folder, epochs: int, step: Callable[[str], None] | None = None) -> Chapter:
    """Train, and show how it went and what was learned."""

    def tell(now: nn.Progress) -> None:
        if step and now.epoch_ends:
            held_out = now.history.metrics["validation accuracy"][-1]
            step(f"epoch {now.epoch + 1} of {now.epochs}: loss {now.loss:.3f}, {held_out:.1%} of held-out digits right")

    t = train("digits", epochs=epochs, step=tell)
    seen, held_out = t.images
    right = held_out - len(t.mistaken)
    seconds = t.history.seconds
    return Chapter(
        "training",
        "A network learns to read digits",
        [
            Text(
                f"scikit-learn brings {seen + held_out} handwritten digits of 8 × 8 pixels. A network of "
                f"three convolutions and one dense layer trains on {seen} of them; {held_out} are "
                "held out to test it on. Every gradient is one of npconv's."
            ),
            Formula(
                "1 × 8 × 8 -> conv 3 × 3: 24 × 8 × 8 -> conv 3 × 3: 24 × 8 × 8 -> max-pool 2: 24 × 4 × 4\n"
                "          -> conv 3 × 3: 48 × 4 × 4 -> dense: 10 scores\n"
                "each convolution followed by batch norm and relu\n"
                f"{sum(a.size for a in t.model.parameters().values())} weights, {epochs} epochs, {seconds:.1f} s\n"
                f"accuracy = {right} / {held_out} = {right / held_out:.2%} on digits it had never seen"
            ),
            *pictures(t, folder),
            Code(
                "from npconv.demo.training import train\n"
                'result = train("digits", epochs=3)\n'
                "print(result.history)\n"
                "print(result.accuracy)"
            ),
            Text(
                "The network and its training are in `npconv/demo/training.py`. `npconv train digits` runs them "
                "longer and saves the model."
            ),
        ],
        summary=(f"{right / held_out:.1%}", f"of {held_out} held-out digits read right, after {seconds:.1f} s"),
        terminal=f"training: {right} of {held_out} held-out digits right ({right / held_out:.2%}) "
        f"after {epochs} epochs, {seconds:.1f} s",
    )


def telling_faces(folder: Folder) -> Chapter:
    """The same network on pictures of another kind."""
    t = train("faces", epochs=8)
    seen, held_out = t.images
    right, seconds = held_out - len(t.mistaken), t.history.seconds
    x, y = t.task.images()
    shown = [images[:5, 0] for images in (x[y == 1], x[y == 0])]
    some = canvas(2.8)
    titles = [t.task.labels[i] for i in (1, 0) for _ in range(5)]
    plots.image_grid(list(np.concatenate(shown)), titles=titles, columns=5, limit=1, size=False, figure=some)
    return Chapter(
        "faces",
        "The same network tells faces from other pictures",
        [
            Text(
                f"scikit-image brings {seen + held_out} small pictures, half of them faces, half pieces of backgrounds. "
                f"The network of the chapter before, with two answers instead of ten, trains on {seen} of them "
                f"for 8 epochs, {seconds:.1f} s, and answers {right} of the {held_out} others rightly."
            ),
            folder.save(
                some,
                "training-faces",
                "Five pictures of either kind, of 25 × 25 pixels.",
                "Five small grey pictures of faces above five pieces of backgrounds",
            ),
            Code('from npconv.demo.training import train\nresult = train("faces", epochs=3)\nprint(result.accuracy)'),
        ],
        terminal=f"faces: {right} of {held_out} held-out pictures right ({right / held_out:.2%}) "
        f"after 8 epochs, {seconds:.1f} s",
    )


def saved(t: Training, path: Path) -> list[Path]:
    """Write the history, the pictures and the weights; the files."""
    history, weights = path / "history.json", path / "model.npz"
    facts = asdict(t.history) | {"accuracy": t.accuracy, "confusion": t.confusion.tolist(), "labels": t.task.labels}
    del facts["seconds"]  # the only number that the seed does not decide
    history.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    nn.save_weights(weights, t.model)
    with matplotlib.rc_context(LOOK):
        return [history, weights, *(picture.path for picture in pictures(t, Folder(path)))]


def pictures(t: Training, folder: Folder) -> list[Picture]:
    """How it went, what the first layer learned, and what was answered for what."""
    progress = canvas(5)
    seen, held_out = t.history.metrics["accuracy"], t.history.metrics["validation accuracy"]
    plots.history(t.history.loss, {"training images": seen, "held-out images": held_out}, figure=progress)

    filters = t.model.parameters()["conv1.weight"][:, 0]
    learned = canvas(5.4)
    grid = learned.subplots(4, 6)
    for kernel, ax in zip(filters, grid.ravel(), strict=True):
        plots.numbers(kernel, ax=ax, size=7)
    learned.suptitle(f"the first layer's {len(filters)} kernels")

    table = canvas(5.6)
    plots.confusion(t.confusion, labels=t.task.labels, ax=table.subplots())
    made = [
        folder.save(
            progress,
            "training",
            "Loss and accuracy after every epoch. Held-out images are never trained on; training images are seen "
            "with dropout, and shifted, which makes them harder.",
            "Two charts over epochs: the loss falls, the accuracies rise",
        ),
        folder.save(
            learned,
            "training-filters",
            "What the first layer learned from random numbers: small detectors of strokes and edges.",
            f"{len(filters)} kernels of 3 by 3 weights",
        ),
        folder.save(
            table,
            "training-confusion",
            "Each held-out image: its row is what it is, its column what the network answered.",
            "A table of counts, nearly all on the diagonal",
        ),
    ]
    (folder.path / "training-mistakes.png").unlink(missing_ok=True)  # those of an earlier training
    if t.mistaken:
        shown = min(5, len(t.mistaken))
        wrong = canvas(2)
        names = t.task.labels
        titles = [f"{names[is_]} read as {names[answer]}" for is_, answer in t.mistaken[:shown]]
        plots.image_grid(
            list(np.asarray(t.mistakes[:shown])), titles=titles, columns=5, limit=1, size=False, figure=wrong
        )
        made.append(
            folder.save(
                wrong,
                "training-mistakes",
                f"{shown} of the {len(t.mistaken)} it got wrong. Could you?",
                "Blurry images that the network misread",
            )
        )
    return made
