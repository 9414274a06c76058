"""`sidecar record`."""

import argparse

from sidecar_client import Client

from .common.client import Output, add_client_flags, message_bytes, payload, talk
from .common.exit_codes import USAGE_WRONG
from .common.said import failed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("put", "get"), help="what to do")
    parser.add_argument("key", metavar="KEY", help="/namespace/name, of a namespace in dht.namespaces")
    parser.add_argument("value", metavar="VALUE", nargs="*", help="for put, the value; - reads standard input")
    note = "put: fail unless so many peers take it; get: so many values end the search, default 3"
    parser.add_argument("--quorum", type=int, default=0, metavar="N", help=note)
    add_client_flags(parser)


def run(options: argparse.Namespace) -> int:
    async def put(client: Client, out: Output) -> int:
        receipt = await client.put_record(options.key, await message_bytes(options.value), quorum=options.quorum)
        fields = {"key": options.key, "stored": receipt.stored, "asked": receipt.asked}
        await out.record(fields, f"stored at {receipt.stored} of {receipt.asked} peers")
        return 0

    async def get(client: Client, out: Output) -> int:
        record = await client.get_record(options.key, quorum=options.quorum)
        fields = {
            "key": options.key,
            "holders": record.holders,
            "expires_at": record.expires_at,
            "publisher": record.publisher,
            "sequence": record.sequence,
            **payload(record.value),
        }
        await out.content(fields, "", record.value)
        return 0

    if (options.action == "put") is not bool(options.value):
        return failed(USAGE_WRONG, "put takes a value; get takes none")
    return talk(options, put if options.action == "put" else get)
