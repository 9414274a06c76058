"""Gossipsub."""

import base64
import contextlib
import functools
import time

import trio
from common import Unsupported, b64, say
from libp2p.peer.id import ID
from libp2p.pubsub import gossipsub, pubsub
from libp2p.pubsub.extensions import PeerExtensions
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import PUBSUB_SIGNING_PREFIX, Pubsub
from libp2p.pubsub.score import ScoreParams, TopicScoreParams

NAMES = (
    gossipsub.PROTOCOL_ID, gossipsub.PROTOCOL_ID_V11, gossipsub.PROTOCOL_ID_V12, gossipsub.PROTOCOL_ID_V13,
    gossipsub.PROTOCOL_ID_V14,
)  # fmt: skip
VERSIONS = {"1.0": 1, "1.1": 2, "1.2": 3, "latest": len(NAMES)}
CACHED = 8192  # message ids
# 32 by default; more are lost, on the way to a subscriber and to a peer.
pubsub.SUBSCRIPTION_CHANNEL_SIZE = 4096
pubsub.RpcQueue = functools.partial(pubsub.RpcQueue, 4096)


def forgotten_after(seconds, options):
    """The factor by which a counter of 1 comes down to 0.01, at each heartbeat."""
    return 0.01 ** (options.heartbeat_ms / 1000 / seconds)


def make_scoring(options):
    """P1, P2, P4 and P7 (its P5). Its P3 adds points; it has nothing that takes them from who brings little."""
    slow = forgotten_after(600, options)
    return ScoreParams(
        p1_time_in_mesh=TopicScoreParams(0.01, 100, 1.0), p2_first_message_deliveries=TopicScoreParams(0.2, 100, slow),
        p4_invalid_messages=TopicScoreParams(75, 100, slow), p5_behavior_penalty_weight=10,
        p5_behavior_penalty_decay=slow,
    )  # fmt: skip


def make_router(options):
    # Adaptive gossip raises the heartbeat's interval to 30 s and more where there are few peers.
    router = gossipsub.GossipSub(
        protocols=NAMES[: VERSIONS[options.gossip]][::-1], degree=options.degree,
        degree_low=options.degree_low, degree_high=options.degree_high, score_params=make_scoring(options),
        my_extensions=PeerExtensions(test_extension=True),
        heartbeat_interval=options.heartbeat_ms / 1000, adaptive_gossip_enabled=False,
        spam_protection_enabled=False, eclipse_protection_enabled=False,
    )  # fmt: skip
    # It counts as misbehaviour more than ten IHAVE a second from a peer on a topic, and more than ten IWANT. Whoever
    # gossips once a heartbeat sends ten IHAVE a second at a heartbeat of 100 ms, and one that comes early is too many:
    # 50 points each time. So what it allows in a second at its usual heartbeat it allows in as many of these.
    router.max_ihave_messages_per_second /= min(1.0, options.heartbeat_ms / 1000)
    router.max_iwant_requests_per_second /= min(1.0, options.heartbeat_ms / 1000)
    return router


class Gossip:
    """Needs `host` and `nursery`."""

    def serve_gossip(self, options):
        self.router = make_router(options)
        self.pubsub = Pubsub(self.host, self.router, cache_size=CACHED)
        # Its own start is in whole seconds: restarted soon under the same key, it repeats numbers, which nobody takes.
        self.pubsub.counter = time.time_ns()
        self.subscribed, self.forwarders, self.lowest, self.parts = {}, {}, {}, {}

    async def op_subscribe(self, cmd):
        if cmd.get("quiet") or cmd.get("ack_to"):
            raise Unsupported("quiet subscriptions: this peer is not benchmarked")
        topic = cmd["topic"]
        if topic in self.subscribed:
            raise ValueError(f"already subscribed to {topic}")
        self.pubsub.set_topic_validator(topic, self.came_from, is_async_validator=False)
        self.subscribed[topic] = subscription = await self.pubsub.subscribe(topic)
        self.nursery.start_soon(self.messages, topic, subscription)

    def came_from(self, forwarder, message):
        """A validator is told who forwarded a message, a subscriber is not."""
        self.forwarders[self.pubsub.get_message_id(message)] = forwarder
        while len(self.forwarders) > CACHED:
            del self.forwarders[next(iter(self.forwarders))]
        return True

    async def messages(self, topic, subscription):
        me = self.host.get_id()
        with contextlib.suppress(trio.EndOfChannel, trio.ClosedResourceError):
            while True:
                message = await subscription.get()
                forwarder = self.forwarders.pop(self.pubsub.get_message_id(message), None)
                author = ID(message.from_id) if message.from_id else None
                if forwarder == me:
                    continue  # it always delivers to itself
                say(event="message", topic=topic, data=b64(message.data), source=str(forwarder or ""),
                    **{"from": str(author) if author else None})  # fmt: skip

    async def op_unsubscribe(self, cmd):
        del self.subscribed[cmd["topic"]]
        self.pubsub.remove_topic_validator(cmd["topic"])
        await self.pubsub.unsubscribe(cmd["topic"])

    async def op_topic_peers(self, cmd):
        return {"peers": [str(p) for p in self.pubsub.peer_topics.get(cmd["topic"], ())]}

    async def op_mesh(self, cmd):
        return {"peers": [str(p) for p in self.router.mesh.get(cmd["topic"], ())]}

    async def op_publish(self, cmd):
        await self.pubsub.publish(cmd["topic"], base64.b64decode(cmd["data"]))

    async def op_publish_tampered(self, cmd):
        data = bytearray(base64.b64decode(cmd["data"]))
        message = rpc_pb2.Message(
            data=bytes(data),
            topicIDs=[cmd["topic"]],
            from_id=self.host.get_id().to_bytes(),
            seqno=self.pubsub._next_seqno(),
        )
        key = self.host.get_private_key()
        message.signature = key.sign(PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString())
        data[0] ^= 1
        message.data = bytes(data)
        await self.pubsub.write_msg(self.pubsub.peers[ID.from_base58(cmd["peer_id"])], rpc_pb2.RPC(publish=[message]))

    async def op_gossip_peers(self, cmd):
        return {"peers": {str(peer): str(protocol) for peer, protocol in self.router.peer_protocol.items()}}

    async def op_scores(self, cmd):
        return {"scores": self.scores(), "lowest": self.lowest, "parts": self.parts}

    def scores(self):
        topics = list(self.pubsub.topic_ids)
        return {str(peer): self.router.scorer.score(peer, topics) for peer in self.pubsub.peers}

    def watch_scores(self):
        """Keep the lowest score of each peer, and what it was made of."""
        for peer, score in self.scores().items():
            if score < self.lowest.get(peer, float("inf")):
                self.lowest[peer] = score
                self.parts[peer] = self.score_parts(peer)

    def score_parts(self, peer):
        """Counters by topic, and beside topics what misbehaviour was counted."""
        known = next(p for p in self.pubsub.peers if str(p) == peer)
        stats = {topic: self.router.scorer.get_score_stats(known, topic) for topic in self.pubsub.topic_ids}
        return {topic: {name: value for name, value in found.items() if value} for topic, found in stats.items()}
