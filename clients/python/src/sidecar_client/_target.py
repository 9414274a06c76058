"""Where the sidecar is: the forms of a target, where it is taken from, and what may be sent to it."""

import ipaddress
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from . import places
from .errors import InvalidArgument, SidecarUnavailable

_TLS = "tls://"
_PATHS = ("/", "./", "../", "~/")
_MAX_PATH = 107  # bytes; sockaddr_un, less its NUL
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+(%\w+)?\]|[^\s:/\[\]@?#]+):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Target:
    """A place where a sidecar answers."""

    text: str  # as it is shown
    address: str  # as gRPC wants it
    source: str  # who named it, in words
    tls: bool = False
    private: bool = False  # what is sent there does not leave this machine

    def __str__(self) -> str:
        return self.text


def find(given: str | None) -> Target:
    """The target given, else that of `SIDECAR_API`, else `SIDECAR_API_SOCKET`, else a sidecar's default socket.

    Raises InvalidArgument, and SidecarUnavailable where the default socket's directory is not ours alone.
    """
    if given:
        return parse(given, "as given")
    named = os.environ.get("SIDECAR_API")
    if named:
        return parse(named, "from SIDECAR_API")
    configured = os.environ.get("SIDECAR_API_SOCKET")
    if configured:
        return _socket(configured, "from SIDECAR_API_SOCKET")
    path = places.default_socket()
    _check_ours(path.parent)
    return _socket(str(path), "the default, SIDECAR_API is not set")


def parse(text: str, source: str) -> Target:
    """A target from its text: `unix:PATH`, a path, `HOST:PORT` or `tls://HOST:PORT`. Raises InvalidArgument."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path:
            raise _malformed(text, source)
        return _socket(path, source)
    if text.startswith(_PATHS):
        return _socket(text, source)
    tls = text.startswith(_TLS)
    address = text.removeprefix(_TLS)
    found = _HOST_PORT.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 65_536:
        raise _malformed(text, source)
    return Target(text, address, source, tls=tls, private=_loopback(found["host"]))


def _socket(path: str, source: str) -> Target:
    """The socket at a path, which is taken as it is: nothing in it is an escape. Raises InvalidArgument.

    It is made absolute now: a relative one would be another after `chdir`.
    """
    try:
        whole = _plain(_absolute(places.expand_home(path)))
    except OSError as error:
        raise InvalidArgument(
            f"{path} ({source}) counts from the current directory, which is gone: {error.strerror}", field="target"
        ) from None
    except ValueError as error:
        raise InvalidArgument(f"{error} ({source})", field="target") from None
    encoded = os.fsencode(whole)
    if b"\0" in encoded:
        raise InvalidArgument(f"the path of a Unix socket holds no NUL: {whole!r} ({source})", field="target")
    if len(encoded) > _MAX_PATH:
        raise InvalidArgument(
            f"the path of a Unix socket has at most {_MAX_PATH} bytes, this one has {len(encoded)}: {_shown(whole)}",
            field="target",
        )
    # gRPC reads a URI here, so what has a meaning in one is escaped; so are bytes that are no UTF-8.
    return Target(f"unix:{_shown(whole)}", f"unix:{quote(encoded)}", source, private=True)


def _absolute(path: str) -> str:
    return path if path.startswith("/") else os.path.join(os.getcwd(), path)


def _plain(path: str) -> str:
    """Without `.` between the slashes and with single slashes; `..` stays, for it may lead out of a symbolic link."""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def _shown(path: str) -> str:
    """For people and logs: one line, and text that can be encoded."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _malformed(text: str, source: str) -> InvalidArgument:
    forms = "unix:PATH, a path that begins with / ./ ../ or ~/, HOST:PORT or tls://HOST:PORT"
    return InvalidArgument(f"target {text!r} ({source}) is none of these: {forms}", field="target")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check_ours(directory: Path) -> None:
    """Another user must not be able to pose as our sidecar. Raises SidecarUnavailable."""
    try:
        found = os.lstat(directory)
    except OSError:
        return  # nobody serves there; connecting will say so
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise SidecarUnavailable(f"{directory} is not a directory that only this user can write to; it is not trusted")
