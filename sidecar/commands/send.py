"""`sidecar send`."""

import argparse

from sidecar_client import Client, SendOutcome

from .common.client import Output, add_client_flags, message_bytes, talk
from .common.exit_codes import FAILED

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
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER", help="the peer id")
    parser.add_argument("protocol", metavar="PROTOCOL", help="a name that the other side receives, such as /chat/1")
    parser.add_argument("message", metavar="MESSAGE", nargs="+", help="the message; - reads it from standard input")
    add_client_flags(parser)
    parser.epilog = "exit code: 0 when it was delivered to an app there, else 1"


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        data = await message_bytes(options.message)
        receipt = await client.send(options.peer, options.protocol, data)
        name = receipt.outcome.name
        meaning = MEANING.get(receipt.outcome, "")
        detail = f" ({receipt.detail})" if receipt.detail else ""
        await out.record({"outcome": name, "detail": receipt.detail}, f"{name}: {meaning}{detail}")
        return 0 if receipt.outcome is SendOutcome.DELIVERED else FAILED

    return talk(options, conversation)
