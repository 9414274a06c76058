"""One trace through two sidecars, as a collector of OpenTelemetry gets it."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import sidecar_client
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from .processes import PATIENCE, Process, command, running

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans as OTLP over gRPC; `spans` waits for as many as are expected."""

    def __init__(self) -> None:
        self._spans: list[tuple[str, Any]] = []  # whose it is, and the span
        self._changed = threading.Condition()

    def Export(self, request: Any, context: object) -> Any:
        with self._changed:
            for resource in request.resource_spans:
                whose = {a.key: a.value.string_value for a in resource.resource.attributes}["service.instance.id"]
                self._spans += [(whose, span) for scope in resource.scope_spans for span in scope.spans]
            self._changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self, count: int) -> list[tuple[str, Any]]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._spans) >= count, PATIENCE)
            return list(self._spans)


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    """A collector, and its endpoint."""
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield collector, f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@contextmanager
def traced_pair(place: Path, *flags: str) -> Iterator[tuple[Process, Process, str]]:
    """Two sidecars, the second joined through the first, and the second's peer id."""
    with running(place / "1", *flags) as first:
        address = first.line("  address").split()[-1]
        with running(place / "2", "--bootstrap", address, *flags) as second:
            peer = second.line("  peer id").split()[-1]
            second.line("Ready after")
            yield first, second, peer


async def _ask(first: Process, second: Process, peer: str, traceparents: list[str]) -> list[str]:
    """What the serving app is told of each request's trace."""

    async def answer(request: sidecar_client.Request) -> bytes:
        if request.data == b"refuse":
            raise sidecar_client.Refused("not today")
        return request.traceparent.encode()

    async with (
        sidecar_client.connect(f"unix:{first.socket}") as asking,
        sidecar_client.connect(f"unix:{second.socket}") as serving,
        serving.serve("/traced/1", answer),
    ):
        requests = (asking.request(peer, "/traced/1", b"", timeout=20, traceparent=parent) for parent in traceparents)
        told = [answer.decode() for answer in await asyncio.gather(*requests)]
        try:
            await asking.request(peer, "/traced/1", b"refuse", timeout=20, traceparent=traceparents[0])
        except sidecar_client.Refused:
            return told
        raise AssertionError("not refused")


def test_one_trace_from_the_app_that_asks_to_the_app_that_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")  # milliseconds; else spans wait for others for 5 s
    with collecting() as (collector, endpoint), traced_pair(tmp_path, "--tracing-endpoint", endpoint) as pair:
        first, second, peer = pair
        parent = f"00-{TRACE}-{PARENT}-01"
        told = asyncio.run(_ask(first, second, peer, [parent, parent]))  # alone, and with others
        spans = collector.spans(6)
        assert {span.trace_id.hex() for _, span in spans} == {TRACE}
        asking = [span for whose, span in spans if whose != peer]
        serving = [span for whose, span in spans if whose == peer]
        assert {span.name for span in asking} == {"request /traced/1"}
        assert {span.name for span in serving} == {"serve /traced/1"}
        assert {span.parent_span_id.hex() for span in asking} == {PARENT}
        assert {span.parent_span_id for span in serving} == {span.span_id for span in asking}
        assert [(span.kind, other.kind) for span, other in zip(asking, serving, strict=True)] == [(3, 2)] * 3
        for answer in told:
            version, trace, span_id, flags = answer.split("-")
            assert (version, trace, flags) == ("00", TRACE, "01")
            assert span_id in {span.span_id.hex() for span in serving}
        failed = [span for _, span in spans if span.status.code == 2]
        assert sorted((span.name, span.status.message) for span in failed) == [
            ("request /traced/1", "not today"),
            ("serve /traced/1", "not today"),
        ]
        assert second.terminate() == 0


def test_without_a_collector_places_in_traces_pass_through_and_nothing_is_imported(tmp_path: Path) -> None:
    with traced_pair(tmp_path) as (first, second, peer):
        parent = f"00-{TRACE}-{PARENT}-00"
        assert asyncio.run(_ask(first, second, peer, [parent, parent, ""])) == [parent, parent, ""]
        maps = Path(f"/proc/{first.popen.pid}/maps").read_text()
        assert "opentelemetry" not in maps


def test_a_collector_that_is_not_there_holds_nothing_up(tmp_path: Path) -> None:
    with traced_pair(tmp_path, "--tracing-endpoint", "http://127.0.0.1:9") as (first, second, peer):
        parent = f"00-{TRACE}-{PARENT}-01"
        assert len(asyncio.run(_ask(first, second, peer, [parent]))) == 1
        assert first.terminate() == 0
        assert second.terminate() == 0


def test_a_malformed_place_in_a_trace_is_named(tmp_path: Path) -> None:
    assert command(tmp_path, "run", "--tracing-endpoint", "nowhere").returncode == 2
    with traced_pair(tmp_path) as (first, _, peer):

        async def ask() -> None:
            async with sidecar_client.connect(f"unix:{first.socket}") as asking:
                with pytest.raises(sidecar_client.InvalidArgument) as refused:
                    await asking.request(peer, "/traced/1", b"", traceparent="00-nonsense")
                assert refused.value.field == "traceparent"

        asyncio.run(ask())
