"""Nodes whose answers in the DHT are lies. In gossip they do nothing wrong, so that they are not sent away for that."""

from collections.abc import Iterable, Sequence

from ...core.errors import ProtocolError
from ...core.kademlia.messages import (
    PING_ANSWER,
    MessageType,
    decode_request,
    encode_closer_peers,
    encode_peer,
    encode_record_answer,
    join,
)
from ...core.multiaddr import Multiaddr
from ...core.override import override
from ...core.types import PeerId
from .conduct import Exchange, Fellow
from .made_up import made_up_peer
from .sybil import Sybil

_LIMIT = 16_000  # bytes of an answer


class DhtPoison(Sybil):
    """Answers every question of the DHT with what `named` gives, and has nothing of what is sought."""

    @override
    def drops(self, author: bytes) -> bool:
        return False

    def named(self, asking: PeerId, key: bytes) -> Iterable[tuple[PeerId, tuple[Multiaddr, ...]]]:
        """The peers that it names."""
        return ()

    @override
    def taps(self, protocol: str) -> bool:
        return super().taps(protocol) or protocol == self.around.config.kademlia_protocol

    @override
    def hears(self, exchange: Exchange, frame: bytes, now: float) -> Iterable[bytes]:
        if exchange.protocol in self.protocols:
            return super().hears(exchange, frame, now)
        try:
            request = decode_request(frame, self.around.config.kademlia)
        except ProtocolError:
            return ()
        peers = [encode_peer(peer, addresses, True) for peer, addresses in self.named(exchange.peer, request.key)]
        match request.type:
            case MessageType.FIND_NODE:
                self.node.say(exchange, encode_closer_peers(peers, _LIMIT))
            case MessageType.GET_VALUE | MessageType.GET_PROVIDERS:
                head = encode_record_answer(MessageType(request.type), request.key, None)
                self.node.say(exchange, join(head, peers, _LIMIT))
            case MessageType.PING:
                self.node.say(exchange, PING_ANSWER)
            case _:
                pass  # what is to be kept is lost
        return ()


class DhtSybils(DhtPoison):
    """Names only nodes of its own kind."""

    @override
    def named(self, asking: PeerId, key: bytes) -> Iterable[tuple[PeerId, tuple[Multiaddr, ...]]]:
        fellows = self._fellows()
        chosen = self.around.rng.sample(fellows, min(self.around.config.kademlia.k, len(fellows)))
        return ((fellow.peer, fellow.addresses) for fellow in chosen)

    def _fellows(self) -> Sequence[Fellow]:
        return self.around.contacts(None)


class DhtVictim(DhtPoison):
    """Names peers that do not exist, at ports of a victim: who believes it knocks there."""

    @override
    def named(self, asking: PeerId, key: bytes) -> Iterable[tuple[PeerId, tuple[Multiaddr, ...]]]:
        rng = self.around.rng
        victims = self.around.contacts(self.around.options["victim"])
        for _ in range(self.around.config.kademlia.k):
            host = rng.choice(victims).addresses[0].ip
            assert host is not None  # simulated nodes listen at IP addresses
            yield made_up_peer(rng), (Multiaddr.tcp(host, rng.randint(10_000, 60_000)),)


class TableEclipse(DhtSybils):
    """Has an id near to that of a victim, to be in the buckets that hold what is near to it."""
