"""Topics as label values: a bounded number by name, the others together."""

from collections.abc import Iterable

from ..core.classes import NamedTuple

OTHER = "other"


class TopicCount(NamedTuple):
    """A topic of this node: members of its mesh, peers that announced it, and its counters, whichever they are."""

    name: str
    mesh: int
    peers: int
    counts: tuple[int, ...]


class TopicLabels:
    """Gives the first topics seen a row each, which they keep while they last, and the others one row together.

    No counter of a row falls while the row lasts: it moves on by what came since the last look, also where the topic
    itself was forgotten meanwhile and began anew.
    """

    def __init__(self, limit: int) -> None:
        """`limit`: rows with a name of their own."""
        self._limit = limit
        self._totals: dict[str, tuple[int, ...]] = {}  # of those with a row
        self._others: tuple[int, ...] = ()
        self._last: dict[str, tuple[int, ...]] = {}

    def rows(self, topics: Iterable[TopicCount]) -> list[TopicCount]:
        """What to show of the topics that there are now."""
        present = {topic.name: topic for topic in topics}
        self._totals = {name: total for name, total in self._totals.items() if name in present}
        rows: list[TopicCount] = []
        mesh = peers = beyond = 0
        for name, topic in present.items():
            came = _since(self._last.get(name), topic.counts)
            # A topic that is really called so shares the row: two rows of one name would be no valid answer.
            if name != OTHER and (name in self._totals or len(self._totals) < self._limit):
                self._totals[name] = total = _sum(self._totals.get(name), came)
                rows.append(topic._replace(counts=total))
            else:
                self._others = _sum(self._others, came)
                beyond += 1
                mesh += topic.mesh
                peers += topic.peers
        self._last = {name: topic.counts for name, topic in present.items()}
        if beyond or self._others:
            rows.append(TopicCount(OTHER, mesh, peers, self._others))
        return rows


def _since(last: tuple[int, ...] | None, now: tuple[int, ...]) -> tuple[int, ...]:
    """What came since the last look; all of it where the counters began anew."""
    if not last or any(value < before for value, before in zip(now, last, strict=True)):
        return now
    return tuple(value - before for value, before in zip(now, last, strict=True))


def _sum(total: tuple[int, ...] | None, came: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(int.__add__, total, came)) if total else came
