"""How many files this process may have open: connections are files, too."""

import contextlib
import resource

SPARE = 128  # beside connections: logs, databases, libraries; a guess


def allowed() -> int | None:
    """How many `raise_to` could allow; None: any number."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return None if hard == resource.RLIM_INFINITY else hard


def raise_to(wanted: int) -> None:
    """Raise the limit to what is wanted, as far as that takes no rights.

    Shells and systemd set a lower one than the user may have, for programs that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with contextlib.suppress(ValueError, OSError):  # then what there is has to do
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
