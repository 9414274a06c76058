"""`sidecar health`, as containers are checked by it: the answer is the exit code."""

from pathlib import Path

import pytest

from sidecar.cli import main

from .processes import command, running

UNREACHABLE = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"


def test_a_ready_sidecar_is_healthy(tmp_path: Path) -> None:
    with running(tmp_path) as sidecar:
        sidecar.line("Ready after")
        assert (sidecar.command("health").returncode, sidecar.command("health").stdout) == (0, "ready\n")
        assert sidecar.command("health", "--live").stdout == "ready\n"


def test_one_that_waits_for_peers_is_live_but_not_ready(tmp_path: Path) -> None:
    with running(tmp_path, "--bootstrap", UNREACHABLE) as sidecar:
        sidecar.line("Not ready yet")
        asked = sidecar.command("health")
        assert (asked.returncode, asked.stdout) == (1, "")
        assert asked.stderr == "sidecar: not ready; `sidecar status` says why\n"
        asked = sidecar.command("health", "--live")
        assert (asked.returncode, asked.stdout) == (0, "live, not ready\n")


def test_it_asks_the_socket_that_the_configuration_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the image: no flag and no SIDECAR_API, and the same variables as the sidecar has."""
    with running(tmp_path / "one") as sidecar:
        sidecar.line("Ready after")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("SIDECAR_API", raising=False)
        monkeypatch.setenv("SIDECAR_API_SOCKET", str(sidecar.socket))
        assert main(["health"]) == 0
        monkeypatch.setenv("SIDECAR_API", str(tmp_path / "nobody.sock"))
        assert main(["health"]) == 3


def test_nobody_there_and_a_target_that_cannot_be_asked(tmp_path: Path) -> None:
    asked = command(tmp_path, "health", "--api", str(tmp_path / "nobody.sock"))
    assert asked.returncode == 3
    assert asked.stderr.startswith(f"sidecar: no answer from the API at unix:{tmp_path}/nobody.sock: ")
    asked = command(tmp_path, "health", "--api", "tls://192.0.2.1:4748")
    assert asked.returncode == 2
    assert "not under TLS" in asked.stderr
