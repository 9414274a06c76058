"""How gRPC's library reads and writes its sockets: what it reads from the environment when it is imported.

Its newer loop of events hands each read and each write to a thread of its own. The older one does them in the thread
that is polled anyway, which takes a fifth of the CPU less for each call (16 to 18 % of a request, and of a new stream).
A GRPC_EXPERIMENTS that is set already, an empty one too, is left as it is: that is the way out.
"""

import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from . import _fork  # noqa: F401 - it comes before gRPC, too

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:
    # As bases they would offer what went out with Python 3.12; importing `importlib.abc` takes 20 further modules.
    Loader = MetaPathFinder = object

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


class _Finder(MetaPathFinder):
    """Tells gRPC when it is imported: not before, for the sidecar has the generated code alone, and can do without."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """How gRPC is found by the others, loaded with what is to be told."""
        if fullname != "grpc":
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _TellingLoader(spec.loader, self)
                return spec
        return None


class _TellingLoader(Loader):
    def __init__(self, loader: Loader, finder: _Finder) -> None:
        self._loader = loader
        self._finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader  # as if nobody had been here
        module.__loader__ = self._loader
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        if "GRPC_EXPERIMENTS" in os.environ:
            self._loader.exec_module(module)
            return
        os.environ["GRPC_EXPERIMENTS"] = OURS
        try:
            self._loader.exec_module(module)
        finally:
            # It has been read. Processes that this one starts, with whatever gRPC of theirs, are not to inherit it.
            del os.environ["GRPC_EXPERIMENTS"]


def _prepare() -> None:
    if "grpc" not in sys.modules and "GRPC_EXPERIMENTS" not in os.environ and () < _version() <= NEWEST:
        sys.meta_path.insert(0, _Finder())


_prepare()
