"""A process that was forked from one with a client: gRPC's threads and locks do not come along.

A call there crashes the process, and a new connection hangs; so both are refused.
"""

import gc
import os

# gRPC's own handlers do half of their work beside asyncio; then even a child that leaves gRPC alone crashes at times
# (12 of 60 that did no more than allocate memory). It reads this when it is imported, so this module comes first.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

_held = 0  # clients that this process has; a closed one counts, since with it gRPC's threads are there
parent = 0
"""The process that had some when it was forked to make this one; 0: none."""
_kept: list[object] = []


def made() -> None:
    """A client is made. Raises FailedPrecondition where that cannot work."""
    global _held
    check()
    _held += 1


def gone() -> None:
    """A client is no more."""
    global _held
    _held -= 1


def check() -> None:
    """Raises FailedPrecondition in a process that was forked while there was a client."""
    if parent:
        from .errors import FailedPrecondition  # not at the top: it imports gRPC

        raise FailedPrecondition(
            f"process {parent} had a sidecar client when it was forked to make this one ({os.getpid()}), where gRPC "
            "cannot be used: start processes by `spawn` or `forkserver` (multiprocessing) or by subprocess, or fork "
            "before connect(), or when no client is left"
        )


def keep(*parts: object) -> None:
    """Do not free these objects of gRPC, which are the other process's."""
    _kept.extend(parts)


def _in_child() -> None:
    global parent
    if _held and not parent:
        parent = os.getppid()
        gc.freeze()  # to free one of gRPC's objects here, in a cycle that the other process has left, crashes too


os.register_at_fork(after_in_child=_in_child)
