"""Carries packets between the hosts of a lab, each later by the delay of its pair; a process of its own.

    python -m bench.probes.router DESCRIPTOR...

The first line of its input has the delays, and the addresses of each host, as JSON; it says "Ready", and ends when its
input does.
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
_AT_ONCE = 64  # packets of one host before the others' turn
_MAX_WAITING = 100_000  # packets under way; beyond that they are lost, as in any router


class Router:
    """What is under way. Packets of a pair keep their order, for its delay is always the same."""

    def __init__(self, delays: Sequence[Sequence[float]], addresses: Sequence[Sequence[str]]) -> None:
        """`addresses`: of each host, IPv4 and IPv6."""
        self._delays = delays
        self._hosts = {ipaddress.ip_address(each).packed: host for host, own in enumerate(addresses) for each in own}
        self._due: list[tuple[float, int, int, bytes]] = []
        self._count = 0

    def accept(self, source: int, packet: bytes, now: float) -> None:
        """A host has sent a packet; what is for nobody here is dropped."""
        place = _TARGETS.get(packet[0] >> 4) if packet else None
        target = self._hosts.get(packet[place]) if place is not None else None
        if target is not None and len(self._due) < _MAX_WAITING:
            self._count += 1
            heapq.heappush(self._due, (now + self._delays[source][target], self._count, target, packet))

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
    own = sys.stdin.fileno()
    while True:
        for target, packet in router.arrived(time.monotonic()):
            try:
                os.write(devices[target], packet)
            except OSError:
                continue  # the device's queue is full, or its namespace gone: a packet is lost
        due = router.next_due()
        # `select`, for it waits for microseconds: epoll rounds up to a whole millisecond.
        ready, _, _ = select.select([*devices, own], [], [], None if due is None else max(0.0, due - time.monotonic()))
        if own in ready:
            return
        for device in ready:
            now = time.monotonic()
            for _ in range(_AT_ONCE):
                try:
                    router.accept(numbers[device], os.read(device, 65535), now)
                except BlockingIOError:
                    break


if __name__ == "__main__":
    # One byte after the other, so that none that is to end this is read ahead.
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(0, 1) or b"\n"
    print("Ready", flush=True)
    _carry([int(text) for text in sys.argv[1:]], Router(**json.loads(line)))
