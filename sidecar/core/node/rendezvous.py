"""Rendezvous in the node: names are advertised and found through the DHT's provider records."""

import hashlib
from typing import assert_never

from .. import events, kademlia
from ..deadlines import Deadline
from ..override import override
from .kademlia import Ended, KademliaService
from .operations import Operations
from .service import Follower, Service
from .statistics import RendezvousStatistics
from .switch import Peer, Switch
from .walks import Walks

_SHA2_256 = b"\x12\x20"

RendezvousInput = events.AdvertiseRequested | events.FindAdvertisedRequested


def rendezvous_key(name: str) -> bytes:
    """The provider key under which a name is advertised: the SHA2-256 multihash of its UTF-8 text.

    go-libp2p's RoutingDiscovery makes the same, so that its nodes and ours meet.
    """
    return _SHA2_256 + hashlib.sha256(name.encode()).digest()


class _Advertisement:
    """A name that is advertised on behalf of one or more operations. `told`: the last announcement's outcome."""

    __slots__ = ("due", "key", "ops", "step", "told", "walk")

    def __init__(self, key: bytes, step: float) -> None:
        self.key = key
        self.ops: dict[int, None] = {}
        self.step = step
        self.walk: int | None = None
        self.due: Deadline | None = None
        self.told: tuple[int, int, float] | None = None


class Rendezvous(Service[RendezvousInput], Follower[events.OperationCancelled]):
    """Advertises and finds names for apps. An advertisement lasts until it is cancelled."""

    def __init__(self, switch: Switch, kademlia: KademliaService, operations: Operations) -> None:
        self._switch = switch
        self._kademlia = kademlia
        self._operations = operations
        self._walks = Walks(kademlia, operations)
        self._config = switch.config.kademlia
        self._advertisements: dict[bytes, _Advertisement] = {}
        self._advertised: dict[int, _Advertisement] = {}

    @override
    def handle(self, arrived: RendezvousInput, now: float) -> None:
        if not self._operations.begin(arrived.op):
            return
        match arrived:
            case events.AdvertiseRequested(op, name):
                self._advertise(op, rendezvous_key(name), now)
            case events.FindAdvertisedRequested(op, name, limit):
                self._find(op, rendezvous_key(name), limit, now)
            case _:
                assert_never(arrived)

    def followed(self, arrived: events.OperationCancelled, now: float) -> None:
        """An operation is not wanted any more."""
        advertisement = self._advertised.pop(arrived.op, None)
        if advertisement is not None:
            del advertisement.ops[arrived.op]
            if not advertisement.ops:
                self._stop(advertisement, now)
        self._walks.cancel(arrived.op, now)

    def peer_ready(self, peer: Peer, now: float) -> None:
        """What was announced to nobody, since there was nobody, is announced now."""
        if not peer.speaks(self._switch.config.kademlia_protocol):
            return
        for advertisement in self._advertisements.values():
            if advertisement.due is not None and advertisement.told is not None and not advertisement.told[1]:
                advertisement.due.cancel()
                advertisement.due = None
                advertisement.step = self._config.provide_retry
                self._announce(advertisement, now)

    def statistics(self) -> RendezvousStatistics:
        """How many names are advertised now."""
        return RendezvousStatistics(len(self._advertisements))

    # ------------------------------------------------------------ names

    def _advertise(self, op: int, key: bytes, now: float) -> None:
        advertisement = self._advertisements.get(key)
        new = advertisement is None
        if advertisement is None:
            advertisement = self._advertisements[key] = _Advertisement(key, self._config.provide_retry)
        advertisement.ops[op] = None
        self._advertised[op] = advertisement
        if new:
            self._announce(advertisement, now)
        elif advertisement.told is not None:
            self._switch.emit(events.AdvertisementAnnounced(op, *advertisement.told))

    def _announce(self, advertisement: _Advertisement, now: float) -> None:
        addresses = self._switch.advertised()
        key = advertisement.key

        def announced(result: Ended | kademlia.ProvidersFound, now: float) -> None:
            self._announced(advertisement, result, now)

        advertisement.walk = self._kademlia.ask(
            lambda walk: kademlia.ProvideRequested(walk, key, addresses), announced, now
        )

    def _announced(self, advertisement: _Advertisement, result: Ended | kademlia.ProvidersFound, now: float) -> None:
        stored, asked = (result.stored, result.asked) if isinstance(result, kademlia.StoreCompleted) else (0, 0)
        config = self._config
        if stored >= config.k:  # a failure after it is the first
            wait = config.provide_interval
            advertisement.step = config.provide_retry
        else:  # a young or a small network, or trouble
            wait = min(advertisement.step, config.provide_interval)
            longest = min(config.refresh_interval, config.provide_interval)
            advertisement.step = min(2 * advertisement.step, longest)

        def again(now: float) -> None:
            advertisement.due = None
            self._announce(advertisement, now)

        advertisement.due = self._switch.deadlines.at(now + wait, again)
        advertisement.told = (stored, asked, now + wait)
        for op in advertisement.ops:
            self._switch.emit(events.AdvertisementAnnounced(op, *advertisement.told))

    def _stop(self, advertisement: _Advertisement, now: float) -> None:
        del self._advertisements[advertisement.key]
        if advertisement.due is not None:
            advertisement.due.cancel()
        if advertisement.walk is not None:
            self._kademlia.stop(advertisement.walk, now)
        self._kademlia.put(kademlia.ProvideEnded(advertisement.key))

    def _find(self, op: int, key: bytes, limit: int, now: float) -> None:
        def told(result: Ended | kademlia.ProvidersFound, now: float) -> None:
            match result:
                case kademlia.ProvidersFound(_, peers):
                    self._switch.emit(events.AdvertisersFound(op, peers))
                case kademlia.ProvidersCompleted(_, asked):
                    self._walks.complete(op, asked)
                case kademlia.LookupFailed(_, error):
                    self._walks.complete(op, error)

        self._walks.begin(op, self._kademlia.ask(lambda walk: kademlia.ProvidersRequested(walk, key, limit), told, now))
