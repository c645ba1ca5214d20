"""npconv filter"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..border_modes import modes
from .kernel_names import NAMES
from .options import Integers, Known, bar, per_axis
from .words import say, shown


@click.command()
@click.argument("images", type=click.Path(allow_dash=True, path_type=Path), nargs=-1, required=True)
@click.option(
    "--kernel",
    type=Known("kernel", NAMES),
    default="sobel",
    show_default=True,
    help='A name, a file (.npy, or text), or numbers: "0,-1,0; -1,5,-1; 0,-1,0".',
)
@click.option("--sigma", type=click.FloatRange(0, 100, min_open=True), help="How wide: 1 for gaussian, 2 for blur.")
@click.option("--size", type=Integers(), help="Pixels of a box or of a gaussian: 5, or 3,9 (high, wide).")
@click.option(
    "--mode",
    type=click.Choice(list(modes)),
    default="reflect",
    show_default=True,
    metavar="MODE",
    help="What lies beyond the border: reflect, symmetric, replicate, circular, zeros, constant, scipy.mirror ...",
)
@click.option("--cval", type=float, default=0.0, show_default=True, help="The pixels beyond, with --mode constant.")
@click.option("--stride", type=Integers(), default="1", show_default=True, help="Keep every so many pixels.")
@click.option("--grey", is_flag=True, help="Make the picture grey first.")
@click.option(
    "--values",
    type=click.Choice(["auto", "clip", "stretch", "abs"]),
    default="auto",
    show_default=True,
    help="How results become pixels; see above.",
)
@click.option(
    "--out",
    type=click.Path(allow_dash=True, path_type=Path),
    required=True,
    help="A .png, .jpg or .npy; a folder for several images; - for PNG to a pipe.",
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
def filter(images: tuple[Path, ...], out: Path, force: bool, **options: Any) -> None:
    """Filter images: edges, blur, sharpen, or a kernel of yours.

    IMAGES are PNG, JPEG or .npy files; - reads one from a pipe. sobel, prewitt and scharr give the strength of edges
    in both directions, sobel-x and the like one derivative with its sign.

    Results beyond 0..255 become pixels as --values says. clip: cut off. stretch: up to white, the brightest 0.5 %
    all white; where there are signs, zero is middle grey. abs: without the sign, cut off. auto: stretch for kernels
    that sum to zero, clip for the others. An .npy keeps the numbers as they are.

    \b
    Examples:
      npconv filter photo.jpg --out edges.png
      npconv filter photo.jpg --kernel blur --sigma 4 --out soft.jpg
      npconv filter photo.jpg --kernel "0,-1,0; -1,5,-1; 0,-1,0" --out sharp.png
      npconv filter *.jpg --kernel scharr --grey --out edges
      curl -s https://example.org/a.jpg | npconv filter - --out - > edges.png
    """
    from . import filtering
    from .pictures import PIPE, check_free

    options["stride"], options["size"] = per_axis(options["stride"]), per_axis(options["size"])
    many = len(images) > 1 or (out != PIPE and not out.suffix)
    if many and PIPE in (*images, out):
        raise click.UsageError("a pipe brings one picture and takes one; give one image, and a file as --out")
    targets = filtering.targets(images, out) if many else {images[0]: out}
    made = filtering.Filter(**options)
    if many:
        out.mkdir(parents=True, exist_ok=True)
    for target in targets.values():
        check_free(target, force, (".png", ".jpg", ".jpeg", ".npy"))
    if not many:
        size = made.file(images[0], out)
        if out != PIPE:
            say(f"{shown(str(out), 500)}: {size}")
        return
    failed: list[str] = []
    with bar("image") as progress:
        progress.reset(len(targets))
        for source, target in targets.items():
            try:
                made.file(source, target)
            except (ValueError, TypeError, MemoryError, OSError, click.ClickException) as error:
                failed.append(filtering.reason(source, error))
            progress.update()
    say(f"{len(targets) - len(failed)} of {len(targets)} images in {shown(str(out), 500)}")
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise click.ClickException(f"{failed[0]}{more}")
