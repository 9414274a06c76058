"""What connections are made of beside plain TCP, as configured."""

import os
import ssl
from pathlib import Path

from ..core.errors import ConfigError
from ..core.multiaddr import Endpoint, Multiaddr
from .layers import Layer, Stack
from .private import NONCE_SIZE, PrivateLayer
from .tls import TlsLayer, client_context


class Transports:
    """Makes the layers of connections."""

    def __init__(
        self, *, psk: bytes | None = None, server_tls: ssl.SSLContext | None = None, authorities: Path | None = None
    ) -> None:
        """Check the files. Raises ConfigError where the authorities cannot be used.

        `psk`: the 32 bytes of the private network's key.
        `server_tls`: for listening at addresses with `/tls`; without it they are refused.
        `authorities`: a PEM file of authorities that are trusted when dialling addresses with `/tls`, besides the
        system's.
        """
        self.psk = psk
        self.server_tls = server_tls
        # The system's authorities take a moment to load: not before they are needed, a wrong file however at once.
        self._client_tls = client_context(authorities) if authorities is not None else None

    def check_listening(self, address: Multiaddr) -> None:
        """Raises ConfigError when it takes what is not configured."""
        endpoint = address.endpoint()
        if endpoint is not None and endpoint.tls and self.server_tls is None:
            raise ConfigError(f"cannot listen on {address} without listen.tls_certificate and listen.tls_key")

    def stack(self, endpoint: Endpoint, *, dialled: bool) -> Stack | None:
        """The layers of a new connection; None: there are none, its bytes go straight to the channel."""
        layers: list[Layer] = []
        if endpoint.tls:
            layers.append(self._tls(endpoint, dialled=dialled))
        if endpoint.websocket:
            from .websocket import WebSocketLayer  # not before such an address is used

            if dialled:
                layers.append(WebSocketLayer(endpoint.sni or endpoint.host, endpoint.port, secure=endpoint.tls))
            else:
                layers.append(WebSocketLayer())
        if self.psk is not None:
            layers.append(PrivateLayer(self.psk, os.urandom(NONCE_SIZE)))
        return Stack(layers) if layers else None

    def _tls(self, endpoint: Endpoint, *, dialled: bool) -> TlsLayer:
        if not dialled:
            if self.server_tls is None:
                raise RuntimeError("a TLS listener without a certificate")
            return TlsLayer(self.server_tls, None)
        if self._client_tls is None:
            self._client_tls = client_context(None)
        return TlsLayer(self._client_tls, endpoint.sni or endpoint.host)
