"""The doctor's checks of a machine, each made to find what it looks for."""

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509

from sidecar.config import Config, load
from sidecar.doctor import machine
from sidecar.doctor.finding import Finding, Level
from sidecar.store.directory import KEY_FILE, StateDirectory
from sidecar.store.identity_key import load_or_create_identity
from tests.net.certificates import Authority


def config(**keys: str) -> Config:
    return load({"HOME": "/nowhere"}, {name.replace("__", "."): text for name, text in keys.items()}).config


def levels(findings: Iterator[Finding]) -> list[tuple[str, Level]]:
    return [(finding.check, finding.level) for finding in findings]


@pytest.mark.parametrize(
    ("wanted", "there", "level"),
    [
        ("auto", True, Level.OK),
        ("auto", False, Level.WARNING),
        ("http2", True, Level.OK),
        ("http2", False, Level.PROBLEM),
        ("grpcio", False, Level.OK),
    ],
)
def test_an_engine_of_the_api_whose_package_is_missing(
    wanted: str, there: bool, level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "can_choose_http2", lambda: there)
    found = machine.engine(config(api__engine=wanted))
    assert (found.level, bool(found.remedy)) == (level, level is not Level.OK)


def test_a_state_directory_that_is_fine_or_can_be_made(tmp_path: Path) -> None:
    fine = [("state", Level.OK), ("identity", Level.OK)]
    assert levels(machine.state(tmp_path / "a" / "b", Config(), None)) == fine
    with StateDirectory.open(tmp_path / "state") as state:
        peer = state.identity().peer_id
        holder = machine.holder_of(state.path)
        assert holder == os.getpid()
        found = list(machine.state(state.path, Config(), holder))
        assert [finding.level for finding in found] == [Level.OK, Level.OK]
        assert f"in use by process {os.getpid()}" in found[0].message
        assert str(peer) in found[1].message
    assert machine.holder_of(tmp_path / "state") is None


def test_a_state_directory_that_is_none_or_open_to_others(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert levels(machine.state(file, Config(), None)) == [("state", Level.PROBLEM)]
    tmp_path.chmod(0o755)
    found = list(machine.state(tmp_path, Config(), None))
    assert (found[0].level, found[0].remedy) == (Level.WARNING, f"chmod 700 {tmp_path}")


def test_a_state_directory_on_a_disk_that_can_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda place, mode: not mode & os.W_OK)
    monkeypatch.setattr("os.statvfs", lambda place: SimpleNamespace(f_flag=os.ST_RDONLY))
    (found,) = machine.state(tmp_path, Config(), None)
    assert found.level is Level.PROBLEM
    assert "can only be read" in found.message
    assert "chown" not in found.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not")
def test_a_state_directory_of_somebody_else() -> None:
    """Asked as the user nobody, in a place that this one can reach."""
    script = (
        "import os, sys; from pathlib import Path; from sidecar.config import Config; "
        "from sidecar.doctor import machine; os.setgid(65534); os.setuid(65534); "
        "print(*(f.level.value for path in sys.argv[1:] for f in machine.state(Path(path), Config(), None)))"
    )
    with tempfile.TemporaryDirectory() as place:  # not below pytest's own directory, which is closed to others
        Path(place).chmod(0o755)
        closed = Path(place, "closed")
        closed.mkdir(mode=0o700)
        words = [sys.executable, "-c", script, str(closed), str(Path(place, "absent"))]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["problem", "problem"]


def test_a_key_that_is_unusable(tmp_path: Path) -> None:
    load_or_create_identity(tmp_path / KEY_FILE)
    (tmp_path / KEY_FILE).chmod(0o644)
    tmp_path.chmod(0o700)
    found = list(machine.state(tmp_path, Config(), None))
    assert (found[1].check, found[1].level) == ("identity", Level.PROBLEM)
    assert "open to others (mode 0644)" in found[1].message
    absent = config(state__identity_file=str(tmp_path / "absent"))
    assert list(machine.state(tmp_path, absent, None))[1].level is Level.PROBLEM


@pytest.mark.parametrize(
    ("blocks", "inodes", "level"),
    [(1 << 20, 10, Level.OK), (30_000, 10, Level.WARNING), (100, 10, Level.PROBLEM), (1 << 20, 0, Level.PROBLEM)],
)
def test_room_on_the_disk(
    blocks: int, inodes: int, level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    #                                 bsize frsize blocks bfree bavail files ffree favail flag namemax
    status = os.statvfs_result((4096, 4096, 1 << 30, blocks, blocks, 100, inodes, inodes, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: status)
    assert machine.disk(tmp_path / "not" / "there").level is level


def test_a_clock_that_has_gone_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "peers.db").touch()
    now = (tmp_path / "peers.db").stat().st_mtime
    monkeypatch.setattr(machine, "synchronised", lambda: True)
    assert machine.clock(tmp_path, now + 1).level is Level.OK
    back = machine.clock(tmp_path, now - 7200)
    assert back.level is Level.PROBLEM
    assert "peers.db was written 7200 s in the future" in back.message
    assert machine.clock(tmp_path / "absent", 1e9).level is Level.PROBLEM
    monkeypatch.setattr(machine, "synchronised", lambda: False)
    assert machine.clock(tmp_path, now + 1).level is Level.WARNING
    monkeypatch.setattr(machine, "synchronised", lambda: None)
    assert machine.clock(tmp_path, now + 1).level is Level.OK


def test_the_kernel_can_be_asked_about_its_clock() -> None:
    assert machine.synchronised() in (True, False, None)


def test_the_limit_of_open_files() -> None:
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)); "
        "from sidecar.config import Config; from sidecar.doctor import machine; import os; "
        "print(machine.files(Config(), None).level.value, machine.files(Config(), os.getpid()).level.value); "
        "held = [os.dup(0) for _ in range(240)]; print(machine.files(Config(), os.getpid()).level.value)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["warning", "warning", "problem"]
    few = replace(Config(), limits=replace(Config().limits, connections=10))
    assert machine.files(few, os.getpid()).level is Level.OK


def test_the_place_of_the_apis_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def level(path: Path) -> Level:
        return machine.socket_place(config(api__socket=str(path))).level

    assert level(tmp_path / "api.sock") is Level.OK
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("x" * 120)))  # a configured one is refused when it is read
    assert machine.socket_place(Config()).level is Level.PROBLEM
    assert level(tmp_path / "absent" / "api.sock") is Level.PROBLEM
    (tmp_path / "file").touch()
    assert level(tmp_path / "file") is Level.PROBLEM
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left"))
        found = machine.socket_place(config(api__socket=str(tmp_path / "left")))
        assert (found.level, "killed" in found.message) == (Level.OK, True)
    assert stat.S_ISSOCK((tmp_path / "left").stat().st_mode)


def test_ports_that_are_taken_or_cannot_be() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        addresses = f"/ip4/127.0.0.1/tcp/{port},/ip4/127.0.0.1/tcp/0,/ip4/192.0.2.1/tcp/4747"
        found = list(machine.ports(config(listen__addresses=addresses)))
    assert [finding.level for finding in found] == [Level.PROBLEM, Level.OK, Level.PROBLEM]
    assert "the port is in use" in found[0].message
    assert levels(machine.ports(config(listen__addresses=""))) == [("port", Level.OK)]


def test_certificates_that_end(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path).issue("localhost")
    chosen = config(listen__tls_certificate=str(certificate), listen__tls_key=str(key))
    end = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc

    def level(days: float) -> Level:
        (finding,) = machine.certificates(chosen, (end + timedelta(days=days)).timestamp())
        return finding.level

    assert [level(days) for days in (1, -13, -15)] == [Level.PROBLEM, Level.WARNING, Level.OK]
    assert level(-40_000) is Level.PROBLEM  # before it begins
    certificate.write_text("no certificate")
    assert level(-15) is Level.PROBLEM
    assert not list(machine.certificates(Config()))


@pytest.mark.parametrize(
    ("text", "level"),
    [
        (None, None),
        ("", Level.WARNING),
        ('[[rule]]\nname = "a"\ntopics = ["*"]\nallow_file = "none.txt"\n', Level.WARNING),
        ('[[rule]]\nname = "a"\ntopics = ["*"]\nmax_payload = 7\n', Level.OK),
    ],
)
def test_a_file_of_rules(tmp_path: Path, text: str | None, level: Level | None) -> None:
    file = tmp_path / "rules.toml"
    (tmp_path / "none.txt").write_text("# nobody\n")
    if text is not None:
        file.write_text(text)
    found = levels(machine.rules(config(gossip__rules=str(file)) if text is not None else Config()))
    assert found == ([("rules", level)] if level else [])


def test_a_volume_that_does_not_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "volatile", lambda path: f"{path} is on tmpfs" if path == tmp_path else "")
    found = machine.volume(tmp_path / "not" / "there")
    assert (found.level, found.message) == (Level.WARNING, f"{tmp_path} is on tmpfs")
    assert machine.volume(tmp_path.parent).level is Level.OK
