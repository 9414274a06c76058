"""Links of direct messages whose connection has become surplus: both sides had dialled, or one has dialled again."""

import pytest

from sidecar.core import direct, events
from sidecar.core.errors import Closed
from sidecar.core.node import NodeConfig
from sidecar.sim import SimPeer, Simulation

CONFIG = NodeConfig(target_peers=0)
ASK = "/ask/1"


def connected() -> tuple[Simulation, SimPeer, SimPeer]:
    """Two connected peers, of which the second receives and serves `/ask/1`."""
    simulation = Simulation(1)
    one, other = simulation.add(CONFIG), simulation.add(CONFIG)
    other.feed(direct.ProtocolsChanged((ASK,), (ASK,)))
    one.ask(lambda op: events.ConnectRequested(op, other.identity.peer_id, (other.address,)))
    simulation.run(1)
    return simulation, one, other


def ask(simulation: Simulation, one: SimPeer, other: SimPeer, data: bytes) -> tuple[int, int]:
    """The numbers of a request at both sides."""
    op = one.ask(lambda op: direct.RequestMade(op, other.identity.peer_id, ASK, data, None))
    simulation.run(1)
    (token,) = (each.token for each in other.news if isinstance(each, direct.RequestArrived) and each.data == data)
    return op, token


def answer(one: SimPeer, op: int) -> object:
    """What a request came to; None while there is nothing."""
    found = [each.answer for each in one.news if isinstance(each, direct.RequestCompleted) and each.op == op]
    return found[0] if found else None


def test_a_request_under_way_is_answered_on_a_surplus_connection_and_what_is_new_goes_by_the_other() -> None:
    simulation, one, other = connected()
    slow, slow_token = ask(simulation, one, other, b"slow")
    simulation.connect(one, other, 999)
    simulation.run(2)
    quick, quick_token = ask(simulation, one, other, b"quick")
    assert one.node.statistics().direct.links == 2
    simulation.run(3 * CONFIG.settle_timeout)
    assert len(one.links) == 2, "the older one is needed"
    other.feed(direct.RequestAnswered(quick_token, b"at once"))
    other.feed(direct.RequestAnswered(slow_token, b"at last"))
    simulation.run(1)
    assert (answer(one, quick), answer(one, slow)) == (b"at once", b"at last")
    simulation.run(2 * CONFIG.settle_timeout)
    assert len(one.links) == len(other.links) == 1
    assert one.node.statistics().direct.links == 1


def test_a_message_under_way_gets_its_receipt_on_a_surplus_connection() -> None:
    simulation, one, other = connected()
    op = one.ask(lambda op: direct.SendRequested(op, other.identity.peer_id, ASK, (b"hello",)))
    simulation.run(1)
    (arrived,) = (each for each in other.news if isinstance(each, direct.MessagesReceived))
    simulation.connect(one, other, 999)
    simulation.run(1.5 * CONFIG.settle_timeout)
    other.feed(direct.MessagesHandled(arrived.link, arrived.first, 1, direct.SendOutcome.DELIVERED))
    simulation.run(1)
    (sent,) = (each for each in one.news if isinstance(each, direct.SendCompleted) and each.op == op)
    assert sent.outcomes == (direct.OutcomeRange(0, 1, direct.SendOutcome.DELIVERED),)


def test_a_request_on_a_surplus_connection_can_be_cancelled() -> None:
    simulation, one, other = connected()
    op, token = ask(simulation, one, other, b"slow")
    simulation.connect(one, other, 999)
    simulation.run(2)
    one.feed(direct.RequestCancelled(op))
    simulation.run(1)
    assert isinstance(answer(one, op), Closed)
    assert direct.RequestWithdrawn(token) in other.news
    simulation.run(2 * CONFIG.settle_timeout)
    assert len(one.links) == 1


@pytest.mark.parametrize("again", [False, True])
def test_a_surplus_connection_that_breaks_ends_its_requests_only(again: bool) -> None:
    simulation, one, other = connected()
    slow, _ = ask(simulation, one, other, b"slow")
    surplus = next(iter(one.links))
    simulation.connect(one, other, 999)
    simulation.run(2)
    if again:
        quick, token = ask(simulation, one, other, b"quick")
    one.links[surplus].close(None)
    simulation.run(1)
    assert isinstance(answer(one, slow), Closed)
    if again:
        other.feed(direct.RequestAnswered(token, b"fine"))
        simulation.run(1)
        assert answer(one, quick) == b"fine"
