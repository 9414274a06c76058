"""Where the API is served: a Unix socket that is ours alone, and TCP on request."""

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import re
import socket
import stat
import zlib
from pathlib import Path
from urllib.parse import quote

from ...config.kinds import MAX_SOCKET_PATH
from ...core.errors import AddressInUse, ConfigError


def default_socket() -> Path:
    """Where the API is served when nothing else is said, by the rule that clients go by."""
    from sidecar_client import places  # not for all who look at sockets: it brings gRPC's client along

    return places.default_socket()


def prepare_default_directory(path: Path) -> None:
    """Make the per-user directory, or check that it is ours and 0700. Raises ConfigError where it is not."""
    directory = path.parent
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.lstat(directory)
    except OSError as error:
        raise ConfigError(f"directory {directory} of the API socket cannot be used: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{directory}, where the API socket belongs, is not a directory")
    if found.st_uid != os.getuid():
        raise ConfigError(f"directory {directory} of the API socket belongs to user {found.st_uid}, not to us")
    if stat.S_IMODE(found.st_mode) != 0o700:
        mode = stat.S_IMODE(found.st_mode)
        raise ConfigError(
            f"directory {directory} of the API socket has mode {mode:#o}, not 0700: chmod it, or set another"
        )


class SocketPlace:
    """A Unix socket's path, held by a lock on a file beside it, so that two sidecars never share it.

    The lock goes with the process however it ends; the socket file of a killed one is removed by the next. gRPC is
    given another name in the same directory, `.sidecar-...`, since it unlinks whatever has the name that it was given,
    when it begins and when it ends. The socket gets its own name when it is ready for use, and loses it only where it
    still has it.
    """

    def __init__(self, path: Path, *, mode: int, owner: str | None, group: str | None) -> None:
        """Take the lock. Raises AddressInUse when another sidecar holds it, ConfigError where the path is no use."""
        length = len(os.fsencode(path))
        if length > MAX_SOCKET_PATH:
            raise ConfigError(
                f"the path of a Unix socket has at most {MAX_SOCKET_PATH} bytes, this one has {length}: {path}"
            )
        self.path = path
        self._mode = mode
        self._owner = _user_id(owner)
        self._group = _group_id(group)
        self._made: os.stat_result | None = None
        self._lock = self._take_lock()
        self._directory = -1
        try:
            self._remove_stale()
            drafts = f".sidecar-{zlib.crc32(os.fsencode(path.name)):08x}-"  # short, for a path has few bytes
            self._sweep(drafts)
            self.drawn_up = path.with_name(f"{drafts}{os.urandom(4).hex()}")
            if len(os.fsencode(self.drawn_up)) > MAX_SOCKET_PATH:
                self._directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                self.drawn_up = Path(f"/proc/self/fd/{self._directory}/{self.drawn_up.name}")
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def target(self) -> str:
        """What gRPC is to bind. It reads a URI, so what has a meaning in one is escaped."""
        return f"unix:{quote(os.fsencode(self.drawn_up))}"

    def present(self) -> bool:
        """Whether the socket can still be found under its name."""
        try:
            return self._made is not None and os.path.samestat(self._made, os.lstat(self.path))
        except OSError:
            return False

    def _take_lock(self) -> int:
        name = self.path.with_name(self.path.name + ".lock")
        try:
            lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            remedy = "make its directory one that this user can write to, or choose another place with --socket"
            raise ConfigError(f"the API socket's lock {name} cannot be made: {error.strerror}; {remedy}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise AddressInUse(f"API socket {self.path} is served by another sidecar") from None
        return lock

    def _remove_stale(self) -> None:
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise ConfigError(f"{self.path}, where the API socket belongs, exists and is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            try:
                probe.connect(os.fsencode(self.path))
            except ConnectionRefusedError:
                os.unlink(self.path)  # nobody listens any more
            except BlockingIOError:  # somebody does, and is slow
                raise AddressInUse(f"API socket {self.path} is served by another program") from None
            except FileNotFoundError:
                pass
            except OSError as error:
                because = f"{self.path} is there, and whether it is in use cannot be told: {error.strerror}"
                raise ConfigError(f"{because}; remove it, or choose another place with --socket") from None
            else:
                raise AddressInUse(f"API socket {self.path} is served by another program")

    def _sweep(self, drafts: str) -> None:
        """Remove sockets of ours that a kill left without a name; nobody else draws one up while we hold the lock."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self.path.parent):
                if re.fullmatch(re.escape(drafts) + "[0-9a-f]{8}", name):
                    draft = self.path.with_name(name)
                    found = os.lstat(draft)
                    if stat.S_ISSOCK(found.st_mode) and found.st_uid == os.geteuid():
                        os.unlink(draft)

    def opened(self) -> None:
        """The socket has been bound: give it its owner, group and mode, and then its name.

        Raises ConfigError, AddressInUse.
        """
        if self._owner is not None or self._group is not None:
            try:
                os.chown(
                    self.drawn_up,
                    -1 if self._owner is None else self._owner,
                    -1 if self._group is None else self._group,
                )
            except OSError as error:
                whom = " ".join(
                    f"{what} {number}"
                    for what, number in (("user", self._owner), ("group", self._group))
                    if number is not None
                )
                raise ConfigError(
                    f"the API socket cannot be given to {whom}: {error.strerror}; only root may give to another user, "
                    "and others only to groups that they are in"
                ) from None
        try:
            os.chmod(self.drawn_up, self._mode)
            made = os.lstat(self.drawn_up)
            try:
                os.link(self.drawn_up, self.path)  # unlike a rename, never replaces
                os.unlink(self.drawn_up)
            except PermissionError:  # a file system without hard links
                os.rename(self.drawn_up, self.path)
        except FileExistsError:
            raise AddressInUse(f"API socket {self.path} has been made by another program in this moment") from None
        except OSError as error:
            raise ConfigError(f"the API socket {self.path} cannot be made: {error.strerror}") from None
        self._made = made

    def release(self) -> None:
        """Remove the socket, where it is still ours that has the name, and let go of the lock."""
        with contextlib.suppress(OSError):
            if self.present():
                os.unlink(self.path)
        with contextlib.suppress(OSError):
            os.unlink(self.drawn_up)
        if self._directory >= 0:
            os.close(self._directory)
        os.close(self._lock)


def _user_id(owner: str | None) -> int | None:
    if not owner:
        return None
    if owner.isdigit():
        return int(owner)
    try:
        return pwd.getpwnam(owner).pw_uid
    except KeyError:
        raise ConfigError(f"socket owner {owner!r} does not exist") from None


def _group_id(group: str | None) -> int | None:
    if not group:
        return None
    if group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"socket group {group!r} does not exist") from None


def not_bound(address: str, error: Exception) -> AddressInUse | ConfigError:
    """Why a TCP address cannot be had: gRPC does not say it, so it is tried again by hand. `error`: what gRPC said."""
    host, _, port = address.rpartition(":")
    try:
        family, kind, _, _, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            probe.listen(1)
    except OSError as reason:
        if reason.errno == errno.EADDRINUSE:
            return AddressInUse(f"API address {address} cannot be bound: the port is in use")
        return ConfigError(f"API address {address} cannot be bound: {reason.strerror}")
    return AddressInUse(f"API address {address} cannot be bound: {error}")  # it was taken only for that moment
