"""From raw bytes to a secured and muxed connection (specs connections, "Upgrading Connections").

Security is negotiated, then the Noise handshake runs, then the muxer is negotiated unless the handshake settled it.
"""

from typing import Final

from ..errors import NotSupported
from ..identity import Identity
from ..types import PeerId
from . import secure, yamux
from .events import ChannelEvent, Ready, Secured
from .multistream import Proposer, Responder
from .noise import MAX_MESSAGE, CipherState

MUXERS: Final = (yamux.PROTOCOL,)


class Upgrade:
    """One side of it. Once there is a `ready`, take over `frames`, `ciphers` (sending, receiving) and `rest`."""

    __slots__ = ("_dialer", "_handshake", "_muxer", "_output", "_security", "ciphers", "frames", "ready", "rest")

    def __init__(
        self, identity: Identity, *, dialer: bool, expected: PeerId | None, entropy: bytes, output: list[bytes]
    ) -> None:
        """`output`: what is to be sent is appended to it; the others are as for `Channel`."""
        self._dialer = dialer
        self._output = output
        self._security = self._negotiator((secure.PROTOCOL,))
        self._handshake = secure.SecureHandshake(
            identity, initiator=dialer, expected=expected, muxers=MUXERS, entropy=entropy
        )
        self._muxer: Proposer | Responder | None = None  # only where the handshake does not settle it
        self.frames = secure.FrameReader(secure.MAX_HANDSHAKE_MESSAGE)
        self.ciphers: tuple[CipherState, CipherState] | None = None
        self.ready: Ready | None = None  # how it ended
        self.rest = b""  # plaintext behind the last message of the negotiation
        if isinstance(self._security, Proposer):
            # The first handshake message does not wait for the listener's consent, which saves a round trip: a
            # listener that refuses us says so, and the connection has ended either way.
            output += (self._security.greeting, secure.frame(self._handshake.start()))

    def receive(self, data: secure.Buffer, events: list[ChannelEvent]) -> None:
        """Take bytes in up to the end of the upgrade; what is behind it stays in `frames`.

        Raises HandshakeError (SimultaneousOpen where both sides are the dialer), WrongPeer, FrameTooLarge, and
        NotSupported when the two have no protocol in common.
        """
        if self._security.protocol is None:
            if answer := self._security.receive(data):
                self._output.append(answer)
            data = self._security.rest
            if self._security.protocol is None:
                return
        self.frames.feed(data)
        while self.ready is None and (frame := self.frames.next_frame()) is not None:
            if self.ciphers is None:
                self._on_handshake(bytes(frame), events)
            elif self._muxer is not None:
                self._on_muxer(self._muxer, self.ciphers[1].decrypt(frame), events)

    def _on_handshake(self, message: bytes, events: list[ChannelEvent]) -> None:
        handshake = self._handshake
        if answer := handshake.receive(message):
            self._output.append(secure.frame(answer))
        if not handshake.finished or handshake.peer_id is None or handshake.public_key is None:
            return
        self.ciphers = handshake.split()
        self.frames.limit = MAX_MESSAGE
        events.append(Secured(handshake.peer_id, handshake.public_key))
        if not handshake.muxers:
            self._muxer = self._negotiator(MUXERS)
            if isinstance(self._muxer, Proposer):
                self._send_encrypted(self._muxer.greeting)
        elif yamux.PROTOCOL in handshake.muxers:
            self.ready = Ready(yamux.PROTOCOL, early=True)
            events.append(self.ready)
        else:  # specs connections, inlined-muxer-negotiation: without overlap "the handshake MUST fail"
            raise NotSupported(f"the remote speaks the muxers {', '.join(handshake.muxers)[:200]}, not {MUXERS[0]}")

    def _on_muxer(self, muxer: Proposer | Responder, data: bytes, events: list[ChannelEvent]) -> None:
        if answer := muxer.receive(data):
            self._send_encrypted(answer)
        if muxer.protocol is not None:
            self.ready, self.rest = Ready(muxer.protocol, early=False), muxer.rest
            events.append(self.ready)

    def _send_encrypted(self, plaintext: bytes) -> None:
        if self.ciphers is not None:
            self._output.append(secure.frame(self.ciphers[0].encrypt(plaintext)))

    def _negotiator(self, protocols: tuple[str, ...]) -> Proposer | Responder:
        return Proposer(protocols) if self._dialer else Responder(protocols.__contains__)
