"""Rules by topic: what each limit lets through, what is remembered of senders and for how long, and what is counted."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from gossip_network import UNSCORED, GossipNetwork, peer_id, rpc, signed

from sidecar.core.errors import AlreadyExists, InvalidArgument, ResourceExhausted
from sidecar.core.gossip import Candidates, RpcsReceived, RulesSet, TopicJoined, Verdict
from sidecar.core.gossip.rules import RateMemory, RuleBook, SeqnoMemory
from sidecar.core.parameters import Limit, OnBreak, SenderRate, SeqnoDistance, TopicRule
from sidecar.core.parameters.rules import MAX_BACK, MAX_COUNTED_TOPICS, MAX_RULES

A, B, SOURCE = peer_id(1), peer_id(2), peer_id(3)
YES, NO, BAD = Verdict.ACCEPT, Verdict.IGNORE, Verdict.REJECT


def judged(
    book: RuleBook, *messages: tuple[bytes, object, int | None], topic: str = "news", now: float = 0.0
) -> list[Verdict]:
    """The verdicts on (data, sender, seqno); a topic's messages have all a sender or none."""
    rules = book.of(topic)
    assert rules is not None
    datas = [data for data, _, _ in messages]
    senders = None if messages[0][1] is None else [peer for _, peer, _ in messages]
    seqnos = None if messages[0][2] is None else [seqno for _, _, seqno in messages]
    verdicts = rules.judge(Candidates(topic, datas, senders, seqnos, SOURCE), now)  # type: ignore[arg-type]
    return [YES] * len(messages) if verdicts is None else list(verdicts)


def numbers(book: RuleBook, seqnos: Sequence[int], sender: object = A, now: float = 0.0) -> list[int]:
    """Those of the sequence numbers that pass."""
    verdicts = judged(book, *((b"", sender, seqno) for seqno in seqnos), now=now)
    return [seqno for seqno, verdict in zip(seqnos, verdicts, strict=True) if verdict is YES]


def test_a_topic_without_a_rule_is_judged_by_none() -> None:
    book = RuleBook([TopicRule("a", ("news.*", "x"), max_payload=1)])
    assert book.of("news") is None
    assert book.of("news.") is not None
    assert book.of("x") is not None


def test_the_first_rule_that_is_broken_decides_and_all_that_fit_are_looked_at() -> None:
    book = RuleBook(
        [
            TopicRule("mild", ("*",), max_payload=3),
            TopicRule("strict", ("news",), max_payload=2, on_break=OnBreak.REJECT),
        ]
    )
    assert judged(book, (b"12", A, 1), (b"123", A, 2), (b"1234", A, 3)) == [YES, BAD, NO]
    assert judged(book, (b"123", A, 2), topic="other") == [YES]
    assert book.broken() == {"mild": 1, "strict": 1}


def test_senders_are_denied_or_not_allowed() -> None:
    book = RuleBook([TopicRule("a", ("*",), allow=frozenset([A, B]), deny=frozenset([B]))])
    assert judged(book, (b"", A, 1), (b"", B, 1), (b"", SOURCE, 1)) == [YES, NO, NO]
    assert judged(book, (b"", None, None)) == [NO]  # nobody can tell that it is of one of those
    assert judged(RuleBook([TopicRule("a", ("*",), deny=frozenset([B]))]), (b"", None, None)) == [YES]


def test_a_signature_is_required() -> None:
    book = RuleBook([TopicRule("a", ("*",), require_signature=True)])
    assert judged(book, (b"", None, None)) == [NO]
    assert judged(book, (b"", A, 1)) == [YES]
    assert judged(book, (b"", A, None)) == [YES]  # of this node's apps, and not signed yet
    assert book.views()[0].broken == {("news", Limit.SIGNATURE): 1}


# ---------------------------------------------------------------- rates


def test_each_sender_has_a_token_bucket_of_its_own() -> None:
    book = RuleBook([TopicRule("a", ("*",), rate=SenderRate(2.0, 3.0))])
    assert judged(book, *[(b"", A, n) for n in range(5)]) == [YES, YES, YES, NO, NO]
    assert judged(book, (b"", B, 1)) == [YES]
    assert judged(book, (b"", A, 9), topic="other") == [YES]
    assert judged(book, (b"", A, 9), (b"", A, 10), now=0.5) == [YES, NO]
    assert judged(book, *[(b"", A, n) for n in range(20, 25)], now=100.0) == [YES, YES, YES, NO, NO]


def test_rates_are_measured_of_a_bounded_number_of_senders_and_the_least_recent_one_goes() -> None:
    memory = RateMemory(SenderRate(0.001, 1.0), 2)
    assert not memory.broken("t", A, 0.0)
    assert not memory.broken("t", B, 0.0)
    assert memory.broken("t", A, 0.0)  # and is the most recent one now
    assert not memory.broken("t", SOURCE, 0.0)
    assert len(memory) == 2
    assert memory.broken("t", A, 0.0)
    assert not memory.broken("t", B, 0.0)  # begins anew


# ---------------------------------------------------------------- replays


def test_a_number_passes_once_within_reach_and_never_beyond() -> None:
    book = RuleBook([TopicRule("a", ("*",), seqno=SeqnoDistance(-3))])
    assert numbers(book, [100, 101, 101, 100]) == [100, 101]
    assert numbers(book, [105, 102, 103, 102, 101, 105]) == [105, 102, 103]
    assert numbers(book, [104, 104]) == [104]
    assert numbers(book, [10**18, 105, 10**18]) == [10**18]
    assert numbers(book, [10**18 - 3, 10**18 - 4]) == [10**18 - 3]
    assert numbers(book, [100, 101], sender=B) == [100, 101]


def test_a_least_distance_above_0_takes_only_what_is_ahead() -> None:
    book = RuleBook([TopicRule("a", ("*",), seqno=SeqnoDistance(1))])
    assert numbers(book, [5, 5, 4, 6, 8, 7]) == [5, 6, 8]


def test_a_largest_distance_refuses_leaps_and_is_not_moved_by_them() -> None:
    book = RuleBook([TopicRule("a", ("*",), seqno=SeqnoDistance(-3, 10))])
    assert numbers(book, [5, 16, 15, 2**64 - 1, 25]) == [5, 15, 25]


@pytest.mark.parametrize("back", [0, 1, 63, 64, MAX_BACK])
def test_every_number_that_comes_in_any_order_passes_exactly_once(back: int) -> None:
    memory = SeqnoMemory(SeqnoDistance(-back), 10)
    order = [number ^ 1 for number in range(1000, 1100)] if back else list(range(1000, 1100))
    assert all(memory.broken("t", A, number, 0.0) is None for number in order)
    assert all(memory.broken("t", A, number, 0.0) is Limit.SEQNO for number in order)


def test_made_up_senders_make_nobody_forgotten_before_its_time() -> None:
    memory = SeqnoMemory(SeqnoDistance(-10, remember=60.0), 2)
    assert memory.broken("t", A, 5, 0.0) is None
    assert memory.broken("t", B, 5, 10.0) is None
    flood = [peer_id(number) for number in range(10, 60)]
    assert {memory.broken("t", peer, 1, 59.0) for peer in flood} == {Limit.MEMORY}
    assert memory.broken("t", A, 5, 59.0) is Limit.SEQNO  # a replay
    assert memory.broken("t", B, 6, 59.0) is None
    assert memory.broken("t", SOURCE, 1, 60.0) is None  # in the place of A, which was silent for so long
    assert len(memory) == 2
    assert memory.broken("t", B, 5, 60.0) is Limit.SEQNO


def test_a_flood_on_one_rules_topics_takes_no_room_from_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.core.gossip.rules.MAX_SENDERS", 4)
    seqno = SeqnoDistance(-3)
    book = RuleBook([TopicRule("a", ("open",), seqno=seqno), TopicRule("b", ("closed",), seqno=seqno)])
    flood = [(b"", peer_id(number), 1) for number in range(10, 20)]
    assert judged(book, *flood, topic="open") == [YES] * 2 + [NO] * 8
    assert judged(book, (b"", A, 1), (b"", B, 1), topic="closed") == [YES, YES]
    assert book.views()[0].broken == {("open", Limit.MEMORY): 8}


@pytest.mark.parametrize("ruled", [True, False])
def test_replays_older_than_the_seen_cache_are_relayed_only_where_no_rule_remembers(ruled: bool) -> None:
    network = GossipNetwork(5, 1, replace(UNSCORED, seen_ttl=10.0))
    for number in range(4):
        network.input(number, TopicJoined("news"))
        if ruled:
            network.input(number, RulesSet([TopicRule("replays", ("news",), seqno=SeqnoDistance(-8))]))
    for one, other in ((0, 1), (1, 2), (2, 3), (0, 4)):  # a line, and who replays at its beginning
        network.connect(one, other)
    network.run(5)
    raws = [signed(9, "news", b"%d" % number, number) for number in range(20)]

    def send(*messages: bytes) -> None:
        network.input(0, RpcsReceived(network.ids[4], [rpc(publish=messages)]))
        network.run(1)

    send(*raws)
    assert [len(got) for got in network.delivered] == [20, 20, 20, 20, 0]
    network.run(25)  # seen_ttl and what it may last longer
    send(*raws)
    assert [len(got) for got in network.delivered] == ([20] * 4 if ruled else [40] * 4) + [0]
    send(signed(9, "news", b"20", 20))
    assert [got[-1].data for got in network.delivered[:4]] == [b"20"] * 4
    (view,) = network.routers[0].rules() if ruled else [None]
    assert view is None or view.broken == {("news", Limit.SEQNO): 20}


# ---------------------------------------------------------------- rules come and go


def test_a_rule_that_keeps_its_name_keeps_what_it_remembers_and_counted() -> None:
    book = RuleBook([TopicRule("a", ("*",), seqno=SeqnoDistance(-3), rate=SenderRate(0.001, 4.0))])
    assert numbers(book, [10, 11, 11]) == [10, 11]
    book.put([TopicRule("a", ("*",), seqno=SeqnoDistance(-100), rate=SenderRate(0.001, 4.0))], configured=True)
    assert numbers(book, [11, 5, 12, 13, 14]) == [12, 13]  # what had been out of reach counts as seen; then the rate
    assert book.views()[0].broken == {("news", Limit.SEQNO): 3, ("news", Limit.RATE): 1}
    book.put([TopicRule("b", ("*",), seqno=SeqnoDistance(-3))], configured=True)
    assert numbers(book, [11]) == [11]
    assert book.broken() == {"b": 0}


def test_rules_of_the_file_and_those_of_run_time_are_replaced_apart() -> None:
    file, call = TopicRule("file", ("*",), max_payload=10), TopicRule("call", ("*",), max_payload=5)
    book = RuleBook([file])
    book.put([call], configured=False)
    assert [(view.rule, view.configured) for view in book.views()] == [(file, True), (call, False)]
    assert judged(book, (b"123456", A, 1)) == [NO]
    with pytest.raises(AlreadyExists, match="'file' is in the file"):
        book.put([TopicRule("file", ("*",), max_payload=1)], configured=False)
    with pytest.raises(AlreadyExists, match="'call' is set at run time"):
        book.put([TopicRule("call", ("*",), max_payload=1)], configured=True)
    with pytest.raises(AlreadyExists, match="two rules"):
        book.put([call, call], configured=False)
    assert book.broken() == {"file": 0, "call": 1}
    book.put([], configured=False)
    assert judged(book, (b"123456", A, 1)) == [YES]


def test_the_number_of_rules_and_of_counted_topics_is_bounded() -> None:
    book = RuleBook([TopicRule("a", ("*",), max_payload=0)])
    with pytest.raises(ResourceExhausted, match=f"at most {MAX_RULES}"):
        book.put([TopicRule(f"{n}", ("*",), max_payload=1) for n in range(MAX_RULES)], configured=False)
    for number in range(MAX_COUNTED_TOPICS + 5):
        judged(book, (b"1", A, 1), topic=f"topic {number}")
    (view,) = book.views()
    assert view.broken["", Limit.SIZE] == 5
    assert len(view.broken) == MAX_COUNTED_TOPICS + 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"topics": ()}, "no topics"),
        ({}, "limits nothing"),
        ({"rate": SenderRate(0.0, 1.0)}, "must be above 0"),
        ({"rate": SenderRate(1.0, 0.5)}, "at least 1"),
        ({"seqno": SeqnoDistance(-MAX_BACK - 1)}, f"at least {-MAX_BACK}"),
        ({"seqno": SeqnoDistance(-1, 0)}, "at least 1"),
        ({"seqno": SeqnoDistance(5, 4)}, "no less than the first"),
    ],
)
def test_a_rule_that_makes_no_sense_is_none(values: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        TopicRule("a", **{"topics": ("*",), **values})  # type: ignore[arg-type]
