"""Which addresses of an answer are believed."""

from sidecar.core.kademlia.hearsay import sift, told_by_itself
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.networks import Scope
from sidecar.core.types import PeerId


def peer(number: int) -> PeerId:
    return PeerId(b"\x12\x20" + number.to_bytes(32, "big"))


def at(host: str, rest: str = "/tcp/4747") -> Multiaddr:
    return Multiaddr.from_text(f"/ip4/{host}{rest}")


def test_nobody_tells_of_addresses_that_he_cannot_reach() -> None:
    everywhere = (at("127.0.0.1"), at("169.254.1.1"), at("10.0.0.1"), at("203.0.113.1"))
    name = Multiaddr.from_text("/dns4/example.org/tcp/1")
    relayed = at("10.0.0.1", f"/tcp/1/p2p/{peer(9)}/p2p-circuit")
    for teller, believed in (
        (Scope.LOOPBACK, everywhere),
        (Scope.LINK, everywhere[1:]),
        (Scope.PRIVATE, everywhere[2:]),
        (Scope.PUBLIC, everywhere[3:]),
    ):
        found = sift([(peer(1), (*everywhere, name))], teller)
        assert found == ([(peer(1), (*believed, name))], 4 - len(believed))
        assert told_by_itself(peer(1), everywhere, teller) == (peer(1), believed)
    assert sift([(peer(1), (relayed,))], Scope.PUBLIC).refused == 1  # the relay would be dialled


def test_where_a_peer_is_tells_what_it_can_know() -> None:
    assert Scope.of_teller(at("10.0.0.1")) is Scope.PRIVATE
    assert Scope.of_teller(at("203.0.113.1")) is Scope.PUBLIC
    assert Scope.of_teller(at("127.0.0.1", f"/tcp/1/p2p/{peer(9)}/p2p-circuit")) is Scope.PUBLIC


def test_one_endpoint_is_not_that_of_many_peers() -> None:
    victim = at("203.0.113.1")
    named = [(peer(number), (victim,)) for number in range(20)]
    found = sift(named, Scope.PUBLIC)
    assert [bool(addresses) for _, addresses in found.peers] == [True] * 3 + [False] * 17
    assert found.refused == 17
    disguised = [(peer(1), tuple(at("203.0.113.1", rest) for rest in ("/tcp/1", "/tcp/1/ws", "/tcp/1/tls/ws")))]
    assert sift(disguised * 2, Scope.PUBLIC).refused == 3
    own = [(peer(number), (at("203.0.113.1", f"/tcp/{1 + number}"),)) for number in range(20)]
    assert sift(own, Scope.PUBLIC) == (own, 0)  # behind one NAT
