"""Builds the peer programs that a test needs, picks the cells of this run, and writes down what became of them."""

import json
import os
from collections.abc import Generator
from typing import Any

import pytest

from tests.interop.build import CORE, ToolMissing, build
from tests.interop.cells import ALL, DIALLERS, LANGUAGES, OPENERS, RESULTS, NotOffered
from tests.interop.peer import Unsupported
from tests.missing import MUST, not_there


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without INTEROP only the quick cells are run; INTEROP_PART leaves those with one implementation, or with all."""
    part = os.environ.get("INTEROP_PART")
    if part is not None:
        slow = [item for item in items if ("language" in _parameters(item)) is not (part == "each")]
    elif ALL:
        return
    else:
        slow = [item for item in items if (mark := item.get_closest_marker("cell")) and not mark.args[2]]
    if slow:
        config.hook.pytest_deselected(items=slow)
        left_out = set(map(id, slow))
        items[:] = [item for item in items if id(item) not in left_out]


@pytest.fixture(scope="session")
def peer_programs(request: pytest.FixtureRequest) -> None:
    """The peer programs of `CORE` are built."""
    for name in CORE:
        _build(name, request.config)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Build what a cell needs; the cells with all implementations at once run only where all are wanted."""
    if item.get_closest_marker("cell") is not None:
        for name in _languages(item):
            _build(name, item.config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    try:
        return (yield)
    except (Unsupported, NotOffered) as reason:
        pytest.skip(f"not offered: {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    mark = item.get_closest_marker("cell")
    if RESULTS is not None and mark is not None and (report.when == "call" or not report.passed):
        parameters = _parameters(item)
        line = {
            "group": mark.args[0],
            "shown": mark.args[1],
            "languages": _languages(item),
            "role": DIALLERS.get(parameters.get("we_dial"), "") or OPENERS.get(parameters.get("we_open"), ""),
            "outcome": report.outcome,
            "reason": report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else "",
            "test": item.nodeid,
        }
        with RESULTS.open("a") as results:
            results.write(json.dumps(line) + "\n")
    return report


def _parameters(item: pytest.Item) -> dict[str, Any]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def _languages(item: pytest.Item) -> list[str]:
    parameters = _parameters(item)
    return [parameters["language"]] if "language" in parameters else list(LANGUAGES)


def _build(name: str, config: pytest.Config) -> None:
    """Without the language's tools the test is skipped; on a CI machine (CI=true) that is a failure."""
    capture = config.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with capture.global_and_fixture_disabled():  # a minute of silence would look like a hang
            print(f"\n{text}", flush=True)

    try:
        build(name, say)
    except ToolMissing as missing:
        not_there(missing, must=MUST or ALL)
