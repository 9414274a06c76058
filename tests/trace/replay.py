"""Replays what peers said in a recorded session into a fresh node machine.

A replay that wanted our own bytes again, one by one, would break with every change of what we send and when, and would
say nothing of the peer. So this one takes only the peer's side from the transcript: the streams it opened, its bytes,
its ends. What our node does is carried out as a driver would: a stream that it opens is the next one of that protocol
that was opened in the session, and the peer's answers on it wait until it is open. The checks are of what the core
makes of the peer's bytes. One answer depends on ours, byte by byte: the echo of a ping. There the transcript shows that
the peer echoed what it was sent, and the node gets its own bytes back.
"""

import hashlib
import random
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sidecar.core import events, gossip
from sidecar.core.buffer import FrameDecoder
from sidecar.core.errors import Closed, NotSupported, Unreachable
from sidecar.core.events import STREAM_BITS, LogLevel, PeerChange
from sidecar.core.identify import IDENTIFY
from sidecar.core.identity import Identity
from sidecar.core.kademlia import KademliaConfig
from sidecar.core.kademlia.messages import decode_closer_peers
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import Node, NodeConfig
from sidecar.core.ping import PING
from sidecar.core.types import Direction, PeerId
from sidecar.trace.reader import Record, payload, records

TRANSCRIPTS = Path(__file__).parents[1] / "vectors" / "transcripts"
SEED = bytes(range(32))  # of the recording sidecar's key, made for tests alone
TOPIC = "transcript"
OURS, THEIRS = b"from the sidecar", b"from the peer"
PEER, SOUGHT = (Identity(hashlib.sha256(name).digest()) for name in (b"peer", b"sought"))  # as the harness makes them

AGENTS = {"go": "go-libp2p", "js": "js-libp2p", "rust": "rust-libp2p", "py": "py-libp2p"}
_TAKE = 64 * 1024
_AFTERWARDS = 30.0  # seconds of virtual time in which what is still open must be answered


def load(file: Path) -> list[Record]:
    """The records of a transcript."""
    with file.open("rb") as lines:
        return list(records(lines))


class Replay:
    """A node in place of the one recorded, and a driver for it that gets the peer's side from a transcript."""

    def __init__(self, transcript: list[Record]) -> None:
        header = transcript[0]
        self.now = float(header["monotonic"])
        config = NodeConfig(network=header["network"], agent="replay", target_peers=0, ping_interval=3600.0)
        self.identity = Identity(SEED)
        assert str(self.identity.peer_id) == header["peer"], "the transcript was made with another key"
        self.node = Node(config, self.identity, now=self.now, wall_ns=header["wall_ns"], rng=random.Random(1))
        self.news: list[Any] = []
        self.listeners: list[Callable[[Any], None]] = []
        self.sent: dict[int, bytearray] = {}  # stream -> what our node wrote on it
        self.opened_by_peer: dict[int, str] = {}  # stream -> protocol
        self.topics_at_close: dict[int, list[gossip.TopicView]] = {}  # connection -> topics just before its end
        self.main = 0  # the connection with the peer
        self._inputs: deque[Callable[[], Any]] = deque()
        self._busy = False
        self._transcript = transcript[1:]
        self._dials: list[events.Dial] = []  # not answered
        self._asked: list[events.OpenStream] = []  # not answered
        self._connections: dict[int, None] = {}
        self._streams: dict[int, str] = {}  # open or opened once: protocol
        self._held: dict[int, list[Record]] = {}  # connection -> what happens on it once our node has dialled
        self._held_streams: dict[int, list[Record]] = {}  # stream -> the same once our node has opened it
        self._recorded_out: dict[int, bytes] = {}
        self._recorded_in: dict[int, int] = {}
        self._proposed: dict[int, tuple[str, ...]] = {}  # token in the transcript -> protocols

    def run(self) -> None:
        """Go through the transcript, then let virtual time pass until all that is open should be answered."""
        for record in self._transcript:
            self._until(float(record["monotonic"]))
            self._happen(record)
        for dial in list(self._dials):
            self._dials.remove(dial)
            self._answer(events.DialFailed(dial.dial, Unreachable("not in the transcript")))
        self._until(self.now + _AFTERWARDS)

    def ask(self, make: Callable[[int], Any]) -> int:
        """Feed `make(op)` with a new operation number, and return that."""
        op = self.node.new_op()
        self._answer(make(op))
        return op

    def result(self, op: int) -> object:
        return next(item.result for item in self.of(events.OperationCompleted) if item.op == op)

    def of(self, kind: type[Any]) -> list[Any]:
        """The news of a kind."""
        return [item for item in self.news if isinstance(item, kind)]

    def feed(self, make: Callable[[], Any]) -> None:
        """Hand the node `make()`, once it has done what it was at before."""
        self._inputs.append(make)
        if not self._busy:
            self._go_on()

    def _go_on(self) -> None:
        self._busy = True
        while self._inputs:
            self._perform(self.node.handle(self._inputs.popleft()(), self.now))
        self._busy = False

    def _answer(self, input: Any) -> None:
        self.feed(lambda: input)

    def _until(self, when: float) -> None:
        while (due := self.node.next_deadline()) is not None and due <= when:
            self.now = max(self.now, due)
            self._busy = True
            self._perform(self.node.handle_deadline(self.now))
            self._busy = False
            self._go_on()
        self.now = max(self.now, when)

    # ------------------------------------------------------------ the peer's side

    def _happen(self, record: Record) -> None:
        event, connection = record["event"], record.get("connection", 0)
        if event == "addresses":
            listening = tuple(map(Multiaddr.from_text, record["listening"]))
            self._answer(events.AddressesChanged(listening, ()))
        elif event == "open stream":
            self._proposed[record["token"]] = tuple(record["protocols"])
        elif event == "stream failed":
            self._stream_failed(record)
        elif event == "connection opened" and not self._admit(record):
            self._held[connection] = [record]
        elif connection in self._held and event != "connection opened":
            self._held[connection].append(record)
        elif connection in self._connections and "stream" in record:
            self._on_stream(record, connection << STREAM_BITS | record["stream"])
        elif connection in self._connections and event == "connection closed":
            self._connections.pop(connection)
            reason = record.get("reason")
            self.topics_at_close[connection] = self.node.topics()
            self._answer(events.ConnectionClosed(connection, Closed(reason) if reason else None))

    def _admit(self, record: Record) -> bool:
        """Open a connection, unless our node is still to dial the peer."""
        peer = PeerId.from_text(record["peer"])
        dial = None
        if "dial" in record:
            dial = next((dial for dial in self._dials if dial.peer in (peer, None)), None)
            if dial is None:
                return False
            self._dials.remove(dial)
        self._connections[record["connection"]] = None
        if peer == PEER.peer_id:
            self.main = record["connection"]
        identity = next(known for known in (PEER, SOUGHT) if known.peer_id == peer)
        remote, local = Multiaddr.from_text(record["remote"]), Multiaddr.from_text(record["local"])
        direction, number = Direction(record["direction"]), dial.dial if dial else None
        self._answer(
            events.ConnectionOpened(record["connection"], peer, identity.public_key, direction, remote, local, number)
        )
        return True

    def _on_stream(self, record: Record, stream: int) -> None:
        event, inward = record["event"], record["direction"] == "in"
        if event == "data" and not inward:
            self._recorded_out[stream] = self._recorded_out.get(stream, b"") + payload(record)
        elif event == "stream opened" and inward:
            self._streams[stream] = self.opened_by_peer[stream] = record["protocol"]
            self._answer(events.StreamOpened(stream, record["protocol"], None))
        elif event == "stream opened":
            self._held_streams[stream] = [record]
            self._match_streams()
        elif stream in self._held_streams:
            self._held_streams[stream].append(record)
        elif event == "data" and inward:
            self.feed(lambda: events.StreamsReceived(record["connection"], [(stream, self._said(record, stream))]))
        elif event == "end" and inward:
            self._answer(events.StreamEnded(stream))
        elif event == "reset" and inward:
            self._answer(events.StreamGone(stream))

    def _said(self, record: Record, stream: int) -> bytes:
        """The peer's bytes; of an echo of ours, our own bytes, if the peer has echoed what it was sent."""
        data = payload(record)
        if record["protocol"] != PING or record["opener"] != "us":
            return data
        begin = self._recorded_in.get(stream, 0)
        end = self._recorded_in[stream] = begin + len(data)
        assert data == self._recorded_out[stream][begin:end], "the peer echoed other bytes than it was sent"
        return bytes(self.sent[stream][begin:end])

    def _match_streams(self) -> None:
        """Give streams that our node waits for those of the transcript, in order."""
        for stream, held in list(self._held_streams.items()):
            protocol = held[0]["protocol"]
            connection = held[0]["connection"]
            for asked in self._asked:
                if asked.connection == connection and protocol in asked.protocols:
                    self._asked.remove(asked)
                    del self._held_streams[stream]
                    self._streams[stream] = protocol
                    self._answer(events.StreamOpened(stream, protocol, asked.token))
                    for record in held[1:]:
                        self._on_stream(record, stream)
                    return self._match_streams()

    def _stream_failed(self, record: Record) -> None:
        protocols = self._proposed.get(record["token"])
        asked = next((asked for asked in self._asked if asked.protocols == protocols), None)
        if asked is not None:
            self._asked.remove(asked)
            self._answer(events.StreamFailed(asked.token, NotSupported(record["reason"])))

    # ------------------------------------------------------------ our side

    def _perform(self, effects: list[Any]) -> None:
        for effect in effects:
            match effect:
                case events.Wake(stream):
                    while buffers := self.node.take(stream, _TAKE):
                        self.sent.setdefault(stream, bytearray()).extend(b"".join(buffers))
                case events.Dial(_, peer):
                    self._dials.append(effect)
                    for connection, held in list(self._held.items()):
                        if str(peer) == held[0]["peer"]:
                            del self._held[connection]
                            for record in held:
                                self._happen(record)
                case events.OpenStream():
                    self._asked.append(effect)
                    self._match_streams()
                case events.CloseWrite() | events.ResetStream():
                    pass
                case _:
                    self.news.append(effect)
                    for listener in self.listeners:
                        listener(effect)


class Session:
    """What the sidecar's apps do in a recorded session, done again in its replay."""

    def __init__(self, transcript: list[Record]) -> None:
        self.replay = Replay(transcript)
        self.ops: dict[str, int] = {}
        self.topic_in_session: gossip.TopicView | None = None
        self._address = next(Multiaddr.from_text(r["remote"]) for r in transcript if r["event"] == "connection opened")

    def run(self) -> None:
        replay, peer = self.replay, PEER.peer_id
        replay.listeners.append(self._on_news)
        replay.feed(lambda: gossip.TopicJoined(TOPIC))
        self.ops["connect"] = replay.ask(lambda op: events.ConnectRequested(op, peer, (self._address,)))
        replay.run()

    def _on_news(self, news: Any) -> None:
        replay, peer = self.replay, PEER.peer_id
        match news:
            case events.PeerChanged(PeerChange.IDENTIFIED, view) if view.peer == peer:
                self.ops["ping"] = replay.ask(lambda op: events.PingRequested(op, peer))
                self.ops["find"] = replay.ask(lambda op: events.FindPeerRequested(op, SOUGHT.peer_id))
            case gossip.MessagesDelivered(_, messages) if not messages[0].local:
                self.topic_in_session = replay.node.topics()[0]
                self.ops["publish"] = replay.ask(lambda op: gossip.Published(op, TOPIC, [OURS]))


def check(language: str, transcript: list[Record]) -> None:
    """Replay a transcript and assert what the core makes of it."""
    session = Session(transcript)
    session.run()
    replay, ops = session.replay, session.ops
    assert not [note for note in replay.of(events.Note) if note.level >= LogLevel.WARNING]
    statistics = replay.node.statistics().flat()
    troubles = [name for name in statistics if "rejected" in name or "violation" in name]
    assert troubles
    assert not any(statistics[name] for name in troubles), {name: statistics[name] for name in troubles}

    changes = [(item.change, item.view) for item in replay.of(events.PeerChanged) if item.view.peer == PEER.peer_id]
    assert [changes[0][0], changes[-1][0]] == [PeerChange.CONNECTED, PeerChange.DISCONNECTED]
    identified = next(view for change, view in changes if change is PeerChange.IDENTIFIED)
    assert identified.agent.startswith(AGENTS[language]), identified.agent
    assert identified.protocol_version == "sidecar/interop"
    assert {IDENTIFY, PING, "/sidecar/interop/kad/1.0.0", "/meshsub/1.1.0"} <= set(identified.protocols)
    assert identified.addresses
    assert isinstance(replay.result(ops["connect"]), events.PeerView)
    assert isinstance(replay.result(ops["ping"]), float)

    found = replay.result(ops["find"])
    assert isinstance(found, tuple), found
    assert all(isinstance(address, Multiaddr) for address in found)
    assert found
    _check_their_queries(replay)
    _check_gossip(session)


def _check_their_queries(replay: Replay) -> None:
    """The peer asked us as well, and what it got is an answer to that."""
    asked = [stream for stream, protocol in replay.opened_by_peer.items() if protocol.endswith("/kad/1.0.0")]
    answered = [bytes(replay.sent[stream]) for stream in asked if stream in replay.sent]
    assert answered
    for answer in answered:
        for frame in FrameDecoder(_TAKE).receive(answer):
            decode_closer_peers(frame, KademliaConfig())  # raises for what is no answer to FIND_NODE
    pings = [stream for stream, protocol in replay.opened_by_peer.items() if protocol == PING]
    assert pings
    assert all(len(replay.sent[stream]) % 32 == 0 and replay.sent[stream] for stream in pings)


def _check_gossip(session: Session) -> None:
    """A signed message each way between members of each other's mesh, until the peer unsubscribed."""
    replay, peer = session.replay, PEER.peer_id
    messages = [message for item in replay.of(gossip.MessagesDelivered) for message in item.messages]
    theirs = [message for message in messages if not message.local]
    assert [(m.topic, m.sender, m.data, m.received_from) for m in theirs] == [(TOPIC, peer, THEIRS, peer)]
    assert session.topic_in_session is not None
    assert session.topic_in_session.mesh == (peer,)
    published = next(item for item in replay.of(gossip.PublishCompleted) if item.op == session.ops["publish"])
    assert [(receipt.outcome, receipt.peers) for receipt in published.receipts] == [(gossip.PublishOutcome.SENT, 1)]
    assert [topic.peers for topic in replay.topics_at_close[replay.main]] == [()]
