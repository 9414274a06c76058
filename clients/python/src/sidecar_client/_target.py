"""Where the sidecar is: the forms of a target, where it is taken from, and what may be sent to it."""

import ipaddress
import os
import re
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .errors import InvalidArgument, SidecarUnavailable

_TLS = "tls://"
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
    """The target given, else `SIDECAR_API`, else the Unix socket that a sidecar serves by default.

    Raises InvalidArgument, and SidecarUnavailable where the default socket's directory is not ours alone.
    """
    if given:
        return parse(given, "as given")
    named = os.environ.get("SIDECAR_API")
    if named:
        return parse(named, "from SIDECAR_API")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    directory = Path(runtime) / "sidecar" if runtime.startswith("/") else None
    if directory is None:
        directory = Path(tempfile.gettempdir()) / f"sidecar-{os.getuid()}"
    _check_ours(directory)
    return parse(f"unix:{directory / 'api.sock'}", "the default, SIDECAR_API is not set")


def parse(text: str, source: str) -> Target:
    """A target from its text: `unix:PATH`, a path, `HOST:PORT` or `tls://HOST:PORT`. Raises InvalidArgument."""
    if text.startswith(("/", "./", "../")):
        text = f"unix:{text}"
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path:
            raise _malformed(text, source)
        length = len(os.fsencode(path))
        if length > _MAX_PATH:
            raise InvalidArgument(
                f"the path of a Unix socket has at most {_MAX_PATH} bytes, this one has {length}: {path}",
                field="target",
            )
        return Target(text, text, source, private=True)
    tls = text.startswith(_TLS)
    address = text.removeprefix(_TLS)
    found = _HOST_PORT.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 65_536:
        raise _malformed(text, source)
    return Target(text, address, source, tls=tls, private=_loopback(found["host"]))


def _malformed(text: str, source: str) -> InvalidArgument:
    forms = "unix:PATH, a path that begins with / ./ or ../, HOST:PORT or tls://HOST:PORT"
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
