"""Carries packets between the hosts of a lab, each later by the delay of its pair; a process of its own.

    python -m bench.probes.router DESCRIPTOR...

The first line of its input has the delays, and the addresses of each host, as JSON; it says "Ready". Each line that
follows has other delays, and it says so again. null in place of a delay: nothing gets through. It ends when its input
does.
"""

import heapq
import ipaddress
import json
import os
import select
import sys
import time
from collections.abc import Sequence

_TARGETS = {4: slice(16, 20), 6: slice(24, 40)}  # where a packet of IPv4 or IPv6 says whom it is for
_OWN = 0  # standard input
_AT_ONCE = 64  # packets of one host before the others' turn
_MAX_WAITING = 100_000  # packets under way; beyond that they are lost, as in any router


class Router:
    """What is under way. Packets of a pair keep their order, for its delay is always the same."""

    def __init__(self, delays: Sequence[Sequence[float | None]], addresses: Sequence[Sequence[str]]) -> None:
        """`addresses`: of each host, IPv4 and IPv6."""
        self.delays = delays
        self._hosts = {ipaddress.ip_address(each).packed: host for host, own in enumerate(addresses) for each in own}
        self._due: list[tuple[float, int, int, bytes]] = []
        self._count = 0

    def accept(self, source: int, packet: bytes, now: float) -> None:
        """A host has sent a packet; what is for nobody here is dropped."""
        place = _TARGETS.get(packet[0] >> 4) if packet else None
        target = self._hosts.get(packet[place]) if place is not None else None
        delay = self.delays[source][target] if target is not None else None
        if target is not None and delay is not None and len(self._due) < _MAX_WAITING:
            self._count += 1
            heapq.heappush(self._due, (now + delay, self._count, target, packet))

    def arrived(self, now: float) -> list[tuple[int, bytes]]:
        """The hosts, and what comes to them, whose time has come."""
        found = []
        while self._due and self._due[0][0] <= now:
            _, _, target, packet = heapq.heappop(self._due)
            found.append((target, packet))
        return found

    def next_due(self) -> float | None:
        return self._due[0][0] if self._due else None


def _carry(devices: Sequence[int], router: Router) -> None:
    numbers = {device: number for number, device in enumerate(devices)}
    while True:
        for target, packet in router.arrived(time.monotonic()):
            try:
                os.write(devices[target], packet)
            except OSError:
                continue  # the device's queue is full, or its namespace gone: a packet is lost
        due = router.next_due()
        # `select`, for it waits for microseconds: epoll rounds up to a whole millisecond.
        wait = None if due is None else max(0.0, due - time.monotonic())
        ready, _, _ = select.select([*devices, _OWN], [], [], wait)
        if _OWN in ready:
            line = _line()
            if not line:
                return
            router.delays = json.loads(line)
            print("Ready", flush=True)
        for device in ready:
            if device == _OWN:
                continue
            now = time.monotonic()
            for _ in range(_AT_ONCE):
                try:
                    router.accept(numbers[device], os.read(device, 65535), now)
                except BlockingIOError:
                    break


def _line() -> bytes:
    """A line of the input, read byte after byte, so that nothing is read ahead; empty where it has ended."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(_OWN, 1)
        if not byte:
            return b""
        line += byte
    return line


if __name__ == "__main__":
    told = json.loads(_line())
    print("Ready", flush=True)
    _carry([int(text) for text in sys.argv[1:]], Router(**told))
