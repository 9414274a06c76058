"""Real sidecar processes for tests, and the command line as a user runs it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ENGINE = os.environ.get("API_ENGINE", "")
"""The engine of the API in all sidecars that tests start, for a run with another than the default."""

PATIENCE = 30.0  # seconds; only a hang reaches it


def environment(home: Path) -> dict[str, str]:
    """This process's environment without anything that would configure a sidecar; `home` is empty."""
    # LINES and COLUMNS, which the tests' own workers have, would be believed rather than a terminal.
    foreign = ("SIDECAR_", "XDG_", "LINES", "COLUMNS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"HOME": str(home), "PYTHONUNBUFFERED": "1"}


class Process:
    """`sidecar run` with a state directory and a socket in `home`, at any free port of loopback."""

    def __init__(
        self,
        home: Path,
        *flags: str,
        prefix: Sequence[str] = (),
        program: Sequence[str] = (sys.executable, "-m", "sidecar"),
        stdin: int = subprocess.DEVNULL,
        stderr: int | None = None,
    ) -> None:
        """`stderr`: a file descriptor for its log, instead of a file that `log` reads."""
        home.mkdir(exist_ok=True)
        self.home = home
        self.socket = home / "api.sock"
        self.state = home / "state"
        flags = ("--state", str(self.state), "--socket", str(self.socket), "--log-format", "text", *flags)
        if "--listen" not in flags:
            flags += ("--listen", "/ip4/127.0.0.1/tcp/0")
        if ENGINE and "--api-engine" not in flags:
            flags += ("--api-engine", ENGINE)
        self.errors = home / "stderr"
        with self.errors.open("ab") as errors:
            self.popen = subprocess.Popen(
                [*prefix, *program, "run", *flags],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=errors if stderr is None else stderr,
                env=environment(home),
                text=True,
            )

    def line(self, beginning: str) -> str:
        """The next line of its output that begins so."""
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            if line.startswith(beginning):
                return line.rstrip()
        raise AssertionError(f"it ended without {beginning!r}: {self.log()}")

    def ended(self) -> int:
        """Wait for its end; its exit code."""
        code = self.popen.wait(PATIENCE)
        assert self.popen.stdout is not None
        self.popen.stdout.close()
        return code

    def terminate(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        return self.ended()

    def log(self) -> str:
        return self.errors.read_text()

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run another command of the command line against this sidecar."""
        return command(self.home, words[0], "--api", str(self.socket), *words[1:])

    def json(self, *words: str) -> Any:
        """The document that a successful command prints with --json."""
        done = self.command(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def command(home: Path, *words: str, environ: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a command of the command line, with `environ` beside the environment of `home`."""
    return subprocess.run(
        [sys.executable, "-m", "sidecar", *words],
        env=environment(home) | dict(environ or {}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )


@contextlib.contextmanager
def running(home: Path, *flags: str, **options: Any) -> Iterator[Process]:
    """A sidecar that has started; killed at the end if it still runs."""
    process = Process(home, *flags, **options)
    try:
        yield process
    finally:
        process.popen.kill()
        process.ended()
        if process.popen.stdin is not None:
            process.popen.stdin.close()


@contextlib.contextmanager
def following(sidecar: Process, *words: str) -> Iterator[Iterator[str]]:
    """The lines that a command of the command line prints about a sidecar while it goes on."""
    command = [sys.executable, "-m", "sidecar", words[0], "--api", str(sidecar.socket), *words[1:]]
    with subprocess.Popen(command, env=environment(sidecar.home), stdout=subprocess.PIPE, text=True) as goes_on:
        assert goes_on.stdout is not None
        try:
            yield iter(goes_on.stdout)
        finally:
            goes_on.terminate()


@contextlib.contextmanager
def running_pair(place: Path) -> Iterator[tuple[Process, Process]]:
    """Two sidecars, both ready, the second joined through the first."""
    with running(place / "1") as first:
        address = first.line("  address").split()[-1]
        with running(place / "2", "--bootstrap", address) as second:
            first.line("Ready after")
            second.line("Ready after")
            yield first, second
