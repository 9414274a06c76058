"""What waits for one peer: plaintext frames, so that what a slow peer loses can still be counted."""

from collections import deque
from collections.abc import Sequence

from ..parameters.gossip import GossipConfig
from ..types import PeerId
from .messages import RpcChunk, control_frames, encode_idontwants, encode_iwants, encode_named, encode_subscription

_NONE: deque[RpcChunk] = deque(maxlen=0)  # of all queues that are empty: a deque of its own takes 760 bytes


class PeerQueue:
    """Frames for one peer, in three classes.

    1. Subscriptions, GRAFT and PRUNE: never dropped. For each topic only the last word waits.
       IDONTWANT goes with them, ahead of messages: it is in time or of no use. It is bounded.
    2. Messages: bounded in bytes and in number; what does not fit is refused, and the caller counts it.
       So are the ids that lazy links carry in place of messages; they are as small, and the sooner they come the fewer
       messages cross them.
    3. IHAVE and IWANT: sent once no message waits, or after a heartbeat of waiting; a newer IHAVE replaces an older.
       IWANT for what is late on a lazy link goes at once.
    """

    __slots__ = (
        "_aged",
        "_behind",
        "_behind_of",
        "_chunks",
        "_config",
        "_control",
        "_first",
        "_idontwant",
        "_ihave",
        "_iwant",
        "_max_chunk",
        "_named",
        "_named_before",
        "_named_ids",
        "_subscriptions",
        "bytes",
        "dropped",
        "messages",
    )

    def __init__(self, config: GossipConfig, max_rpc: int | None = None) -> None:
        """`max_rpc`: bytes of the largest RPC that the peer reads, where that is less than ours."""
        self._config = config
        self._max_chunk = config.max_chunk if max_rpc is None else min(config.max_chunk, max_rpc)
        self._subscriptions: dict[bytes, int | None] = {}
        self._control: dict[bytes, bytes] = {}
        self._chunks: deque[RpcChunk] = _NONE
        self._behind: deque[RpcChunk] = _NONE  # of sources that send by far more than others: after all of `_chunks`
        self._behind_of: dict[PeerId, None] | None = None  # the sources
        self._idontwant: list[bytes] = []
        self._ihave: dict[str, list[bytes]] = {}
        self._iwant: dict[bytes, None] = {}
        self._first = b""  # a frame that goes before all others
        self._named: dict[bytes, list[bytes]] = {}  # by topic
        self._named_ids = 0  # in them
        self._named_before = 0  # that were taken since the last heartbeat
        self._aged = False
        self.bytes = 0  # of waiting messages, as frames
        self.messages = 0
        self.dropped = 0  # messages that did not fit, since the start

    def __bool__(self) -> bool:
        return bool(
            self._chunks
            or self._behind
            or self._control
            or self._subscriptions
            or self._idontwant
            or self._named
            or self._ihave
            or self._iwant
            or self._first
        )

    @property
    def overrun(self) -> bool:
        """Whether more changes of topics and mesh wait than may."""
        return len(self._subscriptions) + len(self._control) > self._config.queue_max_control

    @property
    def relieved(self) -> bool:
        """Whether less than half of what may wait waits: time to let publishers go on."""
        config = self._config
        return self.bytes * 2 <= config.queue_max_bytes and self.messages * 2 <= config.queue_max_messages

    def subscribe(self, topic: bytes, age: int | None) -> None:
        """Announce that the topic was joined `age` milliseconds ago, or (None) left.

        One that takes back another that still waits leaves nothing to say.
        """
        if topic in self._subscriptions and (self._subscriptions[topic] is None) != (age is None):
            del self._subscriptions[topic]
        else:
            self._subscriptions[topic] = age

    def put_control(self, topic: bytes, entry: bytes) -> None:
        """A GRAFT or PRUNE; it replaces one for the same topic."""
        self._control.pop(topic, None)
        self._control[topic] = entry

    def has_room(self, size: int, count: int) -> bool:
        """Whether so much fits. An empty queue takes anything."""
        config = self._config
        return not (self._chunks or self._behind) or (
            self.bytes + size <= config.queue_max_bytes and self.messages + count <= config.queue_max_messages
        )

    def put(self, chunk: RpcChunk, source: PeerId | None = None, *, heavy: bool = False) -> bool:
        """Queue messages, or count them as dropped.

        `source`: their author, or where nobody signs who brought them.
        `heavy`: they are a part of by far more than others send. Such messages may have half of the room, and go after
        all that others have sent. Those of one source stay in order, also where they are no flood any more.
        """
        size, count = len(chunk.frame), chunk.messages
        if heavy or (self._behind_of is not None and source in self._behind_of):
            return self._put_behind(chunk, source)
        if not self.has_room(size, count):
            self.dropped += count
            return False
        if self._chunks:
            self._chunks.append(chunk)
        else:
            self._chunks = deque((chunk,))
        self.bytes += size
        self.messages += count
        return True

    def _put_behind(self, chunk: RpcChunk, source: PeerId | None) -> bool:
        config, size, count = self._config, len(chunk.frame), chunk.messages
        full = (
            2 * (self.bytes + size) > config.queue_max_bytes or 2 * (self.messages + count) > config.queue_max_messages
        )
        if full and (self._chunks or self._behind):
            self.dropped += count
            return False
        if self._behind_of is None:
            self._behind, self._behind_of = deque(), {}
        self._behind.append(chunk)
        if source is not None:
            self._behind_of[source] = None
        self.bytes += size
        self.messages += count
        return True

    def put_ihave(self, topic: str, entries: list[bytes]) -> bool:
        """Gossip about a topic. False when it replaced older gossip that never left."""
        replaced = topic in self._ihave
        self._ihave[topic] = entries
        return not replaced

    def put_iwant(self, ids: Sequence[bytes], *, urgent: bool = False) -> int:
        """Ask for messages, `urgent`: before messages go out; how many fitted."""
        self._aged = self._aged or urgent
        room = self._config.max_ihave_length - len(self._iwant)
        taken = ids[:room]
        self._iwant.update(dict.fromkeys(taken))
        return len(taken)

    def put_idontwant(self, ids: Sequence[bytes]) -> int:
        """Tell what need not be sent; how many fitted."""
        taken = ids[: self._config.max_unwanted - len(self._idontwant)]
        self._idontwant += taken
        return len(taken)

    def begin(self, frame: bytes) -> None:
        """Send a frame before all others."""
        self._first = frame

    def put_named(self, topic: bytes, piece: bytes, count: int) -> bool:
        """So many ids in place of messages, encoded; False when too many wait, or went since the last heartbeat."""
        # The peer takes twice as many in a heartbeat, which may be a shorter one at either end.
        most = self._config.max_named // 2 * min(1.0, self._config.heartbeat_interval)
        if self._named_ids + self._named_before + count > most:
            return False
        self._named_ids += count
        pieces = self._named.setdefault(topic, [])
        if count or piece not in pieces:
            pieces.append(piece)
        return True

    def age(self) -> None:
        """A heartbeat passed: gossip that still waits goes before messages now."""
        self._aged = bool(self._ihave or self._iwant)
        self._named_before = 0

    def take(self, limit: int) -> list[bytes]:
        """Frames of about `limit` bytes, at least one if any waits."""
        frames = encode_idontwants(self._idontwant, self._config.idontwant_ids) if self._idontwant else []
        self._idontwant = []
        if self._first:
            frames.insert(0, self._first)
            self._first = b""
        if self._named:
            frames += encode_named(self._named, self._max_chunk)
            self._named_before += self._named_ids
            self._named, self._named_ids = {}, 0
        if self._control or self._subscriptions or self._aged:
            frames += self._take_control()
        left = limit - sum(map(len, frames))
        for chunks in (self._chunks, self._behind):
            while chunks and (left >= len(chunks[0].frame) or not frames):
                frame, count = chunks.popleft()
                frames.append(frame)
                size = len(frame)
                left -= size
                self.bytes -= size
                self.messages -= count
            if chunks:
                return frames
        self._chunks = _NONE
        if self._behind_of is not None:
            self._behind, self._behind_of = _NONE, None
        if (self._ihave or self._iwant) and (left > 0 or not frames):
            self._aged = True
            frames += self._take_control()
        return frames

    def _take_control(self) -> list[bytes]:
        max_bytes, max_items = self._max_chunk, self._config.max_rpc_control
        # In an RPC of their own, ahead: rust-libp2p reads an RPC's subscriptions first, takes who leaves out of its
        # mesh with a back-off of 60 s of its own choice, and punishes a GRAFT that heeds the one that PRUNE names.
        parting = [topic for topic, age in self._subscriptions.items() if age is None and topic in self._control]
        prunes = [self._control.pop(topic) for topic in parting]
        subscriptions = [encode_subscription(topic, age) for topic, age in self._subscriptions.items()]
        control = list(self._control.values())
        self._subscriptions.clear()
        self._control.clear()
        if self._aged:
            control += encode_iwants(list(self._iwant), max_bytes // 2)
            for entries in self._ihave.values():
                control += entries
            self._ihave.clear()
            self._iwant.clear()
            self._aged = False
        frames = control_frames([], prunes, max_bytes, max_items) if prunes else []
        return frames + control_frames(subscriptions, control, max_bytes, max_items)
