"""`sidecar advertise`."""

import argparse

from sidecar_client import Client

from .common.client import Output, add_client_flags, talk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the name, by which `sidecar discover NAME` finds this node")
    parser.add_argument(
        "--ttl", type=float, default=0.0, metavar="SECONDS", help="end after so long; else Ctrl-C ends it"
    )
    add_client_flags(parser, timeout=False)


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        async with client.advertise(options.name, ttl=options.ttl) as advertisement:
            async for told in advertisement.announcements():
                fields = {
                    "name": options.name,
                    "holders": told.holders,
                    "asked": told.asked,
                    "next_announcement": told.next_announcement,
                }
                await out.record(fields, f"{options.name}: {told.holders} of {told.asked} peers hold it")
        return 0

    return talk(options, conversation)
