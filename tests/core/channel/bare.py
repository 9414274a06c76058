"""A peer that upgrades its connection properly and then sends whatever a test wants."""

from sidecar.core.channel import frames
from sidecar.core.channel.multistream import GREETING, encode_token
from sidecar.core.channel.secure import FrameReader, frame
from sidecar.core.channel.upgrade import Upgrade
from sidecar.core.identity import Identity

from .pair import End


class Bare:
    """The dialer of `end`, by default; only frames, no behaviour."""

    def __init__(self, end: End, *, dialer: bool = True) -> None:
        self.end = end
        self.now = 0.0
        output: list[bytes] = []
        self.upgrade = Upgrade(Identity(bytes(32)), dialer=dialer, expected=None, entropy=bytes(32), output=output)
        self.wire = FrameReader(65535)
        while True:
            theirs = b"".join(end.channel.data_to_send(65536))
            if theirs:
                self.upgrade.receive(theirs, [])
            if output:
                self._deliver(b"".join(output))
                output.clear()
            elif not theirs:
                break
        assert self.upgrade.ciphers is not None
        self.sender, self.receiver = self.upgrade.ciphers

    def _deliver(self, data: bytes) -> None:
        self.end.take(self.end.channel.receive_data(data, self.now))

    def wrap(self, plaintext: bytes) -> bytes:
        return frame(self.sender.encrypt(plaintext))

    def send(self, plaintext: bytes) -> None:
        messages = [plaintext[start : start + 65000] for start in range(0, len(plaintext), 65000)]
        self._deliver(b"".join(map(self.wrap, messages)))

    def answers(self) -> bytes:
        """The plaintext of all that the other side has to send now."""
        plaintext = b""
        while pieces := self.end.channel.data_to_send(1 << 20):
            self.wire.feed(b"".join(pieces))
            while (message := self.wire.next_frame()) is not None:
                plaintext += self.receiver.decrypt(message)
        return plaintext


def data(stream: int, body: bytes = b"", flags: int = 0) -> bytes:
    return frames.pack(frames.DATA, flags, stream, len(body)) + body


def window(stream: int, size: int = 0, flags: int = 0) -> bytes:
    return frames.pack(frames.WINDOW_UPDATE, flags, stream, size)


def proposal(*protocols: str) -> bytes:
    return b"".join(map(encode_token, (GREETING, *protocols)))


def opening(stream: int, *protocols: str) -> bytes:
    """A stream opened and negotiated as eagerly as can be."""
    return data(stream, proposal(*protocols or ("/test/1",)), frames.SYN)


def parse(plaintext: bytes) -> list[tuple[int, int, int, bytes | int]]:
    """(type, flags, stream, body or length) of every frame."""
    found: list[tuple[int, int, int, bytes | int]] = []
    while plaintext:
        _, kind, flags, stream, length = frames.parse(plaintext)
        plaintext = plaintext[frames.HEADER :]
        if kind == frames.DATA:
            found.append((kind, flags, stream, plaintext[:length]))
            plaintext = plaintext[length:]
        else:
            found.append((kind, flags, stream, length))
    return found
