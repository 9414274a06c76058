"""Two channels joined back to back in memory, and apps at their ends."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from sidecar.core.buffer import SendBuffer
from sidecar.core.channel import Channel, ChannelEvent, ChannelLimits, Failed, StreamReceived
from sidecar.core.identity import Identity
from sidecar.core.types import PeerId

_Event = TypeVar("_Event", bound=ChannelEvent)


class End:
    """One side: a channel, what its app wants to send, and what it was told."""

    def __init__(
        self,
        seed: int,
        *,
        dialer: bool,
        expected: PeerId | None = None,
        limits: ChannelLimits | None = None,
        accepts: Callable[[str], bool] = lambda protocol: protocol.startswith("/test/"),
        now: float = 0.0,
    ) -> None:
        self.identity = Identity(bytes([seed] * 32))
        self.outgoing: dict[int, SendBuffer] = {}
        self.events: list[ChannelEvent] = []
        self.acknowledging = True
        self.channel = Channel(
            self.identity,
            dialer=dialer,
            expected_peer=expected,
            limits=limits or ChannelLimits(),
            pull=self._pull,
            accepts=accepts,
            ephemeral=bytes([seed + 100] * 32),
            now=now,
        )

    def _pull(self, stream: int, limit: int) -> Sequence[bytes | memoryview]:
        buffer = self.outgoing.get(stream)
        return buffer.take(limit) if buffer else ()

    def send(self, stream: int, *pieces: bytes) -> None:
        buffer = self.outgoing.setdefault(stream, SendBuffer())
        for piece in pieces:
            buffer.push(piece)
        self.channel.wake(stream)

    def take(self, events: list[ChannelEvent]) -> None:
        self.events += events
        for event in events:
            if isinstance(event, StreamReceived) and self.acknowledging:
                self.channel.acknowledge(event.stream, len(event.data))

    def received(self, stream: int) -> bytes:
        return b"".join(e.data for e in self.events if isinstance(e, StreamReceived) and e.stream == stream)

    def of(self, kind: type[_Event]) -> list[_Event]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def failure(self) -> Exception | None:
        last = self.events[-1] if self.events else None
        return last.error if isinstance(last, Failed) else None


class Pair:
    """A dialer and a listener, both ready unless `run` is called later."""

    def __init__(self, dialer: End | None = None, listener: End | None = None, *, run: bool = True) -> None:
        self.dialer = dialer or End(1, dialer=True)
        self.listener = listener or End(2, dialer=False)
        self.now = 0.0
        if run:
            self.run()

    def carry(self, source: End, target: End, limit: int = 1 << 18) -> bool:
        """One write of `source` to `target`; whether there was one."""
        data = b"".join(source.channel.data_to_send(limit))
        if data:
            target.take(target.channel.receive_data(data, self.now))
        return bool(data)

    def run(self) -> None:
        """Carry bytes both ways until neither side has any."""
        while self.carry(self.dialer, self.listener) | self.carry(self.listener, self.dialer):
            pass

    def open(self, *protocols: str) -> int:
        """A stream of the dialer that both sides know."""
        stream = self.dialer.channel.open_stream(protocols or ("/test/1",), self.now)
        self.run()
        return stream
