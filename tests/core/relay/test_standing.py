"""What is thought of relays: bounded, fading, and nothing pays for a lie."""

from sidecar.core.relay import RelayStanding
from sidecar.core.relay.standing import CARRIED, GRANTED, KEPT, LOST, REFUSED, SILENT

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
