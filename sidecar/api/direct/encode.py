"""The hot responses of DirectService, encoded by hand: messages that were received, and results of requests."""

from collections.abc import Sequence

from sidecar_client.v1.direct_pb2 import DirectMessage, ReceiveResponse, RequestManyResponse, RequestResult

from ...core.types import PeerId
from ...core.varint import encode
from ..common.encode import VARINTS, LagReason, field, peer_field, tag, varint
from ..common.encode import lagged as lagged_in

_ITEM = tag(ReceiveResponse, "messages")
_LAGGED = tag(ReceiveResponse, "lagged")
_PEER, _PROTOCOL, _DATA = (tag(DirectMessage, name) for name in ("peer_id", "protocol", "data"))
_RESULT = tag(RequestManyResponse, "results")
_NUMBER, _ANSWER, _STATUS = (tag(RequestResult, name) for name in ("id", "data", "status"))


def direct_items(peer: PeerId, protocol: str, payloads: Sequence[bytes]) -> bytes:
    """Encode payloads of one peer and protocol as items of a ReceiveResponse."""
    fixed = peer_field(_PEER, peer) + field(_PROTOCOL, protocol.encode()) + _DATA
    parts: list[bytes] = []
    for data in payloads:
        length = len(data)
        prefix = VARINTS[length] if length < 2048 else encode(length)
        parts += (_ITEM, varint(len(fixed) + len(prefix) + length), fixed, prefix, data)
    return b"".join(parts)


def lagged(missed: int, reason: LagReason) -> bytes:
    """How many messages were missed before those of a ReceiveResponse, as its field."""
    return lagged_in(_LAGGED, missed, reason)


def answered(number: int, data: bytes) -> bytes:
    """An item of a RequestManyResponse: the answer to a request, by the app's number."""
    return field(_RESULT, _NUMBER + varint(number) + field(_ANSWER, data))


def failed(number: int, status: bytes) -> bytes:
    """An item of a RequestManyResponse: why a request has no answer."""
    return field(_RESULT, _NUMBER + varint(number) + field(_STATUS, status))
