"""The laboratory of reach: what must connect, what NATs are, and what is written of it."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sidecar_client import PeerPath

from bench import page as pages
from bench.namespaces import LabUnavailable
from bench.reach import page, run
from bench.reach.behaviour import observe
from bench.reach.kinds import KINDS, SHARED, STOCK, Kind, Mapping, Pair, Way, must, pairs
from bench.reach.nodes import Fleet, Node, until
from bench.reach.places import Host, Internet, internet
from bench.reach.play import Outcome, _outcome, punch
from bench.reach.punches import HOME, Tries, _pair, nodes_for
from bench.reach.rules import PORTS, PROBE_PORT, nat, ports_of_carrier, ports_outside
from tests.missing import not_there

ROOT = Path(__file__).parents[2]
HERE = Host(-1, ("192.0.2.1",))
BY_NAME = {kind.name: kind for kind in (*KINDS, *SHARED)}


def pair(one: str, other: str) -> Pair:
    return Pair(BY_NAME[one], BY_NAME[other])


# ---------------------------------------------------------------- what must be


@pytest.mark.parametrize(
    ("one", "other", "ways"),
    [
        ("public", "symmetric", "direct mapped punched relayed"),
        ("cone", "symmetric", "direct mapped punched relayed"),
        ("restricted", "symmetric", "mapped punched relayed"),
        ("home", "home", "mapped punched relayed"),
        ("home", "symmetric", "mapped relayed"),
        ("double", "home", "mapped punched relayed"),
        ("double", "double", "punched relayed"),
        ("double", "symmetric", "mapped relayed"),
        ("ipv6", "ipv6", "mapped punched relayed"),
        ("ipv6", "home", "relayed"),
        ("ipv6", "public", "direct mapped punched relayed"),
    ],
)
def test_what_must_connect(one: str, other: str, ways: str) -> None:
    for both in (pair(one, other), pair(other, one)):
        assert " ".join(way for way in Way if must(both, way)) == ways


def test_behind_one_nat_the_addresses_inside_do_with_and_without_hairpin() -> None:
    for kind in SHARED:
        together = Pair(kind, kind, together=True)
        assert all(must(together, way) for way in Way)


def test_every_two_kinds_are_a_pair() -> None:
    found = pairs()
    assert len(found) == len(KINDS) * (len(KINDS) + 1) // 2 + len(SHARED)
    assert all(
        pair(one.name, other.name) in found or pair(other.name, one.name) in found for one in KINDS for other in KINDS
    )


def test_no_two_ports_inside_have_one_outside() -> None:
    homes = ["10.1.0.2", "10.1.0.3"]
    table = ports_outside(homes)
    assert len(set(table.values())) == len(table) == 2 * len(PORTS)
    assert not set(table.values()) & set(PORTS)
    carried = ports_of_carrier("100.64.0.2", homes)
    assert {port for _, port in carried} == set(table.values())
    assert not set(carried.values()) & set(table.values())


def test_whatever_goes_out_keeps_the_nat_open() -> None:
    rules = nat(BY_NAME["cone"], "5.6.7.3", ports_outside(["10.1.0.2"]), "10.1.0.0/24")
    for kept in ("update @asked", "update @opened"):
        assert rules.index(kept) < rules.index("ct state established")


def test_one_who_can_dial_the_other_is_enough_but_holes_are_punched_from_both_sides() -> None:
    both = pair("cone", "home")
    assert _outcome(both, Way.DIRECT, [0.5, "no answer"]) == Outcome(both, Way.DIRECT, True, 0.5, "no answer")
    assert _outcome(both, Way.PUNCHED, [0.5, "no answer"]) == Outcome(both, Way.PUNCHED, False, 0.0, "no answer")
    assert _outcome(both, Way.PUNCHED, [0.5, 1.5]) == Outcome(both, Way.PUNCHED, True, 1.5)


# ---------------------------------------------------------------- the places


def test_a_nat_is_what_it_is_built_as_and_plain_masquerade_is_no_substitute() -> None:
    try:
        with internet([HOME, STOCK]) as lab:
            seen = {kind: observe(lab, lab.place(kind)) for kind in (HOME, STOCK)}
    except LabUnavailable as error:
        not_there(error, must=False)
    assert seen[HOME] == HOME.behaviour
    assert seen[STOCK].mapping is Mapping.DEPENDENT


def test_rules_that_do_other_things_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_to_all(kind: Kind, *rest: object) -> str:
        return nat(BY_NAME["cone"], *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("bench.reach.places.nat", open_to_all)
    monkeypatch.setattr(sys, "argv", ["run", "--tries", "1", "--print"])
    try:
        with internet([HOME]):
            pass
    except LabUnavailable as error:
        not_there(error, must=False)
    with pytest.raises(LabUnavailable, match="are not as they should be"):
        run.punch(run.options())


@pytest.mark.slow
def test_holes_are_punched_between_two_home_routers() -> None:
    try:
        with internet([HOME]):
            pass
    except LabUnavailable as error:
        not_there(error, must=False)
    words = [sys.executable, "-m", "bench.reach.run", "--tries", "2", "--print"]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert told.returncode == 0, told.stderr
    assert "**2 of 2** tries" in told.stdout


async def in_places(lab: Internet, home: Path, hosts: list[Host], play: Callable[..., Awaitable[None]]) -> None:
    """Have two sidecars play, and a relay beside them."""
    nodes = [Node(name, host) for name, host in zip("AB", hosts, strict=True)]
    async with Fleet(lab, home) as fleet:
        await fleet.start(nodes, {"nat-mapping": "off"}, {})
        await play(fleet, *nodes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["no-hairpin", "ipv6"])
def test_what_is_punched_stays(name: str, tmp_path: Path) -> None:
    """Behind one NAT without hairpin by the addresses inside; between two firewalls, though both ask for dial-backs."""
    kind = BY_NAME[name]

    async def play(fleet: Fleet, one: Node, other: Node) -> None:
        took = await punch(fleet, one, other)
        assert isinstance(took, float), took

        async def settled() -> bool:
            peers = [await one.peer(other), await other.peer(one)]
            return all(peer is not None and peer.connections == 1 for peer in peers)

        await until(settled, 30.0, "the relayed connection has not gone")
        for node, peer in ((one, other), (other, one)):
            known = await node.peer(peer)
            assert known is not None
            assert known.path is PeerPath.DIRECT

    try:
        with internet([kind, kind]) as lab:
            both = lab.place(kind).homes if kind in SHARED else [lab.place(kind, number).homes[0] for number in (0, 1)]
            asyncio.run(in_places(lab, tmp_path / "nodes", list(both), play))
    except LabUnavailable as error:
        not_there(error, must=False)


@pytest.mark.slow
def test_two_plain_dials_that_cross_end_in_a_connection(tmp_path: Path) -> None:
    public = BY_NAME["public"]

    async def play(fleet: Fleet, one: Node, other: Node) -> None:
        await asyncio.gather(
            *(a.client.connect_peer(b.peer_id, addresses=[b.listening[0]]) for a, b in ((one, other), (other, one)))
        )
        await one.asks(other)
        await other.asks(one)
        assert await one.has("net_handshakes_simultaneous_open") + await other.has("net_handshakes_simultaneous_open")

    try:
        with internet([public, public]) as lab:
            hosts = [lab.place(public, number).homes[0] for number in (0, 1)]
            asyncio.run(in_places(lab, tmp_path / "nodes", hosts, play))
    except LabUnavailable as error:
        not_there(error, must=False)


# ---------------------------------------------------------------- the page


def test_what_is_not_as_it_must_be_shows_in_the_table() -> None:
    home, mixed = pair("home", "home"), pair("home", "symmetric")
    outcomes = [
        Outcome(home, Way.DIRECT, False, 0.0, "no answer"),
        Outcome(home, Way.MAPPED, None, 0.0),
        Outcome(home, Way.PUNCHED, False, 0.0, "the hole was given up"),
        Outcome(home, Way.RELAYED, True, 0.51),
        Outcome(mixed, Way.PUNCHED, True, 1.26),
    ]
    assert [outcome.holds for outcome in outcomes] == [True, True, False, True, False]
    part = page.table_part({HOME: HOME.behaviour}, outcomes, "- facts")
    assert "| home router and home router | no | not available here | **no, but must** | 0.5 s |" in part
    assert "**1.3 s, but cannot**" in part
    assert "Of 2 that must connect, 1 did; of 2 that the NATs forbid, 1 did not." in part


def test_ninety_five_of_a_hundred_are_wanted() -> None:
    assert Tries(HOME, 10, [1.0] * 95, ["given up"] * 5).holds
    few = Tries(HOME, 10, [1.0] * 94, ["given up"] * 6)
    assert not few.holds
    part = page.tries_part(few, "- facts")
    assert "**94 of 100** tries" in part
    assert part.count("- in vain: given up") == 6


def test_no_two_meet_twice() -> None:
    for tries in (1, 2, 99, 100, 101):
        nodes = nodes_for(tries)
        sides = [[Node(f"{side}{number}", HERE, number) for number in range(nodes)] for side in "AB"]
        met = {tuple(node.title for node in _pair(number, sides)) for number in range(tries)}
        assert len(met) == tries


def test_the_page_has_a_place_for_both_parts() -> None:
    text = (pages.DOCS / "reach.md").read_text(encoding="utf-8")
    for marks in (page.TABLE, page.TRIES):
        assert "\n\nnew\n\n" in pages.replaced(text, *marks, "new")
    assert PORTS[page.MAX_NODES] == PROBE_PORT
