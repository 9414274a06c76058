"""Messages on their way to the apps that judge them."""

import time
from collections import deque

from ...core.gossip import MessagesToJudge, ValidationSettings, ValidatorAdded, ValidatorRemoved, VerdictsGiven
from ...core.override import override
from ..common.bounds import BATCH_BYTES, Bounds, check_room
from ..common.outlet import Outlet
from ..surface import Feed
from . import convert, encode

_Piece = tuple[int, int, bytes]  # number of the first message, count, items


class ValidateStream(Outlet):
    """One app's Validate stream: what it has not been told yet.

    The node bounds what waits for verdicts. What an app does not even read is bounded here: the oldest is dropped, for
    it is the first that waits no longer.
    """

    def __init__(self, number: int, topics: tuple[str, ...], bounds: Bounds) -> None:
        """`number`: by which the node knows the app."""
        super().__init__()
        self.number = number
        self.topics = topics
        self.missed = 0
        """Messages that were dropped."""
        self._bounds = bounds
        self._pieces: deque[_Piece] = deque()
        self._messages = self._bytes = 0

    def push(self, asked: MessagesToJudge) -> None:
        """Messages of one topic that wait for the app's verdict."""
        first = asked.first
        local = asked.messages[0].local
        for count, data in encode.judged_pieces(asked.topic, asked.messages, wall_ns=time.time_ns(), local=local):
            self._pieces.append((first, count, data))
            self._messages += count
            self._bytes += len(data)
            first += count
        while len(self._pieces) > 1 and (self._messages > self._bounds.messages or self._bytes > self._bounds.bytes):
            _, count, data = self._pieces.popleft()
            self._messages -= count
            self._bytes -= len(data)
            self.missed += count
        self.ready.set()

    @override
    def take(self) -> bytes | None:
        if not self._pieces:
            return self.nothing()
        first = following = self._pieces[0][0]
        parts: list[bytes] = []
        size = 0
        while self._pieces and self._pieces[0][0] == following and size < BATCH_BYTES:
            _, count, data = self._pieces.popleft()
            parts.append(data)
            following += count
            size += len(data)
            self._messages -= count
        self._bytes -= size
        return b"".join((encode.numbered(first), *parts))


class Judges:
    """Who judges which topics."""

    def __init__(self, feed: Feed, bounds: Bounds, most: int) -> None:
        """`bounds`: of what one app has not read. `most`: how many may judge at a time."""
        self._feed = feed
        self._bounds = bounds
        self._most = most
        self._streams: dict[int, ValidateStream] = {}
        self._missed = 0

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def missed(self) -> int:
        """Messages that apps did not read in time."""
        return self._missed + sum(stream.missed for stream in self._streams.values())

    def add(self, number: int, topics: tuple[str, ...], settings: ValidationSettings | None) -> ValidateStream:
        """An app judges topics from now on. Raises ResourceExhausted."""
        check_room(len(self._streams), self._most, "validate streams")
        stream = self._streams[number] = ValidateStream(number, topics, self._bounds)
        try:
            self._feed(ValidatorAdded(number, dict.fromkeys(topics, settings)))
        except BaseException:
            del self._streams[number]
            raise
        return stream

    def remove(self, stream: ValidateStream, *, lost: bool) -> None:
        """It judges no more. `lost`: it did not say so itself."""
        del self._streams[stream.number]
        self._missed += stream.missed
        self._feed(ValidatorRemoved(stream.number, lost))

    def ask(self, asked: MessagesToJudge) -> None:
        """The node wants verdicts."""
        stream = self._streams.get(asked.validator)
        if stream is not None:
            stream.push(asked)

    def give(self, stream: ValidateStream, request: convert.ValidateRequest) -> None:
        """An app gives verdicts. Raises InvalidField."""
        given = convert.verdicts(request)
        if given:
            self._feed(VerdictsGiven(stream.number, given))
