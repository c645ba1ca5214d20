"""The command `npconv`: pictures, models, algorithms side by side, and the care of compiled kernels."""

from __future__ import annotations

import sys
from typing import Any

#: The entry point.
main: Any

try:
    import click  # noqa: F401
except ImportError as missing:
    _MESSAGE = f'npconv: the command needs {missing.name}: pip install "npconv[demo]"'

    def _refuse() -> None:
        """Say what to install."""
        sys.exit(_MESSAGE)

    main = _refuse

else:
    from .commands import npconv

    main = npconv
