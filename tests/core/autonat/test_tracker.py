"""Verdicts on addresses: who has to say what, how often it is asked, and what a liar can do."""

from sidecar.core.autonat import AddressSource, Question, Reachability, ReachabilityTracker, Server
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.parameters import AutonatConfig

ONE, OTHER = (Multiaddr.tcp(host, 4001) for host in ("192.0.2.1", "192.0.2.2"))
SERVERS = [Server(Identity(bytes([number]) * 32).peer_id, number) for number in range(1, 21)]


def tracker(*addresses: Multiaddr) -> ReachabilityTracker:
    made = ReachabilityTracker(AutonatConfig())
    made.update(dict.fromkeys(addresses or (ONE,), AddressSource.LISTENING), 0.0)
    return made


def ask(asker: ReachabilityTracker, now: float, *servers: Server) -> Question:
    question = asker.ask(servers or SERVERS, now)
    assert question is not None
    return question


def test_two_proofs_confirm_and_then_nobody_is_asked_for_an_hour() -> None:
    one = tracker()
    first, second = ask(one, 0.0), ask(one, 0.0)
    assert first.server != second.server
    assert first.addresses == second.addresses == (ONE,)
    assert one.ask(SERVERS, 0.0) is None, "two are under way, and two are enough"
    one.reached(first, 0, 1.0)
    assert one.verdict is Reachability.UNKNOWN
    one.reached(second, 0, 2.0)
    assert one.verdict is Reachability.CONFIRMED
    (view,) = one.views()
    assert view[1:] == (Reachability.CONFIRMED, AddressSource.LISTENING, 2.0, 2, 0)
    assert not one.wants(3600.0)
    assert one.wants(3602.0)


def test_three_networks_have_to_say_that_an_address_is_not_reachable() -> None:
    one = tracker()
    for now in range(3):
        assert one.verdict is Reachability.UNKNOWN
        one.failed(ask(one, now), 0, now)
    assert one.verdict is Reachability.UNREACHABLE
    assert not one.wants(3.0)
    assert one.wants(1000.0), "somebody may have opened the way"


def test_many_peers_of_one_network_have_one_word() -> None:
    one = tracker()
    same = [server._replace(network="all") for server in SERVERS]
    one.failed(ask(one, 0.0, *same), 0, 0.0)
    assert one.ask(same, 1.0) is None
    assert one.verdict is Reachability.UNKNOWN


def test_one_proof_undoes_what_liars_have_said() -> None:
    one = tracker()
    for now in range(2):
        one.failed(ask(one, now), 0, now)
    one.reached(ask(one, 2.0), 0, 2.0)
    one.failed(ask(one, 3.0), 0, 3.0)
    assert one.verdict is Reachability.UNKNOWN
    one.reached(ask(one, 4.0), 0, 4.0)
    assert one.verdict is Reachability.CONFIRMED
    (view,) = one.views()
    assert (view.proofs, view.failures) == (2, 0)


def test_an_address_that_is_reached_after_all_is_unknown_again() -> None:
    one = tracker()
    for now in range(3):
        one.failed(ask(one, now), 0, now)
    one.reached(ask(one, 1000.0), 0, 1000.0)
    assert one.verdict is Reachability.UNKNOWN
    one.reached(ask(one, 1001.0), 0, 1001.0)
    assert one.verdict is Reachability.CONFIRMED


def test_a_server_is_asked_again_after_a_while_and_one_that_refuses_much_later() -> None:
    one, server = tracker(), SERVERS[0]
    one.refused(ask(one, 0.0, server), 1.0)
    assert one.ask([server], 1800.0) is None
    two = tracker(OTHER)
    two.no_answer(ask(two, 0.0, server), 1.0, unfit=False)
    assert two.ask([server], 119.0) is None
    assert two.ask([server], 121.0) is not None


def test_an_address_that_nobody_wants_to_dial_is_left_alone_for_a_while() -> None:
    one = tracker()
    for now in range(5):
        one.refused(ask(one, now), now)
    assert one.ask(SERVERS, 6.0) is None
    assert one.ask(SERVERS, 700.0) is not None


def test_an_address_without_a_clear_verdict_is_asked_about_ten_times_in_ten_minutes() -> None:
    one = tracker()
    for now in range(10):
        one.no_answer(ask(one, now), now, unfit=False)
    assert one.ask(SERVERS, 20.0) is None
    assert one.ask(SERVERS, 620.0) is not None


def test_the_node_is_reachable_where_one_address_is() -> None:
    one = tracker(ONE, OTHER)
    for now in range(3):
        question = ask(one, now)
        assert question.addresses == (ONE, OTHER)
        one.failed(question, 0, now)
    assert one.verdict is Reachability.UNKNOWN
    for now in range(3, 5):
        question = ask(one, now)
        assert question.addresses == (OTHER,)
        one.reached(question, 0, now)
    assert one.verdict is Reachability.CONFIRMED
    assert one.addresses(Reachability.UNREACHABLE) == (ONE,)


def test_a_new_address_does_not_change_the_verdict_of_a_node_that_nobody_reaches() -> None:
    one = tracker()
    for now in range(3):
        one.failed(ask(one, now), 0, now)
    one.update({ONE: AddressSource.LISTENING, OTHER: AddressSource.OBSERVED}, 4.0)
    assert one.verdict is Reachability.UNREACHABLE
    one.update({OTHER: AddressSource.OBSERVED}, 5.0)
    assert one.verdict is Reachability.UNKNOWN
    one.update({}, 6.0)
    assert not one
    assert one.verdict is Reachability.UNKNOWN


def test_no_more_addresses_are_looked_at_than_the_bound_says() -> None:
    one = tracker(*(Multiaddr.tcp("192.0.2.1", port) for port in range(1, 100)))
    assert len(one.views()) == 16
    assert len(ask(one, 0.0).addresses) == 10


def test_old_results_count_no_more() -> None:
    one = tracker()
    for now in range(2):
        one.reached(ask(one, now), 0, now)
    one.update({ONE: AddressSource.LISTENING}, 6 * 3600.0)
    assert one.verdict is Reachability.UNKNOWN
