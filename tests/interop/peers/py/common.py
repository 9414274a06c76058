"""What the modules of this program share."""

import base64
import json


class Unsupported(Exception):
    """py-libp2p cannot do this; the text says why."""


def say(**line):
    print(json.dumps(line), flush=True)


def b64(data):
    return base64.b64encode(data).decode()


def plain(address):
    return str(address).split("/p2p/")[0]
