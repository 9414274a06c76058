"""One place where apps connect: it takes connections, greets them by TLS, and looks after those over a network."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

from ..certificates import Certificates
from .protocol import HANDSHAKE, ApiProtocol

BACKLOG = 511  # connections that the kernel holds until they are taken; Redis's and nginx's
_AT_ONCE = 64  # taken in one turn of the loop
_BREATH = 1.0  # seconds in which none are taken, after this process has run out of files
_LOOK = 15.0  # seconds between two looks at connections over a network
_SILENCE = 60.0  # seconds in which nothing came, after which a sign of life is asked for; a guess
_USED_UP = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_log = logging.getLogger("sidecar.api.http2")


class Listener:
    """A bound socket, and the connections that came by it."""

    def __init__(
        self,
        listening: socket.socket,
        make: Callable[["Listener", str], ApiProtocol],
        emptied: Callable[[], None],
        *,
        most: int,
        certificates: Certificates | None = None,
    ) -> None:
        """For a socket that is bound.

        `make`: a protocol for who comes from there.
        `emptied`: called when the last connection has gone.
        `most`: connections; further ones are closed.
        """
        listening.setblocking(False)
        self._listening = listening
        self._make = make
        self._emptied = emptied
        self._most = most
        self._certificates = certificates
        self._networked = listening.family != socket.AF_UNIX
        self._loop = asyncio.get_running_loop()
        self._taken = 0  # connections, and those that TLS still greets
        self._greeting: dict[asyncio.Task[None], None] = {}
        self.connections: dict[ApiProtocol, None] = {}
        self._look_timer: asyncio.TimerHandle | None = None
        self._breath: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Begin to take connections."""
        self._listening.listen(BACKLOG)
        self._loop.add_reader(self._listening.fileno(), self._accept)
        if self._networked:
            self._look_timer = self._loop.call_later(_LOOK, self._look)

    def close(self) -> None:
        """Take no more. Those that are there stay."""
        for timer in (self._look_timer, self._breath):
            if timer is not None:
                timer.cancel()
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening.fileno())
            self._listening.close()
        for task in self._greeting:
            task.cancel()

    # ------------------------------------------------------------ who comes

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _USED_UP:
                    raise
                _log.warning("no API connections are taken for %.0f s: %s", _BREATH, error.strerror)
                self._loop.remove_reader(self._listening.fileno())
                self._breath = self._loop.call_later(_BREATH, self._accept_again)
                return
            if self._taken >= self._most:
                accepted.close()
                continue
            self._taken += 1
            accepted.setblocking(False)
            task = self._loop.create_task(self._greet(accepted, _peer(accepted, address)), name="api connection")
            self._greeting[task] = None
            task.add_done_callback(self._greeting.pop)

    def _accept_again(self) -> None:
        self._loop.add_reader(self._listening.fileno(), self._accept)

    async def _greet(self, accepted: socket.socket, peer: str) -> None:
        """Give the socket a protocol, once it has shown what TLS asks for."""
        connection = self._make(self, peer)
        connect = self._loop.connect_accepted_socket
        try:
            if self._certificates is None:
                await connect(lambda: connection, accepted)
            else:
                context = self._certificates.latest().context
                await connect(lambda: connection, accepted, ssl=context, ssl_handshake_timeout=HANDSHAKE)
        except (OSError, asyncio.CancelledError) as error:  # what TLS fails with is among them; this place has closed
            _log.debug("an API connection from %s came to nothing: %r", peer, error)
            accepted.close()
            if connection not in self.connections:
                self._taken -= 1

    def opened(self, connection: ApiProtocol) -> None:
        """It is there."""
        self.connections[connection] = None

    def lost(self, connection: ApiProtocol) -> None:
        """It is not any more."""
        del self.connections[connection]
        self._taken -= 1
        if not self.connections:
            self._emptied()

    # ------------------------------------------------------------ who is still there

    def _look(self) -> None:
        """A host that vanished says nothing; its connection would hold its calls for ever."""
        self._look_timer = self._loop.call_later(_LOOK, self._look)
        now = self._loop.time()
        for connection in list(self.connections):
            if now - connection.heard < _SILENCE:
                continue
            if connection.machine.answered_ping:
                connection.ask()
            else:
                _log.info("closed an API connection from %s: nothing came for %.0f s", connection.peer, _SILENCE)
                connection.abort()


def _peer(accepted: socket.socket, address: object) -> str:
    """Where a connection comes from, as gRPC names it."""
    if accepted.family == socket.AF_UNIX or not isinstance(address, tuple):
        return "unix:"
    host, port = address[:2]
    return f"ipv6:[{host}]:{port}" if accepted.family == socket.AF_INET6 else f"ipv4:{host}:{port}"
