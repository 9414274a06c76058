"""A connection with layers between its socket and its channel."""

import asyncio
import logging

from ..core.channel import Channel
from ..core.errors import SidecarError
from ..core.override import override
from ..core.types import Direction
from .concurrent_dial import Attempt
from .connection import TURN_BYTES, WRITE_CHUNK, Connection
from .host import ConnectionHost
from .layers import Stack
from .lifecycle import State, Step

log = logging.getLogger(__name__)


class LayeredConnection(Connection):
    """A subclass, so that plain connections do not pay for what they lack, not even with a test."""

    __slots__ = ("_stack",)

    def __init__(
        self,
        host: ConnectionHost,
        number: int,
        direction: Direction,
        attempt: Attempt | None,
        *,
        stack: Stack,
        suffix: str,
    ) -> None:
        """Begin without a socket, as the base does; `stack`: the layers of this connection alone."""
        super().__init__(host, number, direction, attempt, suffix=suffix)
        self._stack = stack

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._channel is not None:
            self._say(self._stack.output())

    @override
    def data_received(self, data: bytes) -> None:
        if self._channel is None or self._state is State.CUT:
            return
        was_ready = self._stack.ready
        try:
            plain = self._stack.feed(data)
        except SidecarError as error:
            self.bytes_in += len(data)
            self._fail(error)
            return
        except Exception:
            log.exception("%r: internal error", self)
            self._broken()
            return
        self.bytes_in += len(data) - len(plain)  # the rest is counted below: in all, what the socket brought
        if not self._write_paused:
            self._say(self._stack.output())
        if plain:
            super().data_received(plain)
        if not was_ready and self._stack.ready:
            self._mark_dirty()
        if self._stack.failure is not None:
            self._fail(self._stack.failure)
        elif self._stack.ended and not self._input_ended:
            super().eof_received()

    def _fail(self, error: SidecarError) -> None:
        """A layer broke: nothing more is read of it, and nothing that the channel has can be said."""
        self._end(error)
        transport = self._transport
        if transport is not None and not transport.is_closing():
            self._say(self._stack.output())  # what went wrong, where the layer has words for it
            transport.close()
            self._limit_closing(self._host.config.close_timeout)
        self._end(error, Step.ABORTED)

    def _say(self, buffers: list[bytes | memoryview]) -> None:
        transport = self._transport
        if buffers and transport is not None and not transport.is_closing():
            self.bytes_out += sum(map(len, buffers))
            transport.writelines(buffers)

    @override
    def _write(self, channel: Channel, transport: asyncio.Transport) -> None:
        stack = self._stack
        if not self._write_paused:
            self._say(stack.output())
        if not stack.ready:
            if self.over:  # what the channel still has cannot be said
                transport.close()
            return
        left = TURN_BYTES
        while not self._write_paused:
            buffers = channel.data_to_send(WRITE_CHUNK)
            if not buffers:
                return
            sealed = stack.seal(buffers)
            size = sum(map(len, sealed))
            self.bytes_out += size
            transport.writelines(sealed)
            left -= size
            if left <= 0:
                self._mark_dirty()
                return

    @override
    def _shut(self, transport: asyncio.Transport) -> None:
        if not self._output_ended:
            self._say(self._stack.close())
        super()._shut(transport)

    @override
    def _end(self, error: SidecarError | None, step: Step = Step.ENDED) -> None:
        super()._end(self._stack.explain(error) if self.opened_at is None else error, step)
