"""`sidecar send`."""

import argparse
from typing import Any

from sidecar_client import Client, Durable, SendOutcome

from .common.client import Output, add_client_flags, message_bytes, seconds, talk
from .common.exit_codes import FAILED, USAGE_WRONG
from .common.said import failed

# What each outcome means, and what to do about it.
MEANING = {
    SendOutcome.DELIVERED: "written to an app there",
    SendOutcome.NO_SUBSCRIBER: "the peer has it, but no app there receives this protocol",
    SendOutcome.LOCAL_QUEUE_FULL: "too much waits for this peer here; try again in a moment",
    SendOutcome.REMOTE_QUEUE_FULL: "the app there does not keep up; try again in a moment",
    SendOutcome.UNREACHABLE: "the peer cannot be reached",
    SendOutcome.REFUSED: "the peer does not take direct messages",
    SendOutcome.TOO_LARGE: "the message is over the bound (direct.max_message)",
    SendOutcome.TIMED_OUT: "it was sent, and no receipt came in time: it may have arrived or not",
    SendOutcome.UNKNOWN: "the connection was lost after it was sent: it may have arrived or not",
    SendOutcome.STORED: "on this node's disk until an app there has settled it; `sidecar outbox` shows what waits",
    SendOutcome.OUTBOX_FULL: "too much waits already; `sidecar outbox` shows it",
    SendOutcome.NOT_STORED: "this node's disk refuses; `sidecar doctor` looks at it",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER", help="the peer id")
    parser.add_argument("protocol", metavar="PROTOCOL", help="a name that the other side receives, such as /chat/1")
    parser.add_argument("message", metavar="MESSAGE", nargs="+", help="the message; - reads it from standard input")
    parser.add_argument("--durable", action="store_true", help="keep it on disk until an app there has settled it")
    parser.add_argument(
        "--ttl", type=seconds, metavar="SECONDS", help="with --durable: how long it is worth delivering"
    )
    parser.add_argument(
        "--request-id", default="", metavar="ID", help="the same message is not sent twice, however often this is run"
    )
    add_client_flags(parser)
    parser.epilog = "exit code: 0 when it was delivered to an app there, or with --durable is on disk, else 1"


def run(options: argparse.Namespace) -> int:
    if options.ttl is not None and not options.durable:
        return failed(USAGE_WRONG, "--ttl belongs to --durable")

    async def conversation(client: Client, out: Output) -> int:
        data = await message_bytes(options.message)
        durable = Durable(options.ttl) if options.durable else None
        receipt = await client.send(
            options.peer, options.protocol, data, durable=durable, request_id=options.request_id
        )
        name = receipt.outcome.name
        meaning = MEANING.get(receipt.outcome, "")
        detail = f" ({receipt.detail})" if receipt.detail else ""
        fields: dict[str, Any] = {"outcome": name, "detail": receipt.detail}
        if receipt.message_id is not None:
            fields["message_id"] = receipt.message_id._asdict()
        await out.record(fields, f"{name}: {meaning}{detail}")
        return 0 if receipt.outcome in (SendOutcome.DELIVERED, SendOutcome.STORED) else FAILED

    return talk(options, conversation)
