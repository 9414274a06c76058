"""When the end of our direction goes out."""

from sidecar.core.channel import StreamHalfClosed

from .pair import Pair


def test_the_end_waits_until_the_protocol_is_agreed_on() -> None:
    pair = Pair()
    stream = pair.dialer.channel.open_stream(["/test/1"], pair.now)
    pair.dialer.send(stream, b"question")
    pair.dialer.channel.close_write(stream)
    assert pair.carry(pair.dialer, pair.listener)
    assert pair.listener.received(stream) == b"question"
    assert not pair.listener.of(StreamHalfClosed)
    pair.run()
    assert pair.listener.of(StreamHalfClosed) == [StreamHalfClosed(stream)]
