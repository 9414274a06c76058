"""UPnP's XML: the description of a gateway, and requests to its services with their answers (SOAP).

Documents are read by expat, with bounds and without document types: so no entity is ever defined, let alone fetched.
"""

import xml.parsers.expat as expat
from collections.abc import Callable, Iterator, Mapping

from ..classes import NamedTuple
from ..errors import ProtocolError

SERVICES = (  # those that map ports, the best first
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)
_MAX_DEPTH = 32  # elements within each other; guesses, as what follows
_MAX_ELEMENTS = 4096
_MAX_TEXT = 2048  # characters of an element
_MAX_SERVICES = 8


class UpnpService(NamedTuple):
    """A service that maps ports, and the URL that requests go to, as the description has it."""

    kind: str
    control: str


class Description(NamedTuple):
    """What a gateway says of itself; `base`: what URLs are relative to, empty where it does not say."""

    base: str
    services: tuple[UpnpService, ...]


class Fault(NamedTuple):
    """A request was refused (UPnP Device Architecture 1.1, section 3.2.2); the code is 0 where it does not say."""

    code: int
    description: str


def decode_description(document: bytes) -> Description:
    """The services of a description that map ports, the best first. Raises ProtocolError."""
    found: list[UpnpService] = []
    base = kind = control = ""
    for name, text in _elements(document):
        match name:
            case "URLBase":
                base = text
            case "serviceType":
                kind = text
            case "controlURL":
                control = text
            case "service":
                if kind in SERVICES and control and len(found) < _MAX_SERVICES:
                    found.append(UpnpService(kind, control))
                kind = control = ""
    return Description(base, tuple(sorted(found, key=lambda service: SERVICES.index(service.kind))))


def encode_action(service: str, action: str, arguments: Mapping[str, object]) -> bytes:
    """The body of a request. The values are this node's own: numbers, IP addresses, plain words."""
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in arguments.items())
    return (
        '<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{service}">{inner}</u:{action}></s:Body></s:Envelope>\r\n'
    ).encode()


def decode_answer(document: bytes, action: str) -> dict[str, str] | Fault:
    """What an action gave, by name. Raises ProtocolError."""
    found: dict[str, str] = {}
    for name, text in _elements(document):
        if name == f"{action}Response":
            return found
        found[name] = text
        if name == "Fault":
            code = found.get("errorCode", "")
            right = code.isascii() and code.isdigit() and len(code) < 6
            description = found.get("errorDescription", "")[:80]
            return Fault(int(code) if right else 0, description if description.isprintable() else "")
    raise ProtocolError(f"no answer to {action}")


def _elements(document: bytes) -> Iterator[tuple[str, str]]:
    """The elements in the order of their ends, each with the text directly in it. Raises ProtocolError."""
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse("document type")
    parser.EntityDeclHandler = _refuse("entity")
    try:
        parser.Parse(document, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the last two: encodings that are none
        raise ProtocolError(f"no XML: {error}") from None
    return iter(reader.found)


class _Reader:
    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        self._open: list[list[str]] = []  # the texts of the elements that are open
        self._sizes: list[int] = []
        self._count = 0

    def start(self, name: str, attributes: object) -> None:
        self._count += 1
        if len(self._open) == _MAX_DEPTH or self._count > _MAX_ELEMENTS:
            raise ProtocolError(f"XML of more than {_MAX_ELEMENTS} elements, or {_MAX_DEPTH} within each other")
        self._open.append([])
        self._sizes.append(0)

    def text(self, data: str) -> None:
        self._sizes[-1] += len(data)
        if self._sizes[-1] > _MAX_TEXT:
            if data.strip():
                raise ProtocolError(f"XML with a text of more than {_MAX_TEXT} characters")
            return  # indentation
        self._open[-1].append(data)

    def end(self, name: str) -> None:
        self._sizes.pop()
        self.found.append((name.rpartition(":")[2], "".join(self._open.pop()).strip()))


def _refuse(what: str) -> Callable[..., None]:
    def refuse(*about: object) -> None:
        raise ProtocolError(f"XML with a {what}")

    return refuse
