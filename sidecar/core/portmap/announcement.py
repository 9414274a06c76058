"""What gateways multicast to all hosts, port 5350, when they begin anew or get another address.

RFC 6886, section 3.2.1; RFC 6887, section 14.1.
"""

import ipaddress
import struct

from ..classes import NamedTuple
from ..errors import ProtocolError
from . import natpmp, pcp

GROUPS, PORT = {"ip4": "224.0.0.1", "ip6": "ff02::1"}, 5350


class Announcement(NamedTuple):
    """`version`: of which protocol; `host`: the external address, where it is told."""

    version: int
    epoch: int
    host: str | None


def decode(data: bytes) -> Announcement:
    """Read one. Raises ProtocolError."""
    if len(data) >= 12 and data[0] == natpmp.VERSION and data[1] == 128:
        return Announcement(data[0], struct.unpack_from(">I", data, 4)[0], str(ipaddress.IPv4Address(data[8:12])))
    if len(data) >= 24 and data[0] == pcp.VERSION and data[1] == 128 | pcp.ANNOUNCE:
        return Announcement(data[0], struct.unpack_from(">I", data, 8)[0], None)
    raise ProtocolError(f"no announcement of a gateway: {len(data)} bytes, beginning {data[:2].hex()}")
