"""`sidecar outbox`."""

import argparse
import time
from typing import Any

from sidecar_client import Client, OutboxEvent, OutboxMessage

from .common.client import Output, add_client_flags, talk
from .common.exit_codes import USAGE_WRONG
from .common.said import failed, moment
from .status import duration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "sidecar outbox [list | watch | withdraw] [--peer PEER] [--protocol PROTOCOL] [--cursor N] [--json]"
    parser.add_argument(
        "action",
        choices=["list", "watch", "withdraw"],
        nargs="?",
        default="list",
        help="what waits; what becomes of each, as it becomes known; end those that no peer is known to have",
    )
    parser.add_argument("--peer", metavar="PEER", default="", help="only messages to this peer; withdraw needs it")
    parser.add_argument("--protocol", metavar="PROTOCOL", default="", help="only messages by this protocol")
    parser.add_argument(
        "--cursor", metavar="N", type=int, help="watch: begin behind this event; 0: with the oldest that is kept"
    )
    parser.add_argument("--limit", metavar="N", type=int, default=1000, help="list: at most so many; default: 1000")
    add_client_flags(parser, timeout=False)


def run(options: argparse.Namespace) -> int:
    if options.action == "withdraw" and not options.peer:
        return failed(USAGE_WRONG, "withdraw needs --peer PEER: those to whom no message is to go")

    async def conversation(client: Client, out: Output) -> int:
        match options.action:
            case "watch":
                watch = client.watch_outbox(cursor=options.cursor, peer_id=options.peer, protocol=options.protocol)
                async with watch:
                    await out.listening("outcomes")
                    async for event in watch:
                        await out.record(_event_fields(event), _event_line(event))
            case "withdraw":
                count = await client.withdraw(options.peer, protocol=options.protocol)
                await out.record({"withdrawn": count}, f"withdrawn: {count}")
            case _:
                found = await client.outbox(peer_id=options.peer, protocol=options.protocol, limit=options.limit)
                for message in found:
                    await out.record(_fields(message), _line(message))
                if not found:
                    await out.remark("nothing waits")
        return 0

    return talk(options, conversation)


def _fields(message: OutboxMessage) -> dict[str, Any]:
    return {
        **message._asdict(),
        "message_id": message.message_id._asdict(),
        "created": moment(message.created),
        "expires": moment(message.expires),
    }


def _line(message: OutboxMessage) -> str:
    left = max(0.0, message.expires - time.time())
    where = "the peer's sidecar has it" if message.held else "waits here"
    return (
        f"{message.peer_id}  {message.protocol}  {message.message_id.sequence:>6}  {message.size:>8} bytes  {where}, "
        f"for {duration(left)}"
    )


def _event_fields(event: OutboxEvent) -> dict[str, Any]:
    return {
        **event._asdict(),
        "message_id": event.message_id._asdict(),
        "outcome": event.outcome.name,
        "time": moment(event.time),
    }


def _event_line(event: OutboxEvent) -> str:
    why = f": {event.reason}" if event.reason else ""
    return f"{event.peer_id}  {event.protocol}  {event.message_id.sequence:>6}  {event.outcome.name}{why}"
