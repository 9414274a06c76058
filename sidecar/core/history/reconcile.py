"""Which keys one of two nodes has and the other lacks, found by comparing ranges of their sorted sets.

The messages are those of Negentropy, protocol version 1, with all timestamps 0 and keys for ids: both sides walk over
the same space of keys, range by range. Of a range each tells a fingerprint of its keys, or the keys themselves where
they are few; a range whose fingerprints differ is cut into smaller ones. The asking side learns the difference.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from ..classes import NamedTuple
from ..errors import ProtocolError
from ..parameters.history import KEY, MAX_RECONCILE

VERSION = 0x61  # of the messages: Negentropy's version 1
_SKIP, _FINGERPRINT, _LIST = range(3)
_DIGEST = 16  # bytes of a fingerprint
_PARTS = 16  # into which a range is cut, as in Negentropy's own implementations
_FEW = 2 * _PARTS  # keys of a range that are told themselves, if less
_MODULUS = 1 << 256
_RESERVE = 2048  # bytes that the parts of one range take at most, and the last one
_END = b"\xff" * (KEY + 1)  # behind all keys


class KeySet:
    """Keys in order, without repeats, and what fingerprints of their ranges take."""

    __slots__ = ("_sums", "keys")

    def __init__(self, keys: Sequence[bytes]) -> None:
        """`keys`: 32 bytes each, sorted, each once."""
        self.keys = keys
        self._sums: list[int] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def at(self, bound: bytes) -> int:
        """How many keys come before the bound."""
        return bisect_left(self.keys, bound)

    def fingerprint(self, low: int, high: int) -> bytes:
        """16 bytes that are the same for the same keys: those of these places."""
        if self._sums is None:
            self._sums = list(accumulate((int.from_bytes(key, "little") for key in self.keys), initial=0))
        total = (self._sums[high] - self._sums[low]) % _MODULUS
        return hashlib.sha256(total.to_bytes(32, "little") + _varint(high - low)).digest()[:_DIGEST]


class Compared(NamedTuple):
    """What came of one message. `answer`: what to send, None where all is known: only the asking side sees that.

    `have`: keys that the other side lacks; `need`: those that this one lacks; both for the asking side alone. A key may
    come up again in a later message.
    """

    answer: bytes | None
    have: list[bytes]
    need: list[bytes]


def opening(keys: KeySet) -> bytes:
    """The first message, of the asking side."""
    out = _Writer()
    _cut(keys, 0, len(keys), _END, out)
    return bytes(out.data)


def answer(keys: KeySet, message: bytes, limit: int = MAX_RECONCILE) -> bytes:
    """What the asked side says to a message. Raises ProtocolError."""
    return bytes(_walk(keys, message, limit, [], [], asking=False).data)


def compare(keys: KeySet, message: bytes, limit: int = MAX_RECONCILE) -> Compared:
    """What the asking side makes of an answer. Raises ProtocolError."""
    have: list[bytes] = []
    need: list[bytes] = []
    out = _walk(keys, message, limit, have, need, asking=True)
    return Compared(bytes(out.data) if len(out.data) > 1 else None, have, need)


def _walk(keys: KeySet, message: bytes, limit: int, have: list[bytes], need: list[bytes], *, asking: bool) -> "_Writer":
    """Go through the ranges of a message and write what to say to each."""
    out = _Writer()
    low = 0
    for lower, upper, mode, payload in _ranges(message):
        high = keys.at(upper)
        full = False
        if mode == _LIST:
            theirs = _listed(payload, lower, upper)
            if asking:
                _tell_apart(keys.keys[low:high], theirs, have, need)
                out.skip(upper)
            elif len(theirs) == high - low and all(key in theirs for key in keys.keys[low:high]):
                out.skip(upper)
            else:
                fitting = max(1, (limit - _RESERVE - len(out.data)) // KEY)
                if fitting < high - low:  # the rest of the range is for a later message
                    full, high = True, low + fitting
                    upper = _between(keys.keys[high - 1], keys.keys[high])
                out.listed(upper, keys.keys[low:high])
        elif mode == _SKIP or payload == keys.fingerprint(low, high):
            out.skip(upper)
        else:
            _cut(keys, low, high, upper, out)
        if full or (upper is not _END and len(out.data) > limit - _RESERVE):
            out.fingerprint(_END, keys.fingerprint(high, len(keys)))
            return out
        low = high
    return out


def _cut(keys: KeySet, low: int, high: int, upper: bytes, out: "_Writer") -> None:
    """Tell of a range that differs: its keys if they are few, else the fingerprints of its parts."""
    count = high - low
    if count < _FEW:
        out.listed(upper, keys.keys[low:high])
        return
    each, longer = divmod(count, _PARTS)  # the first parts have one more
    places = [low + each * part + min(part, longer) for part in range(_PARTS + 1)]
    for begin, end in pairwise(places):
        bound = upper if end == high else _between(keys.keys[end - 1], keys.keys[end])
        out.fingerprint(bound, keys.fingerprint(begin, end))


def _between(before: bytes, after: bytes) -> bytes:
    """The shortest bound that has one key before it and the next one not."""
    same = next(place for place in range(KEY) if before[place] != after[place])
    return after[: same + 1]


def _tell_apart(own: Sequence[bytes], theirs: dict[bytes, None], have: list[bytes], need: list[bytes]) -> None:
    known = dict.fromkeys(own)
    have += [key for key in own if key not in theirs]
    need += [key for key in theirs if key not in known]


# ---------------------------------------------------------------- bytes


class _Writer:
    """Puts a message together. Ranges that are skipped are joined, and left out at the end."""

    __slots__ = ("_skipped", "data")

    def __init__(self) -> None:
        self.data = bytearray((VERSION,))
        self._skipped: bytes | None = None

    def skip(self, upper: bytes) -> None:
        self._skipped = upper

    def fingerprint(self, upper: bytes, digest: bytes) -> None:
        self._range(upper, _FINGERPRINT)
        self.data += digest

    def listed(self, upper: bytes, keys: Sequence[bytes]) -> None:
        self._range(upper, _LIST)
        self.data += _varint(len(keys))
        self.data += b"".join(keys)

    def _range(self, upper: bytes, mode: int) -> None:
        if self._skipped is not None:
            self._bound(self._skipped)
            self.data.append(_SKIP)
            self._skipped = None
        self._bound(upper)
        self.data.append(mode)

    def _bound(self, bound: bytes) -> None:
        """Infinity is a timestamp of 0, without an id; the timestamp 0 itself is 1."""
        self.data += b"\x00\x00" if bound is _END else bytes((1, len(bound))) + bound


def _varint(value: int) -> bytes:
    """Negentropy's: seven bits a byte, those of most weight first."""
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(reversed(digits))


def _ranges(message: bytes) -> Iterator[tuple[bytes, bytes, int, bytes]]:
    """The ranges of a message: lower and upper bound, mode and payload; of a list, its keys. Raises ProtocolError."""
    reader = _Reader(message)
    if reader.byte() != VERSION:
        raise ProtocolError(f"reconciliation of version {message[0]:#x}, known is {VERSION:#x}")
    lower = b""
    while lower is not _END and not reader.at_end:
        upper = reader.bound()
        if upper < lower:
            raise ProtocolError("ranges that are not in order")
        mode = reader.varint()
        if mode == _SKIP:
            payload = b""
        elif mode == _FINGERPRINT:
            payload = reader.take(_DIGEST)
        elif mode == _LIST:
            payload = reader.take(reader.varint() * KEY)
        else:
            raise ProtocolError(f"range of the unknown mode {mode}")
        yield lower, upper, mode, payload
        lower = upper
    if not reader.at_end:
        raise ProtocolError("ranges behind the last one")


def _listed(payload: bytes, lower: bytes, upper: bytes) -> dict[bytes, None]:
    """The keys of a list. Raises ProtocolError where one is outside of its range."""
    keys = dict.fromkeys(payload[start : start + KEY] for start in range(0, len(payload), KEY))
    if keys and not (min(keys) >= lower and max(keys) < upper):
        raise ProtocolError("a key outside of its range")
    return keys


class _Reader:
    """Takes a message apart; every step raises ProtocolError where the bytes end too early."""

    __slots__ = ("_data", "_place")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def at_end(self) -> bool:
        return self._place == len(self._data)

    def take(self, size: int) -> bytes:
        end = self._place + size
        if end > len(self._data):
            raise ProtocolError(f"reconciliation ends after {len(self._data)} bytes, {end} are announced")
        taken = self._data[self._place : end]
        self._place = end
        return taken

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        value = 0
        for _ in range(5):  # more than 35 bits are no size of anything here
            digit = self.byte()
            value = value << 7 | digit & 0x7F
            if digit < 0x80:
                return value
        raise ProtocolError("a number of more than five bytes")

    def bound(self) -> bytes:
        timestamp, size = self.varint(), self.varint()
        if timestamp > 1 or size > KEY or (timestamp == 0 and size):
            raise ProtocolError(f"bound with the timestamp {timestamp} and {size} bytes of a key")
        prefix = self.take(size)
        return prefix.rstrip(b"\0") if timestamp else _END  # what is left out of a bound is zeros
