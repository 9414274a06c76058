"""Starts agents and speaks their lines; README.md has the protocol."""

import asyncio
import contextlib
import itertools
import json
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Line = dict[str, Any]
_LINE_LIMIT = 256 << 20  # a maximal payload in base64, and to spare
_LOG_LINES = 60
_SHOWN = 400  # characters of a line that the log keeps
_START = 60.0  # seconds


class AgentFailed(Exception):
    """An agent ended, or speaks another protocol."""


class Failed(Exception):
    """An operation failed; `error` is the error as the agent describes it."""

    def __init__(self, error: Line) -> None:
        super().__init__(f"{error['type']}: {error.get('message', '')}")
        self.error = error


class Operation:
    """An operation under way."""

    def __init__(self, number: int, answer: "asyncio.Future[Line]") -> None:
        self.number = number
        self._answer = answer

    async def result(self) -> Any:
        """Raises Failed, AgentFailed."""
        line = await asyncio.shield(self._answer)
        if "error" in line:
            raise Failed(line["error"])
        return line["ok"]


class Agent:
    """One running agent."""

    def __init__(self, language: str, process: asyncio.subprocess.Process) -> None:
        self.language = language
        self.version = ""
        self._process = process
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Line]] = {}
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._started: asyncio.Future[Line] = asyncio.get_running_loop().create_future()
        self._tasks = [asyncio.create_task(self._read_lines()), asyncio.create_task(self._read_log())]

    @classmethod
    async def start(cls, language: str, command: Sequence[str], environment: dict[str, str], folder: Path) -> "Agent":
        """Raises AgentFailed."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            cwd=folder,
            limit=_LINE_LIMIT,
        )
        agent = cls(language, process)
        try:
            agent.version = (await asyncio.wait_for(asyncio.shield(agent._started), _START))["version"]
        except (TimeoutError, AgentFailed) as error:
            await agent.kill()
            raise AgentFailed(f"the {language} agent did not start ({error!r})\n{agent.log()}") from None
        return agent

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    def begin(self, op: str, fields: Line) -> Operation:
        """Give it an operation; what was given before begins before."""
        number = next(self._numbers)
        answer: asyncio.Future[Line] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        line = json.dumps({"id": number, "op": op, **fields}, ensure_ascii=False)
        self._note("<", line)
        if self._tasks[0].done():
            answer.set_exception(AgentFailed(f"the {self.language} agent has ended"))
        else:
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode() + b"\n")
        return Operation(number, answer)

    async def call(self, op: str, **fields: Any) -> Any:
        """Raises Failed, AgentFailed."""
        return await self.begin(op, fields).result()

    async def stop(self) -> int:
        """End its input and wait; its exit status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            status = await asyncio.wait_for(self._process.wait(), _START)
        except TimeoutError:
            await self.kill()
            raise AgentFailed(f"the {self.language} agent does not end\n{self.log()}") from None
        await asyncio.gather(*self._tasks)
        return status

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await asyncio.gather(*self._tasks)

    def log(self) -> str:
        """What it was told (<), said (>) and wrote for people (!) last."""
        return "\n".join([f"--- agent {self.language}", *self._log])

    def _note(self, mark: str, text: str) -> None:
        self._log.append(f"{mark} {text if len(text) <= _SHOWN else f'{text[:_SHOWN]}... ({len(text)} characters)'}")

    async def _read_lines(self) -> None:
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            self._note(">", raw.decode(errors="replace").rstrip())
            line = json.loads(raw)
            if line.get("event") == "started":
                self._started.set_result(line)
            elif (answer := self._answers.pop(line["id"], None)) is not None:
                answer.set_result(line)
        ended = AgentFailed(f"the {self.language} agent ended")
        for answer in [self._started, *self._answers.values()]:
            if not answer.done():
                answer.set_exception(ended)
                answer.exception()  # nobody may ever ask

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        async for raw in self._process.stderr:
            self._note("!", raw.decode(errors="replace").rstrip())
