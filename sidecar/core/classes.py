"""`NamedTuple` and `dataclass` as the standard library has them, made in a quarter of the time.

The standard library compiles every method of every such class as a text of its own. A sidecar that starts has some five
hundred of these classes, and that was a third of its start. Here methods are shared by all classes, and what takes the
fields as arguments, which has to be fast, is compiled when the first value of a class is made.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, fields
from importlib import import_module
from operator import itemgetter
from typing import TYPE_CHECKING, Any

__all__ = ["NamedTuple", "dataclass"]

# ---------------------------------------------------------------- named tuples

try:
    _tuplegetter: Any = import_module("_collections")._tuplegetter
except (ImportError, AttributeError):  # another interpreter than CPython

    def _tuplegetter(index: int, doc: str) -> Any:
        return property(itemgetter(index), doc=doc)


class _Named(tuple[Any, ...]):
    """What all named tuples have in common."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()
    _field_defaults: dict[str, Any] = {}  # noqa: RUF012  never changed

    def __new__(cls, /, *values: Any, **named: Any) -> Any:
        """The first value of a class, which has its own way of making them from then on."""
        owner: Any = next(base for base in cls.__mro__ if "_fields" in base.__dict__)
        names, known = ", ".join(owner._fields), owner._field_defaults
        made = eval(f"lambda _cls, {names}: _new(_cls, ({names}{',' if names else ''}))", {"_new": tuple.__new__})
        made.__defaults__ = tuple(known.values())
        made.__name__, made.__qualname__ = "__new__", f"{owner.__qualname__}.__new__"
        owner.__new__ = staticmethod(made)
        return owner.__new__(cls, *values, **named)

    @classmethod
    def _make(cls, values: Any) -> Any:
        made = tuple.__new__(cls, values)
        if len(made) != len(cls._fields):
            raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
        return made

    def _replace(self, /, **named: Any) -> Any:
        made = self._make(map(named.pop, self._fields, self))
        if named:
            raise ValueError(f"Got unexpected field names: {list(named)!r}")
        return made

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
        return f"{type(self).__name__}({shown})"

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)


class _NamedMeta(type):
    """Makes a named tuple of the body of a class."""

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> Any:
        names = tuple(body.get("__annotations__", ()))
        known = {field: body[field] for field in names if field in body}
        if tuple(known) != names[len(names) - len(known) :]:
            raise TypeError(f"{name}: a field without a default follows one that has one")
        for index, field in enumerate(names):
            body[field] = _tuplegetter(index, f"Alias for field number {index}")
        body |= {"__slots__": (), "_fields": names, "_field_defaults": known, "__match_args__": names}
        return type(name, tuple(_Named if base is _MARK else base for base in bases), body)


_MARK: Any = type.__new__(_NamedMeta, "NamedTuple", (), {})

# ---------------------------------------------------------------- data classes


def _owner(kind: type, name: str, method: Any) -> Any:
    """The class, of those that a kind is made of, that has still to get a method of its own."""
    return next(base for base in kind.__mro__ if base.__dict__.get(name) is method)


def _compared(owner: Any, of: str) -> str:
    return f"({''.join(f'{of}.{field.name},' for field in fields(owner) if field.compare)})"


def _init(self: Any, /, *values: Any, **named: Any) -> None:
    """The first value of a class, which has its own way of making them from then on."""
    owner = _owner(type(self), "__init__", _init)
    made = owner.__init__ = _compiled(owner)
    made(self, *values, **named)


def _compiled(owner: Any) -> Any:
    known: dict[str, Any] = {"_set": object.__setattr__, "_missing": MISSING}
    arguments, body = ["self"], []
    frozen = owner.__setattr__ is _refuse_set
    for field in fields(owner):
        name = field.name
        value = name
        if field.default_factory is not MISSING:
            known[f"_make_{name}"] = field.default_factory
            value = f"_make_{name}() if {name} is _missing else {name}" if field.init else f"_make_{name}()"
            known[f"_default_{name}"] = MISSING
        elif field.default is not MISSING:
            known[f"_default_{name}"] = field.default
            value = name if field.init else f"_default_{name}"
        if field.init:
            arguments.append(f"{name}=_default_{name}" if f"_default_{name}" in known else name)
        elif f"_default_{name}" not in known:
            continue
        body.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(owner, "__post_init__"):
        body.append("self.__post_init__()")
    text = f"def __init__({', '.join(arguments)}):\n " + "\n ".join(body or ["pass"])
    exec(text, known)
    made = known["__init__"]
    made.__qualname__ = f"{owner.__qualname__}.__init__"
    return made


def _equal(self: Any, other: Any) -> Any:
    owner = _owner(type(self), "__eq__", _equal)
    same = f"{_compared(owner, 'self')} == {_compared(owner, 'other')}"
    text = f"lambda self, other: {same} if other.__class__ is self.__class__ else NotImplemented"
    made = owner.__eq__ = eval(text)
    return made(self, other)


def _hash(self: Any) -> int:
    owner = _owner(type(self), "__hash__", _hash)
    made = owner.__hash__ = eval(f"lambda self: hash({_compared(owner, 'self')})")
    return int(made(self))


def _shown(self: Any) -> str:
    shown = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self) if field.repr)
    return f"{self.__class__.__qualname__}({shown})"


def _refuse_set(self: Any, name: str, value: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for field, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


_COMMON = {"__init__": _init, "__repr__": _shown, "__eq__": _equal}
_FROZEN = {
    "__hash__": _hash,
    "__setattr__": _refuse_set,
    "__delattr__": _refuse_delete,
    "__getstate__": _state,
    "__setstate__": _restore,
}


def _dataclass(*, frozen: bool = False, slots: bool = False) -> Callable[[type], Any]:
    """As the standard library's; no value of such a class has an attribute that is no field."""

    def made(described: type) -> Any:
        own = described.__dict__
        # Without methods it only gathers the fields. That a class is frozen is for `_refuse_set` then.
        kind: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots)(described)
        for name, method in (_COMMON | _FROZEN if frozen else _COMMON).items():
            if name not in own:
                setattr(kind, name, method)
        if not frozen and "__eq__" not in own and "__hash__" not in own:
            setattr(kind, "__hash__", None)  # noqa: B010  which type checkers want to be a function
        return kind

    return made


if TYPE_CHECKING:
    from dataclasses import dataclass
    from typing import NamedTuple
else:
    dataclass = _dataclass

    def NamedTuple() -> None:
        """The base of a named tuple; only classes may be made of it."""

    NamedTuple.__mro_entries__ = lambda bases: (_MARK,)
