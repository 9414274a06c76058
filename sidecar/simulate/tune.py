"""Finds the cheapest parameters of gossip that keep limits, by coordinate descent.

One seed is enough to search. In a round the two keys of most effect are tried in all combinations, since one makes up
for the other, then each other key with all its values, while the rest is as it was best; again, until a round changes
nothing. What then holds with that seed is played with all seeds, the cheapest first, until one holds
with each of them. The first that does not tells how much that one seed flatters: one round more is made with so much
less allowed.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..core.classes import NamedTuple
from ..core.parameters import GossipConfig
from .report import Record
from .settings import Assignment, shown
from .sweep import BANDWIDTH, COPIES, MISSED, P99, Combination, Settings, combination_record, figure_words

SPACE: Mapping[str, Sequence[Any]] = {
    "gossip.degree": (3, 4, 5, 6, 8),
    "gossip.eager_share": (0.0, 0.02, 0.05, 0.1, 0.25),
    "gossip.flood_peers": (4, 8, 16, 32),
    "gossip.heartbeat_interval": (0.3, 0.7, 1.0, 2.0),
    "gossip.idontwant_threshold": (256, 512, 16_384),
}
"""The keys that are tried, those of most effect first. Guesses around the defaults, which are among them."""
GRID = 2  # so many of them, the first ones, are tried together
ROUNDS = 2
SEARCHED, CHECKED_ALL = "searched", "checked"
CHECKED = 8  # combinations that are played with all seeds, at most
_CONFIGURED = {  # keys of the configuration that the search decides upon, and where the core has them
    "gossip.degree": "d", "gossip.degree_low": "d_low", "gossip.degree_high": "d_high", "gossip.degree_out": "d_out",
    "gossip.eager_share": "eager_share", "gossip.flood_peers": "flood_peers",
    "gossip.heartbeat_interval": "heartbeat_interval", "gossip.idontwant_threshold": "idontwant_threshold",
}  # fmt: skip


class Limits(NamedTuple):
    """What has to hold beside that no message is missed; None: whatever it is."""

    p99: float | None = None
    """Seconds: the delay that 99 % of all deliveries keep."""
    copies: float | None = None
    """For each delivery."""
    bandwidth: float | None = None
    """Bytes that a node sends a second, in the mean."""

    def named(self) -> dict[str, float]:
        """Those that there are, by the figure that they are about."""
        all_of_them = {P99: self.p99, COPIES: self.copies, BANDWIDTH: self.bandwidth}
        return {name: limit for name, limit in all_of_them.items() if limit is not None}


class Tuned(NamedTuple):
    """How a search ended."""

    best: Combination | None
    """What holds with every seed, and is the cheapest that was found; None: nothing does."""
    nearest: Combination | None
    """What comes nearest, where nothing holds; None: nothing was played to its end."""


def over(found: Combination, limits: Limits) -> dict[str, float]:
    """By what share each figure is above its limit with the worst seed, or (below 0) under it."""
    return {
        name: max(found.values[name]) / limit - 1.0 for name, limit in limits.named().items() if name in found.values
    }


def _excess(found: Combination, limits: Limits) -> float:
    """How far it is from holding; 0: it holds. Missed messages, or no delays at all, count as more than any figure."""
    above = over(found, limits)
    if len(above) < len(limits.named()) or MISSED not in found.values:
        return 1e9
    return max([0.0, *above.values()]) + (0.0 if found.complete else 1000.0 + max(found.values[MISSED]))


def holds(found: Combination, limits: Limits) -> bool:
    """Whether all limits hold with every seed, and no message was missed."""
    return _excess(found, limits) == 0.0


def _rank(found: Combination, limits: Limits) -> tuple[float, float, int]:
    """The less the better: what holds by its cost, all else by how far it is from that."""
    cost = found.figures[BANDWIDTH].mean if BANDWIDTH in found.figures else 1e18
    return _excess(found, limits), cost, found.number


class ParameterSearch:
    """One search. `batches` asks for combinations to be played, and `best` says what came of them."""

    def __init__(self, limits: Limits, base: Mapping[str, Any]) -> None:
        """`base`: what the scenario has of the keys of `SPACE`."""
        self.limits = limits
        self._base = base
        self._found: dict[Settings, Combination] = {}
        self._checked: dict[Settings, Combination] = {}

    @property
    def most(self) -> int:
        """So many combinations are searched at most, each with one seed."""
        return 1 + (ROUNDS + 1) * sum(math.prod(len(SPACE[key]) for key in keys) for keys in self._steps())

    @staticmethod
    def _steps() -> list[list[str]]:
        """The keys that are tried together."""
        keys = list(SPACE)
        return [keys[:GRID], *([key] for key in keys[GRID:])]

    def batches(self) -> Iterator[list[Settings]]:
        """Combinations to be played with one seed, some at a time; `searched` is to be told of them before the next."""
        yield [()]
        yield from self._descent(self.limits, ROUNDS)

    def refined(self) -> Iterator[list[Settings]]:
        """One round more from the best on, with less allowed, as far as what was played with all seeds needs it."""
        yield from self._descent(self._with_room(), 1)

    def _descent(self, limits: Limits, rounds: int) -> Iterator[list[Settings]]:
        if not self._found:
            return
        chosen = min(self._found.values(), key=lambda each: _rank(each, limits)).settings
        for _ in range(rounds):
            before = chosen
            for keys in self._steps():
                values = itertools.product(*(SPACE[key] for key in keys))
                others = [self._set(chosen, dict(zip(keys, each, strict=True))) for each in values]
                batch = [settings for settings in dict.fromkeys(others) if settings not in self._found]
                if batch:
                    yield batch
                known = [self._found[settings] for settings in (chosen, *others) if settings in self._found]
                chosen = min(known, key=lambda each: _rank(each, limits)).settings
            if chosen == before:
                return

    def _set(self, chosen: Settings, values: Mapping[str, Any]) -> Settings:
        """The same with other values of some keys; what the scenario has anyway is not set."""
        settings = {**dict(chosen), **values}
        return tuple(
            Assignment(key, settings[key]) for key in SPACE if key in settings and settings[key] != self._base[key]
        )

    def searched(self, found: Combination) -> None:
        """What one seed says of a combination."""
        self._found[found.settings] = found

    def candidate(self) -> Settings | None:
        """What to play with all seeds next; None: there is no use in trying more.

        The cheapest of those that hold with one seed, with as much room as others have turned out to need: the search
        has chosen them by that seed, so that it flatters them. Where none holds, the one that comes nearest.
        """
        if len(self._checked) >= CHECKED or any(holds(each, self.limits) for each in self._checked.values()):
            return None
        held = [each for each in self._found.values() if holds(each, self.limits)]
        if not held:
            left = [] if self._checked else list(self._found.values())
            return min(left, key=lambda each: _rank(each, self.limits)).settings if left else None
        room = self._with_room()
        left = [each for each in held if each.settings not in self._checked]
        return min(left, key=lambda each: _rank(each, room)).settings if left else None

    @property
    def flattered(self) -> bool:
        """Whether the first that was played with all seeds does not hold with them, and does with one."""
        if len(self._checked) != 1:
            return False
        ((settings, found),) = self._checked.items()
        return not holds(found, self.limits) and holds(self._found[settings], self.limits)

    def _with_room(self) -> Limits:
        """The limits, lower by as much as a figure was worse with the worst of all seeds than with the first."""
        named = zip((P99, COPIES, BANDWIDTH), self.limits, strict=True)
        return Limits(*(None if limit is None else limit / self._factor(name) for name, limit in named))

    def _factor(self, name: str) -> float:
        """How much worse a figure was with the worst of all seeds than with the one of the search, at most."""
        return max(
            (
                max(each.values[name]) / max(self._found[settings].values[name])
                for settings, each in self._checked.items()
                if name in each.values and max(self._found[settings].values[name]) > 0
            ),
            default=1.0,
        )

    def checked(self, found: Combination) -> None:
        """What all seeds say of a candidate."""
        self._checked[found.settings] = found

    def played(self) -> Iterator[tuple[str, Combination]]:
        """All that was played, in order, with the stage of the search that it belongs to."""
        yield from ((SEARCHED, found) for found in self._found.values())
        yield from ((CHECKED_ALL, found) for found in self._checked.values())

    def result(self) -> Tuned:
        """How it ended."""
        # Where some were played with all seeds, those say more than what one seed says of the others.
        known = [each for each in (self._checked or self._found).values() if each.seeds]
        nearest = min(known, key=lambda each: _rank(each, self.limits), default=None)
        return (
            Tuned(nearest, None) if nearest and holds(nearest, self.limits) and self._checked else Tuned(None, nearest)
        )


def configured_keys(config: GossipConfig) -> dict[str, Any]:
    """The keys of the configuration that the search decides upon, with the values that a node has."""
    return {key: getattr(config, name) for key, name in _CONFIGURED.items()}


# ---------------------------------------------------------------- telling


def tune_records(name: str, limits: Limits, search: ParameterSearch, config: Mapping[str, Any]) -> Iterator[Record]:
    """The search for programs. `config`: what the best, or the nearest, is configured to."""
    tuned = search.result()
    yield {
        "record": "tune",
        "scenario": name,
        "limits": limits.named(),
        "holds": tuned.best is not None,
        "configuration": dict(config),
    }
    for stage, found in search.played():
        yield {"stage": stage, "holds": holds(found, limits), **combination_record(found)}


def tune_told(name: str, limits: Limits, search: ParameterSearch, config: Mapping[str, Any]) -> Iterator[str]:
    """The search for people; in it the configuration as TOML."""
    tuned = search.result()
    stages = [stage for stage, _ in search.played()]
    yield (
        f"{name}: {stages.count(SEARCHED)} combinations searched with one seed, {stages.count(CHECKED_ALL)} of them "
        "played with all"
    )
    found = tuned.best or tuned.nearest
    if found is None:
        yield "Nothing was played to its end."
        return
    yield ""
    seeds = f"{len(found.seeds)} {'seed' if len(found.seeds) == 1 else 'seeds'}"
    if tuned.best:
        yield f"This holds with {seeds}:"
    elif holds(found, limits):
        yield f"This holds with {seeds}, and was not tried with more:"
    else:
        yield f"Nothing holds. This comes nearest, with {seeds}:"
    yield ""
    yield "[gossip]"
    yield from (f"{key.partition('.')[2]} = {shown(value)}" for key, value in config.items())
    yield ""
    above = over(found, limits)
    for figure in (P99, COPIES, BANDWIDTH, MISSED):
        label, mean, worst = figure_words(found, figure)
        line = f"{label:14}{mean:>20}"
        if figure in above:
            share = above[figure]
            said = f"{abs(share):.1%} {'above' if share > 0 else 'under'} the limit"
            line += f"   worst seed {worst}, {said}" + ("  <- this fails" if share > 0 else "")
        elif figure == MISSED and not found.complete:
            line += "   <- this fails"
        yield line
    if tuned.best:
        yield ""
        count = len(found.seeds)
        doubt = 1 - 0.05 ** (1 / count)
        yield f"How sure: all {count} seeds hold; that more than {doubt:.0%} of others do not is unlikely (5 %)."
