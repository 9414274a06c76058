"""`sidecar events`."""

import argparse
import time

from sidecar_client import Client

from .common.client import Output, add_client_flags, add_count, some, talk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_count(parser)
    add_client_flags(parser, timeout=False)
    parser.epilog = "at first come the newest records of the sidecar's log, at most 1,000, then more as they arise"


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        async for event in some(client.watch_events(), options.count, out):
            at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(event.time)) + f".{int(event.time % 1 * 1000):03d}Z"
            line = f"{at} {event.severity.upper()} {event.part}: {event.message}"
            fields = {"severity": event.severity, "part": event.part, "message": event.message, "fields": event.fields}
            await out.record({"time": at, **fields}, line)
        return 0

    return talk(options, conversation)
