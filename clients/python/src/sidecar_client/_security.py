"""What a connection is secured with: TLS from PEM files, and a token that each call carries."""

import contextlib
import os
import ssl
from pathlib import Path
from typing import NamedTuple

from ._target import Target
from .errors import InvalidArgument

File = str | os.PathLike[str]


class Credentials(NamedTuple):
    """For TLS: as Python takes it, and as gRPC's library does, in PEM."""

    context: ssl.SSLContext
    roots: bytes | None
    chain: bytes | None
    key: bytes | None


def credentials(target: Target, ca: File | None, certificate: File | None, key: File | None) -> Credentials | None:
    """The TLS credentials for a target, from files given or named by SIDECAR_TLS_CA, _CERT and _KEY; None: no TLS.

    Raises InvalidArgument where a file cannot be read or is no PEM, or where files are given for a target without TLS.
    """
    if not target.tls:
        for name, given in (("tls_ca", ca), ("tls_cert", certificate), ("tls_key", key)):
            if given is not None:
                raise InvalidArgument(f"{name} is given, but {target} has no TLS: say tls://HOST:PORT", field=name)
        return None
    roots = _read("tls_ca", ca or os.environ.get("SIDECAR_TLS_CA"))
    chain_file = certificate or os.environ.get("SIDECAR_TLS_CERT")
    key_file = key or os.environ.get("SIDECAR_TLS_KEY")
    if bool(chain_file) != bool(key_file):
        missing = "tls_key" if chain_file else "tls_cert"
        raise InvalidArgument("a certificate and its key go together: one is given without the other", field=missing)
    chain, private = _read("tls_cert", chain_file), _read("tls_key", key_file)
    # gRPC would only log what is wrong with them, and go on trying.
    context = ssl.create_default_context() if roots is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if roots is not None:
            context.load_verify_locations(cadata=roots.decode())
    except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
        raise InvalidArgument(f"tls_ca holds no certificates in PEM: {error}", field="tls_ca") from None
    try:
        if chain_file and key_file:
            context.load_cert_chain(chain_file, key_file, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise InvalidArgument(f"tls_cert and tls_key are no pair in PEM: {error}", field="tls_cert") from None
    context.set_alpn_protocols(["h2"])
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # Python's default since 3.13; gRPC's library does without
    return Credentials(context, roots, chain, private)


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _read(field: str, file: File | None) -> bytes | None:
    try:
        return Path(file).read_bytes() if file else None
    except OSError as error:
        raise _unreadable(field, file, error) from None


def _unreadable(field: str, file: File | None, error: OSError) -> InvalidArgument:
    return InvalidArgument(f"{field}: {file} cannot be read: {error.strerror or error}", field=field)


class Token:
    """What says who we are: given as text, or in a file that may be replaced at any time."""

    def __init__(self, text: str | None, file: File | None) -> None:
        """Raises InvalidArgument."""
        self._file = file
        self._seen: tuple[int, int, int] | None = None  # of the file, when it was last read
        self._header = _header(text, "token") if text is not None else ""
        if file is not None:
            try:
                self._reread()
            except OSError as error:
                raise _unreadable("token_file", file, error) from None

    def metadata(self) -> tuple[tuple[str, str]]:
        """For one call. While the file cannot be read, or holds no token, the last one counts."""
        if self._file is not None:
            with contextlib.suppress(OSError, InvalidArgument):  # it is being replaced
                self._reread()
        return (("authorization", self._header),)

    def _reread(self) -> None:
        assert self._file is not None, "only called where there is one"
        found = os.stat(self._file)
        seen = (found.st_ino, found.st_size, found.st_mtime_ns)
        if seen != self._seen:
            self._header = _header(Path(self._file).read_text(encoding="ascii", errors="replace"), "token_file")
            self._seen = seen


def token(target: Target, text: str | None, file: File | None) -> Token | None:
    """The token given, else that of SIDECAR_TOKEN, else of SIDECAR_TOKEN_FILE; None: calls carry none.

    Raises InvalidArgument, also where it could be read on its way.
    """
    if text is not None and file is not None:
        raise InvalidArgument("token and token_file are both given", field="token")
    if text is None and file is None:
        text = os.environ.get("SIDECAR_TOKEN") or None
        file = None if text else os.environ.get("SIDECAR_TOKEN_FILE") or None
    if text is None and file is None:
        return None
    if not target.tls and not target.private:
        raise InvalidArgument(
            f"a token is never sent in plain text over a network: {target} needs tls://, or no token", field="token"
        )
    return Token(text, file)


def _header(text: str, field: str) -> str:
    stripped = text.strip()
    if not stripped or not stripped.isascii() or not stripped.isprintable() or " " in stripped:
        raise InvalidArgument(f"{field} holds no token: one word of printable ASCII", field=field)
    return f"Bearer {stripped}"
