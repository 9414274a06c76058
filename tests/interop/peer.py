"""Starts peer programs and drives them over their JSON lines (`peers/README.md` has the protocol)."""

import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.interop.build import build

Line = dict[str, Any]

# Generous, since nothing is measured with it: a loaded machine must not fail a test.
TIMEOUT = 120.0
_LINE_LIMIT = 8 << 20  # a message of 1 MiB in base64, and to spare
_LOG_LINES = 400
_SHOWN = 300  # characters of a line that the log keeps


UNSUPPORTED = "unsupported: "  # how an error begins when the implementation cannot do what was asked
_UNSUPPORTED_STATUS = 3


class PeerError(Exception):
    """A peer program answered a command with an error, or ended."""


class Unsupported(PeerError):
    """The implementation cannot do what was asked; the text says which and why, and nothing else."""


_ZERO = time.monotonic()  # one for all logs of a run, so that they can be read side by side


class Log:
    """The last lines of what one process said and was told, with the seconds since the run started."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lines: deque[str] = deque(maxlen=_LOG_LINES)

    def add(self, mark: str, text: str) -> None:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
        self._lines.append(f"{time.monotonic() - _ZERO:8.3f} {mark} {shown}")

    def __str__(self) -> str:
        return "\n".join([f"--- {self.name} (< told, > said, ! log)", *self._lines])


def options_for(
    *,
    key_type: str | None = None,
    psk: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    tls_ca: Path | None = None,
    gossip: str | None = None,
    record_ttl: float | None = None,
    announce: str | None = None,
    heartbeat_ms: int | None = None,
    degree: int | None = None,
    expected_rate: str | None = None,
    dns: str | None = None,
    relay: bool = False,
    autonat: bool = False,
    punch: bool = False,
    mdns: bool = False,
) -> list[str]:
    """The further options of the command line, as the README has them; None leaves one away."""
    values = {
        "--key-type": key_type,
        "--psk": psk,
        "--tls-cert": tls_cert,
        "--tls-key": tls_key,
        "--tls-ca": tls_ca,
        "--gossip": gossip,
        "--record-ttl": record_ttl,
        "--announce": announce,
        "--heartbeat-ms": heartbeat_ms,
        "--degree": degree,
        "--expected-rate": expected_rate,
        "--dns": dns,
    }
    switches = {"--relay": relay, "--autonat": autonat, "--punch": punch, "--mdns": mdns}
    given = [text for flag, value in values.items() if value is not None for text in (flag, str(value))]
    return [*given, *(flag for flag, on in switches.items() if on)]


class Peer:
    """One running peer program."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.log = Log(name)
        self.peer_id = ""
        self.addresses: list[str] = []
        self.agent = ""
        self.ready_seconds = 0.0
        self._process = process
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Line]] = {}
        self._events: list[Line] = []
        self._takers: dict[str, Callable[[Line], object]] = {}
        self._changed = asyncio.Event()
        self._tasks = [asyncio.create_task(self._read_lines()), asyncio.create_task(self._read_log())]

    @classmethod
    async def start(
        cls,
        language: str,
        name: str,
        *,
        network: str = "interop",
        listen: str | Sequence[str] | None = "/ip4/127.0.0.1/tcp/0",
        dht: str = "off",
        sign: str = "strict",
        inside: Sequence[str] = (),
        **further: Any,
    ) -> "Peer":
        """Start a peer program and wait until it is ready.

        Args:
            language: one of `build.NAMES`.
            name: what the log calls it; its key is made from it, so that runs are alike.
            network, dht, sign: see the README.
            listen: one address, several, or None for one that only dials.
            inside: what begins the command, so that it runs in another place (`lan.Place.inside`).
            further: the options of `options_for`.

        Raises:
            Unsupported: the implementation cannot serve one of the options.
            PeerError: it ended or did not become ready in time.
        """
        command = build(language)
        seed = hashlib.sha256(name.encode()).hexdigest()
        options = ["--network", network, "--key", seed, "--dht", dht, "--sign", sign, *options_for(**further)]
        for address in [listen] if isinstance(listen, str) else listen or ():
            options += ["--listen", address]
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *inside,
            *command,
            *options,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
        )
        peer = cls(f"{language} {name}", process)
        try:
            ready = await peer.event("ready")
        except PeerError as error:
            await peer.stop()
            if (unsupported := peer._unsupported()) is not None:
                raise unsupported from None
            raise PeerError(f"{error}\n{peer.log}") from error
        peer.ready_seconds = time.monotonic() - started
        peer.peer_id, peer.addresses, peer.agent = ready["peer_id"], ready["addresses"], ready["agent"]
        return peer

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def address(self) -> str:
        """Where it listens, with `/p2p/` and its id."""
        return self.addresses[0]

    async def call(self, op: str, timeout: float = TIMEOUT, **arguments: Any) -> Line:
        """Send a command and wait for its answer.

        Raises:
            Unsupported: the implementation cannot do this.
            PeerError: it answered with an error, ended, or said nothing in time.
        """
        number = next(self._ids)
        answer: asyncio.Future[Line] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        line = json.dumps({"id": number, "op": op, "timeout": timeout, **arguments})
        self.log.add("<", line)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            await self._process.stdin.drain()
            # The program times out by itself and says what it waited for; ours is for one that hangs.
            reply = await asyncio.wait_for(answer, timeout + 5)
        except (TimeoutError, ConnectionError) as error:
            raise PeerError(f"{self.name}: {op}: no answer ({error!r})") from error
        finally:
            self._answers.pop(number, None)
        if not reply["ok"]:
            if reply["error"].startswith(UNSUPPORTED):
                raise Unsupported(reply["error"].removeprefix(UNSUPPORTED))
            raise PeerError(f"{self.name}: {op}: {reply['error']}")
        return reply

    async def event(self, kind: str, timeout: float = TIMEOUT, **fields: Any) -> Line:
        """Wait for an event of a kind whose fields have these values, and take it; the past counts.

        Raises:
            PeerError: none came in time.
        """

        try:
            async with asyncio.timeout(timeout):
                while True:
                    for position, line in enumerate(self._events):
                        if line["event"] == kind and all(line.get(key) == value for key, value in fields.items()):
                            return self._events.pop(position)
                    if self._tasks[0].done():
                        raise PeerError(f"{self.name}: ended (status {self._process.returncode}), waiting for {kind}")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            raise PeerError(f"{self.name}: no {kind} {fields} within {timeout} s") from error

    def divert(self, kind: str, take: Callable[[Line], object]) -> None:
        """Hand events of a kind to `take` from now on, as they come: many are not to wait in a line."""
        self._takers[kind] = take

    async def publish(self, topic: str, data: bytes) -> None:
        await self.call("publish", topic=topic, data=base64.b64encode(data).decode())

    async def message(self, topic: str, timeout: float = TIMEOUT) -> Line:
        """Take the next message of a topic, its `data` decoded."""
        line = await self.event("message", timeout, topic=topic)
        return {**line, "data": base64.b64decode(line["data"])}

    async def call_bytes(self, op: str, timeout: float = TIMEOUT, **arguments: Any) -> Line:
        """`call`, with every argument that is bytes sent as base64, and `data`, `value`, `record` answered as bytes."""
        sent = {
            key: base64.b64encode(value).decode() if isinstance(value, bytes) else value
            for key, value in arguments.items()
        }
        reply = await self.call(op, timeout, **sent)
        found = {key: base64.b64decode(reply[key]) for key in ("data", "value", "record") if reply.get(key) is not None}
        return {**reply, **found}

    async def stop(self) -> None:
        """End the process, by force if it does not end by itself."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await asyncio.gather(*self._tasks)

    def kill(self) -> None:
        """End the process as a crash would."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def _unsupported(self) -> Unsupported | None:
        """Why it ended, when it did so since it cannot serve an option."""
        if self._process.returncode == _UNSUPPORTED_STATUS:
            for line in self._events:
                if line["event"] == "unsupported":
                    return Unsupported(line["what"].removeprefix(UNSUPPORTED))
        return None

    async def _read_lines(self) -> None:
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            self.log.add(">", raw.decode().rstrip())
            line = json.loads(raw)
            if (take := self._takers.get(line.get("event", ""))) is not None:
                take(line)
            elif "event" in line:
                self._events.append(line)
                self._changed.set()
            elif (waiting := self._answers.get(line["id"])) is not None and not waiting.done():
                waiting.set_result(line)
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_result({"ok": False, "error": "the process ended"})
        self._changed.set()

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        async for raw in self._process.stderr:
            self.log.add("!", raw.decode(errors="replace").rstrip())


class Stage:
    """Peers of one test: all end with it, and a failure shows what each of them said.

    Use it as `async with Stage() as stage: peer = await stage.start("go", "alice")`.
    """

    def __init__(self) -> None:
        self._peers: list[Peer] = []

    async def start(self, language: str, name: str, **options: Any) -> Peer:
        """Start a peer program; arguments as of `Peer.start`."""
        peer = await Peer.start(language, name, **options)
        self._peers.append(peer)
        return peer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(peer.stop() for peer in self._peers))
        if error is not None:
            for peer in self._peers:
                error.add_note(str(peer.log))


async def join(first: Peer, second: Peer, topic: str, **second_options: Any) -> None:
    """Subscribe two connected peers to a topic and wait until each has the other in its mesh.

    Args:
        first, second: connected with each other.
        topic: its name.
        second_options: further arguments of the second one's `subscribe`.
    """
    await asyncio.gather(first.call("subscribe", topic=topic), second.call("subscribe", topic=topic, **second_options))
    await asyncio.gather(meshed(first, second.peer_id, topic), meshed(second, first.peer_id, topic))


async def meshed(peer: Peer, other: str, topic: str) -> None:
    """Wait until a peer has another, by id, in its mesh of a topic."""
    await peer.event("graft", topic=topic, peer_id=other)
