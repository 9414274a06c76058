"""`sidecar record`."""

import argparse

from sidecar_client import Client

from .client import Output, add_client_flags, message_bytes, payload, printable, talk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="put|get", required=True)
    put = actions.add_parser("put", description="Put a record into the DHT.", help="put a record into the DHT")
    put.add_argument("key", metavar="KEY", help="/namespace/name, of a namespace in dht.namespaces")
    put.add_argument("value", metavar="VALUE", nargs="+", help="the value; - reads standard input")
    put.add_argument("--quorum", type=int, default=0, metavar="N", help="fail unless so many peers take it")
    add_client_flags(put)
    get = actions.add_parser("get", description="Get a record from the DHT.", help="get a record from the DHT")
    get.add_argument("key", metavar="KEY", help="/namespace/name, of a namespace in dht.namespaces")
    get.add_argument("--quorum", type=int, default=0, metavar="N", help="how many values end the search; default: 3")
    add_client_flags(get)


def run(options: argparse.Namespace) -> int:
    async def put(client: Client, out: Output) -> int:
        receipt = await client.put_record(options.key, message_bytes(options.value), quorum=options.quorum)
        fields = {"key": options.key, "stored": receipt.stored, "asked": receipt.asked}
        out.record(fields, f"stored at {receipt.stored} of {receipt.asked} peers")
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
        out.record(fields, printable(record.value))
        return 0

    return talk(options, put if options.action == "put" else get)
