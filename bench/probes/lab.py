"""A small internet on one machine: network namespaces, joined by a router in user space that delays every packet.

The namespaces have no names and hold nothing that outlives their processes: the kernel takes them away with the last of
these, however it ended, SIGKILL included. Linux, with the right to make namespaces and /dev/net/tun.
"""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.namespaces import RIGHTS, LabUnavailable, entering, new_namespace, open_device

_SET_FLAGS, _SET_ADDRESS, _SET_NETMASK, _SET_MTU = 0x8914, 0x8916, 0x891C, 0x8922  # SIOCSIF...
_UP = 0x1 | 0x40  # IFF_UP, IFF_RUNNING
_MTU = 1500
_NETWORK = "10.78.0"
_DEVICE = "lab"
MAX_HOSTS = 250


class Host:
    """A namespace with one network device, whose other end the router holds."""

    def __init__(self, number: int) -> None:
        """`number`: from 0. Raises LabUnavailable."""
        self.address = f"{_NETWORK}.{number + 1}"
        with new_namespace() as self.namespace:
            try:
                self.device = open_device(_DEVICE)
            except LabUnavailable:
                os.close(self.namespace)
                raise
            try:
                _set_up(self.address)
            except OSError as error:
                self.close()
                raise LabUnavailable(f"a network device cannot be made: {error.strerror}; {RIGHTS}") from None

    def command(self, *words: str) -> tuple[str, ...]:
        """The command that runs these words here; `descriptors` must be passed on to it."""
        return entering(self.namespace, *words)

    @property
    def descriptors(self) -> tuple[int, ...]:
        return (self.namespace,)

    def close(self) -> None:
        os.close(self.device)
        os.close(self.namespace)


@contextlib.contextmanager
def lab(delays: Sequence[Sequence[float]]) -> Iterator[list[Host]]:
    """As many hosts as there are rows; `delays`: one way from each to each, in seconds. Raises LabUnavailable."""
    with (
        hosts_of(len(delays)) as hosts,
        routed([host.device for host in hosts], delays, [[host.address] for host in hosts]),
    ):
        yield hosts


@contextlib.contextmanager
def hosts_of(count: int) -> Iterator[list[Host]]:
    """Hosts that nothing joins as yet. Raises LabUnavailable."""
    if not 2 <= count <= MAX_HOSTS:
        raise ValueError(f"{count} hosts, from 2 to {MAX_HOSTS}")
    if not sys.platform.startswith("linux"):
        raise LabUnavailable("network namespaces are Linux's")
    if shutil.which("nsenter") is None:
        raise LabUnavailable("the command nsenter is missing; it is in the package util-linux")
    with contextlib.ExitStack() as stack:
        hosts: list[Host] = []
        for number in range(count):
            hosts.append(Host(number))
            stack.callback(hosts[-1].close)
        yield hosts


@contextlib.contextmanager
def routed(
    devices: Sequence[int], delays: Sequence[Sequence[float]], addresses: Sequence[Sequence[str]]
) -> Iterator[Callable[[Sequence[Sequence[float | None]]], None]]:
    """Carry packets between devices, each later by the delay of its pair; `addresses`: those of each.

    Gives what sets other delays; None: nothing gets through.
    """
    router = subprocess.Popen(
        [sys.executable, "-m", "bench.probes.router", *map(str, devices)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=devices,
        cwd=Path(__file__).parents[2],
        start_new_session=True,  # the terminal's Ctrl-C is for us; it ends with its input
    )
    assert router.stdin is not None
    assert router.stdout is not None
    given, answers = router.stdin, router.stdout

    def tell(told: object) -> None:
        given.write(json.dumps(told).encode() + b"\n")
        given.flush()
        if answers.readline() != b"Ready\n":
            raise RuntimeError("the router has ended")

    try:
        tell({"delays": [list(row) for row in delays], "addresses": [list(row) for row in addresses]})
        yield lambda others: tell([list(row) for row in others])
    finally:
        router.stdin.close()
        router.stdout.close()
        router.wait()


def _set_up(address: str) -> None:
    """Give the device its address in this thread's namespace, and switch it and loopback on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for request, value in (
            (_SET_ADDRESS, _address(address)),
            (_SET_NETMASK, _address("255.255.255.0")),
            (_SET_MTU, struct.pack("i", _MTU)),
            (_SET_FLAGS, struct.pack("h", _UP)),
        ):
            fcntl.ioctl(any_socket, request, struct.pack("16s24s", _DEVICE.encode(), value))
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh22x", b"lo", _UP))


def _address(text: str) -> bytes:
    return struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(text))
