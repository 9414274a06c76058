"""What is said to gateways, byte by byte, and what they may answer."""

import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.errors import ProtocolError
from sidecar.core.portmap import announcement, documents, natpmp, pcp, ssdp
from sidecar.core.portmap.http import MAX_BODY, MAX_HEAD, HttpAnswer, HttpReader
from sidecar.core.portmap.method import EpochWatch

from .fake_gateway import DESCRIPTION, HOST, envelope, fault

# ---------------------------------------------------------------- NAT-PMP and PCP


def test_nat_pmp_is_written_as_its_figures_show() -> None:
    assert natpmp.encode_address_request() == b"\0\0"
    assert natpmp.encode_map_request(4747, 80, 600) == bytes.fromhex("0002 0000 128b 0050 00000258")
    assert natpmp.decode(bytes.fromhex("0080 0000 00000064 cb007109")) == natpmp.AddressAnswer(0, 100, "203.0.113.9")
    answer = natpmp.decode(bytes.fromhex("0082 0000 00000064 128b 0050 00000258"))
    assert answer == natpmp.MappingAnswer(0, 100, 4747, 80, 600)
    assert natpmp.decode(bytes.fromhex("0082 0002 00000064")) == natpmp.MappingAnswer(2, 100, 0, 0, 0)
    assert natpmp.decode(bytes.fromhex("0080 0003 00000064")) == natpmp.AddressAnswer(3, 100, None)


@pytest.mark.parametrize(
    "answer", ["", "0080000000000064cb0071", "008200000000006412", "0281000000000064", "0083" + 28 * "0"]
)
def test_what_is_no_answer_of_nat_pmp_is_refused(answer: str) -> None:
    with pytest.raises(ProtocolError):
        natpmp.decode(bytes.fromhex(answer))


def test_pcp_is_written_as_its_figures_show() -> None:
    request = pcp.encode_map("192.168.1.5", b"nonce-nonce-", 4747, 80, "", 600)
    mapped = "00000000000000000000ffff"
    assert request == (
        bytes.fromhex("0201 0000 00000258" + mapped + "c0a80105")
        + b"nonce-nonce-"
        + bytes.fromhex("06000000 128b 0050" + mapped + "00000000")
    )
    assert len(pcp.encode_map("2001:db8::5", b"nonce-nonce-", 4747, 0, "", 600)) == 60
    answer = bytes.fromhex("0281 00 00 00000258 00000064" + 24 * "0") + request[24:44]
    outside = bytes.fromhex(mapped + "cb007109")
    assert pcp.decode(answer + outside) == pcp.PcpAnswer(0, 600, 100, b"nonce-nonce-", 6, 4747, 80, "203.0.113.9")
    assert pcp.decode(answer + bytes.fromhex("20010db8" + 22 * "0" + "01")).host == "2001:db8::1"
    for size in range(60):
        with pytest.raises(ProtocolError):
            pcp.decode((answer + outside)[:size])
    assert pcp.decode(answer + outside + bytes(1040)).port == 4747  # options
    with pytest.raises(ProtocolError):
        pcp.decode(answer + outside + bytes(1041))
    assert pcp.decode(bytes.fromhex("0281 00 08 00000e10 00000064" + 24 * "0")).result == 8
    assert pcp.decode(bytes.fromhex("0081 0001 00000064")).result == 1  # a gateway that speaks NAT-PMP alone
    with pytest.raises(ProtocolError):
        pcp.decode(bytes.fromhex("0081 0000 00000064"))


def test_announcements_of_both() -> None:
    assert announcement.decode(bytes.fromhex("0080 0000 00000005 cb007109")) == (0, 5, "203.0.113.9")
    assert announcement.decode(bytes.fromhex("0280 00 00 00000000 00000005" + 24 * "0")) == (2, 5, None)
    for data in ("", "0080", "0281" + 44 * "0", "0082" + 20 * "0"):
        with pytest.raises(ProtocolError):
            announcement.decode(bytes.fromhex(data))


@pytest.mark.parametrize(
    ("moments", "restarted"),
    [
        ([(100, 0.0), (200, 100.0), (201, 101.0)], False),
        ([(100, 0.0), (195, 100.0)], False),  # its clock is slow
        ([(100, 0.0), (90, 100.0)], True),
        ([(100, 0.0), (150, 100.0)], True),
        ([(100, 0.0), (400, 100.0)], True),
        ([(100, 0.0), (99, 0.1)], False),  # answers that overtook each other
        ([(100, 0.0), (98, 0.1)], True),
    ],
)
def test_a_restart_shows_in_the_epoch(moments: list[tuple[int, float]], restarted: bool) -> None:
    watch = EpochWatch()
    assert [watch.restarted(epoch, now) for epoch, now in moments][-1] is restarted


# ---------------------------------------------------------------- HTTP

ANSWERS = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "chunks": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", b"hello"),
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "bare": (b"HTTP/1.0 200 OK\nContent-Length: 5\n\nhello", b"hello"),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
}


def read(reader: HttpReader, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        reader.receive(piece)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_read_however_it_is_cut(name: str) -> None:
    data, body = ANSWERS[name]
    assert HttpReader().receive(data + b"more") == HttpAnswer(200, body)
    for size in range(1, len(data)):
        reader, found = HttpReader(), None
        for at in range(0, len(data), size):
            assert found is None or name == "chunks"  # its end is the line behind the last chunk
            found = reader.receive(data[at : at + size]) or found
        assert found == HttpAnswer(200, body)
    for size in range(len(data) - 8):
        reader = HttpReader()
        if reader.receive(data[:size]) is None:
            with pytest.raises(ProtocolError):
                reader.end()


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    reader = HttpReader()
    assert reader.receive(b"HTTP/1.1 200 OK\r\n\r\nhel") is None
    assert reader.receive(b"lo") is None
    assert reader.end() == HttpAnswer(200, b"hello")


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + MAX_HEAD * b"x",
        MAX_HEAD // 18 * b"HTTP/1.1 100 On\r\n\r\n" + 80 * b"x",
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(MAX_BODY + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + 40 * b"0",
    ],
)
def test_what_is_no_answer_or_too_large_is_refused(data: bytes) -> None:
    for size in (len(data), 1000, 7):
        with pytest.raises(ProtocolError):
            read(HttpReader(), [data[at : at + size] for at in range(0, len(data), size)])


def test_a_body_in_small_chunks_is_bounded_too() -> None:
    reader = HttpReader(100)
    reader.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with pytest.raises(ProtocolError, match="more than 100"):
        read(reader, 11 * [b"a\r\n0123456789\r\n"])


# ---------------------------------------------------------------- UPnP


def test_a_search_is_answered_with_a_place_at_the_gateway() -> None:
    searches = ssdp.encode_searches()
    assert all(search.startswith(b"M-SEARCH * HTTP/1.1\r\n") and search.endswith(b"\r\n\r\n") for search in searches)
    answer = (
        "HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"
        "Location: http://192.168.1.1/desc.xml?a=b\r\n\r\n"
    )
    found = ssdp.decode_answer(answer.encode(), HOST)
    assert (str(found), found.port, found.path) == ("http://192.168.1.1/desc.xml?a=b", 80, "/desc.xml?a=b")
    for wrong in (
        "",
        answer.replace("200", "404"),
        answer.replace("InternetGatewayDevice", "MediaServer"),
        answer.replace("Location", "Place"),
        answer.replace("192.168.1.1", "192.168.1.2"),
        answer.replace("/desc", 4096 * "/desc"),
    ):
        with pytest.raises(ProtocolError):
            ssdp.decode_answer(wrong.encode(), HOST)


def test_places_are_relative_to_the_description_and_stay_at_the_gateway() -> None:
    base = "http://192.168.1.1:5000/dir/desc.xml"
    assert ssdp.location("ctl?x", HOST, base) == "http://192.168.1.1:5000/dir/ctl?x"
    assert ssdp.location("/ctl", HOST, base) == "http://192.168.1.1:5000/ctl"
    assert ssdp.location("http://192.168.1.1:80/ctl", HOST, base).port == 80
    for wrong in (
        "//192.168.1.2/ctl",
        "http://192.168.1.2/",
        "javascript:x",
        "/a\r\nHost: b",
        "http://[::1",
        "/\u00fc",
    ):
        with pytest.raises(ProtocolError):
            ssdp.location(wrong, HOST, base)


def test_a_description_has_the_services_that_map_ports_the_best_first() -> None:
    service = "urn:schemas-upnp-org:service:WANIPConnection:"
    found = documents.decode_description(DESCRIPTION.format(version=1, control="/ctl").encode())
    assert found == documents.Description("", (documents.UpnpService(f"{service}1", "/ctl"),))
    several = "".join(
        f"<service><serviceType>{kind}</serviceType><controlURL>/{number}</controlURL></service>"
        for number, kind in enumerate(
            ("urn:schemas-upnp-org:service:WANPPPConnection:1", f"{service}1", f"{service}2", f"{service}9")
        )
    )
    found = documents.decode_description(f"<root><URLBase>http://x/</URLBase>{several}</root>".encode())
    assert (found.base, [each.control for each in found.services]) == ("http://x/", ["/2", "/1", "/0"])
    many = f"<root>{1000 * several}</root>"
    with pytest.raises(ProtocolError):
        documents.decode_description(many.encode())
    assert len(documents.decode_description(f"<root>{100 * several}</root>".encode()).services) == 8


def test_what_an_action_gave_and_why_it_did_not() -> None:
    answer = envelope('<u:GetXResponse xmlns:u="y"><NewX> 5 </NewX><NewY/></u:GetXResponse>')
    assert documents.decode_answer(answer, "GetX") == {"NewX": "5", "NewY": ""}
    with pytest.raises(ProtocolError):
        documents.decode_answer(answer, "GetY")
    assert documents.decode_answer(fault(718).body, "GetX") == documents.Fault(718, "No")
    assert documents.decode_answer(fault(718).body.replace(b"718", b"-1"), "GetX") == documents.Fault(0, "No")
    for size in range(len(answer)):
        with pytest.raises(ProtocolError):
            documents.decode_answer(answer[:size], "GetX")


def test_a_request_is_xml_that_has_its_arguments() -> None:
    body = documents.encode_action("urn:x", "AddPortMapping", {"NewRemoteHost": "", "NewExternalPort": 5})
    assert documents.decode_answer(body.replace(b"AddPortMapping", b"XResponse"), "X") == {
        "NewRemoteHost": "",
        "NewExternalPort": "5",
    }


LAUGHS = b"<!DOCTYPE a [<!ENTITY a0 'ha'>" + b"".join(
    b"<!ENTITY a%d '&a%d;&a%d;&a%d;'>" % (n, n - 1, n - 1, n - 1) for n in range(1, 40)
)


@pytest.mark.parametrize(
    "document",
    [
        LAUGHS + b"]><a>&a39;</a>",
        b'<!DOCTYPE a SYSTEM "http://192.168.1.66/evil.dtd"><a/>',
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        b"<a>&b;</a>",
        b"<a>" * 33 + b"</a>" * 33,
        b"<r>" + b"<a/>" * 5000 + b"</r>",
        b"<a>" + b"x" * 3000 + b"</a>",
        b'<?xml version="1.0" encoding="no such"?><a/>',
        b'<?xml version="1.0" encoding="utf-7"?><a/>',
        b"\xff\xfe\x00",
        b"",
        b"<a></b>",
    ],
    ids=["laughs", "dtd", "file", "entity", "deep", "many", "long", "encoding", "utf-7", "utf-16", "empty", "crossed"],
)
def test_xml_that_means_harm_or_is_none_is_refused(document: bytes) -> None:
    with pytest.raises(ProtocolError):
        documents.decode_description(document)


SHAPES = (
    b"",
    bytes.fromhex("0080 0000 00000064 cb007109"),
    bytes.fromhex("0082 0000 00000064 128b 0050 00000258"),
    bytes.fromhex("0281 0000 00000258 00000064" + 96 * "0"),
    b"HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nLOCATION: http://192.168.1.1/d\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    DESCRIPTION.format(version=1, control="/ctl").encode(),
    fault(718).body,
)


@given(shape=st.sampled_from(SHAPES), at=st.integers(0, 800), noise=st.binary(max_size=12), cut=st.integers(0, 12))
def test_no_bytes_raise_anything_but_a_protocol_error(shape: bytes, at: int, noise: bytes, cut: int) -> None:
    data = shape[:at] + noise + shape[at + cut :]
    for decode in (
        natpmp.decode,
        pcp.decode,
        announcement.decode,
        lambda data: ssdp.decode_answer(data, HOST),
        documents.decode_description,
        lambda data: documents.decode_answer(data, "GetX"),
        lambda data: HttpReader().receive(data) or HttpReader().end(),
        lambda data: ssdp.location(data.decode("latin-1"), HOST, "http://192.168.1.1/d"),
    ):
        with contextlib.suppress(ProtocolError):
            decode(data)
