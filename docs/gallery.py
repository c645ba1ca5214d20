"""Write the pictures of docs/gallery.md: run its blocks in docs/gallery, then store each PNG with a palette.

python docs/gallery.py [FOLDER]
"""

import os
import re
import sys
from pathlib import Path

import matplotlib
from PIL import Image

PAGE = Path(__file__).with_suffix(".md")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


def write(folder: Path) -> list[Path]:
    """Run every block of the page in `folder`; the pictures that are there then."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("*.png"), *folder.glob("*.gif")]:
        old.unlink()
    here, names = Path.cwd(), {"__name__": "__main__"}
    os.chdir(folder)
    try:
        with matplotlib.rc_context({"savefig.dpi": 100, "svg.hashsalt": "npconv"}):
            for block in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
                exec(block, names)
    finally:
        os.chdir(here)
    for path in folder.glob("*.png"):
        Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)
    return sorted([*folder.glob("*.png"), *folder.glob("*.gif")])


if __name__ == "__main__":
    written = write(Path(sys.argv[1]) if sys.argv[1:] else PAGE.with_suffix(""))
    for path in written:
        print(f"{path.stat().st_size / 1e3:8.1f} kB  {path}")
    print(f"{sum(path.stat().st_size for path in written) / 1e3:8.1f} kB")
