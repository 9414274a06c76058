"""Traces read back: messages put together from pieces, protocols decoded, damage told."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.cli import main
from sidecar.core import varint
from sidecar.core.errors import InvalidArgument
from sidecar.core.gossip.bundles import pack
from sidecar.core.gossip.messages import SignedLayout, build_chunks, control_frames, encode_graft, encode_subscription
from sidecar.core.identify import IdentifyInfo, encode
from sidecar.core.identity import Identity
from sidecar.trace.messages import StreamReader
from sidecar.trace.reader import messages, records
from sidecar.wire import direct_pb2, gossip_pb2, kademlia_pb2

PEER = Identity(b"\1" * 32).peer_id


def line(event: str, **fields: Any) -> bytes:
    return (
        json.dumps({"time": "2026-01-31T12:00:00.000000Z", "monotonic": 1.0, "event": event, **fields}).encode() + b"\n"
    )


START = line("trace", version=1)


def data(stream: int, protocol: str, body: bytes, direction: str = "in") -> bytes:
    coded = base64.b64encode(body).decode()
    where = {"connection": 1, "stream": stream, "peer": str(PEER), "protocol": protocol, "direction": direction}
    return line("data", **where, length=len(body), data=coded)


def framed(body: bytes) -> bytes:
    return varint.encode(len(body)) + body


def gossip_frames() -> bytes:
    layout = SignedLayout(PEER, b"news")
    message = layout.sealed(layout.encode(b"hello", (7).to_bytes(8, "big")), bytes(64))
    frames = control_frames([encode_subscription(b"news", True)], [encode_graft(b"news")], 1 << 20)
    return b"".join((*frames, build_chunks([message], 1 << 20, 100)[0].frame))


@given(cuts=st.lists(st.integers(1, 200), max_size=8))
def test_messages_are_the_same_in_whatever_pieces(cuts: list[int]) -> None:
    wire = gossip_frames()
    reader = StreamReader("/meshsub/1.1.0")
    found, offset = [], 0
    for size in (*cuts, len(wire)):
        found += reader.receive(wire[offset : offset + size])
        offset += size
    assert [message.line for message in found] == [
        "SUBSCRIBE news; GRAFT news",
        f"MESSAGE on news, 5 bytes from {PEER} seqno 7, signed",
    ]
    assert reader.finish() == []


def test_every_protocol_is_told_in_its_own_words() -> None:
    kademlia = kademlia_pb2.Message(type=kademlia_pb2.Message.FIND_NODE, key=PEER)
    kademlia.closer_peers.add(id=PEER, addresses=[b"\x04\x7f\0\0\1\x06\0\x50"])
    stored = kademlia_pb2.Message(type=kademlia_pb2.Message.PUT_VALUE, key=b"k")
    stored.record.value = b"four"
    direct = direct_pb2.Frame(messages=[direct_pb2.Messages(protocol="/chat/1", data=[b"a", b"bc"])], cancels=[3])
    direct.requests.add(id=1, protocol="/ask", data=b"x")
    direct.receipts.add(first=1, count=2, outcome=direct_pb2.OUTCOME_DELIVERED)
    direct.responses.add(id=9, status=direct_pb2.STATUS_REFUSED, reason="no\x1b[2J")
    control = gossip_pb2.ControlMessage()
    control.ihave.add(topicID=b"t", messageIDs=[b"\1", b"\2", b"\3", b"\4", b"\5"])
    control.iwant.add(messageIDs=[b"\xff"])
    control.idontwant.add(messageIDs=[b"\xfe"])
    control.extensions.lazy_links = True
    control.prune.add(topicID=b"t", backoff=60).peers.add(peerID=PEER)
    control.extensions.bundles = True
    bundle = gossip_pb2.Message(data=pack([b"one", b"two"]), topic=b"t", signature=b"any").SerializeToString()
    rpc = gossip_pb2.RPC(control=control, publish=[b"\x12\x01x\x22\x01t", bundle])
    rpc.subscriptions.add(subscribe=False, topicid=b"\x1b")
    rpc.named.add(topicID=b"t", messageIDs=[b"\xfd"])
    rpc.named.add(topicID=b"t", resume=True)
    cases = [
        ("/sidecar/main/kad/1.0.0", framed(kademlia.SerializeToString()), f"FIND_NODE key {PEER}, 1 closer: {PEER}"),
        ("/ipfs/kad/1.0.0", framed(stored.SerializeToString()), "PUT_VALUE key 6b, record with a value of 4 bytes"),
        (
            "/sidecar/main/direct/1",
            framed(direct.SerializeToString()),
            "2 messages of /chat/1, 3 bytes; REQUEST 1 of /ask, 1 bytes; CANCEL 3; RECEIPT 1+2 DELIVERED; "
            "RESPONSE 9 REFUSED, 0 bytes no\\x1b[2J",
        ),
        (
            "/meshsub/1.2.0",
            framed(rpc.SerializeToString()),
            "UNSUBSCRIBE \\x1b; MESSAGE on t, 1 bytes, unsigned; "
            "MESSAGE on t, 28 bytes, signed, a bundle of 2 messages; IHAVE t 5 ids (01, 02, 03, 04, ...); "
            "IWANT 1 ids (ff); PRUNE t backoff 60 s, 1 peers; IDONTWANT 1 ids (fe); EXTENSIONS lazy_links bundles; "
            "NAMED t 1 ids (fd); NAMED t resume",
        ),
        ("/ipfs/ping/1.0.0", bytes(32), "32 bytes: " + "00" * 32),
        ("/x/1", b"hello\n", "6 bytes: hello\\n"),
        ("/x/1", bytes(60), "60 bytes: " + "00" * 48 + "..."),
    ]
    for protocol, wire, expected in cases:
        assert [message.line for message in StreamReader(protocol).receive(wire)] == [expected], protocol
    told = StreamReader("/ipfs/id/1.0.0").receive(encode(IdentifyInfo("v/1", "me", protocols=("/a", "/b"))))
    assert told[0].fields["protocols"] == ["/a", "/b"]
    assert told[0].line.startswith("me, v/1; at no address;")


@given(st.sampled_from(["/ipfs/id/1.0.0", "/meshsub/1.1.0", "/s/kad/1.0.0", "/sidecar/m/direct/1", "/x"]), st.binary())
def test_garbage_is_told_not_raised(protocol: str, garbage: bytes) -> None:
    reader = StreamReader(protocol)
    assert all(message.line for message in (*reader.receive(garbage), *reader.receive(b"\xff" * 20), *reader.finish()))


def test_what_a_stream_leaves_unfinished_is_told_once() -> None:
    def told(*end: bytes) -> list[str]:
        shown = messages(records([START, data(1, "/meshsub/1.1.0", b"\x05ab"), *end]))
        return [one.message.line for one in shown if one.message is not None]

    unfinished = ["3 bytes of an unfinished message"]
    assert told() == unfinished
    assert told(line("end", connection=1, stream=1, direction="in")) == unfinished
    assert told(line("reset", connection=1, stream=1, direction="out")) == unfinished
    assert told(line("connection closed", connection=1), line("connection closed", connection=2)) == unfinished
    assert told(START, data(1, "/meshsub/1.1.0", b"\x00")) == [*unfinished, "an RPC with nothing in it"]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "empty"),
        ([b"hello\n"], "line 1: not JSON"),
        ([b"[" * 100_000], "line 1: not JSON"),
        ([line("app")], "line 1: no trace of version 1"),
        ([line("trace", version=9)], "it has 9"),
        ([START, b"{}\n", START[:-1]], None),
        ([START, b"{}\n", line("app")], "line 2: not an object with an event"),
        ([START, b'{"event":"app","time":1}\n', line("app")], "line 2: no time"),
        ([START, line("data", connection=1), line("app")], "line 2: data without"),
        ([START, line("end", connection="x"), line("app")], "line 2: a field is not of its type"),
        ([START, data(1, "/x", b"ab").replace(b'"length": 2', b'"length": 3'), line("app")], "line 2: data without"),
        ([START, line("app"), b'{"time":'], None),
    ],
)
def test_damage_is_told_with_its_line_but_for_a_last_one(lines: list[bytes], told: str | None) -> None:
    if told is None:
        assert all(record["event"] in ("trace", "app") for record in records(lines))
    else:
        with pytest.raises(InvalidArgument, match=told):
            list(records(lines))


def test_the_command_filters_and_fails_clearly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "trace"
    other = line("stream opened", connection=2, stream=2, peer="12D3other", protocol="/x/1", direction="in")
    file.write_bytes(START + data(3, "/meshsub/1.1.0", gossip_frames()) + other + b'{"time":')

    def shown(*flags: str) -> list[str]:
        assert main(["trace", "show", str(file), *flags]) == 0
        return capsys.readouterr().out.splitlines()

    assert len(shown()) == 4
    assert shown("--protocol", "meshsub")[1].endswith(
        f"1.3 <- gossip: MESSAGE on news, 5 bytes from {PEER} seqno 7, signed"
    )
    assert shown("--peer", "other") == ["12:00:00.000000 2D3other 2.2 stream opened in /x/1"]
    document = json.loads(shown("--json", "--peer", str(PEER))[1])
    assert (document["kind"], document["direction"], document["messages"][0]["seqno"]) == ("gossip", "in", 7)
    file.write_bytes(START + b"nonsense\n" + other)
    for name in ("trace", "missing"):
        assert main(["trace", "show", str(tmp_path / name)]) == 1
        told = capsys.readouterr().err
        assert told.startswith(f"sidecar: {tmp_path / name}")
        assert told.count("\n") == 1
