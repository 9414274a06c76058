"""`sidecar config`."""

import argparse
import json
import sys

from ..config import describe
from ..core.errors import ConfigError
from .settings import USAGE_WRONG, add_config_flags, complain, load_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "sidecar config [--template | --json] [--config FILE] [--KEY VALUE]..."
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--template", action="store_true", help="print a documented file with every key instead")
    shape.add_argument("--json", action="store_true", help="one JSON document: value and origin of every key")
    add_config_flags(parser)


def run(options: argparse.Namespace) -> int:
    if options.template:
        sys.stdout.write(describe.template())
        return 0
    try:
        loaded = load_config(options)
    except ConfigError as error:
        complain(error)
        return USAGE_WRONG
    sys.stdout.write(json.dumps(describe.as_json(loaded)) + "\n" if options.json else describe.in_force(loaded))
    return 0
