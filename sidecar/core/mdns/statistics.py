"""What discovery on the local network counts."""

from ..classes import dataclass
from ..statistics import Statistics


@dataclass(slots=True)
class MdnsStatistics(Statistics):
    """What was heard and said on all links since the start."""

    prefix = "mdns_"

    links: int = 0  # on which this node asks now
    questions: int = 0  # sent
    answers: int = 0  # sent
    received: int = 0  # messages of others, and of this node itself
    refused: int = 0  # of these: no DNS, or more than are read
    peers: int = 0  # told to the node, each as often as it was told
