"""`sidecar doctor` beside real sidecars: it finds what is wrong with them, and nothing where nothing is."""

import json
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .processes import Process, command, following, running

NOBODY = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"


def examine(sidecar: Process, *flags: str, code: int = 0) -> dict[str, list[dict[str, Any]]]:
    """The findings about a sidecar by their checks."""
    flags = ("--state", str(sidecar.state), "--socket", str(sidecar.socket), "--listen", "/ip4/127.0.0.1/tcp/0", *flags)
    return _findings(sidecar.home, *flags, code=code)


def _findings(home: Path, *flags: str, code: int) -> dict[str, list[dict[str, Any]]]:
    done = command(home, "doctor", "--json", "--patience", "2", *flags)
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, list[dict[str, Any]]] = {}
    for line in done.stdout.splitlines():
        finding = json.loads(line)
        assert bool(finding["remedy"]) == (finding["level"] in ("warning", "problem")), finding
        found.setdefault(finding["check"], []).append(finding)
    return found


def _levels(found: dict[str, list[dict[str, Any]]], check: str) -> list[str]:
    return [finding["level"] for finding in found[check]]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Process, Process, str]]:
    """Two sidecars, and the first one's address, through which the second has joined."""
    with running(tmp_path / "1") as first:
        address = first.line("  address").split()[-1]
        with running(tmp_path / "2", "--bootstrap", address) as second:
            second.line("Ready after")
            yield first, second, address


def test_a_healthy_sidecar_has_no_problem(pair: tuple[Process, Process, str]) -> None:
    _, second, address = pair
    found = examine(second, "--bootstrap", address)
    problems = [f for findings in found.values() for f in findings if f["level"] not in ("ok", "skipped")]
    assert [finding["check"] for finding in problems if finding["check"] != "clock"] == []  # a machine may have no NTP
    assert {*found} >= {
        "API",
        "version",
        "engine",
        "ready",
        "API latency",
        "inbound",
        "address",
        "twin",
        "bootstrap",
        "state",
    }
    assert f"in use by process {second.popen.pid}" in found["state"][0]["message"]
    assert found["address"][0]["message"].endswith("leads here")
    shown = command(second.home, "doctor", "--api", str(second.socket), "--state", str(second.state))
    assert "ok    ready: Listening" in shown.stdout
    assert "\n0 problems, " in shown.stdout


def test_bootstrap_peers_one_by_one(pair: tuple[Process, Process, str], tmp_path: Path) -> None:
    _, second, address = pair
    port = address.split("/")[4]
    with running(tmp_path / "other", "--network", "another") as other, socket.create_server(("127.0.0.1", 0)) as mute:
        elsewhere = other.line("  address").split()[-1]
        silent = f"/ip4/127.0.0.1/tcp/{mute.getsockname()[1]}/p2p/{NOBODY}"
        peers = {
            f"/dns4/name.invalid/tcp/1/p2p/{NOBODY}": "name: ",
            f"/ip4/127.0.0.1/tcp/9/p2p/{NOBODY}": "TCP: ",
            f"/ip4/127.0.0.1/tcp/{port}/p2p/{NOBODY}": "handshake: ",
            silent: "handshake: ",
            elsewhere: "network: ",
            address: "",
        }
        flags = [flag for peer in peers for flag in ("--bootstrap", peer)]
        found = examine(second, *flags, code=1)
    for (peer, step), finding in zip(peers.items(), found["bootstrap"], strict=True):
        assert finding["message"].startswith(f"{peer}: {step}")
        assert finding["level"] == ("problem" if step else "ok")


def test_a_second_node_with_the_same_identity(pair: tuple[Process, Process, str], tmp_path: Path) -> None:
    first, second, address = pair
    copied = tmp_path / "copy" / "state"
    shutil.copytree(second.state, copied)
    (copied / "peers.db").unlink(missing_ok=True)
    with running(tmp_path / "copy", "--bootstrap", address) as twin:
        twin.line("Ready after")
        with following(first, "events", "--json") as lines:
            assert any("two nodes with one identity" in line for line in lines)
        found = examine(second, "--bootstrap", address, code=1)
        assert _levels(found, "twin") == ["problem"]
        found = examine(twin, "--bootstrap", address, code=1)  # the other way round
        assert _levels(found, "twin") == ["problem"]
        assert _levels(examine(first), "peers") == ["warning"]


def test_addresses_that_lead_nowhere_or_to_another(tmp_path: Path) -> None:
    with running(tmp_path / "1") as first:
        another = first.line("  address").split()[-1].partition("/p2p/")[0]
        announced = ("--announce", "/ip4/192.0.2.7/tcp/4747", "--announce", another)
        with running(tmp_path / "2", *announced) as second:
            second.line("Ready after")
            found = examine(second, code=1)
    wrong, taken = found["address"]
    assert (wrong["level"], "is not an address of this machine" in wrong["message"]) == ("problem", True)
    assert (taken["level"], "another node answers" in taken["message"]) == ("problem", True)


def test_one_that_is_not_there_not_ready_or_hangs(tmp_path: Path) -> None:
    away = f"/ip4/127.0.0.1/tcp/9/p2p/{NOBODY}"
    with running(tmp_path / "1", "--bootstrap", away) as sidecar:
        sidecar.line("Not ready yet")
        found = examine(sidecar, code=1)
        assert _levels(found, "ready") == ["ok", "problem"]
        sidecar.popen.send_signal(signal.SIGSTOP)
        hanging = examine(sidecar, "--patience", "0.5", code=1)
        assert _levels(hanging, "API") == ["problem"]
        assert f"process {sidecar.popen.pid} has the state" in hanging["API"][0]["message"]
        sidecar.popen.send_signal(signal.SIGCONT)
        assert sidecar.terminate() == 0
        gone = examine(sidecar, code=1)
        assert "sidecar run" in gone["API"][0]["remedy"]
        assert (_levels(gone, "socket"), _levels(gone, "port")) == (["ok"], ["ok"])
        assert _levels(examine(sidecar, "--offline"), "bootstrap") == ["ok"]


def test_one_whose_socket_was_deleted_for_good(tmp_path: Path) -> None:
    place = tmp_path / "api"
    place.mkdir()
    with running(tmp_path / "1", "--socket", str(place / "a.sock")) as sidecar:
        sidecar.line("Ready after")
        shutil.rmtree(place)
        place.write_text("in its place")
        found = examine(sidecar, "--socket", str(place / "a.sock"), code=1)
        (gone,) = found["API"]
        words = f"process {sidecar.popen.pid} has the state directory, but its API's socket {place / 'a.sock'} is not"
        assert gone["message"] == f"{words} there, nor is {place}"
        assert sidecar.terminate() == 0


def test_a_wrong_configuration(tmp_path: Path) -> None:
    found = _findings(tmp_path, "--dht-mode", "sideways", code=2)
    assert _levels(found, "configuration") == ["problem"]
