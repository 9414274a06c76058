"""What is thought of peers in gossip, and what follows from it."""

from ...core.classes import dataclass
from ...core.parameters import ScoreConfig
from ..kinds import flag, number, rates, real, seconds
from .key import DAY, key

_SCORE = ScoreConfig()
_TOPIC = _SCORE.topic
_MEMORY = 600.0  # seconds, in which the core's decay factors make 0.01 of 1
_FIELD = "go-, rust- and js-libp2p"


@dataclass(frozen=True, slots=True)
class ScoreSection:
    """The scores of peers in gossip (gossipsub v1.1). Weights and thresholds are points."""

    enabled: bool = key(
        _SCORE.enabled,
        flag(),
        "Score peers by what they do in gossip, and keep away from those that do harm.",
        "a mesh is open to whoever knows its name",
    )
    gossip_threshold: float = key(
        _SCORE.gossip_threshold,
        real(-1e9, -0.001),
        "Below it a peer is not told of messages by IHAVE, and its own IHAVE and IWANT are ignored. Below 0 it is in "
        "no mesh.",
        _FIELD,
    )
    publish_threshold: float = key(
        _SCORE.publish_threshold,
        real(-1e9, -0.001),
        "Below it a peer is not sent what apps publish here.",
        _FIELD,
    )
    graylist_threshold: float = key(
        _SCORE.graylist_threshold,
        real(-1e10, -0.002),
        "Below it nothing that a peer says in gossip is listened to.",
        _FIELD,
    )
    disconnect_threshold: float = key(
        _SCORE.disconnect_threshold,
        real(-1e12, -0.003),
        "Below it a peer is disconnected and refused for a minute, longer each time. Others at its address (P6) do not "
        "count for it.",
        "a guess: twelve invalid messages within a short while",
    )
    accept_exchange_threshold: float = key(
        _SCORE.accept_exchange_threshold,
        real(0, 1e9),
        "The score that a peer needs for the peers to be dialled which it names when it prunes this node.",
        "go-libp2p-pubsub",
    )
    opportunistic_graft_threshold: float = key(
        _SCORE.opportunistic_graft_threshold,
        real(0, 1e9),
        "Where the median score in a mesh is below it, two peers with better scores are grafted, each 60 heartbeats.",
        "a guess: mesh peers that bring a new message in four seconds are above it",
    )
    topic_cap: float = key(
        _SCORE.topic_cap,
        real(0, 1e9),
        "The most that a peer can earn in all topics together; 0: no bound.",
        "a guess: one invalid message outweighs it",
    )
    time_in_mesh_weight: float = key(
        _TOPIC.time_in_mesh_weight,
        real(0, 1e6),
        "P1: points for each second in a topic's mesh, up to 100 of them.",
        "a guess: small, since time alone proves little",
    )
    first_weight: float = key(
        _TOPIC.first_weight,
        real(0, 1e6),
        "P2: points for each message that a peer brings before anybody else.",
        "a guess: 20 points at most",
    )
    first_cap: float = key(
        _TOPIC.first_cap, real(0, 1e9), "P2: how many such messages count at once in a topic.", "a guess"
    )
    first_memory: float = key(
        _MEMORY,
        seconds(1, 30 * DAY),
        "P2: how long one of them is remembered, less and less; half is forgotten after about a seventh of it.",
        "a guess",
    )
    expected_rates: tuple[tuple[str, float], ...] = key(
        _SCORE.expected_rates,
        rates(),
        "Topics of which it is known how many messages a second come in all. P2 is scaled to it, and P3 is on: a mesh "
        "peer that brings fewer than one in fifty loses more than it can earn. Only for topics with many publishers: "
        "next to the only one, nobody else has anything to bring. The log says what was derived.",
        "rates are not known; P3 is off at Prysm, Lotus and nwaku, too",
    )
    invalid_weight: float = key(
        _TOPIC.invalid_weight,
        real(-1e9, 0),
        "P4: points for the square of how many invalid messages a peer brought in a topic.",
        "one is nearly enough to be graylisted, as at Ethereum's consensus clients",
    )
    invalid_memory: float = key(
        _MEMORY, seconds(1, 30 * DAY), "P4: how long one of them is remembered, less and less.", "a guess"
    )
    application_weight: float = key(
        _SCORE.application_weight,
        real(0, 1e6),
        "P5: what the score that an app gives a peer (SetPeerScore) is multiplied with.",
        "specs gossipsub v1.1: positive",
    )
    colocation_weight: float = key(
        _SCORE.colocation_weight,
        real(-1e9, 0),
        "P6: points for the square of how many peers beyond score.colocation_peers are connected from a peer's IPv4 "
        "address or IPv6 /64. Addresses in limits.exempt_networks do not count.",
        "rust- and js-libp2p",
    )
    colocation_peers: int = key(
        _SCORE.colocation_threshold,
        number(1, 1_000_000, "peers"),
        "P6: how many peers may come from one address.",
        "rust- and js-libp2p",
    )
    behaviour_weight: float = key(
        _SCORE.behaviour_weight,
        real(-1e9, 0),
        "P7: points for the square of how often a peer misbehaved beyond score.behaviour_allowance: GRAFT in a "
        "back-off, IHAVE of messages that never come, RPCs that are none.",
        "rust- and js-libp2p",
    )
    behaviour_allowance: float = key(
        _SCORE.behaviour_threshold,
        real(0, 1e6),
        "P7: how often a peer may misbehave.",
        "Lighthouse, Prysm and Lotus",
    )
    behaviour_memory: float = key(
        _MEMORY, seconds(1, 30 * DAY), "P7: how long misbehaviour is remembered, less and less.", "a guess"
    )
    slow_weight: float = key(
        _SCORE.slow_weight,
        real(-1e6, 0),
        "Points for each heartbeat, of late, in which messages for a peer were lost since it took too little.",
        "rust-libp2p",
    )
    retain: float = key(
        _SCORE.retain,
        seconds(0, 30 * DAY),
        "How long the score of a peer is kept that is not connected; it does not get better meanwhile.",
        "rust- and js-libp2p",
    )
