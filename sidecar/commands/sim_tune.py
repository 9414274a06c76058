"""`sidecar sim tune`: the cheapest parameters of gossip that keep limits in a scenario."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError
from ..simulate.memory import needed_memory
from ..simulate.reading import load_scenario
from ..simulate.scenario import Scenario
from ..simulate.sweep import Combination, Settings
from ..simulate.tune import CHECKED, SPACE, Limits, ParameterSearch, configured_keys, tune_records, tune_told
from .common.exit_codes import FAILED, INTERRUPTED
from .common.said import clean, failed, note
from .sim_runs import Job, RunCounter, Runs
from .sim_sweep import of_jobs

TUNE = "tune.jsonl"


@dataclasses.dataclass
class _Player:
    """Plays combinations, each into a folder of its own."""

    file: Path
    folder: Path
    runs: Runs
    progress: RunCounter
    count: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)

    def play(self, batch: Sequence[Settings], seeds: range) -> list[Combination]:
        """What came of those that were played to their end, with at least one seed."""
        jobs: dict[int, list[Job]] = {}
        batch = [settings for settings in batch if self._possible(settings)]
        for settings in batch:
            self.count += 1
            jobs[self.count] = [
                Job(self.file, seed, self.folder / f"{self.count:03}" / str(seed), settings) for seed in seeds
            ]
        self.failures += self.runs.play([job for some in jobs.values() for job in some], self.progress.one)
        found = [of_jobs(number, settings, jobs[number]) for number, settings in zip(jobs, batch, strict=True)]
        return [each for each in found if each.seeds]

    def search(self, search: ParameterSearch, batches: Iterator[list[Settings]], seed: int) -> None:
        """Play what a search asks for, with one seed."""
        for batch in batches:
            for found in self.play(batch, range(seed, seed + 1)):
                search.searched(found)
            if self.ended:
                return

    @property
    def ended(self) -> bool:
        """Whether it makes no sense to go on."""
        return self.runs.interrupted or bool(self.failures)

    def _possible(self, settings: Settings) -> bool:
        """Whether it goes with what the scenario has; if not, there is nothing to be tried."""
        try:
            load_scenario(self.file, settings)
        except ConfigError:
            return False
        return True


def tune(
    file: Path, limits: Limits, seed: int | None, seeds: int, out: Path | None, *, quiet: bool, as_json: bool
) -> int:
    """Search, and tell what was found; returns the exit code. Raises ConfigError, OSError."""
    plain = load_scenario(file)
    if not plain.publications:
        raise ConfigError(f"{file}: nothing is published, so there are no delays to be tuned")
    base = _configuration(plain)
    first = plain.seed if seed is None else seed
    folder = out or Path("sim") / f"{plain.name}-tune"
    folder.mkdir(parents=True, exist_ok=True)
    search = ParameterSearch(limits, {key: base[key] for key in SPACE})
    most = search.most + CHECKED * seeds
    progress = RunCounter(most, lambda text: None if quiet else note(text), at_most=True)
    player = _Player(file, folder, Runs(needed_memory(plain)), progress)
    player.search(search, search.batches(), first)
    while not player.ended and (settings := search.candidate()) is not None:
        played = player.play([settings], range(first, first + seeds))
        if player.ended or not played:
            break
        search.checked(played[0])
        if search.flattered:
            player.search(search, search.refined(), first)
    return _tell(file, plain, search, player, as_json=as_json)


def _tell(file: Path, plain: Scenario, search: ParameterSearch, player: _Player, *, as_json: bool) -> int:
    tuned = search.result()
    found = tuned.best or tuned.nearest
    config = _configuration(load_scenario(file, found.settings)) if found else {}
    records = list(tune_records(plain.name, search.limits, search, config))
    (player.folder / TUNE).write_text("".join(json.dumps(record) + "\n" for record in records))
    if as_json:
        print(json.dumps({"folder": str(player.folder), "records": records}))
    else:
        for line in tune_told(plain.name, search.limits, search, config):
            print(clean(line))
        print()
        print(clean(f"all of it is in {player.folder} ({TUNE}, and a folder for each combination)"))
    if player.runs.interrupted:
        return failed(INTERRUPTED, "broken off; this is what was found until then")
    if player.failures:
        return failed(FAILED, player.failures[0])
    return 0 if tuned.best else failed(FAILED, "none of the combinations that were tried keeps all limits")


def _configuration(scenario: Scenario) -> dict[str, Any]:
    """What the first honest kind of nodes has."""
    kind = next((kind for kind in scenario.kinds if kind.hostility is None), None)
    if kind is None:
        raise ConfigError(f"{scenario.name}: all nodes are hostile, so there is nothing to be tuned")
    return configured_keys(kind.config.gossip)
