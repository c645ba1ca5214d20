"""The explorer as one HTML file: script, style and data inside it, and a policy that lets nothing in or out."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from typing import Any

from . import bundle
from .problem import Problem
from .wire import problem_json

TITLE = "npconv explorer"
#: What a page shows around the explorer: nothing.
_STYLE = "body{margin:0}\n"
#: In JSON inside HTML; the parser of HTML looks for these, and JavaScript once ended lines at the last two.
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<div id="npconv-page"></div>
<noscript><p>This page computes convolutions as you look, and needs JavaScript for it. Nothing is sent anywhere.</p></noscript>
<script type="application/json" id="npconv-data">{data}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def html(
    problem: Problem | None = None,
    walk: Mapping[str, Any] | None = None,
    times: Mapping[str, float] | None = None,
    *,
    recorded: Mapping[str, str] | None = None,
    title: str = TITLE,
    host: str = "file",
    shown: Mapping[str, Any] | None = None,
) -> str:
    """The page, the same bytes for the same arguments.

    Parameters
    ----------
    problem : Problem, optional
        What is shown first; the page's own example by default.
    walk : mapping, optional
        A model, layer by layer, as `npconv.explorer.walk` makes it.
    times, recorded : mapping, optional
        Seconds by algorithm for this problem, and the machine and date of the measurement.
    title : str
        Of the page.
    host : {"file", "page"}
        A file talks to nobody; a page of the local server talks to that server.
    shown : mapping, optional
        Which view of it, and where in it, as the page itself says it.
    """
    data = {
        "problem": None if problem is None else problem_json(problem),
        "walk": walk,
        "times": dict(times or {}),
        "recorded": dict(recorded or {}),
        "host": host,
        "shown": None if shown is None else dict(shown),
    }
    return _PAGE.format(
        policy=escape(policy(host)),
        title=escape(printable(title)),
        style=_style(),
        data=in_html(data),
        script=_script(),
    )


def policy(host: str = "file") -> str:
    """The Content-Security-Policy: this script, this style, pictures made by the page, and no connection but home."""
    sources = {
        "default-src": "'none'",
        "script-src": _hash(_script()),
        "style-src": _hash(_style()),
        "img-src": "data: blob:",
        "connect-src": "'self'" if host == "page" else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
    }
    return "; ".join(f"{name} {source}" for name, source in sources.items())


def in_html(value: Any) -> str:
    """JSON that is safe inside a script element.

    Examples
    --------
    >>> from npconv.explorer.page import in_html
    >>> in_html({"name": "</script>"})
    '{"name":"\\\\u003c/script\\\\u003e"}'
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)


def printable(text: str, longest: int = 200) -> str:
    """A name as a page, a title or a terminal may show it: one line, no control or direction characters.

    Examples
    --------
    >>> from npconv.explorer.page import printable
    >>> printable("layer\\x1b[31m\\u202e.1")
    'layer?[31m?.1'
    """
    kept = "".join(c if c.isprintable() else "?" for c in text[: longest + 1])
    return kept if len(kept) <= longest else kept[: longest - 3] + "..."


def _style() -> str:
    return "\n" + bundle.style() + _STYLE


def _script() -> str:
    return "\n" + bundle.script()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
