"""npconv doctor, warmup and tune: what runs here, and making it ready."""

from __future__ import annotations

from itertools import pairwise

import click

from .options import AS_JSON, bar
from .words import say, say_json, table

#: What each extra brings, and the name that is imported.
INSTALLED = {
    "fast": ("numba", "llvmlite"),
    "cli": ("click", "tqdm"),
    "plot": ("matplotlib", "pillow"),
    "onnx": ("onnx",),
    "keras": ("keras", "scipy"),
    "weights": ("safetensors", "h5py"),
    "dask": ("dask",),
    "sklearn": ("scikit-learn",),
    "widget": ("anywidget",),
    "demo": ("scikit-image",),
}


@click.command()
@AS_JSON
def doctor(as_json: bool) -> None:
    """Say what is installed, what runs here, and why.

    The processor and what it can do, threads, compiled kernels and where they are kept, the cost table, the extras. It
    makes one convolution, which may compile a kernel.

    \b
    Examples:
      npconv doctor
      npconv doctor --json
    """
    from ..compiled.ahead import features
    from ..diagnosis import report

    rows: list[tuple[str, str]] = []
    for subject, finding in report():
        rows.append((subject, finding))
        if not as_json:
            say(f"{subject:<18}{finding}", 18)
    vectors = sorted(name for name in features() if name.startswith(("AVX", "FMA", "NEON", "ASIMD", "SVE")))
    extras = {extra: {name: version_of(name) for name in names} for extra, names in INSTALLED.items()}
    if as_json:
        told = [{"subject": subject, "finding": finding, "advice": None} for subject, finding in rows if subject]
        for (subject, _), (after, advice) in pairwise(rows):
            if not after:  # a line of its own under the one that it belongs to
                next(one for one in told if one["subject"] == subject)["advice"] = advice
        say_json({"report": told, "cpu_features": vectors, "extras": extras})
        return
    say(f"{'processor has':<18}{', '.join(vectors) or 'none that matter here'}", 18)
    for extra, names in extras.items():
        found = ", ".join(f"{name} {version or 'missing'}" for name, version in names.items())
        say(f"{'extra ' + extra:<18}{found}", 18)


def version_of(name: str) -> str | None:
    """The installed version of a distribution."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


@click.command()
def warmup() -> None:
    """Compile all kernels now, so that no call has to.

    For an image or a cluster. Kernels that came with npconv are ready already.

    \b
    Examples:
      npconv warmup
      NPCONV_CACHE_DIR=/opt/npconv npconv warmup
    """
    from ..compiled import catalogue, store

    why = catalogue.unavailable()
    if why:
        raise click.ClickException(f"there are no compiled kernels here: {why}")
    with bar("kernel") as shown:
        everything = catalogue.everything()
        shown.reset(len(everything))
        for family, name, dtype in everything:
            shown.set_description_str(f"{family} {name} {dtype}")
            catalogue.kernel(family, name, dtype)
            shown.update()
    say(f"{len(everything)} kernels are ready: {store.state()}")


@click.command()
@click.option("--seconds", type=click.FloatRange(1), default=30.0, show_default=True, help="Time to measure for.")
@click.option("--dry-run", is_flag=True, help="Measure and print, but keep nothing.")
@AS_JSON
def tune(seconds: float, dry_run: bool, as_json: bool) -> None:
    """Measure what algorithms cost here, to choose better.

    The result is kept beside the compiled kernels, if it chooses better than the table that npconv came with.

    \b
    Examples:
      npconv tune
      npconv tune --seconds 120
      npconv tune --dry-run --json
    """
    from .. import tuning

    with bar("s") as shown:
        shown.reset(seconds)
        found = tuning.tune(seconds, progress=lambda passed: shown.update(min(passed, seconds - shown.n)))
    wanted = found.better and not dry_run
    kept = wanted and tuning.keep(found.table)
    if as_json:
        told = {"seconds_per_unit": found.table, "judged_by": found.layers // 2, "regret_before": found.before}
        say_json(told | {"regret_after": found.after, "better": found.better, "kept": kept})
    else:
        lines: list[tuple[str, ...]] = [("seconds per", *tuning.UNITS)]
        lines += [(engine, *(f"{prices[unit]:.2g}" for unit in tuning.UNITS)) for engine, prices in found.table.items()]
        say(table(lines, right=(1, 2, 3, 4)))
        say(
            f"time of the chosen algorithm / time of the best, over {found.layers // 2} layers not fitted to: "
            f"{found.before:.3f} with npconv's own table, {found.after:.3f} with this one"
        )
        if not wanted:
            say("not kept" if dry_run else "not kept: npconv's own table chooses as well")
        elif kept:
            say("kept; delete tuning.json there to undo this")
    if wanted and not kept:
        raise click.ClickException("tune: there is no directory to keep the table in; see npconv doctor")
