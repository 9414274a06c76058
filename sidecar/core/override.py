"""The mark of a method that its base class or protocol describes; `typing` has it from Python 3.12 on.

Written here, since `typing_extensions` takes longer to import than most commands take in all.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from typing_extensions import override
else:
    _Method = TypeVar("_Method", bound=Callable)

    def override(method: _Method) -> _Method:
        """Say that a method overrides one that says what it does; mypy checks that there is one."""
        return method


__all__ = ["override"]
