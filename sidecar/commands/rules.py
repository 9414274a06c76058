"""`sidecar rules`."""

import argparse
import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sidecar_client import Client

from ..config.rules import load_rules
from ..core.classes import NamedTuple
from ..core.errors import InvalidArgument, SidecarError
from ..core.gossip import Candidates, Verdict
from ..core.gossip.rules import RuleBook
from ..core.parameters import GossipConfig
from ..core.types import PeerId
from ..process.printable import escaped
from ..trace.reader import messages, records
from .common.client import Output, add_client_flags, talk
from .common.config_flags import errors_told
from .common.exit_codes import FAILED, USAGE_WRONG
from .common.said import clean, document, failed

_REMEMBERED = 1 << 20  # ids of messages, as `gossip.seen_max`


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "sidecar rules list | set RULES | clear | test RULES TRACE [--json]"
    parser.add_argument(
        "action",
        choices=["list", "set", "clear", "test"],
        help="the rules in force, and what they kept back; replace those set at run time; take these back; what rules "
        "would have kept back of a trace",
    )
    parser.add_argument("rules", metavar="RULES", type=Path, nargs="?", help="a file of rules: docs/rules.md")
    parser.add_argument("trace", metavar="TRACE", type=Path, nargs="?", help="what `sidecar run --trace-wire` wrote")
    add_client_flags(parser)
    parser.epilog = (
        "What is set holds until the sidecar ends, beside the rules of its file (gossip.rules).\n"
        "test asks no sidecar. Copies of a message count once, as long as a node by default remembers its id."
    )


def run(options: argparse.Namespace) -> int:
    files = {"list": 0, "set": 1, "clear": 0, "test": 2}[options.action]
    if (options.rules is not None) + (options.trace is not None) != files:
        return failed(USAGE_WRONG, "set takes RULES, test takes RULES and TRACE; list and clear take none")
    match options.action:
        case "test":
            return _test(options)
        case "list":
            return talk(options, _list)
        case "set":
            return _set(options)
        case _:
            return talk(options, _clear)


async def _list(client: Client, out: Output) -> int:
    rules = await client.rules()
    for rule in rules:
        counts = [{"topic": topic, "limit": limit, "messages": count} for topic, limit, count in rule.counts]
        fields = {
            "name": rule.name,
            "topics": list(rule.topics),
            "description": rule.description,
            "configured": rule.configured,
            "counts": counts,
        }
        where = "file" if rule.configured else "set"
        kept = sum(count.messages for count in rule.counts)
        lines = [f"  {count.messages} on {count.topic or 'other topics'}: {count.limit}" for count in rule.counts]
        text = f"{rule.name}  {where}  {', '.join(rule.topics)}  {kept} kept back  {rule.description}"
        await out.record(fields, text, *lines)
    if not rules:
        await out.remark("there are no rules")
    return 0


async def _clear(client: Client, out: Output) -> int:
    await client.set_rules("")
    await out.record({"set": []}, "no rules are set at run time any more")
    return 0


@errors_told
def _set(options: argparse.Namespace) -> int:
    rules = load_rules(options.rules)  # what is wrong is told with the file's name

    async def conversation(client: Client, out: Output) -> int:
        text = await asyncio.to_thread(options.rules.read_text, "utf-8-sig")
        await client.set_rules(text)
        names = [rule.name for rule in rules]
        await out.record({"set": names}, f"set: {', '.join(names) or 'no rules'}")
        return 0

    return talk(options, conversation)


@errors_told
def _test(options: argparse.Namespace) -> int:
    book = RuleBook(load_rules(options.rules))
    kept = Counter[str]()
    judged = 0
    try:
        with options.trace.open("rb") as file:
            for message in _new_ones(file):
                judged += 1
                kept[_verdict(book, message).value] += 1
    except OSError as error:
        return failed(FAILED, f"{options.trace}: {error.strerror}")
    except InvalidArgument as error:
        return failed(FAILED, f"{options.trace} is not a trace, or damaged: {error}")
    for view in book.views():
        for (topic, limit), count in sorted(view.broken.items(), key=lambda item: (item[0][0], item[0][1].value)):
            fields = {"rule": view.rule.name, "topic": topic, "limit": limit.value, "messages": count}
            fields["on_break"] = view.rule.on_break.value
            text = f"{view.rule.name}: {count} messages on {escaped(topic) or 'other topics'} break {limit.value}"
            _say(options, fields, f"{text}: {view.rule.on_break.value}")
        if not view.broken:
            fields = {"rule": view.rule.name, "messages": 0}
            _say(options, fields, f"{view.rule.name}: no message breaks it")
    ignored, rejected = kept[Verdict.IGNORE.value], kept[Verdict.REJECT.value]
    fields = {"judged": judged, "ignored": ignored, "rejected": rejected}
    _say(options, fields, f"{judged} messages: {ignored} would be ignored, {rejected} rejected")
    return 0


def _say(options: argparse.Namespace, fields: dict[str, Any], text: str) -> None:
    print(document(fields) if options.json else clean(text))


class _Captured(NamedTuple):
    topic: str
    size: int
    sender: PeerId | None
    seqno: int | None
    source: PeerId
    at: float


def _new_ones(file: Any) -> Iterator[_Captured]:
    """The messages of gossip that came in, in order, without those that the node would know as its own or seen.

    Their signatures are taken for valid. Of unsigned ones nobody can tell here whether they came before.
    """
    seen: dict[tuple[str, str, int], float] = {}
    ttl = GossipConfig().seen_ttl
    own: object = None
    for shown in messages(records(file)):
        record, found = shown.record, shown.message
        if record["event"] == "trace":
            own = record.get("peer")
        if found is None or record.get("direction") != "in":
            continue
        at = float(record["monotonic"])
        for message in found.fields.get("messages", ()) if found.kind == "gossip" else ():
            topic, size, sender, seqno = message["topic"], message["size"], message["from"], message["seqno"]
            try:
                source = PeerId.from_text(record.get("peer", ""))
                author = PeerId.from_text(sender) if sender else None
            except SidecarError:
                continue  # no node would take it
            if sender == own:
                continue  # its own, on its way back
            if sender and seqno is not None:
                key = (topic, sender, seqno)
                if at - seen.get(key, float("-inf")) < ttl:
                    continue
                seen.pop(key, None)
                seen[key] = at
                if len(seen) > _REMEMBERED:
                    del seen[next(iter(seen))]
            yield _Captured(topic, size, author if message["signed"] else None, seqno, source, at)


def _verdict(book: RuleBook, message: _Captured) -> Verdict:
    rules = book.of(message.topic)
    if rules is None:
        return Verdict.ACCEPT
    senders = [message.sender] if message.sender is not None else None
    seqnos = [message.seqno] if message.seqno is not None and senders is not None else None
    candidates = Candidates(message.topic, [bytes(message.size)], senders, seqnos, message.source)
    verdicts = rules.judge(candidates, message.at)
    return verdicts[0] if verdicts is not None else Verdict.ACCEPT
