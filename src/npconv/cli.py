"""The command `npconv`: the demo, what would run for given shapes, and the care of compiled kernels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

#: The entry point.
main: Any

try:
    import click
except ImportError as missing:
    _MESSAGE = f'npconv: the command needs {missing.name}: pip install "npconv[demo]"'

    def _refuse() -> None:
        """Say what to install."""
        sys.exit(_MESSAGE)

    main = _refuse

else:
    from . import MemoryLimitError, __version__
    from . import explain as explanation

    class OneLine(click.Group):
        """A group whose errors are one line on stderr, and never a traceback."""

        def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
            extra["standalone_mode"] = False  # click's own handling prints several lines
            if not standalone_mode:
                return super().main(*args, **extra)
            try:
                code = super().main(*args, **extra)
            except click.ClickException as error:
                words = " ".join(error.format_message().split())
                click.echo(f"npconv: {words}", err=True)
                sys.exit(error.exit_code)
            except (click.Abort, KeyboardInterrupt):
                click.echo("npconv: stopped", err=True)
                sys.exit(130)
            sys.exit(code if isinstance(code, int) else 0)

    class Integers(click.ParamType):
        """Integers with commas between them; a word is left as it is where words are allowed."""

        name = "integers"

        def __init__(self, words: bool = False) -> None:
            self.words = words

        def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
            if not isinstance(value, str):
                return value
            if self.words and value.replace("_", "").isalpha():
                return value
            try:
                numbers = tuple(int(part) for part in value.replace(" ", "").strip("()").split(","))
            except ValueError:
                wanted = "integers with commas between them, such as 1,64,56,56"
                self.fail(f"{value!r} is not {'a name or ' if self.words else ''}{wanted}", param, ctx)
            return numbers

    def _per_axis(value: Any) -> Any:
        """One number stands for every axis."""
        return value[0] if isinstance(value, tuple) and len(value) == 1 else value

    @click.group(cls=OneLine, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
    @click.version_option(__version__, prog_name="npconv")
    @click.pass_context
    def npconv(ctx: click.Context) -> None:
        """Convolution and pooling for NumPy, forward and backward.

        \b
        Examples:
          npconv demo
          npconv demo --photo holiday.jpg
          npconv explain 1,64,56,56 64,64,3,3 --padding 1 --measure
        """
        if ctx.invoked_subcommand is None:
            click.echo(ctx.get_help())

    @npconv.command()
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

            from .demo import flower, photo_from, run, steps
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
                click.echo(chapter.terminal + "\n")
        click.echo(f"{len(made.pictures)} pictures in {made.seconds:.0f} s. Open this in a browser:")
        click.echo(str(made.report.resolve()))

    @npconv.command()
    @click.argument("x_shape", type=Integers())
    @click.argument("w_shape", type=Integers())
    @click.option("--stride", type=Integers(), default="1", show_default=True)
    @click.option(
        "--padding",
        type=Integers(words=True),
        default="0",
        show_default=True,
        help='A number, one per axis, or "same", "valid", "full" ...',
    )
    @click.option("--dilation", type=Integers(), default="1", show_default=True)
    @click.option("--groups", type=int, default=1, show_default=True)
    @click.option("--layout", default="channels_first", show_default=True)
    @click.option("--dtype", default="float32", show_default=True)
    @click.option(
        "--direction",
        type=click.Choice(["forward", "input_grad", "weight_grad"]),
        default="forward",
        show_default=True,
    )
    @click.option(
        "--accuracy", type=click.Choice(["strict", "standard", "fast"]), default="standard", show_default=True
    )
    @click.option("--algorithm", default="auto", show_default=True)
    @click.option("--measure", is_flag=True, help="Also run every algorithm that can, and time it.")
    def explain(x_shape: Any, w_shape: Any, **options: Any) -> None:
        """Say which algorithm would run for these shapes, why, and why not the others.

        X_SHAPE is the input's shape, batch and channels included; W_SHAPE is the kernel's.

        \b
        Examples:
          npconv explain 1,64,56,56 64,64,3,3 --padding 1
          npconv explain 1,64,56,56 64,64,3,3 --padding 1 --measure
          npconv explain 8,3,224,224 64,3,7,7 --stride 2 --padding same --direction weight_grad
        """
        try:
            click.echo(str(explanation(x_shape, w_shape, **{k: _per_axis(v) for k, v in options.items()})))
        except (ValueError, TypeError, MemoryLimitError) as error:
            raise click.ClickException(str(error)) from error

    @npconv.command()
    def doctor() -> None:
        """Say what runs here and why: CPU, threads, compiled kernels, where they are kept, the cost table."""
        from .diagnosis import report

        for subject, finding in report():
            click.echo(f"{subject:<18}{finding}")

    @npconv.command()
    def warmup() -> None:
        """Compile all kernels now, so that no call has to."""
        from .compiled import catalogue, store

        _needs_kernels()
        with _bar("kernel") as bar:
            everything = catalogue.everything()
            bar.reset(len(everything))
            for family, name, dtype in everything:
                bar.set_description_str(f"{family} {name} {dtype}")
                catalogue.kernel(family, name, dtype)
                bar.update()
        click.echo(f"{len(everything)} kernels are ready: {store.state()}")

    @npconv.command()
    @click.option("--seconds", type=click.FloatRange(1), default=30.0, show_default=True, help="Time to measure for.")
    @click.option("--dry-run", is_flag=True, help="Measure and print, but keep nothing.")
    def tune(seconds: float, dry_run: bool) -> None:
        """Measure what algorithms cost on this machine, so that the fastest is chosen more often.

        The result is kept beside the compiled kernels, if it chooses better than the table that npconv came with.
        """
        from . import tuning

        with _bar("s") as bar:
            bar.reset(seconds)
            found = tuning.tune(seconds, progress=bar.update)
        for engine, prices in found.table.items():
            units = ", ".join(f"{unit} {value:.2g} s" for unit, value in prices.items())
            click.echo(f"{engine:<18}{units}")
        click.echo(
            f"time of the chosen algorithm / time of the best, over {found.layers // 2} layers not fitted to: "
            f"{found.before:.3f} with npconv's own table, {found.after:.3f} with this one"
        )
        if dry_run or not found.better:
            click.echo("not kept" if dry_run else "not kept: npconv's own table chooses as well")
        elif tuning.keep(found.table):
            click.echo("kept; delete tuning.json there to undo this")
        else:
            raise click.ClickException("tune: there is no directory to keep the table in; see npconv doctor")

    def _needs_kernels() -> None:
        from .compiled import catalogue

        why = catalogue.unavailable()
        if why:
            raise click.ClickException(f"there are no compiled kernels here: {why}")

    def _bar(unit: str) -> Any:
        try:
            from tqdm import tqdm
        except ImportError as error:
            raise click.ClickException(f'{error}: pip install "npconv[cli]"') from error
        return tqdm(
            total=1, unit=unit, disable=None, leave=False, bar_format="{desc} {bar} {percentage:3.0f} % {elapsed}"
        )

    main = npconv


if __name__ == "__main__":
    main()
