"""Sybils that keep others busy, or waiting, with the control messages of gossip."""

from collections.abc import Collection

from ...core.gossip.messages import ControlMessage, encode_graft, encode_ihaves, encode_iwants, encode_prune, field
from ...core.override import override
from ...core.types import PeerId
from .conduct import Surroundings
from .made_up import made_up_id, made_up_peer
from .sybil import Silent

_RPC = 60_000  # bytes of control messages in one RPC
_EXCHANGED = 16  # peers that a PRUNE names: no more are looked at
_KNOWN = 4096  # ids that an IWANT flood has at hand
_BACKOFF = 1  # second: what it asks of those whom it prunes, to come back soon


class Flood(Silent):
    """A silent sybil that tells all its peers something `rate` times a second, from when it does harm."""

    @override
    def started(self, now: float) -> None:
        self.node.deadlines.at(max(now, self.around.begins) + self.around.rng.random(), self._again)

    def _again(self, now: float) -> None:
        self.flood(now)
        self.node.deadlines.at(now + 1.0 / float(self.around.options["rate"]), self._again)

    def flood(self, now: float) -> None:
        """Say it once."""


class GraftFlood(Flood):
    """Grafts everybody again and again, whatever it was answered."""

    @override
    def flood(self, now: float) -> None:
        for peer, topics in self.listeners():
            self.tell(peer, field(3, b"".join(map(encode_graft, topics))))


class IhaveSpam(Flood):
    """Names messages that do not exist."""

    @override
    def flood(self, now: float) -> None:
        ids = [made_up_id(self.around.rng) for _ in range(int(self.around.options["ids"]))]
        for peer, topics in self.listeners():
            for topic in topics:
                for entry in encode_ihaves(topic, ids, _RPC):
                    self.tell(peer, field(3, entry))


class IwantFlood(Flood):
    """Asks for the same messages again and again: those that it was sent, or told of."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self._known: dict[bytes, None] = {}

    @override
    def flood(self, now: float) -> None:
        ids = list(self._known)[-int(self.around.options["ids"]) :]
        if ids:
            rpcs = [field(3, entry) for entry in encode_iwants(ids, _RPC)]
            for peer, _ in self.listeners():
                for rpc in rpcs:
                    self.tell(peer, rpc)

    @override
    def controlled(self, peer: PeerId, control: ControlMessage, now: float) -> None:
        for ihave in control.ihave:
            for identifier in ihave.messageIDs:
                self._know(identifier)

    @override
    def got(self, source: PeerId, topic: bytes, identifier: bytes, now: float) -> None:
        self._know(identifier)

    def _know(self, identifier: bytes) -> None:
        self._known[identifier] = None
        if len(self._known) > _KNOWN:
            del self._known[next(iter(self._known))]


class Asking(Silent):
    """Asks for each message that it is told of, as a peer does that has hardly another link, and passes none on."""

    @override
    def controlled(self, peer: PeerId, control: ControlMessage, now: float) -> None:
        wanted = [identifier for ihave in control.ihave for identifier in ihave.messageIDs if not self.has(identifier)]
        if wanted and now >= self.around.begins:
            for entry in encode_iwants(wanted, _RPC):
                self.tell(peer, field(3, entry))


class BrokenPromises(Silent):
    """Tells everybody at once of each message that it gets, and never sends it to who asks."""

    @override
    def got(self, source: PeerId, topic: bytes, identifier: bytes, now: float) -> None:
        if now >= self.around.begins:
            rpc = field(3, encode_ihaves(topic, (identifier,), _RPC)[0])
            for peer, topics in self.listeners():
                if peer != source and topic in topics:
                    self.tell(peer, rpc)


class PxPoison(Flood):
    """Prunes whoever has it in a mesh, and names others to turn to: sybils by their records, and peers that are none.

    The back-off that it asks for is a second, so that it may come back soon.
    """

    @override
    def flood(self, now: float) -> None:
        named = self._named()
        for peer, topics in self.listeners():
            linked = [topic for topic in topics if self.is_linked(peer, topic)]
            prunes = [encode_prune(topic, named, _BACKOFF) for topic in linked]
            for topic in linked:
                self.unlink(peer, topic)
            if prunes:
                self.tell(peer, field(3, b"".join(prunes)))
            self.graft(peer, [topic for topic in topics if topic not in linked and not self.is_refused(peer, topic)])

    def _named(self) -> Collection[tuple[PeerId, bytes | None]]:
        rng, fellows = self.around.rng, self.around.contacts(None)
        chosen = rng.sample(fellows, min(_EXCHANGED // 2, len(fellows)))
        invented = [(made_up_peer(rng), None) for _ in range(_EXCHANGED - len(chosen))]
        return [*((fellow.peer, fellow.record) for fellow in chosen), *invented]
