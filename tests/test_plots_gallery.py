"""The gallery shows every plot, every picture in it is one that its lines write, and together they are small."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="plots need the extra `plot`")

from PIL import Image

from npconv import plots

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "gallery.md").read_text(encoding="utf-8")
SHOWN = dict(re.findall(r"!\[([^\]]+)\]\(gallery/([\w.-]+)\)", PAGE))
STORED = sorted(path.name for path in (DOCS / "gallery").iterdir())


def test_every_plot_is_in_the_gallery():
    drawing = [name for name in plots.__all__ if name.islower()]
    assert len(drawing) > 15
    assert [name for name in drawing if f"plots.{name}(" not in PAGE] == []


def test_every_stored_picture_is_shown_and_no_other():
    assert sorted(SHOWN.values()) == STORED
    assert len(SHOWN) == len(set(SHOWN.values()))  # and each has a description of its own


@pytest.mark.parametrize("name", STORED)
def test_a_picture_is_there_to_be_read(name):
    with Image.open(DOCS / "gallery" / name) as picture:
        assert 500 <= picture.width <= 1100
        assert picture.height <= 1200
        assert getattr(picture, "n_frames", 1) == 1 if name.endswith(".png") else picture.n_frames > 4
        assert np.asarray(picture.convert("L")).std() > 15


def test_the_gallery_is_small():
    assert sum((DOCS / "gallery" / name).stat().st_size for name in STORED) < 3e6


@pytest.mark.long
def test_the_script_writes_what_is_stored(tmp_path):
    """But for the race, twice the same bytes; and what is stored, as far as another version of Matplotlib lets it be."""
    pytest.importorskip("skimage", reason="the gallery's photographs come with the extra `demo`")
    write = runpy.run_path(str(DOCS / "gallery.py"))["write"]
    first, second = ({path.name: path.read_bytes() for path in write(tmp_path / name)} for name in "ab")
    assert sorted(first) == sorted(second) == STORED
    assert [name for name in first if first[name] != second[name] and name != "race.png"] == []
    for name in STORED:
        with Image.open(DOCS / "gallery" / name) as old, Image.open(tmp_path / "a" / name) as new:
            assert np.allclose(old.size, new.size, atol=8), name
