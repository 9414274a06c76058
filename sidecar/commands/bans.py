"""`sidecar bans`."""

import argparse
import time
from typing import Any

from sidecar_client import Ban, Client

from .common.client import Output, add_client_flags, talk
from .common.said import moment
from .status import duration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_client_flags(parser)
    parser.epilog = "The last column counts what it has refused since the sidecar started."


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        count = 0
        async for ban in client.bans():
            count += 1
            await out.record(_fields(ban), _line(ban))
        if not count:
            await out.remark("nobody is banned")
        return 0

    return talk(options, conversation)


def _fields(ban: Ban) -> dict[str, Any]:
    return {
        "peer_id": ban.peer_id,
        "network": ban.network,
        "reason": ban.reason,
        "created": None if ban.create_time is None else moment(ban.create_time),
        "expires": None if ban.expire_time is None else moment(ban.expire_time),
        "configured": ban.configured,
        "refused": ban.refused,
    }


def _line(ban: Ban) -> str:
    if ban.configured:
        until, why = "configured", "on a deny list"
    else:
        until = "no end"
        if ban.expire_time is not None:
            until = f"for {duration(max(1.0, ban.expire_time - time.time()))}"
        why = ban.reason or "-"
    return f"{ban.peer_id or ban.network:52}  {until:14}  {ban.refused:7} refused  {why}"
