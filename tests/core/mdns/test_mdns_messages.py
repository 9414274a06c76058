"""The bytes of multicast DNS: what is written is read, and whatever comes is a message or refused."""

import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.errors import ProtocolError
from sidecar.core.mdns.messages import decode, encode_answer, encode_question, encode_services, service_of

SERVICE = service_of(None)
PRIVATE = service_of(bytes(range(16)))
TEXTS = (b"dnsaddr=/ip4/192.0.2.1/tcp/4747/p2p/12D3KooW", b"other=1")


def test_a_question_is_read_as_one() -> None:
    heard = decode(encode_question(SERVICE), SERVICE)
    assert (heard.is_answer, heard.asks, heard.asks_services) == (False, True, False)
    assert not heard.named
    assert not heard.texts


def test_an_answer_has_the_instance_and_its_texts() -> None:
    heard = decode(encode_answer(SERVICE, "abc", TEXTS, 120), SERVICE)
    assert (heard.is_answer, heard.asks) == (True, False)
    assert heard.named == {"abc"}
    assert heard.texts == {"abc": TEXTS}


def test_an_answer_has_the_records_that_go_libp2p_goes_by() -> None:
    data = encode_answer(SERVICE, "abc", TEXTS, 120, ["192.0.2.1", "2001:db8::1"], 4747)
    records = [rrset.to_text() for rrset in dns.message.from_wire(data).additional]
    assert records[1:] == [
        "abc._p2p._udp.local. 120 IN SRV 0 0 4747 abc.local.",
        "abc.local. 120 IN A 192.0.2.1",
        "abc.local. 120 IN AAAA 2001:db8::1",
    ]
    assert decode(data, SERVICE).texts == {"abc": TEXTS}


def test_an_instance_may_stand_without_the_name_of_the_service_as_rust_libp2p_has_it() -> None:
    message = dns.message.Message(id=0)
    message.flags |= dns.flags.QR
    message.answer.append(dns.rrset.from_text(SERVICE, 360, "IN", "PTR", "abc."))
    for name in ("abc.", "other."):
        message.additional.append(dns.rrset.from_text(name, 360, "IN", "TXT", f'"dnsaddr={name}"'))
    heard = decode(message.to_wire(), SERVICE)
    assert heard.named == {"abc"}
    assert heard.texts == {"abc": (b"dnsaddr=abc.",)}
    assert not decode(message.to_wire(), PRIVATE).texts


def test_records_that_compress_a_name_are_left_out_and_the_others_read() -> None:
    """As python-zeroconf writes SRV and NSEC records (RFC 6762, section 18.14)."""
    data = bytearray(encode_answer(SERVICE, "abc", TEXTS, 120))
    data[11] += 1  # one additional record more: NSEC, whose next name is a pointer to the one in front of it
    data += b"\x03abc\xc0\x0c" + b"\x00\x2f\x80\x01" + bytes(4) + b"\x00\x05" + b"\xc0\x0c\x00\x01\x40"
    heard = decode(bytes(data), SERVICE)
    assert heard.named == {"abc"}
    assert heard.texts == {"abc": TEXTS}


def test_a_goodbye_tells_of_nobody() -> None:
    heard = decode(encode_answer(SERVICE, "abc", TEXTS, 0), SERVICE)
    assert heard.is_answer
    assert not heard.named
    assert not heard.texts


def test_private_networks_do_not_hear_each_other() -> None:
    assert PRIVATE == "_p2p-000102030405060708090a0b0c0d0e0f._udp.local."
    assert not decode(encode_question(PRIVATE), SERVICE).asks
    assert not decode(encode_answer(SERVICE, "abc", TEXTS, 120), PRIVATE).texts


def test_which_services_there_are_is_asked_and_answered() -> None:
    asked = dns.message.make_query("_services._dns-sd._udp.local.", "PTR")
    assert decode(asked.to_wire(), SERVICE).asks_services
    answer = dns.message.from_wire(encode_services(SERVICE, 120))
    assert [str(record) for rrset in answer.answer for record in rrset] == [SERVICE]


def test_the_top_bit_of_a_class_is_no_part_of_it() -> None:
    question = encode_question(SERVICE)
    assert decode(question[:-2] + b"\x80\x01", SERVICE).asks  # "answer by unicast"
    answer = encode_answer(SERVICE, "abc", TEXTS, 120)
    flushing = answer.replace(b"\x00\x10\x00\x01", b"\x00\x10\x80\x01")
    assert flushing != answer
    assert decode(flushing, SERVICE).texts == {"abc": TEXTS}


def test_what_an_asker_knows_already_is_named_in_its_question() -> None:
    known = dns.message.from_text(
        f"id 0\nopcode QUERY\nflags\n;QUESTION\n{SERVICE} IN PTR\n;ANSWER\n{SERVICE} 120 IN PTR AbC.{SERVICE}\n"
    )
    heard = decode(known.to_wire(), SERVICE)
    assert heard.asks
    assert heard.named == {"abc"}


def test_a_name_that_points_to_itself_ends() -> None:
    loop = b"\x00" * 5 + b"\x01" + b"\x00" * 6 + b"\xc0\x0c" + b"\x00\x0c\x00\x01"
    with pytest.raises(ProtocolError):
        decode(loop, SERVICE)


def test_a_message_over_the_bound_is_refused() -> None:
    with pytest.raises(ProtocolError, match="9001 bytes, at most 9000"):
        decode(bytes(9001), SERVICE)


SEEDS = (encode_question(SERVICE), encode_answer(SERVICE, "abc", TEXTS, 120), encode_services(SERVICE, 9))


@given(st.binary(max_size=200) | st.tuples(st.sampled_from(SEEDS), st.integers(0, 200), st.integers(0, 255)))
def test_whatever_comes_is_a_message_or_refused(given: "bytes | tuple[bytes, int, int]") -> None:
    if isinstance(given, bytes):
        data = given
    else:
        whole, at, byte = given
        data = whole[:at] + bytes([byte]) + whole[at + 1 :]
    try:
        heard = decode(data, SERVICE)
    except ProtocolError:
        return
    assert all(len(instance) <= 63 for instance in (*heard.named, *heard.texts))
