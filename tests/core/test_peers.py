"""The address book: how near the names may lead that others tell."""

import pytest

from sidecar.core.multiaddr import Multiaddr
from sidecar.core.networks import Scope
from sidecar.core.peers import AddressBook, KnownAddress, Origin
from sidecar.core.types import PeerId

PEER, TELLER = PeerId(b"\x00\x02\x01\x00"), PeerId(b"\x00\x02\x02\x00")
NAME = Multiaddr.from_text("/dns4/peer.example/tcp/4747")
NUMBER = Multiaddr.from_text("/ip4/192.0.2.1/tcp/4747")


def book() -> AddressBook:
    return AddressBook(8, 2)


def told(kept: AddressBook) -> dict[Multiaddr, Scope]:
    entry = kept.get(PEER)
    assert entry is not None
    return entry.told


def test_only_names_are_noted_and_only_those_that_others_tell() -> None:
    kept = book()
    kept.learn(PEER, (NAME, NUMBER), reach=Scope.PUBLIC, teller=TELLER)
    assert told(kept) == {NAME: Scope.PUBLIC}
    kept = book()
    kept.learn(PEER, (NAME, NUMBER), origin=Origin.BOOTSTRAP)
    assert told(kept) == {}


@pytest.mark.parametrize("first", [Scope.PUBLIC, Scope.PRIVATE])
def test_of_several_that_tell_a_name_the_nearest_counts(first: Scope) -> None:
    kept = book()
    kept.learn(PEER, (NAME,), reach=first)
    kept.learn(PEER, (NAME,), reach=Scope.PUBLIC)
    assert told(kept) == {NAME: first}
    kept.learn(PEER, (NAME,), reach=Scope.PRIVATE)
    assert told(kept) == {NAME: Scope.PRIVATE}


def test_what_is_configured_or_asked_for_by_an_app_is_believed_whoever_tells_it_too() -> None:
    kept = book()
    kept.learn(PEER, (NAME,), reach=Scope.PUBLIC)
    kept.learn(PEER, (NAME,))
    assert told(kept) == {}
    kept.learn(PEER, (NAME,), reach=Scope.PUBLIC)
    kept.learn(PEER, (NAME, NUMBER), reach=Scope.PUBLIC, replace=True)
    assert told(kept) == {}


def test_what_is_noted_goes_with_the_address() -> None:
    kept = book()
    kept.learn(PEER, (NAME,), reach=Scope.PUBLIC)
    kept.learn(PEER, (NUMBER,), replace=True)
    assert told(kept) == {}


OTHER = Multiaddr.from_text("/ip4/192.0.2.2/tcp/4747")
RELAYED = Multiaddr.from_text(f"/ip4/192.0.2.9/tcp/4747/p2p/{TELLER}/p2p-circuit")


def known(kept: AddressBook) -> list[tuple[Multiaddr, Origin, float | None, float | None]]:
    entry = kept.get(PEER)
    assert entry is not None
    return [tuple(note) for note in entry.known()]


def test_what_worked_last_is_tried_first_and_what_never_did_last_before_relays() -> None:
    kept = AddressBook(8, 8)
    addresses = [Multiaddr.tcp("192.0.2.1", port) for port in range(1, 6)]
    kept.learn(PEER, [RELAYED, *addresses], origin=Origin.DHT, teller=TELLER)
    never, new, once, early, late = addresses
    for address, now in ((early, 1.0), (once, 2.0), (late, 3.0)):
        kept.connected(PEER, address, now)
    kept.tried(PEER, (never, once), 4.0)
    assert [address for address, *_ in known(kept)] == [late, early, new, once, never, RELAYED]
    assert {address: times for address, _, *times in known(kept)}[once] == [2.0, 4.0]


def test_an_address_has_the_origin_that_knows_best_and_what_the_peer_tells_takes_the_place_of_hearsay() -> None:
    kept = AddressBook(8, 4)
    kept.learn(PEER, (NUMBER, OTHER), origin=Origin.DHT, teller=TELLER)
    kept.learn(PEER, (NUMBER,), origin=Origin.RECORD, replace=True)
    kept.learn(PEER, (NUMBER,), origin=Origin.EXCHANGE, teller=TELLER)
    assert known(kept) == [(NUMBER, Origin.RECORD, None, None)]
    entry = kept.get(PEER)
    assert entry is not None
    assert entry.origin is Origin.DHT


def test_the_configuration_s_address_stays_whatever_the_peer_tells_and_is_told_nobody() -> None:
    kept = AddressBook(8, 4)
    kept.learn(PEER, (NAME,), origin=Origin.BOOTSTRAP)
    kept.learn(PEER, (OTHER,), origin=Origin.APP)
    kept.learn(PEER, (NUMBER,), origin=Origin.RECORD, replace=True)
    assert kept.addresses(PEER) == (NUMBER,)
    assert [address for address, *_ in known(kept)] == [NUMBER, NAME]  # what an app gave, and nobody saw work, is gone
    kept.learn(PEER, (OTHER,), origin=Origin.APP)
    kept.connected(PEER, OTHER, 1.0)
    kept.learn(PEER, (NUMBER,), origin=Origin.RECORD, replace=True)
    assert [address for address, *_ in known(kept)] == [OTHER, NUMBER, NAME]
    for port in range(100):
        kept.learn(PEER, (Multiaddr.tcp("192.0.2.3", port + 1),), origin=Origin.APP)
        kept.connected(PEER, Multiaddr.tcp("192.0.2.3", port + 1), 2.0)
    entry = kept.get(PEER)
    assert entry is not None
    assert len(entry.given) == 4
    assert NAME in entry.given
    assert len(entry.notes) <= 8


def test_an_earlier_run_is_remembered_with_who_told_and_how_it_went() -> None:
    kept = book()
    kept.learn(PEER, (NUMBER,), origin=Origin.BOOTSTRAP)
    kept.remember(
        PEER,
        (
            KnownAddress(OTHER, Origin.BOOTSTRAP, None, -2.0),  # of that run's configuration
            KnownAddress(NUMBER, Origin.RECORD, -3.0, None),
        ),
        Scope.PUBLIC,
    )
    assert known(kept) == [(NUMBER, Origin.BOOTSTRAP, -3.0, None), (OTHER, Origin.MEMORY, None, -2.0)]


def test_what_the_local_network_claims_of_a_peer_takes_the_place_of_earlier_claims_alone() -> None:
    kept = AddressBook(8, 8)
    kept.learn(PEER, (NUMBER, OTHER), origin=Origin.RECORD)
    kept.connected(PEER, NUMBER, 1.0)
    for port in range(1000):  # anybody on the link can say it
        forged = [Multiaddr.tcp(f"192.168.1.{host}", port + 1) for host in range(20)]
        kept.learn(PEER, forged, origin=Origin.LOCAL, reach=Scope.LINK)
    assert kept.addresses(PEER)[:2] == (NUMBER, OTHER)
    assert len(kept.addresses(PEER)) == 6
    assert next(iter(known(kept)))[0] == NUMBER
    entry = kept.get(PEER)
    assert entry is not None
    assert len(entry.notes) <= 8
