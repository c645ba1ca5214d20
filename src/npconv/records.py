"""`dataclass(frozen=True)` and `replace` as in the standard library, but quick to define.

The standard library writes six methods of each class as text and compiles them, which took half of the time of a first
call. Here a text is compiled once for all classes of as many fields, and for `__init__` alone; the other methods look at
the names of the fields. What the standard library wants to know of a dataclass it learns when it asks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from inspect import get_annotations
from operator import attrgetter
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import replace as replace
else:

    def dataclass(*, frozen: bool, eq: bool = True) -> Callable[[type], type]:
        """A decorator for classes of immutable fields, equal (unless `eq` is False) if all of their fields are.

        What is annotated is a field, and what it is set to its default.
        """
        if not frozen:
            raise ValueError("a record is frozen: use dataclasses.dataclass")

        def define(cls: type) -> type:
            inherited = cls.__init__.__annotations__ if hasattr(cls, "__match_args__") else {}
            types = inherited | get_annotations(cls) | {"return": None}
            cls.__match_args__ = names = tuple(name for name in types if name != "return")
            cls.__init__ = _init(cls, names)
            cls.__init__.__annotations__ = types
            cls.__repr__, cls.__setattr__, cls.__delattr__ = _repr, _refuse, _refuse
            cls.__dataclass_fields__, cls.__replace__ = _Fields(), replace
            if eq:
                cls.__eq__, hashed = _comparisons(names)
                if "__hash__" not in cls.__dict__:
                    cls.__hash__ = hashed
            return cls

        return define

    def replace(self: Any, /, **changes: Any) -> Any:
        """The same record with other values of some fields."""
        return type(self)(**{name: getattr(self, name) for name in self.__match_args__} | changes)


@cache
def _method(names: tuple[str, ...]) -> FunctionType:
    """An `__init__` of fields with these names."""
    given = ", ".join(f"{name}={name}" for name in names)
    made: dict[str, FunctionType] = {}
    exec(f"def __init__(self{''.join(f', {name}' for name in names)}): self.__dict__.update({given})", made)
    return made["__init__"]


def _init(cls: type, names: tuple[str, ...]) -> FunctionType:
    """That of as many fields, with these names: of its variables, and of what it passes on, which CPython has as a constant."""
    others = tuple(f"f{i}" for i in range(len(names)))
    pattern = _method(others)
    constants = tuple(names if each == others else each for each in pattern.__code__.co_consts)
    if names in constants or not names:
        code = pattern.__code__.replace(co_varnames=("self", *names), co_consts=constants)
    else:  # another Python
        code = _method(names).__code__
    first = next((i for i, name in enumerate(names) if hasattr(cls, name)), len(names))
    defaults = tuple(getattr(cls, name) for name in names[first:])
    return FunctionType(code, pattern.__globals__, "__init__", defaults)


def _comparisons(names: tuple[str, ...]) -> tuple[Callable[[Any, object], bool], Callable[[Any], int]]:
    """`__eq__` and `__hash__`."""
    # of one name, attrgetter gives no tuple
    values: Callable[[Any], Any] = attrgetter(*names) if names else lambda self: ()

    def equal(self: Any, other: object) -> bool:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: Any) -> int:
        return hash(values(self))

    return equal, hashed


def _repr(self: Any) -> str:
    fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
    return f"{type(self).__qualname__}({fields})"


def _refuse(self: Any, name: str, *value: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot change the field {name!r} of a {type(self).__name__}")


class _Fields:
    """The attribute by which the standard library knows a dataclass: `dataclasses.fields`, `asdict` ... work."""

    def __get__(self, record: object, cls: Any) -> dict[str, Any]:
        import dataclasses

        types = cls.__init__.__annotations__
        twin: Any = dataclasses.make_dataclass(
            cls.__name__,
            [
                (name, types[name], dataclasses.field(default=getattr(cls, name, dataclasses.MISSING)))
                for name in cls.__match_args__
            ],
        )
        found: dict[str, Any] = twin.__dataclass_fields__
        cls.__dataclass_fields__ = found
        return found
