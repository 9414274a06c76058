"""What is thought of relays: bounded, fading, and nothing pays for a lie."""

import pytest

from sidecar.core.errors import (
    Closed,
    DialTimeout,
    HandshakeError,
    HandshakeTimeout,
    PeerBanned,
    SidecarError,
    StreamReset,
    WrongPeer,
    WrongPrivateNetwork,
)
from sidecar.core.relay import CircuitFault, RelayStanding, RelayStandings
from sidecar.core.relay.standing import CARRIED, GRANTED, KEPT, LOST, REFUSED, SILENT
from sidecar.core.types import PeerId

HOUR = 3600.0


def test_points_are_bounded_and_fade() -> None:
    relay = RelayStanding()
    for _ in range(1000):
        relay.add(GRANTED, 0.0)
    assert relay.points(0.0) == 10.0
    assert relay.points(6 * HOUR) == 5.0
    for _ in range(1000):
        relay.add(SILENT, 6 * HOUR)
    assert relay.points(6 * HOUR) == -10.0
    assert not relay.trusted(6 * HOUR)
    assert relay.trusted(13 * HOUR)


def test_nothing_that_a_relay_did_pays_for_a_lie() -> None:
    relay = RelayStanding()
    for hour in range(100):
        relay.add(GRANTED + KEPT + CARRIED, hour * HOUR)
    relay.lied(100 * HOUR)
    assert not relay.trusted(105 * HOUR)
    relay.add(GRANTED, 105 * HOUR)
    assert relay.points(105 * HOUR) < 0


def test_a_few_refusals_are_forgiven_and_the_nearer_of_two_alike_is_better() -> None:
    relay, other = RelayStanding(), RelayStanding()
    for _ in range(3):
        relay.add(REFUSED, 0.0)
    relay.add(LOST, 0.0)
    assert not relay.trusted(0.0)
    assert relay.trusted(HOUR)
    assert other.worth(0.0, 0.02) > other.worth(0.0, 0.3) > relay.worth(0.0, 0.02)
    assert other.worth(0.0, 1e9) == -4.0


def peer(number: int) -> PeerId:
    return PeerId(b"\x12\x20" + number.to_bytes(32, "big"))


def test_one_peer_behind_a_relay_counts_against_it_once_an_hour() -> None:
    relay = RelayStanding()
    for second in range(100):
        relay.blame(CircuitFault.SILENT, peer(1), float(second))
    assert relay.points(100.0) > -2.1
    assert relay.blamed(peer(1), HOUR)
    assert not relay.blamed(peer(1), 2 * HOUR)
    assert not relay.blamed(peer(2), 100.0)
    relay.blame(CircuitFault.SILENT, peer(1), 2 * HOUR)
    assert relay.points(2 * HOUR) < -3
    for number in range(1000):
        relay.blame(CircuitFault.GARBLED, peer(number), 2 * HOUR)
    assert relay.points(2 * HOUR) == -10.0
    assert len(relay._blamed) == 16


def test_circuits_that_go_together_count_once() -> None:
    relay = RelayStanding()
    for number in range(16):
        relay.blame(CircuitFault.DROPPED, peer(number), 5.0)
    assert relay.points(5.0) == -1.0
    relay.blame(CircuitFault.DROPPED, peer(20), 66.0)
    assert relay.points(66.0) < -1.9


@pytest.mark.parametrize(
    ("error", "ended", "fault"),
    [
        (WrongPeer("another", answered=peer(1)), False, CircuitFault.OTHER_PEER),
        (HandshakeTimeout("nothing"), False, CircuitFault.SILENT),
        (DialTimeout("nothing"), False, CircuitFault.SILENT),
        (HandshakeError("rubbish"), False, CircuitFault.GARBLED),
        (StreamReset("cut"), True, CircuitFault.DROPPED),
        (None, True, CircuitFault.DROPPED),
        (Closed("another address answered first"), False, None),
        (PeerBanned("not wanted"), False, None),
        (WrongPrivateNetwork("of the peer's network"), False, None),
    ],
)
def test_what_an_error_says_of_a_relay(error: SidecarError | None, ended: bool, fault: CircuitFault | None) -> None:
    assert CircuitFault.of(error, ended) is fault


def test_the_standings_that_say_most_are_kept() -> None:
    standings = RelayStandings(most=4)
    for number in range(4):
        standings.of(peer(number), 0.0).add(float(number - 2), 0.0)
    for number in range(100, 200):
        standings.of(peer(number), 0.0)
    assert len(standings) == 4
    assert [standings.known(peer(number)) is not None for number in range(4)] == [True, True, False, True]
