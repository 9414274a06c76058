"""Reads a file of rules that messages are judged by: `[[rule]]` tables, and lists of senders in files beside it.

Every error is a ConfigError of one sentence that names the place.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.classes import NamedTuple
from ..core.errors import ConfigError, InvalidArgument, InvalidPeerId
from ..core.parameters.rules import (
    MAX_BACK,
    MAX_LISTED,
    MAX_RULES,
    MAX_TOPIC_PATTERNS,
    OnBreak,
    SenderRate,
    SeqnoDistance,
    TopicRule,
)
from ..core.types import PeerId
from .files import read_regular
from .kinds import Kind, choice, flag, number, path, real, seconds, size, text
from .tables import Source, Table, read_document, tables

_KEYS = (
    "name", "topics", "max_payload", "require_signature", "allow", "allow_file", "deny", "deny_file", "rate", "burst",
    "seqno_least", "seqno_most", "seqno_remember", "on_break",
)  # fmt: skip
_MAX_FILE = 16 << 20  # bytes
_MAX_LIST = 8 << 20  # bytes: some 150,000 peer ids
_MAX_PAYLOAD = 64 << 20  # bytes: the largest `gossip.max_message`
NAME = text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a name of at most 64 letters, digits, '.', '_' and '-'", "NAME")
_TOPIC = text(r"[^\x00-\x1f]{1,1024}", "a topic's name, with * for any text", "TOPIC")
_SENDERS_FILE = path("a path, from the folder of the rules on")
_SEQNO = 2**63 - 1


class RulesFile(NamedTuple):
    """A file of rules, and what it said when it was read."""

    file: Path | None
    rules: tuple[TopicRule, ...]

    def __str__(self) -> str:
        return str(self.file or "")


NO_RULES = RulesFile(None, ())


def rules_file() -> Kind:
    """The path of a file of rules, which is read at once; what is wrong in it is a ConfigError. Empty: none."""
    plain = path("empty, or the path of a file of rules, as docs/rules.md describes it")

    def read(value: object) -> RulesFile:
        file: Path | None = plain.read(value)
        return NO_RULES if file is None else RulesFile(file, load_rules(file))

    return Kind(read, lambda value: json.dumps(str(value)), plain.unit, plain.allowed, plain.placeholder)


def load_rules(file: Path) -> tuple[TopicRule, ...]:
    """Read a file of rules. Raises ConfigError."""
    return _rules(*read_document("the file of rules", file, _MAX_FILE), file.parent)


def parse_rules(text: str) -> tuple[TopicRule, ...]:
    """The same from a text, which names no files. Raises ConfigError, with "rules" for the file."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"rules: they are not TOML: {error}") from None
    return _rules(document, Source(Path("rules"), text), None)


def _rules(document: Mapping[str, Any], source: Source, folder: Path | None) -> tuple[TopicRule, ...]:
    """`folder`: where files of senders are; None: none may be named."""
    top = Table(source, "", document, ("rule",), shown="the file of rules")
    found = list(tables(source, "rule", top.raw("rule", [])))
    if len(found) > MAX_RULES:
        raise ConfigError(f"{source.file}: {len(found)} rules, at most {MAX_RULES}")
    rules: dict[str, TopicRule] = {}
    for count, content in found:
        table = Table(source, "rule", content, _KEYS, number=count, shown=f"[[rule]] {count}")
        rule = _rule(table, folder)
        if rule.name in rules:
            raise table.complaint("name", f"another rule is named {rule.name!r}")
        rules[rule.name] = rule
    return tuple(rules.values())


def _rule(table: Table, folder: Path | None) -> TopicRule:
    topics = table.words("topics", _TOPIC)
    if not topics or len(topics) > MAX_TOPIC_PATTERNS:
        raise table.complaint(
            "topics", f'it is a list of 1 to {MAX_TOPIC_PATTERNS} names, with * for any text, such as ["news.*"]'
        )
    rate = table.take("rate", real(1e-6, 1e6))
    if "burst" in table and rate is None:
        raise table.complaint("burst", "it goes with rate, which is not there")
    burst = table.take("burst", real(1, 1e6), max(1.0, rate or 0.0))
    try:
        return TopicRule(
            name=table.take("name", NAME, required=True),
            topics=topics,
            max_payload=table.take("max_payload", size(0, _MAX_PAYLOAD)),
            require_signature=table.take("require_signature", flag(), False),
            allow=_senders(table, folder, "allow"),
            deny=_senders(table, folder, "deny") or frozenset(),
            seqno=_seqno(table),
            rate=SenderRate(rate, burst) if rate is not None else None,
            on_break=OnBreak(table.take("on_break", choice(*(each.value for each in OnBreak)), "ignore")),
        )
    except InvalidArgument as error:
        raise ConfigError(f"{table.place()}: {table.shown}: {error}") from None


def _seqno(table: Table) -> SeqnoDistance | None:
    usual = SeqnoDistance()
    least = table.take("seqno_least", number(-MAX_BACK, _SEQNO, ""))
    most = table.take("seqno_most", number(1, _SEQNO, ""))
    remember = table.take("seqno_remember", seconds(1, 365 * 86400), usual.remember)
    if least is None and most is None:
        if "seqno_remember" in table:
            raise table.complaint("seqno_remember", "it goes with seqno_least or seqno_most, and neither is there")
        return None
    return SeqnoDistance(usual.least if least is None else least, most, remember)


def _senders(table: Table, folder: Path | None, name: str) -> frozenset[PeerId] | None:
    """The senders of a list and of a file together; None where neither is there."""
    named = f"{name}_file"
    file = table.take(named, _SENDERS_FILE)
    if name not in table and file is None:
        return None
    words = table.raw(name, [])
    if not isinstance(words, list) or (not words and file is None):
        raise table.complaint(name, "it is a list of peer ids, at least one; leave it out if you want no such list")
    found: dict[PeerId, None] = {}
    for word in words:
        try:
            found[PeerId.from_text(word if isinstance(word, str) else "")] = None
        except InvalidPeerId as error:
            raise table.complaint(name, f"{word!r}: {error}; allowed: peer ids such as 12D3KooW...") from None
    if file is not None:
        if folder is None:
            raise table.complaint(named, f"only a node's own file of rules names files; put the senders into {name}")
        try:
            found |= dict.fromkeys(_listed(folder / file))
        except ConfigError as error:
            raise table.complaint(named, str(error)) from None
    if len(found) > MAX_LISTED:
        raise table.complaint(name if file is None else named, f"{len(found)} senders, at most {MAX_LISTED}")
    return frozenset(found)


def _listed(file: Path) -> Iterator[PeerId]:
    """The peer ids of a file: one a line, with # before what is a remark."""
    try:
        lines = read_regular(file, _MAX_LIST).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file} cannot be read: it is not UTF-8") from None
    for number_of_line, line in enumerate(lines, 1):
        word = line.partition("#")[0].strip()
        if word:
            try:
                yield PeerId.from_text(word)
            except InvalidPeerId as error:
                raise ConfigError(f"{file}:{number_of_line}: {word[:100]!r}: {error}") from None
