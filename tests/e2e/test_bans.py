"""Who may connect, with real processes: a ban at run time, over a restart, lifted; networks; the configuration."""

import socket
from pathlib import Path

from .processes import Process, running


def identity(process: Process) -> str:
    return process.line("  peer id").split()[-1]


def greeted(port: int, source: str) -> bool:
    """Whether a connection from an address of loopback is answered by the first bytes of a handshake."""
    with socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0)) as connection:
        try:
            connection.sendall(b"\x13/multistream/1.0.0\n")
            return connection.recv(20) == b"\x13/multistream/1.0.0\n"
        except ConnectionResetError:
            return False


def test_a_ban_holds_over_a_restart_until_it_is_lifted(tmp_path: Path) -> None:
    with running(tmp_path / "2") as guest:
        guest_id = identity(guest)
        guest_address = guest.line("  address").split()[-1]
        with running(tmp_path / "1", "--peers-target", "0") as host:
            host.line("Ready after")
            assert host.json("connect", guest_address)["connected"]
            made = host.json("ban", guest_id, "--reason", "too loud", "--for", "1h")
            assert (made["connections_closed"], made["warnings"]) == (1, [])
            refused = host.command("connect", guest_address)
            assert refused.returncode == 1
            assert "too loud; `sidecar bans` lists who is refused" in refused.stderr
            assert host.terminate() == 0
            assert '"action": "peer.banned"' in (host.state / "audit.log").read_text()
        with running(tmp_path / "1", "--peers-target", "0") as host:
            host_address = host.line("  address").split()[-1]
            ban = host.json("bans")
            assert (ban["peer_id"], ban["reason"], ban["configured"]) == (guest_id, "too loud", False)
            assert guest.command("connect", host_address, "--timeout", "5").returncode != 0
            assert host.command("unban", guest_id).returncode == 0
            assert host.json("connect", guest_address)["connected"]
            assert host.json("protect", guest_id)["protected"]
            assert host.json("protect") == {"peer_id": guest_id, "connected": True}


def test_networks_are_denied_by_configuration_and_banned_at_run_time(tmp_path: Path) -> None:
    with running(tmp_path / "1", "--gate-deny-networks", "127.0.0.2,127.1.0.0/16") as host:
        port = int(host.line("  address").split("/")[4])
        assert greeted(port, "127.0.0.1")
        assert not greeted(port, "127.0.0.2")
        assert not greeted(port, "127.1.2.3")
        assert host.command("ban", "127.0.0.8/29", "--reason", "scans").returncode == 0
        assert not greeted(port, "127.0.0.9")
        assert greeted(port, "127.0.0.7")
        refused = {line.split()[0]: line for line in host.command("bans").stdout.splitlines()}
        assert "configured" in refused["127.0.0.2"]
        assert "1 refused" in refused["127.0.0.2"]
        assert "scans" in refused["127.0.0.8/29"]
        assert "127.1.2.3 is in 127.1.0.0/16, which is on the deny list" in host.command("unban", "127.1.2.3").stderr


def test_an_allow_list_lets_nobody_else_in(tmp_path: Path) -> None:
    with running(tmp_path / "1") as friend, running(tmp_path / "2") as stranger:
        friend_id = identity(friend)
        friend_address, stranger_address = (p.line("  address").split()[-1] for p in (friend, stranger))
        with running(tmp_path / "3", "--gate-allow-peers", friend_id) as host:
            host.line("Ready after")
            assert host.json("connect", friend_address)["connected"]
            refused = host.command("connect", stranger_address)
            assert "is not on the allow list (gate.allow_peers)" in refused.stderr


def test_a_file_of_bans_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    with running(tmp_path) as sidecar:
        sidecar.line("Ready after")
        assert sidecar.terminate() == 0
    (sidecar.state / "bans.db").write_bytes(b"garbage" * 1000)
    broken = Process(tmp_path)
    assert broken.ended() == 1
    last = broken.log().splitlines()[-1]
    assert "bans.db cannot be read: file is not a database; put back a copy of the file, or move it away" in last
