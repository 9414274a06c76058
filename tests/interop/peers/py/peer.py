"""A py-libp2p node driven by JSON lines; ../README.md says how."""

import contextlib
import importlib.metadata
import json
import logging
import socket
import sys
import time

import trio
from common import Unsupported, plain, say
from gossip import Gossip
from libp2p.custom_types import TProtocol
from libp2p.discovery.events.peerDiscovery import peerDiscovery
from libp2p.host.ping import perform_ping_roundtrip
from libp2p.identity.identify import identify as identify_module
from libp2p.identity.identify_push.identify_push import ID_PUSH, identify_push_handler_for
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr
from options import make_host, read_options
from reach import CIRCUIT, Reach
from records import Records, make_dht
from streams import Streams, to_end

AGENT = "py-libp2p/" + importlib.metadata.version("libp2p")
PING = TProtocol("/ipfs/ping/1.0.0")
LOOK_SECONDS = 0.02  # py-libp2p has no events for most of what we tell, so it is looked at


def found(info):
    say(event="found", peer_id=str(info.peer_id), addresses=[plain(address) for address in info.addrs])


class Node(Streams, Records, Gossip, Reach):
    def __init__(self, options):
        self.options = options
        identify_module.PROTOCOL_VERSION = f"sidecar/{options.network}"
        identify_module.AGENT_VERSION = AGENT
        self.host = make_host(options)
        # In the thread of multicast DNS. The host's own handler dials at once: whether others find us would not show.
        peerDiscovery._peer_discovered_handlers[:] = [found]
        self.dht = make_dht(self.host, options)
        self.serve_gossip(options)
        self.serve_streams()
        self.serve_reach(options)
        self.serve_push = identify_push_handler_for(self.host)
        self.host.set_stream_handler(ID_PUSH, self.pushed)
        self.seen = {kind: set() for kind in ("connected", "identified", "dht_peer", "topic_peer", "graft")}

    async def run(self):
        listen = [Multiaddr(address) for address in self.options.listen]
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.host.run(listen_addrs=listen))
            await stack.enter_async_context(background_trio_service(self.pubsub))
            await stack.enter_async_context(background_trio_service(self.router))
            if self.dht is not None:
                await stack.enter_async_context(background_trio_service(self.dht))
            await self.run_reach(stack)
            await self.pubsub.wait_until_ready()
            async with trio.open_nursery() as self.nursery:
                me = self.host.get_id()
                addresses = [f"{plain(a)}/p2p/{me}" for a in self.host.get_transport_addrs()]
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
            self.watch_scores()
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
            if present and kind == "identified" and self.dht is not None:
                # By itself it takes in only whom a lookup met and who opened a stream. It checks that they are servers.
                self.nursery.start_soon(self.dht.add_peer, ID.from_base58(entry[0]))
        elif kind == "topic_peer":
            say(event=kind, topic=entry[0], peer_id=entry[1], joined=present)
        else:
            say(event="graft" if present else "prune", topic=entry[0], peer_id=entry[1])

    def line(self, connection):
        addresses = connection.get_transport_addresses()
        direction = "outbound" if connection.muxed_conn.is_initiator else "inbound"
        address = str(addresses[0]) if addresses else ""
        return {"peer_id": str(connection.muxed_conn.peer_id), "address": address, "direction": direction}

    async def pushed(self, stream):
        peer, store = stream.muxed_conn.peer_id, self.host.get_peerstore()
        await self.serve_push(stream)
        addresses = [plain(a) for a in store.addrs(peer)]
        say(event="pushed", peer_id=str(peer), protocols=list(store.get_protocols(peer)), addresses=addresses)

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
        if CIRCUIT in cmd["address"]:
            peer_id = await self.dial_circuit(cmd["address"])
            while peer_id not in self.host._identified_peers:  # noqa: ASYNC110 - there is no event for it
                await trio.sleep(LOOK_SECONDS)
            return {"peer_id": str(peer_id)}
        # It dials no /tls/ws that a /p2p/ follows, and puts that there itself: is_valid_websocket_multiaddr in
        # transport/websocket/multiaddr_utils.py wants /ws last. The older name for the same passes.
        info = info_from_p2p_addr(Multiaddr(cmd["address"].replace("/tls/ws", "/wss")))
        # A peer that it lost is dialled at once by itself; where that fails, it refuses to dial for a while.
        self.host.get_network().unblock_peer(info.peer_id)
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
        stream = await self.host.new_stream(peer, [identify_module.ID])
        raw = b"".join([part async for part in to_end(stream)])
        told = identify_module.parse_identify_response(raw)
        return {
            "protocol_version": told.protocol_version, "agent_version": told.agent_version,
            "protocols": list(told.protocols), "addresses": [plain(Multiaddr(raw)) for raw in told.listen_addrs],
        }  # fmt: skip

    async def op_listen_add(self, cmd):
        network, address = self.host.get_network(), cmd["address"]
        if address in network.listeners:
            # Swarm.listen does nothing for an address that it was asked before, a free port's /tcp/0 included.
            with socket.create_server(("127.0.0.1", 0)) as probe:
                address = address.replace("/tcp/0", f"/tcp/{probe.getsockname()[1]}")
        if not await network.listen(Multiaddr(address)):
            raise ValueError(f"cannot listen at {address}")
        return {"addresses": [plain(a) for a in self.host.get_transport_addrs()]}


UNSUPPORTED = dict.fromkeys(
    ("flood", "tally", "echo_many", "connections", "bulk", "new_streams"), "this program does not measure"
)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    try:
        trio.run(Node(read_options()).run)
    except Unsupported as reason:
        say(event="unsupported", what=str(reason))
        sys.exit(3)
