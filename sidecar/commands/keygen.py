"""`sidecar keygen`."""

import argparse
import json
import os
from pathlib import Path

from ..config import state_directory
from ..store.directory import KEY_FILE, StateDirectory
from ..store.identity_key import load_or_create_identity
from ..store.swarm_key import create_psk
from .common.config_flags import add_config_flags, errors_told, load_config
from .common.exit_codes import FAILED
from .common.said import failed

PSK_FILE = "swarm.key"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "sidecar keygen [FILE] [--psk] [--json] [--config FILE] [--state PATH]"
    parser.add_argument("file", metavar="FILE", nargs="?", type=Path, help="where; default: in the state directory")
    parser.add_argument("--psk", action="store_true", help="make the key of a private network instead (swarm.key)")
    parser.add_argument("--json", action="store_true", help="one JSON document, for scripts")
    add_config_flags(parser)
    parser.epilog = "A key that is there already is never overwritten: the command then fails."


@errors_told
def run(options: argparse.Namespace) -> int:
    name = PSK_FILE if options.psk else KEY_FILE
    file = options.file or state_directory(load_config(options).config, os.environ) / name
    if os.path.lexists(file):
        return failed(FAILED, f"{file} is there already; it is not overwritten")
    if options.psk:
        if options.file is None:
            with StateDirectory.open(file.parent):
                create_psk(file)
        else:
            create_psk(file)
        print(json.dumps({"file": str(file)}) if options.json else file)
        return 0
    if options.file is None:
        with StateDirectory.open(file.parent) as state:
            peer = state.identity().peer_id
    else:
        peer = load_or_create_identity(file).peer_id
    print(
        json.dumps({"peer_id": str(peer), "cid": peer.cid(), "file": str(file)}) if options.json else f"{peer}\n{file}"
    )
    return 0
