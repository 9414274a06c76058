"""SIGHUP: the configuration read again beside the event loop, since its disk may be slow, and put into force on it."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ..app import Reloaded
from ..config import Loaded
from ..core.errors import ConfigError
from ..process.service_manager import ServiceManager
from ..process.standard_streams import errors

_SAID = 0.1  # seconds, in which nothing else is done: who is told of a reload finds in the log what it changed
_SLOW = 10.0  # seconds after which it is said that a file has not been read yet; a guess

_log = logging.getLogger("sidecar.run")


class Reloadable(Protocol):
    """What takes a new configuration."""

    def reload(self, loaded: Loaded) -> Reloaded:
        """Raises ConfigError; nothing is changed then."""


class Reloading:
    """One reading after another: asked while one is under way, it reads once more afterwards."""

    def __init__(
        self, app: Reloadable, manager: ServiceManager, load: Callable[[], Loaded], file: Path | None = None
    ) -> None:
        """`load` reads the configuration, in a thread, and raises ConfigError. `file`: that of the start."""
        self._app = app
        self._file = file
        self._manager = manager
        self._load = load
        self._asked = False
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Read it again, from the running loop."""
        self._asked = True
        if self._task is None:
            self._task = asyncio.create_task(self._read(), name="reload")

    def close(self) -> None:
        """Wait for no file any more."""
        if self._task is not None:
            self._task.cancel()

    async def _read(self) -> None:
        try:
            while self._asked:
                self._asked = False
                self._manager.reloading()
                self._adopt(await self._loaded())
                errors.flush(_SAID)
                self._manager.reloaded()
        finally:
            self._task = None

    def _adopt(self, loaded: Loaded | Exception) -> None:
        try:
            if isinstance(loaded, Exception):
                raise loaded
            if self._file is not None and loaded.file is None:  # bans and who may connect would be lifted, unsaid
                raise ConfigError(f"{self._file}, which was read before, is gone; an empty file has all defaults")
            reloaded = self._app.reload(loaded)
            self._file = loaded.file
        except ConfigError as error:
            _log.error("the configuration stays as it was: %s", error)
        except Exception:  # noqa: BLE001 - a fault of ours costs the reload, not the node
            _log.exception("the configuration stays as it was: internal error")
        else:
            _log.info("configuration read again; changed: %s", ", ".join(reloaded.live) or "nothing")
            if reloaded.waiting:
                _log.warning("changed only by a restart: %s", ", ".join(reloaded.waiting))

    async def _loaded(self) -> Loaded | Exception:
        """What the files say, or why they cannot be read. The thread is a daemon: an end does not wait for it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Loaded | Exception] = loop.create_future()

        def settle(result: Loaded | Exception) -> None:
            if not answer.done():
                answer.set_result(result)

        def work() -> None:
            result: Loaded | Exception
            try:
                result = self._load()
            except Exception as error:  # noqa: BLE001 - raised again on the loop
                result = error
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, result)

        threading.Thread(target=work, name="reload", daemon=True).start()
        slow = loop.call_later(
            _SLOW, _log.warning, "the configuration is not read yet after %g s: is its disk slow?", _SLOW
        )
        try:
            return await answer
        finally:
            slow.cancel()
