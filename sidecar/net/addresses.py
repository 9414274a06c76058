"""What dialling has taught about addresses: which answered last, and which are not to be tried again yet."""

import ipaddress
import random
from collections import OrderedDict
from typing import NamedTuple

from .config import NetConfig
from .resolve import Target

_JITTER = 0.25  # of a back-off, so that a mesh does not come back in step; a guess


class _Record(NamedTuple):
    succeeded_at: float | None
    failures: int
    not_before: float


_NOTHING = _Record(None, 0, 0.0)


class AddressBook:
    """A bounded table of endpoints, the least recently tried forgotten first.

    A failure belongs to an endpoint together with the peer expected there: another peer may well answer.
    """

    __slots__ = ("_config", "_records", "_rng")

    def __init__(self, config: NetConfig, rng: random.Random) -> None:
        self._config = config
        self._rng = rng
        self._records: OrderedDict[tuple[str, int, str, bytes], _Record] = OrderedDict()

    def succeeded(self, target: Target, now: float) -> None:
        self._put(target, _Record(now, 0, 0.0))

    def failed(self, target: Target, now: float) -> None:
        """Exponential back-off: `backoff_base` seconds after the first failure in a row, doubling to `backoff_max`."""
        record = self._records.get(_key(target), _NOTHING)
        config = self._config
        delay = min(config.backoff_max, config.backoff_base * 2.0 ** min(record.failures, 32))
        delay *= 1 + _JITTER * (2 * self._rng.random() - 1)
        self._put(target, _Record(record.succeeded_at, record.failures + 1, now + delay))

    def wait(self, target: Target, now: float) -> float:
        """Seconds until the endpoint may be tried again; 0 when it may be now."""
        return max(0.0, self._records.get(_key(target), _NOTHING).not_before - now)

    def order(self, targets: list[Target]) -> list[Target]:
        """Best first: what answered last, plain TCP before WebSocket, which costs more, then loopback, private and
        public addresses (near ones fail fast)."""

        def rank(target: Target) -> tuple[float, bool, int]:
            succeeded_at = self._records.get(_key(target), _NOTHING).succeeded_at
            latest = -succeeded_at if succeeded_at is not None else float("inf")
            return latest, target.endpoint.websocket, _distance(target.host)

        return sorted(targets, key=rank)

    def __len__(self) -> int:
        return len(self._records)

    def _put(self, target: Target, record: _Record) -> None:
        key = _key(target)
        self._records[key] = record
        self._records.move_to_end(key)
        if len(self._records) > self._config.address_entries:
            self._records.popitem(last=False)


def _key(target: Target) -> tuple[str, int, str, bytes]:
    return target.host, target.port, target.endpoint.suffix, target.expected or b""


def _distance(host: str) -> int:
    address = ipaddress.ip_address(host.partition("%")[0])
    return 0 if address.is_loopback else 1 if address.is_private else 2
