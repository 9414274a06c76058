"""Multicast DNS messages to bytes and back, as far as discovery needs them (RFC 1035, 6762, 6763)."""

from collections.abc import Iterable, Sequence

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdtypes.ANY.PTR import PTR
from dns.rdtypes.ANY.TXT import TXT
from dns.rdtypes.IN.SRV import SRV

from ..classes import NamedTuple
from ..errors import ProtocolError

MAX_MESSAGE = 9000  # bytes, headers included; RFC 6762, section 17
MAX_TEXT = 255  # bytes of one string of a TXT record; RFC 1035, section 3.3
_SERVICES = "_services._dns-sd._udp.local."  # which kinds of services there are; RFC 6763, section 9
_CLASS = 0x7FFF  # the top bit says "answer by unicast" in questions and "forget the others" in records
_MAX_RECORDS = 256  # of one message are looked at; a guess


class Heard(NamedTuple):
    """A message, as far as it is about the service."""

    is_answer: bool
    asks: bool
    """Whether it asks who is there."""
    asks_services: bool
    """Whether it asks which services there are."""
    named: frozenset[str]
    """The instances that it names: in a question those that the asker knows already."""
    texts: dict[str, tuple[bytes, ...]]
    """By instance, the strings of its TXT record."""


def service_of(fingerprint: bytes | None) -> str:
    """The name that nodes ask for; those of a private network have one of their own (specs discovery/mdns)."""
    return "_p2p._udp.local." if fingerprint is None else f"_p2p-{fingerprint.hex()}._udp.local."


def encode_question(service: str) -> bytes:
    """The question who is there."""
    message = dns.message.QueryMessage(id=0)
    message.flags = dns.flags.Flag(0)
    message.question.append(dns.rrset.RRset(dns.name.from_text(service), dns.rdataclass.IN, dns.rdatatype.PTR))
    return message.to_wire()


def encode_answer(
    service: str, instance: str, texts: Sequence[bytes], ttl: int, ips: Sequence[str] = (), port: int = 0
) -> bytes:
    """The answer that `instance`, one label, is there, with these strings. `ttl`: seconds; 0: it is gone.

    `ips`, `port`: where it is, for those who leave out whoever has no SRV and address records, as go-libp2p does,
    which then goes by the strings all the same.
    """
    owner = dns.name.from_text(service)
    name, host = dns.name.Name((instance.encode(), *owner.labels)), dns.name.from_text(f"{instance}.local.")
    message = _answer()
    message.answer.append(_record(owner, ttl, _pointer(name)))
    message.additional.append(_record(name, ttl, TXT(dns.rdataclass.IN, dns.rdatatype.TXT, texts)))
    if ips:
        server = SRV(dns.rdataclass.IN, dns.rdatatype.SRV, 0, 0, port, host)  # type: ignore[no-untyped-call]
        message.additional.append(_record(name, ttl, server))
    for ip in ips:
        kind = "AAAA" if ":" in ip else "A"
        message.additional.append(dns.rrset.from_text(host, ttl, "IN", kind, ip))
    return message.to_wire()


def encode_services(service: str, ttl: int) -> bytes:
    """The answer that there is this service."""
    message = _answer()
    pointer = _pointer(dns.name.from_text(service))
    message.answer.append(_record(dns.name.from_text(_SERVICES), ttl, pointer))
    return message.to_wire()


def decode(data: bytes, service: str) -> Heard:
    """What a message says of the service. Raises ProtocolError for what is no DNS message."""
    if len(data) > MAX_MESSAGE:
        raise ProtocolError(f"multicast DNS message of {len(data)} bytes, at most {MAX_MESSAGE}")
    try:
        # What cannot be read of it is left out: RFC 6762, section 18.14, has names compressed in records where the DNS
        # has not, and dnspython takes that for an error; python-zeroconf sends such records, and others of a link do.
        message = dns.message.from_wire(
            data, ignore_trailing=True, raise_on_truncation=False, one_rr_per_rrset=True, continue_on_error=True
        )
    except (dns.exception.DNSException, ValueError) as error:
        raise _malformed(error) from None
    if message.errors and not (message.question or message.answer or message.additional):
        raise _malformed(message.errors[0].exception)
    if message.opcode() != dns.opcode.QUERY:
        raise ProtocolError(f"multicast DNS message with opcode {message.opcode():d}")
    owner, services = dns.name.from_text(service), dns.name.from_text(_SERVICES)
    is_answer = bool(message.flags & dns.flags.QR)
    questions = () if is_answer else message.question
    records = list(_records(message))
    pointed = {record.target: None for name, record in records if isinstance(record, PTR) and name == owner}
    named = {instance: None for target in pointed if (instance := _instance(target, owner)) is not None}
    texts: dict[str, tuple[bytes, ...]] = {}
    for name, record in records:
        if isinstance(record, TXT) and (name in pointed or name.is_subdomain(owner)):
            instance = _instance(name, owner)
            if instance is not None:
                texts[instance] = tuple(record.strings)
    return Heard(
        is_answer=is_answer,
        asks=any(_asks(question, owner) for question in questions),
        asks_services=any(_asks(question, services) for question in questions),
        named=frozenset(named),
        texts=texts,
    )


def _malformed(error: Exception) -> ProtocolError:
    return ProtocolError(f"no multicast DNS message: {error or type(error).__name__}")


def _answer() -> dns.message.Message:
    message = dns.message.Message(id=0)  # RFC 6762, section 18.1
    message.flags = dns.flags.QR | dns.flags.AA
    return message


def _pointer(to: dns.name.Name) -> dns.rdata.Rdata:
    return PTR(dns.rdataclass.IN, dns.rdatatype.PTR, to)  # type: ignore[no-untyped-call]


def _record(name: dns.name.Name, ttl: int, record: dns.rdata.Rdata) -> dns.rrset.RRset:
    return dns.rrset.from_rdata(name, ttl, record)


def _records(message: dns.message.Message) -> Iterable[tuple[dns.name.Name, dns.rdata.Rdata]]:
    """The living ones, with their names: whoever says goodbye sends them with a TTL of 0."""
    for rrset in (*message.answer, *message.additional)[:_MAX_RECORDS]:
        if rrset.ttl > 0 and rrset.rdclass & _CLASS == dns.rdataclass.IN:
            for record in rrset:
                yield rrset.name, record


def _asks(question: dns.rrset.RRset, name: dns.name.Name) -> bool:
    of = question.rdclass & _CLASS
    return (
        question.name == name
        and question.rdtype in (dns.rdatatype.PTR, dns.rdatatype.ANY)
        and of in (dns.rdataclass.IN, dns.rdataclass.ANY)
    )


def _instance(name: dns.name.Name, owner: dns.name.Name) -> str | None:
    """The label in front of the service's name, or alone, as rust-libp2p has it; None where there is not just one."""
    alone = len(name.labels) == 2
    if not alone and (len(name.labels) != len(owner.labels) + 1 or not name.is_subdomain(owner)):
        return None
    return name.labels[0].decode("latin-1").lower()
