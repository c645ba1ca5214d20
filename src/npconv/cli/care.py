"""npconv doctor, warmup and tune: what runs here, and making it ready."""

from __future__ import annotations

import click

from .options import bar


@click.command()
def doctor() -> None:
    """Say what runs here and why: CPU, threads, compiled kernels, where they are kept, the cost table."""
    from ..diagnosis import report

    for subject, finding in report():
        click.echo(f"{subject:<18}{finding}")


@click.command()
def warmup() -> None:
    """Compile all kernels now, so that no call has to."""
    from ..compiled import catalogue, store

    _needs_kernels()
    with bar("kernel") as shown:
        everything = catalogue.everything()
        shown.reset(len(everything))
        for family, name, dtype in everything:
            shown.set_description_str(f"{family} {name} {dtype}")
            catalogue.kernel(family, name, dtype)
            shown.update()
    click.echo(f"{len(everything)} kernels are ready: {store.state()}")


@click.command()
@click.option("--seconds", type=click.FloatRange(1), default=30.0, show_default=True, help="Time to measure for.")
@click.option("--dry-run", is_flag=True, help="Measure and print, but keep nothing.")
def tune(seconds: float, dry_run: bool) -> None:
    """Measure what algorithms cost on this machine, so that the fastest is chosen more often.

    The result is kept beside the compiled kernels, if it chooses better than the table that npconv came with.
    """
    from .. import tuning

    with bar("s") as shown:
        shown.reset(seconds)
        found = tuning.tune(seconds, progress=shown.update)
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
    from ..compiled import catalogue

    why = catalogue.unavailable()
    if why:
        raise click.ClickException(f"there are no compiled kernels here: {why}")
