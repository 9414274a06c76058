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
    return _header.pack(VERSION, kind, flags, stream, length)


class SeenStreams:
    """Which streams the remote has opened, in constant space, so that no number is ever used twice.

    Numbers come in order, but for implementations that draw one and send it later from another thread: of those
    skipped, the last `_SKIPPED` may still come.
    """

    __slots__ = ("_highest", "_skipped")

    _SKIPPED = 256  # specs yamux, "ACK backlog": nobody has more streams on their way

    def __init__(self, parity: int) -> None:
        """`parity`: 1 when the remote is the client, else 0."""
        self._highest = parity - 2
        self._skipped: dict[int, None] = {}

    def add(self, stream: int) -> None:
        """Raises ProtocolError when the number is not the remote's to use, or was used before."""
        if stream == 0 or (stream - self._highest) % 2:
            raise ProtocolError(f"the remote opened stream {stream}, a number that is not its to use")
        if stream > self._highest:
            first = max(self._highest + 2, stream - 2 * self._SKIPPED)
            self._skipped.update(dict.fromkeys(range(first, stream, 2)))
            self._skipped.pop(0, None)
            while len(self._skipped) > self._SKIPPED:
                del self._skipped[next(iter(self._skipped))]
            self._highest = stream
        elif stream in self._skipped:
            del self._skipped[stream]
        else:
            raise ProtocolError(f"the remote opened stream {stream} a second time")

    def __contains__(self, stream: int) -> bool:
        return stream <= self._highest and stream not in self._skipped
