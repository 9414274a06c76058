"""Which runs there are: each attack with scores and without; where limits matter, both again without these."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

SCENARIOS = Path(__file__).parents[2] / "scenarios" / "attacks"
_FULL = 25  # times as many nodes: the published evaluation's thousand honest ones
_FULL_CONNECTIONS = 100  # of a sybil, in the published evaluation
_SURROUNDING = 1  # nodes of a kind, or connections, that stay as they are: one victim, and one connection to it

RAISED = (
    "limits.connections=100000",
    "limits.connections_per_address=100000",
    "limits.connections_per_network=100000",
    "limits.accept_rate=1000000",
    "limits.accept_rate_per_address=1000000",
    "limits.accept_rate_per_network=1000000",
    "limits.high_water=0",
    "limits.low_water=0",
)
"""So that all attackers get in."""
UNSCORED = ("score.enabled=false",)


class Variant(NamedTuple):
    """How an attack is played."""

    name: str
    scored: bool
    raised: bool

    @property
    def settings(self) -> tuple[str, ...]:
        """What is otherwise than in the scenario."""
        return ((), UNSCORED)[not self.scored] + ((), RAISED)[self.raised]


DEFAULTS = (Variant("scores", True, False), Variant("no-scores", False, False))
OPEN = (Variant("scores-open", True, True), Variant("no-scores-open", False, True))


def attacks(only: str | None) -> list[Path]:
    """The scenarios, the baseline first; `only`: names of some, with commas between them."""
    found = {
        file.stem: file
        for file in sorted(SCENARIOS.glob("*.toml"), key=lambda file: (file.stem != "baseline", file.stem))
    }
    names = found if only is None else only.split(",")
    unknown = [name for name in names if name not in found]
    if unknown:
        raise ValueError(f"there is no attack {unknown[0]!r}; there are {', '.join(found)}")
    return [found[name] for name in names]


def full(file: Path) -> Iterator[str]:
    """The settings that make a scenario as large as the published evaluation."""
    document = tomllib.loads(file.read_text(encoding="utf-8"))
    for name, kind in document["nodes"].items():
        for key in ("count", "hosts"):
            if kind[key] > _SURROUNDING and not _surrounds(kind):
                yield f"nodes.{name}.{key}={kind[key] * _FULL}"
        if kind.get("connections", 0) > _SURROUNDING and "against" not in kind:
            yield f"nodes.{name}.connections={_FULL_CONNECTIONS}"
        elif kind.get("connections", 0) > _SURROUNDING:
            able = document["nodes"][kind["against"]]["count"] * _FULL
            yield f"nodes.{name}.connections={min(_FULL_CONNECTIONS, able)}"


def _surrounds(kind: Mapping[str, Any]) -> bool:
    """Whether it is against one node, which does not become more."""
    return kind.get("connections") == _SURROUNDING


class Outcome(NamedTuple):
    """What one run showed."""

    attack: str
    variant: Variant
    nodes: int
    hostile: int
    owed: int
    received: int
    missed: int
    p50: float | None
    p99: float | None
    last: float | None
    mesh: float | None
    connections: float | None
    bounded: int
    """Connections that a limit refused or closed."""
    records: tuple[Mapping[str, Any], ...]
    """The records `hostile`."""
    cpu: float
    memory: int

    @property
    def holds(self) -> bool:
        """What is required: everything arrives, and the last within six seconds."""
        return not self.missed and self.last is not None and self.last < 6.0


def outcome(folder: Path, file: Path, variant: Variant) -> Outcome:
    """Read a run's report. What counts is what was published during the attack; where that is several, the worst."""
    records = [json.loads(line) for line in (folder / "report.jsonl").read_text(encoding="utf-8").splitlines()]
    cost = json.loads((folder / "cost.json").read_text(encoding="utf-8"))
    deliveries = {record["publish"]: record for record in records if record["record"] == "deliveries"}
    counted = max((deliveries.get(number) or deliveries["all"] for number in _during(file)), key=_badness)
    hostile = tuple(record for record in records if record["record"] == "hostile")
    connections = next(record for record in records if record["record"] == "connections")
    mesh = next((record for record in records if record["record"] == "mesh"), None)
    return Outcome(
        attack=file.stem,
        variant=variant,
        nodes=records[0]["nodes"],
        hostile=records[0]["hostile"],
        owed=counted["owed"],
        received=counted["received"],
        missed=counted["missed"],
        p50=counted["delay"]["p50"],
        p99=counted["delay"]["p99"],
        last=counted["delay"]["max"],
        mesh=mesh and mesh["to_hostile"],
        connections=connections["to_hostile"],
        bounded=connections["trimmed"] + sum(hostile[0]["refused"].values() if hostile else ()),
        records=hostile,
        cpu=cost["cpu_seconds"],
        memory=cost["peak_memory_bytes"],
    )


def _during(file: Path) -> list[int]:
    """The numbers of the `[[publish]]` during the attack: from when all attackers have begun."""
    document = tomllib.loads(file.read_text(encoding="utf-8"))
    hostile = [kind for kind in document["nodes"].values() if "behaviour" in kind]
    begun = max(
        (sum(_seconds(kind.get(key, "0s")) for key in ("start", "over", "after")) for kind in hostile), default=0.0
    )
    return [number for number, each in enumerate(document["publish"], 1) if _seconds(each["start"]) >= begun]


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def _badness(record: Mapping[str, Any]) -> tuple[int, float]:
    return record["missed"], record["delay"]["max"] or 0.0
