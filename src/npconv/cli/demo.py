"""npconv demo"""

from __future__ import annotations

from pathlib import Path

import click

from .words import say


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="npconv-demo",
    show_default=True,
    help="Folder to write to; made if it is not there.",
)
@click.option(
    "--photo",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A photograph of yours; scikit-learn's flower.jpg by default.",
)
@click.option("--quick", is_flag=True, help="Smaller pictures, shorter training, one race.")
def demo(out: Path, photo: Path | None, quick: bool) -> None:
    """Show what npconv does, on a photograph, with numbers.

    Edges, sharpening, channels, pooling, feature maps, the gradient as a convolution, a gradient check, a
    network that learns to read digits, and a race of all algorithms: as PNG files and one HTML page.

    \b
    Examples:
      npconv demo
      npconv demo --quick --out /tmp/look
      npconv demo --photo holiday.jpg
    """
    try:
        from tqdm import tqdm

        from ..demo import flower, photo_from, run, steps
    except ImportError as error:
        hint = "" if "npconv[" in str(error) else ': pip install "npconv[demo]"'
        raise click.ClickException(f"{error}{hint}") from error
    try:
        with tqdm(total=steps(quick), unit="step", disable=None, leave=False) as bar:

            def step(words: str) -> None:
                bar.set_description_str(words)
                bar.update()

            shown = flower() if photo is None else photo_from(photo)
            made = run(out, photo=shown, quick=quick, step=step)
    except OSError as error:
        raise click.ClickException(f"demo: cannot write to {out}: {error.strerror or error}") from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    for chapter in made.chapters:
        if chapter.terminal:
            say(chapter.terminal + "\n")
    say(f"{len(made.pictures)} pictures in {made.seconds:.0f} s. Open this in a browser:")
    say(str(made.report.resolve()), None)  # a path to copy
