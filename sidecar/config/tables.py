"""The tables of a TOML document beside the configuration: every complaint is one sentence that names the place."""

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError
from .files import read_regular
from .kinds import Kind

_SHOWN = 100  # characters of a wrong value that a complaint repeats
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]")


class Source:
    """The text of a document, to find lines in."""

    def __init__(self, file: Path, text: str) -> None:
        self.file = file
        self._lines = text.splitlines()

    def place(self, header: str, number: int, name: str | None = None) -> str:
        """`file:line` of a key below the header `[header]`, the `number`th of that name; without a key, of the header.

        Only the file where it is written in a way that is not looked for.
        """
        assignment = re.compile(rf"\s*{re.escape(name)}\b") if name is not None else None
        current, seen = "", 0
        for position, line in enumerate(self._lines, 1):
            if found := _HEADER.match(line):
                current = re.sub(r"\s|\"", "", found[2])
                seen += current == header
                if assignment is None and current == header and seen == number:
                    return f"{self.file}:{position}"
            elif assignment is None or current != header or (header and seen != number):
                continue
            elif assignment.match(line):
                return f"{self.file}:{position}"
        return str(self.file)


class Table:
    """One table: a key that is none is told at once, with the nearest; each other one is taken with its kind."""

    def __init__(
        self, source: Source, header: str, content: object, known: Collection[str], *, number: int = 1, shown: str = ""
    ) -> None:
        """`number`: of the tables with this header. `shown`: how sentences name it, where not as `[header]`.

        That of the whole document has no header.
        """
        self._source, self._header, self._number = source, header, number
        self.shown = shown or f"[{header}]"
        if not isinstance(content, Mapping):
            raise ConfigError(f"{source.file}: {header} is a table: write {self.shown} and its keys below")
        self._content: Mapping[str, Any] = content
        for name in content:
            if name not in known:
                from difflib import get_close_matches  # only needed on the way to an error

                found = get_close_matches(name, known, 1)
                hint = f" (did you mean {found[0]}?)" if found else ""
                raise ConfigError(
                    f"{self.place(name)}: no key {name!r} in {self.shown}; there are {', '.join(known)}{hint}"
                )

    def __contains__(self, name: str) -> bool:
        return name in self._content

    def place(self, name: str | None = None) -> str:
        """Where a key, or the table, stands in the file."""
        return self._source.place(self._header, self._number, name)

    def complaint(self, name: str, text: str) -> ConfigError:
        """The error to raise about a key."""
        where = self.place(name if name in self else None)
        return ConfigError(f"{where}: {name} in {self.shown}: {text}")

    def take(self, name: str, kind: Kind, default: Any = None, *, required: bool = False) -> Any:
        """The value of a key. Raises ConfigError where it is none of the kind, or required and missing."""
        if name not in self._content:
            if required:
                raise ConfigError(f"{self.place()}: {self.shown} lacks {name}: {kind.allowed}")
            return default
        value = self._content[name]
        try:
            return kind.read(value)
        except (ValueError, OverflowError) as error:
            shown = repr(value)
            shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "..."
            raise ConfigError(
                f"{self.place(name)}: {name} = {shown} in {self.shown}: {error}; allowed: {kind.allowed}"
            ) from None

    def words(self, name: str, kind: Kind) -> tuple[str, ...]:
        """A list of texts, each of the kind, none twice."""
        value = self._content.get(name, [])
        if not isinstance(value, list):
            raise self.complaint(name, "it is a list of texts")
        return tuple(dict.fromkeys(Table._one(self, name, word, kind) for word in value))

    def _one(self, name: str, word: object, kind: Kind) -> str:
        try:
            return str(kind.read(word))
        except ValueError as error:
            raise self.complaint(name, f"{word!r}: {error}; allowed: {kind.allowed}") from None

    def raw(self, name: str, default: Any) -> Any:
        """A value as TOML has it, for what is no single one of a kind."""
        return self._content.get(name, default)


def read_document(what: str, file: Path, limit: int) -> tuple[dict[str, Any], Source]:
    """A TOML file of at most `limit` bytes, which sentences call `what` ("scenario"). Raises ConfigError."""
    try:
        written = read_regular(file, limit).decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{what} {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{what} {file} cannot be read: it is not UTF-8") from None
    try:
        return tomllib.loads(written), Source(file, written)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{what} {file} is not TOML: {error}") from None


def tables(source: Source, header: str, content: object) -> Iterator[tuple[int, object]]:
    """The tables `[[header]]`, numbered from 1."""
    if not isinstance(content, list):
        raise ConfigError(f"{source.file}: {header} is a list of tables: write [[{header}]] and its keys below")
    yield from enumerate(content, 1)
