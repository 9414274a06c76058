"""The API's TLS: certificates from PEM files, read again when the files change."""

import logging
import os
import ssl
import threading
from pathlib import Path

from ...config.files import read_regular
from ...core.classes import NamedTuple
from ...core.errors import ConfigError

_log = logging.getLogger("sidecar.api.certificates")
_MAX_FILE = 16 << 20  # bytes
_Seen = tuple[tuple[int, int, int], ...]


class LoadedCertificates(NamedTuple):
    """What the files held: PEM texts, and the same as a context."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    context: ssl.SSLContext


class Certificates:
    """What the server shows, and whom it asks for a certificate.

    It is asked for each new connection; connections that are open stay. Files that are no use, half replaced or wrong,
    are logged once, and the last good ones stay in force.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        """`client_ca`: the authorities that apps' certificates must come from; None: apps need none.

        Raises ConfigError.
        """
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._lock = threading.Lock()  # gRPC asks in threads of its own
        self._seen = self._look()
        self._loaded = self._read()

    def latest(self) -> LoadedCertificates:
        """What is in force; the same object as before where nothing has changed."""
        with self._lock:
            try:
                seen = self._look()
                if seen != self._seen:
                    self._seen = seen
                    self._loaded = self._read()
                    _log.info("the API's certificate was read again from %s", self._certificate)
            except ConfigError as error:
                _log.warning("%s; the certificate read before stays in force", error)
            return self._loaded

    def _look(self) -> _Seen:
        """What tells that a file has been replaced. Raises ConfigError."""
        found = []
        for name, path in self._files():
            try:
                status = os.stat(path)
            except OSError as error:
                raise ConfigError(f"{name} {path} cannot be read: {error.strerror}") from None
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(found)

    def _files(self) -> list[tuple[str, Path]]:
        files = [("api.tls_certificate", self._certificate), ("api.tls_key", self._key)]
        return [*files, ("api.tls_client_ca", self._client_ca)] if self._client_ca is not None else files

    def _read(self) -> LoadedCertificates:
        """Read all files and check that they fit, which gRPC would only say in its own log. Raises ConfigError."""
        texts = {}
        for name, path in self._files():
            try:
                texts[name] = read_regular(path, _MAX_FILE)
            except OSError as error:
                raise ConfigError(f"{name} {path} cannot be read: {error.strerror}") from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["h2"])
        try:
            context.load_cert_chain(self._certificate, self._key, password=_refuse_password)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self._certificate} and {self._key} are no certificate and key: {error}") from None
        if self._client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(self._client_ca)
            except (OSError, ValueError) as error:
                raise ConfigError(f"api.tls_client_ca {self._client_ca} holds no certificates: {error}") from None
        return LoadedCertificates(
            texts["api.tls_certificate"], texts["api.tls_key"], texts.get("api.tls_client_ca"), context
        )


def _refuse_password() -> str:
    raise ValueError("the key is encrypted, which nobody could type in here")
