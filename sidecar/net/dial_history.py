"""What dialling has taught about endpoints: who answered there last, and what is not to be tried again yet."""

import ipaddress
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import chain, groupby, zip_longest

from ..core.classes import NamedTuple
from ..core.peers import KnownAddress
from ..core.types import KnownEndpoint, PeerId
from .config import NetConfig
from .resolve import Target

_JITTER = 0.25  # of a back-off, so that a mesh does not come back in step; a guess
_IDENTITIES = 8  # whose attempts at one endpoint are remembered; a guess: who claims one in vain is rarely honest


class EndpointTried(NamedTuple):
    """News for the app: what an attempt has taught. `failed`: the peer that was not found there."""

    endpoint: KnownEndpoint
    failed: PeerId | None


class _Record(NamedTuple):
    """How attempts to find one identity at an endpoint went."""

    succeeded_at: float | None
    failures: int
    not_before: float


_NOTHING = _Record(None, 0, 0.0)
_Rank = tuple[bool, int, float, bool, int]


class _Endpoint:
    __slots__ = ("failures", "holder", "not_before", "records")

    def __init__(self) -> None:
        self.holder: PeerId | None = None
        self.failures = 0
        self.not_before = 0.0
        self.records: OrderedDict[bytes, _Record] = OrderedDict()


class DialHistory:
    """A bounded table of endpoints (host, port, and what is spoken there), the least recently tried forgotten first.

    A failure counts twice. For the peer that was expected there, with a long back-off. And for the endpoint, whoever is
    expected, with a shorter one: else one that is named under ever new ids would be dialled for each of them. Who
    answered there last is not held off for what others are said to be there, and a peer that has moved there waits for
    the shorter back-off at most.
    """

    __slots__ = ("_config", "_endpoints", "_on_tried", "_rng")

    def __init__(
        self, config: NetConfig, rng: random.Random, on_tried: Callable[[EndpointTried], None] = lambda news: None
    ) -> None:
        """`rng`: for the jitter of back-offs. `on_tried`: called when an attempt has taught something worth keeping."""
        self._config = config
        self._rng = rng
        self._on_tried = on_tried
        self._endpoints: OrderedDict[tuple[str, int, str], _Endpoint] = OrderedDict()

    def restore(self, endpoints: Iterable[KnownEndpoint], now: float) -> None:
        """Know what an earlier run has learned, the most recent last.

        One that failed waits as after its last failure, counted from now, for nobody knows how long the pause was.
        """
        limit = min(self._config.backoff_max, self._config.endpoint_backoff_max)
        for host, port, suffix, holder, failures in endpoints:
            endpoint = self._touch((host, port, suffix))
            endpoint.holder, endpoint.failures = holder, max(0, failures)
            if failures > 0:
                endpoint.not_before = now + self._delay(failures - 1, limit)

    def succeeded(self, target: Target, now: float, holder: PeerId | None = None) -> None:
        """The peer expected there, or with none expected `holder`, has answered: all back-off of the endpoint ends."""
        endpoint = self._touch(_key(target))
        before = endpoint.holder, endpoint.failures
        endpoint.holder = target.expected or holder or endpoint.holder
        endpoint.failures, endpoint.not_before = 0, 0.0
        self._record(endpoint, target, _Record(now, 0, 0.0))
        if before != (endpoint.holder, 0) and target.relay is None:
            self._on_tried(EndpointTried(KnownEndpoint(*_key(target), endpoint.holder, 0), None))

    def failed(self, target: Target, now: float, holder: PeerId | None = None) -> None:
        """Begin or lengthen the exponential back-off, which doubles from `backoff_base` seconds.

        It goes to `backoff_max` for the peer that was expected, to `endpoint_backoff_max` for the endpoint.
        `holder`: the peer that answered in the place of the one expected. With none expected, the failure says nothing
        of peers: such addresses are configured, with a back-off of their own.
        """
        config, endpoint = self._config, self._touch(_key(target))
        record = endpoint.records.get(target.expected or b"", _NOTHING)
        delay = self._delay(record.failures, config.backoff_max)
        self._record(endpoint, target, _Record(record.succeeded_at, record.failures + 1, now + delay))
        endpoint.holder = holder or endpoint.holder
        if target.expected is not None:
            if endpoint.failures and now - endpoint.not_before > config.backoff_max:  # long ago
                endpoint.failures = 0
            limit = min(config.backoff_max, config.endpoint_backoff_max)
            endpoint.not_before = now + self._delay(endpoint.failures, limit)
            endpoint.failures += 1
        if target.relay is None:
            known = KnownEndpoint(*_key(target), endpoint.holder, endpoint.failures)
            self._on_tried(EndpointTried(known, target.expected))

    def wait(self, target: Target, now: float, *, trusted: bool = False) -> float:
        """Seconds until the endpoint may be tried for the peer expected there; 0 when it may be now.

        `trusted`: a peer that this node is configured to reach is held off by its own failures alone, as are whoever
        answered there last and a dial of the address without a peer.
        """
        endpoint = self._endpoints.get(_key(target))
        if endpoint is None:
            return 0.0
        until = endpoint.records.get(target.expected or b"", _NOTHING).not_before
        if not trusted and self.is_stranger(target):
            until = max(until, endpoint.not_before)
        return max(0.0, until - now)

    def is_stranger(self, target: Target) -> bool:
        """Whether another peer than the one that answered there last is expected, or nobody has answered yet."""
        return target.expected is not None and target.expected != self.holder(target)

    def holder(self, target: Target) -> PeerId | None:
        """Who answered there last."""
        endpoint = self._endpoints.get(_key(target))
        return endpoint.holder if endpoint is not None else None

    def order(self, targets: list[Target], known: Iterable[KnownAddress] = ()) -> list[Target]:
        """Best first: where it answered last, then what was never tried, then what failed; behind all of them, relays.

        Of those that are alike so far, plain TCP goes before WebSocket, which costs more, and near before far
        (loopback, private, public), for near ones fail fast. What is still alike is IPv6 and IPv4 by turns (RFC 8305
        section 4), so that neither waits for all of the other. `known`: what the core knows of addresses, from earlier
        runs too.
        """
        notes = {note.address: note for note in known}

        def rank(target: Target) -> _Rank:
            endpoint = self._endpoints.get(_key(target))
            record = endpoint.records.get(target.expected or b"") if endpoint is not None else None
            note = notes.get(target.by_number()) or notes.get(target.address)
            order = 1, 0.0
            if record is not None and (record.succeeded_at is not None or note is None):
                failing = record.failures > 0
                latest = record.succeeded_at
                order = ((2 if failing else 0), -latest) if latest is not None else ((3 if failing else 1), 0.0)
            elif note is not None:
                order = note.order
            relayed = target.relay is not None
            return relayed, *order, target.endpoint.websocket, 0 if relayed else _distance(target.host)

        ordered: list[Target] = []
        for _, alike in groupby(sorted(targets, key=rank), key=rank):
            ordered += _by_turns(list(alike))
        return ordered

    def __len__(self) -> int:
        """Places remembered."""
        return len(self._endpoints)

    def _delay(self, failures: int, limit: float) -> float:
        delay = min(limit, self._config.backoff_base * 2.0 ** min(failures, 32))
        return delay * (1 - _JITTER * self._rng.random())

    def _touch(self, key: tuple[str, int, str]) -> _Endpoint:
        endpoint = self._endpoints.get(key)
        if endpoint is None:
            endpoint = self._endpoints[key] = _Endpoint()
            if len(self._endpoints) > self._config.max_endpoints:
                self._endpoints.popitem(last=False)
        else:
            self._endpoints.move_to_end(key)
        return endpoint

    def _record(self, endpoint: _Endpoint, target: Target, record: _Record) -> None:
        key = target.expected or b""
        endpoint.records[key] = record
        endpoint.records.move_to_end(key)
        if len(endpoint.records) > _IDENTITIES:
            kept = bytes(endpoint.holder or b"")
            del endpoint.records[next(other for other in endpoint.records if other != kept)]


def _key(target: Target) -> tuple[str, int, str]:
    return target.host, target.port, target.endpoint.suffix


def _by_turns(targets: list[Target]) -> list[Target]:
    """The same, IPv6 and IPv4 by turns."""
    six = [target for target in targets if ":" in target.host]
    four = [target for target in targets if ":" not in target.host]
    if not six or not four:
        return targets
    turns = chain.from_iterable(zip_longest(six, four))
    return [target for target in turns if target is not None]


def _distance(host: str) -> int:
    address = ipaddress.ip_address(host.partition("%")[0])
    return 0 if address.is_loopback else 1 if address.is_private else 2
