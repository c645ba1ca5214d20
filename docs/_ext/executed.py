"""Pictures, explorers and recorded times, made by a page's own code while the pages are built.

    ```{picture} What is to be seen
    :alt: For those who cannot see it
    plots.numbers(x)
    ```

    ```{explorer} Title of the frame
    :view: backward w
    :gradient: g
    npconv.explore(x, w)
    ```

    ```{recorded} Forward, threads: 2
    :columns: layer, npconv, torch, ratio
    3x3 64@56
    ```

An explorer opens in the view that is named, with the array of that name as the gradient of one channel of output.
The examples above a block have run, and it sees their names. A picture is pyplot's current figure, or the
`plots.Animation` that the last line gives; an explorer is an object whose `.html()` is a whole page; recorded are
rows of docs/benchmarks.md. Whatever fails is a Sphinx warning, so that `sphinx-build -W` fails.
"""

from __future__ import annotations

import base64
import html
import json
import traceback
from pathlib import Path
from typing import Any

from docutils import nodes
from pages import Page, table
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LOG = logging.getLogger(__name__)
STYLE = {"backend": "agg", "font.size": 11, "axes.titlesize": "medium", "figure.dpi": 100, "savefig.facecolor": "white"}
FOLDER = "_made"
DPI = 90
LARGEST = 1_000_000


class Made(SphinxDirective):
    """A block whose code is run, and folded away beneath what it made."""

    has_content = True
    required_arguments = 1
    final_argument_whitespace = True
    what = ""

    def run(self) -> list[nodes.Node]:
        from matplotlib import pyplot

        source = Path(self.env.doc2path(self.env.docname))
        page, number = self.env.temp_data.get("executed") or (Page(source.read_text("utf-8"), str(source)), 0)
        self.env.temp_data["executed"], self.page = (page, number + 1), page
        for failure in page.run_until(self.lineno):
            LOG.warning("an example failed:\n%s", failure, location=self.get_location())
        folder = Path(self.env.app.outdir) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.env.docname.replace('/', '-')}-{number + 1}"
        code = "\n".join(self.content)
        try:
            with pyplot.rc_context(STYLE):
                shown = self.made(page.evaluate(code, self.content_offset), path)
        except Exception:
            LOG.warning("%s: %s", self.what, traceback.format_exc(), location=self.get_location())
            return []
        finally:
            pyplot.close("all")
        fold = f'<details class="made"><summary>The lines that make this {self.what}</summary>'
        return [
            nodes.raw("", shown, format="html"),
            nodes.raw("", fold, format="html"),
            nodes.literal_block(code, code, language="python"),
            nodes.raw("", "</details>", format="html"),
        ]

    def made(self, value: Any, path: Path) -> str:
        """Write the files; the HTML that shows them."""
        raise NotImplementedError

    def address(self, path: Path) -> str:
        return "../" * self.env.docname.count("/") + f"{FOLDER}/{path.name}"


class Picture(Made):
    what = "picture"
    option_spec = {"alt": str}  # noqa: RUF012

    def made(self, value: Any, path: Path) -> str:
        from matplotlib import pyplot

        from npconv import plots

        alt, caption = html.escape(self.options["alt"]), html.escape(self.arguments[0])
        if isinstance(value, plots.Animation):
            shown = self.moving(value, path, alt)
        else:
            figure, file = pyplot.gcf(), path.with_suffix(".webp")
            if not figure.axes:
                raise ValueError("the lines drew nothing into pyplot's figure")
            figure.savefig(file, dpi=2 * DPI, bbox_inches="tight", pad_inches=0.08, pil_kwargs={"lossless": True})
            shown = self.image(file, alt, scale=2)
        return f'<figure class="made">{shown}<figcaption>{caption}</figcaption></figure>'

    def moving(self, animation: Any, path: Path, alt: str) -> str:
        """An animation that can be stopped, and that does not move for whoever asked the browser for less motion."""
        moves, still = path.with_suffix(".gif"), path.with_suffix(".png")
        animation.save(moves)
        animation.save(still, dpi=DPI)  # all steps on one page
        shown = self.image(moves, alt, "moves") + self.image(still, alt, "still")
        room = f'<div class="room" tabindex="0" role="group" aria-label="Animation">{shown}</div>'
        return room + '<label class="stop"><input type="checkbox"> all steps at once</label>'

    def image(self, file: Path, alt: str, kind: str = "once", scale: int = 1) -> str:
        from PIL import Image

        with Image.open(file) as opened:
            size = f'width="{opened.width // scale}" height="{opened.height // scale}"'
        return f'<img class="{kind}" src="{self.address(file)}" alt="{alt}" {size} loading="lazy">'


class Explorer(Made):
    what = "explorer"
    option_spec = {"height": int, "view": str, "gradient": str}  # noqa: RUF012

    def made(self, value: Any, path: Path) -> str:
        file, text = path.with_suffix(".html"), value.html()
        if len(text) > LARGEST:
            raise ValueError(f"the explorer's file has {len(text)} characters, more than {LARGEST}")
        file.write_text(text, encoding="utf-8")
        title, address = html.escape(self.arguments[0]), self.address(file)
        if "view" in self.options:
            given = self.options.get("gradient")
            address += link(value, self.options["view"], given and self.page.names[given])
        height = self.options.get("height", 860)
        return (
            f'<figure class="made explorer"><iframe src="{address}" title="{title}" loading="lazy" '
            f'style="height: min({height}px, 90vh)"></iframe>'
            f'<figcaption>{title}. <a href="{address}">Open it on a page of its own</a></figcaption></figure>'
        )


def link(explorer: Any, view: str, gradient: Any = None) -> str:
    """The hash of an address that opens the explorer's page in some view: `backward`, `backward w`, `algorithms` ..."""
    from npconv.explorer.wire import array_json, problem_json

    name, *target = view.split()
    content = {"problem": problem_json(explorer.problem), "view": name, "target": (*target, "x")[0], "step": 0}
    if gradient is not None:
        content["dy"] = array_json(gradient[None])
    return "#npconv=" + base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


class Recorded(SphinxDirective):
    """Rows of a table of docs/benchmarks.md, so that nobody copies numbers."""

    has_content = True
    required_arguments = 1
    final_argument_whitespace = True
    option_spec = {"columns": str}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        columns = [column.strip() for column in self.options["columns"].split(",")]
        rows = table(self.arguments[0], columns)
        self.env.note_dependency("benchmarks.md")
        lines = [columns, ["---"] * len(columns), *(rows[name] for name in self.content)]
        return self.parse_text_to_nodes("\n".join("| " + " | ".join(cells) + " |" for cells in lines))


def setup(app: Sphinx) -> dict[str, Any]:
    for name, directive in (("picture", Picture), ("explorer", Explorer), ("recorded", Recorded)):
        app.add_directive(name, directive)
    app.add_css_file("made.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
