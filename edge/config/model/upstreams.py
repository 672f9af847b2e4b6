"""The table of an upstream."""

from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from edge.config.secrets import HttpUrl, Secret
from edge.config.units import Duration

from .jobs import JobVendor
from .names import (
    Slug,
    UpstreamDialect,
)


class UpstreamConfig(Struct, frozen=True, kw_only=True):
    """A provider of models."""

    name: Annotated[Slug, Meta(description="Name of the upstream, by which `targets` refer to it.")]
    dialect: Annotated[
        UpstreamDialect,
        Meta(
            description='What it speaks: "openai" (Chat Completions), "responses" (OpenAI '
            'Responses) or "anthropic" (Messages) over HTTP; "claude-cli", the Claude '
            'command-line client on this host; "local-media", speech, transcription and reading of '
            'pictures on this machine; "simulator", the built-in simulator.'
        ),
    ]
    base_url: Annotated[
        HttpUrl | None,
        Meta(
            description="URL of its API, up to and including the version: "
            '"https://api.openai.com/v1". Required by the HTTP dialects.'
        ),
    ] = None
    api_key: Annotated[
        Secret | None,
        Meta(
            description='Key of the provider: "env:UP_KEY", "file:PATH" or the key itself. No key '
            "is sent unless given."
        ),
    ] = None
    headers: Annotated[
        dict[str, Secret],
        Meta(description='Additional request headers; values may be "env:NAME" or "file:PATH".'),
    ] = {}
    auth_header: Annotated[
        Literal["authorization", "x-api-key", "api-key"] | None,
        Meta(
            description='Header that carries `api_key`: "authorization" (as a Bearer token), '
            '"x-api-key" or "api-key" (Azure). Unless given, x-api-key for dialect "anthropic" '
            "and authorization for the others."
        ),
    ] = None
    query: Annotated[
        dict[str, Secret],
        Meta(
            description='Query parameters of every request: `{ api-version = "2024-10-21" }`; '
            'values may be "env:NAME" or "file:PATH".'
        ),
    ] = {}
    jobs: Annotated[
        JobVendor | None,
        Meta(
            description='How it takes video and music jobs: "openai-videos" (OpenAI, OpenRouter, '
            'LiteLLM), "xai", "new-api", "fal", "suno", "minimax", "elevenlabs", or "penstock", '
            'another gateway like this one. Unless given, "openai-videos" for dialects "openai", '
            '"responses" and "simulator", and none for others. A model may say otherwise.'
        ),
    ] = None
    extra_body: Annotated[
        dict[str, Any],
        Meta(
            description="Members put into every JSON body sent there. They replace members of the "
            "same name, the caller's included."
        ),
    ] = {}
    drop_body: Annotated[
        tuple[str, ...],
        Meta(
            description="Members removed from every body sent there, such as those that the "
            "provider refuses."
        ),
    ] = ()
    stream_usage: Annotated[
        bool,
        Meta(
            description="Ask streams of Chat for their usage (`stream_options`). A provider that "
            "refuses the member is detected at the first request; false spares that request. "
            "Tokens that a provider does not report are estimated."
        ),
    ] = True
    image_edits: Annotated[
        Literal["form", "json"],
        Meta(
            description='How it takes /v1/images/edits: "form", multipart; "json", with data URLs. '
            "Callers may send either."
        ),
    ] = "form"
    files: Annotated[
        bool,
        Meta(
            description="The upstream keeps files (`/files` of OpenAI or Anthropic, by `dialect`) "
            "and takes their ids in requests. A file that callers name by its id is then uploaded "
            "there once, and deleted with theirs. Unless given it is sent inline."
        ),
    ] = False
    fetches_urls: Annotated[
        bool,
        Meta(
            description="The upstream fetches links in requests. Set false for a server of your "
            "own, which could be led to your network: links are then fetched by the rules of "
            "`fetch` and sent inline."
        ),
    ] = True
    trace: Annotated[
        bool,
        Meta(
            description="Send `traceparent` and `tracestate` with each request, where tracing is "
            "on. Each attempt has a span id of its own; the caller's headers are never passed on."
        ),
    ] = True
    provider_name: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^[a-z][a-z0-9_.]{0,63}$",
                extra={"expected": 'lower-case letters, digits, "_" and ".", a letter first'},
            ),
        ]
        | None,
        Meta(
            description="Name of the provider in traces, `gen_ai.provider.name` of OpenTelemetry: "
            '"openai", "anthropic", "aws.bedrock", "azure.ai.openai", "gcp.vertex_ai", '
            '"mistral_ai", "deepseek", "groq", "x_ai". Unless given it follows from `dialect`: '
            '"openai" for "openai" and "responses", "anthropic" for "anthropic" and "claude-cli", '
            '"penstock" for others.',
        ),
    ] = None
    disclose: Annotated[
        bool,
        Meta(
            description="Let callers see who answers: the names that the provider gives, members "
            "of its own, and its error messages without keys, addresses and account ids. Off "
            "unless given."
        ),
    ] = False
    connect_timeout: Annotated[
        Duration, Meta(description="Longest time to connect: name lookup, TCP and TLS.")
    ] = Duration(5)
    first_token_timeout: Annotated[
        Duration, Meta(description="Longest time to the first content of an answer.")
    ] = Duration(120)
    idle_timeout: Annotated[
        Duration, Meta(description="Longest silence between two events of a stream.")
    ] = Duration(120)
    total_timeout: Annotated[
        Duration,
        Meta(description="Longest time for one request, from its start to the end of its answer."),
    ] = Duration(1800)
    transport: Annotated[
        Literal["native", "httpx"],
        Meta(
            description='HTTP client: "native" is the fast HTTP/1.1 client; "httpx" adds HTTP/2, '
            "proxies and client certificates."
        ),
    ] = "native"
    ca: Annotated[
        Path | None,
        Meta(description="PEM file of certificate authorities to trust instead of the system's."),
    ] = None
    client_cert: Annotated[
        Path | None,
        Meta(description='PEM file with client certificate and key. Needs `transport = "httpx"`.'),
    ] = None
    proxy: Annotated[
        Secret | None,
        Meta(
            description='URL of a proxy: "http://proxy.example.com:3128". Needs `transport = '
            '"httpx"`.'
        ),
    ] = None
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Most connections of one worker process. With HTTP/1.1 each request in "
            "flight takes one.",
            extra={"renamed_from": "connections"},
        ),
    ] = 1000
    command: Annotated[
        str,
        Meta(
            pattern=r"^[^-\x00-\x1f][^\x00-\x1f]*$",
            description='Dialect "claude-cli": the client program, as a name in PATH or as a path.',
            extra={"expected": "the name or the path of a program, without arguments"},
        ),
    ] = "claude"
    environment: Annotated[
        dict[str, Secret],
        Meta(
            description='Dialect "claude-cli": variables for the client, such as '
            'CLAUDE_CONFIG_DIR or CLAUDE_CODE_OAUTH_TOKEN; values may be "env:NAME" or '
            '"file:PATH". It also gets PATH, HOME, the language, proxies and certificate '
            "authorities of the gateway, and nothing else."
        ),
    ] = {}
    max_processes: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description='Dialect "claude-cli": most clients at once in one worker process. Each '
            "answers one request and takes about 200 MB.",
            extra={"renamed_from": "processes"},
        ),
    ] = 5
    max_waiting: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description='Dialect "claude-cli": most requests that wait for a client in one worker '
            "process; a further one is answered 503, and so is one that has waited for half of "
            "`first_token_timeout`.",
            extra={"renamed_from": "waiting"},
        ),
    ] = 100
    prewarm: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description='Dialect "claude-cli": clients started ahead of the next request, within '
            "`max_processes`, once there has been a request. 0 starts each one when its request "
            "comes.",
            extra={"renamed_from": "spare"},
        ),
    ] = 1
