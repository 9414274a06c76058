"""The DHT's lookups, values and providers; signed peer records."""

import base64
import hashlib

from common import Unsupported, b64, plain
from libp2p.custom_types import TProtocol
from libp2p.kad_dht import common as constants
from libp2p.kad_dht import kad_dht, peer_routing, provider_store, value_store
from libp2p.peer.id import ID
from libp2p.records.validator import Validator


class Interop(Validator):
    """The rules of `/interop/` keys."""

    def validate(self, key, value):
        if value.startswith(b"bad"):
            raise ValueError("bad value")

    def select(self, key, values):
        return values.index(max(values))


def make_dht(host, options):
    protocol = TProtocol(f"/sidecar/{options.network}/kad/1.0.0")
    for module in (constants, kad_dht, peer_routing, provider_store, value_store):  # it is a constant
        module.PROTOCOL_ID = protocol
    if options.record_ttl is not None:  # so are these
        value_store.DEFAULT_TTL = provider_store.PROVIDER_RECORD_EXPIRATION_INTERVAL = options.record_ttl
    if options.dht == "off":
        return None
    mode = kad_dht.DHTMode.CLIENT if options.dht == "client" else kad_dht.DHTMode.SERVER
    dht = kad_dht.KadDHT(host, mode)
    dht.register_validator("interop", Interop())
    return dht


def rendezvous(name):
    return b"\x12\x20" + hashlib.sha256(name.encode()).digest()


def key_of(cmd):
    try:
        return base64.b64decode(cmd["key"]).decode()
    except UnicodeDecodeError:
        raise Unsupported("keys that are not UTF-8: KadDHT.put_value in kad_dht/kad_dht.py takes text") from None


class Records:
    """Needs `host` and `dht`."""

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
        return {"addresses": [plain(a) for a in found.addrs]}

    async def op_closest_peers(self, cmd):
        target = ID.from_base58(cmd["peer_id"]).to_bytes()
        return {"peers": [str(p) for p in await self.table().peer_routing.find_closest_peers_network(target)]}

    async def op_put_value(self, cmd):
        await self.table().put_value(key_of(cmd), base64.b64decode(cmd["value"]))

    async def op_get_value(self, cmd):
        value = await self.table().get_value(key_of(cmd))
        if value is None:
            raise ValueError("value not found")
        return {"value": b64(value)}

    async def op_provide(self, cmd):
        if not await self.table().provider_store.provide(rendezvous(cmd["name"])):
            raise ValueError("told nobody")

    async def op_find_providers(self, cmd):
        store = self.table().provider_store
        found = await store.find_providers(rendezvous(cmd["name"]), cmd.get("count", 20))
        return {"peers": [{"peer_id": str(p.peer_id), "addresses": [plain(a) for a in p.addrs]} for p in found]}

    async def op_signed_record(self, cmd):
        envelope = self.host.get_peerstore().get_peer_record(ID.from_base58(cmd["peer_id"]))
        return {"record": None if envelope is None else b64(envelope.marshal_envelope())}
