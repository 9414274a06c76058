"""Records and providers: the requests for them, and what this node's own apps want with them."""

import random
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from ..errors import InvalidArgument, Outdated, ProtocolError, QueueFull, ResourceExhausted, SidecarError, TooLarge
from ..parameters.kademlia import KademliaConfig
from ..types import PeerId
from . import messages
from .delivery import StoreDeliveries, StoreDelivery
from .events import (
    Addresses,
    KademliaEffect,
    LookupFailed,
    ProvideRequested,
    ProvidersCompleted,
    ProvidersRequested,
    PutRequested,
    RequestReceived,
    StoreCompleted,
    ValueCompleted,
    ValueRequested,
)
from .lookup import Lookup
from .messages import DhtRequest, MessageType
from .pool import LookupPool
from .searches import Closest, Placement, ProviderSearch, Search, ValueSearch
from .stores import ProviderStore, ValueStore
from .table import RoutingTable
from .validators import Validators

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Closer = Callable[[], Iterable[bytes]]


class Content:
    """Answers the four requests that are about records and providers, and runs the operations that make such requests.

    `epoch`: what the wall clock showed, in seconds since 1970, when the monotonic one stood at 0.
    """

    def __init__(
        self,
        config: KademliaConfig,
        local: PeerId,
        table: RoutingTable,
        pool: LookupPool,
        rng: random.Random,
        epoch: float,
    ) -> None:
        self._config = config
        self._local = local
        self._table = table
        self._pool = pool
        self._rng = rng
        self._epoch = epoch
        self.validators = Validators(config.namespaces)
        self.values = ValueStore(config, local, self.validators)
        self.providers = ProviderStore(config, local)
        self.deliveries = StoreDeliveries(config, table, pool.number)

    def next_deadline(self) -> float | None:
        """When the first record or provider expires or a delivery's query times out; None while there is neither."""
        deadlines = (self.values.next_deadline(), self.providers.next_deadline(), self.deliveries.next_deadline())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_deadline(self, now: float, effects: list[KademliaEffect]) -> None:
        """Let expire and time out what is due."""
        self.values.expire(now)
        self.providers.expire(now)
        self.deliveries.handle_deadline(now, effects)

    # ---------------------------------------------------------------- what others ask

    def answer(self, event: RequestReceived, request: DhtRequest, closer: Closer, now: float) -> bytes | None:
        """The answer to a request, decoded; None where there is none to give. `closer`: the closer peers, encoded.

        Raises ProtocolError, InvalidArgument, Outdated, TooLarge, ResourceExhausted.
        """
        if not request.key:
            raise ProtocolError(f"DHT request {MessageType(request.type).name} with an empty key")
        match request.type:
            case MessageType.PUT_VALUE:
                return self._answer_put(request, now)
            case MessageType.GET_VALUE:
                return self._answer_get(request.key, closer, now)
            case MessageType.ADD_PROVIDER:
                self._take_provider(event, request, now)
                return None
            case _:
                return self._answer_get_providers(request.key, closer, now)

    def _answer_put(self, request: DhtRequest, now: float) -> bytes:
        """The answer repeats the record: go- and js-libp2p compare the value."""
        record = request.record
        if record is None or record.key != request.key:
            raise ProtocolError("PUT_VALUE without a record of the key that it names")
        self.values.put(record.key, record.value, now)
        return messages.encode_record_answer(MessageType.PUT_VALUE, record.key, record)

    def _answer_get(self, key: bytes, closer: Closer, now: float) -> bytes:
        """Also for a namespace without a rule here: whoever asks may have one, and is led on."""
        stored = self.values.get(key, now)
        record = None
        if stored is not None:
            record = messages.Record(key, stored.value, self._timestamp(stored.received))
        head = messages.encode_record_answer(MessageType.GET_VALUE, key, record)
        return messages.join(head, closer(), self._config.max_answer)

    def _take_provider(self, event: RequestReceived, request: DhtRequest, now: float) -> None:
        """Only a peer's word on itself counts, as go- and js-libp2p have it."""
        self._check_provider_key(request.key)
        for peer, addresses in request.providers:
            if peer == event.peer:
                self.providers.add(request.key, peer, addresses, now, event.network)
                return
        raise ProtocolError("ADD_PROVIDER that does not name its sender")

    def _answer_get_providers(self, key: bytes, closer: Closer, now: float) -> bytes:
        """Closer peers have up to half of the room; of more providers than fit in, any."""
        self._check_provider_key(key)
        limit = self._config.max_answer
        answer = messages.join(
            messages.encode_record_answer(MessageType.GET_PROVIDERS, key, None), closer(), limit // 2
        )
        providers = self.providers.get(key, now)
        if len(providers) > 1:
            self._rng.shuffle(providers)
        most = self._config.max_answered_addresses
        fields = (messages.encode_provider(peer, self._known(peer, named)[:most]) for peer, named in providers)
        return messages.join(answer, fields, limit)

    def _known(self, peer: PeerId, named: Addresses) -> Addresses:
        contact = self._table.get(peer)
        return contact.addresses if not named and contact is not None else named

    def _check_provider_key(self, key: bytes) -> None:
        if len(key) > self._config.max_provider_key:
            raise ProtocolError(f"provider key of {len(key)} bytes, at most {self._config.max_provider_key}")

    # ---------------------------------------------------------------- what our apps ask

    def put(self, asked: PutRequested, now: float, effects: list[KademliaEffect]) -> None:
        """Keep a record here and give it to the k closest peers.

        With `renew` the network is asked first, and a value that is better there is renewed. LookupFailed says what is
        wrong: InvalidArgument, TooLarge, Outdated.
        """
        op, key, value, renew = asked
        try:
            self._check_key(key)
            own = self.values.get(key, now)
            if own is not None:
                value = self._above(asked, value, own.value)
            self.values.check(key, value, now)
        except (InvalidArgument, TooLarge, Outdated) as error:
            effects.append(LookupFailed(op, error))
            return
        self._keep(key, value, now)
        if renew is None:
            self._place(op, key, value, now, effects)
            return

        def done(search: ValueSearch, closest: Closest, now: float, effects: list[KademliaEffect]) -> None:
            try:
                new = value if search.best is None else self._above(asked, value, search.best)
                self.values.check(key, new, now)
            except (TooLarge, Outdated) as error:
                effects.append(LookupFailed(op, error))
                return
            self._keep(key, new, now)
            self._deliver(StoreDelivery(op, messages.encode_put_value(key, new), new, closest), now, effects)

        self._begin(op, key, ValueSearch(key, sys.maxsize, None, self.validators, done), now, effects)

    def _place(self, op: int, key: bytes, value: bytes, now: float, effects: list[KademliaEffect]) -> None:
        frame = messages.encode_put_value(key, value)

        def deliver(closest: Closest, now: float, effects: list[KademliaEffect]) -> None:
            self._deliver(StoreDelivery(op, frame, value, closest), now, effects)

        self._begin(op, key, Placement(key, deliver), now, effects)

    def _above(self, asked: PutRequested, value: bytes, known: bytes) -> bytes:
        """The value, made anew where the known one is better and that is possible. Raises Outdated."""
        if asked.renew is None or known == value or self.validators.better(asked.key, value, known):
            return value
        return asked.renew(known)

    def find_value(self, asked: ValueRequested, now: float, effects: list[KademliaEffect]) -> None:
        """Look for the best of `quorum` values of a key, this node's own among them."""
        op, key, quorum = asked
        try:
            self._check_key(key)
            self.validators.namespace(key)
        except InvalidArgument as error:
            effects.append(LookupFailed(op, error))
            return
        own = self.values.get(key, now)

        def done(search: ValueSearch, closest: Closest, now: float, effects: list[KademliaEffect]) -> None:
            self._value_found(op, search, closest, now, effects)

        search = ValueSearch(key, quorum or self._config.quorum, own.value if own else None, self.validators, done)
        if search.enough:
            search.ended((), now, effects)
        else:
            self._begin(op, key, search, now, effects)

    def _value_found(
        self, op: int, search: ValueSearch, closest: Closest, now: float, effects: list[KademliaEffect]
    ) -> None:
        value = search.best
        if value is None:
            effects.append(ValueCompleted(op, None, 0, None))
            return
        if search.own_outdated:
            self._keep(search.key, value, now)
        moments = [moment for moment in map(_wall_seconds, search.holders()) if moment is not None]
        own = self.values.get(search.key, now)
        holders = len(search.holders())
        if own is not None and own.value == value:
            holders += not search.own_outdated
            moments.append(own.received + self._epoch)
        effects.append(ValueCompleted(op, value, holders, max(moments, default=None)))
        wrong = search.to_correct(closest)
        if wrong:
            frame = messages.encode_put_value(search.key, value)
            self.deliveries.begin(StoreDelivery(None, frame, value, wrong), now, effects)

    def provide(self, asked: ProvideRequested, now: float, effects: list[KademliaEffect]) -> None:
        """Name this node as a provider of a key, here and at the k closest peers."""
        op, key, addresses = asked
        if not 0 < len(key) <= self._config.max_provider_key:
            most = self._config.max_provider_key
            effects.append(LookupFailed(op, InvalidArgument(f"provider key of {len(key)} bytes, from 1 to {most}")))
            return
        with suppress(ResourceExhausted):  # the closest peers have room for it
            self.providers.add(key, self._local, addresses, now)
        frame = messages.encode_add_provider(key, self._local, addresses[: self._config.max_answered_addresses])

        def deliver(closest: Closest, now: float, effects: list[KademliaEffect]) -> None:
            self._deliver(StoreDelivery(op, frame, None, closest), now, effects)

        self._begin(op, key, Placement(key, deliver), now, effects)

    def provide_no_more(self, key: bytes) -> None:
        """Forget that this node provides the key; what others keep of it expires there."""
        self.providers.remove(key, self._local)

    def find_providers(self, asked: ProvidersRequested, now: float, effects: list[KademliaEffect]) -> None:
        """Look for `count` providers of a key; those that are known here come first."""
        op, key, count = asked
        if not 0 < len(key) <= self._config.max_provider_key:
            most = self._config.max_provider_key
            effects.append(LookupFailed(op, InvalidArgument(f"provider key of {len(key)} bytes, from 1 to {most}")))
            return
        search = ProviderSearch(self._config, op, key, count, self._local)
        own = [(peer, self._known(peer, addresses)) for peer, addresses in self.providers.get(key, now)]
        if search.found(own, effects):
            effects.append(ProvidersCompleted(op, 0))
        else:
            self._begin(op, key, search, now, effects)

    # ---------------------------------------------------------------- inside

    def _begin(self, op: int, key: bytes, search: Search, now: float, effects: list[KademliaEffect]) -> None:
        try:
            self._pool.request(Lookup(self._config, key, op=op, search=search), now, effects)
        except QueueFull as refusal:
            effects.append(LookupFailed(op, refusal))

    def _deliver(self, delivery: StoreDelivery, now: float, effects: list[KademliaEffect]) -> None:
        assert delivery.op is not None, "only what an app asked for is delivered so"
        if not delivery.asked:
            effects.append(StoreCompleted(delivery.op, 0, 0))
        elif not self.deliveries.begin(delivery, now, effects):
            error = QueueFull(f"{len(self.deliveries)} records are on their way, and no more may be")
            effects.append(LookupFailed(delivery.op, error))

    def _keep(self, key: bytes, value: bytes, now: float) -> None:
        """Our own copy is one of many: it may be refused for want of room."""
        with suppress(ResourceExhausted, TooLarge):
            self.values.put(key, value, now)

    def _check_key(self, key: bytes) -> None:
        if not 0 < len(key) <= self._config.max_key:
            raise InvalidArgument(f"key of {len(key)} bytes, from 1 to {self._config.max_key}")

    def _timestamp(self, moment: float) -> str:
        """RFC 3339, with nanoseconds as go-libp2p writes them; js-libp2p takes any fraction."""
        at = _EPOCH + timedelta(seconds=moment + self._epoch)
        return at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def _wall_seconds(text: str) -> float | None:
    """RFC 3339 to seconds since 1970; None for what is none."""
    if not text or len(text) > 40:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment - _EPOCH).total_seconds() if moment.tzinfo is not None else None


REFUSALS: tuple[type[SidecarError], ...] = (ProtocolError, InvalidArgument, Outdated, TooLarge, ResourceExhausted)
"""What a request is refused for."""
