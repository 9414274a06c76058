"""Checking each signature once, however many nodes of a simulation get the message."""

from collections.abc import Sequence

from ..core import gossip

_MAX = 4096  # verdicts that are kept; what is on its way at a time is less


class Verdicts:
    """What `gossip.verify_batch` says, remembered: all nodes are in one process, and see the same bytes.

    So a message costs one check and not one a node, and a forged one is still found out.
    """

    def __init__(self) -> None:
        self._known: dict[gossip.SignatureCheck, str | None] = {}

    def verify(self, checks: Sequence[gossip.SignatureCheck]) -> list[str | None]:
        """For each None, or why it is rejected."""
        known = self._known
        if len(known) >= _MAX:
            known.clear()
        fresh = [check for check in checks if check not in known]
        if fresh:
            known.update(zip(fresh, gossip.verify_batch(fresh), strict=True))
        return [known[check] for check in checks]
