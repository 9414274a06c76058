"""What the pages tell readers to type is there: commands, their flags, and make targets."""

import importlib
import itertools
import re
import shlex
from pathlib import Path

import pytest

from sidecar.cli import COMMANDS
from sidecar.commands.common import parsing
from tools.links import pages

ROOT = Path(__file__).parents[2]
PAGES = [page for page in pages(ROOT) if page.name != "CHANGELOG.md"]  # which names what has gone, too
_FENCED = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)", re.DOTALL)


def _whole_commands(text: str) -> list[str]:
    """Those in blocks, one a line; lines that go on are joined."""
    lines = "\n".join(_FENCED.findall(text)).replace("\\\n", " ").splitlines()
    return [
        line for line in lines if re.match(r"sidecar [a-z-]+( |$)", line) and not re.match(r"sidecar +sidecar", line)
    ]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_in_blocks_can_be_typed(page: Path) -> None:
    for line in _whole_commands((ROOT / page).read_text()):
        typed = shlex.split(line, comments=True)[1:]
        ours = list(itertools.takewhile(lambda word: word not in (">", ">>", "|", "&&", "&"), typed))
        name, *words = parsing.command_first(ours)
        assert name in COMMANDS, line
        parser = parsing.Parser(prog="sidecar")
        importlib.import_module(f"sidecar.commands.{name.replace('-', '_')}").add_arguments(parser)
        try:
            parser.read(words)
        except SystemExit:
            pytest.fail(f"{page}: {line}")


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_in_sentences_are_there(page: Path) -> None:
    text = (ROOT / page).read_text()
    for span in _INLINE.findall(_FENCED.sub("", text)):
        if found := re.match(r"sidecar ([a-z][a-z-]*)\b", span):
            assert found[1] in COMMANDS, f"{page}: {span}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_make_targets_are_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = (ROOT / page).read_text()
    said = re.findall(r"`make ([a-z][a-z-]*)", text)
    said += re.findall(r"^make ([a-z][a-z-]*)", "\n".join(_FENCED.findall(text)), re.MULTILINE)
    assert set(said) <= targets


def test_nothing_suggests_the_package_of_somebody_else() -> None:
    for page in PAGES:
        assert not re.search(
            r"(pip|uv|pipx) (tool )?(install|run) ['\"]?sidecar(\[|['\"\s`]|$)", (ROOT / page).read_text()
        )
