"""`sidecar config`."""

import argparse
import json
import sys
import tomllib

from sidecar_client import Client

from ..config import describe
from .common.client import DEFAULT_TIMEOUT, Output, add_api_flag, talk
from .common.config_flags import add_config_flags, errors_told, load_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "sidecar config [--json] [--config FILE] [--KEY VALUE]...\n"
        "       sidecar config --running [--api TARGET] [--json]\n"
        "       sidecar config --template"
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--template", action="store_true", help="print a documented file with every key instead")
    shape.add_argument("--running", action="store_true", help="ask the running sidecar for what is in force there")
    parser.add_argument("--json", action="store_true", help="one JSON document: value and origin of every key")
    add_api_flag(parser)
    parser.set_defaults(timeout=DEFAULT_TIMEOUT)
    add_config_flags(parser)


@errors_told
def run(options: argparse.Namespace) -> int:
    if options.template:
        sys.stdout.write(describe.template())
        return 0
    if options.running:
        return _running(options)
    loaded = load_config(options)
    sys.stdout.write(json.dumps(describe.as_json(loaded)) + "\n" if options.json else describe.in_force(loaded))
    return 0


def _running(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        entries = await client.configuration()
        if out.as_json:
            await out.record(
                {
                    entry.name: {"value": tomllib.loads(f"x = {entry.value}")["x"], "origin": entry.source}
                    for entry in entries
                }
            )
            return 0
        section = ""
        lines = []
        for entry in entries:
            name = entry.name.partition(".")
            if name[0] != section:
                section = name[0]
                lines += ["", f"[{section}]"]
            lines.append(describe.line(name[2], entry.value, entry.source))
        await out.record({}, *lines[1:])
        return 0

    return talk(options, conversation)
