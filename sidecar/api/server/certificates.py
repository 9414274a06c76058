"""The API's TLS: certificates from PEM files, read again when the files change."""

import logging
import os
import ssl
import threading
from pathlib import Path
from typing import Any

import grpc

from ...config.files import read_regular
from ...core.errors import ConfigError

_log = logging.getLogger("sidecar.api.certificates")
_MAX_FILE = 16 << 20  # bytes
_Seen = tuple[tuple[int, int, int], ...]


class Certificates:
    """What the server shows, and whom it asks for a certificate.

    gRPC asks for each new connection whether there is something new; connections that are open stay. Files that are no
    use, half replaced or wrong, are logged once, and the last good ones stay in force.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        """`client_ca`: the authorities that apps' certificates must come from; None: apps need none.

        Raises ConfigError.
        """
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._lock = threading.Lock()  # gRPC asks in threads of its own
        self._seen = self._look()
        self._initial = self._read()

    def credentials(self) -> Any:
        """For `add_secure_port`."""
        return grpc.dynamic_ssl_server_credentials(self._initial, self._fetch, self._client_ca is not None)

    def _fetch(self) -> Any:
        """None where nothing has changed."""
        with self._lock:
            try:
                seen = self._look()
                if seen == self._seen:
                    return None
                self._seen = seen
                fresh = self._read()
            except ConfigError as error:
                _log.warning("%s; the certificate read before stays in force", error)
                return None
            _log.info("the API's certificate was read again from %s", self._certificate)
            return fresh

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

    def _read(self) -> Any:
        """Read all files and check that they fit, which gRPC would only say in its own log. Raises ConfigError."""
        texts = {}
        for name, path in self._files():
            try:
                texts[name] = read_regular(path, _MAX_FILE)
            except OSError as error:
                raise ConfigError(f"{name} {path} cannot be read: {error.strerror}") from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self._certificate, self._key, password=_refuse_password)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self._certificate} and {self._key} are no certificate and key: {error}") from None
        if self._client_ca is not None:
            try:
                context.load_verify_locations(self._client_ca)
            except (OSError, ValueError) as error:
                raise ConfigError(f"api.tls_client_ca {self._client_ca} holds no certificates: {error}") from None
        pair = (texts["api.tls_key"], texts["api.tls_certificate"])
        return grpc.ssl_server_certificate_configuration([pair], texts.get("api.tls_client_ca"))


def _refuse_password() -> str:
    raise ValueError("the key is encrypted, which nobody could type in here")
