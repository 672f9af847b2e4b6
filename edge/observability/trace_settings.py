"""Where traces go: the collector's endpoint, of the configuration or of the environment."""

import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from edge.config.model import TracingConfig

_PATH = "/v1/traces"
INSTALL = "pip install 'penstock[otlp]'"


def traces_endpoint(tracing: TracingConfig, env: Mapping[str, str] = os.environ) -> str | None:
    """The URL that spans are posted to; None where there are no traces.

    In order: `tracing.endpoint`, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT as it is,
    OTEL_EXPORTER_OTLP_ENDPOINT with `/v1/traces`.
    """
    if not tracing.enabled or env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if tracing.endpoint is not None:
        base = tracing.endpoint
        return base if base.endswith(_PATH) else base + _PATH
    if whole := env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return whole
    if general := env.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return general.rstrip("/") + _PATH
    return None


def missing_otlp(tracing: TracingConfig, env: Mapping[str, str] = os.environ) -> Iterator[str]:
    """A warning where traces are wanted and the extra is not installed."""
    if traces_endpoint(tracing, env) is not None and not otlp_installed():
        yield f"tracing.endpoint: spans cannot be sent without the extra: {INSTALL}"


def otlp_installed() -> bool:
    """Whether the extra `otlp` is installed."""
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False
