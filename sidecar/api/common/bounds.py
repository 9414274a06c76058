"""How much may wait for one reader, how much goes out at once, how many may be open."""

from ...core.classes import NamedTuple
from ...core.errors import ResourceExhausted

BATCH_BYTES = 1 << 20  # a batch ends here unless one message is larger


class Bounds(NamedTuple):
    """How much waits for one reader."""

    messages: int
    bytes: int


def check_room(present: int, limit: int, what: str) -> None:
    """Raises ResourceExhausted where no more than the `present` ones may be open; `what` names them."""
    if present >= limit:
        raise ResourceExhausted(f"{present} {what} are open, at most {limit}")
