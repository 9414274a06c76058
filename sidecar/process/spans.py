"""Traces: one from an app's request through both sidecars to the app that serves it.

A request carries its place in a trace, as W3C Trace Context writes it (`traceparent`), from the app that asks to the
one that answers, always. With `tracing.endpoint` each sidecar adds a span of its own and sends it to an OpenTelemetry
collector; only then is OpenTelemetry imported.
"""

import asyncio
import contextlib
import logging
import threading
from typing import Any, Protocol

from ..core.errors import ConfigError, SidecarError
from ..core.override import override
from ..core.types import PeerId

_log = logging.getLogger("sidecar.tracing")


class Span(Protocol):
    """Something that takes time."""

    context: str
    """Its traceparent, for those that come after it; empty outside of traces."""

    def end(self, error: SidecarError | None = None) -> None:
        """It is over; called once."""


class Tracer(Protocol):
    """Makes spans."""

    def asking(self, peer: PeerId, protocol: str, parent: str) -> Span:
        """A request to a peer. `parent`: a traceparent that has been checked, or empty."""

    def serving(self, peer: PeerId, protocol: str, parent: str) -> Span:
        """A request of a peer."""

    async def close(self, timeout: float) -> None:
        """Let what has not been sent leave, for `timeout` seconds at most."""


class _Passed:
    """No span: what comes after it has the same parent."""

    __slots__ = ("context",)

    def __init__(self, parent: str) -> None:
        self.context = parent

    def end(self, error: SidecarError | None = None) -> None:
        pass


class NoTracer(Tracer):
    """Makes no spans, and hands places in traces on as they are."""

    @override
    def asking(self, peer: PeerId, protocol: str, parent: str) -> Span:
        return _Passed(parent)

    @override
    def serving(self, peer: PeerId, protocol: str, parent: str) -> Span:
        return _Passed(parent)

    @override
    async def close(self, timeout: float) -> None:
        pass


def open_tracer(endpoint: str, sample: float, *, peer_id: str, version: str, network: str) -> Tracer:
    """The tracer of a configuration: none without an endpoint. Raises ConfigError.

    `endpoint`: where an OpenTelemetry collector takes OTLP over gRPC, as a URL.
    `sample`: the part of traces that begin here which is recorded, 0 to 1; others are as their parent says.
    """
    if not endpoint:
        return NoTracer()
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
    except ImportError as error:
        raise ConfigError(f"tracing.endpoint needs pip install 'p2p-sidecar[tracing]' ({error})") from None
    resource = Resource.create(
        {
            "service.name": "sidecar",
            "service.version": version,
            "service.instance.id": peer_id,
            "sidecar.network": network,
        }
    )
    provider = TracerProvider(resource=resource, sampler=ParentBasedTraceIdRatio(sample), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https"))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _log.info("traces go to %s", endpoint)
    return _OpenTelemetry(provider)


class _OpenTelemetry:
    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("sidecar")
        self._kinds = trace.SpanKind
        self._set_span = trace.set_span_in_context
        self._propagator = TraceContextTextMapPropagator()

    def asking(self, peer: PeerId, protocol: str, parent: str) -> Span:
        return self._begin("request", self._kinds.CLIENT, peer, protocol, parent)

    def serving(self, peer: PeerId, protocol: str, parent: str) -> Span:
        return self._begin("serve", self._kinds.SERVER, peer, protocol, parent)

    async def close(self, timeout: float) -> None:
        # In a daemon thread: it waits for the collector, which may not be there, longer than it is told to.
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def flush() -> None:
            self._provider.force_flush(int(timeout * 1000))
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(sent.set)

        threading.Thread(target=flush, name="last spans", daemon=True).start()
        try:
            async with asyncio.timeout(timeout):
                await sent.wait()
        except TimeoutError:
            _log.warning("some spans could not be sent within %g s", timeout)

    def _begin(self, what: str, kind: Any, peer: PeerId, protocol: str, parent: str) -> Span:
        from opentelemetry.context import Context

        context = self._propagator.extract({"traceparent": parent}, Context()) if parent else Context()
        about = {"sidecar.peer_id": str(peer), "sidecar.protocol": protocol}
        span = self._tracer.start_span(f"{what} {protocol}", context, kind, about)
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._set_span(span, context))
        return _Recorded(span, carrier.get("traceparent", ""))


class _Recorded:
    __slots__ = ("_span", "context")

    def __init__(self, span: Any, context: str) -> None:
        self._span = span
        self.context = context

    def end(self, error: SidecarError | None = None) -> None:
        if error is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_attribute("error.type", type(error).__name__)
            self._span.set_status(Status(StatusCode.ERROR, str(error)))
        self._span.end()
