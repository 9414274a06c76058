"""What survives a restart: the state directory, its lock, the identity key; `peer_store`, `ban_store` keep the rest."""

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from ..core.errors import IdentityError, StateLocked, StorageError
from ..core.identity import Identity
from . import numbers
from .ban_store import BanStore
from .files import draft_of, sweep
from .peer_store import PeerStore

LOCK_FILE = "lock"
KEY_FILE = "identity.key"
PEERS_FILE = "peers.db"
_LEFT_FILE = "left"
_NUMBERS_FILE = "sequence"
BANS_FILE = "bans.db"
_SEED = 32
_MAX_KEY_FILE = 1024  # bytes; an Ed25519 key in protobuf has 68
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class StateDirectory:
    """One sidecar's directory, locked as long as this object is open (and no longer than its process lives)."""

    def __init__(self, path: Path, lock: int) -> None:
        """Use `open`."""
        self.path = path
        self._lock: int | None = lock

    @classmethod
    def open(cls, path: Path) -> Self:
        """Create the directory with mode 0700 where it is missing, and lock it.

        Raises StateLocked, with the process that holds it, and StorageError.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
            # Close-on-exec: worker processes must not inherit the lock.
            lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            remedy = "name another with --state, one that this user can make or write to"
            raise StorageError(f"{path} cannot be the state directory: {error.strerror}; {remedy}") from None
        try:
            _take(lock, path)
            sweep(path / KEY_FILE)
        except BaseException:
            os.close(lock)
            raise
        return cls(path, lock)

    def identity(self, file: Path | None = None) -> Identity:
        """This node's identity: that of the key file named, else one of its own, made at the first start.

        Raises IdentityError, StorageError.
        """
        return load_or_create_identity(self.path / KEY_FILE) if file is None else load_identity(file)

    def sequence(self, wall_ns: int) -> int:
        """Where the sequence numbers of this run begin; see `numbers.reserve`."""
        return numbers.reserve(self.path / _NUMBERS_FILE, wall_ns)

    def note_left(self) -> None:
        """Keep in mind that the node has just left its meshes. A disk that refuses is no reason to fail."""
        with contextlib.suppress(OSError):
            (self.path / _LEFT_FILE).touch(mode=0o600)

    def left_ago(self, now_wall: float) -> float | None:
        """How many seconds ago `note_left` was called, in this run or one before; None: never, or nobody knows."""
        try:
            return now_wall - (self.path / _LEFT_FILE).stat().st_mtime
        except OSError:
            return None

    def open_peers(self, *, max_peers: int = 1000) -> PeerStore:
        """The peers kept from earlier runs; see `PeerStore.open`. Raises StorageError."""
        return PeerStore.open(self.path / PEERS_FILE, max_peers=max_peers)

    def open_bans(self, now_wall: float) -> BanStore:
        """The bans kept from earlier runs; see `BanStore.open`. Raises StorageError."""
        return BanStore.open(self.path / BANS_FILE, now_wall)

    def close(self) -> None:
        """Let the next one have it."""
        if self._lock is not None:
            # The file stays: removing it would let two processes lock two files of the same name.
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _take(lock: int, path: Path) -> None:
    """Raises StateLocked, StorageError."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
        named = f"process {holder}" if holder.isdecimal() else "another process"
        raise StateLocked(f"the state directory {path} is in use by {named}") from None
    except OSError as error:
        raise StorageError(f"{path / LOCK_FILE} cannot be locked: {error.strerror}") from None
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    except OSError as error:  # a full disk; the lock holds without the number in it
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"{path / LOCK_FILE} cannot be written: {error.strerror}") from None


def load_identity(path: Path) -> Identity:
    """The identity in a key file that somebody else has put there. Its group may read it, as with a Kubernetes Secret.

    Raises IdentityError.
    """
    try:
        return _load(path, _OTHERS & ~stat.S_IRGRP)
    except FileNotFoundError:
        raise IdentityError(
            f"the identity key {path} (state.identity_file) is not there; mount it, or name another"
        ) from None


def existing_identity(path: Path) -> Identity | None:
    """The identity in a key file of this node's own; None where there is none yet. Raises IdentityError."""
    try:
        return _load(path)
    except FileNotFoundError:
        return None


def load_or_create_identity(path: Path) -> Identity:
    """The identity in a key file: a private key in libp2p's protobuf encoding, mode 0600. Made where it is missing.

    An existing file is never written to. Raises IdentityError where it cannot be used, and StorageError where a new
    one cannot be written.
    """
    try:
        return _load(path)
    except FileNotFoundError:
        write_once(path, Identity(os.urandom(_SEED)).to_bytes(), "identity key")
    try:
        return _load(path)  # somebody else's, if two began at the same moment
    except FileNotFoundError:
        raise IdentityError(f"the identity key {path} vanished while it was being made") from None


def _load(path: Path, forbidden: int = _OTHERS) -> Identity:
    """`forbidden`: permissions with which it is refused. Raises FileNotFoundError, IdentityError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not block the start
    except FileNotFoundError:
        if path.is_symlink():
            raise IdentityError(f"the identity key {path} is a link to nothing; remove the link") from None
        raise
    except OSError as error:
        raise IdentityError(f"the identity key {path} cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise IdentityError(f"the identity key {path} is not a regular file")
        if status.st_mode & forbidden:
            mode = stat.S_IMODE(status.st_mode)
            raise IdentityError(f"the identity key {path} is open to others (mode {mode:04o}); run: chmod 600 {path}")
        encoded = os.read(descriptor, _MAX_KEY_FILE + 1)
    except OSError as error:
        raise IdentityError(f"the identity key {path} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    try:
        if len(encoded) > _MAX_KEY_FILE:
            raise IdentityError(f"it has more than {_MAX_KEY_FILE} bytes")
        return Identity.from_bytes(encoded)
    except IdentityError as error:
        remedy = "put back a copy of it, or move it away to start with a new peer id"
        raise IdentityError(f"the identity key {path} is unusable: {error}; {remedy}") from None


def write_once(path: Path, encoded: bytes, what: str) -> None:
    """Write a new file, mode 0600, so that at any moment it is there whole or not at all.

    One that is there already stays as it is. `what`: its name in errors. Raises StorageError.
    """
    draft = draft_of(path)
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)  # whatever the umask
            if os.write(descriptor, encoded) != len(encoded):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _publish(draft, path)
    except OSError as error:
        remedy = "; make room on that disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise StorageError(f"the {what} {path} cannot be written: {error.strerror}{remedy}") from None
    finally:
        with contextlib.suppress(OSError):  # where nothing can be made, there is nothing to take away
            draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    except OSError as error:
        raise StorageError(f"the directory {path.parent} cannot be written: {error.strerror}") from None
    finally:
        os.close(directory)


def _publish(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)  # unlike a rename, never replaces
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        if not path.exists():  # a file system without hard links
            os.rename(draft, path)
