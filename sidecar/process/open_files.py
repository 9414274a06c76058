"""How many files this process may have open: connections are files, too."""

import resource

LEAST = 48  # with fewer, libraries abort the process in its start; measured, with some to spare
SPARE = 128  # beside connections: logs, databases, libraries; a guess


def allowed() -> int | None:
    """How many `raise_to` could allow; None: any number."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return None if hard == resource.RLIM_INFINITY else hard


def raise_to(wanted: int) -> int:
    """Raise the limit to what is wanted, as far as that takes no rights; returns how many of those there are.

    Shells and systemd set a lower one than the user may have, for programs that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    except (ValueError, OSError):
        return soft
    return raised
