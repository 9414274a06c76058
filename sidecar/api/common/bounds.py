"""How much may wait for one reader, and how much goes out at once."""

from typing import NamedTuple

BATCH_BYTES = 1 << 20  # a batch ends here unless one message is larger


class Bounds(NamedTuple):
    """How much waits for one reader."""

    messages: int
    bytes: int
