"""The processes of the client benchmark: agents, the feeder, sidecars."""

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.conformance.build import BuildFailed, ToolMissing, build
from tests.e2e.processes import Process, running

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
_CACHE = ROOT / ".cache" / "bench-clients"
_PATIENCE = 15.0  # seconds, for an end in order


class Unavailable(Exception):
    """What a language needs is not here."""


class Agent:
    """A program that measures one client library as told."""

    def __init__(self, command: list[str], folder: Path, environ: Mapping[str, str]) -> None:
        self._popen = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=os.environ | environ,
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def order(self, op: str, **fields: Any) -> dict[str, Any]:
        """Carry out an order. Raises RuntimeError with what the agent says, or when it ends."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        try:
            self._popen.stdin.write(json.dumps({"op": op, **fields}) + "\n")
        except BrokenPipeError:
            raise RuntimeError("the agent has ended") from None
        line = self._popen.stdout.readline()
        if not line:
            raise RuntimeError("the agent has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        result: dict[str, Any] = answer["ok"]
        return result

    def end(self) -> None:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.close()
        try:
            self._popen.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._popen.stdout.close()


@contextlib.contextmanager
def agent(language: str, **environ: str) -> Iterator[Agent]:
    """An agent of a language, with these variables in its environment. Raises Unavailable."""
    command, folder = _COMMANDS[language]()
    started = Agent(command, folder, environ)
    try:
        yield started
    finally:
        started.end()


def _python() -> tuple[list[str], Path]:
    return [sys.executable, str(HERE / "agents" / "agent.py")], HERE


def _go() -> tuple[list[str], Path]:
    return [str(build_go("agent"))], HERE


def _javascript() -> tuple[list[str], Path]:
    try:
        build("js")  # the client, for the conformance suite and for us
    except (BuildFailed, ToolMissing) as missing:
        raise Unavailable(str(missing)) from None
    return ["node", str(HERE / "agents" / "agent.js")], HERE


_COMMANDS: dict[str, Callable[[], tuple[list[str], Path]]] = {"Python": _python, "Go": _go, "JavaScript": _javascript}
LANGUAGES = tuple(_COMMANDS)


@functools.cache
def build_go(name: str) -> Path:
    """Build a program of `go/`. Raises Unavailable."""
    if shutil.which("go") is None:
        raise Unavailable("Go is not installed")
    target = _CACHE / name
    _run(["go", "build", "-mod=mod", "-o", str(target), f"./{name}"], HERE / "go")
    return target


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")


@contextlib.contextmanager
def feeder(socket: Path) -> Iterator[int]:
    """The feeder, serving at a socket; its process id. Raises Unavailable."""
    program = build_go("feeder")
    with subprocess.Popen([program, socket], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as popen:
        assert popen.stdin is not None
        assert popen.stdout is not None
        if popen.stdout.readline() != "serving\n":
            raise Unavailable("the feeder does not start")
        try:
            yield popen.pid
        finally:
            popen.stdin.close()


@contextlib.contextmanager
def sidecars(home: Path) -> Iterator[tuple[Process, Process]]:
    """Two sidecars, joined. The first keeps all that is to be read again and again."""
    keep = ["--api-history-messages", "1000000", "--api-history-bytes", "512MiB", "--api-history-total", "1GiB"]
    keep += ["--api-linger", "3600", "--log-level", "error"]
    with running(home / "1", *keep) as first:
        address = first.line("  address").split()[-1]
        with running(home / "2", "--bootstrap", address, "--log-level", "error") as second:
            first.line("Ready after")
            second.line("Ready after")
            yield first, second
