"""Checks of this machine: they need no sidecar that runs."""

import ctypes
import fcntl
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from ..api.server.engines import BINDING, can_choose_http2
from ..api.server.sockets import default_socket
from ..config import Config
from ..config.kinds import MAX_SOCKET_PATH
from ..configure import open_files
from ..core.errors import AddressInUse, ConfigError, IdentityError
from ..core.multiaddr import Multiaddr
from ..net.listener import open_socket
from ..process.open_files import allowed
from ..store.directory import KEY_FILE, LOCK_FILE
from ..store.identity_key import existing_identity, load_identity
from ..store.volume import volatile
from .finding import Finding, ok, problem, warning

_MIB = 1 << 20
_LITTLE, _TOO_LITTLE = 256 * _MIB, 16 * _MIB  # bytes of disk; a guess
_FUTURE = 60.0  # seconds that a file's time may be ahead; file servers differ a little
_RENEWAL = 14 * 86_400.0  # seconds before its end that a certificate should have been renewed; a guess
_RELEASED = 1_767_225_600.0  # 2026-01-01: no clock that is right shows an earlier time than that of this program
_INSTALL_BINDING = f"install {BINDING}, with which a call takes a third of the CPU, or set api.engine to grpcio"
_NICE_TO_KNOW = "see `sidecar config --template`"


def rules(config: Config) -> Iterator[Finding]:
    """The file of rules, where there is one. One that cannot be read is an error of the configuration."""
    check = "rules"
    file, found = config.gossip.rules
    if file is None:
        return
    nobody = [rule.name for rule in found if rule.allow is not None and not rule.allow]
    if not found:
        yield warning(check, f"{file} has no rules", "write some (docs/rules.md), or unset gossip.rules")
    elif nobody:
        words = f"{file}: the list of senders of {', '.join(nobody)} is empty, so that nobody may publish there"
        yield warning(check, words, "put the senders into the list, or remove it")
    else:
        yield ok(check, f"{file} has {len(found)} rule{'s' * (len(found) != 1)}")


def engine(config: Config) -> Finding:
    """Whether the package is installed that the API's faster engine takes."""
    check, wanted = "engine", config.api.engine
    if wanted == "grpcio":
        return ok(check, "the API is served by grpcio, as api.engine says")
    if can_choose_http2():
        return ok(check, f"the API is served by http2: {BINDING} is installed")
    if wanted == "http2":
        return problem(check, f"api.engine is http2, and {BINDING} is not installed", _INSTALL_BINDING)
    return warning(check, f"the API is served by grpcio, since {BINDING} is not installed", _INSTALL_BINDING)


def state(directory: Path, config: Config, holder: int | None) -> Iterator[Finding]:
    """The state directory: its rights, and the key in it. `holder`: the process that has it locked."""
    check = "state"
    place = _nearest(directory)
    if place != directory:
        if os.access(place, os.W_OK | os.X_OK):
            yield ok(check, f"{directory} is not there yet and can be made")
        else:
            remedy = f"make it and give it to this user, or name another with --state (user {os.geteuid()} is asking)"
            yield problem(check, f"{directory} is not there and cannot be made in {place}", remedy)
            return
    elif not directory.is_dir():
        yield problem(check, f"{directory} is not a directory", "move it away, or name another with --state")
        return
    elif not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        owner = directory.stat().st_uid
        if os.statvfs(directory).f_flag & os.ST_RDONLY:
            remedy = "mount its disk so that it can be written to, or name a directory elsewhere with --state"
            yield problem(check, f"{directory} is on a disk that can only be read", remedy)
            return
        remedy = f"run this as the user that the sidecar runs as, or: chown -R {os.geteuid()} {directory}"
        yield problem(check, f"{directory} belongs to user {owner} and is closed to user {os.geteuid()}", remedy)
        return
    elif directory.stat().st_mode & 0o077:
        mode = directory.stat().st_mode & 0o777
        yield warning(check, f"{directory} is open to others (mode {mode:04o})", f"chmod 700 {directory}")
    else:
        yield ok(check, f"{directory} is there and ours" + (f", in use by process {holder}" if holder else ""))
    yield _key(directory, config)


def _key(directory: Path, config: Config) -> Finding:
    check = "identity"
    file = config.state.identity_file
    try:
        identity = existing_identity(directory / KEY_FILE) if file is None else load_identity(file)
    except IdentityError as error:
        return problem(check, str(error), "put it right as said, or the sidecar will not start")
    if identity is None:
        return ok(check, "there is no key yet; the first start makes one")
    return ok(check, f"the key is usable; the peer id is {identity.peer_id}")


def holder_of(directory: Path) -> int | None:
    """The process that has the state directory locked; 0 where it cannot be told which, None where there is none."""
    try:
        lock = os.open(directory / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdecimal() else 0
    except OSError:
        return None
    finally:
        os.close(lock)
    return None


def disk(directory: Path) -> Finding:
    """Room on the disk that the state is kept on."""
    place = _nearest(directory)
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    remedy = f"make room on the disk of {place}, or name a directory elsewhere with --state"
    if status.f_files and not status.f_favail:
        return problem("disk", f"no more files can be made on the disk of {place}: it has no inodes left", remedy)
    if free < _TOO_LITTLE:
        return problem("disk", f"{free // 1024} KiB are free on the disk of {place}", remedy)
    if free < _LITTLE:
        return warning("disk", f"{free // _MIB} MiB are free on the disk of {place}", remedy)
    return ok("disk", f"{free // _MIB} MiB are free on the disk of {place}")


def volume(directory: Path) -> Finding:
    """Whether what is written there is still there after a restart."""
    wrong = volatile(_nearest(directory))
    if not wrong:
        return ok("volume", f"what is written to {directory} stays, as far as the mounts tell")
    remedy = "name a directory on a disk that stays with --state, or mount a volume there, or the key goes as well"
    return warning("volume", wrong, remedy)


class _Timex(ctypes.Structure):
    """The beginning of struct timex (adjtimex(2)), and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 40),
    )


_UNSYNCHRONISED = 0x40  # STA_UNSYNC


def synchronised() -> bool | None:
    """Whether the kernel says that something keeps its clock right; None where it cannot be asked."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    status = _Timex()
    if adjtimex(ctypes.byref(status)) < 0:
        return None
    return not status.status & _UNSYNCHRONISED


def clock(directory: Path, now: float | None = None) -> Finding:
    """The wall clock, on which the expiry of tokens, bans and certificates rests, and the order of signed records."""
    check = "clock"
    now = time.time() if now is None else now
    remedy = "set the clock, and let a time service keep it (chrony, systemd-timesyncd, the hypervisor's)"
    if now < _RELEASED:
        return problem(check, f"the clock shows {_date(now)}, which is before this program was made", remedy)
    for file in sorted(directory.glob("*")) if os.access(directory, os.R_OK) else ():
        ahead = file.lstat().st_mtime - now
        if ahead > _FUTURE:
            words = f"{file} was written {ahead:.0f} s in the future: the clock has gone back since, or went ahead then"
            return problem(check, words, remedy)
    if synchronised() is False:
        return warning(check, f"{_date(now)}, and the kernel knows of nothing that keeps its clock right", remedy)
    return ok(check, f"{_date(now)}")


def files(config: Config, process: int | None) -> Finding:
    """The limit of open files: what a start raises it to, or the running sidecar's and how many of them it has open."""
    check = "open files"
    limit = allowed()
    present = None
    if process:
        try:
            limits = Path(f"/proc/{process}/limits").read_text()
            words = next(line for line in limits.splitlines() if line.startswith("Max open files")).split()
            limit = int(words[3]) if words[3].isdigit() else None
            present = len(os.listdir(f"/proc/{process}/fd"))
        except (OSError, StopIteration):
            process = None
    whose = f"process {process} may" if process else "a process of this user may"
    wanted = open_files(config)
    remedy = (
        f"raise it to {wanted} or more (`ulimit -n`, LimitNOFILE= of systemd, --ulimit of a container engine), "
        "or lower limits.connections and api.max_connections"
    )
    if present is not None and limit is not None and present > limit * 0.9:
        return problem(check, f"process {process} has {present} files open, and may have {limit}", remedy)
    if limit is not None and limit < wanted:
        why = f"limits.connections is {config.limits.connections}, api.max_connections {config.api.max_connections}"
        return warning(check, f"{whose} have {limit} files open, but {why}", remedy)
    use = f", {present} are" if present is not None else ""
    return ok(check, f"{whose} have {'any number of' if limit is None else limit} files open{use}")


def socket_place(config: Config) -> Finding:
    """Where the API's Unix socket belongs, before a sidecar is there."""
    check = "socket"
    path = config.api.socket or default_socket()
    size = len(os.fsencode(path))
    if size > MAX_SOCKET_PATH:
        return problem(
            check, f"{path} has {size} bytes, and a Unix socket's path at most {MAX_SOCKET_PATH}", "name a shorter one"
        )
    parent = path.parent
    if not parent.exists() and config.api.socket is None and os.access(_nearest(parent), os.W_OK | os.X_OK):
        return ok(check, f"{path} can be made")
    if not parent.is_dir():
        return problem(check, f"{parent}, where the API's socket belongs, is no directory", f"mkdir -p {parent}")
    if not os.access(parent, os.W_OK | os.X_OK):
        remedy = f"give {parent} to user {os.geteuid()}, or name another place with --socket"
        return problem(check, f"user {os.geteuid()} cannot make a socket in {parent}", remedy)
    if path.exists() and not path.is_socket():
        return problem(check, f"{path}, where the API's socket belongs, is something else", "move it away")
    if path.is_socket():
        return ok(check, f"{path} is left of a sidecar that was killed; the next start replaces it")
    return ok(check, f"{path} is free")


def socket_gone(path: Path, holder: int) -> Finding:
    """A sidecar runs, but its API's Unix socket is not there. `holder`: its process, 0 where that cannot be told."""
    process = holder or "of another user"
    words = f"process {process} has the state directory, but its API's socket {path} is not there"
    if not path.parent.is_dir():
        words += f", nor is {path.parent}"
    remedy = (
        f"if the socket was deleted, let the user of that process make one in {path.parent}, and it is served again "
        "within seconds; if it is elsewhere, say where with --api"
    )
    return problem("API", words, remedy)


def ports(config: Config) -> Iterator[Finding]:
    """Whether what is to be listened at is free, before a sidecar is there."""
    for address in config.listen.addresses:
        yield _port(address)
    if not config.listen.addresses:
        yield ok("port", "no address is listened at, as configured: the node only dials")


def _port(address: Multiaddr) -> Finding:
    try:
        open_socket(address).close()
    except AddressInUse as error:
        who = "`ss -ltnp` shows by whom; end that, or choose another with --listen"
        return problem("port", str(error), who)
    except ConfigError as error:
        return problem("port", str(error), "choose an address of this machine, and a port over 1023, with --listen")
    return ok("port", f"{address} is free")


def certificates(config: Config, now: float | None = None) -> Iterator[Finding]:
    """How long the configured certificates are good for."""
    moment = datetime.fromtimestamp(time.time() if now is None else now, UTC)
    named = {"api.tls_certificate": config.api.tls_certificate, "listen.tls_certificate": config.listen.tls_certificate}
    for key, file in named.items():
        if file is not None:
            yield _certificate(key, file, moment)


def _certificate(key: str, file: Path, now: datetime) -> Finding:
    check = "certificate"
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as error:
        return problem(check, f"{file} ({key}) is no certificate that can be read: {error}", _NICE_TO_KNOW)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begin:
        return problem(check, f"{file} ({key}) is good from {begin:%Y-%m-%d %H:%M} UTC on only", "check the clock")
    remedy = "put a renewed one in its place; it is read with the next connection"
    if now > end:
        return problem(check, f"{file} ({key}) ended on {end:%Y-%m-%d %H:%M} UTC", remedy)
    if (end - now).total_seconds() < _RENEWAL:
        return warning(check, f"{file} ({key}) ends on {end:%Y-%m-%d %H:%M} UTC", remedy)
    return ok(check, f"{file} ({key}) is good until {end:%Y-%m-%d}")


def _nearest(path: Path) -> Path:
    """The path, or the nearest one above it that is there."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def _date(wall: float) -> str:
    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%d %H:%M:%S} UTC"
