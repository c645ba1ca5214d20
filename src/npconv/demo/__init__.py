"""The demo: a photograph, gradients, a training run and a race, as PNG files and one HTML report.

run(folder) -> Demo(report, pictures, chapters, seconds)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

try:
    import matplotlib
    import PIL  # noqa: F401 - pictures of one's own
    import skimage.data  # noqa: F401 - the faces, read in training.py
    import sklearn.datasets
except ImportError as error:
    _name = str(error.name).partition(".")[0]
    raise ImportError(f'npconv.demo needs {_name}: pip install "npconv[demo]"') from error

import numpy as np

from ..picture_files import deep, opened
from .checking import gradient_check
from .gradients import padded_gradient
from .kernels import channels, edges
from .layers import feature_maps
from .learning import learning, telling_faces
from .photograph import Photo, numbers_of, sharpening
from .pools import pooling
from .race import races
from .report import LOOK, Chapter, Folder, Picture, page

EPOCHS = {False: 12, True: 5}


@dataclass(frozen=True)
class Demo:
    """What was written, and what there was to see."""

    report: Path
    pictures: tuple[Path, ...]
    chapters: tuple[Chapter, ...]
    seconds: float


def steps(quick: bool = False) -> int:
    """How often `run` calls `step`."""
    return 10 + EPOCHS[quick]


def flower() -> Photo:
    """The photograph of a dahlia that scikit-learn brings."""
    return Photo(sklearn.datasets.load_sample_image("flower.jpg"), "scikit-learn's flower.jpg")


def photo_from(path: Path, longest: int = 640) -> Photo:
    """A photograph of one's own, made smaller where it is longer than `longest` pixels.

    Raises
    ------
    ValueError
        If the file is no PNG or JPEG, damaged or too large, or too small to look at.
    """
    picture = opened(path)
    if deep(picture):
        raise ValueError(f"demo: {path} has more than 8 bits a pixel; save it with 8")
    picture = picture.convert("RGB")
    picture.thumbnail((longest, longest))
    if min(picture.size) < 16:
        raise ValueError(f"demo: {path} is {picture.height} × {picture.width} pixels, needs at least 16 × 16")
    code = (
        "import numpy as np\nfrom PIL import Image\n"
        f'picture = Image.open({str(path)!r}).convert("RGB")\npicture.thumbnail(({longest}, {longest}))\n'
        "photo = np.asarray(picture)"
    )
    return Photo(np.asarray(picture), path.name, code)


def run(
    folder: str | Path,
    *,
    photo: Photo | None = None,
    quick: bool = False,
    step: Callable[[str], None] | None = None,
) -> Demo:
    """Make all pictures and the report.

    Parameters
    ----------
    folder : str or Path
        Where to write; made if it is not there. Files of the same names are replaced.
    photo : Photo, optional
        `flower()` by default.
    quick : bool
        A smaller photograph, fewer epochs and one race.
    step : callable, optional
        Called `steps(quick)` times, with what was done.

    Returns
    -------
    Demo
    """
    began = time.perf_counter()
    tell = step or (lambda words: None)
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    into = Folder(path, dpi=80 if quick else 120)
    shown = photo or flower()
    if quick:
        shown = shown.smaller()
    parts: list[tuple[str, Callable[[], Chapter]]] = [
        ("the photograph", lambda: numbers_of(shown, into)),
        ("sharpening", lambda: sharpening(shown, into)),
        ("edges", lambda: edges(shown, into)),
        ("channels", lambda: channels(shown, into)),
        ("pooling", lambda: pooling(shown, into)),
        ("feature maps", lambda: feature_maps(shown, into)),
        ("the padded gradient", lambda: padded_gradient(into)),
        ("gradient check", gradient_check),
        ("training", lambda: learning(into, EPOCHS[quick], tell)),
        ("faces", lambda: telling_faces(into)),
        ("the race", lambda: races(into, quick)),
    ]
    chapters = []
    with matplotlib.rc_context(LOOK):
        for name, make in parts:
            chapters.append(make())
            if name != "training":
                tell(name)
    seconds = time.perf_counter() - began
    lead = (
        "What a convolution does, shown on a photograph and worked out in numbers: forward, backward, and "
        f"in a network that learns. Computed on this computer in {seconds:.0f} seconds, with NumPy alone."
    )
    report = path / "report.html"
    report.write_text(page("npconv: convolution, seen and checked", lead, chapters), encoding="utf-8")
    pictures = tuple(b.path for c in chapters for b in c.blocks if isinstance(b, Picture))
    return Demo(report, pictures, tuple(chapters), seconds)


__all__ = ["Demo", "Photo", "flower", "photo_from", "run", "steps"]
