"""`sidecar score`."""

import argparse

from sidecar_client import Client

from .ban import time_of
from .common.client import Output, add_client_flags, talk
from .status import duration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER", help="the peer id")
    parser.add_argument(
        "score", metavar="POINTS", type=float, help="what to add to its score, such as -100; 0 takes back what was set"
    )
    parser.add_argument(
        "--for",
        dest="time",
        type=time_of,
        metavar="TIME",
        help="how long, such as 30m or 1h; default: while it is known",
    )
    add_client_flags(parser)
    parser.epilog = (
        "Below 0 a peer is kept out of meshes; `sidecar peers --scores` shows the scores, and what they are made of.\n"
        "It does not outlast a restart. `sidecar ban` shuts a peer out."
    )


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        await client.set_peer_score(options.peer, options.score, duration=options.time)
        fields = {"peer_id": options.peer, "score": options.score, "seconds": options.time}
        how_long = f" for {duration(options.time)}" if options.time is not None else ""
        points = f"{options.score:+g} points" if options.score else "nothing more"
        await out.record(fields, f"{points} for {options.peer}{how_long}")
        return 0

    return talk(options, conversation)
