"""Export of spans by OTLP over HTTP, from a thread of each worker.

Theory of operation. The SDK's batch processor has a queue and a thread, and loses the oldest spans
without a count when the queue is full. Here a span is counted when it comes and when its batch is
done; while 2,048 are between the two, further ones are dropped and counted. So memory is bounded
and requests never wait, whatever the collector does.

An export takes at most 10 s with its retries, and reads at most 64 KiB of the collector's answer.
A collector that is away is logged once a minute.
Everything is made in the worker after it was forked: threads and connections do not survive that.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from time import monotonic
from urllib.parse import urlsplit

import structlog
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from edge.config.load import Settings
from edge.config.model import TracingConfig, UpstreamConfig
from middlewares.asgi import Scope
from middlewares.exchange import Exchange
from middlewares.shared import Shared
from middlewares.tracing.spans import Spans, UpstreamFacts

from .trace_settings import otlp_installed, traces_endpoint

QUEUE = 2048
"""Spans that wait for the collector, those of the batch under way included."""
_BATCH = 512
_EVERY = 5.0
"""Seconds between two exports."""
_TIMEOUT = 10.0
"""Seconds for one batch, retries included."""
_STOP = 3.0
"""Most seconds for the last export at the end of a worker."""
_STOP_FAILING = 0.2
"""The same where the last export failed or has not ended for a second."""
_LOG_EVERY = 60.0

_log = structlog.get_logger()


class CountedExporter(SpanExporter):
    """Exports by `inner`, counts the results, and logs failures once a minute."""

    def __init__(self, inner: SpanExporter, clock: Callable[[], float] = monotonic) -> None:
        self.exported = 0
        self.failed = 0
        self.failing = False
        self.began: float | None = None
        """Time at which the export under way began."""
        self._inner = inner
        self._clock = clock
        self._said = -_LOG_EVERY
        self._ended = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See `SpanExporter`."""
        self.began = self._clock()
        try:
            result = self._inner.export(spans)
        except Exception:  # one batch is lost, and the thread goes on
            result = SpanExportResult.FAILURE
        finally:
            self.began = None
        self.failing = result is not SpanExportResult.SUCCESS
        if self.failing:
            self.failed += len(spans)
            self._say()
        else:
            self.exported += len(spans)
        return result

    def _say(self) -> None:
        now = self._clock()
        if now - self._said >= _LOG_EVERY:
            self._said = now
            _log.warning(
                "traces: the collector does not take spans; requests are served without traces",
                failed=self.failed,
            )

    def shutdown(self) -> None:
        """See `SpanExporter`. Ends the retries of an export under way."""
        if not self._ended:
            self._ended = True
            self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """See `SpanExporter`."""
        return self._inner.force_flush(timeout_millis)

    @property
    def stuck(self) -> bool:
        """Whether waiting for the collector is in vain."""
        began = self.began
        return self.failing or (began is not None and self._clock() - began > 1.0)


class SpanExport(Shared):
    """The spans of one worker on their way to the collector. dropped: spans without room.

    resource: the service, in all spans.
    """

    def __init__(self, exporter: SpanExporter, resource: Resource | None = None) -> None:
        self._resource = resource
        self._exporter = CountedExporter(exporter)
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=QUEUE,
            schedule_delay_millis=_EVERY * 1000,
            max_export_batch_size=_BATCH,
        )
        self._taken = 0
        self.dropped = 0

    @property
    def exported(self) -> int:
        """Spans that the collector has taken."""
        return self._exporter.exported

    @property
    def failed(self) -> int:
        """Spans that the collector has not taken."""
        return self._exporter.failed

    def on_end(self, span: ReadableSpan) -> None:
        """Take over a span. Call it on the event loop only. Never waits."""
        if self._taken - self._exporter.exported - self._exporter.failed >= QUEUE:
            self.dropped += 1
            return
        self._taken += 1
        self._processor.on_end(span)

    def spans(self, settings: Settings, route: Callable[[Scope, Exchange], str]) -> Spans:
        """What makes spans with the upstreams of a configuration, and hands them to this. route:
        the path template of a request."""
        return Spans(
            self,
            resource=self._resource,
            upstreams={config.name: facts_of(config) for config in settings.upstreams},
            route=route,
            version=version("penstock"),
        )

    def close(self, most: float = _STOP) -> None:
        """Export what is left, within `most` seconds and 3 s, and not at all where the collector
        does not answer.

        It blocks: call it in a thread. What a collector does not take in time is lost.
        """
        closing = threading.Thread(target=self._processor.shutdown, daemon=True, name="traces-end")
        closing.start()
        end = monotonic() + min(most, _STOP)
        patience = monotonic() + _STOP_FAILING
        while closing.is_alive() and monotonic() < end:
            if self._exporter.stuck and monotonic() > patience:
                break
            closing.join(0.02)
        if closing.is_alive():
            self._exporter.shutdown()


_PROVIDERS = {
    "openai": "openai",
    "responses": "openai",
    "anthropic": "anthropic",
    "claude-cli": "anthropic",
}
_PORTS = {"http": 80, "https": 443}


def facts_of(config: UpstreamConfig) -> UpstreamFacts:
    """An upstream as spans show it."""
    provider = config.provider_name or _PROVIDERS.get(config.dialect, "penstock")
    if config.base_url is None:
        return UpstreamFacts(provider)
    parts = urlsplit(config.base_url)
    return UpstreamFacts(provider, parts.hostname or "", parts.port or _PORTS[parts.scheme])


def resource_of(tracing: TracingConfig, env: Mapping[str, str] = os.environ) -> Resource:
    """The service in all spans of this worker. Settings go before variables of the environment."""
    worker = {
        "service.version": version("penstock"),
        "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
    }
    given = Resource.create(worker)  # with OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME
    named = bool(env.get("OTEL_SERVICE_NAME")) or "service.name=" in env.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    own: dict[str, str] = {} if named else {"service.name": "penstock"}
    own |= tracing.resource
    if tracing.service_name is not None:
        own["service.name"] = tracing.service_name
    return given.merge(Resource(own))


def open_export(tracing: TracingConfig, env: Mapping[str, str] = os.environ) -> SpanExport | None:
    """The export of this worker; None where there are no traces, or the extra is missing."""
    endpoint = traces_endpoint(tracing, env)
    if endpoint is None or not otlp_installed():
        return None
    # 40 ms and 3 MB, which a gateway without traces does not need.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    from .collector_session import CollectorSession

    for name in ("opentelemetry", "urllib3"):  # a line for each retry; we write one a minute
        logging.getLogger(name).setLevel(logging.CRITICAL)
    headers = {name: value.reveal() for name, value in tracing.headers.items()}
    session = CollectorSession(_TIMEOUT)
    exporter = OTLPSpanExporter(
        endpoint=endpoint, headers=headers, timeout=_TIMEOUT, session=session
    )
    return SpanExport(exporter, resource_of(tracing, env))
