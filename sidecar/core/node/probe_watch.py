"""Probes in the background: of the topics that are configured, and held against the objective for them."""

from collections.abc import Callable
from typing import Protocol

from .. import probe
from ..errors import NotFound, NotSupported, SidecarError, Unreachable
from ..events import LogLevel
from .switch import Switch

Done = Callable[[probe.ProbeRun, probe.ProbeSummary | SidecarError, float], None]
"""Told how a probe has ended, and when."""

_REASONS = {NotFound: "no_topic", Unreachable: "no_peers", NotSupported: "not_supported"}


class Begin(Protocol):
    """Begins a probe, or says why it cannot."""

    def __call__(self, asked: probe.ProbeRequested, done: Done, now: float, within: float = 0.0) -> SidecarError | None:
        """`within`: seconds in which receivers should have its messages."""


class _Topic:
    """A topic, how it fares, and what was said of it last."""

    __slots__ = ("name", "objective", "trouble")

    def __init__(self, name: str, objective: probe.ProbeObjective) -> None:
        self.name = name
        self.objective = objective
        self.trouble = ""  # why it cannot be probed


class ProbeWatch:
    """One message a topic at a time, from half to one and a half of the interval after the one before."""

    def __init__(
        self, switch: Switch, new: Callable[[], int], begin: Begin, counts: probe.ProbeStatistics, now: float
    ) -> None:
        """`new`: numbers of operations that nobody waits for. `counts`: where receivers are counted."""
        self._switch = switch
        self._new = new
        self._begin = begin
        self._counts = counts
        self._config = config = switch.config.probe
        if config.objective and config.topics:
            counts.objective, counts.objective_share = config.objective, config.share
        self._topics = [_Topic(name, probe.ProbeObjective(config.share, config.window)) for name in config.topics]
        for topic in self._topics:
            self._next(topic, now)

    @property
    def share(self) -> float:
        """Of the receivers of the last messages, those that had them in time; of the topic where they are fewest."""
        return min((topic.objective.share for topic in self._topics), default=1.0)

    def _next(self, topic: _Topic, begun: float) -> None:
        # At random, so that messages meet heartbeats at every phase.
        due = begun + self._config.interval * self._switch.rng.uniform(0.5, 1.5)
        self._switch.deadlines.at(due, lambda now: self._publish(topic, now))

    def _publish(self, topic: _Topic, now: float) -> None:
        config = self._config
        asked = probe.ProbeRequested(self._new(), topic.name, 1, config.interval, config.answers, config.size)

        def done(run: probe.ProbeRun, result: probe.ProbeSummary | SidecarError, later: float) -> None:
            if isinstance(result, SidecarError) or not result.published:
                error = result if isinstance(result, SidecarError) else None
                self._unjudged(topic, "unpublished", str(error or "the queues of all peers are full"))
            else:
                self._judge(topic, run)
            self._next(topic, max(now, later - config.interval / 2))  # never due before this moment

        error = self._begin(asked, done, now, config.objective)
        if error is not None:
            reason = next((reason for kind, reason in _REASONS.items() if isinstance(error, kind)), "unpublished")
            self._unjudged(topic, reason, str(error))
            self._next(topic, now)

    def _unjudged(self, topic: _Topic, reason: str, trouble: str) -> None:
        self._counts.unjudged[reason] += 1
        if not topic.trouble:
            self._switch.note(LogLevel.WARNING, None, "topic %r cannot be probed: %s", topic.name, trouble)
        topic.trouble = trouble

    def _judge(self, topic: _Topic, run: probe.ProbeRun) -> None:
        if topic.trouble:
            topic.trouble = ""
            self._switch.note(LogLevel.INFO, None, "topic %r is probed again", topic.name)
        config = self._config
        if not config.objective:
            return
        peers = self._switch.peers
        judged = run.judged(lambda peer: peer in peers)
        for outcome, count in judged._asdict().items():
            self._counts.judged[outcome] += count
        objective = topic.objective
        if objective.judge(judged):
            level = LogLevel.WARNING if objective.missed else LogLevel.INFO
            told = 100 * objective.share, objective.receivers, topic.name, config.window
            text = "%.1f %% of %d receivers on topic %r had the last %d messages within %g s; probe.share is %g"
            self._switch.note(level, None, text, *told, config.objective, config.share)
