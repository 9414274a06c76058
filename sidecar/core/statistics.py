"""What the parts count: one class a part, whose fields are read by name, and one way to lay them flat for the API."""

from collections.abc import Mapping
from dataclasses import fields
from typing import ClassVar

from .classes import dataclass


@dataclass(slots=True)
class Statistics:
    """Counters since the start and sizes as they are; the base of a part's dataclass.

    A field is a number, the numbers of a kind by name, or the statistics of a part within.
    """

    prefix: ClassVar[str] = ""
    """What the names of its numbers begin with, laid flat."""

    def flat(self) -> dict[str, int | float]:
        """Every number by its public name: `prefix` and the field; of several of a kind, with the kind behind it."""
        flat: dict[str, int | float] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Statistics):
                flat |= value.flat()
            elif isinstance(value, Mapping):
                name = self.prefix + field.metadata.get("each", field.name)
                flat |= {f"{name}_{kind}": count for kind, count in value.items()}
            else:
                flat[self.prefix + field.name] = value
        return flat
