"""The interop matrix: each test is a cell, shown for every implementation and, where it matters, for either dialler.

`python -m tests.interop.run` (`make interop`) runs them all and writes the table of docs/interop.md. An ordinary run of
pytest takes only the cells that are `quick`, against the implementations of `build.CORE`.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.interop.build import CORE, NAMES

_WANTED = os.environ.get("INTEROP", "")
ALL = bool(_WANTED)
"""Every cell, not only the quick ones: INTEROP=all, as `make interop` has it, or INTEROP=go,js for some of them."""
LANGUAGES = (NAMES if _WANTED == "all" else tuple(_WANTED.split(","))) if ALL else CORE
RESULTS = Path(os.environ["INTEROP_RESULTS"]) if "INTEROP_RESULTS" in os.environ else None
"""Where outcomes are written, one JSON line a test."""

NETWORK = "interop"
SPOKEN = {"go": "/meshsub/1.3.0", "js": "/meshsub/1.2.0", "py": "/meshsub/1.3.0", "rust": "/meshsub/1.3.0"}
"""The newest version of gossipsub that an implementation and the sidecar both know."""
DIALLERS = {True: "we dial", False: "they dial"}
OPENERS = {True: "we open", False: "they open"}

Test = TypeVar("Test", bound=Callable[..., Any])


class NotOffered(Exception):
    """The implementation lacks what the cell is about; the text says what and where."""


def cell(
    group: str, shown: str, *, quick: bool = False, both_dial: bool = False, both_open: bool = False, each: bool = True
) -> Callable[[Test], Test]:
    """Make a test a cell of the matrix.

    Args:
        group: the row's group, one of `run.GROUPS`.
        shown: what the cell shows, in a few words: the row's text. Tests with the same words share a row.
        quick: it belongs to the suite, for the implementations of `build.CORE`.
        both_dial: run it with us as dialler and as listener: the test takes `we_dial`.
        both_open: run it with streams that we open and that they open: the test takes `we_open`.
        each: run it for every implementation: the test takes `language`. Else it needs all of them at once.

    A test that meets `Unsupported` or raises `NotOffered` is a cell with a stated reason.
    """

    def decorate(test: Test) -> Test:
        marked: Any = pytest.mark.interop(pytest.mark.cell(group, shown, quick)(test))
        if both_dial:
            marked = pytest.mark.parametrize("we_dial", [True, False], ids=["we-dial", "they-dial"])(marked)
        if both_open:
            marked = pytest.mark.parametrize("we_open", [True, False], ids=["we-open", "they-open"])(marked)
        if each:
            marked = pytest.mark.parametrize("language", LANGUAGES)(marked)
        return marked  # type: ignore[no-any-return]

    return decorate
