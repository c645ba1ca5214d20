"""npconv verify"""

from __future__ import annotations

import time
from typing import Any

import click

from .options import AS_JSON, Known, bar
from .words import say, say_json, shown

#: npconv's own, here without NumPy, so that a shell completes them at once.
NAMES = (
    "loops", "direct", "gemm", "blocked", "channelwise", "pixelwise", "depthwise", "fft", "fft_single", "tiled_fft",
    "fused_winograd_f2", "fused_winograd_f4", "winograd_f2", "winograd_f4", "winograd_f6",
)  # fmt: skip


@click.command()
@click.argument("algorithms", type=Known("algorithm", NAMES), nargs=-1, metavar="[ALGORITHM|MODULE:NAME]...")
@click.option(
    "--cases", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Problems in each of four dtypes."
)
@click.option("--seed", type=click.IntRange(0), help="Draw other problems than the usual ones.")
@AS_JSON
@click.pass_context
def verify(ctx: click.Context, algorithms: tuple[str, ...], cases: int, seed: int | None, as_json: bool) -> None:
    """Verify algorithms against the definition of convolution.

    All of them, or those named; MODULE:NAME is a class of yours, in a module of this folder or an installed one. Drawn
    problems in four dtypes, all three passes, each within the error bound that the algorithm promises; outputs
    poisoned, inputs untouched, tiles, repetition bit for bit, and what it claims of integers and NaN.

    The exit code is 1 if one fails; its first failing problem is printed.

    \b
    Examples:
      npconv verify
      npconv verify winograd_f4 fft --cases 200
      npconv verify my_algorithm:Mine
      npconv verify --json
    """
    from . import verifying

    every = verifying.found(algorithms)
    told: list[dict[str, Any]] = []
    with bar("algorithm") as progress:
        progress.reset(len(every))
        for algorithm in every:
            progress.set_description_str(shown(algorithm.name, 30))
            began = time.perf_counter()
            one = verifying.verified(algorithm, cases, seed, asked=bool(algorithms))
            told.append(one | {"seconds": time.perf_counter() - began})
            progress.update()
            if not as_json:
                progress.clear()
                say(verifying.line(told[-1]), 18)
    failed = [one for one in told if one["result"] == "failed"]
    if as_json:
        say_json({"cases": cases, "seed": seed, "algorithms": told})
    else:
        for one in failed:
            say(f"\n{one['name']} failed:\n  {one['failure']}")
        if not failed:
            right = sum(one["result"] == "right" for one in told)
            say({0: "none can be verified here", 1: "it is right"}.get(right, f"{right} algorithms are right"))
    if failed:
        ctx.exit(1)
