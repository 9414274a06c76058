"""What waits of a heavy peer, by author: one that says little does not wait behind one whose flood the peer relays.

A peer that relays a flood is as heavy as its source, though it may have done nothing but its duty. So what waits of it
is told apart by the authors of the messages, as far as the bytes claim one. They are served in turn, a few messages of
each; every second turn is of somebody who has just begun. Each author's messages stay in order, and so does all that is
no message. Who makes up authors gains little: the peer's pace is for all of them together, and so is the bound on what
`take_few` lets pass beside it.
"""

from collections import deque
from collections.abc import Iterable

from ..errors import ProtocolError
from .events import FirstRpc
from .messages import claimed_author, decode_rpc, match_message
from .pacing import UNIT

COST = 64
"""Bytes that an RPC or message that waits counts beside its own: empty ones cost memory too."""
_TURN = 4  # units of one author until others have their turn; a guess

Entry = tuple[bool, bytes]
"""Whether it is a message, else an RPC, and its bytes."""


class FairBacklog:
    """In place of a deque of RPCs. An RPC of messages is taken apart at once, and its messages wait as such."""

    __slots__ = ("_begun", "_flows", "_left", "_most", "_new_ones_turn", "_waiting", "bytes", "opened")

    def __init__(self, bodies: Iterable[bytes], most: int) -> None:
        """Begin with these RPCs. `most`: messages of one; what has more is left whole."""
        self._most = most
        # By author; None: what is no message. Those that began since they were last empty, and those that had turns.
        self._begun: dict[bytes | None, deque[bytes]] = {}
        self._flows: dict[bytes | None, deque[bytes]] = {}
        self._new_ones_turn = True
        self._left = float(_TURN)
        self._waiting = 0
        self.bytes = 0
        """Of what waits, with what keeping it costs."""
        self.opened = 0
        """RPCs that were nothing but messages."""
        self.extend(bodies)

    def __len__(self) -> int:
        """How many messages, and RPCs of other things, wait."""
        return self._waiting

    def extend(self, bodies: Iterable[bytes]) -> None:
        """Queue RPCs."""
        for body in bodies:
            if type(body) is FirstRpc:
                self._put(None, body)
                continue
            raw = match_message(body)
            if raw is not None:
                self._put(claimed_author(raw), raw)
                self.opened += 1
                continue
            try:
                rpc = decode_rpc(body)
            except ProtocolError:
                self._put(None, body)  # whoever serves it says so
                continue
            if 0 < len(rpc.publish) <= self._most:
                for message in rpc.publish:
                    self._put(claimed_author(message), message)
                rpc.ClearField("publish")
                body = rpc.SerializeToString()
                if not body:
                    self.opened += 1
                    continue
            self._put(None, body)

    def _put(self, author: bytes | None, entry: bytes) -> None:
        flow = self._flows.get(author) or self._begun.get(author)
        if flow is None:
            flow = self._begun[author] = deque()
        flow.append(entry)
        self._waiting += 1
        self.bytes += len(entry) + COST

    def pop(self) -> Entry:
        """What is to be served next."""
        new = bool(self._begun) and (self._new_ones_turn or not self._flows)
        flows = self._begun if new else self._flows
        author = next(iter(flows))
        flow = flows[author]
        entry = flow.popleft()
        self._waiting -= 1
        self.bytes -= len(entry) + COST
        self._left -= 1 + len(entry) / UNIT
        if not flow or self._left <= 0:
            del flows[author]
            if flow:
                self._flows[author] = flow  # behind the others
            self._new_ones_turn = not new
            self._left = float(_TURN)
        return author is not None, entry

    def take_few(self) -> list[bytes]:
        """Messages of those who have just begun, and with few: all of these, so that each author's stay in order."""
        taken: list[bytes] = []
        for author, flow in list(self._begun.items()):
            if author is not None and len(flow) + sum(map(len, flow)) / UNIT <= _TURN:
                del self._begun[author]
                taken += flow
        self._waiting -= len(taken)
        self.bytes -= sum(map(len, taken)) + COST * len(taken)
        return taken

    def clear(self) -> None:
        """Forget all of it."""
        self._begun.clear()
        self._flows.clear()
        self._waiting = self.bytes = 0
        self._left = float(_TURN)
