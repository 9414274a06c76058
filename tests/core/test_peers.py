"""The address book: how near the names may lead that others tell."""

import pytest

from sidecar.core.multiaddr import Multiaddr
from sidecar.core.networks import Scope
from sidecar.core.peers import AddressBook, Origin
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
