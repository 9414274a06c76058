"""The client: every method of the sidecar's API, in Python's own idiom."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from . import _checks, _convert, _engines, _fork, _hot, _rpc, _security, _target, bulk, types
from ._asking import Asking
from ._carrying import Carrying, opening
from ._joining import Publishing, Sending
from ._link import Link
from ._stream import Stream
from ._waiting import Found, Pages
from .advertisement import Advertisement
from .durable import Durability, DurableReceiver, OutboxWatch
from .errors import DeadlineExceeded, InvalidArgument, SidecarUnavailable
from .server import Handler, Server
from .streams import ByteStream, StreamAcceptor
from .subscription import Receiver, Subscription
from .v1 import direct_pb2, discovery_pb2, node_pb2, peer_pb2, pubsub_pb2, stream_pb2
from .validator import Judge, Validator

if TYPE_CHECKING:
    from .v1 import direct_pb2_grpc, discovery_pb2_grpc, node_pb2_grpc, peer_pb2_grpc, pubsub_pb2_grpc, stream_pb2_grpc

_SERVICE = "/sidecar.v1."
Item = TypeVar("Item")


def connect(
    target: str | None = None,
    *,
    wait: float = 10.0,
    reconnect: bool = True,
    tls_ca: _security.File | None = None,
    tls_cert: _security.File | None = None,
    tls_key: _security.File | None = None,
    token: str | None = None,
    token_file: _security.File | None = None,
    engine: _engines.Engine | None = None,
) -> "Client":
    """A client for the sidecar at `target`, to be used with `async with`.

    `target`: `unix:PATH`, a path that begins with `/`, `./`, `../` or `~/`, `HOST:PORT`, or `tls://HOST:PORT`;
    None: `SIDECAR_API`, else the path in `SIDECAR_API_SOCKET`, else a sidecar's default socket.
    `wait`: seconds to wait for the sidecar, trying again and again; 0: one try.
    `reconnect`: whether streams survive the sidecar's restarts, and what can be repeated safely is.
    `tls_ca`: PEM file of the authorities to trust; None: `SIDECAR_TLS_CA`, else those of the system.
    `tls_cert`, `tls_key`: PEM files to show to the sidecar; None: `SIDECAR_TLS_CERT` and `SIDECAR_TLS_KEY`, else none.
    `token`: sent with each call; None: `SIDECAR_TOKEN`, else none. Only to a Unix socket, a loopback address or under
    TLS.
    `token_file`: the same, read again whenever it has changed; None: `SIDECAR_TOKEN_FILE`.
    `engine`: what speaks gRPC: `grpcio`, which `auto` means, or `http2`, which takes the package `ngh2`; None:
    `SIDECAR_CLIENT_ENGINE`, else `auto`.

    Raises InvalidArgument where these cannot be used, and SidecarUnavailable where the default socket's directory is
    not ours alone. `async with` raises SidecarUnavailable when no sidecar answers in time; it says what was tried.
    """
    _checks.seconds(wait, "wait")
    place = _target.find(target)
    credentials = _security.credentials(place, tls_ca, tls_cert, tls_key)
    proof = _security.token(place, token, token_file)
    kind = _engines.chosen(engine)
    _fork.made()
    channel = _engines.opened(kind, place.address, credentials)
    return Client(Link(place, channel, reconnect, proof), wait=wait)


class Client:
    """A connection to a sidecar. Methods raise the typed errors of `sidecar_client.errors`.

    `timeout` is seconds everywhere; it travels as the call's deadline. Cancelling a call cancels its work.

    In a process that is forked while there is a client, it and new ones raise FailedPrecondition: gRPC cannot be used
    there. Start processes by `spawn`, `forkserver` or subprocess, or fork before `connect`.
    """

    def __init__(self, link: Link, *, wait: float) -> None:
        self._wait = wait
        self._link = link
        channel = link.channel
        self._node: node_pb2_grpc.NodeServiceAsyncStub = _rpc.stub(channel, node_pb2, "NodeService")
        self._peer: peer_pb2_grpc.PeerServiceAsyncStub = _rpc.stub(channel, peer_pb2, "PeerService")
        self._direct: direct_pb2_grpc.DirectServiceAsyncStub = _rpc.stub(channel, direct_pb2, "DirectService")
        self._stream: stream_pb2_grpc.StreamServiceAsyncStub = _rpc.stub(channel, stream_pb2, "StreamService")
        self._pubsub: pubsub_pb2_grpc.PubSubServiceAsyncStub = _rpc.stub(channel, pubsub_pb2, "PubSubService")
        self._discovery: discovery_pb2_grpc.DiscoveryServiceAsyncStub = _rpc.stub(
            channel, discovery_pb2, "DiscoveryService"
        )
        self._send_many = self._link.raw(f"{_SERVICE}DirectService/SendMany", direct_pb2.SendManyResponse.FromString)
        self._open_stream = self._link.raw(
            f"{_SERVICE}StreamService/OpenStream", stream_pb2.OpenStreamResponse.FromString
        )
        self._attach_stream = self._link.raw(
            f"{_SERVICE}StreamService/AttachStream", stream_pb2.AttachStreamResponse.FromString
        )
        self._publish_many = self._link.raw(
            f"{_SERVICE}PubSubService/PublishMany", pubsub_pb2.PublishManyResponse.FromString
        )

        self._subscribe = channel.unary_stream(
            f"{_SERVICE}PubSubService/Subscribe",
            request_serializer=pubsub_pb2.SubscribeRequest.SerializeToString,
            response_deserializer=_hot.parse,
        )
        self._validate = channel.stream_stream(
            f"{_SERVICE}PubSubService/Validate",
            request_serializer=pubsub_pb2.ValidateRequest.SerializeToString,
            response_deserializer=_hot.parse_judged,
        )
        self._publishing = Publishing(link, self._pubsub, self._publish_many)
        request_many = link.raw(f"{_SERVICE}DirectService/RequestMany", direct_pb2.RequestManyResponse.FromString)
        self._asking = Asking(link, self._direct, request_many)
        self._sending = Sending(link, self._direct, self._send_many)
        carry = link.raw(f"{_SERVICE}StreamService/CarryStreams", stream_pb2.CarryStreamsResponse.FromString)
        self._carrying = Carrying(link, carry)
        self._durability = Durability(link, channel)

    @property
    def target(self) -> str:
        """Where the sidecar is."""
        return str(self._link.target)

    async def __aenter__(self) -> Self:
        try:
            await self._link.connect(self._wait, self._node.GetNode, node_pb2.GetNodeRequest())
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all calls and streams; what waits for them raises Closed."""
        self._link.closed = True
        if _fork.parent:
            return  # all of it belongs to the process that was forked
        await self._publishing.close()
        await self._sending.close()
        await self._asking.close()
        await self._carrying.close()
        self._durability.settling.close()
        await self._link.close()

    def __del__(self) -> None:
        # Nobody has closed it: what it keeps open goes as well, where its loop is still there. Any thread may be here.
        if _fork.parent or not hasattr(self, "_sending") or self._link.closed:
            return
        with contextlib.suppress(RuntimeError):
            for part in (self._publishing, self._sending, self._asking, self._carrying, self._link):
                part.let_go()

    async def aclose(self) -> None:
        """As `close`, for `contextlib.aclosing`."""
        await self.close()

    # ------------------------------------------------------------ the node

    async def info(self, *, timeout: float | None = None) -> types.NodeInfo:
        """Identity, network, addresses, version and uptime."""
        request = node_pb2.GetNodeRequest()
        response = await self._link.unary(self._node.GetNode, request, timeout, repeatable=True)
        return _convert.node(response.node)

    async def readiness(self, *, timeout: float | None = None) -> types.Readiness:
        """Whether the node is ready, and each condition that this is made of."""
        response = await self._link.unary(
            self._node.GetReadiness, node_pb2.GetReadinessRequest(), timeout, repeatable=True
        )
        return _convert.readiness(response.readiness)

    def watch_readiness(self) -> "Watch[types.Readiness]":
        """The readiness now, then after every change."""
        request = node_pb2.WatchReadinessRequest()
        return Watch(
            self._link,
            "watching readiness",
            self._node.WatchReadiness,
            request,
            lambda response: (_convert.readiness(response.readiness),),
        )

    async def ready(self, *, timeout: float | None = None) -> types.Readiness:
        """Wait until the node is ready. Raises DeadlineExceeded."""
        try:
            async with asyncio.timeout(timeout), aclosing(self.watch_readiness()) as watching:
                async for readiness in watching:
                    if readiness.ready:
                        return readiness
        except TimeoutError:
            raise DeadlineExceeded(f"the node was not ready within {timeout} s") from None
        raise SidecarUnavailable("the sidecar ended before it was ready")

    async def statistics(self, *, timeout: float | None = None) -> types.Statistics:
        """Counters and gauges by name, and histograms as its `histograms`."""
        response = await self._link.unary(
            self._node.GetStatistics, node_pb2.GetStatisticsRequest(), timeout, repeatable=True
        )
        return _convert.statistics(response)

    async def configuration(self, *, timeout: float | None = None) -> list[types.ConfigurationEntry]:
        """The configuration in force, key by key, and where each value was set. It has no secrets."""
        request = node_pb2.GetConfigurationRequest()
        response = await self._link.unary(self._node.GetConfiguration, request, timeout, repeatable=True)
        return [_convert.configuration_entry(entry) for entry in response.entries]

    def watch_events(self) -> "Watch[types.NodeEvent | types.Lagged]":
        """The newest records of the sidecar's log, at most 1,000, then more as they come.

        Where records were missed, `Lagged` says so; after a lost connection (RECONNECTED) the newest are told anew.
        """
        gap = node_pb2.WatchEventsResponse(lagged=_convert.reconnected())
        request = node_pb2.WatchEventsRequest()
        return Watch(self._link, "watching events", self._node.WatchEvents, request, _convert.node_events, gap)

    async def set_log_level(self, part: str, level: str, *, timeout: float | None = None) -> types.LogLevels:
        """Change what the sidecar's log writes: from `level` on for a part, such as net, and all below it.

        `part` empty: all parts without a level of their own. `level` empty: the part has none of its own any more.
        Returns the levels in force. Raises InvalidArgument.
        """
        request = _checks.request(node_pb2.SetLogLevelRequest, part=part, level=level)
        return _convert.log_levels(await self._link.unary(self._node.SetLogLevel, request, timeout, repeatable=True))

    # ------------------------------------------------------------ peers

    def peers(self, *, connected_only: bool = False, protocol: str = "") -> Pages[types.Peer]:
        """The peers known, ordered by id; only those that speak `protocol`, if given."""

        async def fetch(token: str) -> tuple[Iterable[types.Peer], str]:
            request = _checks.request(
                peer_pb2.ListPeersRequest, connected_only=connected_only, protocol=protocol, page_token=token
            )
            response = await self._link.unary(self._peer.ListPeers, request, None, repeatable=True)
            return map(_convert.peer, response.peers), response.next_page_token

        return Pages(fetch)

    def watch_peers(self) -> "Watch[types.PeerEvent]":
        """The connected peers (PRESENT, then one CURRENT), then every change.

        Where events were missed, LAGGED or RECONNECTED says so, and the connected peers are told anew.
        """
        request = peer_pb2.WatchPeersRequest()
        gap = peer_pb2.WatchPeersResponse(lagged=_convert.reconnected())
        return Watch(self._link, "watching peers", self._peer.WatchPeers, request, _convert.peer_events, gap)

    async def peer(self, peer_id: str, *, timeout: float | None = None) -> types.Peer:
        """What the node knows of a peer, without asking anybody. Raises NotFound."""
        request = _checks.request(peer_pb2.GetPeerRequest, peer_id=peer_id)
        return _convert.peer((await self._link.unary(self._peer.GetPeer, request, timeout, repeatable=True)).peer)

    async def find_peer(self, peer_id: str, *, timeout: float | None = None) -> list[str]:
        """A peer's addresses, through the DHT where needed. Raises NotFound."""
        request = _checks.request(peer_pb2.FindPeerRequest, peer_id=peer_id)
        return list((await self._link.unary(self._peer.FindPeer, request, timeout, repeatable=True)).addresses)

    async def closest_peers(
        self, key: bytes | str = b"", *, peer_id: str = "", limit: int = 0, timeout: float | None = None
    ) -> list[types.FoundPeer]:
        """Walk the DHT to the peers closest to a key, or to a peer id; the closest first, at most `limit` or 20.

        Empty where nobody in the DHT answers. Raises InvalidArgument.
        """
        request = _checks.request(peer_pb2.ListClosestPeersRequest, key=_key(key), peer_id=peer_id, limit=limit)
        response = await self._link.unary(self._peer.ListClosestPeers, request, timeout, repeatable=True)
        return [types.FoundPeer(peer.peer_id, tuple(peer.addresses)) for peer in response.peers]

    async def connect_peer(
        self, peer_id: str = "", *, addresses: Iterable[str] = (), timeout: float | None = None
    ) -> types.Peer:
        """Connect to a peer: at `addresses`, else at what is known of it or the DHT knows.

        Raises Unreachable and its kinds, WrongPeer, WrongNetwork, PeerBanned.
        """
        request = _checks.request(peer_pb2.ConnectPeerRequest, peer_id=peer_id, addresses=addresses)
        return _convert.peer((await self._link.unary(self._peer.ConnectPeer, request, timeout)).peer)

    async def disconnect_peer(self, peer_id: str, *, timeout: float | None = None) -> None:
        """Close all connections of a peer. Raises NotFound."""
        await self._link.unary(
            self._peer.DisconnectPeer, _checks.request(peer_pb2.DisconnectPeerRequest, peer_id=peer_id), timeout
        )

    async def ping_peer(self, peer_id: str, *, timeout: float | None = None) -> float:
        """The round trip to a peer in seconds."""
        request = _checks.request(peer_pb2.PingPeerRequest, peer_id=peer_id)
        return _convert.seconds((await self._link.unary(self._peer.PingPeer, request, timeout)).latency)

    async def ban_peer(
        self,
        peer_id: str = "",
        *,
        network: str = "",
        reason: str = "",
        duration: float | None = None,
        timeout: float | None = None,
    ) -> types.Banned:
        """Refuse a peer, an IP address or network (`192.0.2.0/24`), or both, for `duration` seconds or until allowed.

        Their connections are closed; the ban outlasts a restart of the sidecar. Raises SelfDial, ResourceExhausted.
        """
        request = _checks.request(peer_pb2.BanPeerRequest, peer_id=peer_id, network=network, reason=reason)
        if duration is not None:
            request.duration.FromNanoseconds(_checks.nanoseconds(duration, "duration"))
        done = await self._link.unary(self._peer.BanPeer, request, timeout, repeatable=True)
        return types.Banned(tuple(map(_convert.ban, done.bans)), done.connections_closed, tuple(done.warnings))

    async def allow_peer(
        self, peer_id: str = "", *, network: str = "", timeout: float | None = None
    ) -> tuple[str, ...]:
        """Lift a ban; returns what else there is to know, such as what still refuses the peer. Raises NotFound."""
        request = _checks.request(peer_pb2.AllowPeerRequest, peer_id=peer_id, network=network)
        return tuple((await self._link.unary(self._peer.AllowPeer, request, timeout)).warnings)

    def bans(self) -> Pages[types.Ban]:
        """The entries of the configuration's deny lists, then the bans: peers, IPv4 and IPv6 networks."""

        async def fetch(token: str) -> tuple[Iterable[types.Ban], str]:
            request = _checks.request(peer_pb2.ListBansRequest, page_token=token)
            response = await self._link.unary(self._peer.ListBans, request, None, repeatable=True)
            return map(_convert.ban, response.bans), response.next_page_token

        return Pages(fetch)

    async def protect_peer(self, peer_id: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """Never close a peer's connections because there are too many; returns what else there is to know."""
        request = _checks.request(peer_pb2.ProtectPeerRequest, peer_id=peer_id)
        return tuple((await self._link.unary(self._peer.ProtectPeer, request, timeout, repeatable=True)).warnings)

    async def unprotect_peer(self, peer_id: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """Treat a peer as others again; returns what else there is to know, such as what still protects it."""
        request = _checks.request(peer_pb2.UnprotectPeerRequest, peer_id=peer_id)
        return tuple((await self._link.unary(self._peer.UnprotectPeer, request, timeout, repeatable=True)).warnings)

    async def set_peer_score(
        self, peer_id: str, score: float, *, duration: float | None = None, timeout: float | None = None
    ) -> None:
        """Add points to a peer's score in gossip, or take them from it; 0 takes back what was set before.

        `score`: from -1e6 to 1e6. `duration`: seconds; None: as long as the sidecar knows the peer.
        """
        request = _checks.request(peer_pb2.SetPeerScoreRequest, peer_id=peer_id, score=score)
        if duration is not None:
            request.duration.FromNanoseconds(_checks.nanoseconds(duration, "duration"))
        await self._link.unary(self._peer.SetPeerScore, request, timeout, repeatable=True)

    # ------------------------------------------------------------ direct messages

    async def send(
        self,
        peer_id: str,
        protocol: str,
        data: bytes,
        *,
        durable: types.Durable | None = None,
        request_id: str = "",
        timeout: float | None = None,
    ) -> types.SendReceipt:
        """Send one message and be told what became of it. `request_id` makes a repeat safe. Raises TooLarge.

        `durable`: keep it on the sidecar's disk until the peer's app has settled it. The receipt says STORED as soon as
        it is there, and `watch_outbox` what becomes of it.

        Messages for one protocol of one peer that are sent while another is under way go together. After a lost
        connection those that have a `request_id` or had not left are sent again; for others Closed is raised, since
        they may have been sent.
        """
        return await self._sending.send((peer_id, protocol, durable), data, request_id, timeout)

    async def send_many(
        self,
        peer_id: str,
        protocol: str,
        messages: bulk.Payloads,
        *,
        durable: types.Durable | None = None,
        on_receipts: Callable[[types.SendReceipts], None] | None = None,
        timeout: float | None = None,
    ) -> list[types.SendReceipts]:
        """Send many messages, in batches; returns receipts that cover all of them, numbered from 0.

        `messages` may be an async iterable: then batches go out as they come. `on_receipts` is called with receipts as
        they arrive, which are all that is known where an error ends it midway.
        A message that is too large has the outcome TOO_LARGE, and the others go on. `durable`: as of `send`.
        """
        self._link.check_open()
        _checks.seconds(timeout, "timeout")
        first = _checks.request(direct_pb2.SendManyRequest, peer_id=peer_id, protocol=protocol)
        if durable is not None:
            first.durable.CopyFrom(_convert.durable(durable))
        return await bulk.transfer(
            self._link,
            self._send_many(timeout=timeout),
            first=first.SerializeToString(),
            item=bulk.SEND_ITEM,
            payloads=messages,
            parse=lambda response: map(_convert.send_receipts, response.receipts),
            too_large=lambda number, text: types.SendReceipts(number, 1, types.SendOutcome.TOO_LARGE, text),
            on_receipts=on_receipts,
        )

    def receive(self, protocols: str | Iterable[str], *, queue_messages: int = 0) -> Receiver:
        """A stream of direct messages: iterate over it, or see `Receiver`.

        `queue_messages`: how many wait in the sidecar for a slow reader; 0: the configured bound.
        """
        return Receiver(self._link, _names(protocols), queue_messages, self._direct.Receive)

    # ------------------------------------------------------------ durable messages

    def receive_durable(
        self,
        protocols: str | Iterable[str],
        *,
        settle_timeout: float | None = None,
        max_deliveries: int = 0,
        max_open: int = 0,
    ) -> DurableReceiver:
        """A stream of durable messages, each to be settled: see `DurableReceiver`.

        `settle_timeout`: seconds until an open delivery comes again; None: 30. `max_deliveries`: after so many without
        being settled a message is a dead letter; 0: the configured number. `max_open`: deliveries that may be open; 0:
        256. With 1, no message is seen before the one ahead of it is settled.
        """
        return self._durability.receive(_names(protocols), settle_timeout, max_deliveries, max_open)

    def watch_outbox(self, *, cursor: int | None = None, peer_id: str = "", protocol: str = "") -> OutboxWatch:
        """What becomes of durable messages that were sent here, from a cursor on: see `OutboxWatch`.

        `cursor`: of the last event that the app has dealt with; 0: from the oldest that is kept; None: only new ones.
        `peer_id`, `protocol`: only of these. Raises Outdated where events behind the cursor are not kept any more.
        """
        return self._durability.watch(cursor, peer_id, protocol)

    async def outbox(
        self, *, peer_id: str = "", protocol: str = "", limit: int = 1000, timeout: float | None = None
    ) -> list[types.OutboxMessage]:
        """The durable messages that wait for their peers, the oldest first, `limit` at most."""
        return await self._durability.outbox(peer_id, protocol, limit, timeout)

    async def withdraw(self, peer_id: str, *, protocol: str = "", timeout: float | None = None) -> int:
        """Withdraw durable messages that the peer is not known to have; how many."""
        return await self._durability.withdraw(peer_id, protocol, timeout)

    async def inbox(
        self,
        *,
        dead_letters: bool = False,
        peer_id: str = "",
        protocol: str = "",
        with_data: bool = False,
        limit: int = 1000,
        timeout: float | None = None,
    ) -> list[types.InboxMessage]:
        """The durable messages that wait for apps here, or the dead letters, the oldest first, `limit` at most."""
        return await self._durability.inbox(dead_letters, peer_id, protocol, with_data, limit, timeout)

    async def retry_dead_letters(
        self, ids: Iterable[int] = (), *, protocol: str = "", timeout: float | None = None
    ) -> int:
        """Deliver dead letters again: these, or all (of the protocol); how many."""
        return await self._durability.retry(tuple(ids), protocol, timeout)

    async def purge_dead_letters(
        self, ids: Iterable[int] = (), *, protocol: str = "", timeout: float | None = None
    ) -> int:
        """Delete dead letters: these, or all (of the protocol); how many."""
        return await self._durability.purge(tuple(ids), protocol, timeout)

    # ------------------------------------------------------------ requests

    async def request(
        self, peer_id: str, protocol: str, data: bytes, *, timeout: float | None = None, traceparent: str = ""
    ) -> bytes:
        """Ask a peer's app. Raises NotSupported, Refused, Unreachable, DeadlineExceeded, QueueFull, TooLarge.

        `traceparent` is this app's place in a trace, as W3C Trace Context writes it; the app that serves gets its own
        from it.
        """
        return await self._asking.ask(peer_id, protocol, data, timeout, traceparent)

    def serve(self, protocols: str | Iterable[str], handler: Handler, *, concurrency: int = 256) -> Server:
        """Answer requests: await it, or use it with `async with`; see `Server`. Raises AlreadyExists."""
        if not callable(handler):
            raise InvalidArgument(f"the handler is {handler!r}, and cannot be called", field="handler")
        if not concurrency >= 1:
            raise InvalidArgument(f"concurrency is {concurrency}: at least one handler must run", field="concurrency")
        served = _names(protocols)
        _checks.request(direct_pb2.ServeRequest, protocols=served)
        return Server(self._link, served, handler, concurrency, self._direct.Serve)

    # ------------------------------------------------------------ byte streams

    def open_stream(self, peer_id: str, protocols: str | Iterable[str]) -> ByteStream:
        """A stream of bytes to a peer, for the first of the protocols that it speaks: see `ByteStream`.

        `async with` raises NotSupported, Unreachable and its kinds, ResourceExhausted.
        """
        first = _checks.request(stream_pb2.OpenStreamRequest, peer_id=peer_id, protocols=_names(protocols))
        encoded = first.SerializeToString()
        return ByteStream(self._link, self._carrying, self._open_stream, encoded, opening(encoded))

    def accept_streams(self, protocols: str | Iterable[str]) -> StreamAcceptor:
        """The streams that peers open for some protocols: see `StreamAcceptor`. `async with` raises AlreadyExists."""
        return StreamAcceptor(
            self._link, _names(protocols), self._stream.AcceptStreams, self._attach_stream, self._carrying
        )

    # ------------------------------------------------------------ topics

    async def publish(
        self,
        topic: str,
        data: bytes,
        *,
        signing: types.Signing = types.Signing.UNSPECIFIED,
        minimum_peers: int = 0,
        bundling: types.Bundling = types.Bundling.UNSPECIFIED,
        request_id: str = "",
        timeout: float | None = None,
    ) -> types.PublishReceipt:
        """Publish one message and be told where it went. Raises TooLarge, TopicOptionsDiffer.

        It waits while the queues of all peers are full. Messages that are published while another is under way go
        together. After a lost connection those that have a `request_id` or had not left are published again; for others
        Closed is raised, since they may have been published.

        `signing`: how it is signed; all of a topic must agree.
        `minimum_peers`: wait, within `timeout` seconds, until so many peers of the topic are there.
        `bundling`: whether messages that go together travel as one, under one signature.
        `request_id`: makes a repeat safe.
        """
        return await self._publishing.send((topic, signing, minimum_peers, bundling), data, request_id, timeout)

    async def publish_many(
        self,
        topic: str,
        messages: bulk.Payloads,
        *,
        signing: types.Signing = types.Signing.UNSPECIFIED,
        minimum_peers: int = 0,
        bundling: types.Bundling = types.Bundling.UNSPECIFIED,
        return_message_ids: bool = False,
        on_receipts: Callable[[types.PublishReceipts], None] | None = None,
        timeout: float | None = None,
    ) -> list[types.PublishReceipts]:
        """Publish many messages, in batches; returns receipts that cover all of them, numbered from 0.

        It goes as fast as the peers take them. `messages` may be an async iterable: then batches go out as they come.
        `on_receipts` is called with receipts as they arrive, which are all that is known where an error ends it midway.
        A message that is too large has the outcome TOO_LARGE, and the others go on. `bundling`: whether messages of a
        batch travel as one, under one signature.
        """
        self._link.check_open()
        _checks.seconds(timeout, "timeout")
        first = _checks.request(
            pubsub_pb2.PublishManyRequest,
            topic=topic,
            signing=_checks.member(types.Signing, signing, "signing"),
            minimum_peers=minimum_peers,
            return_message_ids=return_message_ids,
            bundling=_checks.member(types.Bundling, bundling, "bundling"),
        )
        return await bulk.transfer(
            self._link,
            self._publish_many(timeout=timeout),
            first=first.SerializeToString(),
            item=bulk.PUBLISH_ITEM,
            payloads=messages,
            parse=lambda response: map(_convert.publish_receipts, response.receipts),
            too_large=lambda number, _: types.PublishReceipts(number, 1, types.PublishOutcome.TOO_LARGE, 0, 0),
            on_receipts=on_receipts,
        )

    def subscribe(
        self,
        topics: str | Iterable[str],
        *,
        cursor: bytes = b"",
        signing: types.Signing = types.Signing.UNSPECIFIED,
        policy: types.OverflowPolicy = types.OverflowPolicy.UNSPECIFIED,
        queue_messages: int = 0,
        queue_bytes: int = 0,
        skip_local: bool = False,
        expected_rate: float = 0.0,
        start_time: float | None = None,
        from_beginning: bool = False,
    ) -> Subscription:
        """A subscription: iterate over it, or see `Subscription`.

        What this node's apps publish once it is in force arrives, and what others publish once they have heard of it.
        Nothing older comes without a start, nor again after a restart of the sidecar. Messages of one publisher
        come in its order, but for those that were lost on their way and fetched again. A topic that the sidecar keeps
        the history of can begin with what was got before, in order of arrival, by at most one of these:

        `cursor`: continue behind this message; on topics without history as far as memory reaches.
        `start_time`: Unix seconds; with what was received then or later, as far as it is kept.
        `from_beginning`: with the oldest message that is kept.

        With none of them the subscription begins with what arrives from now.
        `policy`: what to drop when the queue in the sidecar is full.
        `queue_messages`, `queue_bytes`: how much waits there for a slow reader; 0: the configured bounds.
        `skip_local`: leave out what this node's own apps publish.
        `expected_rate`: messages a second that are expected on each topic, by which peers are scored; 0: not known.
        """
        request = _checks.request(
            pubsub_pb2.SubscribeRequest,
            topics=_names(topics),
            cursor=cursor,
            policy=_checks.member(types.OverflowPolicy, policy, "policy"),
            queue_messages=queue_messages,
            queue_bytes=queue_bytes,
            signing=_checks.member(types.Signing, signing, "signing"),
            skip_local=skip_local,
            expected_rate=expected_rate,
            start_time=None if start_time is None else _checks.moment(start_time, "start_time"),
            from_beginning=from_beginning,
        )
        return Subscription(self._link, request, self._subscribe)

    def validate(
        self,
        topics: str | Iterable[str],
        handler: Judge,
        *,
        fallback: types.ValidationFallback = types.ValidationFallback.UNSPECIFIED,
        timeout: float | None = None,
        max_waiting: int = 0,
        concurrency: int = 256,
    ) -> Validator:
        """Judge messages before anybody gets them: await it, or use it with `async with`; see `Validator`.

        `fallback`: what becomes of messages without a verdict, also while no app judges the topics. With it:
        `timeout`: seconds that a message waits; None: as configured.
        `max_waiting`: how many messages of a topic wait at most; 0: as configured.
        """
        if not callable(handler):
            raise InvalidArgument(f"the handler is {handler!r}, and cannot be called", field="handler")
        if not concurrency >= 1:
            raise InvalidArgument(f"concurrency is {concurrency}: at least one handler must run", field="concurrency")
        judged = _names(topics)
        first = _checks.request(
            pubsub_pb2.ValidateRequest,
            topics=judged,
            fallback=_checks.member(types.ValidationFallback, fallback, "fallback"),
            max_waiting=max_waiting,
        )
        if timeout is not None:
            first.timeout.FromNanoseconds(_checks.nanoseconds(timeout, "timeout"))
        return Validator(self._link, f"judging {', '.join(judged)}", first, handler, concurrency, self._validate)

    async def topics(self, *, timeout: float | None = None) -> list[types.Topic]:
        """The topics that this node or its peers subscribe to."""
        response = await self._link.unary(
            self._pubsub.ListTopics, pubsub_pb2.ListTopicsRequest(), timeout, repeatable=True
        )
        return [_convert.topic(message) for message in response.topics]

    async def rules(self, *, timeout: float | None = None) -> list[types.Rule]:
        """The rules that messages are judged by there, in order, and what each has kept back."""
        response = await self._link.unary(
            self._pubsub.ListRules, pubsub_pb2.ListRulesRequest(), timeout, repeatable=True
        )
        return [_convert.rule(message) for message in response.rules]

    async def set_rules(self, rules: str, *, timeout: float | None = None) -> None:
        """Replace the rules that were set at run time; those of the node's file stay. Empty: none.

        `rules`: TOML as in a file of rules. Raises InvalidArgument, which names the line, AlreadyExists,
        ResourceExhausted.
        """
        request = _checks.request(pubsub_pb2.SetRulesRequest, rules=rules)
        await self._link.unary(self._pubsub.SetRules, request, timeout, repeatable=True)

    def probe(
        self,
        topic: str,
        *,
        messages: int = 0,
        interval: float | None = None,
        answers: int = 0,
        size: int = 0,
        signing: types.Signing = types.Signing.UNSPECIFIED,
        exposed: bool = False,
        timeout: float | None = None,
    ) -> Found[types.ProbeAnswer | types.ProbeSummary]:
        """Measure how long messages on a topic take to reach the others: answers as they come, the summary last.

        Apps get none of its messages. Raises NotFound where nobody is in the topic, Unreachable where no peer of it is
        connected, NotSupported where such peers do not know probes, ResourceExhausted, InvalidArgument.

        `messages`: how many, at most 10,000; 0: 20. `interval`: seconds between them, at least 0.1; None: 1.
        `answers`: of about how many receivers of each message, at most 256; 0: 32.
        `size`: bytes of each payload, at least.
        `exposed`: probe although peers do not know probes; their apps get to see the messages.
        """
        _checks.seconds(timeout, "timeout")
        request = _checks.request(
            pubsub_pb2.ProbeRequest,
            topic=topic,
            messages=messages,
            answers=answers,
            size=size,
            signing=_checks.member(types.Signing, signing, "signing"),
            exposed=exposed,
        )
        if interval is not None:
            request.interval.FromNanoseconds(_checks.nanoseconds(interval, "interval"))
        return Found(
            lambda: self._pubsub.Probe(request, timeout=timeout),
            _convert.probed,
            self._link.error,
            self._link.check_open,
        )

    # ------------------------------------------------------------ discovery

    def advertise(self, name: str, *, ttl: float = 0.0) -> Advertisement:
        """Advertise a name through the DHT inside `async with`; see `Advertisement`. `ttl`: its end, in seconds."""
        return Advertisement(self._link, name, ttl, self._discovery.Advertise)

    def find_peers(self, name: str, *, limit: int = 0, timeout: float | None = None) -> Found[types.FoundPeer]:
        """The peers that advertise a name, as they are found; this node is left out. Raises SidecarError."""
        _checks.seconds(timeout, "timeout")
        request = _checks.request(discovery_pb2.FindPeersRequest, name=name, limit=limit)
        return Found(
            lambda: self._discovery.FindPeers(request, timeout=timeout),
            _convert.found_peers,
            self._link.error,
            self._link.check_open,
        )

    async def put_record(
        self, key: bytes | str, value: bytes, *, quorum: int = 0, timeout: float | None = None
    ) -> types.RecordReceipt:
        """Put a record `/namespace/name` into the DHT. Raises InvalidArgument, TooLarge, Outdated, NoQuorum.

        `quorum`: how many other peers must take it.
        """
        request = _checks.request(discovery_pb2.PutRecordRequest, key=_key(key), value=value, quorum=quorum)
        response = await self._link.unary(self._discovery.PutRecord, request, timeout)
        return types.RecordReceipt(response.stored, response.asked)

    async def get_record(self, key: bytes | str, *, quorum: int = 0, timeout: float | None = None) -> types.Record:
        """Get a record from the DHT: the best value of those that peers have. Raises NotFound, InvalidArgument.

        `quorum`: how many values end the search early; 0: 3.
        """
        request = _checks.request(discovery_pb2.GetRecordRequest, key=_key(key), quorum=quorum)
        return _convert.record(await self._link.unary(self._discovery.GetRecord, request, timeout, repeatable=True))


def _key(key: bytes | str) -> bytes:
    return _checks.text(key, "key") if isinstance(key, str) else key


class Watch(Stream[Any], AsyncIterator[Item], Generic[Item]):
    """A watching stream; it begins with the present state, however often it is opened.

    A step that is cancelled loses nothing. `aclose` ends it for good, and so does letting go of it.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        call: Callable[..., Any],
        request: Any,
        convert: Callable[[Any], Iterable[Item]],
        gap: Any = None,
    ) -> None:
        super().__init__(link, name)
        self._watch = call
        self._request = request
        self._convert = convert
        self._when_reopened = gap
        self._items: deque[Item] = deque()
        self._over = False

    def _open(self) -> Any:
        return self._watch(self._request)

    def _gap(self) -> Any:
        return self._when_reopened

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        while not self._items:
            if self._over:
                raise StopAsyncIteration
            self._items.extend(self._convert(await self._next()))
        return self._items.popleft()

    async def aclose(self) -> None:
        """End it."""
        self._over = True
        self._items.clear()
        self.close()


def _names(names: str | Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
