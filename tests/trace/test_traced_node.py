"""What stands between driver and node: it changes nothing, records everything, and forgets what is over."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sidecar.core import events
from sidecar.core.channel import Channel, ChannelLimits, UpgradeObserver
from sidecar.core.errors import Closed, NotSupported, StreamReset, Unreachable
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.types import Direction
from sidecar.trace import TracedNode, TraceFile

US, THEM = Identity(b"\1" * 32), Identity(b"\2" * 32)
HERE, THERE = Multiaddr.from_text("/ip4/127.0.0.1/tcp/1"), Multiaddr.from_text("/ip4/127.0.0.1/tcp/2")
OPENED = events.ConnectionOpened(7, THEM.peer_id, THEM.public_key, Direction.OUTBOUND, THERE, HERE, 1)
STREAM = 7 << events.STREAM_BITS | 3


class ScriptedNode:
    """Answers every input with the effects, and every `take` with the bytes, that it was given."""

    def __init__(self) -> None:
        self.effects: list[Any] = []
        self.bytes: list[bytes] = []
        self.inputs: list[Any] = []

    def handle(self, input: Any, now: float) -> Sequence[Any]:
        self.inputs.append(input)
        effects, self.effects = self.effects, []
        return effects

    def handle_deadline(self, now: float) -> Sequence[Any]:
        return self.handle(None, now)

    def take(self, stream: int, limit: int) -> Sequence[bytes]:
        taken, self.bytes = self.bytes, []
        return taken

    def drain(self, now: float) -> Sequence[Any]:
        return self.handle(None, now)

    def next_deadline(self) -> float | None:
        return 5.0

    def accepts(self, protocol: str) -> bool:
        return protocol == "/x"


class Traced:
    """A scripted node, what wraps it, and the trace so far."""

    def __init__(self, file: Path, limit: int = 1 << 20) -> None:
        self.inner = ScriptedNode()
        self._file = TraceFile(file, limit, lambda flush: None)
        self.node = TracedNode(self.inner, self._file)
        self._path = file

    def told(self) -> list[dict[str, Any]]:
        """The records, without their times."""
        self._file.flush()
        lines = [json.loads(line) for line in self._path.read_text().splitlines()]
        return [{key: value for key, value in line.items() if key not in ("time", "monotonic")} for line in lines]


@pytest.fixture
def traced(tmp_path: Path) -> Traced:
    return Traced(tmp_path / "trace")


def test_inputs_effects_and_bytes_pass_unchanged_and_are_told(traced: Traced) -> None:
    node, inner = traced.node, traced.inner
    where = {"connection": 7, "peer": str(THEM.peer_id)}
    stream = {**where, "stream": 3, "protocol": "/x", "opener": "us"}
    asked = [events.OpenStream(7, 4, ("/x", "/y")), events.Dial(1, None, (THERE,))]
    inner.effects = list(asked)
    assert node.handle(OPENED, 1.0) == asked
    assert node.handle(events.StreamOpened(STREAM, "/x", 4), 1.0) == []
    received = events.StreamsReceived(7, [(STREAM, b"in"), (STREAM, b"more")])
    assert node.handle(received, 1.0) == []
    inner.bytes = [b"o", memoryview(b"ut")]  # type: ignore[list-item]
    assert list(node.take(STREAM, 100)) == [b"o", b"ut"]
    assert node.take(STREAM, 100) == []
    inner.effects = [events.CloseWrite(STREAM)]
    node.handle_deadline(2.0)
    node.handle(events.StreamEnded(STREAM), 2.0)
    node.handle(events.LatencyMeasured(7, 0.25), 2.0)
    node.handle(events.StreamFailed(9, NotSupported("no")), 2.0)
    node.handle(events.ConnectionClosed(7, None), 3.0)
    assert (node.next_deadline(), node.accepts("/x"), node.accepts("/y")) == (5.0, True, False)
    assert inner.inputs[:3] == [OPENED, events.StreamOpened(STREAM, "/x", 4), received]

    def data(direction: str, body: bytes) -> dict[str, Any]:
        coded = base64.b64encode(body).decode()
        return {"event": "data", **stream, "direction": direction, "length": len(body), "data": coded}

    opened = {"event": "connection opened", **where, "direction": "outbound", "remote": str(THERE), "local": str(HERE)}
    assert traced.told() == [
        {**opened, "dial": 1},
        {"event": "open stream", **where, "token": 4, "protocols": ["/x", "/y"]},
        {"event": "dial", "dial": 1, "addresses": [str(THERE)]},
        {"event": "stream opened", **stream, "direction": "out", "token": 4},
        data("in", b"in"),
        data("in", b"more"),
        data("out", b"out"),
        {"event": "end", **stream, "direction": "out"},
        {"event": "end", **stream, "direction": "in"},
        {"event": "latency", **where, "round_trip": 0.25},
        {"event": "stream failed", "token": 9, "reason": "NotSupported: no"},
        {"event": "connection closed", **where},
    ]


def test_resets_failures_and_apps_are_told(traced: Traced) -> None:
    node = traced.node
    node.handle(OPENED, 1.0)
    node.handle(events.StreamOpened(STREAM, "/x", None), 1.0)
    node.handle(events.StreamGone(STREAM, StreamReset("a bound")), 1.0)
    traced.inner.effects = [events.ResetStream(STREAM), events.CloseConnection(7, Closed("enough"))]
    node.handle(events.PingRequested(1, THEM.peer_id), 1.0)
    node.handle(events.DialFailed(2, Unreachable("nobody")), 1.0)
    node.handle(events.AddressesChanged((HERE,), ()), 1.0)
    shown = [
        (line["event"], line.get("reason") or line.get("input") or line.get("listening")) for line in traced.told()
    ]
    assert shown[2:] == [
        ("reset", "StreamReset: a bound"),
        ("app", "PingRequested"),
        ("reset", None),
        ("close connection", "Closed: enough"),
        ("dial failed", "Unreachable: nobody"),
        ("addresses", [str(HERE)]),
    ]


def test_what_is_over_is_forgotten(tmp_path: Path) -> None:
    traced = Traced(tmp_path / "trace", limit=1 << 30)
    node = traced.node
    node.handle(OPENED, 1.0)
    for number in range(1, 2000):
        stream = 7 << events.STREAM_BITS | number
        node.handle(events.StreamOpened(stream, "/x", None), 1.0)
        if number % 3:
            traced.inner.effects = [events.CloseWrite(stream)]
            node.handle(events.StreamEnded(stream), 1.0)
        else:
            node.handle(events.StreamGone(stream), 1.0)
    tables = (node._peers, node._streams, node._half_ended, node._ended)
    assert [len(table) for table in tables] == [1, 0, 0, 1024]
    node.handle(events.StreamOpened(STREAM << 1, "/x", None), 1.0)  # of another connection
    node.handle(events.ConnectionClosed(7, None), 1.0)
    assert [len(table) for table in tables] == [0, 1, 0, 0]


def test_a_trace_that_has_ended_leaves_the_node_as_it_is(tmp_path: Path) -> None:
    traced = Traced(tmp_path / "trace", limit=1024)
    for _ in range(20):
        traced.inner.effects = [events.ResetStream(STREAM)]
        assert traced.node.handle(events.StreamsReceived(7, [(STREAM, bytes(100))]), 1.0) == [
            events.ResetStream(STREAM)
        ]
    traced.inner.bytes = [b"out"]
    assert traced.node.take(STREAM, 9) == [b"out"]
    assert traced.told()[-1]["event"] == "stopped"


def channel(dialer: bool, on_upgraded: UpgradeObserver | None = None) -> Channel:
    return Channel(
        US if dialer else THEM,
        dialer=dialer,
        expected_peer=None,
        limits=ChannelLimits(),
        pull=lambda stream, limit: (),
        accepts=lambda protocol: False,
        ephemeral=bytes([dialer]) * 32,
        now=0.0,
        on_upgraded=on_upgraded,
    )


def test_a_handshake_is_told_once(traced: Traced) -> None:
    one, other = channel(True, traced.node.observe_upgrade(1, Direction.OUTBOUND, THERE)), channel(False)
    for _ in range(6):
        for sender, receiver in ((one, other), (other, one)):
            receiver.receive_data(b"".join(sender.data_to_send(1 << 16)), 1.0)
    one.receive_eof(2.0)
    where = {"connection": 1, "direction": "outbound", "remote": str(THERE), "peer": str(THEM.peer_id)}
    muxer = {"muxer": "/yamux/1.0.0", "muxer_in_handshake": True}
    assert traced.told() == [{"event": "handshake", **where, "security": "/noise", **muxer}]


@pytest.mark.parametrize("how", ["garbage", "end", "silence"])
def test_a_handshake_that_fails_is_told_with_the_reason(traced: Traced, how: str) -> None:
    watched = channel(False, traced.node.observe_upgrade(2, Direction.INBOUND, None))
    if how == "garbage":
        watched.receive_data(b"\x05GET \n", 1.0)
    elif how == "end":
        watched.receive_eof(1.0)
    else:
        watched.handle_deadline(1000.0)
    (record,) = traced.told()
    assert (record["event"], record["connection"]) == ("handshake failed", 2)
    assert record["reason"]
