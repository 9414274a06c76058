"""The order of the suite: what waits for programs that are still being built comes last."""

from pathlib import Path

import pytest

_LATE = (
    "observe",
    "test_generated.py",
    "conformance",
    "packages",
    "clients/go",
    "clients/js",
    "interop",
)  # in this order


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of other languages go to the end, in the order in which `tests.prepare` makes what they need."""
    here = Path(__file__).parent

    def late(item: pytest.Item) -> int:
        place = item.path.relative_to(here).as_posix() if item.path.is_relative_to(here) else ""
        return next((number for number, start in enumerate(_LATE, start=1) if place.startswith(start)), 0)

    items.sort(key=late)
