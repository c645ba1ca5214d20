"""Sphinx: `sphinx-build -W -b html docs docs/_build`. Needs neither the network nor a GPU."""

import re
import sys
from pathlib import Path

import npconv

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "npconv"
author = "npconv developers"
copyright = f"2026, {author}"
release = version = npconv.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "executed"]
exclude_patterns = ["_build"]
default_role = "code"
smartquotes = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # numpydoc's Parameters section carries them
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_title = "npconv"
html_theme_options = {"show_prev_next": False, "navigation_with_keys": False}
html_show_sourcelink = False

# Code in backticks is matched first, and kept; then the star that begins a name, and every bar.
MARKUP = re.compile(r"(`+[^`]*`+)|(?<=[(, ])\*(?=\w)|\|")


def plain_docstrings(app, what, name, obj, options, lines):
    """Docstrings are written to be read in a terminal: show their equations and tables as they stand.

    Before the first numpydoc section, an indented paragraph is shown literally; everywhere, the star of a
    shape such as (N, C, *in) and the bars of |x| are no markup.
    """
    head = next((i for i, line in enumerate(lines) if re.fullmatch(r"-{3,}|={3,}", line)), len(lines))
    shown, inside = [], False
    for i, line in enumerate(lines):
        indented = line.startswith("    ")
        if i < head and indented and not inside and not (shown and shown[-1].strip()):
            shown += ["::", ""]
            inside = True
        elif line and not indented:
            inside = False
        literal = inside or line.lstrip().startswith((">>>", "..."))
        shown.append(line if literal else MARKUP.sub(lambda found: found[1] or "\\" + found[0], line))
    lines[:] = shown


def without_page_contents(app, pagename, templatename, context, doctree):
    """The tutorial's pictures and explorers need the room beside the text."""
    if pagename.startswith("tutorial/"):
        context["meta"] = (context.get("meta") or {}) | {"html_theme.sidebar_secondary.remove": "true"}


def setup(app):
    app.connect("html-page-context", without_page_contents)
    app.connect("autodoc-process-docstring", plain_docstrings, priority=400)  # numpydoc comes at 500
