"""The sidecar as a process: start, readiness, signals, and what stops a start."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from sidecar.core.identity import Identity

from .full_disk import fill
from .processes import Process, command, running

UNREACHABLE = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"


def test_it_says_what_to_do_next_becomes_ready_and_ends_in_order(tmp_path: Path) -> None:
    with running(tmp_path) as sidecar:
        peer = sidecar.line("  peer id").split()[-1]
        address = sidecar.line("  address").split()[-1]
        assert sidecar.line("  API").endswith(f"unix:{sidecar.socket}")
        assert sidecar.line("  sidecar status")
        assert sidecar.line("Ready after")
        assert address.endswith(f"/p2p/{peer}")
        status = sidecar.json("status")
        assert (status["ready"], status["peer_id"]) == (True, peer)
        assert sidecar.socket.stat().st_mode & 0o777 == 0o600
        assert sidecar.terminate() == 0
        assert not sidecar.socket.exists()
        assert re.search(r"INFO run: stopping\n(.*\n)*.*INFO run: stopped\n", sidecar.log())


def test_a_killed_one_blocks_nothing_and_comes_back_as_itself(tmp_path: Path) -> None:
    with running(tmp_path) as sidecar:
        peer = sidecar.line("  peer id")
        sidecar.line("Ready after")
        sidecar.popen.kill()
        assert sidecar.ended() == -signal.SIGKILL
    assert sidecar.socket.is_socket()
    with running(tmp_path) as again:
        assert again.line("  peer id") == peer
        again.line("Ready after")
        assert again.terminate() == 0


def test_what_another_one_holds_is_named_and_the_exit_code_says_so(tmp_path: Path) -> None:
    with running(tmp_path / "first") as first:
        port = first.line("  address").split("/")[4]
        first.line("Ready after")
        same_state = Process(tmp_path / "a", "--state", str(first.state))
        assert same_state.ended() == 5
        assert f"state directory {first.state} is in use by process {first.popen.pid}; stop" in same_state.log()
        same_socket = Process(tmp_path / "b", "--socket", str(first.socket))
        assert same_socket.ended() == 5
        assert f"API socket {first.socket} is served by another sidecar" in same_socket.log()
        same_port = Process(tmp_path / "c", "--listen", f"/ip4/127.0.0.1/tcp/{port}")
        assert same_port.ended() == 5
        assert f"cannot listen on /ip4/127.0.0.1/tcp/{port}: the port is in use" in same_port.log()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            same_tcp = Process(tmp_path / "d", "--tcp", f"127.0.0.1:{taken.getsockname()[1]}")
            assert same_tcp.ended() == 5
        assert first.json("status")["ready"]
    assert all(len(p.log().splitlines()) <= 3 for p in (same_state, same_socket, same_port, same_tcp))


def test_a_wrong_configuration_stops_with_one_line(tmp_path: Path) -> None:
    done = command(tmp_path, "run", "--gossip-degree", "many")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sidecar: --gossip-degree: gossip.degree = 'many': not a whole number; allowed:")
    (tmp_path / "c.toml").write_text("[limits]\nconection = 4\n")
    done = command(tmp_path, "run", "--config", str(tmp_path / "c.toml"))
    assert done.returncode == 2
    assert f"{tmp_path / 'c.toml'}:2: no key 'conection' in [limits]" in done.stderr


def test_peers_that_do_not_answer_are_a_matter_of_readiness(tmp_path: Path) -> None:
    with running(tmp_path, "--bootstrap", UNREACHABLE) as sidecar:
        assert "not connected to any of 1 bootstrap peers" in sidecar.line("Not ready yet")
        status = sidecar.command("status")
        assert status.returncode == 1
        assert "not ready" in status.stdout
        assert "Check that the bootstrap peers run" in status.stdout
        waited = sidecar.command("status", "--wait", "--timeout", "0.2")
        assert waited.returncode == 4
        assert sidecar.terminate() == 0


def test_it_ends_with_its_standard_input_when_told_so(tmp_path: Path) -> None:
    with running(tmp_path, "--until-eof", stdin=subprocess.PIPE) as sidecar:
        sidecar.line("Ready after")
        assert sidecar.popen.stdin is not None
        sidecar.popen.stdin.close()
        assert sidecar.ended() == 0


def test_a_disk_that_refuses_stops_the_first_start_with_one_line(tmp_path: Path) -> None:
    refused = Process(tmp_path, prefix=("bash", "-c", 'ulimit -f 0; exec "$@"', "bash"))
    # The log goes to a file, which the limit concerns as well: the exit code is all that can be seen.
    assert refused.ended() == 1
    assert not (refused.state / "identity.key").exists()


def test_a_key_that_is_half_written_stops_the_start_and_stays_as_it_is(tmp_path: Path) -> None:
    key = tmp_path / "state" / "identity.key"
    key.parent.mkdir(mode=0o700)
    half = Identity(bytes(range(32))).to_bytes()[:30]
    key.write_bytes(half)
    key.chmod(0o600)
    refused = Process(tmp_path)
    assert refused.ended() == 1
    (line,) = refused.log().splitlines()
    assert line.startswith(f"sidecar: the identity key {key} is unusable: ")
    assert line.endswith("; put back a copy of it, or move it away to start with a new peer id")
    assert key.read_bytes() == half


def test_a_state_directory_that_cannot_be_written_stops_the_start_with_one_line(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o500)
    # Root may write everywhere, unless it is without its capabilities.
    powerless = ("setpriv", "--inh-caps=-all", "--bounding-set=-all") if os.geteuid() == 0 else ()
    if powerless and shutil.which("setpriv") is None:
        pytest.skip("needs setpriv, since root may write everywhere")
    refused = Process(tmp_path, prefix=powerless)
    assert refused.ended() == 1
    (line,) = refused.log().splitlines()
    assert line.startswith(f"sidecar: {state} cannot be the state directory: Permission denied; ")
    assert list(state.iterdir()) == []


def test_a_disk_that_is_full_costs_the_memory_not_the_node(tmp_path: Path, small_disk: Path) -> None:
    with running(tmp_path / "a", "--state", str(small_disk / "state")) as sidecar:
        address = sidecar.line("  address").split()[-1]
        sidecar.line("Ready after")
        fill(small_disk)
        with running(tmp_path / "b", "--bootstrap", address) as other:
            other.line("Ready after")
            assert [peer["connected"] for peer in [other.json("peers")]] == [True]
            assert sidecar.json("status")["ready"]
        assert sidecar.terminate() == 0
        assert "are not remembered" in sidecar.log()
    with running(tmp_path / "a", "--state", str(small_disk / "state")) as again:
        again.line("Ready after")
        banned = again.command("ban", UNREACHABLE.rpartition("/")[2])
        assert "the ban is in force, but not after a restart: " in banned.stdout + banned.stderr
        assert again.terminate() == 0


def test_too_few_files_stop_the_start_with_one_line(tmp_path: Path) -> None:
    refused = Process(tmp_path, prefix=("bash", "-c", 'ulimit -n 20; exec "$@"', "bash"))
    assert refused.ended() == 1
    (line,) = refused.log().splitlines()
    assert line.startswith("sidecar: this process may have 20 files open, and a start takes 48; raise the limit")


def test_files_that_are_used_up_are_said_at_the_start_and_come_back(tmp_path: Path) -> None:
    few = ("bash", "-c", 'ulimit -n 80; exec "$@"', "bash")
    with running(tmp_path, "--listen", "/ip4/127.0.0.1/tcp/0", prefix=few) as sidecar:
        address = sidecar.line("  address").split("/")
        sidecar.line("Ready after")
        assert "this process may have 80 files open, and its connections may take 1664 " in sidecar.log()
        with contextlib.ExitStack() as held:
            for _ in range(100):
                held.enter_context(socket.create_connection(("127.0.0.1", int(address[4]))))
            assert sidecar.popen.poll() is None
        assert sidecar.json("status")["ready"]
        assert sidecar.terminate() == 0


def test_a_bootstrap_address_without_a_peer_id_leads_to_whoever_answers(tmp_path: Path) -> None:
    with running(tmp_path / "1") as first:
        address = first.line("  address").split()[-1]
        port, peer = address.split("/")[4], address.split("/")[-1]
        with running(tmp_path / "2", "--bootstrap", f"/dns4/localhost/tcp/{port}") as second:
            second.line("Ready after")
            assert second.json("peers")["peer_id"] == peer
            assert f"answered at the bootstrap address /dns4/localhost/tcp/{port}" in second.log()


def test_the_identity_may_be_kept_elsewhere(tmp_path: Path) -> None:
    made = command(tmp_path, "keygen", str(tmp_path / "node.key"))
    peer = made.stdout.splitlines()[0]
    with running(tmp_path / "1", "--state-identity-file", str(tmp_path / "node.key")) as sidecar:
        assert sidecar.line("  peer id").split()[-1] == peer
        sidecar.line("Ready after")
        assert not (sidecar.state / "identity.key").exists()
