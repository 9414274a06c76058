"""The file of the identity key: made once, and never written to again."""

import os
import stat
from pathlib import Path

from ..core.errors import IdentityError
from ..core.identity import Identity
from .files import write_once

_SEED = 32
_MAX_KEY_FILE = 1024  # bytes; an Ed25519 key in protobuf has 68
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


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
