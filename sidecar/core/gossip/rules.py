"""Rules by topic that this node judges itself, within the turn: size, signature, senders, replays, rate.

What the rules remember of senders is bounded, and the two bounds behave differently once they are reached:

- Of the rate, the sender heard least recently is forgotten. It begins anew with a full burst, which is no more than
  any made-up sender gets.
- Of sequence numbers, nobody is forgotten before its time (`SeqnoDistance.remember`): else whoever makes up enough
  senders could have one forgotten, and then replay its messages. What a new sender sends while there is no room is not
  passed on, and counted as `Limit.MEMORY`. A list of allowed senders in the same rule keeps made-up ones out.

Each rule has its share of the bound, so that a flood on one rule's topics takes nothing from another's.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from ..classes import NamedTuple
from ..errors import AlreadyExists, ResourceExhausted
from ..override import override
from ..parameters.rules import (
    MAX_COUNTED_TOPICS,
    MAX_RULES,
    MAX_SENDERS,
    Limit,
    OnBreak,
    SenderRate,
    SeqnoDistance,
    TopicRule,
)
from ..patterns import matches
from ..types import PeerId
from .judging import Candidates, Rules, Verdict

_VERDICTS = {OnBreak.IGNORE: Verdict.IGNORE, OnBreak.REJECT: Verdict.REJECT}

BrokenBy = dict[tuple[str, Limit], int]
"""How many messages broke a rule, by topic and by what of the rule; the topic is empty for those beyond the bound."""


class RuleView(NamedTuple):
    """A rule in force, and what it has kept back since it is. `configured`: it is of the file, not of the API."""

    rule: TopicRule
    configured: bool
    broken: BrokenBy


class _Heard:
    """What a sender was seen with on a topic: its greatest number, and bits for it and those before it."""

    __slots__ = ("at", "bits", "last")

    def __init__(self, last: int, at: float) -> None:
        self.last = last
        self.bits = 1
        self.at = at


class SeqnoMemory:
    """The sequence numbers that senders were seen with: of at most `most` senders and topics."""

    def __init__(self, distance: SeqnoDistance, most: int) -> None:
        self._heard: OrderedDict[tuple[str, PeerId], _Heard] = OrderedDict()  # least recently heard first
        self._mask = 0
        self.configure(distance, most)

    def __len__(self) -> int:
        return len(self._heard)

    def configure(self, distance: SeqnoDistance, most: int) -> None:
        """Go on with other values. Where it holds more than it now may, it takes nobody new until that has gone."""
        self._distance = distance
        self._most = most
        self._back = max(0, -distance.least)
        known, self._mask = self._mask, (1 << self._back + 1) - 1
        for heard in self._heard.values():  # numbers that were out of reach may have been seen
            heard.bits = (heard.bits | ~known) & self._mask

    def broken(self, topic: str, sender: PeerId, seqno: int, now: float) -> Limit | None:
        """Whether a number is out of reach or was seen; else it is seen from now on."""
        key = (topic, sender)
        heard = self._heard.get(key)
        if heard is None:
            if not self._room(now):
                return Limit.MEMORY
            self._heard[key] = _Heard(seqno, now)
            return None
        least, most, _ = self._distance
        distance = seqno - heard.last
        if distance < least or (most is not None and distance > most):
            return Limit.SEQNO
        if distance <= 0:
            bit = 1 << -distance
            if heard.bits & bit:
                return Limit.SEQNO
            heard.bits |= bit
        else:
            heard.bits = (heard.bits << distance | 1) & self._mask if distance <= self._back else 1
            heard.last = seqno
        heard.at = now
        self._heard.move_to_end(key)
        return None

    def _room(self, now: float) -> bool:
        """Whether there is room for one more, made by forgetting who was not heard for long."""
        while len(self._heard) >= self._most:
            key, heard = next(iter(self._heard.items()))
            if now - heard.at < self._distance.remember:
                return False
            del self._heard[key]
        return True


class RateMemory:
    """Token buckets of at most `most` senders and topics; who was heard least recently is forgotten."""

    def __init__(self, rate: SenderRate, most: int) -> None:
        self._buckets: OrderedDict[tuple[str, PeerId], tuple[float, float]] = OrderedDict()  # tokens, and when
        self.configure(rate, most)

    def __len__(self) -> int:
        return len(self._buckets)

    def configure(self, rate: SenderRate, most: int) -> None:
        """Go on with other values."""
        self._rate = rate
        self._most = most
        self._trim()

    def broken(self, topic: str, sender: PeerId, now: float) -> bool:
        """Whether the sender has no token left; else it has one less."""
        key = (topic, sender)
        rate, burst = self._rate
        tokens, at = self._buckets.get(key, (burst, now))
        tokens = min(burst, tokens + max(0.0, now - at) * rate)
        broken = tokens < 1.0
        self._buckets[key] = (tokens if broken else tokens - 1.0, now)
        self._buckets.move_to_end(key)
        self._trim()
        return broken

    def _trim(self) -> None:
        while len(self._buckets) > self._most:
            self._buckets.popitem(last=False)


class _InForce:
    """A rule with what it remembers."""

    def __init__(self, rule: TopicRule, configured: bool) -> None:
        self.rule = rule
        self.configured = configured
        self.verdict = _VERDICTS[rule.on_break]
        self.counts: BrokenBy = {}
        self.counted_topics: dict[str, None] = {}
        self.seqnos: SeqnoMemory | None = None
        self.rates: RateMemory | None = None

    def inherit(self, earlier: "_InForce | None", most_seqnos: int, most_rates: int) -> None:
        """Take over what a rule of this name remembers, so that a reload lets no replay through."""
        if earlier is not None:
            self.counts, self.counted_topics = earlier.counts, earlier.counted_topics
            self.seqnos, self.rates = earlier.seqnos, earlier.rates
        rule = self.rule
        if rule.seqno is None:
            self.seqnos = None
        elif self.seqnos is None:
            self.seqnos = SeqnoMemory(rule.seqno, most_seqnos)
        else:
            self.seqnos.configure(rule.seqno, most_seqnos)
        if rule.rate is None:
            self.rates = None
        elif self.rates is None:
            self.rates = RateMemory(rule.rate, most_rates)
        else:
            self.rates.configure(rule.rate, most_rates)

    def broken(
        self, topic: str, size: int, sender: PeerId | None, seqno: int | None, now: float, *, history: bool
    ) -> Limit | None:
        """What of the rule the message breaks. Of history neither the rate nor the sequence numbers count."""
        rule = self.rule
        if rule.max_payload is not None and size > rule.max_payload:
            return Limit.SIZE
        if rule.require_signature and sender is None:
            return Limit.SIGNATURE
        if sender in rule.deny or (rule.allow is not None and sender not in rule.allow):
            return Limit.SENDER
        if sender is None or history:
            return None
        if self.seqnos is not None and seqno is not None:
            found = self.seqnos.broken(topic, sender, seqno, now)
            if found is not None:
                return found
        if self.rates is not None and self.rates.broken(topic, sender, now):
            return Limit.RATE
        return None

    def count(self, topic: str, limit: Limit) -> None:
        if topic not in self.counted_topics:
            if len(self.counted_topics) >= MAX_COUNTED_TOPICS:
                topic = ""
            else:
                self.counted_topics[topic] = None
        self.counts[topic, limit] = self.counts.get((topic, limit), 0) + 1


class RulesOfTopic(Rules):
    """The rules that a topic's name fits, in order: the first that a message breaks decides, and counts it."""

    def __init__(self, rules: Sequence[_InForce]) -> None:
        self._rules = rules

    @override
    def judge(self, candidates: Candidates, now: float) -> Sequence[Verdict] | None:
        topic, datas, senders, seqnos, _, history = candidates
        verdicts: list[Verdict] | None = None
        for index, data in enumerate(datas):
            sender = senders[index] if senders is not None else None
            seqno = seqnos[index] if seqnos is not None else None
            for rule in self._rules:
                limit = rule.broken(topic, len(data), sender, seqno, now, history=history)
                if limit is not None:
                    rule.count(topic, limit)
                    if verdicts is None:
                        verdicts = [Verdict.ACCEPT] * len(datas)
                    verdicts[index] = rule.verdict
                    break
        return verdicts


class RuleBook:
    """All rules in force: those of the configuration first, then those set at run time."""

    def __init__(self, configured: Sequence[TopicRule] = ()) -> None:
        """Raises AlreadyExists, ResourceExhausted as `put` does."""
        self._rules: list[_InForce] = []
        self.put(configured, configured=True)

    def put(self, rules: Sequence[TopicRule], *, configured: bool) -> None:
        """Replace the rules of the configuration, or those set at run time; who keeps its name keeps its memory.

        Raises AlreadyExists where two have one name, ResourceExhausted for more than `MAX_RULES` in all; nothing is
        changed then.
        """
        others = [each for each in self._rules if each.configured is not configured]
        _check(rules, others)
        made = [_InForce(rule, configured) for rule in rules]
        earlier = {each.rule.name: each for each in self._rules}
        merged = [*made, *others] if configured else [*others, *made]
        most_seqnos = MAX_SENDERS // max(1, sum(each.rule.seqno is not None for each in merged))
        most_rates = MAX_SENDERS // max(1, sum(each.rule.rate is not None for each in merged))
        for each in merged:
            each.inherit(earlier.get(each.rule.name), most_seqnos, most_rates)
        self._rules = merged

    def of(self, topic: str) -> Rules | None:
        """What judges the topic's messages; None where no rule is for it."""
        found = [each for each in self._rules if any(matches(pattern, topic) for pattern in each.rule.topics)]
        return RulesOfTopic(found) if found else None

    def views(self) -> list[RuleView]:
        """Every rule, in the order in which they are looked at."""
        return [RuleView(each.rule, each.configured, dict(each.counts)) for each in self._rules]

    def broken(self) -> dict[str, int]:
        """How many messages each rule has kept back, by its name."""
        return {each.rule.name: sum(each.counts.values()) for each in self._rules}


def _check(rules: Sequence[TopicRule], others: Iterable[_InForce]) -> None:
    names = {each.rule.name: each.configured for each in others}
    if len(rules) + len(names) > MAX_RULES:
        raise ResourceExhausted(f"{len(rules) + len(names)} rules, at most {MAX_RULES}")
    own: dict[str, None] = {}
    for rule in rules:
        if rule.name in own:
            raise AlreadyExists(f"two rules are named {rule.name!r}")
        if rule.name in names:
            where = "in the file of rules" if names[rule.name] else "set at run time"
            raise AlreadyExists(f"a rule named {rule.name!r} is {where} already")
        own[rule.name] = None
