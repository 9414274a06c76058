"""The one place where the services of a node are put together."""

import random
from collections.abc import Sequence
from typing import Any

from ..autonat import Reachability
from ..events import ScoreView
from ..gate import Gate
from ..gossip import Verify
from ..identity import Identity
from ..parameters import NodeConfig
from ..records import OpenRecord
from ..relay import RelayStandings
from ..types import PeerId
from .circuits import Circuits
from .connection_manager import ConnectionManager
from .dial_back import DialBackService
from .dialling import Dialling
from .direct import DirectMessageService
from .durable import DurableMessageService
from .gate import GateService
from .gossip import GossipService
from .history import HistoryService
from .hole_punching import HolePunching
from .identify import IdentifyService
from .kademlia import KademliaService
from .operations import Operations
from .ping import PingService
from .probe import ProbeService
from .reachability import ReachabilityService
from .readiness import Readiness
from .records import Records
from .relay_client import RelayClient
from .relay_server import RelayServer
from .rendezvous import Rendezvous
from .requests import PeerRequests
from .service import Service
from .streams import StreamsService
from .switch import PeerTable, Switch
from .turn import Turn
from .unity import Unity
from .workload import Workload


class Services:
    """All services of one node. `every` has them in the order in which they are told of peers and of time."""

    def __init__(
        self,
        config: NodeConfig,
        identity: Identity,
        gate: Gate,
        rng: random.Random,
        now: float,
        wall_ns: int,
        sequence: int,
        verify: Verify,
        open_record: OpenRecord,
    ) -> None:
        every: list[Service[Any]] = []  # filled below, before anybody is told anything
        table = PeerTable()
        self.turn = turn = Turn()
        self.operations = operations = Operations(turn, config.max_operations)
        self.workload = workload = Workload(config.work, turn, table, config.exempt_networks)
        self.switch = switch = Switch(config, identity, rng, turn, table, workload)
        ping = PingService(switch)
        relays = RelayStandings()
        self.dialling = dialling = Dialling(switch, gate, workload, ping, lambda: kademlia, self._score, every, relays)
        self.kademlia = kademlia = KademliaService(switch, dialling, ping, now, wall_ns)
        self.identify = identify = IdentifyService(switch, dialling, sequence, open_record)
        self.gossip = gossip = GossipService(switch, dialling, identify, workload, identity, now, sequence, verify)
        self.direct = direct = DirectMessageService(switch, dialling, now)
        self.durable = durable = DurableMessageService(switch, dialling)
        self.history = history = HistoryService(switch, dialling, gossip, now)
        self.streams = streams = StreamsService(switch, dialling, operations, identify)
        self.unity = unity = Unity(switch, dialling, kademlia)
        self.records = records = Records(switch, kademlia, operations, identity, sequence)
        self.gate = GateService(switch, dialling, kademlia, operations, gate)
        self.probe = ProbeService(
            switch, dialling, operations, gossip, kademlia, identity, in_use=(direct, durable, streams), now=now
        )
        self.rendezvous = Rendezvous(switch, kademlia, operations)
        self.epoch = epoch = wall_ns / 1e9 - now
        self.relay_client = RelayClient(switch, dialling, identify, kademlia, relays, epoch, self._unreachable)
        self.relay_server = RelayServer(switch, kademlia, self.relay_client, epoch)
        self.circuits = Circuits(switch, dialling, gate, self.relay_client, relays)
        self.hole_punching = HolePunching(switch, dialling, identify)
        in_use = (direct, durable, streams, self.circuits, self.relay_server)
        self.connection_manager = ConnectionManager(switch, dialling, gossip, kademlia, in_use)
        self.reachability = reachability = ReachabilityService(switch, identify, kademlia)
        self.dial_back = DialBackService(switch, dialling)
        self.readiness = readiness = Readiness(switch, dialling, unity, reachability, now)
        every += [
            switch,
            operations,
            workload,
            dialling,
            identify,
            kademlia,
            unity,
            PeerRequests(switch, dialling, ping, kademlia, operations),
            self.rendezvous,
            records,
            gossip,
            direct,
            durable,
            history,
            streams,
            self.probe,
            self.gate,
            self.connection_manager,
            self.circuits,
            self.relay_client,
            self.relay_server,
            self.hole_punching,
            reachability,
            self.dial_back,
            ping,
            readiness,
        ]
        self.every: Sequence[Service[Any]] = every

    def _unreachable(self) -> bool:
        return self.reachability.verdict is Reachability.UNREACHABLE

    def _score(self, peer: PeerId) -> ScoreView | None:
        return self.gossip.router.score(peer)
