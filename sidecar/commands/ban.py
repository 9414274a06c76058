"""`sidecar ban`."""

import argparse
import math

from sidecar_client import Client

from ..config.kinds import seconds
from .common.client import Output, add_client_flags, talk
from .status import duration

_LONGEST = 10 * 365 * 86400.0  # seconds; what the API takes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "whom", metavar="PEER|CIDR", help="a peer id, an IP address, or a network such as 192.0.2.0/24 or 2001:db8::/32"
    )
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for those who look at it later")
    parser.add_argument(
        "--for",
        dest="time",
        type=time_of,
        metavar="TIME",
        help="how long, such as 30m, 1h or 30d; default: until unban",
    )
    add_client_flags(parser)
    parser.epilog = (
        "Its connections are closed, and it is neither let in nor dialled any more, also after a restart.\n"
        "Connections from a network are refused before their first byte, those of a peer when it has shown its key."
    )


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        peer_id, network = named(options.whom)
        banned = await client.ban_peer(peer_id, network=network, reason=options.reason, duration=options.time)
        closed = banned.connections_closed
        fields = {
            "peer_id": peer_id,
            "network": network,
            "reason": options.reason,
            "seconds": options.time,
            "connections_closed": closed,
            "warnings": list(banned.warnings),
        }
        how_long = f"for {duration(options.time)}" if options.time is not None else "until `sidecar unban`"
        gone = f"; {closed} connection{'s' * (closed != 1)} closed" if closed else ""
        await out.record(fields, f"{options.whom} is banned {how_long}{gone}", *notes(banned.warnings))
        return 0

    return talk(options, conversation)


def named(whom: str) -> tuple[str, str]:
    """A peer id, or an IP address or network, that is given in one word; the other of the two is empty."""
    return ("", whom) if "." in whom or ":" in whom or "/" in whom else (whom, "")


def notes(warnings: tuple[str, ...]) -> list[str]:
    """What else there is to know, as lines for people."""
    return [f"  note: {warning}" for warning in warnings]


def time_of(text: str) -> float:
    """A flag's time in seconds."""
    try:
        value: float = seconds(0.001, _LONGEST).read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}; allowed: a time such as 90s, 30m, 1h or 30d") from None
    return math.ceil(value * 1000) / 1000
