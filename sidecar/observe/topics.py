"""Topics as label values: a bounded number by name, the others together."""

from collections.abc import Iterable
from typing import NamedTuple

OTHER = "other"


class TopicCount(NamedTuple):
    """A topic of this node: members of its mesh, peers that announced it, messages delivered since it was joined."""

    name: str
    mesh: int
    peers: int
    delivered: int


class TopicLabels:
    """Gives the first topics seen a row each, which they keep while they last, and the others one row together.

    What has been delivered never falls under a name: a topic's total moves on by what came since the last look, and
    begins anew where the topic itself did.
    """

    def __init__(self, limit: int) -> None:
        """`limit`: rows with a name of their own."""
        self._limit = limit
        self._totals: dict[str, int] = {}  # of those with a row
        self._others = 0
        self._last: dict[str, int] = {}

    def rows(self, topics: Iterable[TopicCount]) -> list[TopicCount]:
        """What to show of the topics that there are now."""
        present = {topic.name: topic for topic in topics}
        self._totals = {name: total for name, total in self._totals.items() if name in present}
        rows: list[TopicCount] = []
        mesh = peers = beyond = 0
        for name, topic in present.items():
            last = self._last.get(name, 0)
            came = topic.delivered - last if topic.delivered >= last else topic.delivered
            # A topic that is really called so shares the row: two rows of one name would be no valid answer.
            if name != OTHER and (name in self._totals or len(self._totals) < self._limit):
                self._totals[name] = total = self._totals.get(name, 0) + came
                rows.append(topic._replace(delivered=total))
            else:
                self._others += came
                beyond += 1
                mesh += topic.mesh
                peers += topic.peers
        self._last = {name: topic.delivered for name, topic in present.items()}
        if beyond or self._others:
            rows.append(TopicCount(OTHER, mesh, peers, self._others))
        return rows
