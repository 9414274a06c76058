"""The peers kept in SQLite: what is merged, what is thrown out, and what a bad disk or file leads to."""

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sidecar.core.errors import StorageError
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.types import KnownEndpoint, PeerId
from sidecar.store.peers import MAX_AGE, MAX_ENDPOINTS, AddressRow, PeerRow, PeerStore

NOW = 1_800_000_000.0
DAY = 24 * 3600.0


def peer(number: int) -> PeerId:
    return Identity(number.to_bytes(32, "big")).peer_id


def at(port: int) -> Multiaddr:
    return Multiaddr.tcp("127.0.0.1", port)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "peers.db"


def test_survives_a_restart_and_merges_what_is_new(path: Path) -> None:
    store = PeerStore.open(path)
    assert store.notice is None
    seen = PeerRow(peer(1), (at(1), at(2)), NOW, NOW, 0, ("/ipfs/ping/1.0.0",), True)
    hearsay = PeerRow(peer(2), (at(3),), NOW - 5)
    store.save([seen, hearsay])
    store.save([PeerRow(peer(1), (at(9),), NOW + 1), PeerRow(peer(2), (at(4),), NOW - 4)])
    store.save([PeerRow(peer(1), (), NOW, failures=1), PeerRow(peer(1), (), NOW, failures=1)])
    store.close()
    store = PeerStore.open(path)
    kept = seen._replace(last_seen=NOW + 1, failures=2)  # hearsay did not replace its addresses
    assert store.load(10, NOW) == [kept, PeerRow(peer(2), (at(4),), NOW - 4)]
    store.save([PeerRow(peer(1), (at(7),), NOW + 2, NOW + 2, server=False)])
    assert store.load(1, NOW) == [
        seen._replace(addresses=(at(7),), last_seen=NOW + 2, last_success=NOW + 2, server=False)
    ]
    store.close()


def test_keeps_what_was_learned_of_places_and_no_more_of_them_than_fit(path: Path) -> None:
    store = PeerStore.open(path)
    assert store.load_endpoints() == []
    first, other = KnownEndpoint("192.0.2.1", 1, "", None, 3), KnownEndpoint("2001:db8::1", 2, "/ws", peer(7), 0)
    store.save_endpoints([first, other])
    store.save_endpoints([first._replace(holder=peer(8), failures=4)])  # the most recent now
    store.close()
    store = PeerStore.open(path)
    assert store.load_endpoints() == [other, first._replace(holder=peer(8), failures=4)]
    store.save_endpoints([KnownEndpoint("192.0.2.9", port, "", None, 1) for port in range(MAX_ENDPOINTS)])
    assert [endpoint.port for endpoint in store.load_endpoints()] == list(range(MAX_ENDPOINTS))
    store.close()


def test_counts_failures_of_peers_that_are_kept_until_one_is_reached(path: Path) -> None:
    store = PeerStore.open(path)
    store.save([PeerRow(peer(1), (at(1),), NOW, NOW), PeerRow(peer(2), (at(2),), NOW, NOW - 1)])
    store.failed([peer(1), peer(3)])
    assert [(row.peer, row.failures) for row in store.load(9, NOW)] == [(peer(2), 0), (peer(1), 1)]
    store.save([PeerRow(peer(1), (at(1),), NOW + 1, NOW + 1)])
    assert [(row.peer, row.failures) for row in store.load(9, NOW)] == [(peer(1), 0), (peer(2), 0)]
    store.close()


def test_a_store_of_an_earlier_version_learns_of_places(path: Path) -> None:
    store = PeerStore.open(path)
    store.save([PeerRow(peer(1), (at(1),), NOW, NOW)])
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE places")
        connection.commit()
    store = PeerStore.open(path)
    assert (store.notice, store.load_endpoints(), len(store)) == (None, [], 1)
    store.close()


def test_keeps_how_it_went_at_each_address_as_long_as_the_peer_is_kept(path: Path) -> None:
    store = PeerStore.open(path)
    rows = [AddressRow(at(1), "record", NOW, None), AddressRow(at(2), "dht", None, NOW - 1)]
    store.save([PeerRow(peer(1), (at(1),), NOW, NOW), PeerRow(peer(2), (at(1),), NOW - 1)])
    store.save_addresses({peer(1): rows, peer(2): rows, peer(3): rows})  # the last is not kept
    store.save_addresses({peer(2): rows[:1]})
    assert store.load_addresses() == {peer(1): rows, peer(2): rows[:1]}
    store.save_addresses({peer(1): [AddressRow(at(port), "dht", None, None) for port in range(100, 200)]})
    assert len(store.load_addresses()[peer(1)]) == 16
    store.close()
    store = PeerStore.open(path, max_peers=1)
    assert list(store.load_addresses()) == [peer(1)]
    store.close()


def test_a_store_of_an_earlier_version_learns_of_addresses(path: Path) -> None:
    store = PeerStore.open(path)
    store.save([PeerRow(peer(1), (at(1),), NOW, NOW)])
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE addresses")
        connection.commit()
    store = PeerStore.open(path)
    assert (store.notice, store.load_addresses(), len(store)) == (None, {}, 1)
    store.save_addresses({peer(1): [AddressRow(at(1), "dht", NOW, None)]})
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO addresses VALUES (x'00', '/ip4/1.2.3.4/tcp/1', 'dht', NULL, NULL)")
        connection.execute("INSERT INTO addresses VALUES (?, '/of/tomorrow', 'dht', NULL, NULL)", (bytes(peer(1)),))
        connection.commit()
    assert store.load_addresses() == {peer(1): [AddressRow(at(1), "dht", NOW, None)]}
    store.close()


def test_others_can_look_at_it_meanwhile(path: Path) -> None:
    store = PeerStore.open(path)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0)) as other:
        for number in (1, 2):
            store.save([PeerRow(peer(number), (at(number),), NOW)])
            assert other.execute("SELECT count(*) FROM peers").fetchone() == (number,)
    store.close()


def test_gives_the_most_promising_first(path: Path) -> None:
    rows = [
        PeerRow(peer(1), (at(1),), NOW),  # only heard of
        PeerRow(peer(2), (at(2),), NOW, NOW, failures=2),
        PeerRow(peer(3), (at(3),), NOW, NOW - DAY),
        PeerRow(peer(4), (at(4),), NOW, NOW - 1),
        PeerRow(peer(5), (), NOW, NOW),  # no address
    ]
    store = PeerStore.open(path)
    store.save(rows)
    assert [row.peer for row in store.load(10, NOW)] == [peer(4), peer(3), peer(2), peer(1)]
    assert [row.peer for row in store.load(2, NOW)] == [peer(4), peer(3)]
    store.close()


def test_is_bounded_in_number_and_age(path: Path) -> None:
    store = PeerStore.open(path, max_peers=10)
    store.save([PeerRow(peer(0), (at(1),), NOW, NOW - 1)])
    for number in range(1, 100):
        store.save([PeerRow(peer(number), (at(number),), NOW + number)])
        assert len(store) <= 11
    assert store.load(1, NOW)[0].peer == peer(0)  # many whom nobody has met do not drive out one that was met
    store.save([PeerRow(peer(100), (at(100),), NOW + MAX_AGE + 50)])
    assert {row.last_seen >= NOW + 50 for row in store.load(20, NOW + MAX_AGE + 50)} == {True}
    store.close()


def test_a_start_under_a_clock_that_is_ahead_forgets_nobody(path: Path) -> None:
    store = PeerStore.open(path)
    store.save([PeerRow(peer(1), (at(1),), NOW, NOW), PeerRow(peer(2), (at(2),), NOW - MAX_AGE - 1)])
    store.close()
    store = PeerStore.open(path)
    assert [row.peer for row in store.load(10, NOW + 40 * DAY)] == [peer(1)]
    store.close()
    store = PeerStore.open(path)
    assert [row.peer for row in store.load(10, NOW)] == [peer(1)]
    assert [row.peer for row in store.load(10, NOW - 40 * DAY)] == [peer(1), peer(2)]
    store.close()


def newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()


def other_columns(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE peers (other)")
    connection.execute("PRAGMA user_version = 1")
    connection.close()


def damaged(path: Path) -> None:
    store = PeerStore.open(path)
    store.save([PeerRow(peer(number), (at(number),), NOW) for number in range(500)])
    store.close()
    content = bytearray(path.read_bytes())
    content[4096 + 8 :] = b"\xa5" * (len(content) - 4096 - 8)
    path.write_bytes(content)


def no_database(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)


@pytest.mark.parametrize("spoil", [no_database, newer, other_columns, damaged])
def test_an_unusable_file_is_moved_aside_and_said(path: Path, spoil) -> None:
    spoil(path)
    content = path.read_bytes()
    store = PeerStore.open(path)
    assert store.notice is not None
    assert "begun anew" in store.notice
    store.save([PeerRow(peer(1), (at(1),), NOW)])
    assert len(store.load(10, NOW)) == 1
    store.close()
    aside = path.with_name("peers.db.newer" if spoil is newer else "peers.db.damaged")
    assert str(aside) in store.notice
    assert aside.read_bytes()[100:4096] == content[100:4096]  # SQLite touches the header


def test_a_row_that_cannot_be_read_is_left_out(path: Path) -> None:
    store = PeerStore.open(path)
    store.save([PeerRow(peer(1), (at(1),), NOW)])
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO peers VALUES (x'00', '/ip4/1.2.3.4/tcp/1', ?, NULL, 0, '', NULL)", (NOW,))
    connection.execute("INSERT INTO peers VALUES (?, '/nonsense', ?, NULL, 0, '', NULL)", (bytes(peer(2)), NOW))
    connection.commit()
    connection.close()
    store = PeerStore.open(path)
    assert [row.peer for row in store.load(10, NOW)] == [peer(1)]
    store.close()


def many(count: int) -> list[PeerRow]:
    return [PeerRow(peer(number), tuple(at(port) for port in range(1, 17)), NOW) for number in range(count)]


def test_a_full_database_is_an_error_and_keeps_what_it_had(path: Path) -> None:
    store = PeerStore.open(path)
    store.save(many(1))
    store._connection.execute("PRAGMA max_page_count = 4")
    with pytest.raises(StorageError, match=r"peers\.db cannot be written: .*full"):
        store.save(many(200))
    assert len(store) == 1
    store._connection.execute("PRAGMA max_page_count = 1000")
    store.save(many(200))
    assert len(store) == 200
    store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True, check=False
        ).returncode
    )
    if not mounted:
        pytest.skip("needs the right to mount a small tmpfs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_others_can_look_at_it_while_it_is_open(tmp_path: Path) -> None:
    """As people do with `sqlite3`, and as `sidecar demo` does."""
    store = PeerStore.open(tmp_path / "peers.db")
    store.save(many(3))
    with closing(sqlite3.connect(f"file:{tmp_path / 'peers.db'}?mode=ro", uri=True)) as other:
        assert other.execute("SELECT count(*) FROM peers").fetchone() == (3,)
    store.close()


def test_a_disk_that_is_full_or_read_only(small_disk: Path) -> None:
    path = small_disk / "peers.db"
    store = PeerStore.open(path)
    store.save(many(1))
    filler = small_disk / "filler"
    room = os.statvfs(small_disk)
    filler.write_bytes(bytes(room.f_bavail * room.f_frsize))
    with pytest.raises(StorageError, match="cannot be written"):
        store.save(many(300))
    assert len(store) == 1
    with pytest.raises(StorageError, match="cannot be opened"):
        PeerStore.open(small_disk / "other.db")
    store.close()
    store = PeerStore.open(path)  # without memory that others share, for which there is no room
    assert len(store) == 1
    filler.unlink()
    store.save(many(20))
    assert len(store) == 20
    store.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match=r"cannot be opened: .*(readonly|read-only|unable to open)"):
        PeerStore.open(path)
