"""The file of tokens: what each one allows, and a hash of it, never the token itself."""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.classes import NamedTuple
from ...core.errors import AlreadyExists, InvalidArgument, NotFound, ResourceExhausted, StorageError
from ...store.files import Version, alone, read_private, replace_private, version
from . import quota, scopes

TOKENS_FILE = "tokens.json"
PREFIX = "sct_"  # so that scanners for secrets that were published by mistake can know ours
MAX_TOKENS = 1024
MAX_SCOPES = 64
_FORMAT = 1
_MAX_FILE = 64 << 20  # bytes; MAX_TOKENS with MAX_SCOPES of the longest are less than that twice
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Token(NamedTuple):
    """What is kept of a token. Times are seconds since 1970."""

    id: str
    name: str
    digest: bytes  # SHA-256 of the secret, which has 256 random bits: nothing to be guessed, so no slow hash
    allow: tuple[str, ...]
    created: float
    expires: float | None
    quotas: quota.Quotas = quota.NONE

    def expired(self, wall: float) -> bool:
        """Whether it is valid no more; `wall`: seconds since 1970."""
        return self.expires is not None and wall >= self.expires

    def allows(self, scope: str) -> bool:
        """Whether one of its scopes covers this."""
        return any(scopes.covers(allowed, scope) for allowed in self.allow)

    def proved_by(self, secret: str) -> bool:
        """Whether this is the token's secret. Takes the same time for each wrong one."""
        return hmac.compare_digest(self.digest, _digest(secret))


def split(text: str) -> tuple[str, str] | None:
    """The id and the secret of a token as apps send it; None where it does not look like one."""
    name, separator, secret = text.removeprefix(PREFIX).partition("_")
    return (name, secret) if text.startswith(PREFIX) and separator and secret else None


class TokenFile:
    """The file, which the command line changes while a sidecar reads it."""

    def __init__(self, path: Path, *, kept_elsewhere: bool = False) -> None:
        """`kept_elsewhere`: something else puts it there, such as Kubernetes a Secret, as a link that a group reads."""
        self.path = path
        self._kept_elsewhere = kept_elsewhere

    def version(self) -> Version:
        """Differs once the file has changed. Raises StorageError."""
        return version(self.path)

    def read(self) -> dict[str, Token]:
        """All tokens by id; none where there is no file. Raises StorageError for a damaged one."""
        text = read_private(self.path, _MAX_FILE, kept_elsewhere=self._kept_elsewhere)
        if text is None:
            return {}
        try:
            document = json.loads(text)
            if document["format"] != _FORMAT:
                raise StorageError(f"{self.path} has format {document['format']!r}, not {_FORMAT}")
            return {token.id: token for token in map(_decode, document["tokens"])}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidArgument) as error:
            raise StorageError(f"{self.path} is damaged ({type(error).__name__}: {error}); put back a copy") from None

    def create(
        self,
        name: str,
        allow: Sequence[str],
        expires: float | None,
        wall: float,
        quotas: quota.Quotas = quota.NONE,
    ) -> tuple[Token, str]:
        """Add a token; returns it and its text, which is told this once.

        Raises InvalidArgument, AlreadyExists, ResourceExhausted, StorageError.
        """
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"name {name[:100]!r}: 1 to 64 ASCII letters, digits, '.', '_' and '-'")
        if not 0 < len(allow) <= MAX_SCOPES:
            raise InvalidArgument(f"{len(allow)} scopes, from 1 to {MAX_SCOPES}")
        allowed = tuple(dict.fromkeys(scopes.check(scope) for scope in allow))
        with alone(self.path):
            tokens = dict(self.read())
            if any(token.name == name and not token.expired(wall) for token in tokens.values()):
                raise AlreadyExists(f"a token named {name} is there already; revoke it first, or take another name")
            # Those that have expired only make room: a clock that is ahead must not delete what is still good.
            expired = sorted((t for t in tokens.values() if t.expired(wall)), key=lambda t: t.expires or 0.0)
            for old in [t for t in expired if t.name == name]:
                del tokens[old.id]
            for old in [t for t in expired if t.name != name][: max(0, len(tokens) - MAX_TOKENS + 1)]:
                del tokens[old.id]
            if len(tokens) >= MAX_TOKENS:
                raise ResourceExhausted(f"{len(tokens)} tokens, at most that many")
            secret = secrets.token_urlsafe(32)
            token = Token(secrets.token_hex(6), name, _digest(secret), allowed, wall, expires, quotas)
            tokens[token.id] = token
            self._write(tokens)
        return token, f"{PREFIX}{token.id}_{secret}"

    def revoke(self, name: str) -> Token:
        """Remove the token of that name or id. Raises NotFound, StorageError."""
        with alone(self.path):
            tokens = self.read()
            found = next((token for token in tokens.values() if name in (token.id, token.name)), None)
            if found is None:
                raise NotFound(f"no token is named {name}; `sidecar token list` shows them")
            del tokens[found.id]
            self._write(tokens)
        return found

    def _write(self, tokens: Mapping[str, Token]) -> None:
        document = {"format": _FORMAT, "tokens": [_encode(token) for token in tokens.values()]}
        replace_private(self.path, json.dumps(document, indent=1).encode() + b"\n")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _encode(token: Token) -> dict[str, Any]:
    text = {"digest": token.digest.hex(), "allow": list(token.allow), "quotas": token.quotas.described()}
    return token._asdict() | text


def _decode(row: Mapping[str, Any]) -> Token:
    expires = row["expires"]
    return Token(
        str(row["id"]),
        str(row["name"]),
        bytes.fromhex(row["digest"]),
        tuple(str(scope) for scope in row["allow"]),
        float(row["created"]),
        None if expires is None else float(expires),
        quota.read(row.get("quotas", {})),
    )
