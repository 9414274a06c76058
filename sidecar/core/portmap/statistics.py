"""What mapping ports counts."""

from ..classes import dataclass
from ..statistics import Statistics


@dataclass(slots=True)
class PortMappingStatistics(Statistics):
    """What the gateway was asked, and what came of it, since the start."""

    prefix = "port_mapping_"

    mappings: int = 0
    """Ports of the gateway that lead here now."""
    requests: int = 0
    """Sent: datagrams, repeated ones included, and HTTP requests."""
    granted: int = 0
    """Ports that were mapped or renewed."""
    denied: int = 0
    """Answers that said no."""
    unanswered: int = 0
    """Requests that were given up."""
    malformed: int = 0
    """Answers that were none: cut short, too large, absurd, or that led elsewhere."""
    strays: int = 0
    """Datagrams of others than the gateway, or that answer nothing that was asked."""
    restarts: int = 0
    """Times that the gateway had forgotten what it had mapped."""
    lost: int = 0
    """Mappings that ended since they could not be renewed."""
