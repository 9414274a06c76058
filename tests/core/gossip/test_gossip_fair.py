"""What waits of a peer that relays a flood is told apart by authors: who says little does not wait behind the flood."""

import pytest
from gossip_network import UNSCORED, WALL, joined, make_router, rpc, rpcs, signed

from sidecar.core.gossip import FirstRpc, GossipRouter, MessagesDelivered, RpcsReceived
from sidecar.core.gossip.fair import COST, FairBacklog
from sidecar.core.gossip.messages import parse_message
from sidecar.core.gossip.pacing import QUANTUM, FloodRecord, Pacing
from sidecar.core.parameters.gossip import GossipConfig
from sidecar.core.types import PeerId

MOST = 1000
FLOOD = [signed(8, "news", b"%d" % number, WALL + number) for number in range(40)]
CALM = [signed(9, "news", b"calm %d" % number, WALL + number) for number in range(3)]


def drained(backlog: FairBacklog) -> list[tuple[bool, bytes]]:
    return [backlog.pop() for _ in range(len(backlog))]


@pytest.mark.parametrize("each", [1, 7])  # RPCs of one message are read in another way than those of more
def test_each_author_is_served_in_order_and_who_begins_is_served_soon(each: int) -> None:
    backlog = FairBacklog([rpc(publish=FLOOD[at : at + each]) for at in range(0, len(FLOOD), each)], MOST)
    begun = [backlog.pop() for _ in range(6)]
    assert backlog.opened == -(-len(FLOOD) // each)
    backlog.extend([rpc(publish=CALM)])
    rest = drained(backlog)
    assert [raw for _, raw in begun + rest if raw in FLOOD] == FLOOD
    assert [raw for _, raw in rest if raw in CALM] == CALM
    assert max(rest.index((True, raw)) for raw in CALM) < 2 * len(CALM) + 4
    assert backlog.bytes == 0
    assert not backlog


def test_made_up_authors_do_not_keep_others_waiting() -> None:
    backlog = FairBacklog([rpc(publish=FLOOD)], MOST)
    for _ in range(6):
        backlog.pop()
    made_up = [signed(author, "news", b"x", WALL) for author in range(20, 60)]
    backlog.extend([rpc(publish=made_up)])
    order = [raw for _, raw in drained(backlog)]
    assert len(order) == len(FLOOD) - 6 + len(made_up)
    of_flood = [at for at, raw in enumerate(order) if raw in FLOOD]
    assert of_flood[3] < 12  # every second turn is that of somebody who was there before


def test_what_is_no_message_waits_in_order_and_counts() -> None:
    first = FirstRpc(rpc(publish=CALM[:1]))
    control = [rpc(control={"graft": [{"topicID": b"%d" % number}]}) for number in range(3)]
    mixed = rpc(publish=CALM[1:2], control={"prune": [{"topicID": b"news"}]})
    crowded = rpc(publish=CALM * MOST)
    bodies = [first, *control, mixed, b"\xff", crowded]
    backlog = FairBacklog(bodies, MOST)
    assert backlog.bytes > sum(map(len, bodies)) + COST * len(bodies) - 10
    found = drained(backlog)
    assert [raw for is_message, raw in found if is_message] == CALM[1:2]
    rest = rpc(control={"prune": [{"topicID": b"news"}]})
    assert [body for is_message, body in found if not is_message] == [first, *control, rest, b"\xff", crowded]
    assert type(next(body for _, body in found if body == first)) is FirstRpc
    assert backlog.opened == 0


def test_few_messages_of_who_has_just_begun_can_be_taken_out_of_turn() -> None:
    backlog = FairBacklog([rpc(publish=FLOOD), rpc(control={"graft": [{"topicID": b"news"}]})], MOST)
    assert backlog.take_few() == []
    backlog.extend([rpc(publish=CALM)])
    assert backlog.take_few() == CALM
    assert backlog.take_few() == []
    assert len(backlog) == len(FLOOD) + 1
    drained(backlog)
    assert backlog.bytes == 0


def test_nothing_is_left_of_what_is_forgotten() -> None:
    backlog = FairBacklog([rpc(publish=CALM)], MOST)
    backlog.clear()
    assert (len(backlog), backlog.bytes) == (0, 0)
    backlog.extend([rpc(publish=FLOOD)])
    assert drained(backlog) == [(True, raw) for raw in FLOOD]


# ---------------------------------------------------------------- in the router


def delivered(effects: list[object]) -> list[bytes]:
    return [each.data for effect in effects if isinstance(effect, MessagesDelivered) for each in effect.messages]


def signed_data(raw: bytes) -> bytes:
    return parse_message(raw).data or b""


def send(router: GossipRouter, source: PeerId, raws: list[bytes], now: float, each: int) -> list[bytes]:
    bodies = [rpc(publish=raws[first : first + each]) for first in range(0, len(raws), each)]
    return delivered(list(router.handle(RpcsReceived(source, bodies), now)))


@pytest.mark.parametrize("each", [20, 1500])  # many RPCs, and one that is served in steps
def test_who_says_little_does_not_wait_behind_a_flood_that_its_neighbour_relays(each: int) -> None:
    router = make_router(config=UNSCORED)
    relaying, light, third = joined(router, "news", 3)
    now = 1.0
    assert send(router, light, [signed(7, "news", b"other", WALL)], now, 1) == [b"other"]
    flood = [signed(8, "news", b"%d" % number, WALL + number) for number in range(1500)]
    came = send(router, relaying, flood, now, each)
    rpcs(router, third)
    for calm in CALM:
        before = len(came)
        came += send(router, relaying, [calm], now, 1)
        for _ in range(16):
            now = max(now, router.next_deadline())
            came += delivered(list(router.handle_deadline(now)))
            now += 0.002  # what the turn took
        place = next(at for at, data in enumerate(came) if signed_data(calm) == data)
        assert place - before <= 3 * QUANTUM  # what was pending already, and a turn
    assert len(came) < len(flood)  # most of the flood waits still
    numbers = [int(data) for data in came if data.isdigit()]
    assert numbers == list(range(len(numbers)))
    # And it goes on to others before what waits for them of the flood, but for the first messages: no flood as yet.
    order = [raw for found in rpcs(router, third) for raw in found.publish]
    places = [order.index(raw) for raw in CALM]
    assert places == sorted(places)
    assert places[-1] < 180 < len(order) - 4 * QUANTUM


def author(number: int) -> PeerId:
    return PeerId.from_bytes(signed(number, "news", b"x", 1)[2:40])


def test_a_flood_goes_on_behind_all_others_whoever_is_said_to_have_written_it() -> None:
    pacing, flood = Pacing(GossipConfig(), 0.0), FloodRecord()
    raws = [bytes(100)]
    assert not pacing.behind(flood, author(0), raws, 0.0)
    told = [pacing.behind(flood, author(0), raws, 0.0) for _ in range(200)]
    assert told == sorted(told)  # from some message on
    assert told[-1]
    assert not pacing.behind(FloodRecord(), author(1), raws, 0.0)
    made_up = [pacing.behind(flood, author(number), raws, 1.0) for number in range(2, 400)]
    assert made_up == sorted(made_up)
    assert 0 < sum(made_up) < len(made_up)


def test_who_brings_messages_of_others_too_brings_more_than_a_flood() -> None:
    pacing, flood = Pacing(GossipConfig(), 0.0), FloodRecord()
    assert not flood.alone(0.0)  # nobody knows yet
    for _ in range(200):
        pacing.behind(flood, author(0), [bytes(100)], 0.0)
    assert flood.alone(0.0)
    pacing.behind(flood, author(0), [bytes(100)], 10.0)  # it says little, but it is the same one
    assert flood.alone(10.0)
    pacing.behind(flood, author(1), [bytes(100)], 10.0)
    assert not flood.alone(12.0)
    assert flood.alone(16.0)
