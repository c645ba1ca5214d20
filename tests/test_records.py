"""Records behave like the frozen dataclasses of the standard library that they are typed as."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from functools import cached_property

import pytest

from npconv.records import dataclass

BODY = """
@dataclass(frozen=True)
class Point:
    '''A place.'''

    x: int
    y: tuple[int, ...] = (1, 2)

    @cached_property
    def far(self):
        return self.x + sum(self.y)

@dataclass(frozen=True)
class Named(Point):
    name: str = "a"

@dataclass(frozen=True)
class One:
    only: int

@dataclass(frozen=True, eq=False)
class Same:
    x: int

@dataclass(frozen=True)
class Hashed:
    x: int
    def __hash__(self):
        return 7
"""


def defined(decorator: object) -> dict[str, type]:
    names = {"dataclass": decorator, "cached_property": cached_property, "__name__": __name__}
    exec(BODY, names)
    return names


OURS, THEIRS = defined(dataclass), defined(dataclasses.dataclass)
globals().update({name: OURS[name] for name in ("Point", "Named", "One", "Same", "Hashed")})  # where pickle looks
ARGUMENTS = [
    ("Point", (1,), {}),
    ("Point", (1, (3,)), {}),
    ("Point", (), {"y": (4,), "x": 2}),
    ("Point", (1, (1, 2)), {}),
]
ARGUMENTS += [
    ("Named", (1,), {}),
    ("Named", (1, (3,), "b"), {}),
    ("One", (3,), {}),
    ("Same", (3,), {}),
    ("Hashed", (1,), {}),
]


def outcomes(classes: dict[str, type]) -> dict[str, object]:
    """All that can be seen of some instances."""
    made = [classes[name](*plain, **named) for name, plain, named in ARGUMENTS]
    return {
        "shown": [repr(each) for each in made],
        "equal": [[a == b for a in made] for b in made],
        "hashes": [[hash(a) == hash(b) for a in made] for b in made],
        "replaced": [repr(dataclasses.replace(each, x=9)) for each in made if hasattr(each, "x")],
        "cached": [each.far for each in made if hasattr(each, "far")],
        "fields": [[(f.name, f.type) for f in dataclasses.fields(each)] for each in made],
        "signatures": [str(inspect.signature(type(each))) for each in made],
        "copies": [copy.copy(each) == each for each in made],
    }


@pytest.mark.parametrize("what", outcomes(THEIRS))
def test_as_the_standard_library_has_it(what):
    assert outcomes(OURS)[what] == outcomes(THEIRS)[what]


@pytest.mark.parametrize("name", ["Point", "Named", "Same"])
def test_nothing_changes_and_nothing_is_forgotten(name):
    made = OURS[name](1)
    for change in (lambda: setattr(made, "x", 2), lambda: setattr(made, "other", 2), lambda: delattr(made, "x")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            change()
    assert made.x == 1
    with pytest.raises(TypeError):
        OURS[name]()
    with pytest.raises(TypeError):
        OURS[name](1, z=2)


def test_a_record_can_be_pickled():
    for name, plain, named in ARGUMENTS:
        made = OURS[name](*plain, **named)
        assert repr(pickle.loads(pickle.dumps(made))) == repr(made)


def test_a_record_is_frozen():
    with pytest.raises(ValueError, match="use dataclasses"):
        dataclass(frozen=False)
