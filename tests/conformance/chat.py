"""Plays the chat of the clients' examples: one person in each language, on three sidecars that find each other.

`python -m tests.conformance.chat`, or `make example`. What stands behind a name is what that person's terminal shows.
"""

import asyncio
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import sidecar_client

from tests.e2e.processes import environment

from .build import CACHE, CLIENTS, SHOWN, BuildFailed, ToolMissing, build_js_client, run_tool
from .stage import Sidecar, Stage

TOPIC = "chat"
PATIENCE = 60.0  # seconds; only a hang reaches it
PEOPLE = (("python", "one", "Ann"), ("go", "two", "Бо́б"), ("js", "three", "小陈"))
STORY = (
    ("Ann", "Good morning! Is anybody here?"),
    ("Бо́б", "Да. Here I am, at another sidecar."),
    ("小陈", "早上好 👋 and here is a third."),
    ("Ann", "Three languages, three sidecars, one topic."),
    ("小陈", "再见!"),
)

Say = Callable[[str], None]


def command(language: str) -> list[str]:
    """Build a language's chat; the command that starts it. Raises ToolMissing, BuildFailed."""
    folder = CLIENTS / language / "examples"
    if language == "python":
        return [sys.executable, str(folder / "chat.py")]
    tool = {"go": "go", "js": "node"}[language]
    if shutil.which(tool) is None:
        raise ToolMissing(f"the chat in {SHOWN[language]} needs `{tool}`, which is not installed")
    CACHE.mkdir(parents=True, exist_ok=True)
    if language == "go":
        program = CACHE / "go-chat"
        run_tool(["go", "build", "-mod=readonly", "-o", str(program), "./examples/chat"], CLIENTS / "go")
        return [str(program)]
    build_js_client()
    return ["node", str(folder / "chat.js")]


class Person:
    """A running chat program."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process

    @classmethod
    async def sits_down(cls, name: str, program: Sequence[str], target: str, home: Path) -> "Person":
        """Start the program and wait until it listens."""
        process = await asyncio.create_subprocess_exec(
            *program,
            name,
            target,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment(home),
        )
        person = cls(name, process)
        await person.sees(name)
        return person

    def types(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n".encode())

    async def sees(self, *texts: str) -> str:
        """The next line of the terminal that has all the texts in it. Raises AssertionError when there is none."""
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            line = raw.decode().rstrip()
            if all(text in line for text in texts):
                return line
        raise AssertionError(f"{self.name}'s chat ended and showed nothing with {texts}")

    async def leaves(self) -> None:
        """End the input, as Ctrl-D does. Raises AssertionError unless the program ends in order."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        status = await self._process.wait()
        assert status == 0, f"{self.name}'s chat ended with status {status}"

    async def vanishes(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


async def play(folder: Path, languages: Sequence[str], say: Say) -> None:
    """Play the story with the people of some languages. Raises AssertionError, ToolMissing, BuildFailed."""
    people = [person for person in PEOPLE if person[0] in languages]
    programs = {language: await asyncio.to_thread(command, language) for language, _, _ in people}
    async with asyncio.timeout(PATIENCE), Stage(folder) as stage, contextlib.AsyncExitStack() as stack:
        there: dict[str, Person] = {}
        for language, place, name in people:
            sidecar = await stage.sidecar(place)
            person = await Person.sits_down(name, programs[language], sidecar.target, folder)
            stack.push_async_callback(person.vanishes)
            there[name] = person
            say(f"{name} sits down: {SHOWN[language]}, at sidecar {place}, {sidecar.peer_id}")
        for _, place, _ in people:
            await _everybody_is_known(await stage.sidecar(place), len(people) - 1)
        for name, text in STORY:
            if name not in there:
                continue
            there[name].types(text)
            say(f"\n{name} types: {text}")
            for other in there.values():
                if other.name != name:
                    say(f"    {other.name} sees: {await other.sees(name, text)}")
        for person in there.values():
            await person.leaves()
    say("\nEverybody has left.")


async def _everybody_is_known(sidecar: Sidecar, others: int) -> None:
    """Wait until a sidecar knows of the others' subscriptions."""
    async with sidecar_client.connect(sidecar.target) as node:
        while not any(topic.name == TOPIC and topic.peers >= others for topic in await node.topics()):
            await node.info()  # each look waits for an answer


def main() -> int:
    try:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(play(Path(folder), [language for language, _, _ in PEOPLE], print))
    except (ToolMissing, BuildFailed, AssertionError) as error:
        print(f"example: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
