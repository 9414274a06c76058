"""A process that was forked from one that has, or had, a client: gRPC's threads and locks do not come along.

A call there crashes the process, and a new connection hangs; so both are refused.
"""

import gc
import os

# gRPC's own handlers do half of their work beside asyncio; then even a child that leaves gRPC alone crashes at times
# (12 of 60 that did no more than allocate memory). It reads this when it is imported, so this module comes first.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

_used = False  # a client was made; it may be gone, but gRPC lets go of its threads later, at a time of its own
parent = 0
"""The process that had made one when it was forked to make this one; 0: none."""
_kept: list[object] = []


def made() -> None:
    """A client is made. Raises FailedPrecondition where that cannot work."""
    global _used
    check()
    _used = True


def check() -> None:
    """Raises FailedPrecondition in a process that was forked when a client had been made."""
    if parent:
        from .errors import FailedPrecondition  # not at the top: it imports gRPC

        raise FailedPrecondition(
            f"process {parent} had a sidecar client when it was forked to make this one ({os.getpid()}), where gRPC "
            "cannot be used: start processes by `spawn` or `forkserver` (multiprocessing) or by subprocess, or fork "
            "before the first connect()"
        )


def keep(*parts: object) -> None:
    """Do not free these objects of gRPC, which are the other process's."""
    _kept.extend(parts)


def _in_child() -> None:
    global parent
    if _used and not parent:
        parent = os.getppid()
        gc.freeze()  # to free one of gRPC's objects here, in a cycle that the other process has left, crashes too


os.register_at_fork(after_in_child=_in_child)
