"""What is explored, and the three places where it is shown: a file, a page of this machine, a notebook."""

from __future__ import annotations

import sys
import threading
import webbrowser
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from . import page, timing
from .problem import Problem, problem
from .walk import Walk
from .wire import ProblemError, read_problem


@dataclass(frozen=True)
class Explorer:
    """A problem or a model, ready to be looked at; `npconv.explore` makes it.

    In a notebook it shows itself, given anywidget (``pip install "npconv[widget]"``).

    Attributes
    ----------
    problem : Problem or None
        What is shown first; None is the page's own example, a small edge detector.
    walk : Walk or None
        A model, layer by layer.
    title : str
        Of the page.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> shown = npconv.explore(np.arange(49.0).reshape(7, 7), [[1, 0, -1]] * 3)
    >>> shown
    Explorer(conv of (1, 7, 7) with (1, 1, 3, 3) to (1, 5, 5): .save("page.html"), .serve())
    >>> shown.save("explorer.html").name
    'explorer.html'
    """

    problem: Problem | None = None
    walk: Walk | None = None
    title: str = page.TITLE

    @cached_property
    def _times(self) -> dict[str, float]:
        """Measured once, and then recorded."""
        return timing.times(_example() if self.problem is None else self.problem)

    def html(self, shown: dict[str, Any] | None = None) -> str:
        """The explorer as one HTML file, which needs no network, no server and no other file.

        Parameters
        ----------
        shown : dict, optional
            Where in it the page begins, as the page says it when it is saved.

        Returns
        -------
        str
            With the algorithms' times on this machine recorded in it; all else is the same on every call.
        """
        walk = None if self.walk is None else self.walk.json()
        return page.html(self.problem, walk, self._times, recorded=timing.recorded(), title=self.title, shown=shown)

    def save(self, path: Any) -> Path:
        """Write `html` to a file, and return its path.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        written = Path(path)
        written.write_text(self.html(), encoding="utf-8", newline="\n")
        return written

    def server(self, port: int = 0) -> Any:
        """A `LocalServer` of the page, not yet started; `url` is its address.

        Parameters
        ----------
        port : int
            0 for a free one.

        Raises
        ------
        OSError
            If the port is taken.
        """
        from .server import LocalServer

        walk = None if self.walk is None else self.walk.json(live=True)
        text = page.html(self.problem, walk, title=self.title, host="page")
        return LocalServer(text, page.policy("page"), self.answer, port)

    def serve(self, port: int = 0, *, open_browser: bool = True) -> None:
        """Show the explorer on a page of this machine until Ctrl-C; its address is written to stderr.

        Nobody else can open it: it listens on 127.0.0.1 alone, and its address has a random token.

        Parameters
        ----------
        port : int
            0 for a free one.
        open_browser : bool
            Whether to open the address in the browser.

        Raises
        ------
        OSError
            If the port is taken.
        """
        server = self.server(port)
        sys.stderr.write(f"{page.printable(self.title, 80)}: {server.url}\nCtrl-C ends it.\n")
        sys.stderr.flush()
        if open_browser:  # some browsers return only when they are closed
            threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        server.run()

    def widget(self) -> Any:
        """The explorer as a notebook widget.

        Raises
        ------
        ImportError
            Without anywidget, which ``pip install "npconv[widget]"`` installs.
        """
        from .widget import widget

        return widget(self)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        try:
            shown = self.widget()
        except ImportError as error:
            return {"text/plain": f"{self!r}\n{error}"}
        return shown._repr_mimebundle_(**options)

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """What the page asks: how long its problem takes here, one layer of the model, or itself as a file.

        Raises
        ------
        ProblemError
            If the question is none.
        """
        if question.get("type") == "time":
            return {"times": timing.times(read_problem(question.get("problem")))}
        if question.get("type") == "layer" and self.walk is not None:
            return self.walk.layer(question)
        if question.get("type") == "html":
            given, view = question.get("problem"), question.get("shown")
            now = self if given is None else replace(self, problem=read_problem(given))
            return {"html": now.html(view if isinstance(view, dict) else None)}
        raise ProblemError("the page asked for something that is not here")

    def __repr__(self) -> str:
        shown = "the page's example"
        if self.walk is not None:
            shown = f"{page.printable(self.walk.model, 60)}, {len(self.walk.layers)} layers"
        elif self.problem is not None:
            w = "" if self.problem.w is None else f" with {self.problem.w.shape}"
            shown = f"{self.problem.operator} of {self.problem.x.shape}{w} to {self.problem.y_shape}"
        return f'Explorer({shown}: .save("page.html"), .serve())'


def _example() -> Problem:
    """A problem of the sizes that the page begins with; how long it takes does not depend on the numbers."""
    import numpy as np

    return problem(np.ones((7, 7), np.float32), np.ones((3, 3), np.float32))
