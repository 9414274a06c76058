"""A watcher of peers: the present ones in parts, then changes; what is lost makes the present be told anew."""

import pytest
from sidecar_client.v1 import peer_pb2

from sidecar.api.peers.watch import PeerWatcher
from sidecar.core.errors import Closed
from sidecar.core.events import PeerChange, PeerChanged
from tests.api.fakes import OTHER, peer_view

CHANGE = PeerChanged(PeerChange.UPDATED, peer_view(OTHER))


def told(watcher: PeerWatcher) -> tuple[int, int, int, int]:
    """Of the next response: peers present, whether these are all, changes, and how many events were lost."""
    response = watcher.take()
    kinds = [event.type for event in response.events]
    present, current = (kinds.count(kind) for kind in (peer_pb2.PEER_EVENT_TYPE_PRESENT, _CURRENT))
    return present, current, len(kinds) - present - current, response.lagged.missed


_CURRENT = peer_pb2.PEER_EVENT_TYPE_CURRENT


def test_the_present_in_parts_with_changes_behind() -> None:
    watcher = PeerWatcher(10, lambda: [peer_view()] * 300, 0)
    watcher.push(CHANGE)  # before the present was looked at, which has it then
    assert told(watcher) == (256, 0, 0, 0)
    watcher.push(CHANGE)
    assert told(watcher) == (44, 1, 0, 0)
    assert told(watcher) == (0, 0, 1, 0)
    assert not watcher.take()


def test_an_overflow_while_the_present_is_told_is_made_good_behind_it() -> None:
    watcher = PeerWatcher(2, lambda: [peer_view()] * 300, 0)
    assert told(watcher) == (256, 0, 0, 0)
    for _ in range(4):
        watcher.push(CHANGE)
    assert told(watcher) == (44, 1, 0, 0)
    assert told(watcher) == (256, 0, 0, 4)
    watcher.push(CHANGE)
    watcher.end(Closed("stopping"))
    assert [told(watcher) for _ in range(2)] == [(44, 1, 0, 0), (0, 0, 1, 0)]
    with pytest.raises(Closed):
        watcher.take()


def test_nobody_is_there() -> None:
    watcher = PeerWatcher(2, list, 0)
    assert told(watcher) == (0, 1, 0, 0)
    assert not watcher.take()
