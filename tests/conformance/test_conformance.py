"""Each scenario that is not heavy, with each client; all clients play it at the same time."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.missing import not_there

from .build import LANGUAGES, ToolMissing
from .run import Cast, casts, played_by_all
from .scenario import Scenario, load
from .stage import Stage

SCENARIOS = [scenario for scenario in load() if not scenario.heavy]
PLAYS = [
    pytest.param(scenario, cast, id=f"{'-'.join(cast)}-{scenario.name}")
    for scenario in SCENARIOS
    for cast in casts(scenario)
]


class Company:
    """One stage for all tests, on a loop of its own, and what has been played on it."""

    def __init__(self, folder: Path) -> None:
        self._runner = asyncio.Runner()
        self._stage = Stage(folder)
        self._missing: dict[str, str] = {}
        self._outcomes: dict[str, dict[Cast, str | None]] = {}
        for language in LANGUAGES:
            try:
                self._runner.run(self._stage.command(language))
            except ToolMissing as missing:
                self._missing[language] = str(missing)

    def outcome(self, scenario: Scenario, cast: Cast) -> str | None:
        for language in cast:
            if language in self._missing:
                not_there(self._missing[language])
        if scenario.name not in self._outcomes:
            there = tuple(language for language in LANGUAGES if language not in self._missing)
            self._outcomes[scenario.name] = self._runner.run(played_by_all(self._stage, scenario, there))
        return self._outcomes[scenario.name][cast]

    def close(self) -> None:
        self._runner.run(self._stage.__aexit__())
        self._runner.close()


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    company = Company(tmp_path_factory.mktemp("c"))
    yield company
    company.close()


@pytest.mark.parametrize(("scenario", "cast"), PLAYS)
def test_a_client_does_as_the_scenario_says(company: Company, scenario: Scenario, cast: Cast) -> None:
    failure = company.outcome(scenario, cast)
    if failure is not None:
        pytest.fail(failure, pytrace=False)
