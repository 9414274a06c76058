"""Records and providers: what is taken, kept, answered, asked for and corrected."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kad_network import address, peer

from sidecar.core.errors import (
    InvalidArgument,
    NotSupported,
    Outdated,
    ProtocolError,
    QueueFull,
    ResourceExhausted,
    StreamReset,
    TooLarge,
)
from sidecar.core.identity import Identity
from sidecar.core.kademlia import (
    CancelQuery,
    KademliaConfig,
    KademliaRouter,
    LookupCancelled,
    LookupFailed,
    Namespace,
    PeerIdentified,
    PeersNamed,
    ProvideEnded,
    ProvideRequested,
    ProvidersCompleted,
    ProvidersFound,
    ProvidersRequested,
    PutRequested,
    QueryAnswered,
    QueryFailed,
    RefuseRequest,
    RequestReceived,
    Respond,
    Rule,
    SendQuery,
    StoreCompleted,
    ValueCompleted,
    ValueRequested,
    messages,
)
from sidecar.core.kademlia.keyspace import place
from sidecar.core.kademlia.messages import MessageType
from sidecar.core.kademlia.stores import ProviderStore, ValueStore
from sidecar.core.kademlia.validators import Validators
from sidecar.core.records import make_signed_value
from sidecar.core.types import PeerId
from sidecar.wire import kademlia_pb2

Message = kademlia_pb2.Message
LOCAL = peer(0)
A, B, C = map(peer, range(1, 4))
AT = {one: (address(number),) for number, one in enumerate((LOCAL, A, B, C))}
NEVER = 1e9
NAMESPACES = (
    Namespace("pk", Rule.PK),
    Namespace("signed", Rule.SIGNED),
    Namespace("app", Rule.GREATEST),
    Namespace("interop", Rule.GREATEST, b"bad"),
)
CONFIG = KademliaConfig(
    join_interval=NEVER,
    refresh_interval=NEVER,
    namespaces=NAMESPACES,
    record_ttl=100.0,
    provider_ttl=50.0,
    max_value=64,
)
KEY = b"/app/key"
TOPIC = b"\x12\x20" + bytes(32)
EPOCH = 1_700_000_000.0


def joined(*peers: PeerId, config: KademliaConfig = CONFIG) -> KademliaRouter:
    router = KademliaRouter(config, LOCAL, rng=random.Random(1), epoch=EPOCH)
    for one in peers:
        router.handle(PeerIdentified(one, AT[one], True), 0.0)
    while router.statistics().queries_in_flight:  # the lookup of ourselves
        for number in range(1, first(router)):
            router.handle(QueryAnswered(number, messages.encode_closer_peers([], 999)), 0.0)
    return router


def first(router: KademliaRouter) -> int:
    """The number of the next query."""
    return router.statistics().queries + 1


def asked(router: KademliaRouter, frame: bytes, now: float = 1.0, asker: PeerId = A) -> Respond | RefuseRequest:
    (effect,) = router.handle(RequestReceived(7, asker, frame), now)
    assert isinstance(effect, Respond | RefuseRequest)
    return effect


def refusal(router: KademliaRouter, frame: bytes, asker: PeerId = A) -> type[Exception]:
    effect = asked(router, frame, asker=asker)
    assert isinstance(effect, RefuseRequest)
    return type(effect.error)


def answered(router: KademliaRouter, frame: bytes, now: float = 1.0) -> kademlia_pb2.Message:
    effect = asked(router, frame, now)
    assert isinstance(effect, Respond)
    assert effect.frame is not None
    return Message.FromString(effect.frame)


def get(key: bytes = KEY) -> bytes:
    return messages.encode_question(MessageType.GET_VALUE, key)


def get_providers(key: bytes = TOPIC) -> bytes:
    return messages.encode_question(MessageType.GET_PROVIDERS, key)


def value_answer(value: bytes | None, received: str = "", key: bytes = KEY) -> bytes:
    record = None if value is None else messages.Record(key, value, received)
    return messages.encode_record_answer(MessageType.GET_VALUE, key, record)


def put_answer(value: bytes) -> bytes:
    return messages.encode_record_answer(MessageType.PUT_VALUE, KEY, messages.Record(KEY, value))


def nobody() -> bytes:
    return messages.encode_closer_peers([], 999)


# ---------------------------------------------------------------- requests


def test_a_put_record_is_repeated_and_then_given_with_its_time_until_it_expires() -> None:
    router = joined(A, B)
    put = messages.encode_put_value(KEY, b"value")
    assert put == bytes.fromhex("12 08") + KEY + bytes.fromhex("1a 11 0a 08") + KEY + bytes.fromhex("12 05") + b"value"
    assert asked(router, put, 1.0) == Respond(7, put)
    assert router.next_deadline() == 101.0
    answer = answered(router, get(), 100.0)
    assert (answer.type, answer.key) == (Message.GET_VALUE, KEY)
    assert (answer.record.key, answer.record.value) == (KEY, b"value")
    assert answer.record.time_received == "2023-11-14T22:13:21.000000000Z"
    assert [entry.id for entry in answer.closer_peers] == [B]  # without the asker
    assert not answered(router, get(), 101.0).HasField("record")
    assert router.handle_deadline(101.0) == []
    statistics = router.statistics()
    assert (statistics.records, statistics.record_bytes) == (0, 0)


def test_only_a_better_value_replaces_and_the_same_lives_longer() -> None:
    router = joined(A)
    assert isinstance(asked(router, messages.encode_put_value(KEY, b"m"), 1.0), Respond)
    assert refusal(router, messages.encode_put_value(KEY, b"l")) is Outdated
    assert isinstance(asked(router, messages.encode_put_value(KEY, b"m"), 50.0), Respond)
    assert answered(router, get(), 149.0).record.value == b"m"
    assert isinstance(asked(router, messages.encode_put_value(KEY, b"n"), 149.0), Respond)
    assert answered(router, get(), 149.0).record.value == b"n"


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (messages.encode_put_value(b"/unknown/key", b"value"), InvalidArgument),
        (messages.encode_put_value(b"no namespace", b"value"), InvalidArgument),
        (messages.encode_put_value(b"/app/", b"value"), InvalidArgument),
        (messages.encode_put_value(b"/interop/key", b"bad value"), InvalidArgument),
        (messages.encode_put_value(KEY, bytes(65)), TooLarge),
        (messages.encode_put_value(b"", b"value"), ProtocolError),
        (Message(key=KEY).SerializeToString(), ProtocolError),
        (Message(key=KEY, record={"key": b"/app/other", "value": b"v"}).SerializeToString(), ProtocolError),
        (get(b""), ProtocolError),
        (messages.encode_add_provider(TOPIC, B, AT[B]), ProtocolError),  # of somebody else
        (Message(type=Message.ADD_PROVIDER, key=TOPIC).SerializeToString(), ProtocolError),
        (messages.encode_add_provider(bytes(81), A, AT[A]), ProtocolError),
        (get_providers(bytes(81)), ProtocolError),
    ],
)
def test_refuses(frame: bytes, error: type[Exception]) -> None:
    router = joined(A)
    assert refusal(router, frame) is error
    statistics = router.statistics()
    assert (statistics.records, statistics.providers, statistics.refused_requests) == (0, 0, 1)


def test_who_asks_for_a_namespace_without_a_rule_is_led_on() -> None:
    answer = answered(joined(A, B), get(b"/unknown/key"))
    assert not answer.HasField("record")
    assert [entry.id for entry in answer.closer_peers] == [B]


def test_a_provider_is_taken_without_an_answer_and_given_until_it_expires() -> None:
    router = joined(A, B)
    frame = messages.encode_add_provider(TOPIC, A, AT[A])
    assert asked(router, frame, 1.0) == Respond(7, None)
    answer = answered(router, get_providers(), 50.0)
    assert answer.type == Message.GET_PROVIDERS
    assert [(entry.id, list(entry.addresses)) for entry in answer.provider_peers] == [(A, [AT[A][0].to_bytes()])]
    assert [entry.id for entry in answer.closer_peers] == [B]
    assert not answered(router, get_providers(), 51.0).provider_peers
    router.handle_deadline(51.0)
    assert router.statistics().providers == 0


def test_answers_with_many_providers_stay_within_what_others_read() -> None:
    router = joined(A)
    for number in range(10, 10 + CONFIG.max_providers_per_key + 5):
        one = peer(number)
        addresses = tuple(address(other) for other in range(20))
        assert asked(router, messages.encode_add_provider(TOPIC, one, addresses), asker=one) == Respond(7, None)
    assert router.statistics().providers == CONFIG.max_providers_per_key  # the newest
    effect = asked(router, get_providers())
    assert isinstance(effect, Respond)
    assert effect.frame is not None
    assert len(effect.frame) <= CONFIG.max_answer
    given = Message.FromString(effect.frame).provider_peers
    assert len(given) > 50
    assert all(len(entry.addresses) == CONFIG.max_answered_addresses for entry in given)


# ---------------------------------------------------------------- the stores' bounds


def test_a_full_store_of_records_keeps_the_closest() -> None:
    config = KademliaConfig(namespaces=NAMESPACES, max_records=3, max_record_bytes=1000)
    store = ValueStore(config, LOCAL, Validators(NAMESPACES))
    keys = sorted((b"/app/%d" % number for number in range(10)), key=lambda key: place(key) ^ place(LOCAL))
    for key in (keys[5], keys[1], keys[7], keys[0]):
        store.put(key, b"v", 0.0)
    assert [key for key in keys if store.get(key, 1.0)] == [keys[0], keys[1], keys[5]]
    with pytest.raises(ResourceExhausted, match="3 records"):
        store.put(keys[9], b"v", 0.0)
    store.put(keys[2], bytes(900), 0.0)  # the bytes are bounded as well
    assert [key for key in keys if store.get(key, 1.0)] == [keys[0], keys[1], keys[2]]
    assert store.size == sum(len(key) for key in keys[:3]) + 902


def test_a_full_store_of_providers_keeps_those_of_the_closest_keys() -> None:
    store = ProviderStore(KademliaConfig(max_providers=3, max_providers_per_key=2), LOCAL)
    keys = sorted((b"%d" % number for number in range(10)), key=lambda key: place(key) ^ place(LOCAL))
    for one in (A, B, C):
        store.add(keys[5], one, AT[one], 0.0)
    assert store.get(keys[5], 1.0) == [(B, AT[B]), (C, AT[C])]
    store.add(keys[3], A, AT[A], 0.0)
    with pytest.raises(ResourceExhausted, match="3 providers"):
        store.add(keys[9], A, AT[A], 0.0)
    store.add(keys[1], A, AT[A], 0.0)
    assert [len(store.get(key, 1.0)) for key in keys] == [0, 1, 0, 1, 0, 0, 0, 0, 0, 0]


def test_one_network_pushes_only_its_own_providers_of_a_key_out() -> None:
    store = ProviderStore(KademliaConfig(max_providers_per_key=8, max_providers_per_network=3), LOCAL)
    sybils, other = (4, 1), (4, 2)
    store.add(b"key", A, AT[A], 0.0, other)
    store.add(b"key", B, AT[B], 0.0)
    for number in range(20, 40):
        store.add(b"key", peer(number), (), 1.0, sybils)
    assert [one for one, _ in store.get(b"key", 2.0)] == [A, B, peer(37), peer(38), peer(39)]
    store.add(b"another", peer(20), (), 1.0, sybils)  # the bound is of each key
    assert len(store.get(b"another", 2.0)) == 1
    assert len(store) == 6


def test_in_a_full_key_those_give_way_whose_network_has_most() -> None:
    store = ProviderStore(KademliaConfig(max_providers_per_key=8, max_providers_per_network=3), LOCAL)
    for number, network in enumerate((1, 1, 2, 3, 3, 3, None, None)):
        store.add(b"key", peer(20 + number), (), 0.0, None if network is None else (4, network))
    store.add(b"key", A, AT[A], 0.0, (4, 9))
    assert [one for one, _ in store.get(b"key", 1.0)] == [*map(peer, (20, 21, 22, 24, 25, 26, 27)), A]
    store.add(b"key", peer(20), (), 0.0, (4, 1))  # it lives longer, and nobody goes for it
    assert len(store.get(b"key", 1.0)) == 8
    single = ProviderStore(KademliaConfig(max_providers_per_key=3, max_providers_per_network=3), LOCAL)
    for number in range(20, 24):
        single.add(b"key", peer(number), (), 0.0, None if number % 2 else (4, number))
    assert [one for one, _ in single.get(b"key", 1.0)] == [peer(21), peer(22), peer(23)]  # the newest


def test_one_network_does_not_fill_the_store_by_many_keys() -> None:
    config = KademliaConfig(
        max_providers=40, max_providers_per_key=8, max_providers_per_network=3, max_providers_of_network=10
    )
    store = ProviderStore(config, LOCAL)
    honest = [(b"honest %d" % number, peer(20 + number)) for number in range(20)]
    for number, (key, who) in enumerate(honest):
        store.add(key, who, (), 0.0, (4, 100 + number) if number else None)  # one of a network that is not counted
    for number in range(200):
        store.add(b"key %d" % number, peer(50 + number % 5), (), 1.0, (4, 1))
    assert len(store) == 30
    assert all(store.get(key, 2.0) for key, _ in honest)
    kept = [number for number in range(200) if store.get(b"key %d" % number, 2.0)]
    assert kept == list(range(190, 200))  # its newest
    for number in range(190, 195):
        store.remove(b"key %d" % number, peer(50 + number % 5))
    store.add(b"again", peer(50), (), 3.0, (4, 1))  # there is room again
    assert len(store) == 26
    store.expire(1e9)
    assert len(store) == 0
    assert store.next_deadline() is None
    store.add(b"again", peer(50), (), 1e9, (4, 1))
    store.add(b"again", peer(50), (), 1e9, (4, 2))  # the same peer from elsewhere
    for number in range(10):
        store.add(b"other %d" % number, peer(51), (), 1e9, (4, 1))
    assert len(store) == 11


def test_the_network_of_who_names_itself_is_that_of_its_connection() -> None:
    router = joined(A)
    for number in range(20, 60):
        frame = messages.encode_add_provider(TOPIC, peer(number), ())
        router.handle(RequestReceived(7, peer(number), frame, network=(4, 1)), 1.0)
    assert router.statistics().providers == CONFIG.max_providers_per_network


# ---------------------------------------------------------------- validators


def test_rules() -> None:
    alice, mallory = Identity(bytes(31) + b"\1"), Identity(bytes(31) + b"\2")
    rules = Validators(NAMESPACES)
    public = alice.public_key.to_bytes()
    rules.check(b"/pk/" + alice.peer_id, public)
    key = f"/signed/{alice.peer_id}/name".encode()
    old, new = make_signed_value(alice, key, 9, b"zz"), make_signed_value(alice, key, 10, b"a")
    rules.check(key, old)
    assert rules.better(key, new, old)
    assert not rules.better(key, old, new)
    for wrong_key, value in (
        (b"/pk/" + mallory.peer_id, public),
        (b"/pk/" + alice.peer_id, public[:-1]),
        (key, make_signed_value(mallory, key, 11, b"a")),
        (key + b"2", new),
        (f"/signed/{mallory.peer_id}/name".encode(), new),
        (b"/signed/nobody", new),
        (key, new[:-1]),
        (key, b""),
    ):
        with pytest.raises(InvalidArgument):
            rules.check(wrong_key, value)


# ---------------------------------------------------------------- operations


def test_puts_to_the_closest_and_counts_those_that_repeat_it() -> None:
    router = joined(A, B, C)
    ask = messages.encode_find_node(KEY)
    start = first(router)
    effects = router.handle(PutRequested(5, KEY, b"value"), 1.0)
    order = sorted((A, B, C), key=lambda one: place(one) ^ place(KEY))
    assert effects == [SendQuery(start + index, one, AT[one], ask) for index, one in enumerate(order)]
    assert router.handle(QueryAnswered(start, nobody()), 2.0) == []
    assert router.handle(QueryAnswered(start + 1, nobody()), 2.0) == []
    put = messages.encode_put_value(KEY, b"value")
    assert router.handle(QueryAnswered(start + 2, nobody()), 2.0) == [
        SendQuery(start + 3 + index, one, AT[one], put) for index, one in enumerate(order)
    ]
    assert router.handle(QueryAnswered(start + 3, put_answer(b"value")), 3.0) == []
    assert router.handle(QueryAnswered(start + 4, put_answer(b"other")), 3.0) == []
    assert router.handle(QueryFailed(start + 5, StreamReset("refused")), 3.0) == [StoreCompleted(5, 1, 3)]
    assert len(router) == 3  # a peer that refuses a record is not dead for that
    assert answered(router, get()).record.value == b"value"  # our own copy


def test_a_put_that_is_not_answered_ends_in_time_and_a_cancelled_one_at_once() -> None:
    router = joined(A)
    start = first(router)
    router.handle(PutRequested(5, KEY, b"value"), 1.0)
    (sent,) = router.handle(QueryAnswered(start, nobody()), 2.0)
    assert sent == SendQuery(start + 1, A, AT[A], messages.encode_put_value(KEY, b"value"))
    assert router.next_deadline() == 12.0
    assert router.handle_deadline(12.0) == [CancelQuery(start + 1), StoreCompleted(5, 0, 1)]
    router.handle(PutRequested(6, KEY, b"value"), 20.0)
    router.handle(QueryAnswered(start + 2, nobody()), 20.0)
    assert router.handle(LookupCancelled(6), 21.0) == [CancelQuery(start + 3)]
    assert router.statistics().queries_in_flight == 0


def test_without_anybody_a_record_is_kept_here_alone() -> None:
    router = joined()
    assert router.handle(PutRequested(5, KEY, b"value"), 1.0) == [StoreCompleted(5, 0, 0)]
    assert router.handle(ValueRequested(6, KEY, 0), 2.0) == [ValueCompleted(6, b"value", 1, EPOCH + 1.0)]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (PutRequested(5, b"/unknown/key", b"v"), InvalidArgument),
        (PutRequested(5, b"", b"v"), InvalidArgument),
        (PutRequested(5, b"/interop/key", b"bad"), InvalidArgument),
        (PutRequested(5, KEY, bytes(65)), TooLarge),
        (PutRequested(5, KEY, b"a"), Outdated),
        (ValueRequested(5, b"/unknown/key", 0), InvalidArgument),
        (ValueRequested(5, b"/app/" + bytes(1024), 0), InvalidArgument),
        (ProvideRequested(5, b"", ()), InvalidArgument),
        (ProvidersRequested(5, bytes(81), 0), InvalidArgument),
    ],
)
def test_refuses_what_cannot_work(request_, error: type[Exception]) -> None:
    router = joined(A)
    asked(router, messages.encode_put_value(KEY, b"value"))
    (effect,) = router.handle(request_, 1.0)
    assert isinstance(effect, LookupFailed)
    assert (effect.op, type(effect.error)) == (5, error)


def test_finds_the_best_value_and_corrects_those_that_had_another_or_none() -> None:
    router = joined(A, B, C)
    order = sorted((A, B, C), key=lambda one: place(one) ^ place(KEY))
    start = first(router)
    assert router.handle(ValueRequested(5, KEY, 3), 1.0) == [
        SendQuery(start + index, one, AT[one], get()) for index, one in enumerate(order)
    ]
    assert router.handle(QueryAnswered(start, value_answer(b"old", "2023-11-14T22:00:00Z")), 2.0) == []
    assert router.handle(QueryAnswered(start + 1, value_answer(b"tight", "2023-11-14T22:13:20.123456789Z")), 2.0) == []
    put = messages.encode_put_value(KEY, b"tight")
    assert router.handle(QueryAnswered(start + 2, value_answer(None)), 2.0) == [
        ValueCompleted(5, b"tight", 1, EPOCH + 0.123456),
        SendQuery(start + 3, order[0], AT[order[0]], put),
        SendQuery(start + 4, order[2], AT[order[2]], put),
    ]
    assert router.handle(QueryAnswered(start + 3, put_answer(b"tight")), 3.0) == []


def test_a_quorum_ends_the_search_and_values_that_are_not_valid_count_as_none() -> None:
    router = joined(A, B, C)
    key = b"/interop/key"
    order = sorted((A, B, C), key=lambda one: place(one) ^ place(key))
    start = first(router)
    router.handle(ValueRequested(5, key, 1), 1.0)
    assert router.handle(QueryAnswered(start + 2, value_answer(b"bad", key=key)), 2.0) == []
    effects = router.handle(QueryAnswered(start, value_answer(b"good", "nonsense", key=key)), 2.0)
    put = messages.encode_put_value(key, b"good")
    assert effects == [
        CancelQuery(start + 1),
        ValueCompleted(5, b"good", 1, None),
        SendQuery(start + 3, order[2], AT[order[2]], put),
    ]


def test_an_own_value_that_is_outdated_is_replaced() -> None:
    router = joined(A)
    asked(router, messages.encode_put_value(KEY, b"a"))
    start = first(router)
    router.handle(ValueRequested(5, KEY, 2), 2.0)
    assert router.handle(QueryAnswered(start, value_answer(b"b")), 2.0) == [ValueCompleted(5, b"b", 1, EPOCH + 2.0)]
    assert answered(router, get(), 2.0).record.value == b"b"


def test_nobody_has_it() -> None:
    router = joined(A)
    start = first(router)
    router.handle(ValueRequested(5, KEY, 0), 2.0)
    assert router.handle(QueryAnswered(start, value_answer(None)), 2.0) == [ValueCompleted(5, None, 0, None)]


def test_provides_at_the_closest_until_told_to_stop() -> None:
    router = joined(A, B)
    order = sorted((A, B), key=lambda one: place(one) ^ place(TOPIC))
    start = first(router)
    router.handle(ProvideRequested(5, TOPIC, AT[LOCAL]), 1.0)
    router.handle(QueryAnswered(start, nobody()), 2.0)
    frame = messages.encode_add_provider(TOPIC, LOCAL, AT[LOCAL])
    assert router.handle(QueryFailed(start + 1, NotSupported("a client")), 2.0)[:1] == [
        SendQuery(start + 2, order[0], AT[order[0]], frame, False)
    ]
    assert router.handle(QueryAnswered(start + 2, b""), 3.0) == [StoreCompleted(5, 1, 1)]
    assert [entry.id for entry in answered(router, get_providers()).provider_peers] == [LOCAL]
    assert router.handle(ProvideEnded(TOPIC), 4.0) == []
    assert not answered(router, get_providers()).provider_peers


def test_finds_providers_each_once_and_stops_when_they_are_enough() -> None:
    router = joined(A, B)
    asked(router, messages.encode_add_provider(TOPIC, C, AT[C]), asker=C)
    asked(router, messages.encode_add_provider(TOPIC, LOCAL, AT[LOCAL]), asker=LOCAL)
    start = first(router)
    effects = router.handle(ProvidersRequested(5, TOPIC, 2), 1.0)
    assert effects[0] == ProvidersFound(5, ((C, AT[C]),))
    assert len(effects) == 3
    head = messages.encode_record_answer(MessageType.GET_PROVIDERS, TOPIC, None)
    bare = messages.join(head, [messages.encode_provider(peer(9), ()), messages.encode_provider(C, AT[C])], 9999)
    assert router.handle(QueryAnswered(start, bare), 2.0) == [PeersNamed(((C, AT[C]),), B, 0)]
    more = messages.join(head, [messages.encode_provider(peer(9), (address(9),))], 9999)
    assert router.handle(QueryAnswered(start + 1, more), 2.0) == [
        PeersNamed(((peer(9), (address(9),)),), A, 0),
        ProvidersFound(5, ((peer(9), (address(9),)),)),
        ProvidersCompleted(5, 2),
    ]
    assert router.handle(ProvidersRequested(6, TOPIC, 1), 3.0) == [
        ProvidersFound(6, ((C, AT[C]),)),
        ProvidersCompleted(6, 0),
    ]


def test_a_provider_without_addresses_is_told_at_the_end() -> None:
    router = joined(A)
    start = first(router)
    router.handle(ProvidersRequested(5, TOPIC, 0), 1.0)
    head = messages.encode_record_answer(MessageType.GET_PROVIDERS, TOPIC, None)
    assert router.handle(
        QueryAnswered(start, messages.join(head, [messages.encode_provider(peer(9), ())], 9999)), 2.0
    ) == [
        ProvidersFound(5, ((peer(9), ()),)),
        ProvidersCompleted(5, 1),
    ]


def test_no_more_deliveries_than_the_bound() -> None:
    router = joined(A, config=KademliaConfig(join_interval=NEVER, namespaces=NAMESPACES, max_deliveries=1))
    start = first(router)
    router.handle(PutRequested(5, KEY, b"v"), 1.0)
    router.handle(PutRequested(6, b"/app/other", b"v"), 1.0)
    router.handle(QueryAnswered(start, nobody()), 1.0)
    (effect,) = router.handle(QueryAnswered(start + 1, nobody()), 1.0)
    assert isinstance(effect, LookupFailed)
    assert isinstance(effect.error, QueueFull)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.binary(max_size=300))
def test_no_record_raises_anything_but_invalid_argument(name: bytes, value: bytes) -> None:
    rules = Validators(NAMESPACES)
    for key in (name, b"/pk/" + name, b"/signed/" + name, b"/app/" + name):
        try:
            rules.check(key, value)
        except InvalidArgument:
            continue
        assert not rules.better(key, value, value)
