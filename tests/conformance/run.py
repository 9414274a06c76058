"""Plays every scenario with every client, prints the tables, and writes them into docs/conformance.md.

`python -m tests.conformance.run [--language NAME]... [TEXT]...`: with arguments only those languages, or those
scenarios whose name or group has one of the texts, and the document stays as it is.
"""

import argparse
import asyncio
import datetime
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from sidecar import __version__

from .build import LANGUAGES, ROOT, SHOWN, BuildFailed, ToolMissing
from .play import NotAsExpected, Play
from .scenario import Scenario, load
from .stage import Stage

DOCUMENT = ROOT / "docs" / "conformance.md"
BEGIN, END = "<!-- written by make conformance: begin -->", "<!-- written by make conformance: end -->"

Cast = tuple[str, ...]
Results = dict[tuple[str, Cast], str | None]
"""By scenario and cast: None where it went as it should, else what did not."""


def casts(scenario: Scenario, languages: tuple[str, ...] = LANGUAGES) -> list[Cast]:
    """The casts that a scenario is played with: each language, or each pair of them."""
    if scenario.pairs:
        return [(first, second) for first in languages for second in languages]
    return [(language,) for language in languages]


async def played(stage: Stage, scenario: Scenario, cast: Cast) -> str | None:
    """Play; what was not as it should be, if anything."""
    roles = zip(("first", "second") if scenario.pairs else ("client",), cast, strict=True)
    try:
        await Play(stage, scenario, dict(roles)).run()
    except NotAsExpected as failure:
        return str(failure)
    return None


async def played_by_all(stage: Stage, scenario: Scenario, languages: tuple[str, ...]) -> dict[Cast, str | None]:
    """One scenario with all its casts at the same time, or one after the other where it has to be alone."""
    wanted = casts(scenario, languages)
    if scenario.alone:
        return {cast: await played(stage, scenario, cast) for cast in wanted}
    outcomes = await asyncio.gather(*(played(stage, scenario, cast) for cast in wanted))
    return dict(zip(wanted, outcomes, strict=True))


# ------------------------------------------------------------ tables


def tables(scenarios: list[Scenario], results: Results, languages: tuple[str, ...]) -> str:
    """Scenario by language, then scenario by pair."""
    single = [scenario for scenario in scenarios if not scenario.pairs]
    paired = [scenario for scenario in scenarios if scenario.pairs]
    parts = []
    if single:
        heads = {(language,): SHOWN[language] for language in languages}
        parts.append(_table(single, results, heads))
    if paired:
        pairs = [(first, second) for first in languages for second in languages]
        heads = {pair: f"{SHOWN[pair[0]]} to {SHOWN[pair[1]]}" for pair in pairs}
        parts.append(_table(paired, results, heads))
    return "\n\n".join(parts)


def _table(scenarios: list[Scenario], results: Results, heads: Mapping[Cast, str]) -> str:
    lines = ["| group | scenario | " + " | ".join(heads.values()) + " |", "|---" * (2 + len(heads)) + "|"]
    last = ""
    for scenario in scenarios:
        cells = ["yes" if results[scenario.name, cast] is None else "**NO**" for cast in heads]
        group = scenario.group if scenario.group != last else ""
        last = scenario.group
        lines.append(f"| {group} | {scenario.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _write(text: str, scenarios: int, seconds: float) -> None:
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    head, rest = DOCUMENT.read_text().split(BEGIN)
    tail = rest.split(END)[1]
    line = f"sidecar {__version__}, {scenarios} scenarios in {seconds:.0f} s on {date}, by `make conformance`."
    DOCUMENT.write_text(f"{head}{BEGIN}\n{line}\n\n{text}\n{END}{tail}")


# ------------------------------------------------------------ the command


async def _play_all(scenarios: list[Scenario], languages: tuple[str, ...], *, logs: bool) -> Results:
    results: Results = {}
    with tempfile.TemporaryDirectory() as folder:
        async with Stage(Path(folder)) as stage:
            for language in languages:
                await stage.command(language)
            for scenario in scenarios:
                began = time.monotonic()
                outcomes = await played_by_all(stage, scenario, languages)
                seconds = time.monotonic() - began
                for cast, outcome in outcomes.items():
                    results[scenario.name, cast] = outcome
                    if outcome is not None:
                        shown = outcome if logs else outcome.splitlines()[0]
                        print(f"*** {scenario.name}, {' to '.join(cast)}: {shown}", flush=True)
                good = sum(outcome is None for outcome in outcomes.values())
                print(f"{good}/{len(outcomes)} {seconds:5.1f} s  {scenario.group}: {scenario.name}", flush=True)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description="Play the conformance scenarios.")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="only scenarios with this in their name or group")
    parser.add_argument("--language", action="append", choices=LANGUAGES, help="only this language; may be repeated")
    parser.add_argument("--logs", action="store_true", help="show what agents and sidecars of a failed play said last")
    options = parser.parse_args()
    languages = tuple(options.language or LANGUAGES)
    texts = options.texts
    scenarios = [
        scenario
        for scenario in load()
        if not texts or any(text in f"{scenario.group} {scenario.name}" for text in texts)
    ]
    began = time.monotonic()
    try:
        results = asyncio.run(_play_all(scenarios, languages, logs=options.logs))
    except (ToolMissing, BuildFailed) as error:
        print(error, file=sys.stderr)
        return 1
    text = tables(scenarios, results, languages)
    print(f"\n{text}")
    if not texts and languages == LANGUAGES:
        _write(text, len(scenarios), time.monotonic() - began)
        print(f"written to {DOCUMENT.relative_to(ROOT)}")
    return int(any(outcome is not None for outcome in results.values()))


if __name__ == "__main__":
    sys.exit(main())
