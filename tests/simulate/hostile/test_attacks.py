"""Attacks on small networks: everything arrives, and soon. Where scores are what defends, it is worse without them.

`make attack-sim` plays the same with ten to a hundred times as many nodes.
"""

from pathlib import Path

import pytest

from sidecar.simulate.settings import Assignment

from .attack import attacked

UNSCORED = Assignment("score.enabled", False)
MANY = "count = 24\nhosts = 24\nstart = 10\nover = 1\nconnections = 12\n"
FEW = "count = 4\nhosts = 4\nstart = 10\nconnections = 12\n"
slow = pytest.mark.slow

SILENT = MANY + 'behaviour = "silent"'
COLLOCATED = MANY.replace("hosts = 24", "hosts = 1") + 'behaviour = "silent"'
IHAVE_SPAM = FEW + 'behaviour = "ihave-spam"\nids = 50'
GRAFT_FLOOD = MANY.replace("24", "10") + 'behaviour = "graft-flood"\nrate = 4'
ATTACKS = {
    "eclipse one": SILENT.replace("connections = 12", 'connections = 1\nagainst = "victim"'),
    "eclipse publishers": SILENT.replace("connections = 12", 'connections = 3\nagainst = "publishers"'),
    "degradation": MANY + 'behaviour = "degrade"\nforwards = 0.5',
    "iwant flood": FEW + 'behaviour = "iwant-flood"',
    "broken promises": MANY + 'behaviour = "broken-promises"',
    "px poisoning": MANY + 'behaviour = "px-poison"',
}


@pytest.mark.parametrize("attack", [pytest.param(name, marks=slow) for name in ATTACKS])
def test_everything_arrives(tmp_path: Path, attack: str) -> None:
    result = attacked(tmp_path, ATTACKS[attack])
    assert result.owed == 20 * 11
    assert result.missed == 0
    assert result.last < 6.0


def test_everything_arrives_though_sybils_fill_all_meshes_and_pass_nothing_on(tmp_path: Path) -> None:
    result = attacked(tmp_path, SILENT)
    assert result.mesh > 0.2  # they are in the way
    assert result.owed == 20 * 11
    assert result.missed == 0
    assert result.last < 6.0


def test_everything_arrives_though_sybils_earn_trust_and_then_are_silent_all_at_once(tmp_path: Path) -> None:
    covert = MANY.replace("start = 10", "start = 2") + 'behaviour = "silent"\nafter = "12s"'
    result = attacked(tmp_path, covert)
    assert result.mesh > 0.2
    assert result.hostile["scores"]["hostile"]["max"] > 1.0  # they were of use
    assert result.missed == 0
    assert result.last < 6.0


def test_messages_of_one_author_arrive_though_sybils_keep_these_for_themselves(tmp_path: Path) -> None:
    censor = MANY + 'behaviour = "censor"\nauthor = "victim"'
    result = attacked(tmp_path, censor, author="victim")
    assert result.owed == 20 * 11
    assert result.missed == 0
    assert result.last < 6.0


@pytest.mark.slow
@pytest.mark.parametrize("honest", [0, 5])
def test_everything_arrives_where_sybils_start_with_the_honest_or_before_them(tmp_path: Path, honest: int) -> None:
    """Cold boot, and at dawn."""
    sybils = MANY.replace("start = 10\nover = 1\n", "") + 'behaviour = "silent"'
    starts = [Assignment(f"nodes.{kind}.start", honest) for kind in ("publishers", "victim", "lurkers")]
    result = attacked(tmp_path, sybils, *starts, start="cold", before=12, during=17, duration=30)
    assert result.owed == 20 * 11
    assert result.missed == 0
    assert result.last < 6.0


def test_who_names_messages_that_do_not_exist_is_kept_out_of_meshes(tmp_path: Path) -> None:
    scored, unscored = (attacked(tmp_path, IHAVE_SPAM, *settings) for settings in ((), (UNSCORED,)))
    for result in (scored, unscored):
        assert (result.owed, result.missed) == (20 * 11, 0)
        assert result.last < 6.0
    assert scored.mesh == 0.0
    assert unscored.mesh > 0.1
    assert scored.hostile["standing"]["good"] == 0
    # Whoever is seen through is not asked any more.
    assert 2 * scored.hostile["misbehaviour"]["broken_promise"] < unscored.hostile["misbehaviour"]["broken_promise"]


def test_sybils_of_one_address_are_kept_out_of_meshes(tmp_path: Path) -> None:
    scored, unscored = (attacked(tmp_path, COLLOCATED, *settings) for settings in ((), (UNSCORED,)))
    for result in (scored, unscored):
        assert (result.owed, result.missed) == (20 * 11, 0)
    assert scored.mesh == 0.0
    assert unscored.mesh > 0.1
    assert scored.hostile["standing"]["graylisted"] == 24 * 12


def test_who_grafts_within_its_back_off_is_not_listened_to(tmp_path: Path) -> None:
    scored, unscored = (attacked(tmp_path, GRAFT_FLOOD, *settings) for settings in ((), (UNSCORED,)))
    for result in (scored, unscored):
        assert (result.owed, result.missed) == (20 * 11, 0)
        assert result.last < 6.0
    assert scored.hostile["standing"]["graylisted"] > 0
    assert 3 * scored.hostile["misbehaviour"]["graft_in_backoff"] < unscored.hostile["misbehaviour"]["graft_in_backoff"]


def test_more_connections_of_one_address_than_a_limit_allows_are_refused(tmp_path: Path) -> None:
    limits = Assignment("limits.connections_per_address", 3)
    result = attacked(tmp_path, COLLOCATED, limits)
    assert result.hostile["refused"]["address"] > 0
    honest = result.play.honest
    assert all(sum(link.far.peer.host == "11.0.12.1" for link in peer.links.values()) <= 3 for peer in honest)
    assert result.missed == 0


def test_a_victim_that_the_dht_is_full_of_is_hardly_knocked_at(tmp_path: Path) -> None:
    sybils = "count = 4\nhosts = 4\nconnections = 12\n" + 'behaviour = "dht-victim"\nvictim = "victim"'
    # Half of the honest nodes join later, and ask the DHT.
    result = attacked(tmp_path, sybils, Assignment("nodes.lurkers.start", 5), during=15)
    assert result.missed == 0
    # Each node may dial one address eight times in vain, and then once in half a minute; an answer names it 20 times.
    assert 0 < result.hostile["dials_in_vain_to_one_address"] <= 11 * 9


def test_ids_near_to_a_victim_get_into_its_table_and_change_nothing_for_it(tmp_path: Path) -> None:
    sybils = (
        'count = 12\nhosts = 12\nconnections = 1\nagainst = "victim"\nbehaviour = "table-eclipse"\nvictim = "victim"'
    )
    result = attacked(tmp_path, sybils, Assignment("nodes.lurkers.start", 5), during=15)
    victim = next(
        peer for peer, kind in zip(result.play.peers, result.play.kinds, strict=True) if kind.name == "victim"
    )
    near = {
        peer.identity.peer_id for peer, kind in zip(result.play.peers, result.play.kinds, strict=True) if kind.hostility
    }
    table = [peer for bucket in victim.node.routing_table() for peer in bucket.peers]
    assert sum(peer in near for peer in table) == 12
    assert result.missed == 0
