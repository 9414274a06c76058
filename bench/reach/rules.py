"""What nftables is told so that a namespace is a NAT of a kind. Devices: `wan` outside, `lan` inside.

The table's name, and the empty chains, are where miniupnpd puts the ports that it is asked to open.
"""

from collections.abc import Mapping as Table

from bench.reach.kinds import Filtering, Kind, Mapping

PORTS = range(4747, 4763)
"""Those that nodes and probes use inside; only they are in the tables of endpoint-independent NATs."""
PROBE_PORT = PORTS[-1]
_OUTSIDE = 20_000  # where the ports outside begin: never the number inside, so that nobody can take that for granted
_A_HOME = 1000  # of them for each home
_CARRIER = 10_000  # how much further up those of a carrier's NAT are

Inside = tuple[str, int]


def ports_outside(homes: list[str]) -> dict[Inside, int]:
    """The port outside of each address and port inside."""
    return {
        (home, port): _OUTSIDE + number * _A_HOME + port - PORTS[0]
        for number, home in enumerate(homes)
        for port in PORTS
    }


def ports_of_carrier(router: str, homes: list[str]) -> dict[Inside, int]:
    """The same of the carrier's NAT, in which there is one router, with those homes."""
    return {(router, port): port + _CARRIER for port in ports_outside(homes).values()}


def firewall() -> str:
    """Rules that let out everything and in only answers; nothing is translated."""
    return """
table inet filter {
  chain through {
    type filter hook forward priority filter; policy drop;
    iifname "lan" accept
    ct state established,related accept
    meta l4proto ipv6-icmp accept
    jump miniupnpd
  }
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
}
"""


def nat(kind: Kind, wan: str, table: Table[Inside, int], lan: str) -> str:
    """The rules of a NAT with the address `wan` outside and the network `lan` inside."""
    independent = kind.behaviour.mapping is Mapping.INDEPENDENT
    return f"""
table inet filter {{
{_maps(wan, table)}
  chain outgoing {{
    type nat hook postrouting priority srcnat; policy accept;
    jump postrouting_miniupnpd
{_outgoing(kind, lan)}
  }}
  chain incoming {{
    type nat hook prerouting priority dstnat; policy accept;
    jump prerouting_miniupnpd
{_incoming(independent, kind.behaviour.hairpin, wan)}
  }}
  chain through {{
    type filter hook forward priority filter; policy drop;
    {"" if kind.behaviour.udp else 'iifname "wan" meta l4proto udp drop'}
    {"" if kind.behaviour.udp else 'oifname "wan" meta l4proto udp drop'}
    iifname "lan" meta l4proto {{ tcp, udp }} update @asked {{ ip daddr . ip saddr . th sport }}
    iifname "lan" meta l4proto {{ tcp, udp }} update @opened {{ ip saddr . th sport }}
    ct state established,related accept
    jump miniupnpd
    iifname "lan" oifname "wan" accept
{_filtering(kind)}
  }}
  chain here {{
    type filter hook input priority filter; policy drop;
    iifname "lan" ip daddr {wan} drop
    iifname "lan" accept
    iifname "lo" accept
    ct state established,related accept
  }}
  chain miniupnpd {{ }}
  chain prerouting_miniupnpd {{ }}
  chain postrouting_miniupnpd {{ }}
}}
"""


def _maps(wan: str, table: Table[Inside, int]) -> str:
    outward = ", ".join(f"{host} . {port} : {wan} . {outside}" for (host, port), outside in table.items())
    inward = ", ".join(f"{outside} : {host} . {port}" for (host, port), outside in table.items())
    return f"""
  map outward {{
    type ipv4_addr . inet_service : ipv4_addr . inet_service
    elements = {{ {outward} }}
  }}
  map inward {{
    type inet_service : ipv4_addr . inet_service
    elements = {{ {inward} }}
  }}
  set asked {{ type ipv4_addr . ipv4_addr . inet_service; flags dynamic,timeout; timeout 5m; size 65535; }}
  set opened {{ type ipv4_addr . inet_service; flags dynamic,timeout; timeout 5m; size 65535; }}"""


def _outgoing(kind: Kind, lan: str) -> str:
    ports = "meta l4proto { tcp, udp } snat ip to ip saddr . th sport map @outward"
    lines = []
    if kind.behaviour.mapping is Mapping.INDEPENDENT:
        lines.append(f'oifname "wan" {ports}')
    if kind.behaviour.hairpin:
        lines.append(f'oifname "lan" ip saddr {lan} ip daddr {lan} {ports}')
    lines.append('oifname "wan" masquerade' + ("" if kind.stock else " random,fully-random"))
    return "\n".join(f"    {line}" for line in lines)


def _incoming(independent: bool, hairpin: bool, wan: str) -> str:
    ports = "meta l4proto { tcp, udp } dnat ip to th dport map @inward"
    lines = [f'iifname "wan" {ports}'] if independent else []
    if hairpin:
        lines.append(f'iifname "lan" ip daddr {wan} {ports}')
    return "\n".join(f"    {line}" for line in lines)


def _filtering(kind: Kind) -> str:
    filtering, lines = kind.behaviour.filtering, []
    if filtering is Filtering.INDEPENDENT:
        lines.append('iifname "wan" ct status dnat ip daddr . th dport @opened accept')
    elif filtering is Filtering.ADDRESS:
        lines.append('iifname "wan" ct status dnat ip saddr . ip daddr . th dport @asked accept')
    lines.append('iifname "lan" oifname "lan" accept')  # what is bridged between homes comes by here, too
    return "\n".join(f"    {line}" for line in lines)
