"""The router's whole effects, one input after the other."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kad_network import address, peer

from sidecar.core.errors import (
    DialBackoff,
    InvalidArgument,
    NotSupported,
    ProtocolError,
    QueueFull,
    SelfDial,
    Unreachable,
)
from sidecar.core.kademlia import (
    BootstrapRequested,
    BucketView,
    CancelQuery,
    KademliaConfig,
    KademliaRouter,
    LookupCancelled,
    LookupCompleted,
    LookupFailed,
    LookupRequested,
    PeerDisconnected,
    PeerIdentified,
    PeersNamed,
    Probe,
    ProbeFailed,
    ProbeSucceeded,
    QueryAnswered,
    QueryFailed,
    RefuseRequest,
    RequestReceived,
    Respond,
    SendQuery,
    TableRestored,
    messages,
)
from sidecar.core.kademlia.keyspace import common_prefix, place
from sidecar.core.types import PeerId
from sidecar.wire import kademlia_pb2

LOCAL = peer(0)
A, B, C, D = map(peer, range(1, 5))
AT = {one: (address(number),) for number, one in enumerate((LOCAL, A, B, C, D))}
KEY = b"key"
ASK = messages.encode_find_node(KEY)
ASK_SELF = messages.encode_find_node(LOCAL)
NEVER = 1e9
QUIET = KademliaConfig(join_interval=NEVER, refresh_interval=NEVER)  # after joining nothing happens by itself


def answer(*peers: PeerId) -> bytes:
    return messages.encode_closer_peers([messages.encode_peer(one, AT[one], False) for one in peers], 99_999)


def named(frame: bytes) -> list[PeerId]:
    return [one for one, _ in messages.decode_closer_peers(frame, QUIET)]


def joined(*peers: PeerId, config: KademliaConfig = QUIET) -> KademliaRouter:
    """A router that has joined: the queries that this took are numbers 1 to `first(router)` - 1."""
    router = KademliaRouter(config, LOCAL, rng=random.Random(1))
    for one in peers:
        router.handle(PeerIdentified(one, AT[one], True), 0.0)
    while router.statistics().queries_in_flight:
        for number in range(1, first(router)):
            router.handle(QueryFailed(number, DialBackoff("busy")), 0.0)
    return router


def in_table(router: KademliaRouter) -> set[PeerId]:
    """Who has a place in a bucket."""
    return {one for bucket in router.buckets() for one in bucket.peers}


def first(router: KademliaRouter) -> int:
    """The number of the next query."""
    return router.statistics().queries + 1


def test_joins_through_its_first_peer() -> None:
    router = KademliaRouter(KademliaConfig(join_interval=2.0), LOCAL, rng=random.Random(1))
    assert router.next_deadline() is None
    assert router.handle(PeerIdentified(A, AT[A], True), 100.0) == [SendQuery(1, A, AT[A], ASK_SELF)]
    assert in_table(router) == {A}
    effects = router.handle(QueryAnswered(1, answer(LOCAL, B)), 100.1)
    assert effects == [PeersNamed(((B, AT[B]),), A, 0), SendQuery(2, B, AT[B], ASK_SELF)]
    assert router.handle(PeerIdentified(B, AT[B], True), 100.2) == []
    assert in_table(router) == {A, B}
    effects = router.handle(QueryAnswered(2, answer(A)), 100.3)  # done; with so few there are no others to be found
    assert effects == [PeersNamed(((A, AT[A]),), B, 0)]
    due = router.next_deadline()
    assert due is not None
    assert 101.8 <= due <= 102.2
    effects = router.handle_deadline(due)  # early repetitions look up our own id only
    assert {(effect.peer, effect.frame) for effect in effects} == {(A, ASK_SELF), (B, ASK_SELF)}


def test_fills_far_buckets_one_after_the_other_with_strangers() -> None:
    config = KademliaConfig(k=4, refresh_contacts=2, refresh_pause=4.0, join_interval=1000.0, refresh_interval=NEVER)
    router = KademliaRouter(config, LOCAL, rng=random.Random(1))
    at = {peer(number): (address(number),) for number in range(1, 200)}
    of = {prefix: [one for one in at if common_prefix(place(one), place(LOCAL)) == prefix] for prefix in range(5)}
    known = [*of[0][:2], *of[3][:2], *of[4][:2]]  # bucket 0 has enough; the fourth neighbour is in bucket 3
    effects = [effect for one in known for effect in router.handle(PeerIdentified(one, at[one], True), 1.0)]
    now = 1.0
    asked: dict[int, list[PeerId]] = {}  # by bucket
    moments: list[float] = []
    while now < 500.0:
        while effects:
            query = effects.pop(0)
            if isinstance(query, SendQuery):
                prefix = common_prefix(place(messages.decode_request(query.frame, config).key), place(LOCAL))
                asked.setdefault(prefix, []).append(query.peer)
                named = [messages.encode_peer(one, at[one], False) for one in of.get(prefix, ())[:6]]
                frame = messages.encode_closer_peers(named, 99_999)
                effects += router.handle(QueryAnswered(query.query, frame), now)
        now = router.next_deadline() or NEVER
        effects += router.handle_deadline(now)
        moments.append(now)
    del asked[256]  # the lookup of the own id
    assert list(asked) == [1, 2]
    for prefix, (first_one, *others) in asked.items():
        assert first_one in known
        assert len(others) == config.refresh_contacts
        assert set(others) <= set(of[prefix])
    assert moments[0] == 5.0  # the second of them


def test_asks_also_those_who_came_while_it_looked_itself_up() -> None:
    router = KademliaRouter(KademliaConfig(join_interval=NEVER), LOCAL, rng=random.Random(1))
    assert router.handle(PeerIdentified(A, AT[A], True), 1.0) == [SendQuery(1, A, AT[A], ASK_SELF)]
    assert router.handle(PeerIdentified(B, AT[B], True), 1.1) == [SendQuery(2, B, AT[B], ASK_SELF)]
    assert not router.told_by(A, 0.5)
    router.handle(QueryAnswered(1, answer()), 1.2)
    router.handle(QueryAnswered(2, answer()), 1.3)
    assert router.told_by(A, 0.5)
    assert router.told_by(B, 1.3)
    assert not router.told_by(B, 1.4)  # it may be another one by now
    assert router.handle(PeerIdentified(peer(3), (address(3),), True), 1.5) == []  # the lookup is over


def test_bootstraps_on_demand() -> None:
    router = joined(A)
    assert router.handle(BootstrapRequested(), 1.0) == [SendQuery(first(router) - 1, A, AT[A], ASK_SELF)]


def test_a_restored_table_asks_nobody_until_its_refresh_is_due() -> None:
    config = KademliaConfig(k=2)
    router = KademliaRouter(config, LOCAL, rng=random.Random(1))
    many = [peer(number) for number in range(1, 60)]
    assert router.handle(TableRestored([(one, (address(1),)) for one in (*many, LOCAL)]), 10.0) == []
    assert all(len(bucket.peers) <= 2 for bucket in router.buckets())
    assert len(router.buckets()[0].peers) == 2
    assert in_table(router) <= set(many)
    due = router.next_deadline()
    assert due is not None
    assert 10 + 0.9 * config.refresh_interval <= due <= 10 + 1.1 * config.refresh_interval
    assert any(isinstance(effect, SendQuery) for effect in router.handle_deadline(due))


def test_a_lookup_from_question_to_result() -> None:
    router = joined(A)
    query = first(router)
    hops, queries = list(router.hops().counts), list(router.queries().counts)
    assert router.handle(LookupRequested(7, KEY), 10.0) == [SendQuery(query, A, AT[A], ASK)]
    effects = router.handle(QueryAnswered(query, answer(B, C)), 10.1)
    assert effects[0] == PeersNamed(((B, AT[B]), (C, AT[C])), A, 0)
    assert {effect.peer: effect.query for effect in effects[1:]}.keys() == {B, C}
    ask = {effect.peer: effect.query for effect in effects[1:]}
    assert router.handle(QueryFailed(ask[B], Unreachable("gone")), 10.2) == []
    ordered = tuple(sorted((A, C), key=lambda one: place(one) ^ place(KEY)))
    assert router.handle(QueryAnswered(ask[C], answer(A)), 10.3) == [
        PeersNamed(((A, AT[A]),), C, 0),
        LookupCompleted(7, tuple((one, AT[one]) for one in ordered), None, 2, 3, 1),
    ]
    hops[router.hops().bounds.index(2)] += 1
    queries[router.queries().bounds.index(5)] += 1
    assert (router.hops().counts, router.queries().counts) == (hops, queries)
    assert router.handle(QueryAnswered(ask[B], answer()), 10.4) == []  # too late, and no more asked for


def test_a_malformed_answer_costs_the_place_in_the_table() -> None:
    router = joined(A)
    query = first(router)
    router.handle(LookupRequested(1, KEY), 1.0)
    assert in_table(router) == {A}
    hops, queries = sum(router.hops().counts), router.queries().counts[0]
    assert router.handle(QueryAnswered(query, b"\xff"), 1.1) == [LookupCompleted(1, (), None, 0, 1, 1)]
    assert in_table(router) == set()
    assert sum(router.hops().counts) == hops, "nobody answered"
    assert router.queries().counts[0] == queries + 1


@pytest.mark.parametrize(
    ("error", "kept"), [(DialBackoff("wait"), 5), (Unreachable("gone"), 1), (NotSupported("no"), 0)]
)
def test_what_a_failure_says_of_a_peer(error: Exception, kept: int) -> None:
    router = joined(A)
    router.handle(PeerDisconnected(A), 1.0)
    survived = 0
    for op in range(5):
        query = first(router)
        router.handle(LookupRequested(op, KEY), 1.0)
        router.handle(QueryFailed(query, error), 1.1)
        survived += len(router)
    assert survived == kept


def test_a_target_ends_the_lookup_when_it_is_reached() -> None:
    router = joined(A)
    query = first(router)
    ask = messages.encode_find_node(B)
    assert router.handle(LookupRequested(1, bytes(B), B), 1.0) == [SendQuery(query, A, AT[A], ask)]
    effects = router.handle(QueryAnswered(query, answer(B, C)), 1.1)
    assert effects == [
        PeersNamed(((B, AT[B]), (C, AT[C])), A, 0),
        SendQuery(query + 1, B, AT[B], ask),
        SendQuery(query + 2, C, AT[C], ask),
    ]
    seen_at = (address(77),)
    assert router.handle(PeerIdentified(B, seen_at, False), 1.2) == [  # a client, but there
        CancelQuery(query + 1),
        CancelQuery(query + 2),
        LookupCompleted(1, ((A, AT[A]),), seen_at, 1, 3, 0),
    ]
    assert router.handle(LookupRequested(2, bytes(B), B), 1.3) == [LookupCompleted(2, (), seen_at, 0, 0, 0)]
    assert router.handle(LookupRequested(3, bytes(LOCAL), LOCAL), 1.3)[0].error.__class__ is SelfDial


def test_a_target_that_nobody_reaches_is_told_from_hearsay() -> None:
    router = joined(A)
    query = first(router)
    router.handle(LookupRequested(1, bytes(B), B), 1.0)
    router.handle(QueryAnswered(query, answer(B)), 1.1)
    assert router.handle(QueryFailed(query + 1, Unreachable("gone")), 1.2) == [
        LookupCompleted(1, ((A, AT[A]),), AT[B], 1, 2, 1)
    ]


def test_time_outs_of_queries_and_lookups() -> None:
    router = joined(
        A,
        B,
        config=KademliaConfig(
            alpha=1, join_interval=NEVER, refresh_interval=NEVER, lookup_timeout=12.0, slow_after=NEVER
        ),
    )
    query = first(router)
    router.handle(LookupRequested(1, KEY), 100.0)
    far = max(A, B, key=lambda one: place(one) ^ place(KEY))
    assert router.next_deadline() == 110.0
    assert router.handle_deadline(110.0) == [CancelQuery(query), SendQuery(query + 1, far, AT[far], ASK)]
    assert router.next_deadline() == 112.0
    assert router.handle_deadline(112.0) == [CancelQuery(query + 1), LookupCompleted(1, (), None, 0, 2, 1)]
    assert router.next_deadline() > 1000


def test_who_is_slow_holds_nobody_up_and_may_answer_late() -> None:
    config = KademliaConfig(k=2, alpha=1, join_interval=NEVER, refresh_interval=NEVER, slow_after=3.0)
    near, mid, far = sorted((A, B, C), key=lambda one: place(one) ^ place(KEY))
    for late in (True, False):
        router = joined(A, B, C, config=config)
        query = first(router)
        assert router.handle(LookupRequested(1, KEY), 100.0) == [SendQuery(query, near, AT[near], ASK)]
        assert router.next_deadline() == 103.0
        assert router.handle_deadline(103.0) == [SendQuery(query + 1, mid, AT[mid], ASK)]
        assert router.handle(QueryAnswered(query + 1, answer(far)), 104.0)[-1] == SendQuery(
            query + 2, far, AT[far], ASK
        )
        if late:  # while the walk goes on: it counts, as the closer one
            assert router.handle(QueryAnswered(query, answer()), 105.0) == [
                CancelQuery(query + 2),
                LookupCompleted(1, ((near, AT[near]), (mid, AT[mid])), None, 1, 3, 0),
            ]
        else:  # enough have answered: nobody waits for it
            done = router.handle(QueryAnswered(query + 2, answer()), 105.0)
            assert done[0] == CancelQuery(query)
            assert isinstance(done[1], LookupCompleted)
            assert [peer for peer, _ in done[1].closest] == [mid, far]
            assert done[1].failed == 1


def test_where_few_answer_the_slow_are_waited_for() -> None:
    config = KademliaConfig(alpha=2, join_interval=NEVER, refresh_interval=NEVER, slow_after=3.0, query_timeout=10.0)
    router = joined(A, B, config=config)
    query = first(router)
    near, far = sorted((A, B), key=lambda one: place(one) ^ place(KEY))
    router.handle(LookupRequested(1, KEY), 100.0)
    assert router.handle(QueryAnswered(query + 1, answer()), 100.5) == []
    assert router.handle_deadline(103.0) == []
    assert router.next_deadline() == 110.0
    assert router.handle(QueryAnswered(query, answer()), 109.0) == [
        LookupCompleted(1, ((near, AT[near]), (far, AT[far])), None, 1, 2, 0)
    ]


def test_lookups_wait_their_turn_and_are_refused_beyond() -> None:
    config = KademliaConfig(join_interval=NEVER, refresh_interval=NEVER, max_lookups=1, max_queued_lookups=2)
    router = joined(A, config=config)
    query = first(router)
    assert router.handle(LookupRequested(1, KEY), 1.0) == [SendQuery(query, A, AT[A], ASK)]
    assert router.handle(LookupRequested(2, KEY), 1.0) == []
    assert router.handle(LookupRequested(3, KEY), 1.0) == []
    (refused,) = router.handle(LookupRequested(4, KEY), 1.0)
    assert isinstance(refused, LookupFailed)
    assert (refused.op, type(refused.error)) == (4, QueueFull)
    assert router.handle(LookupCancelled(2), 1.1) == []
    assert router.handle(LookupCancelled(1), 1.2) == [CancelQuery(query), SendQuery(query + 1, A, AT[A], ASK)]
    assert router.handle(QueryAnswered(query + 1, answer()), 1.3) == [LookupCompleted(3, ((A, AT[A]),), None, 1, 1, 0)]
    (refused,) = router.handle(LookupRequested(5, b""), 1.4)
    assert isinstance(refused, LookupFailed)
    assert type(refused.error) is InvalidArgument


def test_a_long_queue_ends_when_the_table_is_empty() -> None:
    router = joined(A)
    query = first(router)
    for op in range(200):
        router.handle(LookupRequested(op, KEY), 1.0)
    router.handle(PeerIdentified(A, AT[A], False), 1.0)  # it is no server any more
    effects = []
    for number in range(query, first(router)):
        effects += router.handle(QueryFailed(number, Unreachable("gone")), 1.1)
    assert sorted(effect.op for effect in effects) == list(range(200))
    assert router.statistics().running_lookups == 0


def test_answers_with_the_closest_but_not_the_asker() -> None:
    router = joined(A, B, C)
    router.handle(PeerIdentified(D, AT[D], False), 1.0)
    router.handle(PeerDisconnected(B), 1.0)
    (response,) = router.handle(RequestReceived(9, A, ASK), 1.0)
    assert isinstance(response, Respond)
    assert response.token == 9
    assert named(response.frame) == sorted((B, C), key=lambda one: place(one) ^ place(KEY))
    whole = kademlia_pb2.Message.FromString(response.frame)
    assert {PeerId(entry.id): entry.connection for entry in whole.closer_peers} == {B: 0, C: 1}
    (response,) = router.handle(RequestReceived(10, A, messages.encode_find_node(D)), 1.0)
    assert named(response.frame)[0] == D  # a client is named to who looks for it
    (response,) = router.handle(RequestReceived(11, A, messages.encode_find_node(A)), 1.0)
    assert A not in named(response.frame)


def test_a_full_bootstrap_peer_answers_too() -> None:
    """Its farthest bucket is full, and those for whom there is no place can be found nevertheless."""
    router = joined(A)
    others = [peer(number) for number in range(10, 200)]
    for number, one in enumerate(others):
        router.handle(PeerIdentified(one, (address(number),), True), 1.0)
    held = sum(len(bucket.peers) for bucket in router.buckets())
    assert held == len(router) < len(others)
    assert router.statistics().replacements == len(others) + 1 - held
    for asker, target in ((others[0], others[-1]), (others[5], others[-2])):
        (response,) = router.handle(RequestReceived(1, asker, messages.encode_find_node(target)), 2.0)
        truth = sorted((one for one in [A, *others] if one != asker), key=lambda one: place(one) ^ place(target))
        assert named(response.frame) == truth[:20]
        assert len(response.frame) <= QUIET.max_answer


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (b"\xff", ProtocolError),
        (messages.encode_find_node(b""), ProtocolError),
        (bytes.fromhex("08 63"), ProtocolError),
        (bytes.fromhex("08 00"), ProtocolError),
        (bytes.fromhex("08 03"), ProtocolError),
        (bytes(QUIET.max_frame + 1), ProtocolError),
    ],
)
def test_refuses_what_it_does_not_serve(frame: bytes, error: type[Exception]) -> None:
    router = joined(A)
    (refusal,) = router.handle(RequestReceived(3, B, frame), 1.0)
    assert isinstance(refusal, RefuseRequest)
    assert refusal.token == 3
    assert isinstance(refusal.error, error)
    assert router.handle(RequestReceived(4, B, messages.PING_ANSWER), 1.0) == [Respond(4, messages.PING_ANSWER)]
    statistics = router.statistics()
    assert (statistics.requests, statistics.refused_requests) == (2, 1)


def test_probes_evict_the_dead_for_newcomers() -> None:
    config = KademliaConfig(k=1, probe_after=60.0, probe_timeout=20.0, join_interval=NEVER, refresh_interval=NEVER)
    far = [one for one in map(peer, range(10, 60)) if common_prefix(place(one), place(LOCAL)) == 0]
    at = (address(5),)
    router = KademliaRouter(config, LOCAL, rng=random.Random(1))
    router.handle(PeerIdentified(far[0], at, True), 0.0)
    router.handle(QueryAnswered(1, answer()), 0.0)
    for number in range(2, first(router)):
        router.handle(QueryAnswered(number, answer()), 0.0)
    assert router.handle(PeerIdentified(far[1], at, True), 100.0) == [Probe(far[0], at)]
    assert router.handle(ProbeSucceeded(far[0]), 101.0) == []
    router.handle(PeerDisconnected(far[0]), 110.0)
    assert router.handle(PeerIdentified(far[2], at, True), 200.0) == [Probe(far[0], at)]
    assert router.next_deadline() == 220.0
    assert in_table(router) == {far[0]}
    assert router.handle_deadline(220.0) == []
    assert in_table(router) == {far[2]}
    assert router.handle(ProbeFailed(far[0]), 221.0) == []  # too late
    assert router.buckets() == [BucketView(0, (far[2],), 1)]


def test_a_refresh_probes_who_was_not_heard_of_for_long() -> None:
    router = joined(A, config=KademliaConfig())
    router.handle(PeerDisconnected(A), 1.0)
    now, probes = 0.0, []
    while now < 3000 and not probes:
        now = router.next_deadline() or NEVER
        effects = router.handle_deadline(now)
        probes = [effect for effect in effects if isinstance(effect, Probe)]
        for effect in effects:
            if isinstance(effect, SendQuery):
                router.handle(QueryFailed(effect.query, DialBackoff("busy")), now)
    assert probes == [Probe(A, AT[A])]
    assert now >= 601.0
    assert in_table(router) == {A}
    assert router.handle(ProbeFailed(A), now) == []
    assert in_table(router) == set()
    assert router.next_deadline() is None  # nothing to refresh until somebody comes


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_comes_in_whatever_order_it_stays_within_its_bounds(seed: int) -> None:
    """No input may raise; every requested lookup is answered exactly once; tables, queries and lookups stay bounded."""
    rng = random.Random(seed)
    config = KademliaConfig(k=2, alpha=2, max_lookups=3, max_queued_lookups=4, max_clients=3, max_replacements=2)
    router = KademliaRouter(config, LOCAL, rng=random.Random(seed))
    peers = [peer(number) for number in range(40)]  # ourselves among them
    errors = [Unreachable("gone"), DialBackoff("wait"), NotSupported("no"), QueueFull("full")]
    now, open_ops = 0.0, {}

    def carry_out(effects: list) -> None:
        for effect in effects:
            if isinstance(effect, LookupCompleted | LookupFailed):
                del open_ops[effect.op]

    for op in range(300):
        one, number = rng.choice(peers), rng.randrange(max(1, first(router) - 8), first(router) + 1)
        frame = rng.choice(
            [
                answer(),
                messages.encode_find_node(one),
                b"\xff",
                messages.encode_closer_peers(
                    [messages.encode_peer(other, (address(3),), True) for other in rng.sample(peers, 6)], 9999
                ),
            ]
        )
        event = rng.choice([
            PeerIdentified(one, (address(rng.randrange(9)),), rng.random() < 0.8), PeerDisconnected(one),
            RequestReceived(1, one, frame), QueryAnswered(number, frame), QueryAnswered(number, frame),
            QueryFailed(number, rng.choice(errors)), ProbeSucceeded(one), ProbeFailed(one), BootstrapRequested(),
            LookupRequested(op, bytes(one), rng.choice([None, one])), LookupCancelled(rng.randrange(op + 1)),
            TableRestored([(one, (address(1),))]),
        ])  # fmt: skip
        if isinstance(event, LookupRequested):
            open_ops[op] = None
        elif isinstance(event, LookupCancelled):
            open_ops.pop(event.op, None)
        carry_out(router.handle(event, now))
        now += rng.choice([0.0, 0.1, 5.0])
        while (due := router.next_deadline()) is not None and due <= now:
            carry_out(router.handle_deadline(now))
        state = router.statistics()
        assert state.running_lookups <= config.max_lookups + 1  # one refresh beside them
        assert state.queries_in_flight <= config.alpha * state.running_lookups
        assert state.waiting_lookups <= config.max_queued_lookups
        assert state.clients <= config.max_clients
        for bucket in router.buckets():
            assert len(bucket.peers) <= config.k
            assert bucket.replacements <= config.max_replacements
    for _ in range(20):
        now += config.lookup_timeout
        carry_out(router.handle_deadline(now))
    assert open_ops == {}
