"""As much HTTP as UPnP takes: an answer, of bounded size, read as it comes (RFC 9112)."""

from ..classes import NamedTuple
from ..errors import ProtocolError

MAX_HEAD = 8192  # bytes of status line and headers; a guess
MAX_BODY = 131_072  # bytes; a guess: descriptions of gateways have some 5,000


class HttpAnswer(NamedTuple):
    """An answer with its body."""

    status: int
    body: bytes


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """The status and the headers, their names in lower case, of an answer's head. Raises ProtocolError."""
    lines = head.decode("latin-1").replace("\r\n", "\n").split("\n")
    version, _, rest = lines[0].partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not (status.isascii() and status.isdigit() and len(status) == 3):
        raise ProtocolError(f"no HTTP answer: {lines[0][:80]!r}")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if line and not colon:
            raise ProtocolError(f"no header of HTTP: {line[:80]!r}")
        headers.setdefault(name.strip().lower(), value.strip())
    return int(status), headers


class HttpReader:
    """Takes the bytes of one answer."""

    def __init__(self, max_body: int = MAX_BODY) -> None:
        self._max_body = max_body
        self._buffer = bytearray()
        self._status = 0
        self._length: int | None = None  # None: chunked, or to the end
        self._chunked = False
        self._body = bytearray()
        self._in_body = False
        self._heads = 0  # bytes
        self._left = 0  # of a chunk, with the line end behind it

    def receive(self, data: bytes) -> HttpAnswer | None:
        """Take some more bytes; the answer, once it is whole. Raises ProtocolError, as soon as it is too large."""
        self._buffer += data
        if not self._in_body and not self._read_head():
            return None
        if self._chunked:
            return self._read_chunks()
        if self._length is not None and len(self._buffer) >= self._length:
            return HttpAnswer(self._status, bytes(self._buffer[: self._length]))
        if self._length is None and len(self._buffer) > self._max_body:
            raise ProtocolError(f"HTTP body of more than {self._max_body} bytes")
        return None

    def end(self) -> HttpAnswer:
        """No more bytes come. Raises ProtocolError where some are missing."""
        if not self._in_body or self._chunked or self._length is not None:
            raise ProtocolError("HTTP answer that is cut short")
        return HttpAnswer(self._status, bytes(self._buffer))

    def _read_head(self) -> bool:
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            size = 4
            if end < 0:
                end, size = self._buffer.find(b"\n\n"), 2
            if self._heads + (end if end >= 0 else len(self._buffer)) > MAX_HEAD:
                raise ProtocolError(f"HTTP head of more than {MAX_HEAD} bytes")
            if end < 0:
                return False
            self._status, headers = parse_head(bytes(self._buffer[:end]))
            del self._buffer[: end + size]
            self._heads += end + size
            if self._status >= 200:  # else one such as "100 Continue": the answer is still to come
                break
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length")
        if length is not None and not self._chunked:
            if not (length.isascii() and length.isdigit() and len(length) < 10) or int(length) > self._max_body:
                raise ProtocolError(f"HTTP body of {length[:20]} bytes, at most {self._max_body}")
            self._length = int(length)
        self._in_body = True
        return True

    def _read_chunks(self) -> HttpAnswer | None:
        while True:
            if self._left:
                taken = self._buffer[: self._left]
                del self._buffer[: self._left]
                self._left -= len(taken)
                self._body += taken
                if self._left:
                    return None
                del self._body[-2:]  # the line end
            end = self._buffer.find(b"\r\n")
            if end > 32 or (end < 0 and len(self._buffer) > 32):
                raise ProtocolError("HTTP chunk with a size of more than 32 characters")
            if end < 0:
                return None
            word = self._buffer[:end].partition(b";")[0].strip().decode("latin-1")
            try:
                size = int(word, 16)
            except ValueError:
                raise ProtocolError(f"HTTP chunk of size {word!r}") from None
            if size < 0 or len(self._body) + size > self._max_body:
                raise ProtocolError(f"HTTP body of more than {self._max_body} bytes")
            if not size:  # trailers are of no interest
                return HttpAnswer(self._status, bytes(self._body))
            del self._buffer[: end + 2]
            self._left = size + 2
