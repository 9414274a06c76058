"""What is remembered of peers and of addresses over a restart, as the application has it written."""

from pathlib import Path

from sidecar.core.events import AddressesKnown, PeersLearned
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.peers import KnownAddress, Origin
from sidecar.core.types import KnownEndpoint
from sidecar.store.directory import StateDirectory
from sidecar.store.disk_thread import DiskThread
from sidecar.store.peer_memory import PeerMemory

from ..net.harness import one_loop

HERE, GONE, THERE = (Identity(bytes([number]) * 32).peer_id for number in (1, 2, 3))
ADDRESS = Multiaddr.from_text("/ip4/192.0.2.1/tcp/4001")
DAY = 24 * 3600.0


@one_loop
async def test_failures_are_kept_by_place_and_by_peer_whatever_the_clock_says(tmp_path: Path) -> None:
    with StateDirectory.open(tmp_path / "state") as state:
        memory = PeerMemory(state, 100, DiskThread(), wall=lambda: 1e9)
        memory.learned(PeersLearned(((GONE, (ADDRESS,)), (HERE, (ADDRESS,)), (THERE, (ADDRESS,))), good=True))
        await memory.flush()
        memory.tried(KnownEndpoint("192.0.2.1", 4001, "", None, 1), GONE)
        memory.tried(KnownEndpoint("192.0.2.1", 4001, "", HERE, 2), GONE)
        memory.tried(KnownEndpoint("192.0.2.2", 4001, "", None, 1), THERE)
        memory.learned(PeersLearned(((THERE, (ADDRESS,)),), good=True))  # then it was reached
        await memory.close()
        for clock in (1e9 - 400 * DAY, 1e9 + 400 * DAY):
            memory = PeerMemory(state, 100, DiskThread(), wall=lambda clock=clock: clock)
            assert memory.known()[-1][0] == GONE  # the least promising
            assert memory.endpoints() == [
                KnownEndpoint("192.0.2.1", 4001, "", HERE, 2),
                KnownEndpoint("192.0.2.2", 4001, "", None, 1),
            ]
            memory.tried(KnownEndpoint("192.0.2.1", 4001, "", HERE, 2), None)
            memory.tried(KnownEndpoint("192.0.2.2", 4001, "", None, 1), None)
            await memory.close()


@one_loop
async def test_anchors_come_first_whoever_connected_last(tmp_path: Path) -> None:
    with StateDirectory.open(tmp_path / "state") as state:
        memory = PeerMemory(state, 100, DiskThread(), wall=lambda: 1e9)
        memory.learned(PeersLearned(((THERE, (ADDRESS,)), (GONE, (ADDRESS,))), good=True))
        memory.anchored((GONE, THERE))
        memory.anchored((THERE, HERE))  # the choice of before counts no more
        await memory.close()
        memory = PeerMemory(state, 100, DiskThread(), wall=lambda: 1e9 + DAY)
        memory.learned(PeersLearned(((HERE, ()), (GONE, (ADDRESS,))), good=True))  # of one there is no address
        await memory.close()
        memory = PeerMemory(state, 100, DiskThread(), wall=lambda: 1e9 + DAY)
        assert [peer for peer, _ in memory.known()] == [THERE, GONE]
        await memory.close()


@one_loop
async def test_how_it_went_at_addresses_is_kept_in_the_clock_of_the_next_run(tmp_path: Path) -> None:
    other = Multiaddr.from_text("/ip4/192.0.2.2/tcp/4001")
    with StateDirectory.open(tmp_path / "state") as state:
        memory = PeerMemory(state, 100, DiskThread(), wall=lambda: 1e9, monotonic=lambda: 500.0)
        memory.learned(PeersLearned(((HERE, (ADDRESS,)),), good=True))
        known = (
            KnownAddress(ADDRESS, Origin.RECORD, 480.0, None),
            KnownAddress(other, Origin.BOOTSTRAP, 300.0, 499.0),
        )
        memory.addresses_known(AddressesKnown(HERE, known))
        memory.learned(PeersLearned(((THERE, (ADDRESS,)),), good=False))  # of which nothing more is known
        await memory.close()
        for clock, ago in ((1e9 + 100, 120.0), (1e9 - DAY, 0.0)):  # under one set back it was just now
            memory = PeerMemory(state, 100, DiskThread(), wall=lambda clock=clock: clock, monotonic=lambda: 7.0)
            found = dict(memory.known())
            assert found[THERE] == (KnownAddress(ADDRESS, Origin.MEMORY),)
            assert found[HERE][0] == KnownAddress(ADDRESS, Origin.RECORD, 7.0 - ago, None)
            assert (found[HERE][1].address, found[HERE][1].origin) == (other, Origin.BOOTSTRAP)
            await memory.close()


@one_loop
async def test_without_a_memory_nothing_is_kept(tmp_path: Path) -> None:
    with StateDirectory.open(tmp_path / "state") as state:
        memory = PeerMemory(state, 0, DiskThread())
        memory.tried(KnownEndpoint("192.0.2.1", 4001, "", None, 1), GONE)
        assert memory.endpoints() == []
        await memory.close()
