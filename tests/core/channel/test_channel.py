"""Two whole channels against each other."""

from sidecar.core.channel import Ready, Secured, StreamEnded, StreamOpened

from .pair import Pair


def test_two_channels_agree_within_the_handshake() -> None:
    pair = Pair()
    for end, other in ((pair.dialer, pair.listener), (pair.listener, pair.dialer)):
        assert end.events == [
            Secured(other.identity.peer_id, other.identity.public_key),
            Ready("/yamux/1.0.0", early=True),
        ]
        assert end.channel.peer_id == other.identity.peer_id


def test_a_stream_carries_bytes_both_ways_and_ends() -> None:
    pair = Pair()
    stream = pair.open("/test/1")
    pair.dialer.send(stream, b"question", b" and more")
    pair.dialer.channel.close_write(stream)
    pair.run()
    assert StreamOpened(stream, "/test/1", inbound=False) in pair.dialer.events
    assert pair.listener.of(StreamOpened) == [StreamOpened(stream, "/test/1", inbound=True)]
    assert pair.listener.received(stream) == b"question and more"
    assert pair.listener.events[-1] == StreamEnded(stream)
    pair.listener.send(stream, b"answer")
    pair.listener.channel.close_write(stream)
    pair.run()
    assert pair.dialer.received(stream) == b"answer"
    assert pair.dialer.events[-1] == StreamEnded(stream)
    assert len(pair.dialer.channel) == len(pair.listener.channel) == 0
