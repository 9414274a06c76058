"""A py-libp2p node driven by JSON lines; ../README.md says how."""

import argparse
import base64
import contextlib
import importlib.metadata
import json
import logging
import sys
import time

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair as ed25519
from libp2p.crypto.rsa import create_new_key_pair as rsa
from libp2p.crypto.secp256k1 import create_new_key_pair as secp256k1
from libp2p.custom_types import TProtocol
from libp2p.host.ping import perform_ping_roundtrip
from libp2p.identity.identify import identify as identify_module
from libp2p.kad_dht import kad_dht, peer_routing, provider_store, value_store
from libp2p.network.stream.exceptions import StreamEOF, StreamReset
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub import gossipsub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

AGENT = "py-libp2p/" + importlib.metadata.version("libp2p")
ECHO, SINK, SOURCE = map(TProtocol, ("/interop/echo/1", "/interop/sink/1", "/interop/source/1"))
PING = TProtocol("/ipfs/ping/1.0.0")
CHUNK = 64 << 10
LOOK_SECONDS = 0.02  # py-libp2p has no events for most of what we tell, so it is looked at
GOSSIP = {"1.0": 1, "1.1": 2, "1.2": 3, "latest": 3}


class Unsupported(Exception):
    """py-libp2p cannot do this; the text says why."""


def say(**line):
    print(json.dumps(line), flush=True)


def b64(data):
    return base64.b64encode(data).decode()


async def to_end(stream):
    while True:
        try:
            data = await stream.read(CHUNK)
        except StreamEOF:
            return
        if not data:
            return
        yield data


async def echo_back(stream):
    async for data in to_end(stream):
        await stream.write(data)
    await stream.close_write()


async def sink(stream):
    total = 0
    async for data in to_end(stream):
        total += len(data)
    await stream.write(total.to_bytes(8, "big"))
    await stream.close_write()


async def source(stream):
    frame = b""
    while len(frame) < 8:
        frame += await stream.read(8 - len(frame))
    left = int.from_bytes(frame, "big")
    while left:
        await stream.write(bytes(min(left, CHUNK)))
        left -= min(left, CHUNK)
    await stream.close_write()


class Node:
    def __init__(self, options):
        self.options = options
        identify_module.PROTOCOL_VERSION = f"sidecar/{options.network}"
        identify_module.AGENT_VERSION = AGENT
        self.kad = TProtocol(f"/sidecar/{options.network}/kad/1.0.0")
        for module in (kad_dht, peer_routing, provider_store, value_store):  # its prefix is a constant
            module.PROTOCOL_ID = self.kad
        seed = bytes.fromhex(options.key)
        makers = {"ed25519": lambda: ed25519(seed), "secp256k1": lambda: secp256k1(seed), "rsa": rsa}
        if options.key_type not in makers:
            raise Unsupported("ECDSA identities: py-libp2p has no such libp2p keys")
        self.host = new_host(key_pair=makers[options.key_type](), muxer_preference="YAMUX")
        names = (gossipsub.PROTOCOL_ID, gossipsub.PROTOCOL_ID_V11, gossipsub.PROTOCOL_ID_V12)
        self.router = gossipsub.GossipSub(
            protocols=names[: GOSSIP[options.gossip]][::-1], degree=6, degree_low=4, degree_high=12,
            heartbeat_interval=1, spam_protection_enabled=False, eclipse_protection_enabled=False,
        )  # fmt: skip
        self.pubsub = Pubsub(self.host, self.router, cache_size=8192)
        mode = kad_dht.DHTMode.CLIENT if options.dht == "client" else kad_dht.DHTMode.SERVER
        self.dht = None if options.dht == "off" else kad_dht.KadDHT(self.host, mode)
        for protocol, serve in ((ECHO, echo_back), (SINK, sink), (SOURCE, source)):
            self.host.set_stream_handler(protocol, serve)
        self.subscribed = {}
        self.seen = {kind: set() for kind in ("connected", "identified", "dht_peer", "topic_peer", "graft")}

    async def run(self):
        listen = [Multiaddr(address) for address in self.options.listen]
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.host.run(listen_addrs=listen))
            await stack.enter_async_context(background_trio_service(self.pubsub))
            await stack.enter_async_context(background_trio_service(self.router))
            if self.dht is not None:
                await stack.enter_async_context(background_trio_service(self.dht))
            await self.pubsub.wait_until_ready()
            async with trio.open_nursery() as self.nursery:
                me = self.host.get_id()
                addresses = [f"{str(a).split('/p2p/')[0]}/p2p/{me}" for a in self.host.get_transport_addrs()]
                say(event="ready", peer_id=str(me), addresses=addresses if listen else [], agent=AGENT)
                self.nursery.start_soon(self.look)
                reader = trio.wrap_file(sys.stdin)
                async for line in reader:
                    self.nursery.start_soon(self.answer, json.loads(line))
                self.nursery.cancel_scope.cancel()

    # ---- events

    def connections(self):
        return [c for group in self.host.get_network().connections.values() for c in group]

    def state(self):
        """What there is now, kind by kind; the differences are the events."""
        connected = {(str(c.muxed_conn.peer_id), id(c)) for c in self.connections()}
        known = self.host._identified_peers
        subscribed = set(self.subscribed)
        return {
            "connected": connected,
            "identified": {(str(peer),) for peer in known},
            "dht_peer": {(str(p),) for p in self.dht.routing_table.get_peer_ids()} if self.dht else set(),
            "topic_peer": {
                (t, str(p)) for t, peers in self.pubsub.peer_topics.items() if t in subscribed for p in peers
            },
            "graft": {(t, str(p)) for t, peers in self.router.mesh.items() if t in subscribed for p in peers},
        }

    async def look(self):
        while True:
            now = self.state()
            for kind, entries in now.items():
                for entry in entries - self.seen[kind]:
                    self.tell(kind, entry, True)
                for entry in self.seen[kind] - entries:
                    self.tell(kind, entry, False)
            self.seen = now
            await trio.sleep(LOOK_SECONDS)

    def tell(self, kind, entry, present):
        if kind == "connected":
            if not present:
                return say(event="disconnected", peer_id=entry[0])
            line = next((self.line(c) for c in self.connections() if id(c) == entry[1]), {"peer_id": entry[0]})
            say(event="connected", **line)
        elif kind in ("identified", "dht_peer"):
            if present:
                say(event=kind, peer_id=entry[0])
        elif kind == "topic_peer":
            say(event=kind, topic=entry[0], peer_id=entry[1], joined=present)
        else:
            say(event="graft" if present else "prune", topic=entry[0], peer_id=entry[1])

    def line(self, connection):
        addresses = connection.get_transport_addresses()
        direction = "outbound" if connection.muxed_conn.is_initiator else "inbound"
        address = str(addresses[0]) if addresses else ""
        return {"peer_id": str(connection.muxed_conn.peer_id), "address": address, "direction": direction}

    # ---- commands

    async def answer(self, cmd):
        try:
            operation = getattr(self, "op_" + cmd["op"], None)
            if operation is None:
                why = UNSUPPORTED.get(cmd["op"])
                raise Unsupported(why) if why else ValueError(f"unknown op {cmd['op']}")
            with trio.fail_after(cmd.get("timeout", 10)):
                result = await operation(cmd)
            say(id=cmd["id"], ok=True, **(result or {}))
            if cmd["op"] == "quit":
                self.nursery.cancel_scope.cancel()
        except Unsupported as why:
            say(id=cmd["id"], ok=False, error=f"unsupported: {why}")
        except Exception as error:  # noqa: BLE001 - the boundary of a command
            say(id=cmd["id"], ok=False, error=f"{type(error).__name__}: {error}")

    async def op_quit(self, cmd):
        pass

    async def op_connect(self, cmd):
        info = info_from_p2p_addr(Multiaddr(cmd["address"]))
        await self.host.connect(info)
        while info.peer_id not in self.host._identified_peers:  # noqa: ASYNC110 - there is no event for it
            await trio.sleep(LOOK_SECONDS)
        return {"peer_id": str(info.peer_id)}

    async def op_disconnect(self, cmd):
        await self.host.disconnect(ID.from_base58(cmd["peer_id"]))

    async def op_peers(self, cmd):
        return {"peers": [self.line(c) for c in self.connections()]}

    async def op_ping(self, cmd):
        stream = await self.host.new_stream(ID.from_base58(cmd["peer_id"]), [PING])
        start = time.perf_counter()
        await perform_ping_roundtrip(stream)
        elapsed = time.perf_counter() - start
        await stream.reset()
        return {"rtt_ms": elapsed * 1e3}

    async def op_identify(self, cmd):
        peer = ID.from_base58(cmd["peer_id"])
        store = self.host.get_peerstore()
        stream = await self.host.new_stream(peer, [identify_module.ID])
        raw = b"".join([part async for part in to_end(stream)])
        told = identify_module.parse_identify_response(raw)
        return {
            "protocol_version": told.protocol_version, "agent_version": told.agent_version,
            "protocols": list(told.protocols), "addresses": [str(a).split("/p2p/")[0] for a in store.addrs(peer)],
        }  # fmt: skip

    def table(self):
        if self.dht is None:
            raise ValueError("the DHT is off")
        return self.dht

    async def op_dht_peers(self, cmd):
        return {"peers": [str(p) for p in self.table().routing_table.get_peer_ids()]}

    async def op_find_peer(self, cmd):
        found = await self.table().find_peer(ID.from_base58(cmd["peer_id"]))
        if found is None:
            raise ValueError("peer not found")
        return {"addresses": [str(a).split("/p2p/")[0] for a in found.addrs]}

    async def op_closest_peers(self, cmd):
        target = ID.from_base58(cmd["peer_id"]).to_bytes()
        return {"peers": [str(p) for p in await self.table().peer_routing.find_closest_peers_network(target)]}

    async def op_echo(self, cmd):
        stream = await self.host.new_stream(ID.from_base58(cmd["peer_id"]), [ECHO])
        back = bytearray()

        async def read():
            async for data in to_end(stream):
                back.extend(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await stream.write(base64.b64decode(cmd["data"]))
            await stream.close_write()
        return {"data": b64(back)}

    async def op_subscribe(self, cmd):
        if cmd.get("quiet") or cmd.get("ack_to"):
            raise Unsupported("quiet subscriptions: this peer is not benchmarked")
        if cmd["topic"] in self.subscribed:
            raise ValueError(f"already subscribed to {cmd['topic']}")
        self.subscribed[cmd["topic"]] = subscription = await self.pubsub.subscribe(cmd["topic"])
        self.nursery.start_soon(self.messages, cmd["topic"], subscription)

    async def messages(self, topic, subscription):
        me = self.host.get_id()
        with contextlib.suppress(trio.EndOfChannel, trio.ClosedResourceError):
            while True:
                message = await subscription.get()
                author = ID(message.from_id) if message.from_id else None
                if author == me:
                    continue  # it always delivers to itself
                forwarder = getattr(message, "received_from", None)
                # py-libp2p does not tell who forwarded a message; among two nodes it is the author.
                say(event="message", topic=topic, data=b64(message.data), source=str(forwarder or author or ""),
                    **{"from": str(author) if author else None})  # fmt: skip

    async def op_unsubscribe(self, cmd):
        del self.subscribed[cmd["topic"]]
        await self.pubsub.unsubscribe(cmd["topic"])

    async def op_topic_peers(self, cmd):
        return {"peers": [str(p) for p in self.pubsub.peer_topics.get(cmd["topic"], ())]}

    async def op_mesh(self, cmd):
        return {"peers": [str(p) for p in self.router.mesh.get(cmd["topic"], ())]}

    async def op_publish(self, cmd):
        await self.pubsub.publish(cmd["topic"], base64.b64decode(cmd["data"]))

    async def op_gossip_peers(self, cmd):
        return {"peers": {str(peer): str(protocol) for peer, protocol in self.router.peer_protocol.items()}}

    async def op_streams_reset(self, cmd):
        peer = ID.from_base58(cmd["peer_id"])
        streams = []
        for _ in range(cmd["count"]):
            streams.append(await self.host.new_stream(peer, [ECHO]))
            await streams[-1].write(b"x")
        for stream in streams:
            with contextlib.suppress(StreamReset):
                await stream.reset()
        return {"opened": len(streams)}


UNSUPPORTED = dict.fromkeys(
    ("flood", "tally", "echo_many", "connections", "bulk", "new_streams"), "this program does not measure"
) | dict.fromkeys(
    (
        "protocol_add", "protocol_remove", "listen_add", "signed_record", "put_value", "get_value", "provide",
        "find_providers", "stream_open", "stream_accept", "stream_write", "stream_read", "stream_close_write",
        "stream_reset", "scores", "publish_tampered",
    ),
    "the peer program for py-libp2p does not serve this op",
)  # fmt: skip


def read_options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", action="append", default=[])
    parser.add_argument("--network", default="interop")
    parser.add_argument("--key", required=True)
    parser.add_argument("--dht", default="off")
    parser.add_argument("--sign", default="strict")
    parser.add_argument("--key-type", default="ed25519")
    parser.add_argument("--gossip", default="latest")
    options, further = parser.parse_known_args()
    if further:
        raise Unsupported(f"the option {further[0]}: the peer program for py-libp2p does not serve it")
    if options.sign == "none":
        raise Unsupported("StrictNoSign: Pubsub.publish puts author and sequence number into unsigned messages too")
    if any(address.endswith("/ws") for address in options.listen):
        raise Unsupported("WebSocket: the peer program for py-libp2p serves TCP only")
    return options


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    try:
        trio.run(Node(read_options()).run)
    except Unsupported as reason:
        say(event="unsupported", what=str(reason))
        sys.exit(3)
