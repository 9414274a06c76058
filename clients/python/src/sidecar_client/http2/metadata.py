"""What calls say beside their messages, as HTTP/2's headers (`grpc/doc/PROTOCOL-HTTP2.md`)."""

import base64
import re
from collections.abc import Iterable
from urllib.parse import quote, unquote_to_bytes

from .binding import Headers

_AT_AN_END = re.compile(r"^ +| +$")
_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


def encoded(metadata: Iterable[tuple[str, str | bytes]]) -> Headers:
    """Metadata as headers."""
    return tuple(
        (key.encode(), base64.b64encode(value) if isinstance(value, bytes) else value.encode())
        for key, value in metadata
    )


def decoded(value: bytes) -> list[bytes]:
    """The values of a binary header: base64 with or without padding, several joined by commas. Raises ValueError."""
    return [base64.b64decode(part + b"=" * (-len(part) % 4), validate=True) for part in value.split(b",")]


def quoted(message: str) -> bytes:
    """A status' text as `grpc-message`. A space at an end would make the header malformed (RFC 9113, section 8.2.1)."""
    return _AT_AN_END.sub(lambda found: "%20" * len(found[0]), quote(message, safe=_PLAIN)).encode()


def unquoted(value: bytes) -> str:
    """The text of a `grpc-message`, whatever a server has put there."""
    return unquote_to_bytes(value).decode(errors="replace")
