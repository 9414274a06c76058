"""Bans and protected peers survive a restart; a file that cannot be read is said, not begun anew."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.core.errors import StorageError
from sidecar.core.gate import Ban, Gate
from sidecar.core.identity import Identity
from sidecar.core.networks import Network
from sidecar.store.bans import BanStore
from sidecar.store.directory import BANS_FILE, StateDirectory

NOW = 1_700_000_000.0
A, B = (Identity(bytes([number]) * 32).peer_id for number in (1, 2))
NETWORK = Network.from_text("2001:db8::/32")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / BANS_FILE


def test_bans_and_protected_peers_come_back(tmp_path: Path) -> None:
    bans = [Ban(A, 'spam, "quoted"\nand more', NOW, NOW + 60), Ban(NETWORK, "", NOW, None)]
    with StateDirectory.open(tmp_path / "state") as state:
        store = state.open_bans(NOW)
        store.add([Ban(A, "an earlier reason", NOW - 5, None), Ban(B, "lifted", NOW, None)])
        store.add(bans)
        store.remove([B])
        store.protect(A, True)
        store.protect(B, True)
        store.protect(A, True)
        store.protect(A, False)
        store.close()
        store = state.open_bans(NOW + 1)
        kept, protected = store.load()
        assert sorted(kept, key=str) == sorted(bans, key=str)
        assert protected == [B]
        store.close()


def test_a_start_under_a_clock_that_is_ahead_costs_no_ban(path: Path) -> None:
    day = 86_400.0
    week, hour = Ban(A, "", NOW, NOW + 7 * day), Ban(B, "", NOW, NOW + 3600)
    store = BanStore.open(path, NOW)
    store.add([week, hour])
    store.close()
    store = BanStore.open(path, NOW + 40 * day)
    store.forget(NOW + 40 * day)
    gate = Gate(bans=store.load()[0], wall=NOW + 40 * day)
    assert not gate.size
    store.close()
    store = BanStore.open(path, NOW + 2 * day)
    gate = Gate(bans=store.load()[0], wall=NOW + 2 * day)
    assert gate.refuses_peer(A)
    assert not gate.refuses_peer(B)
    store.close()


def test_bans_that_have_ended_are_kept_within_a_bound(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.store.bans.MAX_ENDED", 1)
    store = BanStore.open(path, NOW)
    store.add([Ban(A, "", NOW, NOW + 60), Ban(B, "", NOW, NOW + 61), Ban(NETWORK, "", NOW, None)])
    store.forget(NOW + 61)
    assert {ban.subject for ban in store.load()[0]} == {B, NETWORK}
    store.close()


def garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)


def newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()


def other_columns(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bans (other)")
    connection.execute("PRAGMA user_version = 1")
    connection.close()


def cut_short(path: Path) -> None:
    store = BanStore.open(path, NOW)
    store.add([Ban(Network(4, number, 32), "x" * 100, NOW, None) for number in range(1000)])
    store.close()
    os.truncate(path, path.stat().st_size // 2)


def strange_row(path: Path) -> None:
    store = BanStore.open(path, NOW)
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO bans VALUES ('10.0.0.1/8', '', 0, NULL)")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("spoil", [garbage, newer, other_columns, cut_short, strange_row])
def test_a_file_that_cannot_be_read_is_an_error_and_stays(path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(path)
    before = path.read_bytes()

    def use() -> None:
        store = BanStore.open(path, NOW)
        try:
            store.load()
        finally:
            store.close()

    with pytest.raises(
        StorageError, match=r"bans\.db cannot be read: .*; (put back a copy of|start the sidecar that wrote).*, or move"
    ):
        use()
    assert path.read_bytes()[100:] == before[100:]  # SQLite touches the header


def test_a_full_disk_is_an_error_and_nothing_is_lost(path: Path) -> None:
    store = BanStore.open(path, NOW)
    store.add([Ban(A, "", NOW, None)])
    store._connection.execute("PRAGMA max_page_count = 3")
    many = [Ban(Network(4, number, 32), "x" * 100, NOW, None) for number in range(1000)]
    with pytest.raises(StorageError, match=r"bans\.db cannot be written: .*full"):
        store.add(many)
    assert [ban.subject for ban in store.load()[0]] == [A]
    store._connection.execute("PRAGMA max_page_count = 1000")
    store.add(many)
    assert len(store.load()[0]) == 1001
    store.close()
    with pytest.raises(StorageError, match="cannot be written"):
        store.remove([A])
