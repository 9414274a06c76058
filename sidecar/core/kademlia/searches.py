"""What lookups are for: each kind reads the answers and says what comes at the end.

Origin: specs kad-dht, "Value storage and retrieval", "Content provider advertisement and discovery".
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from ..errors import InvalidArgument
from ..parameters.kademlia import KademliaConfig
from ..types import PeerId
from .events import KademliaEffect, PeerAddresses, ProvidersCompleted, ProvidersFound
from .messages import DhtAnswer, MessageType, encode_question
from .validators import Validators

# The peers that answered, closest first, with addresses; at most k.
Closest = Sequence[PeerAddresses]


class Search(Protocol):
    """The purpose of one lookup."""

    kind: MessageType
    frame: bytes

    def answered(self, peer: PeerAddresses, answer: DhtAnswer, effects: list[KademliaEffect]) -> bool:
        """Read an answer; True when that is enough."""

    def ended(self, closest: Closest, now: float, effects: list[KademliaEffect]) -> None:
        """The lookup is over."""


class Placement:
    """Find the k closest peers, then `deliver` to them."""

    kind = MessageType.FIND_NODE

    def __init__(self, key: bytes, deliver: Callable[[Closest, float, list[KademliaEffect]], None]) -> None:
        self.frame = encode_question(self.kind, key)
        self._deliver = deliver

    def answered(self, peer: PeerAddresses, answer: DhtAnswer, effects: list[KademliaEffect]) -> bool:
        """Nothing to read: never enough, so that the walk goes on to the closest peers."""
        return False

    def ended(self, closest: Closest, now: float, effects: list[KademliaEffect]) -> None:
        """Hand the closest peers on."""
        self._deliver(closest, now, effects)


class ValueSearch:
    """Gather the values under a key. Those that are not valid count as none."""

    kind = MessageType.GET_VALUE

    def __init__(
        self,
        key: bytes,
        quorum: int,
        own: bytes | None,
        validators: Validators,
        done: "Callable[[ValueSearch, Closest, float, list[KademliaEffect]], None]",
    ) -> None:
        """`own`: the value that we keep, which counts as one."""
        self.key = key
        self.frame = encode_question(self.kind, key)
        self._quorum = quorum
        self._validators = validators
        self._done = done
        self.best = own
        self.own_outdated = False
        self.values = 0 if own is None else 1  # how many had any valid value
        self._own = own
        self._had: dict[PeerId, tuple[PeerAddresses, bytes, str]] = {}

    @property
    def enough(self) -> bool:
        """Whether as many values as the quorum were found, the own one included."""
        return self.values >= self._quorum

    def answered(self, peer: PeerAddresses, answer: DhtAnswer, effects: list[KademliaEffect]) -> bool:
        """Keep the best of the values that are valid; enough at the quorum."""
        record = answer.record
        if record is None or record.key != self.key:
            return False
        try:
            self._validators.check(self.key, record.value)
        except InvalidArgument:
            return False
        self._had[peer[0]] = (peer, record.value, record.received)
        self.values += 1
        if self.best is None or self._validators.better(self.key, record.value, self.best):
            self.best = record.value
            self.own_outdated = self._own is not None
        return self.enough

    def holders(self) -> list[str]:
        """When each peer that had the best value received it, as it said."""
        return [received for _, value, received in self._had.values() if value == self.best]

    def to_correct(self, closest: Closest) -> list[PeerAddresses]:
        """Peers that had a worse value, and the closest ones that had none."""
        outdated = [peer for peer, value, _ in self._had.values() if value != self.best]
        return outdated + [peer for peer in closest if peer[0] not in self._had]

    def ended(self, closest: Closest, now: float, effects: list[KademliaEffect]) -> None:
        """Hand the search on, with what it found."""
        self._done(self, closest, now, effects)


class ProviderSearch:
    """Gather the providers of a key, and tell of each once: as soon as an address of it is known, else at the end."""

    kind = MessageType.GET_PROVIDERS

    def __init__(self, config: KademliaConfig, op: int, key: bytes, count: int, local: PeerId) -> None:
        self.frame = encode_question(self.kind, key)
        self._op = op
        self._count = min(count, config.max_found_providers) if count else config.max_found_providers
        self._told: dict[PeerId, None] = {}
        self._bare: dict[PeerId, None] = {}
        self._local = local
        self._asked = 0

    def found(self, providers: Sequence[PeerAddresses], effects: list[KademliaEffect]) -> bool:
        """Take providers in; True when they are enough."""
        new: list[PeerAddresses] = []
        for peer, addresses in providers:
            if peer in self._told or peer == self._local or len(self._told) >= self._count:
                continue
            if addresses:
                self._bare.pop(peer, None)
                self._told[peer] = None
                new.append((peer, addresses))
            elif len(self._bare) < self._count:
                self._bare[peer] = None
        if new:
            effects.append(ProvidersFound(self._op, tuple(new)))
        return len(self._told) >= self._count

    def answered(self, peer: PeerAddresses, answer: DhtAnswer, effects: list[KademliaEffect]) -> bool:
        """Tell of providers that are new; enough when `count` were told of."""
        self._asked += 1
        return self.found(answer.providers, effects)

    def ended(self, closest: Closest, now: float, effects: list[KademliaEffect]) -> None:
        """Tell of those without an address too, then that it is over."""
        bare = list(self._bare)[: self._count - len(self._told)]
        if bare:
            effects.append(ProvidersFound(self._op, tuple((peer, ()) for peer in bare)))
        effects.append(ProvidersCompleted(self._op, self._asked))
