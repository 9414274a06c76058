"""The state directory: its lock, and the identity key that is made once and never again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.core.errors import IdentityError, StateLocked, StorageError
from sidecar.core.identity import Identity
from sidecar.store import files
from sidecar.store.directory import StateDirectory
from sidecar.store.files import read_private, replace_private
from sidecar.store.identity_key import load_or_create_identity

HOLDER = """
import sys, pathlib
from sidecar.store.directory import StateDirectory
held = StateDirectory.open(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_is_made_private_and_keeps_the_identity(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state"
    with StateDirectory.open(path) as directory:
        made = directory.identity()
    with StateDirectory.open(path) as directory:
        assert directory.identity().peer_id == made.peer_id
    assert path.stat().st_mode & 0o777 == 0o700
    assert (path / "identity.key").stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(path)) == ["identity.key", "lock"]  # no drafts left


def test_only_drafts_of_dead_processes_are_swept(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stale = [f".identity.key.{number}.0123abcd" for number in (gone.pid, os.getpid())]
    kept = [
        f".identity.key.{os.getppid()}.0123abcd",  # it lives
        f".identity.key.{gone.pid}.0123abcd.old",
        f".identity.key.{gone.pid}.copy",
        f".other.key.{gone.pid}.0123abcd",
        "identity.key",
    ]
    for name in stale + kept:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / f".identity.key.{gone.pid}.00000000").mkdir()
    with StateDirectory.open(tmp_path):
        assert set(os.listdir(tmp_path)) == {*kept, f".identity.key.{gone.pid}.00000000", "lock"}


def test_one_holder_at_a_time_named_and_freed_by_its_death(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StateLocked, match=f"{tmp_path} is in use by process {holder.pid}$"):
            StateDirectory.open(tmp_path)
        holder.kill()
    with StateDirectory.open(tmp_path), pytest.raises(StateLocked, match=f"process {os.getpid()}"):
        StateDirectory.open(tmp_path)
    StateDirectory.open(tmp_path).close()


@pytest.mark.parametrize("make", [lambda path: path.write_text("a file"), lambda path: path.symlink_to("nowhere")])
def test_says_when_the_path_cannot_be_a_directory(tmp_path: Path, make) -> None:
    make(tmp_path / "state")
    with pytest.raises(StorageError, match=r"state cannot be the state directory: .+"):
        StateDirectory.open(tmp_path / "state")


def test_an_existing_key_is_read_and_never_written(tmp_path: Path) -> None:
    path = tmp_path / "given.key"
    path.write_bytes(Identity(bytes(range(32))).to_bytes())
    path.chmod(0o400)
    assert load_or_create_identity(path).peer_id == Identity(bytes(range(32))).peer_id


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (b"", 0o600, "unusable: .+ move it away to start with a new peer id"),
        (b"garbage" * 10, 0o600, "unusable"),
        (Identity(bytes(32)).to_bytes()[:-1], 0o600, "unusable"),
        (bytes(2000), 0o600, "more than 1024 bytes"),
        (Identity(bytes(32)).to_bytes(), 0o644, r"open to others \(mode 0644\); run: chmod 600"),
        (Identity(bytes(32)).to_bytes(), 0o620, r"open to others \(mode 0620\)"),
    ],
)
def test_an_unusable_key_is_refused_and_left_alone(tmp_path: Path, content: bytes, mode: int, message: str) -> None:
    path = tmp_path / "identity.key"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(IdentityError, match=message) as caught:
        load_or_create_identity(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


_KILLED = """
import os, signal, sys
from pathlib import Path
from sidecar.store.identity_key import load_or_create_identity
write = os.write
def end(*arguments):
    if sys.argv[1] == "write":
        write(arguments[0], arguments[1][:20])
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, sys.argv[1], end)
load_or_create_identity(Path(sys.argv[2]))
"""


@pytest.mark.parametrize("at", ["write", "fsync", "link"])
def test_a_first_start_that_is_killed_leaves_no_part_of_a_key(tmp_path: Path, at: str) -> None:
    path = tmp_path / "identity.key"
    killed = subprocess.run([sys.executable, "-c", _KILLED, at, str(path)], capture_output=True, text=True)
    assert (killed.returncode, killed.stderr) == (-signal.SIGKILL, "")
    assert not path.exists()
    made = load_or_create_identity(path)
    assert load_or_create_identity(path).peer_id == made.peer_id


def test_a_key_that_something_else_keeps_is_read_through_its_group_too(tmp_path: Path) -> None:
    """As Kubernetes mounts a Secret: a link into a folder of root's, readable by the pod's group."""
    kept = tmp_path / "..data" / "identity.key"
    kept.parent.mkdir()
    kept.write_bytes(Identity(bytes(32)).to_bytes())
    link = tmp_path / "identity.key"
    link.symlink_to("..data/identity.key")
    with StateDirectory.open(tmp_path / "state") as directory:
        for mode in (0o400, 0o440, 0o600):
            kept.chmod(mode)
            assert directory.identity(link).peer_id == Identity(bytes(32)).peer_id
        for mode in (0o444, 0o460):
            kept.chmod(mode)
            with pytest.raises(IdentityError, match="open to others"):
                directory.identity(link)
        with pytest.raises(IdentityError, match=r"missing \(state.identity_file\) is not there"):
            directory.identity(tmp_path / "missing")
        assert sorted(os.listdir(directory.path)) == ["lock"]  # none is made


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir(0o700)
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, message in (("dir", "not a regular file"), ("link", "a link to nothing"), ("pipe", "not a regular file")):
        with pytest.raises(IdentityError, match=message):
            load_or_create_identity(tmp_path / name)
    with pytest.raises(StorageError, match="cannot be written: No such file or directory"):
        load_or_create_identity(tmp_path / "missing" / "identity.key")


def test_whoever_makes_the_key_first_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "identity.key"
    first = Identity(bytes(32))
    publish = files._publish

    def lose_the_race(draft: Path, target: Path) -> None:
        target.write_bytes(first.to_bytes())
        target.chmod(0o600)
        publish(draft, target)

    monkeypatch.setattr(files, "_publish", lose_the_race)
    assert load_or_create_identity(path).peer_id == first.peer_id
    assert os.listdir(tmp_path) == ["identity.key"]


def test_what_is_no_private_file_is_said_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir(0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("dir", "pipe"):
        with pytest.raises(StorageError, match=f"{tmp_path / name} is not a regular file"):
            read_private(tmp_path / name, 10)
    with pytest.raises(StorageError, match=f"{tmp_path / 'link'} cannot be read: "):
        read_private(tmp_path / "link", 10)
    assert read_private(tmp_path / "nothing", 10) is None


def test_a_file_that_is_replaced_sweeps_its_drafts(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name in ("tokens.json", "other.json"):
        (tmp_path / f".{name}.{gone.pid}.0123abcd").write_bytes(b"")
    replace_private(tmp_path / "tokens.json", b"{}")
    assert sorted(os.listdir(tmp_path)) == [f".other.json.{gone.pid}.0123abcd", "tokens.json"]
