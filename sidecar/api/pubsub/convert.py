"""Messages of `pubsub.proto`."""

import time
from collections.abc import Iterable, Sequence

from sidecar_client.v1 import common_pb2
from sidecar_client.v1 import pubsub_pb2 as pb

from ...core.classes import NamedTuple
from ...core.gossip import Fallback, PublishOutcome, RuleView, TopicView, ValidationSettings, Verdict
from ...core.history import HistoryView
from ...core.parameters.bundles import Bundling
from ...core.probe import ProbeAnswered, ProbeSummary
from ...store.history import TopicSize
from ..common.values import bounded, duration, invalid, seconds
from .history import HistoryGap
from .hub import Policy
from .topics import Start

PublishRequest = pb.PublishRequest
PublishManyRequest = pb.PublishManyRequest
SubscribeRequest = pb.SubscribeRequest
ProbeRequest = pb.ProbeRequest
ValidateRequest = pb.ValidateRequest
SetRulesRequest = pb.SetRulesRequest

_OUTCOMES = {
    PublishOutcome.SENT: pb.PUBLISH_OUTCOME_SENT,
    PublishOutcome.NO_PEERS: pb.PUBLISH_OUTCOME_NO_PEERS,
    PublishOutcome.QUEUE_FULL: pb.PUBLISH_OUTCOME_QUEUE_FULL,
    PublishOutcome.TOO_LARGE: pb.PUBLISH_OUTCOME_TOO_LARGE,
    PublishOutcome.DUPLICATE: pb.PUBLISH_OUTCOME_DUPLICATE,
    PublishOutcome.REJECTED: pb.PUBLISH_OUTCOME_REJECTED,
}
_FALLBACKS = {
    pb.VALIDATION_FALLBACK_UNSPECIFIED: None,
    pb.VALIDATION_FALLBACK_ACCEPT: Fallback.ACCEPT,
    pb.VALIDATION_FALLBACK_IGNORE: Fallback.IGNORE,
    pb.VALIDATION_FALLBACK_HOLD: Fallback.HOLD,
}
_VERDICTS = {
    pb.VERDICT_ACCEPT: Verdict.ACCEPT,
    pb.VERDICT_REJECT: Verdict.REJECT,
    pb.VERDICT_IGNORE: Verdict.IGNORE,
}
_MAX_TIME = 1 << 62  # nanoseconds: the year 2116
_MAX_RANGES = 65_536
_MAX_RANGE = 65_536
_MAX_TIMEOUT = 600.0
_MAX_WAITING = 1 << 20
_SIGNING = {
    pb.SIGNING_UNSPECIFIED: None,
    pb.SIGNING_STRICT_SIGN: True,
    pb.SIGNING_STRICT_NO_SIGN: False,
}
_BUNDLINGS = {
    pb.BUNDLING_UNSPECIFIED: None,
    pb.BUNDLING_OFF: Bundling.OFF,
    pb.BUNDLING_KNOWN: Bundling.KNOWN,
    pb.BUNDLING_ALWAYS: Bundling.ALWAYS,
}
_POLICIES = {
    common_pb2.OVERFLOW_POLICY_UNSPECIFIED: Policy.DROP_OLDEST,
    common_pb2.OVERFLOW_POLICY_DROP_OLDEST: Policy.DROP_OLDEST,
    common_pb2.OVERFLOW_POLICY_DROP_NEWEST: Policy.DROP_NEWEST,
    common_pb2.OVERFLOW_POLICY_END_STREAM: Policy.END_STREAM,
}


class Result(NamedTuple):
    """What became of a published message, beside its id."""

    outcome: PublishOutcome
    peers: int
    dropped: int


def signing(value: int) -> bool | None:
    """True to sign, False not to, None as the topic does. Raises InvalidField."""
    try:
        return _SIGNING[pb.Signing.ValueType(value)]
    except KeyError:
        raise invalid("signing", f"{value} is no signing") from None


def bundling(value: int) -> Bundling | None:
    """Whether messages travel in bundles, None as configured for the topic. Raises InvalidField."""
    try:
        return _BUNDLINGS[pb.Bundling.ValueType(value)]
    except KeyError:
        raise invalid("bundling", f"{value} is no bundling") from None


def policy(value: int) -> Policy:
    """Raises InvalidField."""
    try:
        return _POLICIES[common_pb2.OverflowPolicy.ValueType(value)]
    except KeyError:
        raise invalid("policy", f"{value} is no policy") from None


def start(request: pb.SubscribeRequest) -> Start:
    """Where a subscription begins. Raises InvalidField."""
    said = [bool(request.cursor), request.HasField("start_time"), request.from_beginning]
    if sum(said) > 1:
        raise invalid("start_time", "at most one of cursor, start_time and from_beginning says where to begin")
    since = 0
    if request.HasField("start_time"):
        given = request.start_time.seconds * 1_000_000_000 + request.start_time.nanos  # it may be malformed
        if not 0 <= given <= _MAX_TIME:
            raise invalid("start_time", f"{given} nanoseconds since 1970 are no time to begin at")
        since = max(given, 1)  # 0 is none
    return Start(request.cursor, since, request.from_beginning)


def validation(request: pb.ValidateRequest, usual: ValidationSettings) -> ValidationSettings | None:
    """How the topics of a call are judged; None where it does not say. Raises InvalidField."""
    try:
        fallback = _FALLBACKS[pb.ValidationFallback.ValueType(request.fallback)]
    except KeyError:
        raise invalid("fallback", f"{request.fallback} is no fallback") from None
    timeout = seconds(request.timeout, _MAX_TIMEOUT, "timeout") or usual.timeout
    waiting = bounded(request.max_waiting, _MAX_WAITING, "max_waiting") or usual.max_waiting
    if fallback is None:
        if request.HasField("timeout") or request.max_waiting:
            raise invalid("fallback", "it is not said, though a timeout or how many may wait is")
        return None
    return ValidationSettings(timeout, fallback, waiting)


def verdicts(request: pb.ValidateRequest) -> list[tuple[int, int, Verdict]]:
    """The verdicts of a request: first, count, verdict. Raises InvalidField."""
    bounded(len(request.verdicts), _MAX_RANGES, "verdicts")
    given: list[tuple[int, int, Verdict]] = []
    for part in request.verdicts:
        if not 1 <= part.count <= _MAX_RANGE:
            raise invalid("verdicts.count", f"{part.count} messages, from 1 to {_MAX_RANGE}")
        verdict = _VERDICTS.get(part.verdict)
        if verdict is None:
            raise invalid("verdicts.verdict", f"{part.verdict} is no verdict")
        given.append((part.first, part.count, verdict))
    return given


def published(result: Result, message_id: bytes) -> pb.PublishResponse:
    return pb.PublishResponse(
        receipt=pb.PublishReceipt(
            outcome=_OUTCOMES[result.outcome], message_id=message_id, peers=result.peers, dropped=result.dropped
        )
    )


def receipts(ranges: Iterable[tuple[int, int, Result]], ids: Iterable[Sequence[bytes]] | None) -> bytes:
    """Ranges of one result: (number of the first message, count, result); `ids` has each range's, where wanted."""
    response = pb.PublishManyResponse(
        receipts=[
            pb.PublishReceiptRange(
                first=first,
                count=count,
                outcome=_OUTCOMES[result.outcome],
                peers=result.peers,
                dropped=result.dropped,
            )
            for first, count, result in ranges
        ]
    )
    if ids is not None:
        for receipt, named in zip(response.receipts, ids, strict=True):
            receipt.message_ids.extend(named)
    return response.SerializeToString()


class KeptTopic(NamedTuple):
    """What there is of a topic on disk, what could not be kept, and why the disk refuses, if it does.

    `compared`: what is known of peers' histories of it; None: nothing.
    """

    size: TopicSize
    gap: HistoryGap | None
    trouble: str
    compared: HistoryView | None = None


class LocalTopic(NamedTuple):
    """What the API knows of a topic beside the node."""

    subscribers: int
    history_messages: int
    kept: KeptTopic | None = None


def _utc(wall: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall))


def _tell_kept(topic: pb.Topic, kept: KeptTopic) -> None:
    topic.history = pb.HISTORY_STATE_REFUSED if kept.trouble else pb.HISTORY_STATE_KEPT
    topic.stored_messages, topic.stored_bytes = kept.size.messages, kept.size.bytes
    if kept.size.oldest:
        topic.oldest_time.FromNanoseconds(kept.size.oldest)
    compared = kept.compared
    if compared is not None and compared.complete_since is not None and compared.complete_until is not None:
        topic.complete_since.FromMicroseconds(round(max(0.0, compared.complete_since) * 1e6))
        topic.complete_until.FromMicroseconds(round(compared.complete_until * 1e6))
    gap = kept.gap
    if gap is not None:
        topic.history_gap = (
            f"{gap.messages} messages from {_utc(gap.first)} to {_utc(gap.last)} could not be kept"
            f"{': ' + kept.trouble if kept.trouble else ''}"
        )


def topics(views: Iterable[tuple[TopicView, LocalTopic]]) -> pb.ListTopicsResponse:
    response = pb.ListTopicsResponse()
    for view, local in views:
        topic = response.topics.add(
            name=view.topic,
            subscribed=view.joined,
            signing=pb.SIGNING_STRICT_SIGN if view.sign else pb.SIGNING_STRICT_NO_SIGN,
            peers=len(view.peers),
            mesh_peer_ids=map(str, view.mesh),
            subscribers=local.subscribers,
            history_messages=local.history_messages,
            delivered=view.counts.delivered,
            published=view.counts.published,
            duplicates=view.counts.duplicates,
            rejected=view.counts.rejected,
            dropped=view.counts.dropped,
            delivered_bytes=view.counts.delivered_bytes,
            published_bytes=view.counts.published_bytes,
            ignored=view.counts.ignored,
            validators=view.validators,
            unjudged=view.judged,
            scoring="" if view.scoring is None else view.scoring.described(),
        )
        if local.kept is not None:
            _tell_kept(topic, local.kept)
    return response


def probed(told: Iterable[ProbeAnswered | ProbeSummary]) -> pb.ProbeResponse:
    """What a probe told, in order; the summary is the last."""
    response = pb.ProbeResponse()
    for news in told:
        if isinstance(news, ProbeSummary):
            response.summary.CopyFrom(pb.ProbeSummary(**news._asdict()))
        else:
            answer = news.answer
            response.answers.add(
                peer_id=str(answer.peer),
                number=answer.number,
                delay=duration(answer.delay),
                round_trip=duration(answer.round_trip),
                direct=answer.direct,
            )
    return response


def rules(views: Iterable[RuleView]) -> pb.ListRulesResponse:
    """The rules in force."""
    return pb.ListRulesResponse(
        rules=[
            pb.Rule(
                name=view.rule.name,
                topics=view.rule.topics,
                description=view.rule.describe(),
                configured=view.configured,
                counts=[
                    pb.RuleCount(topic=topic, limit=limit.value, messages=count)
                    for (topic, limit), count in view.broken.items()
                ],
            )
            for view in views
        ]
    )


def rules_set() -> pb.SetRulesResponse:
    """They are in force."""
    return pb.SetRulesResponse()
