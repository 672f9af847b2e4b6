"""The group `otlp`: the collector that spans are exported to, by an export without spans."""

import os
import ssl
from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

import httpx
from opentelemetry.util.re import parse_env_headers

from edge.config.model import TracingConfig
from edge.observability.trace_settings import INSTALL, otlp_installed, traces_endpoint
from edge.upstreams.tls import tls_context

from .finding import Finding
from .probe import PATIENCE, Findings, Probe
from .subject import Subject

WHAT = "tracing.endpoint"


def probes(subject: Subject) -> Iterator[Probe]:
    """One probe, where there are traces."""
    tracing = subject.settings.tracing
    endpoint = traces_endpoint(tracing)
    if endpoint is not None:
        yield Probe(WHAT, partial(_check, tracing, endpoint), outward=True)


async def _check(tracing: TracingConfig, endpoint: str) -> Findings:
    if not otlp_installed():
        yield Finding("warning", WHAT, "spans cannot be sent without the extra `otlp`", INSTALL)
    place = urlsplit(endpoint).netloc.rpartition("@")[2]
    try:
        status = await _export(tracing, endpoint)
    except httpx.TimeoutException:
        yield Finding("error", WHAT, f"{place} does not answer in time", _HINT)
        return
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        said = str(error) or type(error).__name__
        yield Finding("error", WHAT, f"{place} does not answer: {said}", _HINT)
        return
    if 200 <= status < 300:
        yield Finding("ok", WHAT, f"{place} takes spans")
    elif status in (401, 403):
        yield Finding("error", WHAT, f"{place} answers {status}", "check tracing.headers")
    elif status == 404:
        yield Finding(
            "error", WHAT, f"{place} answers 404", "its receiver of OTLP over HTTP has port 4318"
        )
    else:
        yield Finding("error" if status >= 500 else "warning", WHAT, f"{place} answers {status}")


def _variable(name: str) -> str:
    """A variable of the environment by which the exporter is configured."""
    for stem in ("OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"):
        if found := os.environ.get(stem + name):
            return found
    return ""


_HINT = f"check {WHAT}, or OTEL_EXPORTER_OTLP_ENDPOINT"


async def _export(tracing: TracingConfig, endpoint: str) -> int:
    """The status of an export without spans: an empty ExportTraceServiceRequest is no bytes.

    Headers, authorities and proxies are those of the exporter, also from the environment.
    """
    headers: dict[str, str] = dict(parse_env_headers(_variable("HEADERS"), liberal=True))
    headers |= {name.lower(): value.reveal() for name, value in tracing.headers.items()}
    headers["content-type"] = "application/x-protobuf"
    context: ssl.SSLContext | bool = True
    if endpoint.startswith("https:"):
        context = tls_context(ca=_variable("CERTIFICATE") or None)
    async with (
        httpx.AsyncClient(verify=context, timeout=PATIENCE - 0.3) as client,
        client.stream("POST", endpoint, headers=headers, content=b"") as response,
    ):
        return response.status_code
