"""Opening a file of ours: the steps from older versions, and files that are not ours to open."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from sidecar.core.errors import StorageError
from sidecar.core.parameters import DurableConfig
from sidecar.store import bans, peers
from sidecar.store.database import Newer, Schema, Unusable, connect
from sidecar.store.durable import DurableStore
from sidecar.store.durable import database as durable
from sidecar.store.history import database as history

from .disk_below import why_not
from .stopping_disk import Left, stopping

FIRST = Schema(1, ("CREATE TABLE words (word TEXT PRIMARY KEY)",), ("SELECT word FROM words",))
SECOND = Schema(
    2,
    ("CREATE TABLE words (word TEXT PRIMARY KEY, size INTEGER NOT NULL)",),
    ("SELECT word, size FROM words",),
    {1: ("ALTER TABLE words ADD COLUMN size INTEGER NOT NULL DEFAULT 0", "UPDATE words SET size = length(word)")},
)
THIRD = Schema(
    3,
    ("CREATE TABLE terms (term TEXT PRIMARY KEY, size INTEGER NOT NULL)",),
    ("SELECT term, size FROM terms",),
    {
        **SECOND.steps,
        2: (
            "CREATE TABLE terms (term TEXT PRIMARY KEY, size INTEGER NOT NULL)",
            "INSERT INTO terms SELECT word, size FROM words",
            "DROP TABLE words",
        ),
    },
)


def written(path: Path, words: int = 3) -> None:
    """A file of the first version."""
    connection = connect(path, FIRST, durable=True)
    with connection:
        connection.executemany("INSERT INTO words VALUES (?)", [("x" * number,) for number in range(words)])
    connection.close()


def version(path: Path) -> int:
    connection = sqlite3.connect(path)
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return found


@pytest.mark.parametrize("first", [1, 2, 3])
def test_a_file_of_any_older_version_becomes_one_of_ours(tmp_path: Path, first: int) -> None:
    path = tmp_path / "words.db"
    written(path)
    if first > 1:
        connect(path, (SECOND, THIRD)[first - 2]).close()
    assert version(path) == first
    connection = connect(path, THIRD)
    assert connection.execute("SELECT term, size FROM terms ORDER BY size").fetchall() == [("", 0), ("x", 1), ("xx", 2)]
    connection.close()
    assert version(path) == 3
    connect(path, THIRD).close()


def test_a_new_file_is_made_by_no_steps(tmp_path: Path) -> None:
    connection = connect(tmp_path / "words.db", THIRD)
    assert connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall() == [("terms",)]
    connection.close()


def test_a_newer_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "words.db"
    connect(path, THIRD).close()
    before = path.read_bytes()
    with pytest.raises(Newer, match="version 3, and this sidecar knows none above 2"):
        connect(path, SECOND)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "steps",
    [
        {},
        {1: ("ALTER TABLE words ADD COLUMN size INTEGER", "ALTER TABLE words ADD COLUMN size INTEGER")},
        {1: ("DROP TABLE words",)},  # what is there after it is not what is wanted
    ],
)
def test_a_step_that_is_missing_or_fails_leaves_the_file_as_it_was(
    tmp_path: Path, steps: dict[int, tuple[str, ...]]
) -> None:
    path = tmp_path / "words.db"
    written(path)
    with pytest.raises(Unusable):
        connect(path, SECOND._replace(steps=steps))
    assert version(path) == 1
    connection = connect(path, FIRST)
    assert connection.execute("SELECT count(*) FROM words").fetchone() == (3,)
    connection.close()


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can be had")
@pytest.mark.parametrize("left", tuple(Left), ids=lambda left: left.name.lower())
@pytest.mark.parametrize("words", [0, 500], ids=("made", "brought"))
def test_a_stop_at_each_write_leaves_the_old_file_or_the_new_one(tmp_path: Path, left: Left, words: int) -> None:
    """Where it is made, too."""
    folder = tmp_path / "play"
    at = 0
    while True:
        at += 1
        folder.mkdir()
        with stopping([folder]) as (disk,):
            if words:
                written(folder / "words.db", words)
            disk.left, disk.stop_at = left, disk.count + at
            try:
                connect(folder / "words.db", THIRD, durable=True).close()
            except sqlite3.Error:
                assert disk.stopped
            if not disk.stopped:
                break
            disk.go_on()
            connection = connect(folder / "words.db", THIRD, durable=True)
            assert connection.execute("SELECT count(*) FROM terms").fetchone() == (words,)
            connection.close()
        shutil.rmtree(folder)
    assert at > 10


@pytest.mark.parametrize(
    "schema",
    [bans.SCHEMA, peers.SCHEMA, durable.SCHEMA, history.SCHEMA],
    ids=("bans", "peers", "durable", "history"),
)
def test_every_version_that_ever_was_has_a_step(schema: Schema) -> None:
    assert sorted(schema.steps) == list(range(1, schema.version))


def test_durable_messages_of_a_later_version_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "durable.db"
    DurableStore(path, DurableConfig()).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"version 99.*Start the sidecar that wrote it"):
        DurableStore(path, DurableConfig())
    assert path.read_bytes() == before


@pytest.mark.parametrize("table", ["outgoing", "outbox", "outcomes", "protocols", "incoming", "inbox", "dead_letters"])
def test_durable_messages_with_other_tables_are_refused(tmp_path: Path, table: str) -> None:
    path = tmp_path / "durable.db"
    DurableStore(path, DurableConfig()).close()
    connection = sqlite3.connect(path)
    connection.execute(f"DROP TABLE {table}")
    connection.commit()
    connection.close()
    with pytest.raises(StorageError, match="is damaged"):
        DurableStore(path, DurableConfig())
