"""What writers may send against what readers take, here and in the other implementations: never more."""

import itertools

from sidecar.api.common import values
from sidecar.api.streams import carrying
from sidecar.config import Config
from sidecar.core import identify, records, streams
from sidecar.core.channel import multistream
from sidecar.core.gossip import GossipConfig
from sidecar.core.gossip import messages as gossip
from sidecar.core.identity import Identity
from sidecar.core.kademlia import KademliaConfig
from sidecar.core.kademlia import messages as kademlia
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import NodeConfig
from sidecar.core.node.identify import _MAX_EXCHANGED
from sidecar.core.parameters import direct
from sidecar.core.varint import encode
from sidecar.sim import Simulation

RUST_IDENTIFY = 4096  # libp2p-identify, MAX_MESSAGE_SIZE_BYTES
GO_IDENTIFY = 8192  # go-libp2p, p2p/protocol/identify, signedIDSize; js-libp2p has the same
GO_IDENTIFY_MESSAGES = 10  # maxMessages there
GO_PROTOCOLS = 128  # go-libp2p's peer store, maxProtos: it takes none of more
RUST_KAD = 16 * 1024  # libp2p-kad, DEFAULT_MAX_PACKET_SIZE, the length's varint included
RUST_GOSSIP = 65_536  # libp2p-gossipsub, max_transmit_size
JS_CONTROL = 5000  # @libp2p/gossipsub, the decoder's limits
GO_IHAVE = 5000  # go-libp2p-pubsub, GossipSubMaxIHaveLength
GO_TOKEN = 1024  # go-multistream, with the newline

LONGEST_ADDRESS = Multiaddr.from_text("/" + "/".join(["dns4/" + "n" * 252] * 4))  # 1,020 bytes
LONGEST_NETWORK = "n" * 64
IDENTITY = Identity(bytes(32))


def test_identify() -> None:
    assert min(identify.messages.MAX_MESSAGE, RUST_IDENTIFY, GO_IDENTIFY) >= identify.messages.MAX_SENT
    assert identify.messages.MAX_MESSAGES <= GO_IDENTIFY_MESSAGES
    record = bytes(records.messages.MAX_SENT)
    body = identify.encode(identify.IdentifyInfo(signed_record=record))
    assert len(body) - 2 == identify.messages.MAX_SENT  # its length takes two bytes
    assert records.messages.MAX_SENT <= records.messages.MAX_ENVELOPE
    assert values.MAX_PROTOCOL <= identify.messages.MAX_PROTOCOL_NAME
    assert records.messages.MAX_ADDRESSES <= identify.messages.MAX_ADDRESSES


def test_protocols_of_apps_and_the_node_together() -> None:
    simulation = Simulation(1)
    peer = simulation.add(NodeConfig(network=LONGEST_NETWORK))
    own = peer.node.protocols()
    assert len(own) + streams.MAX_PROTOCOLS <= min(GO_PROTOCOLS, identify.messages.MAX_PROTOCOLS)
    assert all(len(protocol.encode()) < GO_TOKEN for protocol in own)
    # The own ones stand in the first message whatever apps add, and all of them in the messages that peers read.
    apps = tuple(f"/{number:03}" + "x" * 32 for number in range(streams.MAX_PROTOCOLS))
    assert sum(map(len, apps)) <= streams.MAX_PROTOCOL_BYTES
    addresses = records.fitting(IDENTITY, [Multiaddr.from_text(f"/dns4/{'n' * 60}/tcp/{port}") for port in range(64)])
    told = identify.IdentifyInfo(
        protocol_version="sidecar/" + LONGEST_NETWORK,
        agent="x" * identify.messages.MAX_TEXT,
        public_key=IDENTITY.public_key,
        observed_address=LONGEST_ADDRESS,
        listen_addresses=addresses,
        protocols=(*own, *apps),
        signed_record=records.make_peer_record(IDENTITY, 2**63 - 1, addresses),
        gossip_max_rpc=1 << 26,
    )
    reader = identify.IdentifyReader()
    data = identify.encode(told)
    reader.receive(data)
    assert reader.finish() == told
    first = int.from_bytes(data[:1]) & 0x7F | data[1] << 7
    assert first <= RUST_IDENTIFY
    assert set(own) <= set(identify.decode(data[2 : 2 + first]).protocols)


def test_negotiation() -> None:
    assert multistream.MAX_TOKEN <= GO_TOKEN
    assert values.MAX_PROTOCOL < multistream.MAX_TOKEN
    assert carrying.MAX_OFFERED < multistream.MAX_PROPOSALS


def test_messages_of_the_dht() -> None:
    config = KademliaConfig()
    most = Config().dht.max_record
    key, value = b"k" * config.max_key, bytes(most)
    put = kademlia.encode_put_value(key, value)
    got = kademlia.encode_record_answer(
        kademlia.MessageType.GET_VALUE, key, kademlia.Record(key, value, "2026-01-01T00:00:00.000000000Z")
    )
    provide = kademlia.encode_add_provider(
        b"k" * config.max_provider_key, IDENTITY.peer_id, (LONGEST_ADDRESS,) * config.max_answered_addresses
    )
    for frame in (put, got, provide, kademlia.encode_find_node(key)):
        assert len(encode(len(frame)) + frame) <= RUST_KAD
        assert len(frame) <= config.max_frame
    peers = [kademlia.encode_peer(IDENTITY.peer_id, (LONGEST_ADDRESS,) * 8, True)] * 50
    for head in (b"", got, kademlia.encode_record_answer(kademlia.MessageType.GET_PROVIDERS, key, None)):
        assert len(kademlia.join(head, peers, config.max_answer)) + 3 <= RUST_KAD + 1
    assert config.max_answer <= config.max_frame
    assert config.max_answered_addresses <= config.max_addresses


def test_control_messages_of_gossip() -> None:
    config = GossipConfig()
    assert config.max_rpc_control <= JS_CONTROL
    assert config.max_ihave_length <= GO_IHAVE
    assert config.max_chunk <= min(config.max_rpc, RUST_GOSSIP)
    prune = gossip.encode_prune(
        b"t" * config.max_topic_name,
        [(IDENTITY.peer_id, bytes(_MAX_EXCHANGED))] * config.prune_peers,
        int(config.max_prune_backoff),
    )
    assert len(prune) + 8 <= config.max_chunk
    names = [bytes(name) for name in itertools.product(b"abcdefghijklmnopqrst", repeat=3)]
    leaves = [gossip.encode_subscription(name, None) for name in names]
    grafts = [gossip.encode_graft(name) for name in names]
    frames = gossip.control_frames(leaves, grafts, config.max_chunk, config.max_rpc_control)
    bodies = [gossip.decode_rpc(frame[3:]) for frame in frames]
    assert all(len(frame) <= config.max_chunk for frame in frames)
    assert max(len(rpc.subscriptions) for rpc in bodies) <= config.max_rpc_control
    assert max(len(rpc.control.graft) for rpc in bodies) <= config.max_rpc_control
    assert sum(len(rpc.subscriptions) for rpc in bodies) == sum(len(rpc.control.graft) for rpc in bodies) == len(names)


def test_direct_messages() -> None:
    config = direct.DirectConfig(max_message=direct.MAX_MESSAGE)
    assert direct.MAX_MESSAGE + direct.MAX_PROTOCOL + direct.MAX_REASON < direct.MAX_FRAME
    assert values.MAX_PROTOCOL <= direct.MAX_PROTOCOL
    assert config.request_window <= config.max_requests_unhandled
    assert config.window <= config.max_unhandled
