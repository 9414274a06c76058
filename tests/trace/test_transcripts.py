"""Golden transcripts: what go-libp2p, js-libp2p and others said in a real session, replayed into the core."""

import base64
from pathlib import Path

import pytest

from sidecar.core.gossip import MessagesDelivered
from sidecar.trace.messages import Decoded
from sidecar.trace.reader import Record, messages, payload
from tests.trace.replay import PEER, THEIRS, TRANSCRIPTS, Session, check, load

FILES = sorted(TRANSCRIPTS.glob("*.jsonl"))


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request: pytest.FixtureRequest) -> Path:
    return request.param  # type: ignore[no-any-return]


def test_there_are_transcripts_of_both_implementations_that_are_always_tested() -> None:
    assert {"go", "js"} <= {file.stem for file in FILES}


def test_the_core_understands_the_session(file: Path) -> None:
    check(file.stem, load(file))


def said(transcript: list[Record]) -> list[Decoded]:
    """The peer's messages."""
    shown = messages(transcript)
    return [
        one.message
        for one in shown
        if one.message is not None and one.record["direction"] == "in" and one.record.get("peer") == str(PEER.peer_id)
    ]


def test_what_is_shown_of_the_session_is_whole(file: Path) -> None:
    theirs = said(load(file))
    assert {"identify", "ping", "kademlia", "kademlia answer", "gossip"} <= {message.kind for message in theirs}
    assert not {"broken", "cut short"} & {message.kind for message in theirs}
    gossip = " ".join(message.line for message in theirs if message.kind == "gossip")
    for word in ("SUBSCRIBE", "GRAFT", f"from {PEER.peer_id}", "UNSUBSCRIBE"):
        assert word in gossip, word
    assert file.stat().st_size < 200_000


def test_one_wrong_byte_in_the_peers_message_is_noticed(file: Path) -> None:
    """So that the check is known to look at the peer's bytes: the message's signature fails, and only that."""
    transcript = load(file)
    changed = 0
    for record in transcript:
        if record["event"] == "data" and record["direction"] == "in" and THEIRS in (data := payload(record)):
            record["data"] = base64.b64encode(data.replace(THEIRS, THEIRS[::-1])).decode()
            changed += 1
    assert changed == 1
    session = Session(transcript)
    session.run()
    delivered = [m for item in session.replay.of(MessagesDelivered) for m in item.messages if not m.local]
    assert delivered == []
    statistics = session.replay.node.statistics().flat()
    assert {name: count for name, count in statistics.items() if "rejected" in name and count} == {
        "gossip_rejected_signature": 1
    }
