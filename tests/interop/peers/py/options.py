"""The command line, and the host that it asks for."""

import argparse
import ssl

from common import Unsupported
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair as ed25519
from libp2p.crypto.rsa import create_new_key_pair as rsa
from libp2p.crypto.secp256k1 import create_new_key_pair as secp256k1
from multiaddr import Multiaddr

# Where py-libp2p 0.8.1 lacks something, by file and name in its package.
NO_ECDSA = (
    "ECDSA identities: crypto/serialization.py has no deserializer for KeyType.ECDSA, and the P-256 keys of"
    " crypto/ecc.py raise NotImplementedError for sign and verify"
)
NO_PSK = (
    "private networks: PskConn in security/pnet/psk_conn.py enciphers with Salsa20 under a nonce of 8 bytes,"
    " not with XSalsa20 under one of 24"
)
NO_UNSIGNED = (
    "StrictNoSign: Pubsub.publish in pubsub/pubsub.py puts author and sequence number into unsigned messages too"
)
NO_RESOLVER = "no option sets the name server: multiaddr's DNSResolver asks that of the system"
NO_SWITCH = {
    "autonat": "AutoNAT v2: host/autonat has version 1 only",
}


def read_options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", action="append", default=[])
    parser.add_argument("--network", default="interop")
    parser.add_argument("--key", required=True)
    parser.add_argument("--dht", default="off")
    parser.add_argument("--sign", default="strict")
    parser.add_argument("--key-type", default="ed25519")
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    parser.add_argument("--tls-ca")
    parser.add_argument("--psk")
    parser.add_argument("--gossip", default="latest")
    parser.add_argument("--record-ttl", type=float)
    parser.add_argument("--heartbeat-ms", type=int, default=1000)
    parser.add_argument("--announce")
    parser.add_argument("--degree", type=int, default=0)
    parser.add_argument("--expected-rate", action="append", default=[])
    parser.add_argument("--dns")
    parser.add_argument("--mdns", action="store_true")
    for switch in (*NO_SWITCH, "relay", "punch"):
        parser.add_argument(f"--{switch}", action="store_true")
    options = parser.parse_args()
    low, high = (options.degree - 1, options.degree + 1) if options.degree else (4, 12)
    options.degree, options.degree_low, options.degree_high = options.degree or 6, low, high
    for asked, why in (
        (options.key_type == "ecdsa", NO_ECDSA),
        (options.psk is not None, NO_PSK),
        (options.sign == "none", NO_UNSIGNED),
        (options.dns is not None, NO_RESOLVER),
        *((getattr(options, switch), why) for switch, why in NO_SWITCH.items()),
    ):
        if asked:
            raise Unsupported(why)
    return options


def make_host(options):
    seed = bytes.fromhex(options.key)
    makers = {"ed25519": lambda: ed25519(seed), "secp256k1": lambda: secp256k1(seed), "rsa": rsa}
    client = server = None
    if options.tls_ca:
        client = ssl.create_default_context(cafile=options.tls_ca)
    if options.tls_cert:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(options.tls_cert, options.tls_key)
    return new_host(
        key_pair=makers[options.key_type](), muxer_preference="YAMUX",
        enable_websocket=any(address.endswith("/ws") for address in options.listen),
        tls_client_config=client, tls_server_config=server,
        announce_addrs=[Multiaddr(options.announce)] if options.announce else None, enable_mDNS=options.mdns,
    )  # fmt: skip
