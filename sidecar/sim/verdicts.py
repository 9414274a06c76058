"""Checking each signature once, however many nodes of a simulation get the message."""

from collections.abc import Sequence
from functools import lru_cache

from ..core import gossip
from ..core.records import OpenRecord, open_peer_record

_MAX = 4096  # verdicts that are kept; what is on its way at a time is less
_RECORDS = 1 << 16  # of peers, whose newest one goes around for as long as the peer is there


class Verdicts:
    """What the checks of signatures say, remembered: all nodes are in one process, and see the same bytes.

    So a message or a peer's record costs one check and not one a node, and a forged one is still found out.
    """

    def __init__(self) -> None:
        self._known: dict[gossip.SignatureCheck, str | None] = {}
        self.open_record: OpenRecord = lru_cache(_RECORDS)(open_peer_record)
        """As `records.open_peer_record`. One that it refuses is not remembered: it is refused again each time."""

    def verify(self, checks: Sequence[gossip.SignatureCheck]) -> list[str | None]:
        """For each None, or why it is rejected."""
        known = self._known
        if len(known) >= _MAX:
            known.clear()
        fresh = [check for check in checks if check not in known]
        if fresh:
            known.update(zip(fresh, gossip.verify_batch(fresh), strict=True))
        return [known[check] for check in checks]
