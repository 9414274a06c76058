"""TLS as a layer, for WebSocket addresses with `/tls`.

In memory rather than as asyncio's transport, so that an unfinished TLS handshake is bounded, limited in time and
counted as any other unfinished handshake is.
"""

import ssl
from pathlib import Path

from ..config.files import read_regular
from ..core.errors import ConfigError, HandshakeError, ProtocolError, SidecarError
from ..core.override import override
from .layers import Buffers, Layer

_READ = 256 * 1024
_MAX_OWN = 64 * 1024  # bytes of TLS's own that may wait; a handshake has some 5 KiB
_MAX_FILE = 16 << 20  # bytes; the certificates of all public authorities take some 250 KiB
_HTTP = ["http/1.1"]  # what WebSocket begins with


class TlsLayer(Layer):
    """One side of a TLS connection."""

    def __init__(self, context: ssl.SSLContext, server_name: str | None) -> None:
        """`server_name`: whom we dial, a DNS name or IP address that the certificate must name; None: we listen."""
        self.ready = self.ended = False
        self.failure: SidecarError | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )
        self._shake()

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLCertVerificationError as error:
            raise HandshakeError(f"the remote's certificate is not trusted: {error.verify_message}") from None
        except ssl.SSLError as error:
            raise HandshakeError(f"TLS: {_reason(error)}") from None
        self.ready = True

    @override
    def feed(self, data: bytes) -> bytes:
        """Raises HandshakeError, ProtocolError; behind good bytes, the error is in `failure`."""
        self._incoming.write(data)
        if not self.ready:
            self._shake()
            if not self.ready:
                return b""
        out: list[bytes] = []
        try:
            while chunk := self._tls.read(_READ):
                out.append(chunk)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            self._broken(ProtocolError(f"TLS: {_reason(error)}"), out)
        if self._outgoing.pending > _MAX_OWN:
            self._broken(ProtocolError(f"TLS: {self._outgoing.pending} bytes of answers wait"), out)
        return b"".join(out)

    def _broken(self, error: SidecarError, out: list[bytes]) -> None:
        if not out:
            raise error
        self.failure = error

    @override
    def seal(self, buffers: Buffers) -> Buffers:
        data = b"".join(buffers)
        if data:
            self._tls.write(data)
        return self.output()

    @override
    def output(self) -> list[bytes]:
        return [self._outgoing.read()] if self._outgoing.pending else []

    @override
    def close(self) -> None:
        """The frames within say that the connection ends; close_notify would add nothing."""

    @override
    def explain(self, error: SidecarError | None) -> SidecarError | None:
        return error


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """For listening, with the PEM files of a certificate (and those between it and its root) and its key.

    Raises ConfigError.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(_HTTP)
    for name, file in (("listen.tls_certificate", certificate), ("listen.tls_key", key)):
        _readable(name, file)
    try:
        context.load_cert_chain(certificate, key, password=lambda: b"")  # else OpenSSL asks at the terminal
    except (ssl.SSLError, OSError, ValueError) as error:
        what = f"{certificate} and {key} are no certificate and unencrypted key that fit"
        raise ConfigError(f"listen.tls_certificate, listen.tls_key: {what}: {_reason(error)}") from None
    return context


def client_context(authorities: Path | None) -> ssl.SSLContext:
    """For dialling: trusts the system's authorities, and those of a PEM file besides. Raises ConfigError."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(_HTTP)
    if authorities is not None:
        _readable("peers.tls_ca", authorities)
        try:
            context.load_verify_locations(authorities)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise ConfigError(f"peers.tls_ca: {authorities} holds no PEM certificates: {_reason(error)}") from None
    return context


def _readable(name: str, file: Path) -> None:
    try:
        read_regular(file, _MAX_FILE)  # OpenSSL would wait for whoever writes to a pipe
    except OSError as error:
        raise ConfigError(f"{name}: {file} cannot be read: {error.strerror or error}") from None


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error).lower().replace("_", " ")
