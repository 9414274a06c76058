"""How much a token may do: token buckets for what is counted by time, and counters for what is open at once."""

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from ...core.classes import NamedTuple
from ...core.errors import InvalidArgument
from ..common.faults import QuotaExceeded

_PERIODS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_RATE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) ?(B|KiB|MiB|GiB)?/([smh])", re.IGNORECASE)


class Rate(NamedTuple):
    """So much in a period of so many seconds, all of it at once if nothing was used for that long."""

    amount: float
    period: float
    text: str


class Quotas(NamedTuple):
    """What bounds a token; None: nothing does."""

    calls: Rate | None = None
    messages: Rate | None = None
    bytes: Rate | None = None
    streams: int | None = None
    subscriptions: int | None = None
    open_calls: int | None = None

    def described(self) -> dict[str, str | int]:
        """Those there are, as they are written; `read` takes it back."""
        named = {name: value for name, value in self._asdict().items() if value is not None}
        return {name: value.text if isinstance(value, Rate) else value for name, value in named.items()}


NONE = Quotas()
_UNLIMITED = nullcontext()
RATES = ("calls", "messages", "bytes")
COUNTS = ("streams", "subscriptions", "open_calls")


def read(values: Mapping[str, Any]) -> Quotas:
    """Quotas as they are written: rates as `100/s`, `6000/m` or `1MiB/s`, counts as whole numbers.

    Raises InvalidArgument.
    """
    unknown = [name for name in values if name not in Quotas._fields]
    if unknown:
        raise InvalidArgument(f"quota {unknown[0][:100]!r}: there are {', '.join(Quotas._fields)}")
    calls, messages, size = (_rate(name, values.get(name)) for name in RATES)
    streams, subscriptions, open_calls = (_count(name, values.get(name)) for name in COUNTS)
    return Quotas(calls, messages, size, streams, subscriptions, open_calls)


def _rate(name: str, value: object) -> Rate | None:
    if value is None:
        return None
    found = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or (found[2] and name != "bytes"):
        example = "1MiB/s" if name == "bytes" else "100/s"
        raise InvalidArgument(f"quota {name} = {str(value)[:100]!r}: a number and /s, /m or /h, such as {example}")
    amount = float(found[1]) * _UNITS[(found[2] or "").lower()]
    if amount < 1:
        raise InvalidArgument(f"quota {name} = {str(value)[:100]!r}: at least 1; choose a longer period")
    return Rate(amount, _PERIODS[found[3].lower()], found[0])


def _count(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 10**9:
        raise InvalidArgument(f"quota {name} = {str(value)[:100]!r}: a whole number")
    return value


class RateBucket:
    """Full at first, and filled at a steady rate. What is more than it holds is taken as debt once it is full."""

    def __init__(self, rate: Rate, now: float) -> None:
        """`now`: monotonic seconds, here and below."""
        self.rate = rate
        self._speed = rate.amount / rate.period
        self._level = rate.amount
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until so much may be taken; 0 if at once."""
        self._fill(now)
        return max(0.0, (min(amount, self.rate.amount) - self._level) / self._speed)

    def take(self, amount: float, now: float) -> float:
        """Take it, as debt where it is not there; returns the seconds after which none is left."""
        self._fill(now)
        self._level -= amount
        return max(0.0, -self._level / self._speed)

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._level = min(self.rate.amount, self._level + (now - self._at) * self._speed)
            self._at = now


class Meter:
    """What a token has used of its quotas.

    What comes alone is refused when it is too much (`call`, `spend`); what comes in a stream is to wait (`reserve`), so
    that the stream is read no faster than the quota. Both draw on the same buckets.
    """

    def __init__(self, name: str, quotas: Quotas, now: float) -> None:
        """`name`: of the token, for errors."""
        self._name = name
        self._quotas = quotas
        self._calls, self._messages, self._bytes = (
            RateBucket(rate, now) if rate is not None else None
            for rate in (quotas.calls, quotas.messages, quotas.bytes)
        )
        self.measured = quotas.messages is not None or quotas.bytes is not None
        """Whether messages need to be looked at for their size."""
        self._open = dict.fromkeys(COUNTS, 0)

    def call(self, now: float) -> None:
        """Another call. Raises QuotaExceeded."""
        if self._calls is not None:
            wait = self._calls.wait(1, now)
            if wait:
                raise self._exceeded("calls", self._calls.rate.text, wait)
            self._calls.take(1, now)

    def spend(self, messages: int, size: int, now: float) -> None:
        """Messages that came alone, with their encoded size in bytes: all of it or nothing. Raises QuotaExceeded."""
        counted = self._messages if messages else None
        weighed = self._bytes if size else None
        first = counted.wait(messages, now) if counted is not None else 0.0
        second = weighed.wait(size, now) if weighed is not None else 0.0
        if counted is not None and first and first >= second:
            raise self._exceeded("messages", counted.rate.text, first)
        if weighed is not None and second:
            raise self._exceeded("bytes", weighed.rate.text, second)
        if counted is not None:
            counted.take(messages, now)
        if weighed is not None:
            weighed.take(size, now)

    def reserve(self, messages: int, size: int, now: float) -> float:
        """Messages that came in a stream; returns for how many seconds they have to wait."""
        wait = 0.0
        if self._messages is not None and messages:
            wait = self._messages.take(messages, now)
        if self._bytes is not None and size:
            wait = max(wait, self._bytes.take(size, now))
        return wait

    def holding(self, name: str, count: int) -> AbstractContextManager[None]:
        """While so many of one of COUNTS are open. Raises QuotaExceeded."""
        limit = getattr(self._quotas, name)
        return _UNLIMITED if limit is None else self._holding(name, count, limit)

    @contextmanager
    def _holding(self, name: str, count: int, limit: int) -> Iterator[None]:
        if self._open[name] + count > limit:
            raise self._exceeded(name, str(limit), None)
        self._open[name] += count
        try:
            yield
        finally:
            self._open[name] -= count

    def _exceeded(self, quota: str, limit: str, wait: float | None) -> QuotaExceeded:
        then = "" if wait is None else f", used up for another {wait:.1f} s"
        what = quota.replace("_", " ")
        return QuotaExceeded(f"the token {self._name} has a quota of {limit} {what}{then}", quota, limit, wait)
