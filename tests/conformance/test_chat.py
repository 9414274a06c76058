"""`make example`: the chat of the clients' examples, across all languages."""

import asyncio
from pathlib import Path

from tests.missing import not_there

from .build import ToolMissing
from .chat import PEOPLE, STORY, command, play


def test_a_chat_across_the_languages(tmp_path: Path) -> None:
    for language, _, _ in PEOPLE:
        try:
            command(language)
        except ToolMissing as missing:
            not_there(missing)
    said: list[str] = []
    asyncio.run(play(tmp_path, [language for language, _, _ in PEOPLE], said.append))
    seen = [line for line in said if " sees: " in line]
    assert len(seen) == len(STORY) * (len(PEOPLE) - 1)
    for name, text in STORY:
        assert sum(line.endswith(f"sees: {name}: {text}") for line in seen) == len(PEOPLE) - 1
