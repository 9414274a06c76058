"""`sidecar probe`."""

import argparse
import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate

import sidecar_client
from sidecar_client import Client, ProbeAnswer, ProbeSummary, Signing

from ..core.classes import NamedTuple
from .common.client import Output, add_client_flags, talk
from .common.exit_codes import FAILED

_SHARES = (0.5, 0.9, 0.99)
_STEPS = (1.0, 2.0, 5.0)  # of the histogram, and these times powers of ten
_ROWS = 12  # of the histogram, about
_BAR = 40  # characters
_SLOWEST = 5  # peers


class _Receiver(NamedTuple):
    """A peer, its median delay, its answers, and how many of these messages came from this node itself: in one hop."""

    peer_id: str
    delay: float
    answers: int
    direct: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", metavar="TOPIC", help="the topic; its apps see nothing of this")
    parser.add_argument("--count", type=int, default=0, metavar="N", help="publish N messages (default: 20)")
    parser.add_argument(
        "--interval",
        type=float,
        default=None,
        metavar="SECONDS",
        help="between two messages, at least 0.1 (default: 1)",
    )
    parser.add_argument(
        "--answers", type=int, default=0, metavar="N", help="have about N receivers of each answer (default: 32)"
    )
    parser.add_argument("--size", type=int, default=0, metavar="BYTES", help="of each payload; some 200 at least")
    parser.add_argument("--unsigned", action="store_true", help="the topic's messages are not signed")
    parser.add_argument(
        "--exposed",
        action="store_true",
        help="go on although there are peers that do not know probes, whose apps then see the messages",
    )
    add_client_flags(parser, timeout=False)


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        told = client.probe(
            options.topic,
            messages=options.count,
            interval=options.interval,
            answers=options.answers,
            size=options.size,
            signing=Signing.STRICT_NO_SIGN if options.unsigned else Signing.UNSPECIFIED,
            exposed=options.exposed,
        )
        answers: list[ProbeAnswer] = []
        try:
            async for news in told:
                if isinstance(news, ProbeSummary):
                    return await _sum_up(options.topic, answers, news, out)
                answers.append(news)
                await out.record(_fields(news))
        except sidecar_client.NotFound as error:
            return await out.failed(FAILED, f"{error}; `sidecar topics` lists those there are", reason=error.reason)
        except sidecar_client.NotSupported as error:
            return await out.failed(FAILED, f"{error}; --exposed goes on all the same", reason=error.reason)
        return await out.failed(FAILED, "the sidecar ended the probe before it was over")

    return talk(options, conversation)


def _fields(answer: ProbeAnswer) -> dict[str, object]:
    return {
        "peer_id": answer.peer_id,
        "number": answer.number,
        "delay": answer.delay,
        "round_trip": answer.round_trip,
        "direct": answer.direct,
    }


async def _sum_up(topic: str, answers: Sequence[ProbeAnswer], whole: ProbeSummary, out: Output) -> int:
    delays = sorted(answer.delay for answer in answers)
    slowest = _slowest(answers)
    fields: dict[str, object] = {
        "topic": topic,
        "published": whole.published,
        "unpublished": whole.unpublished,
        "share": whole.share,
        "answers": whole.answers,
        "peers": whole.peers,
        "expected": whole.expected,
        "answered": whole.answered,
        "receivers": whole.receivers,
        "ignored": whole.ignored,
        "delays": {f"p{share * 100:g}": quantile(delays, share) for share in _SHARES} if delays else {},
        "slowest": [
            {"peer_id": each.peer_id, "median_delay": each.delay, "answers": each.answers, "direct": each.direct}
            for each in slowest
        ],
    }
    await out.record(fields, *_lines(topic, answers, delays, slowest, whole))
    if delays:
        return 0
    return await out.failed(FAILED, "nobody answered; `sidecar status` says whether this node can be reached")


def _lines(
    topic: str,
    answers: Sequence[ProbeAnswer],
    delays: Sequence[float],
    slowest: Sequence[_Receiver],
    whole: ProbeSummary,
) -> list[str]:
    reached = f"{whole.answered / whole.expected:.1%}" if whole.expected else "none was asked"
    lines = [
        f"{topic}: {whole.published} messages published, {whole.answers} answers of {whole.peers} peers",
        f"  asked: {whole.share:.2%} of some {whole.receivers:.0f} receivers; of the connected ones answered {reached}",
    ]
    if whole.unpublished:
        lines.append(f"  {whole.unpublished} messages could not be published")
    if whole.ignored:
        lines.append(f"  {whole.ignored} answers do not count")
    if not delays:
        return lines
    told = ", ".join(f"p{share * 100:g} {_time(quantile(delays, share))}" for share in _SHARES)
    direct = sum(answer.direct for answer in answers) / len(answers)
    lines += [f"  delay: {told}, slowest {_time(delays[-1])}; {direct:.0%} came straight from this node", ""]
    lines += histogram(delays)
    lines += ["", "  the slowest, by their medians:"]
    lines += [
        f"    {each.peer_id}  {_time(each.delay)}  of {each.answers} answers{_directly(each)}" for each in slowest
    ]
    return lines


def quantile(ascending: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def histogram(ascending: Sequence[float]) -> list[str]:
    """A line for each range of delays, from the shortest to the longest: how many, and what share came until then."""
    step = _step(ascending[-1])
    counts = [0] * (int(ascending[-1] / step) + 1)
    for delay in ascending:
        counts[int(delay / step)] += 1
    first = next(place for place, count in enumerate(counts) if count)
    most, width = max(counts), len(_time(len(counts) * step))
    digits = len(str(most))
    reached = list(accumulate(counts))
    return [
        f"  to {_time((place + 1) * step):>{width}}  {'#' * round(count / most * _BAR):<{_BAR}}  {count:>{digits}}"
        f"  {math.floor(100 * reached[place] / reached[-1]):>3}%"
        for place, count in enumerate(counts)
        if place >= first
    ]


def _step(longest: float) -> float:
    """The width of a range: a round number, so that there are about `_ROWS`."""
    return next(
        step * 10.0**power for power in range(-6, 6) for step in _STEPS if longest / (step * 10.0**power) <= _ROWS
    )


def _directly(receiver: _Receiver) -> str:
    return f", {receiver.direct} straight from this node" if receiver.direct else ""


def _slowest(answers: Sequence[ProbeAnswer]) -> list[_Receiver]:
    by_peer: dict[str, list[ProbeAnswer]] = defaultdict(list)
    for answer in answers:
        by_peer[answer.peer_id].append(answer)
    receivers = [
        _Receiver(
            peer,
            quantile(sorted(answer.delay for answer in own), 0.5),
            len(own),
            sum(answer.direct for answer in own),
        )
        for peer, own in by_peer.items()
    ]
    return sorted(receivers, key=lambda each: -each.delay)[:_SLOWEST]


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"
