"""Who may connect: networks, bans, lists, and what wins."""

import ipaddress
import random

import pytest

from sidecar.core.errors import InvalidArgument, PeerBanned, ResourceExhausted
from sidecar.core.gate import Ban, Gate, GateLists, Subject
from sidecar.core.identity import Identity
from sidecar.core.networks import Network, NetworkTable, split_address
from sidecar.core.types import PeerId

A, B, C = (Identity(bytes([number]) * 32).peer_id for number in (1, 2, 3))
HOUR = 3600.0


def net(text: str) -> Network:
    return Network.from_text(text)


def ban(subject: Subject | str, created: float = 0.0, lasts: float | None = None, reason: str = "") -> Ban:
    subject = net(subject) if isinstance(subject, str) else subject
    return Ban(subject, reason, created, None if lasts is None else created + lasts)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("192.0.2.7", "192.0.2.7"),
        (" 192.0.2.0/24 ", "192.0.2.0/24"),
        ("192.0.2.7/32", "192.0.2.7"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ],
)
def test_networks_are_read_and_written(text: str, written: str) -> None:
    assert str(net(text)) == written
    assert net(written) == net(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not an IP address"),
        ("example.org", "not an IP address"),
        ("/ip4/192.0.2.7", "not an IP address"),
        ("192.0.2.7/33", "from 0 to 32"),
        ("192.0.2.0/-1", "from 0 to 32"),
        ("192.0.2.0/255.255.255.0", "from 0 to 32"),
        ("192.0.2.0/", "from 0 to 32"),
        ("192.0.2.0/²", "from 0 to 32"),
        ("::/129", "from 0 to 128"),
        ("10.1.2.3/8", "write 10.0.0.0/8"),
        ("fe80::1%eth0", "no zone"),
        ("192.0.2.1.5", "not an IP address"),
        ("x" * 10_000, "not an IP address"),
    ],
)
def test_what_is_no_network_is_said(text: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said) as caught:
        net(text)
    assert len(str(caught.value)) < 250


def test_addresses_are_the_same_however_they_are_written() -> None:
    assert split_address("::ffff:192.0.2.7") == split_address("192.0.2.7") == (4, 0xC0000207)
    assert split_address("fe80::1%eth0") == split_address("fe80::1")
    with pytest.raises(ValueError, match="does not appear"):
        split_address("a name")


@pytest.mark.parametrize("seed", range(5))
def test_the_table_finds_what_looking_at_all_networks_finds(seed: int) -> None:
    rng = random.Random(seed)
    table: NetworkTable[Network] = NetworkTable()
    there: dict[Network, None] = {}

    def anything() -> Network:
        version = rng.choice((4, 6))
        bits = 32 if version == 4 else 128
        prefix = rng.randrange(bits + 1)
        first = rng.choice((0xC0A80000, 0x0A000000)) if version == 4 else 0x20010DB8 << 96
        first ^= rng.getrandbits(8) << rng.randrange(24)
        return Network(version, first >> (bits - prefix) << (bits - prefix), prefix)

    for _ in range(400):
        network = anything()
        if rng.random() < 0.3 and there:
            gone = rng.choice(list(there))
            del there[gone]
            assert table.remove(gone) == gone
        there[network] = None
        table.put(network, network)
        version, number, _ = anything()
        around = [other for other in there if other.contains(version, number)]
        assert table.find(version, number) == max(around, key=lambda other: other.prefix, default=None)
        within = [
            other
            for other in there
            if other.prefix <= network.prefix and other.contains(network.version, network.first)
        ]
        assert table.around(network) == max(within, key=lambda other: other.prefix)
    assert len(table) == len(there) == len(list(table))
    for network in there:
        table.remove(network)
    assert not len(table)
    assert table.remove(net("192.0.2.1")) is None


def test_a_ban_wins_over_the_deny_list_and_that_over_the_allow_list() -> None:
    gate = Gate(GateLists(allow_peers=(A, B), deny_peers=(B,)))
    assert gate.refuse_peer(A) is None
    assert "on the deny list" in str(gate.refuse_peer(B))
    assert "not on the allow list" in str(gate.refuse_peer(C))
    gate.add(ban(A, reason="spam"), ban(B, reason="spam too"))
    assert str(gate.refuse_peer(A)) == f"{A} is banned: spam"
    assert str(gate.refuse_peer(B)) == f"{B} is banned: spam too"
    assert isinstance(gate.refuse_peer(B), PeerBanned)
    assert gate.refused_peers == 5
    assert gate.lift(A) == ban(A, reason="spam")
    assert gate.lift(A) is None
    assert not gate.refuses_peer(A)
    gate.lift(B)
    assert "on the deny list" in (gate.still_refuses(B) or "")  # lifting a ban does not lift the list
    assert gate.still_refuses(A) is None
    assert gate.refused_peers == 5  # questions are not counted


def test_an_empty_allow_list_is_everybody() -> None:
    assert not Gate().refuses_peer(A)
    assert not Gate().refuses_address("192.0.2.7")
    assert not Gate(GateLists(deny_networks=(net("10.0.0.0/8"),))).refuses_address("192.0.2.7")


def test_networks_are_judged_like_peers() -> None:
    lists = GateLists(allow_networks=(net("10.0.0.0/8"), net("2001:db8::/32")), deny_networks=(net("10.9.0.0/16"),))
    gate = Gate(lists)
    assert gate.refuse_address("10.1.2.3") is None
    assert gate.refuse_address("::ffff:10.1.2.3") is None
    assert gate.refuse_address("2001:db8::5%eth0") is None
    assert (
        str(gate.refuse_address("10.9.2.3"))
        == "10.9.2.3 is in 10.9.0.0/16, which is on the deny list of the configuration"
    )
    assert str(gate.refuse_address("192.0.2.7")) == "192.0.2.7 is in no network of the allow list (gate.allow_networks)"
    gate.add(ban("10.1.0.0/16", lasts=60.0, reason="scans"), ban("10.1.2.3"))
    assert str(gate.refuse_address("::ffff:10.1.9.9")) == (
        "::ffff:10.1.9.9 is in 10.1.0.0/16, which is banned until 1970-01-01T00:01:00Z: scans"
    )
    assert str(gate.refuse_address("10.1.2.3")) == "10.1.2.3 is banned"
    gate.lift(net("10.1.2.3"))
    assert "10.1.0.0/16" in (gate.still_refuses(net("10.1.2.3")) or "")
    assert gate.still_refuses(net("10.2.0.0/16")) is None
    assert "allow list" in (gate.still_refuses(net("192.0.2.0/24")) or "")
    assert gate.refuse_address("a unix socket") is None
    assert gate.refused_addresses == 4
    gate.configure(GateLists())
    assert not gate.refuses_address("192.0.2.7")
    assert gate.refuses_address("10.1.2.3")  # bans outlive a new configuration


def test_all_of_ipv6_is_not_ipv4() -> None:
    gate = Gate(GateLists(deny_networks=(net("::/0"),)))
    assert gate.refuses_address("::1")
    assert not gate.refuses_address("127.0.0.1")
    assert not gate.refuses_address("::ffff:127.0.0.1")


def test_bans_end_by_the_wall_clock() -> None:
    gate = Gate(bans=[ban(A, 0, HOUR), ban(B), ban("10.0.0.0/8", 0, 10.0), ban(C, 0, 5.0)], wall=7.0)
    assert not gate.refuses_peer(C)  # over before it was loaded
    assert not gate.is_due(9.9)
    assert gate.is_due(10.0)
    assert gate.advance(10.0) == [ban("10.0.0.0/8", 0, 10.0)]
    assert not gate.refuses_address("10.1.1.1")
    assert gate.advance(HOUR * 1000) == [ban(A, 0, HOUR)]  # the machine slept, or its clock was set
    assert not gate.refuses_peer(A)
    assert gate.refuses_peer(B)
    assert gate.size == 1


def test_the_last_ban_of_a_peer_counts() -> None:
    gate = Gate(bans=[ban(A, 0, 10.0, "first")], wall=0.0)
    gate.add(ban(A, 5.0, HOUR, "second"))
    assert gate.advance(20.0) == []
    assert "second" in str(gate.refuse_peer(A))
    gate.add(ban(A, 20.0, 1.0, "third"))
    assert [over.reason for over in gate.advance(21.0)] == ["third"]
    assert not gate.refuses_peer(A)
    assert gate.advance(2 * HOUR) == []


def test_a_clock_that_is_set_back_does_not_make_bans_longer() -> None:
    day = 24 * HOUR
    gate = Gate(wall=10 * day)
    gate.add(ban(A, 10 * day, HOUR), ban(B, 10 * day - 2, None))
    assert not gate.is_due(10 * day - 1)  # a clock that is put right a little
    assert gate.is_due(9 * day)
    assert gate.advance(9 * day) == []
    assert gate.get(A) == ban(A, 9 * day, HOUR)
    assert not gate.is_due(9 * day)
    gate.advance(8 * day)  # and again
    assert gate.get(A) == ban(A, 8 * day, HOUR)
    assert [over.subject for over in gate.advance(8 * day + HOUR)] == [A]
    assert gate.refuses_peer(B)
    # The same for one that is loaded when the clock shows an earlier time than when it was made.
    assert Gate(bans=[ban(A, 10 * day, HOUR)], wall=day).get(A) == ban(A, day, HOUR)


def test_a_ban_that_a_wrong_clock_has_ended_comes_back_with_the_right_one() -> None:
    day = 24 * HOUR
    gate = Gate(wall=10 * day)
    gate.add(ban(A, 10 * day, 7 * day), ban(B, 10 * day, HOUR))
    assert len(gate.advance(50 * day)) == 2
    gate.add(ban("10.0.0.1", 50 * day, HOUR))
    assert len(gate.advance(50 * day + 2 * HOUR)) == 1
    assert not gate.size
    assert gate.is_due(11 * day)
    gate.advance(11 * day)
    assert gate.get(A) == ban(A, 10 * day, 7 * day)
    assert gate.size == 1  # that of B is over by the right clock too, the other one had its hour
    assert not gate.is_due(11 * day)
    gate.advance(60 * day)
    gate.lift(A)
    gate.advance(11 * day)
    assert not gate.size  # lifted by hand is lifted


def test_bans_are_bounded_and_all_or_none_of_a_call() -> None:
    gate = Gate(max_bans=2, max_protected=1)
    gate.add(ban(A))
    with pytest.raises(ResourceExhausted, match="at most 2"):
        gate.add(ban(B), ban("10.0.0.1"))
    assert gate.size == 1
    gate.add(ban(A, reason="anew"), ban(B))
    assert gate.protect(A, True)
    assert not gate.protect(A, True)
    with pytest.raises(ResourceExhausted, match="at most 1"):
        gate.protect(B, True)
    assert gate.protect(A, False)
    assert not gate.protects(A)


def test_bans_made_anew_again_and_again_take_no_more_room() -> None:
    gate = Gate(wall=0.0)
    gate.add(ban(B, 0, HOUR))
    for number in range(10_000):
        gate.add(ban(A, number, HOUR))
    assert len(gate._ends) < 100
    assert [over.subject for over in gate.advance(HOUR)] == [B]
    assert gate.advance(9_999 + HOUR)[0].subject == A


def test_pages_go_through_all_bans_once() -> None:
    rng = random.Random(4)
    peers = [Identity(rng.randbytes(32)).peer_id for _ in range(30)]
    networks = [Network(4, rng.getrandbits(32), 32) for _ in range(30)] + [net("10.0.0.0/8"), net("::/0"), net("::1")]
    subjects: list[Subject] = [*peers, *networks]
    rng.shuffle(subjects)
    gate = Gate(bans=map(ban, subjects))
    seen: list[Subject] = []
    while page := gate.bans(seen[-1] if seen else None, 7):
        seen += [view.ban.subject for view in page]
        if len(seen) == 7:
            gate.lift(seen[-1])  # the page behind one that is gone begins at the right place all the same
    assert len(seen) == len(subjects)
    assert set(seen) == set(subjects)
    assert all(isinstance(subject, PeerId) for subject in seen[:30])
    assert [str(subject) for subject in seen[-2:]] == ["::/0", "::1"]


def test_what_a_ban_refused_is_counted() -> None:
    gate = Gate(GateLists(deny_peers=(B,), deny_networks=(net("10.0.0.0/8"),), protected=(C,)), [ban(A)])
    for _ in range(3):
        gate.refuse_peer(A)
        gate.refuse_address("10.1.1.1")
    assert gate.bans(None, 9) == [(ban(A), 3, False)]
    assert [(view.ban.subject, view.refused, view.configured) for view in gate.denied()] == [
        (B, 0, True),
        (net("10.0.0.0/8"), 3, True),
    ]
    gate.add(ban(A, reason="still"))
    assert gate.bans(None, 9)[0].refused == 3
    assert gate.protects(C)
    gate.protect(A, True)
    assert gate.protected() == (C, A)


def test_a_look_up_probes_one_table_for_each_length_however_many_bans_there_are() -> None:
    rng = random.Random(2)
    gate = Gate(max_bans=20_000)
    gate.add(
        *(ban(Network(4, rng.getrandbits(32), 32)) for _ in range(10_000)), ban("10.0.0.0/8"), ban("2001:db8::/32")
    )
    probes = gate._networks._probes
    assert [shift for shift, _ in probes[4]] == [0, 24]
    assert [shift for shift, _ in probes[6]] == [96]
    assert gate.refuses_address("10.200.1.1")


def test_times_beyond_the_calendar_are_said_all_the_same() -> None:
    assert str(ban(A, 0.0, 1e15)) == "banned until the end of time"
    assert str(ipaddress.ip_address("::1")) == str(net("::1"))
