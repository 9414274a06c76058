"""A name server for `/dnsaddr` names, on loopback."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class Names(asyncio.DatagramProtocol):
    """Answers questions for TXT records; says of every other name that it does not exist."""

    def __init__(self) -> None:
        self._addresses: dict[str, list[str]] = defaultdict(list)
        self._transport: asyncio.DatagramTransport

    @property
    def address(self) -> str:
        """IP:PORT."""
        host, port = self._transport.get_extra_info("sockname")
        return f"{host}:{port}"

    def tell(self, name: str, address: str) -> None:
        """Have a name lead to an address from now on, beside those that it leads to already."""
        self._addresses[f"_dnsaddr.{name}."].append(address)

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question, recursion_available=True)
        (asked,) = question.question
        texts = [f'"dnsaddr={address}"' for address in self._addresses.get(asked.name.to_text().lower(), ())]
        if not texts:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif asked.rdtype == dns.rdatatype.TXT:
            answer.answer.append(dns.rrset.from_text(asked.name, 60, "IN", "TXT", *texts))
        self._transport.sendto(answer.to_wire(), addr)


@asynccontextmanager
async def name_server() -> AsyncIterator[Names]:
    """A name server that runs as long as the context."""
    transport, names = await asyncio.get_running_loop().create_datagram_endpoint(Names, local_addr=("127.0.0.1", 0))
    try:
        yield names
    finally:
        transport.close()
