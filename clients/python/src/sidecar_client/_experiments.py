"""How gRPC's library reads and writes its sockets: what it reads from the environment when it is imported.

Its newer loop of events hands each read and each write to a thread of its own. The older one does them in the thread
that is polled anyway, which takes a fifth of the CPU less for each call (16 to 18 % of a request, and of a new stream).
A GRPC_EXPERIMENTS that is set already, an empty one too, is left as it is: that is the way out.
"""

import importlib.util
import os
import re
import sys
from pathlib import Path

from . import _fork  # noqa: F401 - it comes before gRPC, too

OURS = "-event_engine_listener,-event_engine_client,-event_engine_for_all_other_endpoints"
NEWEST = (1, 85)
"""The newest release of grpcio that is known to know these names: it complains on standard error of others."""


def _version() -> tuple[int, ...]:
    """Of grpcio, without importing it; () where that cannot be told."""
    found = importlib.util.find_spec("grpc")
    if found is None or found.origin is None:
        return ()
    try:
        text = Path(found.origin).with_name("_grpcio_metadata.py").read_text(encoding="utf-8")
    except OSError:
        return ()
    numbers = re.search(r"(\d+)\.(\d+)", text)
    return tuple(map(int, numbers.groups())) if numbers else ()


def _import_grpc() -> None:
    if "grpc" in sys.modules or "GRPC_EXPERIMENTS" in os.environ or not () < _version() <= NEWEST:
        return
    os.environ["GRPC_EXPERIMENTS"] = OURS
    try:
        import grpc  # noqa: F401
    finally:
        # It has been read. Processes that this one starts, with whatever gRPC of theirs, are not to inherit it.
        del os.environ["GRPC_EXPERIMENTS"]


_import_grpc()
