"""`sidecar dashboard`, the process: its link, its token, its end. `make page-test` looks at what the page shows."""

import http.client
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .processes import PATIENCE, Process, environment, running


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running(tmp_path_factory.mktemp("dashboard") / "1") as process:
        process.line("Ready after")
        yield process


class Started:
    """A dashboard that has printed its link."""

    def __init__(self, sidecar: Process, *flags: str, **environ: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "sidecar", "dashboard", "--json", "--api", str(sidecar.socket), *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(sidecar.home) | environ,
            text=True,
        )
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line, self.popen.communicate()[1]
        self.link = json.loads(line)["link"]
        self.address, _, self.token = self.link.removeprefix("http://").partition("/#")

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Its exit code and what it complained of."""
        self.popen.send_signal(number)
        _, complaints = self.popen.communicate(timeout=PATIENCE)
        return self.popen.returncode, complaints


def ask(address: str, token: str) -> tuple[int, bytes]:
    """The status and the first line of what is live."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    connection.request("GET", "/events", headers={"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    line = response.readline()
    connection.close()
    return response.status, line


def test_the_link_shows_the_sidecar_and_only_with_its_token(sidecar: Process) -> None:
    started = Started(sidecar)
    assert started.address.startswith("127.0.0.1:")
    status, line = ask(started.address, started.token)
    assert (status, json.loads(line)["node"]["peer_id"]) == (200, sidecar.json("id")["peer_id"])
    assert ask(started.address, "x" * 43)[0] == 401
    assert started.end() == (0, "")
    assert Started(sidecar).end(signal.SIGINT)[0] == 130


def test_the_token_is_kept_in_a_file_that_only_we_can_read(sidecar: Process, tmp_path: Path) -> None:
    file = tmp_path / "not" / "there" / "token"
    tokens = set()
    for _ in range(2):
        started = Started(sidecar, "--token-file", str(file))
        tokens.add(started.token)
        assert started.end() == (0, "")
    assert tokens == {file.read_text().strip()}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    file.chmod(0o644)
    refused = sidecar.command("dashboard", "--token-file", str(file))
    assert (refused.returncode, refused.stderr) == (
        2,
        f"sidecar: {file} can be read by others, who could then use the dashboard; chmod 600 {file}\n",
    )
    file.chmod(0o600)
    for text in ("", "x" * 43 + "!"):
        file.write_text(text)
        refused = sidecar.command("dashboard", "--token-file", str(file))
        assert refused.returncode == 2
        assert "no token" in refused.stderr


def test_a_port_in_use_is_said(sidecar: Process) -> None:
    started = Started(sidecar)
    port = started.address.rpartition(":")[2]
    refused = sidecar.command("dashboard", "--port", port)
    assert (refused.returncode, refused.stdout) == (5, "")
    assert "choose another with --port" in refused.stderr
    started.end()


def test_the_browser_gets_the_link_in_a_file_not_as_an_argument(sidecar: Process, tmp_path: Path) -> None:
    told = tmp_path / "told"
    browser = tmp_path / "browser"
    os.mkfifo(told)  # reading waits for the browser
    browser.write_text(f'#!/bin/sh\n{{ echo "$1"; cat "${{1#file://}}"; }} > {told}\n')
    browser.chmod(0o755)
    started = Started(sidecar, "--open", BROWSER=f"{browser} %s", TMPDIR=str(tmp_path))
    argument, content = told.read_text().splitlines()
    (directory,) = tmp_path.glob("sidecar-dashboard-*")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert started.end() == (0, "")
    assert started.token not in argument
    assert f"url={started.link}" in content
    assert not directory.exists()


def test_without_a_sidecar_it_says_so(sidecar: Process, tmp_path: Path) -> None:
    refused = sidecar.command("dashboard", "--api", str(tmp_path / "none.sock"))
    assert refused.returncode == 3
    assert "sidecar run" in refused.stderr
