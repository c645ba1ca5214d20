"""What `npconv filter` does: kernels from what was written, images through them, numbers to pixels."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import numpy as np

from .. import filters
from ..reading import per_axis
from .errors import described
from .kernel_names import EDGES, NAMES
from .pictures import Array, InputError, pixels, stored, write

#: Sides of a kernel and bytes of a file of one.
MOST_SIDE, MOST_TEXT = 1001, 1 << 24


class Filter:
    """A kernel and how it is applied; `file` filters one."""

    def __init__(
        self,
        kernel: str,
        sigma: float | None,
        size: Any,
        mode: str,
        cval: float,
        stride: Any,
        grey: bool,
        values: str,
    ) -> None:
        self.operator = kernel if kernel in EDGES else None
        self.kernel = getattr(filters, kernel)() if self.operator else made(kernel, sigma, size)
        if self.operator and (sigma is not None or size is not None):
            raise click.UsageError(f"{kernel} has neither a sigma nor a size")
        self.border: dict[str, Any] = {"mode": mode, "cval": cval}
        self.stride, self.grey = stride, grey
        total = float(self.kernel.sum())
        self.signed = not self.operator and bool((self.kernel < 0).any())
        flat = abs(total) <= 1e-9 * float(np.abs(self.kernel).sum())
        self.values = ("stretch" if flat else "clip") if values == "auto" else values

    def file(self, source: Path, target: Path) -> str:
        """Filter one file into another; what the result is, in words."""
        image = pixels(source, self.grey)
        exact = target.suffix.lower() == ".npy"
        results = self.of(image if exact else image.astype(np.float32 if image.dtype == np.uint8 else np.float64))
        if exact:
            write(target, results)
            return f"{results.dtype} {results.shape}, from {results.min():g} to {results.max():g}"
        deep = image.dtype == np.uint16
        write(target, self.as_pixels(results, np.dtype(np.uint16 if deep else np.uint8)))
        return f"{results.shape[0]} × {results.shape[1]} pixels, {'grey' if results.ndim == 2 else 'colour'}"

    def of(self, image: Array) -> Array:
        """The results, channel by channel: a large photograph then takes a third of the memory."""
        if not image.size:
            raise InputError(f"the image has no pixels: {image.shape}")
        if image.ndim == 2:
            return self.plane(image)
        return np.stack([self.plane(image[..., c]) for c in range(image.shape[2])], axis=2)

    def plane(self, image: Array) -> Array:
        if self.operator is None:
            return filters.apply(image, self.kernel, stride=self.stride, **self.border)
        strength = filters.gradient_magnitude(image, self.operator, **self.border)
        rows, columns = per_axis("filter", "stride", self.stride, 2, 1)
        return strength[::rows, ::columns]

    def as_pixels(self, results: Array, dtype: np.dtype) -> Array:
        """Numbers as 0..255, or 0..65535."""
        white = float(np.iinfo(dtype).max)
        if results.dtype.kind not in "f":
            results = results.astype(np.float64)
        if results.ndim == 3 and results.shape[2] != 3:
            raise InputError(f"a picture has 1 or 3 channels, and this array {results.shape[2]}; write an .npy")
        if not np.isfinite(results).all():
            raise InputError("there are results that are not finite; write an .npy")
        if self.values == "stretch":
            top = float(np.percentile(np.abs(results), 99.5)) or float(np.abs(results).max()) or 1.0
            results = results * (white / top / (2 if self.signed else 1)) + (white / 2 if self.signed else 0)
        elif self.values == "abs":
            results = np.abs(results)
        return np.clip(np.rint(results), 0, white).astype(dtype)


def made(kernel: str, sigma: float | None, size: Any) -> Array:
    """The kernel that was asked for by name, by file or by its numbers."""
    bells = {"gaussian": 1.0, "blur": 2.0}
    if sigma is not None and kernel not in bells:
        raise click.UsageError(f"--sigma is for gaussian and blur, not for {kernel}")
    if size is not None and kernel not in (*bells, "box"):
        raise click.UsageError(f"--size is for box, gaussian and blur, not for {kernel}")
    if kernel in bells:
        found = filters.gaussian(sigma or bells[kernel], size=size)
    elif kernel == "box":
        found = filters.box(3 if size is None else size)
    elif kernel.rpartition("-")[0] in EDGES and kernel[-1] in "xy":
        found = getattr(filters, kernel[:-2])(kernel[-1])
    elif kernel in NAMES:
        found = filters.kernels[kernel]()
    elif Path(kernel).exists():
        found = from_file(Path(kernel))
    elif any(c.isdigit() for c in kernel) and not Path(kernel).suffix.strip(".0123456789"):
        found = from_text(kernel, "--kernel")
    else:
        near = get_close_matches(kernel, NAMES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"the names are {', '.join(NAMES)}"
        raise click.UsageError(f"--kernel {kernel!r} is no name, no file and no numbers; {hint}")
    if found.ndim != 2 or not found.size or max(found.shape) > MOST_SIDE:
        raise InputError(f"a kernel has shape (h, w), each from 1 to {MOST_SIDE}; this one has {found.shape}")
    if found.dtype.kind not in "iuf" or not np.isfinite(found).all():
        raise InputError("a kernel is made of finite real numbers")
    return found


def from_file(path: Path) -> Array:
    """The kernel in an .npy, or in a text file with a row per line."""
    if path.suffix.lower() == ".npy":
        return np.asarray(stored(path))
    if not path.is_file() or path.stat().st_size > MOST_TEXT:
        raise InputError(f"{path} is no kernel: not a regular file, or over {MOST_TEXT} bytes")
    try:
        return from_text(path.read_text("utf-8").strip().replace("\n", ";"), str(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no kernel: neither .npy nor text") from error


def from_text(text: str, name: str) -> Array:
    """Rows with semicolons between them, numbers with commas or spaces; integers stay integers, 1/9 is a fraction."""
    rows = [row.replace(",", " ").split() for row in text.strip(" ;").split(";")]
    if len({len(row) for row in rows}) != 1:
        raise InputError(
            f"{name}: the rows have {', '.join(str(len(row)) for row in rows[:8])} numbers, expected as many each"
        )
    try:
        exact = [[Fraction(number) for number in row] for row in rows]
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f'{name}: numbers are written as in "0,-1,0; -1,5,-1; 0,-1,0" or 1/9: {error}') from error
    whole = all(number.denominator == 1 and abs(number) < 2**31 for row in exact for number in row)
    return np.array([[int(n) if whole else float(n) for n in row] for row in exact])


def targets(images: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Which image goes to which file of a folder."""
    found: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for image in images:
        target = folder / f"{image.stem}.png"
        if image in found:
            continue
        if target in taken:
            raise InputError(f"{taken[target]} and {image} would both become {target}; rename one")
        found[image], taken[target] = target, image
    return found


def reason(source: Path, error: Exception) -> str:
    """Why one of several images was not filtered."""
    text = error.format_message() if isinstance(error, click.ClickException) else described(error)
    return text if str(source) in text else f"{source}: {text}"
