"""The table of traces."""

from typing import Annotated

from msgspec import Meta, Struct

from edge.config.secrets import HttpUrl, Secret


class TracingConfig(Struct, frozen=True, kw_only=True):
    """Traces of requests, exported as OpenTelemetry spans by OTLP over HTTP."""

    enabled: Annotated[
        bool,
        Meta(
            description="False makes no traces, also where an endpoint is set here or in the "
            "environment.",
            extra={"reloadable": False},
        ),
    ] = True
    endpoint: Annotated[
        HttpUrl | None,
        Meta(
            description='URL of the collector: "http://collector:4318"; `/v1/traces` is appended '
            "unless it ends in that. Unless given, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or "
            "OTEL_EXPORTER_OTLP_ENDPOINT of the environment; without any of them there are no "
            "traces. Needs the extra `penstock[otlp]`.",
            extra={"reloadable": False},
        ),
    ] = None
    headers: Annotated[
        dict[str, Secret],
        Meta(
            description="Headers of each export, such as the key of a tracing service; values may "
            'be "env:NAME" or "file:PATH". They replace those of OTEL_EXPORTER_OTLP_HEADERS by '
            "the same name.",
            extra={"reloadable": False},
        ),
    ] = {}
    ratio: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Share of requests that are traced. Failed requests are traced beside it, "
            "at most one each second for each worker.",
        ),
    ] = 0.01
    parent_rate: Annotated[
        float,
        Meta(
            ge=0,
            le=1000,
            description="Most requests each second, for each worker, that are traced because their "
            "caller asks for it (the flag `sampled` of `traceparent`). Many coding agents ask for "
            "it with every request. 0 leaves it to `ratio`.",
        ),
    ] = 10.0
    content: Annotated[
        bool,
        Meta(
            description="Put prompts, answers and tool definitions into traces, each cut at "
            "32 KiB, with media replaced by their hashes. All who read the traces can then read "
            "what your callers write."
        ),
    ] = False
    service_name: Annotated[
        Annotated[str, Meta(min_length=1, max_length=100)] | None,
        Meta(
            description="`service.name` of all spans. Unless given, OTEL_SERVICE_NAME, then "
            '`service.name` in OTEL_RESOURCE_ATTRIBUTES, then "penstock".',
            extra={"reloadable": False},
        ),
    ] = None
    resource: Annotated[
        dict[str, str],
        Meta(
            description="Attributes of the service in all spans: `{ "
            '"deployment.environment.name" = "prod" }`. They replace those of '
            "OTEL_RESOURCE_ATTRIBUTES by the same name.",
            extra={"reloadable": False},
        ),
    ] = {}
