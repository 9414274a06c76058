"""A small internet with places of all kinds, made of network namespaces.

    home 10.n.0.2 --+
                    +-- lan [a NAT of the place's kind] wan     5.6.7.n --+
    home 10.n.0.3 --+                                                      +-- router with delays -- relay, witness
                                                another place, and so on --+

A double NAT has a second namespace outside of the first one. The router is a process that carries packets between the
devices called `wan` (`bench/probes/router.py`).
"""

import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.namespaces import LabUnavailable, entering, inside, new_namespace, open_device
from bench.probes.lab import routed
from bench.reach.kinds import Kind
from bench.reach.rules import firewall, nat, ports_of_carrier, ports_outside

TOOLS = {"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux"}
_LEAST, _MOST = 0.005, 0.025  # seconds from a place to the middle of the internet, one way
_OUTSIDE, _OUTSIDE6 = "5.6.7", "2a00:77"  # miniupnpd opens no port where the address outside is one for documentation
_GATEWAY6 = "fe80::77"
_CARRIERS = "100.64.0"
_HOMES = 2


class Host(NamedTuple):
    """A namespace in which a node may run."""

    namespace: int
    addresses: tuple[str, ...]

    def command(self, *words: str) -> tuple[str, ...]:
        """The command that runs these words here; the namespace must be passed on to it."""
        return entering(self.namespace, *words)


class Place(NamedTuple):
    """A place of a kind."""

    kind: Kind
    number: int
    homes: tuple[Host, ...]
    """Where nodes are; a public place has one, which is outside itself."""
    router: int
    """The namespace of the NAT next to the homes; that of the host itself where there is none."""
    outside: tuple[str, ...]
    """Its addresses in the eyes of the internet."""


class Internet(NamedTuple):
    """All of it."""

    relay: Host
    witness: Host
    """A second host that everybody reaches."""
    places: tuple[Place, ...]

    def place(self, kind: Kind, number: int = 0) -> Place:
        """The first place of a kind, or a further one."""
        return [place for place in self.places if place.kind == kind][number]


@contextlib.contextmanager
def internet(kinds: Sequence[Kind], seed: int = 1) -> Iterator[Internet]:
    """Build it, with a place for each of the kinds, which may repeat. Raises LabUnavailable."""
    if not sys.platform.startswith("linux"):
        raise LabUnavailable("network namespaces are Linux's")
    missing = [f"{tool} (Debian: {package})" for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        raise LabUnavailable(f"missing here: {', '.join(missing)}")
    with contextlib.ExitStack() as stack:
        builder = _Builder(stack)
        relay, witness = builder.public(1), builder.public(2)
        places = tuple(builder.place(kind, number) for number, kind in enumerate(kinds, 3))
        rng = random.Random(f"{seed}/distances")
        far = [rng.uniform(_LEAST, _MOST) for _ in builder.devices]
        delays = [[one + other for other in far] for one in far]
        stack.enter_context(routed(builder.devices, delays, builder.addresses))
        yield Internet(relay, witness, places)


class _Builder:
    """Makes namespaces, wires and rules; the stack closes them."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.devices: list[int] = []
        self.addresses: list[tuple[str, ...]] = []

    def public(self, number: int) -> Host:
        own = f"{_OUTSIDE}.{number}", f"{_OUTSIDE6}:{number:x}::1"
        return Host(self._outside(own, own), own)

    def place(self, kind: Kind, number: int) -> Place:
        if kind.public:
            host = self.public(number)
            return Place(kind, number, (host,), host.namespace, host.addresses)
        if kind.version == 6:
            return self._behind_firewall(kind, number)
        wan = f"{_OUTSIDE}.{number}"
        lan = f"10.{number}.0"
        outer = router = self._outside((wan,), (wan,))
        if kind.carrier:
            router = self._namespace()
            self._bridge(outer, f"{_CARRIERS}.1/24")
            self._wire(outer, router, "wan", f"{_CARRIERS}.2/24", f"{_CARRIERS}.1", 0)
        self._bridge(router, f"{lan}.1/24")
        own = [f"{lan}.{2 + home}" for home in range(_HOMES)]
        homes = []
        for home, address in enumerate(own):
            namespace = self._namespace()
            self._wire(router, namespace, "eth0", f"{address}/24", f"{lan}.1", home)
            homes.append(Host(namespace, (address,)))
        table = ports_outside(own)
        if kind.carrier:
            carried = ports_of_carrier(f"{_CARRIERS}.2", own)
            self._nft(outer, nat(kind, wan, carried, f"{_CARRIERS}.0/24"))
            self._nft(router, nat(kind, f"{_CARRIERS}.2", table, f"{lan}.0/24"))
        else:
            self._nft(router, nat(kind, wan, table, f"{lan}.0/24"))
        return Place(kind, number, tuple(homes), router, (wan,))

    def _behind_firewall(self, kind: Kind, number: int) -> Place:
        lan = f"{_OUTSIDE6}:{number:x}:1:"
        own = tuple(f"{lan}:{2 + home}" for home in range(_HOMES))
        router = self._outside((f"{_OUTSIDE6}:{number:x}::1",), own)
        self._bridge(router, f"{lan}:1/64")
        self._ip(router, f"addr add {_GATEWAY6}/64 dev lan nodad")
        homes = []
        for home, address in enumerate(own):
            namespace = self._namespace()
            self._wire(router, namespace, "eth0", f"{address}/64", f"{_GATEWAY6} dev eth0", home)
            homes.append(Host(namespace, (address,)))
        self._nft(router, firewall())
        return Place(kind, number, tuple(homes), router, own[:1])

    # ------------------------------------------------------------ parts

    def _namespace(self) -> int:
        with new_namespace() as namespace:
            self._stack.callback(os.close, namespace)
            for version in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
                Path("/proc/sys/net", version).write_text("1")
        self._ip(namespace, "link set lo up")
        return namespace

    def _outside(self, own: Iterable[str], routed_here: tuple[str, ...]) -> int:
        """A namespace with a device that the internet's router holds the other end of."""
        namespace = self._namespace()
        with inside(namespace):
            device = open_device("wan")
        self._stack.callback(os.close, device)
        self.devices.append(device)
        self.addresses.append(routed_here)
        lines = [f"addr add {_whole(address)} dev wan" for address in own]
        self._ip(namespace, *lines, "link set wan up", "route add 0.0.0.0/0 dev wan", "route add ::/0 dev wan")
        return namespace

    def _bridge(self, namespace: int, address: str) -> None:
        self._ip(
            namespace,
            "link add lan type bridge",
            f"addr add {address} dev lan{_nodad(address)}",
            "link set lan up",
        )

    def _wire(self, router: int, to: int, device: str, address: str, gateway: str, number: int) -> None:
        port = f"lan{number}"
        self._ip(
            router,
            f"link add {port} type veth peer name {device} netns /proc/self/fd/{to}",
            f"link set {port} master lan up",
            also=(to,),
        )
        self._ip(
            to,
            f"addr add {address} dev {device}{_nodad(address)}",
            f"link set {device} up",
            f"route add default via {gateway}",
        )

    def _ip(self, namespace: int, *lines: str, also: tuple[int, ...] = ()) -> None:
        _run(namespace, ("ip", "-batch", "-"), "\n".join(lines), also)

    def _nft(self, namespace: int, rules: str) -> None:
        _run(namespace, ("nft", "-f", "-"), rules)


def _run(namespace: int, words: tuple[str, ...], said: str, also: tuple[int, ...] = ()) -> None:
    """Raises LabUnavailable with what the tool says."""
    command = entering(namespace, *words)
    done = subprocess.run(command, input=said, text=True, capture_output=True, pass_fds=(namespace, *also), check=False)
    if done.returncode:
        raise LabUnavailable(f"{' '.join(words)}: {done.stderr.strip()}; it was told:\n{said}")


def _whole(address: str) -> str:
    return f"{address}/128 nodad" if ":" in address else f"{address}/32"


def _nodad(address: str) -> str:
    return " nodad" if ":" in address else ""
