"""multistream-select 1.0: agreeing on a protocol (specs connections, "multistream-select").

Every message is a text and a newline behind their length as a varint. The dialer of a connection or stream proposes,
the listener echoes what it accepts and says `na` to the rest.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from .. import varint
from ..errors import FrameTooLarge, HandshakeError, InvalidArgument, NotSupported, ProtocolError

GREETING = "/multistream/1.0.0"
REFUSAL = "na"
MAX_TOKEN = 1024  # bytes with the newline; go-multistream's bound
MAX_PROPOSALS = 32  # a guess: go- and js-libp2p know some 20 protocols altogether


def encode_token(text: str) -> bytes:
    """One message; raises InvalidArgument when the text is empty, too long or has a newline in it."""
    body = text.encode() + b"\n"
    if not 1 < len(body) <= MAX_TOKEN or "\n" in text:
        raise InvalidArgument(
            f"protocol id {text[:40]!r} of {len(body) - 1} bytes, not 1 to {MAX_TOKEN - 1} in one line"
        )
    return varint.framed(body)


class _Negotiation(ABC):
    """What both sides share: cutting messages, and stopping right behind the last one.

    `protocol` is None until both agree; `rest` is then what came behind the agreement.
    """

    __slots__ = ("_buffer", "_greeted", "protocol", "rest")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._greeted = False
        self.protocol: str | None = None
        self.rest = b""

    def receive(self, data: bytes | bytearray | memoryview) -> bytes:
        """Take bytes in and give the answer to them (it may be empty).

        Raises HandshakeError, FrameTooLarge, and NotSupported when the remote has refused every proposal.
        """
        self._buffer += data
        answer = b""
        while self.protocol is None and (token := self._next_token()) is not None:
            answer += self._on_token(token)
        if self.protocol is not None:
            self.rest = bytes(self._buffer)
            self._buffer.clear()
        return answer

    def _next_token(self) -> str | None:
        try:
            header = varint.decode(self._buffer)
        except ProtocolError as error:
            raise HandshakeError(f"negotiation: {error}") from None
        if header is None:
            return None
        length, start = header
        if length > MAX_TOKEN:
            raise FrameTooLarge(f"negotiation message of {length} bytes, at most {MAX_TOKEN}")
        if len(self._buffer) < start + length:
            return None
        body = bytes(self._buffer[start : start + length])
        del self._buffer[: start + length]
        if not body.endswith(b"\n"):
            raise HandshakeError(f"negotiation message of {length} bytes has no newline at its end")
        try:
            return body[:-1].decode()
        except UnicodeDecodeError:
            raise HandshakeError(f"negotiation message of {length} bytes is not UTF-8") from None

    def _on_token(self, token: str) -> bytes:
        if self._greeted:
            return self._on_choice(token)
        if token != GREETING:
            raise HandshakeError(f"negotiation began with {token[:40]!r}, not {GREETING!r}")
        self._greeted = True
        return self._on_greeting()

    @abstractmethod
    def _on_greeting(self) -> bytes: ...

    @abstractmethod
    def _on_choice(self, token: str) -> bytes: ...


class Proposer(_Negotiation):
    """The dialer's side. Send `greeting` first: it proposes the first protocol without waiting for the listener."""

    __slots__ = ("_protocols", "greeting")

    def __init__(self, protocols: Sequence[str]) -> None:
        """`protocols`: the one liked best first. Raises InvalidArgument when one is unfit or there is none."""
        super().__init__()
        if not 0 < len(protocols) <= MAX_PROPOSALS:
            raise InvalidArgument(f"{len(protocols)} protocols to propose, not 1 to {MAX_PROPOSALS}")
        for protocol in protocols:
            encode_token(protocol)
        self._protocols = list(reversed(protocols))
        self.greeting = encode_token(GREETING) + encode_token(protocols[0])

    def _on_greeting(self) -> bytes:
        return b""

    def _on_choice(self, token: str) -> bytes:
        proposed = self._protocols.pop()
        if token == proposed:
            self.protocol = proposed
            return b""
        if token != REFUSAL:
            raise HandshakeError(f"{token[:40]!r} is no answer to the proposal of {proposed!r}")
        if not self._protocols:
            raise NotSupported(f"the remote speaks none of the protocols proposed, {proposed} last")
        return encode_token(self._protocols[-1])


class Responder(_Negotiation):
    """The listener's side. `ls` gets `na`, as go-libp2p answers it: a remote learns our protocols through identify."""

    __slots__ = ("_accepts", "_proposals")

    def __init__(self, accepts: Callable[[str], bool]) -> None:
        super().__init__()
        self._accepts = accepts
        self._proposals = 0

    def _on_greeting(self) -> bytes:
        return encode_token(GREETING)

    def _on_choice(self, token: str) -> bytes:
        if token and "\n" not in token and self._accepts(token):
            self.protocol = token
            return encode_token(token)
        self._proposals += 1
        if self._proposals >= MAX_PROPOSALS:
            raise HandshakeError(f"{self._proposals} proposals and none that is spoken here, {token[:40]!r} last")
        return encode_token(REFUSAL)
