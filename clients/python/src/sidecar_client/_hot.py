"""The stream of a subscription, parsed so that a message costs little.

For each message that is read, protobuf makes an object of its `receive_time`, which costs as much as all other fields
together (0.9 of 2.0 us). Here the schema's messages have their submessages left encoded: messages that came together
have the same few bytes there.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from . import _convert
from .types import DirectMessage, Lagged, Message
from .v1 import common_pb2, pubsub_pb2

_KEPT = ("SubscribeResponse", "TopicMessage", "ValidateResponse")


def _responses() -> tuple[Any, Any]:
    whole = FileDescriptorProto()
    pubsub_pb2.DESCRIPTOR.CopyToProto(whole)
    own = FileDescriptorProto(name="sidecar_client/hot.proto", package=whole.package, syntax=whole.syntax)
    for message in whole.message_type:
        if message.name in _KEPT:
            own.message_type.add().CopyFrom(message)
    for message in own.message_type:
        for field in message.field:
            if field.type == FieldDescriptorProto.TYPE_MESSAGE and field.type_name.rpartition(".")[2] not in _KEPT:
                field.type = FieldDescriptorProto.TYPE_BYTES
                field.ClearField("type_name")
    pool = DescriptorPool()
    pool.Add(own)
    some, judged = (
        GetMessageClass(pool.FindMessageTypeByName(f"{own.package}.{name}"))
        for name in ("SubscribeResponse", "ValidateResponse")
    )
    return some, judged


_subscribed, _judged = _responses()
parse: Callable[[bytes], Any] = _subscribed.FromString
"""A SubscribeResponse of bytes; its `lagged` and its messages' `receive_time` are bytes."""
parse_judged: Callable[[bytes], Any] = _judged.FromString
"""A ValidateResponse of bytes, likewise."""

_new_message = Message.__new__
_new_tuple = tuple.__new__  # a named tuple's own constructor costs twice as much


def message(item: Any) -> Message:
    """Of one of the response's `messages`, without its constructor, which takes three times as long."""
    made = _new_message(Message)
    made.data = item.data
    made._described = item
    return made


def direct_message(item: Any) -> DirectMessage:
    """Of one of a ReceiveResponse's `messages`."""
    return _new_tuple(DirectMessage, (item.peer_id, item.protocol, item.data))


def lagged(encoded: bytes) -> Lagged | None:
    """Of the response's `lagged`."""
    return _convert.lagged(common_pb2.Lagged.FromString(encoded)) if encoded else None
