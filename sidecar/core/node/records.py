"""Records in the node: small values are put into the DHT and got from it, each by the rule of its namespace."""

import functools
import sys
from typing import assert_never

from .. import events, kademlia
from ..errors import InvalidArgument, InvalidPeerId, NotFound, Outdated, SidecarError
from ..identity import Identity
from ..override import override
from ..records import MAX_SEQ, key_owner, make_signed_value, open_signed_value
from .kademlia import Ended, KademliaService
from .operations import Operations
from .service import Follower, Service
from .switch import Switch
from .walks import Walks

_ALL = sys.maxsize  # as quorum: ask to the end

RecordsInput = events.RecordPutRequested | events.RecordRequested


class Records(Service[RecordsInput], Follower[events.OperationCancelled]):
    """Puts and gets records for apps; in a namespace of signed values it signs and numbers what it puts."""

    def __init__(
        self,
        switch: Switch,
        kademlia: KademliaService,
        operations: Operations,
        identity: Identity,
        sequence: int,
    ) -> None:
        self._switch = switch
        self._kademlia = kademlia
        self._operations = operations
        self._walks = Walks(kademlia, operations)
        self._identity = identity
        self._config = switch.config.kademlia
        self._seq = sequence
        self._puts: dict[int, bytes] = {}  # of signed values under way: the keys

    @override
    def handle(self, arrived: RecordsInput, now: float) -> None:
        if not self._operations.begin(arrived.op):
            return
        match arrived:
            case events.RecordPutRequested(op, key, value):
                self._put(op, key, value, now)
            case events.RecordRequested(op, key, quorum):
                self._get(op, key, quorum, now)
            case _:
                assert_never(arrived)

    def followed(self, arrived: events.OperationCancelled, now: float) -> None:
        """An operation is not wanted any more."""
        self._puts.pop(arrived.op, None)
        self._walks.cancel(arrived.op, now)

    def _put(self, op: int, key: bytes, value: bytes, now: float) -> None:
        try:
            encoded = self._encoded(key, value)
        except SidecarError as error:
            self._operations.complete(op, error)
            return

        rule = self._kademlia.router.namespace(key).rule

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
        self._walks.begin(op, self._kademlia.ask(asked, told, now))

    def _compare(self, op: int, key: bytes, value: bytes, stored: events.RecordStored, now: float) -> None:
        """Some peers have not taken a record: tell whether they have a better one, which readers would get."""

        def told(result: Ended | kademlia.ProvidersFound, now: float) -> None:
            if isinstance(result, kademlia.ValueCompleted) and result.value is not None and result.value > value:
                took = f"{stored.stored} of {stored.asked} peers took the record"
                self._complete(op, Outdated(f"{took}, and a better value of it is known to others"))
            elif not isinstance(result, kademlia.ProvidersFound):
                self._complete(op, stored)

        self._walks.begin(op, self._kademlia.ask(lambda walk: kademlia.ValueRequested(walk, key, _ALL), told, now))

    def _encoded(self, key: bytes, value: bytes) -> bytes:
        """The value as it travels: in a namespace of signed values, signed by this node.

        Raises InvalidArgument, Outdated.
        """
        if self._kademlia.router.namespace(key).rule is not kademlia.Rule.SIGNED:
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

        self._walks.begin(op, self._kademlia.ask(lambda walk: kademlia.ValueRequested(walk, key, quorum), told, now))

    def _found(self, key: bytes, value: bytes, holders: int, received: float | None) -> events.RecordFound:
        expires = None if received is None else received + self._config.record_ttl
        if self._kademlia.router.namespace(key).rule is not kademlia.Rule.SIGNED:
            return events.RecordFound(value, holders, expires, None, 0)
        signed = open_signed_value(key, value)  # the validator has opened it before
        return events.RecordFound(signed.value, holders, expires, signed.peer, signed.seq)

    def _complete(self, op: int, result: object) -> None:
        self._puts.pop(op, None)
        self._walks.complete(op, result)
