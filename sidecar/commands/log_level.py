"""`sidecar log-level`."""

import argparse

from sidecar_client import Client

from ..process.logs import LEVELS
from .common.client import Output, add_client_flags, talk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", metavar="PART", help="a part as lines of the log name it, such as net; all: the others")
    parser.add_argument(
        "level", metavar="LEVEL", choices=(*LEVELS, "none"), help=f"{', '.join(LEVELS)}; none: as all others"
    )
    add_client_flags(parser)
    parser.epilog = "it lasts until the sidecar ends; `log.level` and `log.levels` of the configuration stay"


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        part = "" if options.part == "all" else options.part
        level, parts = await client.set_log_level(part, "" if options.level == "none" else options.level)
        shown = [f"{name}: {own}" for name, own in parts.items()]
        await out.record({"level": level, "parts": parts}, f"all: {level}", *shown)
        return 0

    return talk(options, conversation)
