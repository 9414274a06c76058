"""A home behind a real miniupnpd: namespaces for the home, its router and everybody else. Takes root, on Linux."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ..interop.build import BuildFailed, ToolMissing
from ..missing import not_there
from ..prepare import ensure, found

LAN, HOME = "192.168.77.1", "192.168.77.2"
# miniupnpd refuses to map where its outside address is a reserved one, those for documentation among them. Nothing
# leaves the namespaces.
WAN, OUTSIDE = "5.6.7.8", "5.6.7.1"
LAN6, HOME6 = "2a00:77::1", "2a00:77::2"
WAN6, OUTSIDE6 = "2a00:78::8", "2a00:78::1"
DOUBLE = "10.9.8.7"  # of a router that is behind a NAT itself

_RULES = """
table inet filter {
  chain forward {
    type filter hook forward priority filter; policy drop;
    iifname "lan" accept
    ct state established,related accept
    jump miniupnpd
    reject
  }
  chain input {
    type filter hook input priority filter; policy drop;
    iifname { "lan", "lo" } accept
    ct state established,related accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
    reject
  }
  chain prerouting { type nat hook prerouting priority dstnat; policy accept; jump prerouting_miniupnpd; }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    jump postrouting_miniupnpd
    oifname "wan" masquerade
  }
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
}
"""


def _do(*words: str, stdin: str | None = None) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, input=stdin).stdout


class Home:
    """A network at home; `inside` and `outside` are what commands in the namespaces begin with."""

    def __init__(self, place: Path, daemon: str, wan: str) -> None:
        self._place = place
        self._daemon = daemon
        self._wan = wan
        self._prefix = f"pm{os.getpid() % 100_000}"
        self._names = {name: f"{self._prefix}-{name}" for name in ("home", "nat", "net")}
        self._miniupnpd: subprocess.Popen[str] | None = None
        self.inside, self.router, self.outside = (
            ("ip", "netns", "exec", self._names[name]) for name in ("home", "nat", "net")
        )

    def build(self) -> None:
        home, nat, net = self._names["home"], self._names["nat"], self._names["net"]
        for name in self._names.values():
            _do("ip", "netns", "add", name)
            _do("ip", "-n", name, "link", "set", "lo", "up")
        _do("ip", "link", "add", "wan", "netns", nat, "type", "veth", "peer", "name", "eth0", "netns", net)
        _do("ip", "link", "add", "lan", "netns", nat, "type", "veth", "peer", "name", "eth0", "netns", home)
        for name, address, link in (
            (nat, self._wan, "wan"),
            (nat, LAN, "lan"),
            (home, HOME, "eth0"),
            (net, OUTSIDE if self._wan == WAN else "10.9.8.1", "eth0"),
        ):
            _do("ip", "-n", name, "addr", "add", f"{address}/24", "dev", link)
            _do("ip", "-n", name, "link", "set", link, "up")
        _do("ip", "-n", home, "route", "add", "default", "via", LAN)
        _do("ip", "-n", nat, "route", "add", "default", "via", OUTSIDE if self._wan == WAN else "10.9.8.1")
        for name, address, link in (
            (nat, WAN6, "wan"),
            (nat, LAN6, "lan"),
            (nat, "fe80::77", "lan"),
            (home, HOME6, "eth0"),
            (net, OUTSIDE6, "eth0"),
        ):
            _do("ip", "-n", name, "-6", "addr", "add", f"{address}/64", "dev", link, "nodad")
        _do("ip", "-n", home, "-6", "route", "add", "default", "via", "fe80::77", "dev", "eth0")
        _do("ip", "-n", net, "-6", "route", "add", "2a00:77::/64", "via", WAN6)
        _do(*self.router, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        _do(*self.router, "nft", "-f", "-", stdin=_RULES)

    def start(self, *, natpmp: bool = True, upnp: bool = True) -> None:
        """Start the router's daemon, with what it is to speak."""
        yes = {True: "yes", False: "no"}
        settings = self._place / "miniupnpd.conf"
        lines = ["ext_ifname=wan", "listening_ip=lan", f"enable_natpmp={yes[natpmp]}", f"enable_upnp={yes[upnp]}"]
        lines += ["uuid=6288d9dc-d4a1-4ed4-b483-448e6e140161", "allow 1024-65535 0.0.0.0/0 1024-65535", ""]
        settings.write_text("\n".join(lines))
        words = [*self.router, self._daemon, "-d", "-f", str(settings), "-P", str(self._place / "miniupnpd.pid")]
        self._miniupnpd = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.said("isten")  # that it listens, for NAT-PMP or for HTTP

    def stop(self) -> None:
        """Stop the daemon and forget all that it has mapped, as a router does that is switched off."""
        if self._miniupnpd is not None:
            self._miniupnpd.send_signal(signal.SIGTERM)
            self._miniupnpd.communicate(timeout=30)
            self._miniupnpd = None
            for chain in ("miniupnpd", "prerouting_miniupnpd", "postrouting_miniupnpd"):
                _do(*self.router, "nft", "flush", "chain", "inet", "filter", chain)

    def said(self, words: str) -> None:
        """Read what the daemon says until these words come."""
        assert self._miniupnpd is not None
        assert self._miniupnpd.stderr is not None
        lines = []
        for line in self._miniupnpd.stderr:
            if words in line:
                return
            lines.append(line)
        raise AssertionError(f"miniupnpd ended without {words!r}: {''.join(lines)}")

    def rules(self, chain: str = "prerouting_miniupnpd") -> str:
        """The ports that are mapped."""
        return _do(*self.router, "nft", "list", "chain", "inet", "filter", chain)

    def take_away(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop()
        for name in self._names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@contextlib.contextmanager
def home(place: Path, *, wan: str = WAN) -> Iterator[Home]:
    """One that goes at the end; the test is skipped where it cannot be."""
    try:
        ensure("miniupnpd")
    except (ToolMissing, BuildFailed) as error:
        not_there(error, must=False)
    daemon = found("miniupnpd")
    assert daemon is not None
    place.mkdir(exist_ok=True)
    built = Home(place, daemon, wan)
    try:
        built.build()
        yield built
    finally:
        built.take_away()
