"""Nodes on virtual time, up to a hundred (slow): join, broadcast, churn and partition."""

import hashlib
import os
import subprocess
import sys

import pytest

from sidecar.core import events
from sidecar.core.kademlia import keyspace

from .mesh import asymmetric_links, build, mesh_of, publish, received, subscribe

LARGE = [pytest.param(seed, count, marks=pytest.mark.slow) for seed, count in ((1, 100), (3, 30))]


@pytest.mark.parametrize(("seed", "count"), [(2, 30), *LARGE])
def test_nodes_join_broadcast_churn_and_part(seed: int, count: int) -> None:
    simulation = build(seed, count)
    peers = simulation.peers
    subscribe(peers)
    simulation.run(12)

    # Join: everybody is connected, and a lookup from anywhere finds anybody.
    assert all(len(peer.node.peers()) >= 5 for peer in peers), f"seed {seed}"
    seeker, sought = peers[17], peers[-12]
    op = seeker.ask(lambda op: events.FindPeerRequested(op, sought.identity.peer_id))
    simulation.run(10)
    found = seeker.result(op)
    assert isinstance(found, tuple), found
    assert sought.address in found
    key = b"any key"
    op = seeker.ask(lambda op: events.ClosestPeersRequested(op, key))
    simulation.run(20)
    closest = seeker.result(op)
    assert isinstance(closest, tuple)
    place = hashlib.sha256(key).digest()
    distances = sorted(
        (distance(place, peer.identity.peer_id), peer.identity.peer_id) for peer in peers if peer is not seeker
    )
    assert [peer for peer, _ in closest] == [peer for _, peer in distances[:20]], f"seed {seed}"

    # Broadcast: everyone receives each message once, over a mesh whose links are symmetric.
    assert not asymmetric_links(peers), f"seed {seed}"
    sent = [f"message {number}".encode() for number in range(20)]
    for number, data in enumerate(sent):
        publish(peers[number * count // 20], data)
        simulation.run(0.05)
    simulation.run(5)
    for peer in peers:
        assert sorted(received(peer)) == sorted(sent), f"peer {peer.index}, seed {seed}"

    # Churn: a fifth of them vanish, and return as themselves; those that stayed miss nothing.
    gone = peers[1::5]
    for peer in gone:
        simulation.kill(peer)
    publish(peers[0], b"while they are away")
    simulation.run(20)
    stayed = [peer for peer in peers if peer.alive]
    for peer in stayed:
        assert received(peer).count(b"while they are away") == 1, f"peer {peer.index}, seed {seed}"
    for peer in gone:
        peer.news.clear()
        peer.start()
    subscribe(gone)
    simulation.run(15)
    publish(gone[0], b"here we are again")
    simulation.run(10)
    for peer in peers:
        assert received(peer).count(b"here we are again") == 1, f"peer {peer.index}, seed {seed}"

    # Partition: each half goes on by itself; healed, they are one mesh again.
    left, right = peers[: count // 2], peers[count // 2 :]
    simulation.partition([left, right])
    simulation.run(45)
    publish(left[3], b"left")
    publish(right[3], b"right")
    simulation.run(10)
    for peer in left:
        assert received(peer).count(b"left") == 1, f"peer {peer.index}, seed {seed}"
        assert b"right" not in received(peer)
    for peer in right:
        assert received(peer).count(b"right") == 1, f"peer {peer.index}, seed {seed}"
    simulation.heal()
    simulation.run(90)  # the longest wait before a peer that failed is dialled again is a minute
    publish(left[7], b"one again")
    simulation.run(10)
    for peer in peers:
        assert received(peer).count(b"one again") == 1, f"peer {peer.index}, seed {seed}"


def distance(place: bytes, peer: bytes) -> int:
    return int.from_bytes(place, "big") ^ keyspace.place(peer)


def test_a_short_run_is_the_same_under_any_hash_seed() -> None:
    program = "from tests.sim.test_mesh import fingerprint; print(fingerprint())"
    prints = []
    for hash_seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        prints.append(done.stdout)
    assert prints[0] == prints[1] == prints[2]
    assert len(prints[0].strip()) == 64


def fingerprint() -> str:
    """A digest of everything that happened in a run of 20 nodes."""
    simulation = build(7, 20)
    subscribe(simulation.peers)
    simulation.run(5)
    for number in range(5):
        publish(simulation.peers[number], b"x%d" % number)
    simulation.kill(simulation.peers[4])
    simulation.run(5)
    digest = hashlib.sha256(str(simulation.clock.steps).encode())
    for peer in simulation.peers:
        digest.update(repr((peer.index, received(peer), sorted(mesh_of(peer)))).encode())
        digest.update(repr(sorted(peer.node.statistics().flat().items())).encode())
    return digest.hexdigest()
