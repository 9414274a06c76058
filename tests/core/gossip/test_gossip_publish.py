"""Publishing: receipts, bounds, back-pressure."""

import pytest
from gossip_network import control, joined, make_router, peer_id, plain, rpc, rpcs, subscribe

from sidecar.core import varint
from sidecar.core.gossip import (
    GossipConfig,
    GossipRouter,
    MessagesDelivered,
    PeerAdded,
    PeerRemoved,
    PeerWoken,
    PublishCancelled,
    PublishCompleted,
    Published,
    PublishOutcome,
    Receipt,
    RpcsReceived,
    TopicJoined,
    TopicOptions,
)
from sidecar.core.gossip.messages import Fields, decode_rpc, parse_message
from sidecar.core.gossip.signing import Authors, SignatureCheck, verify_batch

UNSIGNED = TopicOptions(sign=False)
SMALL = GossipConfig(queue_max_messages=10, max_chunk_messages=5)


def completions(effects: list[object]) -> list[PublishCompleted]:
    return [effect for effect in effects if isinstance(effect, PublishCompleted)]


def datas(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


def taken(router: GossipRouter, number: int) -> list[bytes | None]:
    found = [raw for answer in rpcs(router, peer_id(number)) for raw in answer.publish]
    return [parse_message(raw).data for raw in found]


def test_what_is_signed_verifies_and_own_apps_get_it() -> None:
    router = make_router()
    (peer,) = joined(router, "news", 1)
    delivered, completed, woken = router.handle(Published(7, "news", [b"one", b"", b"x" * 300]), 1.0)
    assert isinstance(delivered, MessagesDelivered)
    assert isinstance(completed, PublishCompleted)
    assert woken == PeerWoken(peer)
    (answer,) = rpcs(router, peer)
    checks = []
    for raw, message, identifier in zip(answer.publish, delivered.messages, completed.ids, strict=True):
        fields = parse_message(raw)
        assert fields.sender is not None
        assert fields.signature is not None
        author = Authors().find(fields.sender, None)
        checks.append(SignatureCheck(author.key, fields.content, fields.signature))
        assert message.seqno is not None
        assert message == (identifier, "news", author.peer, message.seqno, fields.data, peer_id(0), True)
        assert identifier == author.peer + message.seqno.to_bytes(8, "big")
    assert verify_batch(checks) == [None] * 3
    assert completed.receipts == [Receipt(0, 3, PublishOutcome.SENT, 1, 0)]


def test_unsigned_repeats_are_duplicates_but_not_those_that_nobody_got() -> None:
    router = make_router()
    router.handle(TopicJoined("news", UNSIGNED), 0.0)
    for op in (1, 2):  # nobody there: own apps get it each time, and it can be tried again
        delivered, completed = router.handle(Published(op, "news", [b"x"]), 0.0)
        assert isinstance(delivered, MessagesDelivered)
        assert isinstance(completed, PublishCompleted)
        assert completed.receipts == [Receipt(0, 1, PublishOutcome.NO_PEERS, 0, 0)]
    joined(router, "news", 1, UNSIGNED)
    batch = [b"x", b"a", b"a", b"b", b"x"]
    (completed,) = completions(list(router.handle(Published(3, "news", batch), 0.0)))
    assert completed.receipts == [
        Receipt(0, 2, PublishOutcome.SENT, 1, 0),
        Receipt(2, 1, PublishOutcome.DUPLICATE, 0, 0),
        Receipt(3, 1, PublishOutcome.SENT, 1, 0),
        Receipt(4, 1, PublishOutcome.DUPLICATE, 0, 0),
    ]
    assert taken(router, 1) == [b"x", b"a", b"b"]
    assert completed.ids[0] == completed.ids[4]


@pytest.mark.parametrize("sign", [True, False])
def test_the_largest_message_fills_the_rpc_exactly(sign: bool) -> None:
    router = make_router()
    (peer,) = joined(router, "news", 1, TopicOptions(sign))
    most = router.max_message("news", sign)
    batch = [b"small", b"x" * (most + 1), b"x" * most, b"small too"]
    (completed,) = completions(list(router.handle(Published(1, "news", batch), 0.0)))
    assert completed.receipts == [
        Receipt(0, 1, PublishOutcome.SENT, 1, 0),
        Receipt(1, 1, PublishOutcome.TOO_LARGE, 0, 0),
        Receipt(2, 2, PublishOutcome.SENT, 1, 0),
    ]
    assert [bool(identifier) for identifier in completed.ids] == [True, False, True, True]
    sizes = [answer.ByteSize() for answer in rpcs(router, peer)]
    assert max(sizes) == 1 << 20
    small = make_router(config=GossipConfig(max_rpc=2000))
    (peer,) = joined(small, "news", 1, TopicOptions(sign))
    batch = [b"y" * 400, b"x" * (small.max_message("news", sign) + 1), b"x" * small.max_message("news", sign)]
    (completed,) = completions(list(small.handle(Published(1, "news", batch), 0.0)))
    assert [receipt.outcome for receipt in completed.receipts] == [
        PublishOutcome.SENT,
        PublishOutcome.TOO_LARGE,
        PublishOutcome.SENT,
    ]
    assert [answer.ByteSize() for answer in rpcs(small, peer)][-1] == 2000


@pytest.mark.parametrize("sign", [True, False])
@pytest.mark.parametrize("size", [100, 900, 20_000])
def test_joined_messages_pass_a_reader_that_bounds_what_it_has_read(sign: bool, size: int) -> None:
    """As libp2p-gossipsub 0.50 reads: 8,192 bytes at a time, and never more than 65,536 unread, whole RPCs or not."""
    router = make_router()
    (peer,) = joined(router, "news", 1, TopicOptions(sign))
    router.handle(Published(1, "news", [b"%04d" % number + bytes(size) for number in range(250)]), 0.0)
    sent = b""
    while frames := router.take(peer, 65_536):
        sent += b"".join(frames)
    unread, whole = b"", 0
    for start in range(0, len(sent), 8192):
        unread += sent[start : start + 8192]
        assert len(unread) <= 65_536
        while (prefix := varint.decode(unread)) and len(unread) >= sum(prefix):
            length, begin = prefix
            whole += len(decode_rpc(unread[begin : begin + length]).publish)
            unread = unread[begin + length :]
    assert (whole, unread) == (250, b"")


def test_a_slow_peer_loses_and_the_others_do_not() -> None:
    router = make_router(config=SMALL)
    joined(router, "news", 2, UNSIGNED)
    (completed,) = completions(list(router.handle(Published(1, "news", datas(8)), 0.0)))
    assert completed.receipts == [Receipt(0, 8, PublishOutcome.SENT, 2, 0)]
    assert taken(router, 1) == datas(8)  # the second peer takes nothing
    (completed,) = completions(list(router.handle(Published(2, "news", datas(8, 8)), 0.0)))
    assert completed.receipts == [Receipt(0, 8, PublishOutcome.SENT, 1, 1)]
    (completed,) = completions(list(router.handle(Published(3, "news", datas(8, 16)), 0.0)))
    assert completed.receipts == [Receipt(0, 8, PublishOutcome.QUEUE_FULL, 0, 0)]
    views = {view.peer: view for view in router.peers()}
    assert views[peer_id(2)].dropped == router.statistics().dropped["queue_full"] == 8
    assert views[peer_id(2)].queued_messages == 8
    assert taken(router, 2) == datas(8)


def test_forwarding_to_a_full_queue_is_counted() -> None:
    router = make_router(config=SMALL)
    source, _ = joined(router, "news", 2, UNSIGNED)
    for start in (0, 6, 12):
        bodies = [b"\x12" + bytes((len(data),)) + data + b"\x22\x04news" for data in datas(6, start)]
        router.handle(RpcsReceived(source, [rpc(publish=bodies)]), 0.0)
    # Chunks of five and one: ten fit, and a chunk goes whole or not at all.
    assert taken(router, 2) == [*datas(6), b"11", b"17"]
    assert router.statistics().dropped["queue_full"] == 10


def test_waiting_publishers_resume_in_order_when_the_queue_drains() -> None:
    router = make_router(config=SMALL)
    joined(router, "news", 1, UNSIGNED)
    done = completions(list(router.handle(Published(1, "news", datas(25), wait=True), 0.0)))
    done += completions(list(router.handle(Published(2, "news", datas(5, 25), wait=True), 0.0)))
    assert done == []
    (refused,) = completions(list(router.handle(Published(3, "news", [b"no"]), 0.0)))
    assert refused.receipts == [Receipt(0, 1, PublishOutcome.QUEUE_FULL, 0, 0)]
    received: list[bytes | None] = []
    for _ in range(10):
        received += taken(router, 1)
        if router.relieved:
            done += completions(list(router.resume(0.0)))
    assert received == datas(30)
    assert [(completed.op, completed.receipts) for completed in done] == [
        (1, [Receipt(0, 25, PublishOutcome.SENT, 1, 0)]),
        (2, [Receipt(0, 5, PublishOutcome.SENT, 1, 0)]),
    ]


def test_waiting_ends_when_the_peers_go_or_the_app_cancels() -> None:
    router = make_router(config=SMALL)
    joined(router, "news", 1, UNSIGNED)
    router.handle(Published(1, "news", datas(15), wait=True), 0.0)
    router.handle(Published(2, "news", datas(5, 15), wait=True), 0.0)
    assert router.handle(PublishCancelled(99), 0.0) == []
    (cancelled,) = completions(list(router.handle(PublishCancelled(1), 0.0)))
    assert cancelled.receipts == [
        Receipt(0, 10, PublishOutcome.SENT, 1, 0),
        Receipt(10, 5, PublishOutcome.CANCELLED, 0, 0),
    ]
    router.handle(PeerRemoved(peer_id(1)), 0.0)
    assert router.next_deadline() == 0.0
    (completed,) = completions(list(router.handle_deadline(0.0)))
    assert (completed.op, completed.receipts) == (2, [Receipt(0, 5, PublishOutcome.NO_PEERS, 0, 0)])


def test_waiting_for_a_number_of_peers() -> None:
    router = make_router()
    options = TopicOptions(sign=False)
    (refused,) = completions(list(router.handle(Published(1, "news", [b"x"], minimum_peers=2, options=options), 0.0)))
    assert refused.receipts == [Receipt(0, 1, PublishOutcome.NO_PEERS, 0, 0)]
    waiting = Published(2, "news", [b"x"], wait=True, minimum_peers=2, options=options)
    assert router.handle(waiting, 0.0) == []
    for number in (1, 2):
        router.handle(PeerAdded(peer_id(number), "/meshsub/1.1.0", True), 1.0)
        router.handle(RpcsReceived(peer_id(number), [subscribe("news")]), 1.0)
        done = completions(list(router.handle_deadline(1.0)))
    (completed,) = done
    assert completed.receipts == [Receipt(0, 1, PublishOutcome.SENT, 2, 0)]


def test_the_waiting_room_is_bounded() -> None:
    router = make_router(config=GossipConfig(parked_max_jobs=2, queue_max_messages=10))
    joined(router, "news", 1, UNSIGNED)
    router.handle(Published(0, "news", datas(10)), 0.0)
    outcomes = []
    for op in range(1, 5):
        done = completions(list(router.handle(Published(op, "news", [b"wait %d" % op], wait=True), 0.0)))
        outcomes += [receipt.outcome for completed in done for receipt in completed.receipts]
    assert outcomes == [PublishOutcome.QUEUE_FULL] * 2


def test_signing_a_large_batch_is_spread_over_turns() -> None:
    router = make_router(config=GossipConfig(sign_burst=10))
    (peer,) = joined(router, "news", 1)
    effects = list(router.handle(Published(1, "news", datas(25)), 0.0))
    turns = 0
    while not completions(effects):
        assert router.next_deadline() == 0.0
        effects = list(router.handle_deadline(0.0))
        turns += 1
    assert turns == 2
    assert completions(effects)[0].receipts == [Receipt(0, 25, PublishOutcome.SENT, 1, 0)]
    fields: list[Fields] = [parse_message(raw) for answer in rpcs(router, peer) for raw in answer.publish]
    assert [field.data for field in fields] == datas(25)
    seqnos = [field.seqno for field in fields]
    assert seqnos == sorted(seqnos, key=lambda seqno: seqno or b"")


# ---------------------------------------------------------------- flood publishing


def subscribed(router: GossipRouter, numbers: range, *, outbound: bool = False) -> None:
    for number in numbers:
        router.handle(PeerAdded(peer_id(number), "/meshsub/1.2.0", outbound), 0.0)
        router.handle(RpcsReceived(peer_id(number), [subscribe("news", age=3_600_000)]), 0.0)
        rpcs(router, peer_id(number))


def reached(router: GossipRouter, peers: int) -> set[int]:
    return {number for number in range(1, peers + 1) if taken(router, number)}


def grafted(router: GossipRouter) -> set[int]:
    (view,) = router.topics()
    return {number for number in range(1, 100) if peer_id(number) in view.mesh}


def test_a_topic_with_few_peers_is_flooded_and_of_many_some_get_it() -> None:
    router = make_router(config=GossipConfig(flood_peers=10))
    router.handle(TopicJoined("news"), 0.0)
    subscribed(router, range(1, 11))
    router.handle(Published(1, "news", [b"few"]), 0.5)
    assert reached(router, 10) == set(range(1, 11))
    subscribed(router, range(11, 21))
    subscribed(router, range(21, 23), outbound=True)
    (completed,) = completions(list(router.handle(Published(2, "news", [b"many"]), 0.5)))
    assert completed.receipts == [Receipt(0, 1, PublishOutcome.SENT, 10, 0)]
    got = reached(router, 22)
    assert got >= grafted(router) | {21, 22}  # those that were dialled come first, then the oldest
    assert got <= set(range(1, 11)) | {21, 22}


def test_those_that_brought_most_messages_first_are_flooded_to_before_others() -> None:
    router = make_router(config=GossipConfig(flood_peers=7))
    router.handle(TopicJoined("news", UNSIGNED), 0.0)
    subscribed(router, range(1, 31))
    for number in (29, 30):
        router.handle(RpcsReceived(peer_id(number), [rpc(publish=[plain("news", b"%d" % number)])]), 0.1)
    for number in range(1, 31):
        rpcs(router, peer_id(number))
    router.handle(Published(1, "news", [b"x"]), 0.2)
    assert reached(router, 30) == grafted(router) | {29, 30}


def test_a_mesh_that_lacks_peers_is_no_ground_to_leave_anybody_out() -> None:
    router = make_router(config=GossipConfig(flood_peers=6))
    router.handle(TopicJoined("news"), 0.0)
    subscribed(router, range(1, 13))
    for number in sorted(grafted(router))[:2]:
        router.handle(RpcsReceived(peer_id(number), [control(prune=[{"topicID": b"news", "backoff": 60}])]), 0.1)
    router.handle(Published(1, "news", [b"x"]), 0.2)
    assert reached(router, 12) == set(range(1, 13))


def test_who_asks_for_as_many_peers_gets_them() -> None:
    router = make_router(config=GossipConfig(flood_peers=6))
    router.handle(TopicJoined("news"), 0.0)
    subscribed(router, range(1, 13))
    router.handle(Published(1, "news", [b"x"], minimum_peers=11), 0.2)
    assert len(reached(router, 12)) == 11
    router.handle(Published(2, "news", [b"y"]), 0.3)
    assert len(reached(router, 12)) == 6


def test_who_gets_messages_by_gossip_alone_is_flooded_to_after_some() -> None:
    router = make_router(config=GossipConfig(flood_peers=5))
    router.handle(TopicJoined("news"), 0.0)
    subscribed(router, range(1, 13))
    outside = [number for number in range(1, 13) if number not in grafted(router)]

    def publish(op: int, now: float, asking: int | None) -> set[int]:
        router.handle(Published(op, "news", [b"%d" % op]), now)
        got = reached(router, 12)
        router.handle_deadline(now + 1.0)
        for number in range(1, 13):
            haves = [have for found in rpcs(router, peer_id(number)) for have in found.control.ihave]
            ids = [identifier for have in haves for identifier in have.messageIDs]
            if ids and number == asking:
                router.handle(RpcsReceived(peer_id(number), [control(iwant=[{"messageIDs": ids}])]), now + 1.0)
        taken(router, asking or 1)
        return got

    wanting = outside[-1]
    seen = [publish(op, 2.0 * op, wanting) for op in range(1, 31)]
    first = next(index for index, got in enumerate(seen) if wanting in got)
    assert 8 <= first <= 20
    assert all(wanting in got for got in seen[first:])
    assert all(got - {wanting} == grafted(router) for got in seen)
    for op in range(31, 100):  # well served: after a minute it is one among others again
        last = publish(op, 2.0 * op, None)
    assert last == grafted(router)


def test_what_is_published_on_a_large_topic_that_is_not_joined_is_gossiped_about_too() -> None:
    router = make_router(config=GossipConfig(flood_peers=6))
    subscribed(router, range(1, 13))
    router.handle_deadline(2.0)  # nobody is new
    router.handle(Published(1, "news", [b"x"]), 2.2)
    got = reached(router, 12)
    assert len(got) == 6
    named = set()
    for beat in range(2, 6):
        router.handle_deadline(float(2 * beat))
        for number in range(1, 13):
            if any(found.control.ihave for found in rpcs(router, peer_id(number))):
                named.add(number)
    assert named == set(range(1, 13)) - got
