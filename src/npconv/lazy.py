"""Modules that are loaded when one of their names is first used, so that an import costs what is used of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any


class Later:
    """Stands for a module until one of its names is used: `later = Later(".name", __package__)`."""

    def __init__(self, name: str, package: str | None) -> None:
        self._place = name, package
        self._module: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._module is None:  # asking for it again takes longer than a small call can afford
            self._module = import_module(*self._place)
        return getattr(self._module, name)


def loaded(package: str, homes: Mapping[str, tuple[str, ...]], name: str, modules: tuple[str, ...] = ()) -> Any:
    """What `name` means in a package whose modules have these names, or are `modules` to use by name; it is remembered.

    Raises
    ------
    AttributeError
        If no module has it.
    """
    if name in modules:
        return import_module(f".{name}", package)
    for module, names in homes.items():
        if name in names:
            value = getattr(import_module(f".{module}", package), name)
            setattr(sys.modules[package], name, value)
            return value
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
