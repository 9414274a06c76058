"""Named tuples and data classes are those of the standard library in all that can be seen of them."""

import copy
import dataclasses
import pickle
import typing
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from typing import Any

import pytest

from sidecar.core import classes


class Named(classes.NamedTuple):
    """Ours."""

    number: int
    text: str = "x"

    @property
    def both(self) -> str:
        return f"{self.number}{self.text}"


class Theirs(typing.NamedTuple):
    """That of the standard library."""

    number: int
    text: str = "x"


class Empty(classes.NamedTuple):
    """Without fields."""


Item = typing.TypeVar("Item")


class Held(classes.NamedTuple, typing.Generic[Item]):
    """Of any kind."""

    item: Item


class Below(Named):
    """Another name for one."""

    __slots__ = ()


@classes.dataclass(frozen=True, slots=True)
class Frozen:
    number: int
    texts: list[str] = field(default_factory=list, compare=False)
    hidden: int = field(default=3, repr=False)
    counted: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("less than nothing")


@dataclass(frozen=True, slots=True)
class TheirFrozen:
    number: int
    texts: list[str] = field(default_factory=list, compare=False)
    hidden: int = field(default=3, repr=False)
    counted: int = field(default=0, init=False)


@classes.dataclass(slots=True)
class Open:
    number: int = 1


@classes.dataclass(slots=True)
class More(Open):
    text: str = ""


@classes.dataclass(frozen=True, slots=True)
class Nothing:
    pass


def test_named_tuples_hold_what_they_are_given() -> None:
    value = Named(1)
    assert value == (1, "x") == Named(number=1, text="x") == Theirs(1)
    assert (value.number, value.text, value.both) == (1, "x", "1x")
    assert value._replace(text="y") == (1, "y")
    assert value._asdict() == {"number": 1, "text": "x"}
    assert Named._make([2, "z"]) == (2, "z")
    assert repr(value) == "Named(number=1, text='x')"
    assert (Named._fields, Named._field_defaults) == (Theirs._fields, Theirs._field_defaults)
    assert hash(value) == hash((1, "x"))
    assert not hasattr(value, "__dict__")
    assert Empty() == ()
    assert Held[int](1).item == 1
    assert copy.copy(value) == pickle.loads(pickle.dumps(value)) == value
    assert type(Below(1)) is Below
    assert Below(1).both == "1x"
    match value:
        case Named(number, text):
            assert (number, text) == (1, "x")


@pytest.mark.parametrize("kind", [Named, Theirs])
def test_named_tuples_refuse_what_does_not_fit(kind: Any) -> None:
    for wrong in ((), (1, 2, 3)):
        with pytest.raises(TypeError):
            kind(*wrong)
    with pytest.raises(TypeError):
        kind(1, other=1)
    with pytest.raises(TypeError, match="Expected 2 arguments, got 1"):
        kind._make([1])
    with pytest.raises((TypeError, ValueError), match="unexpected field names"):
        kind(1)._replace(other=1)
    with pytest.raises(AttributeError):
        kind(1).number = 2


def test_a_default_in_front_of_a_field_without_one_is_refused() -> None:
    with pytest.raises(TypeError, match="without a default"):
        type(classes.NamedTuple.__mro_entries__(())[0])(  # type: ignore[attr-defined]
            "Wrong", (), {"__annotations__": {"first": int, "second": int}, "first": 1}
        )


def test_data_classes_are_made_shown_and_compared_alike() -> None:
    for kind in (Frozen, TheirFrozen):
        made: Any = kind
        value = made(1, hidden=4)
        assert repr(value) == f"{kind.__name__}(number=1, texts=[], counted=0)"
        assert value == made(1, ["not compared"], 4)
        assert value != made(2, hidden=4)
        assert value != (1, [], 4, 0)
        assert hash(value) == hash(made(1, hidden=4)) == hash((1, 4, 0))
        assert replace(value, number=2).number == 2
        assert dataclasses.asdict(value) == {"number": 1, "texts": [], "hidden": 4, "counted": 0}
        assert [one.name for one in fields(made)] == ["number", "texts", "hidden", "counted"]
        assert made(1).texts is not made(1).texts
        assert made.__match_args__ == ("number", "texts", "hidden")
        assert not hasattr(value, "__dict__")
        for wrong in ({}, {"number": 1, "other": 1}, {"number": 1, "counted": 1}):
            with pytest.raises(TypeError):
                made(**wrong)
        with pytest.raises(FrozenInstanceError, match="cannot assign to field 'number'"):
            value.number = 2
        with pytest.raises(FrozenInstanceError, match="cannot delete field 'number'"):
            del value.number
        assert copy.copy(value) == pickle.loads(pickle.dumps(value)) == value
    with pytest.raises(ValueError, match="less than nothing"):
        Frozen(-1)


def test_data_classes_that_can_be_changed() -> None:
    value = More(2, "x")
    value.number += 1
    assert value == More(3, "x")
    assert More() == More(1)
    assert Open(1) != More(1)
    assert repr(Open()) == "Open(number=1)"
    assert Nothing() == Nothing()
    with pytest.raises(TypeError, match="unhashable"):
        hash(value)
