"""`sidecar inbox`."""

import argparse
import time
from typing import Any

from sidecar_client import Client, InboxMessage

from .common.client import Output, add_client_flags, payload, printable, talk
from .common.exit_codes import USAGE_WRONG
from .common.said import failed, moment
from .status import duration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "sidecar inbox [list | dead | retry | purge] [ID ...] [--protocol PROTOCOL] [--data] [--json]"
    parser.add_argument(
        "action",
        choices=["list", "dead", "retry", "purge"],
        nargs="?",
        default="list",
        help="what waits for apps; the dead letters, delivered too often without being settled; deliver dead letters "
        "again; delete them",
    )
    parser.add_argument("ids", metavar="ID", type=int, nargs="*", help="retry, purge: these; else --all")
    parser.add_argument("--all", action="store_true", help="retry, purge: all, or all of --protocol")
    parser.add_argument("--peer", metavar="PEER", default="", help="list, dead: only messages of this peer")
    parser.add_argument("--protocol", metavar="PROTOCOL", default="", help="only messages by this protocol")
    parser.add_argument("--data", action="store_true", help="list, dead: with what is in them")
    parser.add_argument("--limit", metavar="N", type=int, default=1000, help="at most so many; default: 1000")
    add_client_flags(parser)


def run(options: argparse.Namespace) -> int:
    changes = options.action in ("retry", "purge")
    if changes and bool(options.ids) == options.all:
        return failed(USAGE_WRONG, f"{options.action} takes the numbers that `sidecar inbox dead` shows, or --all")
    if not changes and options.ids:
        return failed(USAGE_WRONG, f"{options.action} takes no numbers")

    async def conversation(client: Client, out: Output) -> int:
        match options.action:
            case "retry":
                count = await client.retry_dead_letters(options.ids, protocol=options.protocol)
                await out.record({"retried": count}, f"to be delivered again: {count}")
            case "purge":
                count = await client.purge_dead_letters(options.ids, protocol=options.protocol)
                await out.record({"purged": count}, f"deleted: {count}")
            case _:
                found = await client.inbox(
                    dead_letters=options.action == "dead",
                    peer_id=options.peer,
                    protocol=options.protocol,
                    with_data=options.data,
                    limit=options.limit,
                )
                for message in found:
                    await out.record(_fields(message, options.data), *_lines(message, options.data))
                if not found:
                    await out.remark("no dead letters" if options.action == "dead" else "nothing waits")
        return 0

    return talk(options, conversation)


def _fields(message: InboxMessage, with_data: bool) -> dict[str, Any]:
    fields = {
        **message._asdict(),
        "message_id": message.message_id._asdict(),
        "received": moment(message.received),
        "expires": moment(message.expires),
    }
    del fields["data"]
    return {**fields, **payload(message.data)} if with_data else fields


def _lines(message: InboxMessage, with_data: bool) -> list[str]:
    ago = duration(max(0.0, time.time() - message.received))
    why = f", {message.reason}" if message.reason else f", delivered {message.attempts} times"
    line = f"{message.id:>6}  {message.peer_id}  {message.protocol}  {message.size:>8} bytes  {ago} ago{why}"
    return [line, *printable(message.data).split("\n")] if with_data else [line]
