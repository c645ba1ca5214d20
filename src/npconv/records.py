"""`dataclass(frozen=True)` as in the standard library, but quick to define.

The standard library writes six methods of each class as text and compiles them, which took half of the time of
`import npconv`. Here that is done to `__init__` alone; the other methods look at the names of the fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen: bool, eq: bool = True) -> Callable[[type], type]:
        """A decorator for classes of immutable fields, equal (unless `eq` is False) if all of their fields are."""
        if not frozen:
            raise ValueError("a record is frozen: use dataclasses.dataclass")

        def define(cls: type) -> type:
            cls = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
            fields = dataclasses.fields(cls)
            cls.__init__ = _init(fields)
            cls.__repr__, cls.__setattr__, cls.__delattr__ = _repr, _refuse, _refuse
            if eq:
                cls.__eq__, hashed = _comparisons([field.name for field in fields])
                if "__hash__" not in cls.__dict__:
                    cls.__hash__ = hashed
            return cls

        return define


def _init(fields: tuple[dataclasses.Field, ...]) -> Callable[..., None]:
    """The only method whose text depends on the fields, because its arguments have names."""
    names = [field.name for field in fields]
    known: dict[str, Any] = {f"_{f.name}": f.default for f in fields if f.default is not dataclasses.MISSING}
    arguments = ", ".join(f"{name}=_{name}" if f"_{name}" in known else name for name in names)
    lines = (f"    _set(self, {name!r}, {name})\n" for name in names)
    exec(f"def __init__(self, {arguments}):\n{''.join(lines)}", known := {"_set": object.__setattr__, **known})
    made: Callable[..., None] = known["__init__"]
    made.__annotations__ = {field.name: field.type for field in fields} | {"return": None}
    return made


def _comparisons(names: list[str]) -> tuple[Callable[[Any, object], bool], Callable[[Any], int]]:
    """`__eq__` and `__hash__`."""
    # of one name, attrgetter gives no tuple
    values: Callable[[Any], Any] = attrgetter(*names) if names else lambda self: ()

    def equal(self: Any, other: object) -> bool:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: Any) -> int:
        return hash(values(self))

    return equal, hashed


def _repr(self: Any) -> str:
    fields = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self))
    return f"{type(self).__qualname__}({fields})"


def _refuse(self: Any, name: str, *value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot change the field {name!r} of a {type(self).__name__}")
