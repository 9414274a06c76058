"""The file of a private network's key, `swarm.key`, as other implementations write it too (specs pnet, PSK-Key-V1)."""

import binascii
import logging
import os
import stat
from pathlib import Path
from typing import Any

from ..config.files import read_regular
from ..core.errors import ConfigError
from .files import write_once

_log = logging.getLogger(__name__)

_KEY_SIZE = 32
_MAX_FILE = 1024  # bytes; a key in base16 has 95
_HEADER = b"/key/swarm/psk/1.0.0/"


def load_psk(path: Path) -> bytes:
    """The key in a `swarm.key` file. Raises ConfigError; a file open to more than its group's reading is warned of."""
    try:
        content = read_regular(path, _MAX_FILE)
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigError(f"network.psk_file: {path} cannot be read: {error.strerror or error}") from None
    if mode & (stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO):  # a Kubernetes Secret is read through its group
        _log.warning("the private network's key %s is open to others; run: chmod 600 %s", path, path)
    try:
        return parse_psk(content)
    except ValueError as error:
        raise ConfigError(f"network.psk_file: {path} is no key of a private network: {error}") from None


def parse_psk(content: bytes) -> bytes:
    """The 32 bytes in the content of a `swarm.key` file. Raises ValueError."""
    if len(content) > _MAX_FILE:
        raise ValueError(f"it has more than {_MAX_FILE} bytes")
    header, _, rest = content.partition(b"\n")
    encoding, _, encoded = rest.partition(b"\n")
    if header.strip() != _HEADER:
        raise ValueError(f"its first line is not {_HEADER.decode()}")
    match encoding.strip():
        case b"/base16/":
            key = _decoded(binascii.unhexlify, encoded, "base16")
        case b"/base64/":
            key = _decoded(lambda text: binascii.a2b_base64(text, strict_mode=True), encoded, "base64")
        case b"/bin/":
            key = encoded
        case _:
            raise ValueError("its second line is not /base16/, /base64/ or /bin/")
    if len(key) != _KEY_SIZE:
        raise ValueError(f"the key has {len(key)} bytes, not {_KEY_SIZE}")
    return key


def _decoded(decode: Any, encoded: bytes, name: str) -> bytes:
    try:
        return bytes(decode(encoded.strip()))
    except binascii.Error as error:
        raise ValueError(f"its third line is not {name}: {error}") from None


def create_psk(path: Path) -> None:
    """Make a file with a new key, mode 0600; one that is there is never replaced. Raises StorageError."""
    content = b"%s\n/base16/\n%s\n" % (_HEADER, os.urandom(_KEY_SIZE).hex().encode())
    write_once(path, content, "private network's key")
