"""What both sides of AutoNAT v2 count."""

from ..classes import dataclass
from ..statistics import Statistics


@dataclass(slots=True)
class ReachabilityStatistics(Statistics):
    """Where this node can be reached, as others have found."""

    prefix = "reachability_"

    confirmed: int = 0
    """Addresses."""
    not_reachable: int = 0
    unknown: int = 0
    node_not_reachable: int = 0
    """1 where none of the addresses that were looked at can be reached."""
    requests: int = 0
    """Sent to servers."""
    proofs: int = 0
    """Answered with the nonce."""
    failures: int = 0
    """Answered: dialled in vain."""
    refusals: int = 0
    """Not served: refused, or too many."""
    broken: int = 0
    """That ended in an error, or without an answer."""
    unproven: int = 0
    """Said to have worked, and no nonce came."""
    stray_dial_backs: int = 0
    """With a nonce that is nobody's, or was there before, or over a connection that was open already."""
    dial_data_bytes: int = 0
    """Paid to servers."""


@dataclass(slots=True)
class DialBackStatistics(Statistics):
    """What this node did for others that asked where they can be reached."""

    prefix = "autonat_"

    requests: int = 0
    rejected: int = 0
    """Too many."""
    refused: int = 0
    """No address that may be dialled."""
    broken: int = 0
    """Given up by the peer, or against the protocol."""
    reached: int = 0
    not_reached: int = 0
    not_delivered: int = 0
    """Connected, and the nonce could not be handed over."""
    dial_data_bytes: int = 0
    """Received."""
