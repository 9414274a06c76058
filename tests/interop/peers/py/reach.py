"""Circuit relays, and holes punched through them."""

from common import Unsupported
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.relay.circuit_v2.config import RelayConfig, RelayRole
from libp2p.relay.circuit_v2.dcutr import DCUtRProtocol
from libp2p.relay.circuit_v2.protocol import PROTOCOL_ID, CircuitV2Protocol
from libp2p.relay.circuit_v2.transport import CircuitV2Transport
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

CIRCUIT = "/p2p-circuit"


class Reach:
    def serve_reach(self, options):
        self.circuits = self.circuit_transport = self.dcutr = None
        if options.relay or options.punch:
            self.circuits = CircuitV2Protocol(self.host, allow_hop=options.relay)
            # With the role of a client, it would ask for a place before each dial.
            config = RelayConfig(roles=RelayRole.STOP)
            self.circuit_transport = CircuitV2Transport(self.host, self.circuits, config)
        if options.punch:
            self.dcutr = DCUtRProtocol(self.host)

    async def run_reach(self, stack):
        for service in (self.circuits, self.dcutr):
            if service is not None:
                await stack.enter_async_context(background_trio_service(service))
                await service.event_started.wait()

    async def dial_circuit(self, address):
        """Connect to who is behind a relay; returns who that is."""
        if self.circuit_transport is None:
            raise Unsupported("it was started without --relay or --punch")
        address = Multiaddr(address)
        _, peer_id = self.circuit_transport.parse_circuit_ma(address)
        await self.circuit_transport.dial(address)
        return peer_id

    async def op_reserve(self, cmd):
        relay = info_from_p2p_addr(Multiaddr(cmd["address"]))
        await self.host.connect(relay)
        stream = await self.host.new_stream(relay.peer_id, [PROTOCOL_ID])
        if not await self.circuit_transport.reserve(stream, relay.peer_id, self.nursery):
            raise ConnectionError("the relay gives no place; its answer is in the log alone")
        await stream.close()
        return {"addresses": [cmd["address"]]}  # it keeps none of those that the relay tells
