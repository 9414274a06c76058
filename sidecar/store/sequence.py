"""Where a run's sequence numbers begin: above those of every run before, whatever the clock shows."""

import logging
from pathlib import Path

from ..core.errors import StorageError
from .files import read_private, replace_private

RESERVED = 1 << 38
"""Numbers kept for one run, so that none is written while it lasts: 27,000 a second for 115 days. As nanoseconds they
are 275 s, by which one run after another moves ahead of the clock at most."""
_MAX = (1 << 63) - 2 * RESERVED  # signed values have numbers of 63 bits
_MAX_FILE = 64  # bytes

_log = logging.getLogger(__name__)


def reserve(path: Path, wall_ns: int) -> int:
    """The number above which this run's begin: what the wall clock shows, or the end of what was reserved before.

    The next ones are reserved on the disk before any is used, so that neither a kill nor a power cut leads back to
    them. A disk that refuses is logged, and then the clock has to do.
    """
    first = min(max(wall_ns, _reserved(path)), _MAX)
    try:
        replace_private(path, b"%d\n" % (first + RESERVED))
    except StorageError as error:
        _log.warning(
            "%s; should the clock be set back before the next start, peers may take new messages for old ones", error
        )
    return first


def _reserved(path: Path) -> int:
    """The end of what earlier runs may have used."""
    try:
        text = read_private(path, _MAX_FILE)
        if text is None:
            return 0
        if text.strip().isdigit() and int(text) <= _MAX:
            return int(text)
        raise StorageError(f"{path} is damaged")
    except StorageError as error:
        _log.warning("%s; sequence numbers begin at what the clock shows", error)
        return 0
