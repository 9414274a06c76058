"""A small network of its own: places with addresses on one wire, each a network namespace, so that nothing leaves it.

Where addresses have to look public, they are of 5.0.0.0/8: go- and js-libp2p take those kept for documentation for
private ones.
"""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import pytest

PUBLIC = ("5.1.1.1", "5.2.2.2", "5.3.3.3", "5.4.4.4")
PRIVATE = ("192.168.77.1", "192.168.77.2")

_CLOSED = """
table inet closed {
  chain incoming {
    type filter hook input priority 0; policy accept;
    iifname "lo" accept
    ct state established,related accept
    meta l4proto tcp %s
  }
}
"""


class Place(NamedTuple):
    """A machine of the network."""

    namespace: str
    ip: str

    @property
    def inside(self) -> tuple[str, ...]:
        """What begins a command that is to run there."""
        return ("ip", "netns", "exec", self.namespace)

    @property
    def listen(self) -> str:
        """Any free port there."""
        return f"/ip4/{self.ip}/tcp/0"

    def close(self, *, silent: bool) -> None:
        """Let no connection in from now on but those that begin here; say no to others, or nothing."""
        rules = _CLOSED % ("drop" if silent else "reject with tcp reset")
        subprocess.run([*self.inside, "nft", "-f", "-"], input=rules, check=True, capture_output=True, text=True)


@contextmanager
def lan(ips: Sequence[str]) -> Iterator[tuple[Place, ...]]:
    """Places with these addresses, /8 or /24, joined by a bridge; skips the test where they cannot be made."""
    missing = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    if sys.platform != "linux" or os.geteuid() or missing:
        pytest.skip("network namespaces need Linux, root, and the commands ip and nft")
    name = f"lan{secrets.token_hex(3)}"
    places = [Place(f"{name}-{number}", ip) for number, ip in enumerate(ips)]
    hub = f"{name}-hub"
    lines = [f"netns add {namespace}" for namespace in (hub, *(place.namespace for place in places))]
    _batch(lines, allowed=True)
    try:
        _batch(_wires(hub, places))
        yield tuple(places)
    finally:
        _batch([line.replace("add", "del", 1) for line in lines])


def _wires(hub: str, places: Sequence[Place]) -> Iterator[str]:
    yield f"-n {hub} link add wire type bridge mcast_snooping 0"
    yield f"-n {hub} link set wire up"
    for number, (namespace, ip) in enumerate(places):
        yield f"link add eth0 netns {namespace} type veth peer name port{number} netns {hub}"
        yield f"-n {hub} link set port{number} master wire up"
        yield f"-n {namespace} addr add {ip}/{24 if ip in PRIVATE else 8} brd + dev eth0"
        yield f"-n {namespace} link set lo up"
        yield f"-n {namespace} link set eth0 up"
        yield f"-n {namespace} route add default dev eth0"


def _batch(lines: Iterator[str] | Sequence[str], *, allowed: bool = False) -> None:
    for line in lines:
        done = subprocess.run(["ip", *line.split()], capture_output=True, text=True, check=False)
        if done.returncode and allowed and "not permitted" in done.stderr:
            pytest.skip("network namespaces cannot be made here")
        done.check_returncode()
