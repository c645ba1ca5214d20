"""npconv train"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import bar
from .words import say, say_json


@click.command()
@click.argument("task", type=click.Choice(["digits", "faces"]))
@click.option("--epochs", type=click.IntRange(1), help="How often every image is seen; enough by default.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Where all chance comes from.")
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="Train with so many seeds, from --seed on."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write to; made if it is not there. npconv-digits or npconv-faces by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON, and nothing else.")
def train(task: str, epochs: int | None, seed: int, seeds: int, out: Path | None, as_json: bool) -> None:
    """Train a small network on digits or faces, and measure it.

    It is measured on a quarter of the images, which it never saw.

    digits: scikit-learn's 1797 digits. faces: scikit-image's 200 pictures with a face or without one.

    Writes history.json, the loss and accuracies, first-layer kernels, confusion matrix and mistakes as PNG files, and
    the weights as model.npz: npconv.nn.load_weights reads them. The same seed gives the same weights.

    \b
    Examples:
      npconv train digits
      npconv train digits --seeds 5 --json
      npconv train faces --epochs 10 --seed 3 --out look
    """
    try:
        from ..demo.learning import saved
        from ..demo.training import TASKS, Training
        from ..demo.training import train as run
    except ImportError as error:
        hint = "" if "npconv[" in str(error) else ': pip install "npconv[demo]"'
        raise click.ClickException(f"{error}{hint}") from error
    folder = out or Path(f"npconv-{task}")
    lasting = epochs or TASKS[task].epochs
    results: list[Training] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with bar("step") as shown:
            for number in range(seed, seed + seeds):

                def tell(now: Any, number: int = number) -> None:
                    if not shown.n:
                        shown.reset(seeds * now.epochs * now.batches)
                    shown.set_description_str(f"seed {number}, epoch {now.epoch + 1}, loss {now.loss:.3f}", False)
                    shown.update()

                results.append(run(task, epochs=lasting, seed=number, step=tell))
        written = saved(results[-1], folder)
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"train: cannot write to {folder}: {error.strerror or error}") from error
    accuracies = [result.accuracy for result in results]
    seconds = sum(result.history.seconds for result in results)
    mean = sum(accuracies) / len(accuracies)
    if as_json:
        told = {
            "task": task,
            "epochs": lasting,
            "seeds": list(range(seed, seed + seeds)),
            "accuracies": accuracies,
            "mean": mean,
            "seconds": seconds,
            "folder": str(folder.resolve()),
        }
        say_json(told)
        return
    for number, result in zip(range(seed, seed + seeds), results, strict=True):
        held_out = result.images[1]
        right = held_out - len(result.mistaken)
        say(
            f"seed {number}: {right} of {held_out} held-out images right ({result.accuracy:.2%}) "
            f"after {lasting} epoch{'s' * (lasting > 1)}, {result.history.seconds:.1f} s"
        )
    if seeds > 1:
        say(f"mean of {seeds} seeds: {mean:.2%}, {seconds:.1f} s in all")
    say(f"{len(written)} files in {folder.resolve()}", None)
