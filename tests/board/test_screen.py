"""What `sidecar top` draws: it fills the screen exactly, whatever its size and whatever peers call themselves."""

import re
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from sidecar_client import PeerPath, PeerScore, PeerStanding, Reachability

from sidecar.board import words
from sidecar.board.screen import draw, plain
from sidecar.board.snapshot import Snapshot, snapshot

from .samples import event, gone, histogram, peer, peer_id, sample, topic, unready

ESCAPE = re.compile(r"\x1b\[[0-9]+m")


def shown(reachable: bool = True, at: float = 0.0, **changed: Any) -> Snapshot:
    link = {"reachable": reachable, "trouble": "" if reachable else "connection refused", "since": 0.0, "at": at}
    return snapshot(sample(10, **changed), sample(5)) | {"link": link}


def busy(peers: int = 40, **changed: Any) -> Snapshot:
    fields: dict[str, Any] = {
        "peers": [peer(number) for number in range(peers)],
        "gone": [gone(1000)],
        "topics": [topic(f"topic {number}", delivered=number * 50) for number in range(20)],
        "events": {number: event(f"event {number}", "warning") for number in range(100)},
        "values": {"gossip_queued_bytes": 2048, "gossip_dropped_queue_full": 3, "peers_known": 50},
        "histograms": histogram(0, 10, 0, 0),
    }
    return shown(**(fields | changed))


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("size", [(80, 24), (132, 50), (40, 10), (20, 5), (5, 3), (1, 1), (250, 80)])
def test_the_screen_is_filled_exactly(size: tuple[int, int], colour: bool) -> None:
    width, height = size
    for what in (shown(), busy(), busy(1), shown(reachable=False), shown(readiness=unready())):
        lines = draw(what, width, height, colour=colour)
        assert len(lines) == height
        for line in lines:
            assert sum(map(words._columns, ESCAPE.sub("", line))) == width, line
        assert colour or not any(ESCAPE.search(line) for line in lines)


def test_peers_are_ordered_by_latency_and_those_gone_come_last() -> None:
    peers = [peer(1, latency=0.2), peer(2, latency=0.001), peer(3, latency=None)]
    text = "\n".join(plain(shown(peers=peers, gone=[gone(4)])))
    places = [text.index(peer_id(number)[-8:]) for number in (2, 1, 3, 4)]
    assert places == sorted(places)
    assert "reset by the peer" in text


def judged(score: float, standing: PeerStanding) -> PeerScore:
    return PeerScore(score, standing, "", (), 0.0, 0.0, 0.0, 0.0)


def test_scores_are_shown_and_who_is_not_listened_to_is_red() -> None:
    liked = peer(1, score=judged(7.25, PeerStanding.GOOD))
    shunned = peer(2, score=judged(-90.0, PeerStanding.GRAYLISTED))
    what = shown(peers=[liked, shunned, peer(3)])
    lines = {line.split()[0]: line for line in plain(what) if line.strip()}
    assert " 7.2 " in lines[peer_id(1)[-8:]]
    assert " -90.0 " in lines[peer_id(2)[-8:]]
    red = [line for line in draw(what, 120, 40) if line.startswith("\x1b[31m") and peer_id(2)[-8:] in line]
    assert len(red) == 1


def test_no_age_depends_on_clocks_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = SimpleNamespace(time=lambda: 0.0, monotonic=lambda: 1000.0, strftime=time.strftime)
    monkeypatch.setattr("sidecar.board.screen.time", clocks)
    lines = plain(shown(reachable=False, at=880.0, peers=[peer(1)], gone=[gone(2)]))
    assert "up 10 min" in lines[1]
    assert any("no answer for 2 min" in line for line in lines)
    assert any(peer_id(1)[-8:] in line and " 10 min " in line for line in lines)
    assert any(peer_id(2)[-8:] in line and " 20 s " in line for line in lines)


def test_an_objective_that_is_missed_is_said() -> None:
    values = {"probe_objective": 0.5, "probe_objective_share": 0.99, "probe_judged_late": 3}
    said = "broadcasts: 98.9 % of the receivers had the last messages within 500 ms; wanted: 99 %"
    assert said in "\n".join(plain(shown(values=values | {"probe_in_time_share": 0.9899})))
    assert "broadcasts" not in "\n".join(plain(shown(values=values | {"probe_in_time_share": 0.99})))
    assert [words.percent(n) for n in (0.0, 0.5, 0.99, 0.9999, 1.0)] == ["0 %", "50 %", "99 %", "99.9 %", "100 %"]


def test_topics_are_ordered_by_their_rate() -> None:
    text = "\n".join(plain(busy()))
    assert 0 < text.index("topic 19") < text.index("topic 2 ")
    assert "190" in text, "950 messages in 5 seconds"


def test_what_does_not_fit_is_counted_and_can_be_scrolled_to() -> None:
    lines = draw(busy(200), 100, 40, colour=False)
    more = next(line for line in lines if line.startswith("and "))
    visible = sum("sidecar/0.1.0" in line for line in lines)
    assert more.split() == ["and", str(201 - visible), "more"]
    end = "\n".join(draw(busy(200), 100, 40, colour=False, first_peer=10_000))
    assert "gone" in end


def test_a_peer_cannot_steer_the_terminal() -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\nsidecar: all is well"
    what = shown(
        peers=[peer(1, agent=hostile, remote_address=hostile)],
        topics=[topic(hostile, mesh_peer_ids=(peer_id(1),))],
        events={1: event(hostile)},
        gone=[gone(2, hostile)],
    )
    for lines in (draw(what, 120, 40, colour=False), plain(what)):
        assert all(line.isprintable() for line in lines)
        assert any(r"\x1b" in line for line in lines)


def test_what_is_not_ready_and_who_is_gone_is_said() -> None:
    text = "\n".join(draw(shown(readiness=unready()), 100, 24, colour=False))
    assert "NOT READY" in text
    assert "check that one runs" in text
    text = "\n".join(draw(shown(reachable=False), 100, 24, colour=False))
    assert "GONE" in text
    assert "trying again: connection refused" in text


def test_figures_for_people() -> None:
    assert [words.number(n) for n in (None, 0, 0.25, 7, 1234, 12345, 2e6)] == [
        "-", "0", "0.2", "7", "1,234", "12.3 k", "2.0 M",
    ]  # fmt: skip
    assert [words.size(n) for n in (None, 0, 812, 1536, 5 * 2**30)] == ["-", "0 B", "812 B", "1.5 KiB", "5.0 GiB"]
    assert [words.delay(n) for n in (None, 0.00042, 0.0125, 0.9999, 2)] == ["-", "0.42 ms", "12.5 ms", "1 s", "2 s"]
    assert [words.age(n) for n in (-1, 8, 200, 7300, 400_000)] == ["0 s", "8 s", "3 min", "2 h", "4 d"]


def test_wide_characters_take_two_columns() -> None:
    assert words.fit("日本語", 7) == "日本語 "
    assert words.fit("日本語", 5) == "日本…"
    assert words.fit("日本語", 4) == "日… "
    assert words.fit("abc", 0) == ""


def test_a_node_that_nobody_reaches_says_so_in_words() -> None:
    node = replace(sample().node, reachability=Reachability.NOT_REACHABLE, relayed_addresses=("/one/relay",))
    text = "\n".join(plain(shown(node=node, peers=[peer(1, path=PeerPath.RELAYED)])))
    assert "peers cannot reach this node at its public addresses; reached through 1 relayed address" in text
    assert "1 relayed)" in text
    assert "reachability not reachable" in text
    assert "cannot reach" not in "\n".join(plain(shown()))
