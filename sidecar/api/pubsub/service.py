"""`sidecar.v1.PubSubService`."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from ...config.rules import parse_rules
from ...core.errors import ConfigError, DeadlineExceeded, TooLarge
from ...core.gossip import (
    MessagesDelivered,
    MessagesToJudge,
    PublishCancelled,
    PublishCompleted,
    Published,
    PublishOutcome,
    RulesSet,
    TopicOptions,
)
from ...core.history import HistoryView
from ...core.override import override
from ...core.parameters.bundles import Bundling
from ...core.parameters.probe import MAX_ANSWERS, MAX_COUNT, MAX_INTERVAL, MAX_TOPIC, MIN_INTERVAL
from ...core.probe import ProbeAnswered, ProbeRequested, ProbeSummary
from ..common import values
from ..common.bounds import Bounds
from ..common.call import OPEN, Call, opening
from ..common.news import OperationNews
from ..common.operations import AppOperations
from ..common.outlet import MAX_BATCH, converse, pour
from ..common.receipts import Range, Receipts
from ..common.window import Window
from ..config import ApiConfig
from ..guard import caller
from ..guard.methods import DEFAULT_PROBE
from ..service import ApiService, Handlers, ServiceContext
from ..statistics import PubSubStatistics
from . import convert
from .convert import Result
from .history import TopicHistory
from .judging import Judges
from .topics import Topics

_MAX_TOPICS = 64
_MAX_RULES_TEXT = 256 << 10  # bytes; they are read within the turn
_MAX_PEERS = 1024
_ANSWERS, _INTERVAL = 32, 1.0  # of a probe that says neither
_MAX_TOLD = 1024  # answers in one response
_MAX_RATE = 1e6  # messages a second
_MAX_PROBE = 64 << 20  # bytes: the largest `gossip.max_message`

Sent = tuple[Result, bytes]  # with the message's id


class PubSubService(ApiService):
    """Broadcast; every method as its schema says."""

    def __init__(self, context: ServiceContext, history: TopicHistory | None = None) -> None:
        """Topics are joined as apps subscribe. `history`: what keeps some of them on disk; None: nothing does."""
        self._context = context
        self._history = history
        self.topics = Topics(context.config, context.feed, history)
        config = context.config
        self.judges = Judges(context.feed, Bounds(config.queue_messages, config.queue_bytes), config.max_receivers)
        self._ids: Window[Sent] = Window(context.config.request_ids, _went_somewhere, withdraws=True)

    @override
    def effects(self) -> Handlers:
        operations = self._context.operations
        return {
            MessagesDelivered: self.topics.delivered,
            PublishCompleted: operations.completed,
            MessagesToJudge: self.judges.ask,
            ProbeAnswered: operations.told,
        }

    def statistics(self) -> PubSubStatistics:
        """Sizes as they are, and what slow subscribers have missed since the start."""
        return replace(self.topics.statistics(), validators=len(self.judges), validators_missed=self.judges.missed)

    @override
    def close(self) -> None:
        self.topics.close()

    async def publish(self, request: convert.PublishRequest, call: Call) -> object:
        """Publish one message; its outcome."""
        target = self.target(request)
        ids = [values.request_id(request.request_id)]
        result, message_id = (await self.send(target, [request.data], ids, wait=False))[0]
        if result.outcome is PublishOutcome.TOO_LARGE:
            size = len(request.data)
            raise TooLarge(f"payload of {size} bytes is over the bound on gossip messages, here or at the peers")
        return convert.published(result, message_id)

    async def publish_many(self, requests: AsyncIterator[convert.PublishManyRequest], call: Call) -> None:
        """Publish batches; the outcomes as ranges."""
        await call.begin(opening(self._context.config.max_request_bytes))
        publisher = _Publisher(self._context.config, self)
        lifetime = self._context.lifetime
        with lifetime.stream(publisher.receipts, asking=True):
            await converse(requests, publisher.receipts, publisher.consume, call.write, lifetime.refusing)

    async def subscribe(self, request: convert.SubscribeRequest, call: Call) -> None:
        """The messages of some topics."""
        config = self._context.config
        topics = values.names(request.topics, _MAX_TOPICS, MAX_TOPIC, "topics")
        subscription = self.topics.subscribe(
            topics,
            await self.topics.find(topics, convert.start(request)),
            policy=convert.policy(request.policy),
            bounds=Bounds(
                min(request.queue_messages or config.queue_messages, config.queue_messages),
                min(request.queue_bytes or config.queue_bytes, config.queue_bytes),
            ),
            skip_local=request.skip_local,
            sign=convert.signing(request.signing),
            rate=values.between(request.expected_rate, 0.0, _MAX_RATE, "expected_rate"),
        )
        try:
            with self._context.lifetime.stream(subscription):
                await call.begin(OPEN)
                await pour(subscription, call.write)
        finally:
            self.topics.unsubscribe(subscription)

    async def validate(self, requests: AsyncIterator[convert.ValidateRequest], call: Call) -> None:
        """Messages of some topics, on which the app gives verdicts."""
        context, judges = self._context, self.judges
        first = await anext(requests, None)
        if first is None:
            first = convert.ValidateRequest()
        topics = values.names(first.topics, _MAX_TOPICS, MAX_TOPIC, "topics")
        settings = convert.validation(first, context.config.validation)
        stream = judges.add(context.node.new_op(), topics, settings)

        async def consume(request: convert.ValidateRequest) -> None:
            if request.topics or request.fallback or request.max_waiting or request.HasField("timeout"):
                raise values.invalid("topics", "only the stream's first message has them, and what goes with them")
            judges.give(stream, request)

        lost = True
        try:
            with context.lifetime.stream(stream):
                judges.give(stream, first)
                await call.begin(opening(context.config.max_request_bytes))
                await converse(requests, stream, consume, call.write)
                lost = False
        finally:
            judges.remove(stream, lost=lost)

    async def list_topics(self, request: Any, call: Call) -> object:
        """Every topic that is known."""
        views = sorted(self._context.node.topics(), key=lambda view: view.topic)
        compared = {view.topic: view for view in self._context.node.history()}
        return convert.topics((view, self._local(view.topic, compared.get(view.topic))) for view in views)

    async def list_rules(self, request: Any, call: Call) -> object:
        """The rules that messages are judged by."""
        return convert.rules(self._context.node.rules())

    async def set_rules(self, request: convert.SetRulesRequest, call: Call) -> object:
        """Replace the rules that were set at run time."""
        size = len(request.rules.encode())
        if size > _MAX_RULES_TEXT:
            raise values.invalid("rules", f"{size} bytes, at most {_MAX_RULES_TEXT}")
        try:
            rules = parse_rules(request.rules)
        except ConfigError as error:
            raise values.invalid("rules", str(error)) from None
        self._context.feed(RulesSet(rules))
        self._context.changed("rules.set", rules=[rule.name for rule in rules])
        return convert.rules_set()

    async def probe(self, request: convert.ProbeRequest, call: Call) -> None:
        """Measure how long messages take to reach the others: the answers as they come, then the summary."""
        topic = values.name(request.topic, MAX_TOPIC, "topic")
        sign = convert.signing(request.signing)
        self.topics.check_signing(topic, sign)
        interval = values.seconds(request.interval, MAX_INTERVAL, "interval")
        if request.HasField("interval") and interval < MIN_INTERVAL:
            raise values.invalid("interval", f"{interval:g} seconds, from {MIN_INTERVAL:g} to {MAX_INTERVAL:g}")
        messages = values.bounded(request.messages, MAX_COUNT, "messages") or DEFAULT_PROBE
        answers = values.bounded(request.answers, MAX_ANSWERS, "answers") or _ANSWERS
        size = values.bounded(request.size, _MAX_PROBE, "size")
        news = _ProbeNews()

        def asked(op: int) -> ProbeRequested:
            return ProbeRequested(op, topic, messages, interval or _INTERVAL, answers, size, request.exposed, sign)

        with self._context.operations.following(asked, news):
            news.check()  # refused at once
            await call.begin(OPEN)
            await pour(news, lambda told: call.write(convert.probed(told)))

    def _local(self, topic: str, compared: HistoryView | None) -> convert.LocalTopic:
        hub = self.topics.hub(topic)
        if hub is None:
            return convert.LocalTopic(0, 0)
        kept = None
        if hub.stored is not None and self._history is not None:
            size, gap = self._history.size(hub.stored), self._history.gap(hub.stored)
            kept = convert.KeptTopic(size, gap, self._history.trouble, compared)
        return convert.LocalTopic(len(hub.subscribers), hub.history_messages, kept)

    # ------------------------------------------------------------ for both ways of publishing

    def target(self, request: convert.PublishRequest | convert.PublishManyRequest) -> "_Target":
        """Where a request wants to publish, and how. Raises InvalidField, TopicOptionsDiffer."""
        topic = values.name(request.topic, MAX_TOPIC, "topic")
        sign = convert.signing(request.signing)
        minimum = values.bounded(request.minimum_peers, _MAX_PEERS, "minimum_peers")
        bundling = convert.bundling(request.bundling) if isinstance(request, convert.PublishManyRequest) else None
        self.topics.check_signing(topic, sign)
        self.topics.published(topic, sign)
        return _Target(self._context.operations, topic, sign, minimum, bundling)

    async def send(self, target: "_Target", messages: Sequence[bytes], ids: Sequence[str], *, wait: bool) -> list[Sent]:
        """Publish messages of which some have ids; every message's result."""

        async def publish(indexes: list[int]) -> list[Sent]:
            completed = await target.publish([messages[index] for index in indexes], wait=wait, partly=any(ids))
            results = [Result(*receipt[2:]) for receipt in completed.receipts for _ in range(receipt.count)]
            return list(zip(results, completed.ids, strict=True))

        who = caller.who()
        return await self._ids.once([(who, target.topic, name) if name else None for name in ids], publish)


def _went_somewhere(sent: Sent) -> bool:
    """Whether anybody can have got it; what has an id was published, be it only to this node's own subscribers."""
    result, message_id = sent
    return result.outcome is PublishOutcome.DUPLICATE or bool(message_id)


class _ProbeNews(OperationNews):
    """What a probe has told: its answers, all that are there at once, and its summary."""

    @override
    def complete(self, result: object) -> None:
        if isinstance(result, ProbeSummary):
            self.push(result)
        super().complete(result)

    @override
    def take(self) -> Any:
        told = [self._news.popleft() for _ in range(min(len(self._news), _MAX_TOLD))]
        return told or self.nothing()


class _Target:
    """Where to publish and how."""

    def __init__(
        self, operations: AppOperations, topic: str, sign: bool | None, minimum: int, bundling: Bundling | None
    ) -> None:
        """`sign`, `bundling`: None as the topic does. `minimum`: of peers, for which publishing waits."""
        self._operations = operations
        self.topic = topic
        self._sign = sign
        self._minimum = minimum
        self._bundling = bundling

    async def publish(self, messages: Sequence[bytes], *, wait: bool, partly: bool = False) -> PublishCompleted:
        """Publish a batch. `wait`: for room in the peers' queues; for the minimum of peers always.

        `partly`: when cancelled, say how far it had come; the rest has the outcome CANCELLED.
        """
        options = None if self._sign is None else TopicOptions(sign=self._sign)
        wait = wait or self._minimum > 0
        run = self._operations.run_partly if partly else self._operations.run
        completed: PublishCompleted = await run(
            lambda op: Published(op, self.topic, messages, wait, self._minimum, options, bundling=self._bundling),
            PublishCancelled,
        )
        if not partly and completed.receipts and completed.receipts[-1].outcome is PublishOutcome.CANCELLED:
            raise DeadlineExceeded("publishing was given up before it could go on")
        return completed


class _Publisher:
    """One PublishMany stream. Batches go one after the other; while one waits for room, the next is not read."""

    def __init__(self, config: ApiConfig, service: PubSubService) -> None:
        self._service = service
        self._target: _Target | None = None
        self._want_ids = False
        # Batches go one after the other, so that no bytes have to be counted.
        self.receipts: Receipts[Result] = Receipts(Bounds(config.send_window, 1), self._encode)

    async def consume(self, request: convert.PublishManyRequest) -> None:
        """Publish a batch; returns when the next one may be read."""
        if request.topic or self._target is None:
            self._target = self._service.target(request)
        self._want_ids = self._want_ids or request.return_message_ids
        if not request.messages:
            return
        values.bounded(len(request.messages), MAX_BATCH, "messages")
        messages = [message.data for message in request.messages]
        ids = [message.request_id for message in request.messages]
        first = self.receipts.asked(len(messages), 0)
        if any(ids):
            checked = [values.request_id(text) for text in ids]
            for index, (result, name) in enumerate(
                await self._service.send(self._target, messages, checked, wait=True)
            ):
                self.receipts.answered(first + index, 1, result, [name] if self._want_ids else ())
        else:
            completed = await self._target.publish(messages, wait=True)
            for receipt in completed.receipts:
                start, count = receipt.first, receipt.count
                names = completed.ids[start : start + count] if self._want_ids else ()
                self.receipts.answered(first + start, count, Result(*receipt[2:]), names)
        await self.receipts.room()

    def _encode(self, ranges: list[Range[Result]]) -> bytes:
        ids = [part.ids for part in ranges] if self._want_ids else None
        return convert.receipts(((part.first, part.count, part.outcome) for part in ranges), ids)
