"""Whether messages that are published together may travel as one: the choices of a topic, and the bounds."""

import enum
from collections.abc import Sequence

from ..patterns import matches

MAX_BUNDLED = 4096
"""Messages in a bundle: as many as one RPC has of those that travel alone, see `GossipConfig.max_chunk_messages`."""
MAX_PATTERNS = 256  # of topics for which something is configured; each new topic is compared with them; a guess


class Bundling(enum.Enum):
    """Whether what is published together on a signed topic travels as bundles."""

    OFF = "off"  # each message by itself, with a signature of its own
    KNOWN = "known"  # in bundles while all connected peers of the topic know them
    ALWAYS = "always"  # in bundles; apps of peers that do not know them get these as they are


def bundling_of(topic: str, choices: Sequence[tuple[str, Bundling]]) -> Bundling:
    """What the first pattern says that fits the topic's name."""
    return next((choice for pattern, choice in choices if matches(pattern, topic)), Bundling.OFF)
