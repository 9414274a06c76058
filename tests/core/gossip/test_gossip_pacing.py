"""Fairness between peers: who sends by far more than others who send waits for them, and loses nothing."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from gossip_network import UNSCORED, WALL, joined, make_router, rpc, rpcs, signed

from sidecar.core.errors import ConfigError
from sidecar.core.gossip import GossipRouter, MessagesDelivered, PeerBacklogged, PeerRemoved, RpcsReceived
from sidecar.core.gossip.pacing import QUANTUM, Load, Pacing
from sidecar.core.parameters.gossip import GossipConfig
from sidecar.core.types import PeerId

MUCH = 3000


def loaded(units: float) -> Load:
    load = Load()
    load.add(units, 0.0)
    return load


def test_who_sends_alone_is_never_heavy_and_who_sends_much_beside_others_is() -> None:
    pacing = Pacing(GossipConfig(), 0.0)
    eager, other, calm = loaded(MUCH), loaded(MUCH), loaded(1)
    pacing.brought("eager", eager, 0.0)
    assert not pacing.heavy("eager", eager, 0.0)
    pacing.brought("other", other, 0.0)  # as eager: neither is to wait for the other
    assert not pacing.heavy("eager", eager, 0.0)
    pacing.brought("calm", calm, 0.0)
    assert pacing.heavy("eager", eager, 0.0)
    assert not pacing.heavy("calm", calm, 0.0)
    eager.add(MUCH, 2.0)
    assert not pacing.heavy("eager", eager, 2.0)  # the calm one is silent again


def test_who_becomes_heavy_after_it_was_light_does_not_wait_for_itself() -> None:
    pacing = Pacing(GossipConfig(), 0.0)
    eager, calm = loaded(1), loaded(1)
    pacing.brought("calm", calm, 0.0)
    pacing.brought("eager", eager, 0.1)
    eager.add(MUCH, 0.2)
    assert pacing.heavy("eager", eager, 0.2)
    eager.add(MUCH, 2.05)
    assert not pacing.heavy("eager", eager, 2.05)  # of its own lightness it must not wait
    assert not pacing.heavy("eager", eager, 9.0)


@pytest.mark.parametrize(("share", "rest"), [(0.5, 0.010), (0.25, 0.030), (1.0, None)])
def test_a_rest_is_so_long_that_the_share_holds(share: float, rest: float | None) -> None:
    pacing = Pacing(GossipConfig(flood_share=share), 0.0)
    eager = loaded(MUCH)
    pacing.brought("calm", loaded(1), 0.0)
    assert pacing.heavy("eager", eager, 0.0) is (rest is not None)
    if rest is None:
        return
    pacing.worked()
    pacing.end_turn(5.0)
    measuring = [pacing.measuring]
    assert pacing.resting(5.0)
    pacing.begin_turn(5.010)
    assert [*measuring, pacing.measuring] == [True, False]
    assert pacing.resting_until() == pytest.approx(5.010 + rest)
    assert pacing.resting(5.010)
    assert not pacing.resting(5.011 + rest)


def test_a_sleep_of_the_machine_is_not_taken_for_work() -> None:
    pacing = Pacing(GossipConfig(), 0.0)
    pacing.worked()
    pacing.end_turn(0.0)
    pacing.begin_turn(60.0)
    assert pacing.resting_until() == pytest.approx(60.05)


def rest(pacing: Pacing, now: float, late: float) -> tuple[float, float]:
    """How long a rest of a flood is after a turn of 10 ms, and when it is known to be over."""
    pacing.worked(alone=True)
    pacing.end_turn(now)
    pacing.begin_turn(now + 0.010)
    assert pacing.resting_until() == pytest.approx(now + 0.020)  # that of others
    until = pacing.resting_until(alone=True)
    pacing.rested(until + late)
    return until - now - 0.010, until + late


def test_while_rests_end_late_floods_have_a_smaller_share_and_less_makes_them_heavy() -> None:
    pacing = Pacing(GossipConfig(), 0.0)
    now, rests = 0.0, []
    for _ in range(8):
        took, now = rest(pacing, now, late=0.02)
        rests.append(took)
    assert rests[:3] == pytest.approx([0.010, 0.030, 0.070])
    assert rests[-1] == rests[-2]  # never nothing
    pacing.brought("calm", loaded(1), now)
    load = Load()
    load.add(200, now, pacing.ease)
    assert pacing.heavy("eager", load, now + 0.5, pacing.ease)
    assert not pacing.heavy("eager", load, now + 0.5)  # of who brings more than a flood
    for _ in range(200):
        took, now = rest(pacing, now, late=0.001)
    assert took == pytest.approx(0.010)
    assert pacing.ease == 1.0


@pytest.mark.parametrize("share", [0.0, -1.0, 1.1])
def test_a_share_is_a_part(share: float) -> None:
    with pytest.raises(ConfigError, match="flood_share"):
        GossipConfig(flood_share=share)


# ---------------------------------------------------------------- in the router


def delivered(effects: Sequence[object]) -> list[bytes]:
    return [each.data for effect in effects if isinstance(effect, MessagesDelivered) for each in effect.messages]


def send(router: GossipRouter, source: PeerId, raws: Sequence[bytes], now: float, each: int = 20) -> list[object]:
    bodies = [rpc(publish=raws[first : first + each]) for first in range(0, len(raws), each)]
    return list(router.handle(RpcsReceived(source, bodies), now))


@pytest.mark.parametrize("each", [20, 500])  # many RPCs, and few that are served in steps
def test_a_heavy_peer_waits_in_order_and_a_light_one_does_not(each: int) -> None:
    router = make_router(config=UNSCORED)
    heavy, light, third = joined(router, "news", 3)
    now = 1.0
    count = 1500
    raws = [signed(8, "news", b"%d" % number, WALL + number) for number in range(count)]
    assert delivered(send(router, light, [signed(9, "news", b"calm", WALL)], now)) == [b"calm"]
    came = delivered(send(router, heavy, raws, now, each))
    at_once = len(came)
    assert at_once < count
    calm = 0
    while len(came) < count:
        now = max(now, router.next_deadline())
        came += delivered(router.handle_deadline(now))
        now += 0.002  # what the turn took
        calm += 1
        assert delivered(send(router, light, [signed(9, "news", b"%d" % calm, WALL + calm)], now)) == [b"%d" % calm]
    assert came == [b"%d" % number for number in range(count)]
    assert router._state.pacing.rests > 0
    assert calm >= (count - at_once) // (4 * QUANTUM)  # it was served in small parts
    assert [raw for found in rpcs(router, third) for raw in found.publish if raw in raws] == raws


def test_what_waits_of_a_heavy_peer_is_bounded_by_not_reading_it() -> None:
    router = make_router(config=replace(UNSCORED, max_backlog=50_000))
    heavy, light, _ = joined(router, "news", 3)
    send(router, light, [signed(9, "news", b"calm", WALL)], 1.0)
    raws = [signed(8, "news", b"%d" % number, WALL + number) for number in range(1500)]
    effects = send(router, heavy, raws, 1.0)
    assert [effect for effect in effects if isinstance(effect, PeerBacklogged)] == [PeerBacklogged(heavy, True)]
    router.handle(PeerRemoved(heavy), 1.0)  # and what it had sent counts
    assert router.statistics().received == 1501
    assert router.next_deadline() >= 1.0


def test_on_virtual_time_nobody_rests() -> None:
    router = make_router(config=UNSCORED)
    heavy, light, _ = joined(router, "news", 3)
    send(router, light, [signed(9, "news", b"calm", WALL)], 1.0)
    raws = [signed(8, "news", b"%d" % number, WALL + number) for number in range(1000)]
    came = delivered(send(router, heavy, raws, 1.0))
    while router.next_deadline() <= 1.0:
        came += delivered(router.handle_deadline(1.0))
    assert len(came) == 1000
