"""IDONTWANT: what is told, to whom and when, what is heeded, and that it saves copies."""

import random
from hashlib import sha256

import pytest
from gossip_network import (
    UNSCORED,
    GossipNetwork,
    control,
    graft,
    joined,
    make_router,
    peer_id,
    plain,
    rpc,
    rpcs,
    signed,
)

from sidecar.core.gossip import (
    GossipConfig,
    GossipRouter,
    MessagesDelivered,
    PeerAdded,
    PeerRemoved,
    PeerWoken,
    Published,
    RpcsReceived,
    TopicJoined,
    TopicOptions,
)
from sidecar.core.types import PeerId

UNSIGNED = TopicOptions(sign=False)
V12, V13 = "/meshsub/1.2.0", "/meshsub/1.3.0"
LARGE = bytes(1100)


def mesh_of(router: GossipRouter, count: int, options: TopicOptions, protocol: str = V12) -> list[PeerId]:
    """Peers in the mesh, with nothing waiting for them."""
    peers = joined(router, "news", count, options, protocol)
    for peer in peers:
        router.handle(RpcsReceived(peer, [graft("news")]), 0.0)
        rpcs(router, peer)
    return peers


def told(router: GossipRouter, peer: PeerId) -> tuple[list[list[bytes]], int]:
    """What a peer gets: the ids of each IDONTWANT, and how many messages."""
    got = rpcs(router, peer)
    entries = [list(entry.messageIDs) for found in got for entry in found.control.idontwant]
    return entries, sum(len(found.publish) for found in got)


@pytest.mark.parametrize("protocol", [V12, V13])
def test_a_large_message_is_told_to_the_mesh_before_it_is_forwarded(protocol: str) -> None:
    router = make_router()
    source, other, third = mesh_of(router, 3, UNSIGNED, protocol)
    effects = router.handle(RpcsReceived(source, [rpc(publish=[plain("news", LARGE)])]), 1.0)
    assert [type(effect) for effect in effects] == [MessagesDelivered, PeerWoken, PeerWoken]
    identifier = sha256(LARGE).digest()
    for peer in (other, third):
        first, second = rpcs(router, peer)
        assert [list(entry.messageIDs) for entry in first.control.idontwant] == [[identifier]]
        assert not first.publish
        assert len(second.publish) == 1
    assert told(router, source) == ([], 0)
    assert router.statistics().idontwant_ids_sent == 2


def test_small_messages_and_repeats_are_not_told() -> None:
    router = make_router()
    source, other = mesh_of(router, 2, UNSIGNED)
    router.handle(RpcsReceived(source, [rpc(publish=[plain("news", bytes(400))])]), 1.0)
    assert told(router, other) == ([], 1)
    for number, expected in ((1.0, 1), (2.0, 0)):
        router.handle(RpcsReceived(source, [rpc(publish=[plain("news", LARGE)])]), number)
        assert len(told(router, other)[0]) == expected


def test_peers_of_older_versions_are_not_told() -> None:
    router = make_router()
    source, other = mesh_of(router, 2, UNSIGNED, "/meshsub/1.1.0")
    router.handle(RpcsReceived(source, [rpc(publish=[plain("news", LARGE)])]), 1.0)
    assert told(router, other) == ([], 1)


def test_it_follows_the_check_of_the_signature_so_that_no_forged_copy_keeps_the_real_one_away() -> None:
    router = make_router(config=UNSCORED)
    source, other = mesh_of(router, 2, TopicOptions())
    forged = bytearray(signed(9, "news", LARGE))
    forged[-1] ^= 1
    effects = router.handle(RpcsReceived(source, [rpc(publish=[bytes(forged)])]), 1.0)
    assert effects == []
    assert router.statistics().rejected["signature"] == 1
    router.handle(RpcsReceived(source, [rpc(publish=[signed(9, "news", LARGE)])]), 1.0)
    assert told(router, other) == ([[bytes(peer_id(9)) + (7).to_bytes(8, "big")]], 1)


def test_ten_ids_at_most_in_one_rpc() -> None:
    router = make_router()
    source, other = mesh_of(router, 2, UNSIGNED)
    raws = [plain("news", LARGE + bytes([number])) for number in range(25)]
    router.handle(RpcsReceived(source, [rpc(publish=raws)]), 1.0)
    entries, messages = told(router, other)
    assert [len(entry) for entry in entries] == [10, 10, 5]
    assert messages == 25


def unwant(*ids: bytes) -> bytes:
    return control(idontwant=[{"messageIDs": list(ids)}])


@pytest.mark.parametrize("options", [UNSIGNED, TopicOptions()], ids=["unsigned", "signed"])
def test_what_a_peer_does_not_want_is_not_sent_to_it(options: TopicOptions) -> None:
    router = make_router()
    source, other, third = mesh_of(router, 3, options)
    if options.sign:
        raws = [signed(9, "news", LARGE, seqno) for seqno in (1, 2)]
        unwanted = bytes(peer_id(9)) + (1).to_bytes(8, "big")
    else:
        raws = [plain("news", LARGE + bytes([number])) for number in (1, 2)]
        unwanted = sha256(LARGE + b"\x01").digest()
    router.handle(RpcsReceived(other, [unwant(unwanted)]), 0.5)
    router.handle(RpcsReceived(source, [rpc(publish=raws)]), 1.0)
    assert told(router, other)[1] == 1
    assert told(router, third)[1] == 2
    statistics = router.statistics()
    assert (statistics.idontwant_ids_received, statistics.idontwant_suppressed) == (1, 1)


def test_it_is_heeded_for_three_heartbeats() -> None:
    for beats, sent in ((2, 0), (4, 1)):
        router = make_router()
        source, other = mesh_of(router, 2, UNSIGNED)
        router.handle(RpcsReceived(other, [unwant(sha256(LARGE).digest())]), 0.0)
        now = 0.0
        for _ in range(beats):
            now = router.next_deadline() or 0.0
            router.handle_deadline(now)
        rpcs(router, other)
        router.handle(RpcsReceived(source, [rpc(publish=[plain("news", LARGE)])]), now)
        assert told(router, other)[1] == sent


def test_what_peers_can_make_us_remember_is_bounded() -> None:
    router = make_router(config=GossipConfig(max_unwanted=20, max_idontwant_messages=3))
    (peer,) = mesh_of(router, 1, UNSIGNED)
    for number in range(5):
        ids = [b"%d-%d" % (number, other) for other in range(8)]
        router.handle(RpcsReceived(peer, [unwant(*ids)]), 0.0)
    statistics = router.statistics()
    assert statistics.idontwant_ids_received == 20
    assert statistics.dropped["control_bound"] == 4 + 2  # ids of the third, and the last two RPCs
    router.handle(RpcsReceived(peer, [unwant(bytes(513))]), 1.0)
    router.handle(PeerRemoved(peer), 2.0)
    router.handle(PeerAdded(peer, V12, True), 3.0)
    assert router.handle(RpcsReceived(peer, [unwant(b"again")]), 3.0) == []


@pytest.mark.parametrize("seed", [1, 2])
def test_copies_of_large_messages_become_fewer(seed: int) -> None:
    """Thirty routers: everybody gets each message once, with fewer copies than without IDONTWANT.

    The messages are so large that they arrive behind the IDONTWANT of the same peer, not with it.
    """

    def duplicates(protocol: str) -> int:
        network = GossipNetwork(30, seed, GossipConfig(flood_publish=False), protocol)
        rng = random.Random(seed)
        for number in range(30):
            network.input(number, TopicJoined("news", UNSIGNED))
        for number in range(1, 30):
            for other in rng.sample(range(number), min(number, 5)):
                network.connect(number, other)
        network.run(3.0)
        for number in range(10):
            network.input(number, Published(number, "news", [bytes(70_000) + bytes([number])]))
            network.run(0.5)
        for router in network.routers:
            assert router.statistics().delivered == 10, f"seed {seed}"
        return sum(router.statistics().duplicates for router in network.routers)

    assert duplicates(V12) < 0.95 * duplicates("/meshsub/1.1.0"), f"seed {seed}"
