"""The state directory: its lock, and what is kept in it."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from ..core.errors import StateLocked, StorageError
from ..core.identity import Identity
from . import sequence
from .bans import BanStore
from .files import sweep, sync
from .identity_key import load_identity, load_or_create_identity
from .peers import PeerStore

LOCK_FILE = "lock"
KEY_FILE = "identity.key"
PEERS_FILE = "peers.db"
_LEFT_FILE = "left"
SEQUENCE_FILE = "sequence"
BANS_FILE = "bans.db"
DURABLE_FILE = "durable.db"
HISTORY_FILE = "history.db"


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
            if not path.is_dir():
                path.mkdir(mode=0o700, exist_ok=True)
                sync(path.parent)  # what will be fsynced in it is of no use without its name
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
        """Where the sequence numbers of this run begin; see `sequence.reserve`."""
        return sequence.reserve(self.path / SEQUENCE_FILE, wall_ns)

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

    def lost(self) -> bool:
        """Whether the directory is not at its path any more, or another one is."""
        try:
            return self._lock is not None and not os.path.samestat(os.fstat(self._lock), os.stat(self.path / LOCK_FILE))
        except FileNotFoundError:
            return True
        except OSError:  # a disk that does not answer is not yet a directory that is gone
            return False

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
