"""Every number of the peer scores, with where it comes from, and what follows from a topic's rate."""

import math
from dataclasses import field, replace

from ..classes import dataclass
from ..errors import ConfigError
from ..networks import LOCAL_NETWORKS, Network

_NEAR_FIRST = 2.0  # seconds; as Ethereum's consensus clients have it
_SHARE = 50.0  # a mesh peer is expected to bring one in so many messages; as Lighthouse has it
_LEAST_MEMORY, _MOST_MEMORY = 60.0, 3600.0  # seconds for which deliveries are remembered; a guess


def decay_factor(seconds: float, interval: float, to_zero: float) -> float:
    """What a counter of 1 is multiplied with at each interval to be forgotten (`to_zero`) after so many seconds."""
    return math.pow(to_zero, min(1.0, interval / seconds))


def convergence(decay: float, gain: float) -> float:
    """What a counter approaches that gains so much in each interval, and decays at its end."""
    return gain / (1.0 - decay)


@dataclass(frozen=True, slots=True)
class TopicScoreConfig:
    """How a peer's behaviour in one topic counts (v1.1, "Overview of New Parameters"). Raises ConfigError.

    Weights are points, decays are factors at each `ScoreConfig.decay_interval`, times are seconds. The defaults are for
    a topic of which nothing is known: nobody is blamed for bringing little (P3), since only who knows the topic's rate
    can tell what is little. The decays are such that a counter of 1 is forgotten after ten minutes.
    """

    weight: float = 1.0
    time_in_mesh_weight: float = 0.01  # P1, a guess: 1 point at most, so that time alone is worth little
    time_in_mesh_quantum: float = 1.0
    time_in_mesh_cap: float = 100.0
    first_weight: float = 0.2  # P2, a guess: 20 points at most
    first_decay: float = decay_factor(600.0, 1.0, 0.01)
    first_cap: float = 100.0
    mesh_weight: float = 0.0  # P3: off, as at Prysm, Lotus and nwaku
    mesh_decay: float = decay_factor(600.0, 1.0, 0.01)
    mesh_threshold: float = 0.0
    mesh_cap: float = 0.0
    mesh_activation: float = 60.0
    mesh_window: float = _NEAR_FIRST
    failure_weight: float = 0.0  # P3b
    failure_decay: float = decay_factor(600.0, 1.0, 0.01)
    invalid_weight: float = -75.0  # P4: one is nearly enough to be graylisted, as at Ethereum's clients
    invalid_decay: float = decay_factor(600.0, 1.0, 0.01)

    def __post_init__(self) -> None:
        positive = ("weight", "time_in_mesh_weight", "time_in_mesh_cap", "first_weight", "first_cap", "mesh_threshold")
        for name in positive:
            if not getattr(self, name) >= 0:
                raise ConfigError(f"score: {name} is {getattr(self, name):g} and must not be below 0")
        for name in ("mesh_weight", "failure_weight", "invalid_weight"):
            if not getattr(self, name) <= 0:
                raise ConfigError(f"score: {name} is {getattr(self, name):g} and must not be above 0")
        for name in ("first_decay", "mesh_decay", "failure_decay", "invalid_decay"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"score: {name} is {getattr(self, name):g} and must be between 0 and 1")
        if self.time_in_mesh_quantum <= 0:
            raise ConfigError(f"score: time_in_mesh_quantum is {self.time_in_mesh_quantum:g} s, must be above 0")
        if self.mesh_cap < self.mesh_threshold:
            raise ConfigError(
                f"score: mesh_cap is {self.mesh_cap:g}, less than mesh_threshold ({self.mesh_threshold:g})"
            )

    def described(self) -> str:
        """How peers are scored, in words."""
        text = f"{self.first_weight:.3g} points for each new message, up to {self.first_cap:.4g} of them"
        if not self.judges_deliveries:
            return f"{text}; too few messages are expected to blame anybody for bringing little"
        most = -self.weight * self.mesh_weight * self.mesh_threshold**2
        return (
            f"{text}; mesh peers that bring fewer than {self.mesh_threshold:.3g} of those remembered lose up to "
            f"{most:.3g} points, from {self.mesh_activation:.0f} s on"
        )

    @property
    def judges_deliveries(self) -> bool:
        """Whether a mesh peer is blamed for bringing too little (P3, P3b)."""
        return self.mesh_threshold > 0 and (self.mesh_weight < 0 or self.failure_weight < 0)


@dataclass(frozen=True, slots=True)
class ScoreConfig:
    """Thresholds, and the parts of a score that belong to no topic. Raises ConfigError where they contradict.

    "v1.1" is the gossipsub specification, "go", "rust" and "js" the defaults of those implementations. Weights and
    thresholds are points, times seconds.
    """

    enabled: bool = True
    gossip_threshold: float = -10.0  # go, rust, js
    publish_threshold: float = -50.0  # go, rust, js
    graylist_threshold: float = -80.0  # go, rust, js
    # A guess: 12 invalid messages within a short while. The peers of its address do not count for it.
    disconnect_threshold: float = -10_000.0
    accept_exchange_threshold: float = 0.0  # v1.1 AcceptPXThreshold; go
    # A guess, of at most 21: mesh peers that bring one new message in four seconds are above it.
    opportunistic_graft_threshold: float = 5.0
    opportunistic_graft_ticks: int = 60  # v1.1, go: heartbeats
    opportunistic_graft_peers: int = 2  # v1.1, go
    graft_flood_threshold: float = 10.0  # go: a GRAFT so soon after a PRUNE counts twice
    promise_time: float = 3.0  # go: seconds in which an IWANT is to be answered
    decay_interval: float = 1.0  # go, rust, js
    decay_to_zero: float = 0.01  # go; the others say 0.1
    retain: float = 3600.0  # rust, js
    max_retained: int = 4096  # a guess: peers that are gone whose scores are kept, some 1 KB each
    max_retained_topics: int = 32  # a guess: of each of these
    topic_cap: float = 20.0  # a guess: one invalid message outweighs all that a peer can earn; 0: none
    topic: TopicScoreConfig = field(default_factory=TopicScoreConfig)
    expected_rates: tuple[tuple[str, float], ...] = ()  # topics with the messages a second that are expected
    application_weight: float = 1.0  # P5
    colocation_weight: float = -5.0  # P6: rust, js
    colocation_threshold: int = 10  # rust, js: peers of one address
    colocation_exempt: tuple[Network, ...] = LOCAL_NETWORKS  # as `NodeConfig.exempt_networks`
    behaviour_weight: float = -10.0  # P7: rust, js
    behaviour_threshold: float = 6.0  # Lighthouse, Prysm, Lotus
    behaviour_decay: float = decay_factor(600.0, 1.0, 0.01)
    slow_weight: float = -0.2  # rust
    slow_threshold: float = 0.0  # rust
    slow_decay: float = 0.2  # rust

    def __post_init__(self) -> None:
        order = (self.disconnect_threshold, self.graylist_threshold, self.publish_threshold, self.gossip_threshold, 0.0)
        if not (order[0] < order[1] < order[2] <= order[3] < order[4]):
            raise ConfigError(
                f"score thresholds must keep disconnect ({order[0]:g}) < graylist ({order[1]:g}) < publish "
                f"({order[2]:g}) <= gossip ({order[3]:g}) < 0"
            )
        for name in ("accept_exchange_threshold", "opportunistic_graft_threshold", "topic_cap", "application_weight"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"score: {name} is {getattr(self, name):g} and must not be below 0")
        for name in ("colocation_weight", "behaviour_weight", "slow_weight"):
            if not getattr(self, name) <= 0:
                raise ConfigError(f"score: {name} is {getattr(self, name):g} and must not be above 0")
        for name in ("behaviour_decay", "slow_decay", "decay_to_zero"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"score: {name} is {getattr(self, name):g} and must be between 0 and 1")
        for name in ("decay_interval", "colocation_threshold", "opportunistic_graft_ticks"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"score: {name} is {getattr(self, name):g} and must be more than 0")

    def for_rate(self, rate: float, degree: int) -> TopicScoreConfig:
        """How a topic's peers are scored of which `rate` messages a second are expected; 0 is not known.

        As Ethereum's consensus clients derive it. P2: who brings twice its share of the messages first is at the cap,
        which is worth as much as in any topic. P3: who brings less than one in fifty of the messages loses more than
        it can earn. How long deliveries are remembered follows from the rate; where an hour is too short to expect one
        from each, P3 stays off.
        """
        topic, interval = self.topic, self.decay_interval
        if rate <= 0:
            return topic
        gain = rate * interval
        first_cap = convergence(topic.first_decay, 2.0 * gain / max(1, degree))
        scaled = replace(topic, first_cap=first_cap, first_weight=topic.first_weight * topic.first_cap / first_cap)
        e_folds = -math.log(self.decay_to_zero)
        memory = min(_MOST_MEMORY, max(_LEAST_MEMORY, e_folds * _SHARE / rate))
        decay = decay_factor(memory, interval, self.decay_to_zero)
        threshold = convergence(decay, gain / _SHARE) * decay
        if threshold < 0.9:
            return scaled
        earned = self.topic_cap or topic.weight * (
            topic.first_weight * topic.first_cap + topic.time_in_mesh_weight * topic.time_in_mesh_cap
        )
        weight = -earned / (topic.weight * threshold * threshold) if topic.weight else 0.0
        return replace(
            scaled,
            mesh_weight=weight,
            mesh_decay=decay,
            mesh_threshold=threshold,
            mesh_cap=max(4.0 * threshold, 2.0),
            mesh_activation=max(30.0, memory / e_folds),
            failure_weight=weight,
            failure_decay=decay,
        )
