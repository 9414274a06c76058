"""yamux frames: twelve bytes of header, and a body behind those of data (specs yamux, "Framing")."""

from struct import Struct

from ..errors import ProtocolError

DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
NORMAL, PROTOCOL_ERROR, INTERNAL_ERROR = range(3)  # codes of a go-away
HEADER = 12
VERSION = 0
MAX_STREAM = 2**32 - 1
_header = Struct(">BBHII")  # version, type, flags, stream, length
parse = _header.unpack_from


def pack(kind: int, flags: int, stream: int, length: int) -> bytes:
    """A header. `length`: bytes of body of data; else what the window grows by, the ping's value, or the code."""
    return _header.pack(VERSION, kind, flags, stream, length)


class SeenStreams:
    """Which streams the remote has opened, in constant space, so that no number is ever used twice.

    Numbers come in order, but for implementations that draw one and send it later from another thread: the last
    `_GAPS` gaps may still be filled.
    """

    __slots__ = ("_gaps", "_highest")

    _GAPS = 32  # a guess: so many threads would have to open streams in one instant

    def __init__(self, parity: int) -> None:
        """`parity`: 1 when the remote is the client, else 0."""
        self._highest = -parity
        self._gaps: list[tuple[int, int]] = []  # (first, last) numbers skipped, in order

    def add(self, stream: int) -> None:
        """Raises ProtocolError when the number is not the remote's to use, or was used before."""
        if stream == 0 or (stream - self._highest) % 2:
            raise ProtocolError(f"the remote opened stream {stream}, a number that is not its to use")
        if stream > self._highest:
            fresh = [(self._highest + 2, stream - 2)]
            place = len(self._gaps)
            self._highest = stream
        else:
            place = self._gap(stream)
            if place < 0:
                raise ProtocolError(f"the remote opened stream {stream} a second time")
            first, last = self._gaps.pop(place)
            fresh = [(first, stream - 2), (stream + 2, last)]
        self._gaps[place:place] = [gap for gap in fresh if gap[0] <= gap[1]]
        del self._gaps[: -self._GAPS]

    def __contains__(self, stream: int) -> bool:
        return stream <= self._highest and self._gap(stream) < 0

    def _gap(self, stream: int) -> int:
        """The place of the gap that the number is in, else -1."""
        for place, (first, last) in enumerate(self._gaps):
            if first <= stream <= last:
                return place
        return -1
