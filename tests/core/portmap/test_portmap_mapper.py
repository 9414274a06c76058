"""Having a gateway map ports, on virtual time."""

import struct
from collections.abc import Sequence

import pytest

from sidecar.core.errors import DeadlineExceeded
from sidecar.core.events import PortMappingState
from sidecar.core.portmap.http import HttpAnswer
from sidecar.core.portmap.method import Gateway

from .fake_gateway import HOST, OUTSIDE, OWN, Asker, FakeGateway


@pytest.mark.parametrize(
    ("speaks", "protocol"),
    [
        (("pcp", "nat-pmp", "upnp"), "pcp"),
        (("nat-pmp", "upnp"), "nat-pmp"),
        (("upnp",), "upnp"),
    ],
)
def test_the_first_protocol_that_the_gateway_speaks_maps_renews_and_releases(
    speaks: Sequence[str], protocol: str
) -> None:
    gateway = FakeGateway(*speaks)
    asker = Asker(gateway, ports=(4747, 4748))
    asker.run(20)
    assert asker.external == [(4747, OUTSIDE, 4747), (4748, OUTSIDE, 4748)]
    assert asker.protocol == protocol
    gateway.mapped.clear()
    asker.run(280)
    assert not gateway.mapped
    asker.run(320)  # half of the 600 seconds are over
    assert gateway.mapped == {4747: (OWN, 4747, 600), 4748: (OWN, 4748, 600)}
    assert asker.mapper.statistics().granted == 4
    asker.mapper.release(asker.now)
    asker.settle()
    assert asker.mapper.released
    assert not gateway.mapped
    assert asker.mapper.report().mapped == ()
    assert asker.mapper.next_deadline() is None


def test_another_version_is_told_at_once_and_silence_within_seconds() -> None:
    asker = Asker(FakeGateway("nat-pmp"))
    assert asker.external, "a gateway of NAT-PMP says that it does not speak PCP"
    asker = Asker(FakeGateway("upnp"))
    asker.run(7.4)
    assert not asker.external
    asker.run(7.6)  # twice 3.75 seconds
    assert asker.external


def test_a_gateway_that_is_silent_is_asked_less_and_less_often() -> None:
    gateway = FakeGateway()
    asker = Asker(gateway)
    assert asker.mapper.report().state is PortMappingState.ASKING
    asker.run(11)
    report = asker.mapper.report()
    assert report.state is PortMappingState.NO_ANSWER
    assert dict(report.reasons) == {"pcp": "no answer", "nat-pmp": "no answer", "upnp": "no answer"}
    asker.run(24 * 3600)
    rounds = sum(datagram.data[:1] == b"\2" for _, datagram in asker.sent) / 4
    assert 24 < rounds < 32  # once an hour in the end, as it is asked after 1, 2, 4, ... minutes
    gateway.speaks = ("nat-pmp",)
    asker.run(asker.now + 4000)
    assert asker.external


def test_that_nothing_listens_is_as_good_as_an_answer() -> None:
    asker = Asker(FakeGateway("upnp"))
    asker.mapper.unreachable(0.0)
    asker.settle()
    asker.mapper.unreachable(0.0)
    asker.settle()
    assert asker.protocol == "upnp"


def test_a_mapping_that_is_not_renewed_is_lost_when_it_ends_and_comes_back() -> None:
    gateway = FakeGateway("pcp")
    asker = Asker(gateway)
    gateway.speaks = ()
    asker.run(599)
    assert asker.external
    assert asker.mapper.report().state is PortMappingState.MAPPED
    asker.run(601)
    assert not asker.external
    assert asker.mapper.statistics().lost == 1
    gateway.speaks = ("upnp",)
    asker.run(1500)
    assert asker.protocol == "upnp"


@pytest.mark.parametrize("protocol", ["pcp", "nat-pmp"])
def test_an_epoch_that_goes_back_has_everything_asked_for_again(protocol: str) -> None:
    gateway = FakeGateway(protocol)
    asker = Asker(gateway, ports=(4747, 4748))
    gateway.began = 100.0
    gateway.mapped.clear()
    asker.run(303)  # the first renewal tells, and both are asked for again
    assert set(gateway.mapped) == {4747, 4748}
    assert asker.mapper.statistics().restarts >= 1
    before = asker.mapper.statistics().granted
    asker.run(590)
    assert asker.mapper.statistics().granted <= before + 2, "and then all is as before"


def announcement(epoch: int, outside: str = OUTSIDE) -> bytes:
    return struct.pack(">BBHI4B", 0, 128, 0, epoch, *map(int, outside.split(".")))


def test_a_gateway_that_says_that_it_has_begun_anew_is_asked_within_a_second() -> None:
    gateway = FakeGateway("pcp")
    asker = Asker(gateway)
    asker.run(100)
    gateway.began, gateway.mapped = asker.now, {}
    for pause in (0.0, 0.25, 0.5, 1.0, 2.0, 4.0):  # it says it ten times
        asker.run(asker.now + pause)
        asker.mapper.receive_announcement(announcement(gateway.epoch(asker.now)), HOST, asker.now)
    asker.run(asker.now + 1)
    assert gateway.mapped
    assert asker.mapper.statistics().requests == 2, "one announcement counts, its repetitions do not"
    gateway.outside = "203.0.113.77"
    asker.mapper.receive_announcement(announcement(gateway.epoch(asker.now), gateway.outside), HOST, asker.now)
    asker.run(asker.now + 1)
    assert asker.external == [(4747, "203.0.113.77", 4747)]


def test_a_gateway_that_comes_back_is_asked_at_once_though_it_was_given_up() -> None:
    gateway = FakeGateway()
    asker = Asker(gateway)
    asker.run(5000)
    gateway.speaks = ("pcp",)
    asker.mapper.receive_announcement(struct.pack(">BBHII12x", 2, 128, 0, 0, 1), HOST, asker.now)
    asker.run(asker.now + 1)
    assert asker.external


def test_announcements_by_the_thousand_cause_a_request_in_four_seconds() -> None:
    gateway = FakeGateway("pcp")
    asker = Asker(gateway)
    for number in range(1000):
        asker.run(100 + number / 100)
        asker.mapper.receive_announcement(announcement(number * 7919 % 100_000), HOST, asker.now)
    asker.run(115)
    assert asker.mapper.statistics().requests <= 6


def test_another_address_outside_is_noticed_at_the_renewal() -> None:
    gateway = FakeGateway("nat-pmp")
    asker = Asker(gateway)
    gateway.outside = "203.0.113.77"
    asker.run(301)
    assert asker.external == [(4747, "203.0.113.77", 4747)]


def test_another_gateway_is_asked_and_none_is_none() -> None:
    gateway = FakeGateway("pcp")
    asker = Asker(gateway)
    asker.mapper.relink(Gateway(HOST, OWN), (4747,), 1.0)
    assert asker.external, "the same: nothing changes"
    asker.mapper.relink(None, (4747,), 2.0)
    assert asker.mapper.report().state is PortMappingState.NO_GATEWAY
    assert asker.mapper.next_deadline() is None
    asker.mapper.relink(Gateway(HOST, OWN), (4747,), 3.0)
    asker.settle()
    assert asker.external


def test_a_port_that_is_taken_outside_becomes_another_one() -> None:
    for speaks in ("pcp", "nat-pmp", "upnp"):
        gateway = FakeGateway(speaks)
        gateway.taken = [4747]
        asker = Asker(gateway)
        asker.run(20)
        ((_, _, external),) = asker.external
        assert external != 4747
        asker.run(400)
        assert asker.external == [(4747, OUTSIDE, external)], "and stays the same one when it is renewed"


def test_a_node_that_was_killed_has_its_mapping_back_and_nobody_else_has() -> None:
    gateway = FakeGateway("pcp")
    gateway.taken = [4747]
    first = Asker(gateway)
    assert first.external == [(4747, OUTSIDE, 4748)]
    other = Asker(gateway, secret=b"another")
    other.run(10)
    assert other.mapper.report().state is PortMappingState.REFUSED
    assert Asker(gateway).external == first.external
    assert len(gateway.mapped) == 1


@pytest.mark.parametrize("protocol", ["pcp", "nat-pmp"])
def test_a_gateway_that_did_not_answer_of_late_is_asked_to_remove_all_the_same(protocol: str) -> None:
    gateway = FakeGateway(protocol)
    asker = Asker(gateway)
    gateway.speaks = ()
    asker.run(400)
    assert asker.external
    gateway.speaks = (protocol,)
    asker.mapper.release(asker.now)
    asker.settle()
    assert asker.mapper.released
    assert not gateway.mapped


def test_a_gateway_that_maps_and_then_breaks_is_tried_anew_once_a_minute() -> None:
    class Breaking(FakeGateway):
        def act(self, action: str, given: dict[str, str]) -> HttpAnswer:
            breaks = given.get("NewInternalPort") == "4748"
            return HttpAnswer(404, b"") if breaks else super().act(action, given)

    gateway = Breaking("upnp")
    asker = Asker(gateway, ("upnp",), ports=(4747, 4748))
    asker.run(600)
    assert asker.external == [(4747, OUTSIDE, 4747)]
    assert 5 <= gateway.http.count("describe") <= 11


# ---------------------------------------------------------------- what gateways say that is no use


@pytest.mark.parametrize(
    ("result", "reason"), [(2, "not authorized"), (8, "no resources"), (12, "another NAT is in between"), (77, "77")]
)
def test_a_no_of_pcp_is_believed_for_as_long_as_it_says(result: int, reason: str) -> None:
    gateway = FakeGateway("pcp")
    gateway.result = result  # its lifetime is then what was asked for: 600 s
    asker = Asker(gateway)
    asker.run(15)
    report = asker.mapper.report()
    assert report.state is PortMappingState.REFUSED
    assert reason in report.reasons["pcp"]
    sent = len(asker.sent)
    asker.run(590)
    assert len(asker.sent) == sent
    gateway.result = 0
    asker.run(700)
    assert asker.external


@pytest.mark.parametrize("lifetime", [0, 1, 9])
@pytest.mark.parametrize("protocol", ["pcp", "nat-pmp"])
def test_a_lifetime_too_short_to_be_kept_is_refused(protocol: str, lifetime: int) -> None:
    gateway = FakeGateway(protocol)
    gateway.lifetime = lifetime
    asker = Asker(gateway)
    asker.run(15)
    assert not asker.external
    assert asker.mapper.report().state is PortMappingState.REFUSED
    assert asker.counts()["port_mapping_malformed"] == 1


def test_a_lifetime_of_a_century_is_believed_for_a_day_and_renewed_as_often_as_asked() -> None:
    gateway = FakeGateway("pcp")
    gateway.lifetime = 2**32 - 1
    asker = Asker(gateway)
    assert asker.mapper.report().mapped[0].ends_at == 86_400
    asker.run(301)
    assert asker.mapper.statistics().granted == 2


@pytest.mark.parametrize("outside", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "169.254.1.1"])
@pytest.mark.parametrize("protocol", ["pcp", "nat-pmp", "upnp"])
def test_an_address_outside_that_is_none_is_no_mapping(protocol: str, outside: str) -> None:
    gateway = FakeGateway(protocol)
    gateway.outside = outside
    asker = Asker(gateway)
    asker.run(15)
    assert not asker.external
    assert outside in asker.mapper.report().reasons[protocol]


def test_whoever_is_not_the_gateway_is_not_heard() -> None:
    gateway = FakeGateway()
    asker = Asker(gateway)
    right = FakeGateway("pcp").answers(asker.sent[0][1], 0.0)[0]
    asker.mapper.receive_datagram(right, "192.168.1.66", 5351, 0.0)
    asker.mapper.receive_datagram(right, HOST, 1900, 0.0)  # nor what comes to another socket
    asker.mapper.receive_announcement(announcement(1), "192.168.1.66", 0.0)
    assert not asker.external
    assert asker.counts()["port_mapping_strays"] == 3
    asker.mapper.receive_datagram(right, HOST, 5351, 0.0)
    assert asker.external


def test_an_answer_of_pcp_without_the_nonce_or_about_another_port_is_not_believed() -> None:
    asker = Asker(FakeGateway())
    right = FakeGateway("pcp").answers(asker.sent[0][1], 0.0)[0]
    for offset in (24, 35, 36, 40):  # the nonce's first and last byte, the protocol, the port
        wrong = bytearray(right)
        wrong[offset] ^= 1
        asker.mapper.receive_datagram(bytes(wrong), HOST, 5351, 0.0)
    assert not asker.external
    assert asker.counts()["port_mapping_strays"] == 4
    asker.mapper.receive_datagram(right, HOST, 5351, 0.0)
    asker.mapper.receive_datagram(right, HOST, 5351, 0.0)  # once more: a stray
    assert asker.counts()["port_mapping_strays"] == 5


@pytest.mark.parametrize("protocol", ["pcp", "nat-pmp"])
def test_answers_cut_at_any_byte_are_counted_and_nothing_else(protocol: str) -> None:
    asker = Asker(FakeGateway(), (protocol,))
    for _, datagram in asker.sent[:2]:
        for answer in FakeGateway(protocol).answers(datagram, 0.0):
            for size in range(len(answer)):
                asker.mapper.receive_datagram(answer[:size], HOST, 5351, 0.0)
                assert not asker.external
    assert asker.counts()["port_mapping_malformed"] > 10
    assert asker.mapper.next_deadline() is not None


# ---------------------------------------------------------------- UPnP


def test_upnp_asks_in_this_order_and_with_version_2_lets_the_gateway_choose() -> None:
    gateway = FakeGateway("upnp")
    asker = Asker(gateway, ("upnp",))
    assert gateway.http == ["describe", "GetExternalIPAddress", "AddPortMapping"]
    gateway.http.clear()
    asker.run(301)
    assert gateway.http == ["GetExternalIPAddress", "AddPortMapping"]
    gateway = FakeGateway("upnp")
    gateway.version, gateway.taken = 2, [4747]
    asker = Asker(gateway, ("upnp",))
    assert gateway.http[-1] == "AddAnyPortMapping"
    assert asker.external == [(4747, OUTSIDE, 4748)]
    asker.run(301)
    assert gateway.http[-1] == "AddPortMapping"
    assert asker.external == [(4747, OUTSIDE, 4748)]
    asker.mapper.release(asker.now)
    asker.settle()
    assert not gateway.mapped


def test_a_gateway_that_knows_leases_without_end_only_is_given_such_and_asked_again_all_the_same() -> None:
    gateway = FakeGateway("upnp")
    gateway.faults = [725]
    asker = Asker(gateway, ("upnp",))
    assert gateway.mapped == {4747: (OWN, 4747, 0)}
    assert asker.mapper.report().mapped[0].ends_at == float("inf")
    gateway.mapped.clear()
    asker.run(301)
    assert gateway.mapped


@pytest.mark.parametrize("code", [718, 725, 402, 501, 606, 0])
def test_a_gateway_that_always_says_no_is_given_up(code: int) -> None:
    gateway = FakeGateway("upnp")
    gateway.faults = [code] * 100
    asker = Asker(gateway, ("upnp",))
    assert asker.mapper.report().state is PortMappingState.REFUSED
    assert len(gateway.http) <= 7
    assert str(code) in asker.mapper.report().reasons["upnp"]


def test_a_version_2_that_cannot_choose_is_asked_for_the_port() -> None:
    gateway = FakeGateway("upnp")
    gateway.version, gateway.faults = 2, [401]
    Asker(gateway, ("upnp",))
    assert gateway.http[-2:] == ["AddAnyPortMapping", "AddPortMapping"]
    assert gateway.mapped


@pytest.mark.parametrize(
    "location",
    [
        "http://192.168.1.66:5000/desc.xml",
        "http://192.168.1.1.evil.example/desc.xml",
        "http://192.168.1.1@192.168.1.66/desc.xml",
        "https://192.168.1.1/desc.xml",
        "file:///etc/passwd",
        "http://192.168.1.1:5000/a b",
        "http://192.168.1.1:99999/desc.xml",
        "http://192.168.1.1:5000/" + 2000 * "a",
        "",
    ],
)
def test_a_description_that_is_elsewhere_is_not_fetched(location: str) -> None:
    gateway = FakeGateway("upnp")
    gateway.location = location
    asker = Asker(gateway, ("upnp",))
    asker.run(10)
    assert gateway.http == []
    assert asker.counts()["port_mapping_malformed"] >= 1
    assert asker.mapper.report().state is PortMappingState.NO_ANSWER


@pytest.mark.parametrize("control", ["http://192.168.1.66/ctl", "//192.168.1.66/ctl", "ftp://192.168.1.1/ctl", "/c tl"])
def test_a_service_that_is_elsewhere_is_not_asked(control: str) -> None:
    gateway = FakeGateway("upnp")
    gateway.control = control
    asker = Asker(gateway, ("upnp",))
    assert gateway.http == ["describe"]
    assert not asker.external


class Broken(FakeGateway):
    """Answers HTTP with the same, whatever is asked, from the `begins`th request on."""

    def __init__(self, answer: HttpAnswer | DeadlineExceeded, begins: int) -> None:
        super().__init__("upnp")
        self.answer = answer
        self.begins = begins

    def fetch(self, request: object) -> HttpAnswer | DeadlineExceeded:  # type: ignore[override]
        if len(self.http) < self.begins:
            return super().fetch(request)  # type: ignore[arg-type, return-value]
        self.http.append("broken")
        return self.answer


@pytest.mark.parametrize("begins", [0, 1, 2])
@pytest.mark.parametrize(
    "answer",
    [
        HttpAnswer(302, b""),
        HttpAnswer(404, b""),
        HttpAnswer(200, b""),
        HttpAnswer(200, b"<a>" * 10_000),
        HttpAnswer(200, b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'),
        DeadlineExceeded("no answer within 5 s"),
    ],
    ids=["redirect", "404", "empty", "deep", "entities", "slow"],
)
def test_an_http_server_that_breaks_is_left_alone(answer: HttpAnswer | DeadlineExceeded, begins: int) -> None:
    gateway = Broken(answer, begins)
    asker = Asker(gateway, ("upnp",))
    asker.run(10)
    assert not asker.external
    assert gateway.http.count("broken") == 1
    assert asker.mapper.report().reasons["upnp"]
    counts = asker.counts()
    assert counts["port_mapping_unanswered" if isinstance(answer, DeadlineExceeded) else "port_mapping_malformed"] == 1


def test_answers_to_requests_of_before_are_not_taken_for_new_ones() -> None:
    asker = Asker(FakeGateway(), ("upnp",))
    ((_, search), *_) = asker.sent
    answer = FakeGateway("upnp").answers(search._replace(data=search.data.replace(b"Device:2", b"Device:1")), 0.0)[0]
    asker.mapper.receive_datagram(answer, HOST, 1900, 0.0)
    (request,) = asker.mapper.requests_to_make()
    asker.mapper.relink(Gateway(HOST, "192.168.1.6"), (4747,), 1.0)
    asker.mapper.receive_datagram(answer, HOST, 1900, 1.0)
    (second,) = asker.mapper.requests_to_make()
    assert second.number != request.number
    asker.mapper.receive_answer(request.number, HttpAnswer(404, b""), 1.0)
    assert asker.mapper.report().state is PortMappingState.ASKING
    asker.mapper.receive_answer(second.number, HttpAnswer(404, b""), 1.0)
    assert asker.mapper.report().state is PortMappingState.NO_ANSWER
