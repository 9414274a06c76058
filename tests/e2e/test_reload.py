"""SIGHUP, and what the service manager is told."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sidecar_client

from .processes import PATIENCE, Process, following, running

CLOSED = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"


class Notifications:
    """A service manager's socket: what a sidecar tells it."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(PATIENCE)

    def until(self, beginning: str) -> list[str]:
        """Everything told, up to what begins so."""
        told: list[str] = []
        while not told or not told[-1].startswith(beginning):
            told.append(self._socket.recv(4096).decode())
        return told

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Notifications]:
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.setenv("NOTIFY_SOCKET", f"{directory}/notify")
        with contextlib.closing(Notifications(Path(directory, "notify"))) as told:
            yield told


def test_the_service_manager_hears_of_start_reload_and_end(
    tmp_path: Path, manager: Notifications, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    with running(tmp_path) as sidecar:
        assert manager.until("READY=1") == ["READY=1"]
        manager.until("STATUS=Ready")
        manager.until("WATCHDOG=1")
        manager.until("WATCHDOG=1")
        sidecar.popen.send_signal(signal.SIGHUP)
        reloading = manager.until("RELOADING=1")[-1]
        assert int(reloading.partition("\nMONOTONIC_USEC=")[2]) > 0
        manager.until("READY=1")
        sidecar.popen.send_signal(signal.SIGTERM)
        manager.until("STOPPING=1")
        assert sidecar.ended() == 0


def test_a_manager_that_is_not_there_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    with running(tmp_path / "home") as sidecar:
        sidecar.line("Ready after")
        assert sidecar.terminate() == 0
        assert "the service manager cannot be told" in sidecar.log()


def test_sighup_puts_what_can_change_into_force_and_names_the_rest(tmp_path: Path, manager: Notifications) -> None:
    file = tmp_path / "config.toml"
    file.write_text("")
    with running(tmp_path / "1") as first, running(tmp_path / "2", "--config", str(file)) as second:
        address = first.line("  address").split()[-1]
        second.line("Ready after")
        manager.until("STATUS=Ready")
        manager.until("STATUS=Ready")

        def reload(text: str) -> None:
            file.write_text(text)
            second.popen.send_signal(signal.SIGHUP)
            manager.until("RELOADING=1")
            manager.until("READY=1")

        with following(first, "peers", "--watch", "--json") as events:
            reload(f'bootstrap.peers = ["{address}"]\nlog.level = "debug"\ndht.mode = "client"\n')
            peer = _event(events, "present", "identified")
            assert "configuration read again; changed: bootstrap.peers, log.level\n" in second.log()
            assert "changed only by a restart: dht.mode\n" in second.log()
            assert " DEBUG " in second.log()

            announced = "/ip4/192.0.2.1/tcp/4747"
            reload(f'bootstrap.peers = ["{address}"]\nlisten.announce = ["{announced}"]\n')
            assert peer["peer_id"] == second.json("status")["peer_id"]
            told = _event(events, "updated")
            assert (told["peer_id"], announced in told["addresses"]) == (peer["peer_id"], True)

            denied = address.rpartition("/")[2]
            reload(f'listen.announce = ["{announced}"]\ngate.deny_peers = ["{denied}"]\n')
            assert _event(events, "disconnected")["peer_id"] == peer["peer_id"]

        reload('dht.mode = "sideways"\n')
        assert "the configuration stays as it was: " in second.log()
        reload("")
        assert second.log().endswith("changed: listen.announce, gate.deny_peers\n")
        audit = [json.loads(line) for line in (second.state / "audit.log").read_text().splitlines()]
        changes = [line for line in audit if line["action"] == "configuration.changed"]
        assert [line["caller"] for line in changes] == ["signal:SIGHUP"] * 4
        assert changes[0]["changed"] == {"bootstrap.peers": [address], "log.level": "debug"}


def test_sighup_refuses_addresses_that_a_start_refuses(tmp_path: Path, manager: Notifications) -> None:
    file = tmp_path / "config.toml"
    file.write_text("")
    with running(tmp_path / "1", "--config", str(file)) as sidecar:
        sidecar.line("Ready after")
        own = sidecar.json("status")["peer_id"]
        manager.until("READY=1")

        def reload(text: str) -> str:
            before = len(sidecar.log())
            file.write_text(text)
            sidecar.popen.send_signal(signal.SIGHUP)
            manager.until("RELOADING=1")
            manager.until("READY=1")
            return sidecar.log()[before:]

        names = json.dumps([f"/dns4/{'n' * 60}.{'n' * 57}{number:02}/tcp/4747" for number in range(64)])
        for announced, because in (
            (f'["{CLOSED}"]', f"names another peer than this node, which is {own}"),
            ('["/ip4/0.0.0.0/tcp/4747"]', "nobody can dial"),
            (names, "64 addresses make a signed record of"),
        ):
            said = reload(f"listen.announce = {announced}\n")
            assert "the configuration stays as it was: " in said
            assert because in said
            assert "configuration read again" not in said
        said = reload(f'bootstrap.peers = ["/ip4/192.0.2.1/tcp/4747/p2p/{own}"]\n')
        assert "is this node itself, and no other is named" in said
        assert "changed: bootstrap.peers\n" in said
        assert sidecar.terminate() == 0


def test_a_pipe_that_nobody_writes_to_holds_up_neither_a_reload_nor_a_start(
    tmp_path: Path, manager: Notifications
) -> None:
    file, pipe = tmp_path / "config.toml", tmp_path / "pipe"
    file.write_text("")
    os.mkfifo(pipe, 0o600)
    with running(tmp_path / "1", "--config", str(file)) as sidecar:
        sidecar.line("Ready after")
        manager.until("READY=1")
        pipe.rename(file)
        for _ in range(2):
            sidecar.popen.send_signal(signal.SIGHUP)
            manager.until("RELOADING=1")
            manager.until("READY=1")
        kept = f"the configuration stays as it was: configuration file {file} cannot be read: it is not a regular"
        assert sidecar.log().count(kept) == 2
        assert sidecar.json("status")["ready"]
        assert sidecar.terminate() == 0
    for number, (flag, name) in enumerate(
        (
            ("--config", "configuration file"),
            ("--network-psk-file", "network.psk_file:"),
            ("--peers-tls-ca", "peers.tls_ca:"),
        )
    ):
        refused = Process(tmp_path / f"refused{number}", flag, str(file))
        assert refused.ended() == 2
        assert refused.log() == f"sidecar: {name} {file} cannot be read: it is not a regular file\n"


_EARLY = """
import importlib, os, signal, sys
from sidecar import cli

def hung_up(*arguments):
    os.kill(os.getpid(), signal.SIGHUP)
    return real(*arguments)

if os.environ["AT"] == "load":
    real, importlib.import_module = importlib.import_module, hung_up
else:
    from sidecar.app import App
    real, App.start = App.start, hung_up
sys.exit(cli.main())
"""


@pytest.mark.parametrize("at", ["load", "start"])
def test_one_that_comes_during_the_start_is_served_after_it(
    tmp_path: Path, manager: Notifications, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AT", at)
    with running(tmp_path, program=(sys.executable, "-c", _EARLY)) as sidecar:
        sidecar.line("Ready after")
        assert manager.until("RELOADING=1")[0] == "READY=1"
        manager.until("READY=1")
        assert "configuration read again; changed: nothing\n" in sidecar.log()
        assert sidecar.terminate() == 0


def test_a_file_in_the_default_place_that_is_gone_lifts_nothing(tmp_path: Path, manager: Notifications) -> None:
    file = tmp_path / ".config" / "sidecar" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('gate.deny_networks = ["192.0.2.0/24"]\n')
    with running(tmp_path) as sidecar:
        sidecar.line("Ready after")
        manager.until("READY=1")
        for change, said in (
            (file.unlink, f"the configuration stays as it was: {file}, which was read before, is gone; an empty file"),
            (file.touch, "configuration read again; changed: gate.deny_networks\n"),
        ):
            change()
            sidecar.popen.send_signal(signal.SIGHUP)
            manager.until("RELOADING=1")
            manager.until("READY=1")
            assert said in sidecar.log()
        assert sidecar.terminate() == 0


def test_a_bootstrap_peer_that_is_gone_from_the_configuration_is_sought_no_more(
    tmp_path: Path, manager: Notifications
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'bootstrap.peers = ["{CLOSED}"]\n')
    with running(tmp_path / "1", "--config", str(file)) as sidecar:
        sidecar.line("Not ready yet")
        manager.until("READY=1")
        file.write_text("")
        sidecar.popen.send_signal(signal.SIGHUP)
        sidecar.line("Ready after")
        assert sidecar.terminate() == 0


def _event(lines: Iterator[str], *kinds: str) -> Any:
    """The next event of these kinds."""
    return next(event for event in map(json.loads, lines) if event["event"] in kinds)


def test_a_terminal_that_is_closed_ends_it(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with running(tmp_path, prefix=("setsid", "--ctty"), stdin=theirs) as sidecar:
        os.close(theirs)
        sidecar.line("Ready after")
        os.close(ours)
        assert sidecar.ended() == 0
        assert "INFO run: stopped" in sidecar.log()


def _size_rule(largest: int) -> str:
    return f'[[rule]]\nname = "size"\ntopics = ["ne*"]\nmax_payload = {largest}\n'


def test_sighup_reads_the_file_of_rules_again_and_a_broken_one_changes_nothing(
    tmp_path: Path, manager: Notifications
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(_size_rule(5))
    with running(tmp_path / "1") as first:
        address = first.line("  address").split()[-1]
        with running(tmp_path / "2", "--bootstrap", address, "--gossip-rules", str(rules)) as second:
            second.line("Ready after")
            manager.until("STATUS=Ready")
            manager.until("STATUS=Ready")

            def reload(text: str) -> str:
                before = len(second.log())
                rules.write_text(text)
                second.popen.send_signal(signal.SIGHUP)
                manager.until("RELOADING=1")
                manager.until("READY=1")
                return second.log()[before:]

            asyncio.run(asyncio.wait_for(_judged_by_size(first, second, rules, reload), 4 * PATIENCE))
            audit = [json.loads(line) for line in (second.state / "audit.log").read_text().splitlines()]
            changed = [line["changed"] for line in audit if line["action"] == "configuration.changed"]
            assert changed == [{"gossip.rules": str(rules)}]
    rules.write_text(_size_rule(-1))
    refused = Process(tmp_path / "refused", "--gossip-rules", str(rules))
    assert refused.ended() == 2
    said = (
        f"sidecar: {rules}:4: max_payload = -1 in [[rule]] 1: below the least allowed; allowed: bytes from 0 to 64MiB"
    )
    assert refused.log().startswith(said)


async def _judged_by_size(first: Process, second: Process, rules: Path, reload: Callable[[str], str]) -> None:
    async with (
        sidecar_client.connect(f"unix:{first.socket}") as publisher,
        sidecar_client.connect(f"unix:{second.socket}") as listener,
        listener.subscribe("news") as subscription,
    ):
        messages = aiter(subscription)

        async def come(*sent: bytes) -> list[bytes]:
            """What comes of these and of a short one behind them."""
            for data in (*sent, b"end"):
                await publisher.publish("news", data, minimum_peers=1)
            got = [(await anext(messages)).data]
            while got[-1] != b"end":
                got.append((await anext(messages)).data)
            return got[:-1]

        assert await come(b"too long", b"short") == [b"short"]
        assert (await listener.statistics())["gossip_rule_size"] == 1
        own = await listener.publish("news", b"too long too")
        assert own.outcome is sidecar_client.PublishOutcome.REJECTED
        said = await asyncio.to_thread(reload, _size_rule(-1))
        assert f"the configuration stays as it was: {rules}:4: max_payload = -1" in said
        assert await come(b"too long", b"still") == [b"still"]
        assert "configuration read again; changed: gossip.rules\n" in await asyncio.to_thread(reload, _size_rule(9))
        assert await come(b"too long", b"far too long") == [b"too long"]
        statistics = await listener.statistics()
        assert statistics["gossip_rule_size"] == statistics["gossip_ignored_rule"] + 1 == 4
        assert statistics["gossip_rejected_rule"] == 0
