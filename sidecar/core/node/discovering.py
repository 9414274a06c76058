"""Records and rendezvous in the node: names are advertised and found, records put and got, through the DHT."""

import functools
import hashlib
import sys

from .. import events, kademlia
from ..deadlines import Deadline
from ..errors import InvalidArgument, InvalidPeerId, NotFound, Outdated, SidecarError
from ..identity import Identity
from ..records import MAX_SEQ, key_owner, make_signed_value, open_signed_value
from .finding import Ended, Finding
from .operations import Operations
from .switch import Peer, Switch

_ALL = sys.maxsize  # as quorum: ask to the end
_SHA2_256 = b"\x12\x20"


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


class Discovering:
    """The operations on records and names, and walks to a key. Each is one of the node's.

    An advertisement lasts until it is cancelled.
    """

    def __init__(
        self, switch: Switch, finding: Finding, operations: Operations, identity: Identity, sequence: int
    ) -> None:
        self._switch = switch
        self._finding = finding
        self._operations = operations
        self._identity = identity
        self._config = switch.config.kademlia
        self._seq = sequence
        self._advertisements: dict[bytes, _Advertisement] = {}
        self._advertised: dict[int, _Advertisement] = {}
        self._walks: dict[int, int] = {}
        self._puts: dict[int, bytes] = {}  # of signed values under way: the keys

    def accept(self, asked: object, now: float) -> bool:
        """Take an input on; False for one that is nothing to this service."""
        match asked:
            case events.AdvertiseRequested(op, name):
                if self._operations.begin(op):
                    self._advertise(op, rendezvous_key(name), now)
            case events.FindAdvertisedRequested(op, name, limit):
                if self._operations.begin(op):
                    self._find(op, rendezvous_key(name), limit, now)
            case events.RecordPutRequested(op, key, value):
                if self._operations.begin(op):
                    self._put(op, key, value, now)
            case events.RecordRequested(op, key, quorum):
                if self._operations.begin(op):
                    self._get(op, key, quorum, now)
            case events.ClosestPeersRequested(op, key):
                if self._operations.begin(op):
                    self._closest(op, key, now)
            case _:
                return False
        return True

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

    def peer_updated(self, peer: Peer, now: float) -> None: ...

    def peer_gone(self, peer: Peer, now: float) -> None: ...

    def cancel(self, op: int, now: float) -> None:
        """An operation is not wanted any more."""
        advertisement = self._advertised.pop(op, None)
        if advertisement is not None:
            del advertisement.ops[op]
            if not advertisement.ops:
                self._stop(advertisement, now)
        self._puts.pop(op, None)
        walk = self._walks.pop(op, None)
        if walk is not None:
            self._finding.stop(walk, now)

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

        # Stopping a walk that has ended, perhaps before its number was known here, is nothing.
        advertisement.walk = self._finding.ask(
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
            self._finding.stop(advertisement.walk, now)
        self._finding.feed(kademlia.ProvideEnded(advertisement.key), now)

    def _find(self, op: int, key: bytes, limit: int, now: float) -> None:
        def told(result: Ended | kademlia.ProvidersFound, now: float) -> None:
            match result:
                case kademlia.ProvidersFound(_, peers):
                    self._switch.emit(events.AdvertisersFound(op, peers))
                case kademlia.ProvidersCompleted(_, asked):
                    self._complete(op, asked)
                case kademlia.LookupFailed(_, error):
                    self._complete(op, error)

        self._begin(op, self._finding.ask(lambda walk: kademlia.ProvidersRequested(walk, key, limit), told, now))

    # ------------------------------------------------------------ peers

    def _closest(self, op: int, key: bytes, now: float) -> None:
        def walked(result: kademlia.LookupCompleted | kademlia.LookupFailed, now: float) -> None:
            done = result.closest if isinstance(result, kademlia.LookupCompleted) else result.error
            self._complete(op, done)

        try:
            self._begin(op, self._finding.walk(key, None, walked, now))
        except SidecarError as error:
            self._operations.complete(op, error)

    # ------------------------------------------------------------ records

    def _put(self, op: int, key: bytes, value: bytes, now: float) -> None:
        try:
            encoded = self._encoded(key, value)
        except SidecarError as error:
            self._operations.complete(op, error)
            return

        rule = self._finding.router.namespace(key).rule

        def renew(known: bytes) -> bytes:
            if any(other > op and put == key for other, put in self._puts.items()):
                raise Outdated("another put of this key by this node has come after it")
            return self._signed(key, value, open_signed_value(key, known).seq + 1)

        def told(result: Ended | kademlia.ProvidersFound, now: float) -> None:
            match result:
                case kademlia.StoreCompleted(_, stored, asked) if stored < asked and rule is kademlia.Rule.GREATEST:
                    self._compare(op, key, value, events.RecordStored(stored, asked), now)
                case kademlia.StoreCompleted(_, stored, asked):
                    self._complete(op, events.RecordStored(stored, asked))
                case kademlia.LookupFailed(_, error):
                    self._complete(op, error)

        signed = rule is kademlia.Rule.SIGNED
        if signed:
            self._puts[op] = key
        asked = functools.partial(kademlia.PutRequested, key=key, value=encoded, renew=renew if signed else None)
        self._begin(op, self._finding.ask(asked, told, now))

    def _compare(self, op: int, key: bytes, value: bytes, stored: events.RecordStored, now: float) -> None:
        """Some peers have not taken a record: tell whether they have a better one, which readers would get."""

        def told(result: Ended | kademlia.ProvidersFound, now: float) -> None:
            if isinstance(result, kademlia.ValueCompleted) and result.value is not None and result.value > value:
                took = f"{stored.stored} of {stored.asked} peers took the record"
                self._complete(op, Outdated(f"{took}, and a better value of it is known to others"))
            elif not isinstance(result, kademlia.ProvidersFound):
                self._complete(op, stored)

        self._begin(op, self._finding.ask(lambda walk: kademlia.ValueRequested(walk, key, _ALL), told, now))

    def _encoded(self, key: bytes, value: bytes) -> bytes:
        """The value as it travels: in a namespace of signed values, signed by this node.

        Raises InvalidArgument, Outdated.
        """
        if self._finding.router.namespace(key).rule is not kademlia.Rule.SIGNED:
            return value
        try:
            owner = key_owner(key)
        except InvalidPeerId as error:
            raise InvalidArgument(f"a key of signed values is /namespace/PEER-ID or that and more: {error}") from None
        if owner != self._switch.local:
            raise InvalidArgument(f"the key names {owner}; this node signs for {self._switch.local} only")
        return self._signed(key, value)

    def _signed(self, key: bytes, value: bytes, least: int = 0) -> bytes:
        """The value with a number of at least `least`, above all that went before. Raises Outdated."""
        seq = max(self._seq + 1, least)
        if seq > MAX_SEQ:
            raise Outdated(f"a value with the number {seq - 1} is known, and there is none above it until that expires")
        self._seq = seq
        return make_signed_value(self._identity, key, seq, value)

    def _get(self, op: int, key: bytes, quorum: int, now: float) -> None:
        def told(result: Ended | kademlia.ProvidersFound, now: float) -> None:
            match result:
                case kademlia.ValueCompleted(_, None, _, _):
                    self._complete(op, NotFound("none of the peers asked has such a record"))
                case kademlia.ValueCompleted(_, bytes() as value, holders, received):
                    self._complete(op, self._found(key, value, holders, received))
                case kademlia.LookupFailed(_, error):
                    self._complete(op, error)

        self._begin(op, self._finding.ask(lambda walk: kademlia.ValueRequested(walk, key, quorum), told, now))

    def _found(self, key: bytes, value: bytes, holders: int, received: float | None) -> events.RecordFound:
        expires = None if received is None else received + self._config.record_ttl
        if self._finding.router.namespace(key).rule is not kademlia.Rule.SIGNED:
            return events.RecordFound(value, holders, expires, None, 0)
        signed = open_signed_value(key, value)  # the validator has opened it before
        return events.RecordFound(signed.value, holders, expires, signed.peer, signed.seq)

    # ------------------------------------------------------------ operations

    def _begin(self, op: int, walk: int) -> None:
        if op in self._operations:  # else it has ended already
            self._walks[op] = walk

    def _complete(self, op: int, result: object) -> None:
        self._walks.pop(op, None)
        self._puts.pop(op, None)
        self._operations.complete(op, result)

    def statistics(self) -> dict[str, int | float]:
        return {"dht_advertised": len(self._advertisements)}
