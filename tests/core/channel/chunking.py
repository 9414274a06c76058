"""The same bytes, cut in every way, must mean the same."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from sidecar.core.channel import ChannelEvent, StreamReceived


def feed(receive: Callable[[bytes], list[ChannelEvent]], data: bytes, cuts: Sequence[int]) -> list[ChannelEvent]:
    """Feed `data` cut at the offsets `cuts` and give all events, neighbouring bytes of one stream joined."""
    events: list[ChannelEvent] = []
    edges = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(edges):
        events += receive(data[start:end])
    return joined(events)


def joined(events: list[ChannelEvent]) -> list[ChannelEvent]:
    result: list[ChannelEvent] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, StreamReceived) and isinstance(last, StreamReceived) and last.stream == event.stream:
            result[-1] = StreamReceived(event.stream, last.data + event.data)
        else:
            result.append(event)
    return result


def shape(events: list[ChannelEvent]) -> list[object]:
    """Events in a form that compares: errors by type and text."""
    return [
        (type(event), *((type(field), str(field)) if isinstance(field, Exception) else field for field in event))
        for event in events
    ]


def every_way(data: bytes) -> list[list[int]]:
    """Whole, byte by byte, and in unequal pieces."""
    return [[], list(range(1, len(data))), list(range(7, len(data), 13)), [len(data) // 2, len(data) // 2 + 1]]
