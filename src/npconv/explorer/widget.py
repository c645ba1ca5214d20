"""The explorer in a notebook, through anywidget: the same module and style as in the page, answered by this process."""

from __future__ import annotations

from functools import cache
from typing import Any

from . import bundle, timing
from .wire import problem_json


def widget(explorer: Any) -> Any:
    """A widget that shows `explorer`.

    Raises
    ------
    ImportError
        Without anywidget.
    """
    return _kind()(explorer)


@cache
def _kind() -> type:
    """The class, made when it is first used: its base is anywidget's."""
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise ImportError(
            'the explorer shows itself in notebooks by anywidget: pip install "npconv[widget]"'
        ) from error

    class ExplorerWidget(anywidget.AnyWidget):
        """`npconv.explore` in a notebook."""

        _esm = bundle.module()
        _css = bundle.style()
        problem = traitlets.Dict(allow_none=True).tag(sync=True)
        walk = traitlets.Dict(allow_none=True).tag(sync=True)
        times = traitlets.Dict().tag(sync=True)
        recorded = traitlets.Dict().tag(sync=True)
        host = traitlets.Unicode("widget").tag(sync=True)

        def __init__(self, explorer: Any) -> None:
            problem, walk = explorer.problem, explorer.walk
            super().__init__(
                problem=None if problem is None else problem_json(problem),
                walk=None if walk is None else walk.json(live=True),
                recorded=timing.recorded(),
            )
            self._explorer = explorer
            self.on_msg(self._asked)

        def _asked(self, _: Any, question: Any, buffers: Any) -> None:
            """Answer a question of the page."""
            if not isinstance(question, dict):
                return
            kind = question.get("type")
            try:
                answer = self._explorer.answer(question)
            except (ValueError, TypeError, MemoryError) as error:
                answer = {"error": str(error)[:1000] or "too much memory"}
            self.send({**answer, "type": "times" if kind == "time" else kind, "id": question.get("id")})

    return ExplorerWidget
