"""When a probe's messages left and came, by the nodes' traces of the wire: one clock, and none of a probe's sums."""

from collections.abc import Sequence
from pathlib import Path

from sidecar.core.buffer import FrameDecoder
from sidecar.core.gossip.messages import decode_rpc, parse_message
from sidecar.core.probe import MARK, read_probe
from sidecar.trace.reader import payload, records

_MAX_FRAME = 64 << 20

Key = tuple[bytes, int]  # a probe and the number of its message
Moments = dict[Key, float]


def arrivals(traces: Sequence[Path]) -> list[dict[int, dict[int, float]]]:
    """For each probe, in their order: by message and receiver (the place of its trace), seconds until it was there."""
    seen = [_moments(trace) for trace in traces]
    sent: dict[Key, tuple[float, int]] = {}
    for node, (out, _) in enumerate(seen):
        for key, at in out.items():
            sent[key] = min(sent.get(key, (at, node)), (at, node))
    found: dict[bytes, dict[int, dict[int, float]]] = {}
    for (probe, number), (at, prober) in sorted(sent.items(), key=lambda each: each[1]):
        came = {
            node: moments[probe, number] - at for node, (_, moments) in enumerate(seen) if (probe, number) in moments
        }
        came.pop(prober, None)
        found.setdefault(probe, {})[number] = came
    return list(found.values())


def _moments(trace: Path) -> tuple[Moments, Moments]:
    """When each message went out first, and came in first."""
    moments: dict[str, Moments] = {"out": {}, "in": {}}
    decoders: dict[tuple[int, int, str], FrameDecoder] = {}
    with trace.open("rb") as lines:
        for record in records(lines):
            if record["event"] != "data" or not record.get("protocol", "").startswith("/meshsub/"):
                continue
            direction = record["direction"]
            stream = record["connection"], record["stream"], direction
            decoder = decoders.setdefault(stream, FrameDecoder(_MAX_FRAME))
            for frame in decoder.receive(payload(record)):
                for raw in decode_rpc(frame).publish:
                    data = parse_message(raw).data or b""
                    if data.startswith(MARK):
                        asked, _ = read_probe(data)
                        moments[direction].setdefault((asked.id, asked.number), record["monotonic"])
    return moments["out"], moments["in"]
