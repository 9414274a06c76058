"""Small private files, written or replaced as a whole; another process may change them meanwhile."""

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import StorageError

Version = tuple[int, int, int, int] | None


def version(path: Path) -> Version:
    """What differs once a file or its rights have changed; None where there is none. Raises StorageError."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path} cannot be looked at: {error.strerror}") from None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read_private(path: Path, limit: int, *, kept_elsewhere: bool = False) -> bytes | None:
    """The whole of a file that is closed to others; None where there is none. Raises StorageError.

    `kept_elsewhere`: its group may read it, and it may be a link.
    """
    forbidden = stat.S_IRWXG | stat.S_IRWXO
    if kept_elsewhere:
        forbidden &= ~stat.S_IRGRP
    try:
        descriptor = os.open(
            path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if kept_elsewhere else os.O_NOFOLLOW)
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise StorageError(f"{path} is not a regular file")
        if status.st_uid not in (0, os.geteuid(), os.stat(path.parent).st_uid):
            raise StorageError(f"{path} belongs to user {status.st_uid}; run: chown {os.geteuid()} {path}")
        if status.st_mode & forbidden:
            mode = stat.S_IMODE(status.st_mode)
            raise StorageError(f"{path} is open to others (mode {mode:04o}); run: chmod 600 {path}")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            text = file.read(limit + 1)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(text) > limit:
        raise StorageError(f"{path} has more than {limit} bytes")
    return text


def replace_private(path: Path, text: bytes) -> None:
    """Put a file of mode 0600 in place of what is there, so that it is seen whole or not at all. Raises StorageError.

    Root makes it the directory's owner's, who has to read it. Drafts that a kill left are removed.
    """
    sweep(path)
    draft = _draft_of(path)
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask
            give_to_owner_of(path.parent, descriptor)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(draft, path)
        sync(path.parent)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def write_once(path: Path, encoded: bytes, what: str) -> None:
    """Write a new file, mode 0600, so that at any moment it is there whole or not at all.

    One that is there already stays as it is. `what`: its name in errors. Raises StorageError.
    """
    draft = _draft_of(path)
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
    try:
        sync(path.parent)
    except OSError as error:
        raise StorageError(f"the directory {path.parent} cannot be written: {error.strerror}") from None


def sync(directory: Path) -> None:
    """Have the names in a directory outlive a power cut. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def _draft_of(path: Path) -> Path:
    """A name for a file that is to become the one named, with this process in it; see `sweep`."""
    return path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")


def sweep(path: Path) -> None:
    """Remove the drafts of a file, see `_draft_of`, of processes that were killed over them. What fails is left."""
    drafts = re.compile(re.escape(f".{path.name}.") + r"([1-9]\d{0,9})\.[0-9a-f]{8}")
    with contextlib.suppress(OSError):
        owners = (os.geteuid(), os.stat(path.parent).st_uid)
        for name in os.listdir(path.parent):
            draft = drafts.fullmatch(name)
            if draft is None or _lives(int(draft[1])):
                continue
            found = os.lstat(path.with_name(name))
            if stat.S_ISREG(found.st_mode) and found.st_uid in owners:
                os.unlink(path.with_name(name))


def _lives(process: int) -> bool:
    """Whether it is another that lives: in a container, the one of before had this one's number."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return process != os.getpid()


def give_to_owner_of(directory: Path, descriptor: int) -> None:
    """Where root works for another user. Raises OSError."""
    owner = os.stat(directory)
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """While no other process changes the file: by a lock beside it, since the file itself is replaced.

    Raises StorageError.
    """
    name = path.with_name(path.name + ".lock")
    try:
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        give_to_owner_of(path.parent, lock)
    except OSError as error:
        raise StorageError(f"{name} cannot be made: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
