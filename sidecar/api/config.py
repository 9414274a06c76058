"""Bounds and places of the API."""

import ipaddress
from pathlib import Path

from ..config.sections import ApiSection, StreamsSection, TimeoutsSection
from ..core.classes import dataclass
from ..core.errors import ConfigError
from ..core.parameters.validation import ValidationSettings

_MIB = 1 << 20
_VALIDATION = ValidationSettings()
_API, _STREAMS, _TIMEOUTS = ApiSection(), StreamsSection(), TimeoutsSection()


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """Where the API is served, and every bound of it; bytes and seconds. Raises ConfigError where a value cannot work.

    Defaults without another source are guesses: as large as a small host can bear with all of them reached.
    """

    engine: str = _API.engine
    """What speaks gRPC to apps: `grpcio`, `http2`, or `auto`."""
    socket: Path | None = _API.socket
    """The Unix socket; None: `api.sock` in the per-user directory (see `server.sockets.default_socket`)."""
    socket_mode: int = _API.mode
    socket_owner: str | None = None
    """A user's name or number that the socket is given to, which takes root; None: the process's."""
    socket_group: str | None = None
    """A group's name that owns the socket, for a mode such as 0660; None: the process's."""
    tcp: str | None = None
    """`host:port` to serve on too; port 0: any free one. Other addresses than loopback take TLS and authentication."""
    tls_certificate: Path | None = _API.tls_certificate
    """PEM file of the certificate for `tcp`; None: plain text."""
    tls_key: Path | None = _API.tls_key
    tls_client_ca: Path | None = _API.tls_client_ca
    """PEM file of the authorities that apps' certificates must come from; None: apps at `tcp` need none."""
    tokens: Path | None = _API.tokens
    """The file of tokens; None: there are none."""
    tokens_kept_elsewhere: bool = False
    """Whether something else keeps that file, so that its group may read it."""
    tokens_fresh: float = 0.05
    """Seconds for which that file is taken to be as it was when it was looked at last."""
    require_token: bool = _API.require_token
    """Whether calls without a token are refused."""
    max_request_bytes: int = _API.max_request
    """One gRPC message from an app. 4 MiB is what gRPC libraries take by default."""
    max_calls: int = _API.max_calls
    """Calls under way at once, streams included; health and reflection have room of their own."""
    max_connections: int = _API.max_connections
    """Connections at once to the socket, and as many to `tcp`."""
    max_topics: int = _API.max_topics
    """Topics joined at once."""
    max_subscriptions: int = _API.max_calls // 4
    max_receivers: int = _API.max_calls // 4
    """Calls of each kind in which an app receives messages, serves requests or accepts streams."""
    max_watchers: int = _API.max_calls // 4
    """Calls of each kind that watch something."""
    history_messages: int = _API.history_messages
    """Messages kept of a topic, from which a subscription can continue."""
    history_bytes: int = _API.history_bytes
    """Bytes kept of a topic; less where `history_total_bytes` divided by all topics is less."""
    history_total_bytes: int = _API.history_total
    queue_messages: int = _API.queue_messages
    """Messages waiting for one slow subscriber."""
    queue_bytes: int = _API.queue_bytes
    linger: float = _API.linger
    """How long a topic without subscribers stays joined, so that a reader that reconnects misses nothing."""
    receive_queue_messages: int = 8192
    """Direct messages waiting for one slow receiver."""
    receive_queue_bytes: int = 8 * _MIB
    serve_queue_requests: int = 4096
    """Requests that one serving app has not answered."""
    serve_queue_bytes: int = 16 * _MIB
    """Bytes of requests that one serving app has not taken yet."""
    max_streams: int = _STREAMS.max_open
    """Byte streams that apps have open at once."""
    max_unattached_streams: int = _STREAMS.max_unattached
    """Byte streams of peers that no app has taken up yet."""
    attach_timeout: float = _STREAMS.attach_timeout
    """How long one of these waits; then it is reset. As long as its negotiation might have taken."""
    watch_queue_events: int = 1024
    """Peer events waiting for one slow watcher; beyond, it is told the present state anew."""
    validation: ValidationSettings = _VALIDATION
    """How topics are judged where the app does not say."""
    send_window: int = 65_536
    """Messages of one SendMany stream that are not answered for; then it is not read further."""
    send_window_bytes: int = 8 * _MIB
    """The same in bytes, each message counting 64 more: half of what the direct router queues for a peer by default."""
    request_timeout: float = _API.request_timeout
    """The deadline of a request that brings none."""
    request_ids: int = 65_536
    """Ids of callers remembered, so that a repeat gets the first one's receipt."""
    drain_timeout: float = _TIMEOUTS.shutdown / 2
    """How long calls may take to end when the sidecar stops."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, int | float) and value < 0:
                raise ConfigError(f"{name} is {value}, at least 0")
        if self.socket_mode & ~0o777:
            raise ConfigError(f"socket_mode is {self.socket_mode:#o}, at most 0o777")
        if self.max_request_bytes < 65_536:
            raise ConfigError(f"max_request_bytes is {self.max_request_bytes}, at least 65536")
        self._check_tcp()

    def _check_tcp(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ConfigError("api.tls_certificate and api.tls_key go together: one of them is missing")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ConfigError("api.tls_client_ca without TLS: set api.tls_certificate and api.tls_key too")
        if self.tcp is not None:
            authenticated = self.tls_client_ca is not None or self.require_token
            _check_place(self.tcp, tls=self.tls_certificate is not None, authenticated=authenticated)


def _check_place(address: str, *, tls: bool, authenticated: bool) -> None:
    """Check a `host:port` to serve at. Raises ConfigError where others than this machine's users could use it."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"api.tcp {address!r} is not host:port")
    try:
        loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        raise ConfigError(f"api.tcp {address!r} has no IP address: name a loopback address such as 127.0.0.1") from None
    if loopback:
        return
    if not tls:
        raise ConfigError(
            f"api.tcp {address!r} is not a loopback address, so other machines could read and use the API: "
            "set api.tls_certificate and api.tls_key, and api.tls_client_ca or api.require_token; or serve at 127.0.0.1"
        )
    if not authenticated:
        raise ConfigError(
            f"api.tcp {address!r} is not a loopback address, so other machines could use the API: "
            "set api.tls_client_ca, so that they must show a certificate, or api.require_token; or serve at 127.0.0.1"
        )
