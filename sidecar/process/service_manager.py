"""Telling the service manager how things stand: the notifications of sd_notify(3), a datagram each.

Only where the manager asks for them: systemd sets NOTIFY_SOCKET for units of `Type=notify` and `Type=notify-reload`,
and WATCHDOG_USEC for those with `WatchdogSec=`.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping

_log = logging.getLogger("sidecar.manager")


class ServiceManager:
    """The service manager of this process, or nobody."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address  # "@" stands for an abstract name
        self._watchdog = _watchdog(environ)
        self._ticking: asyncio.TimerHandle | None = None

    def started(self) -> None:
        """The API answers. From now on the watchdog, if there is one, is told that the loop turns."""
        self._tell("READY=1")
        if self._watchdog is not None:
            self._tick(self._watchdog / 2)

    def status(self, text: str) -> None:
        """A line for `systemctl status`."""
        self._tell("STATUS=" + text.replace("\n", " "))

    def reloading(self) -> None:
        """The configuration is being read again; `reloaded` follows."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def reloaded(self) -> None:
        """The configuration was read again, or refused: the service goes on (`RELOADING=1` came before)."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """The shutdown has begun."""
        self._tell("STOPPING=1")

    def close(self) -> None:
        """Tell nothing any more; a stop that hangs is then noticed."""
        if self._ticking is not None:
            self._ticking.cancel()

    def _tick(self, interval: float) -> None:
        self._tell("WATCHDOG=1")
        self._ticking = asyncio.get_running_loop().call_later(interval, self._tick, interval)

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
                channel.sendto(text.encode(), self._address)
        except OSError as error:
            _log.warning("the service manager cannot be told: %s", error)


def _watchdog(environ: Mapping[str, str]) -> float | None:
    """Seconds in which the manager wants to hear from this process, if it does."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    meant = environ.get("WATCHDOG_PID") in (None, "", str(os.getpid()))
    return int(microseconds) / 1e6 if meant and microseconds.isdigit() and int(microseconds) else None
