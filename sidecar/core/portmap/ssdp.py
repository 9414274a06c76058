"""Finding the gateway's UPnP description: a search by multicast, and an answer that looks like one of HTTP.

UPnP Device Architecture 1.1, section 1.3.
"""

from urllib.parse import urljoin, urlsplit

from ..errors import ProtocolError
from .http import parse_head

GROUP, PORT = "239.255.255.250", 1900
MAX_ANSWER = 4096  # bytes; a guess: real ones have some 400
_MAX_URL = 1024  # characters; a guess
_TARGETS = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)


def encode_searches() -> list[bytes]:
    """Searches for everything that can map ports: some gateways answer to one of these only."""
    head = f'M-SEARCH * HTTP/1.1\r\nHOST: {GROUP}:{PORT}\r\nMAN: "ssdp:discover"\r\nMX: 1\r\n'
    return [f"{head}ST: {target}\r\n\r\n".encode() for target in _TARGETS]


class Location(str):
    """A URL that leads to the gateway: `http://`, its IP address in digits, and what is behind that."""

    __slots__ = ()

    @property
    def port(self) -> int:
        """The TCP port."""
        return urlsplit(self).port or 80

    @property
    def path(self) -> str:
        """What to ask for there."""
        parts = urlsplit(self)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def location(url: str, gateway: str, base: str = "") -> Location:
    """A URL of the gateway, relative to `base`. Raises ProtocolError for one that leads anywhere else.

    Else whoever answers to a search, or alters a description, could have this node send requests to any host.
    """
    if len(url) > _MAX_URL or not all("!" <= character <= "~" for character in url):
        raise ProtocolError(f"no URL: {url[:80]!r}")
    try:
        whole = urljoin(base, url)
        parts = urlsplit(whole)
        leads = parts.scheme == "http" and parts.hostname == gateway and parts.username is None and parts.port != 0
    except ValueError:  # such as a port that is none
        leads = False
    if not leads or len(whole) > 2 * _MAX_URL:
        raise ProtocolError(f"the URL {url[:80]!r} does not lead to the gateway, {gateway}")
    return Location(whole)


def decode_answer(data: bytes, gateway: str) -> Location:
    """Where the description is. Raises ProtocolError for what is no answer to a search, or leads elsewhere."""
    if len(data) > MAX_ANSWER:
        raise ProtocolError(f"answer to a search of {len(data)} bytes, at most {MAX_ANSWER}")
    status, headers = parse_head(data.partition(b"\r\n\r\n")[0])
    if status != 200:
        raise ProtocolError(f"answer to a search with status {status}")
    target = headers.get("st", "")
    if target not in _TARGETS:
        raise ProtocolError(f"answer to a search for {target[:80]!r}, which was not asked for")
    return location(headers.get("location", ""), gateway)
