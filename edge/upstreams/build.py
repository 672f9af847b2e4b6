"""Build the providers of a configuration: the client, headers and secrets of each upstream."""

import re
import ssl
from base64 import b64decode
from collections.abc import Callable, Iterator
from functools import cache
from urllib.parse import quote, quote_plus, urlencode, urlsplit

import msgspec

from edge.config.load import Settings
from edge.config.model import UpstreamConfig
from edge.upstreams import Header, Upstream
from edge.upstreams.http1.limits import PoolLimits
from edge.upstreams.http1.pools import Pools
from middlewares.exchange import Dialect

from .claude_cli import ClaudeCLIUpstream, Program
from .http import upstream_for
from .local_media import LocalMediaUpstream
from .provider import Provider, credentials
from .simulator import SimulatorUpstream
from .tls import tls_context

_OVER_HTTP = frozenset(("openai", "anthropic", "responses", "simulator"))
"""Dialects whose requests have headers."""

TLS = Callable[..., ssl.SSLContext]

_DIALECTS: dict[str, frozenset[Dialect]] = {
    "openai": frozenset(("openai",)),
    "anthropic": frozenset(("anthropic",)),
    "responses": frozenset(("responses",)),
    "claude-cli": frozenset(("anthropic",)),
    "local-media": frozenset(("openai",)),
    "simulator": frozenset(("openai", "anthropic", "responses")),
}
_CREDENTIAL = re.compile(r"key|token|secret|auth|sig|code|pass|cookie|cred|session", re.IGNORECASE)
"""Names of headers, parameters and variables whose values are credentials."""
_NO_CREDENTIAL = re.compile(
    r"version|beta|referer|title|agent|^accept|^content-type$", re.IGNORECASE
)
"""Names whose values are never credentials."""
_LOOKS_RANDOM = re.compile(r"(?=\S*[A-Za-z])(?=\S*[0-9])\S{16,}")
"""Values under other names that look like a credential."""
_MIN_SECRET = 8
"""Characters that a secret needs for it to be masked in texts of an upstream."""
_DEFAULT_HEADERS: tuple[Header, ...] = (
    (b"content-type", b"application/json"),
    (b"accept-encoding", b"identity"),
    (b"user-agent", b"penstock"),
)


def providers_of(
    settings: Settings, *, pools: Pools | None = None, tls: TLS = tls_context
) -> dict[str, Provider]:
    """A provider for every configured upstream, by name. Opens no connection.

    pools: of this process; they limit the connections of all upstreams together. tls: makes the
        contexts, from the arguments of `tls_context`.

    Upstreams that trust the same authorities share a TLS context: loading the system's takes 0.2 s.
    """
    tls = cache(tls)
    repeat = settings.fallback.retry_unanswered
    return {config.name: _provider(config, tls, repeat, pools) for config in settings.upstreams}


def _provider(config: UpstreamConfig, tls: TLS, repeat: bool, pools: Pools | None) -> Provider:
    given = {
        name.lower().encode("latin-1"): value.reveal().encode("latin-1")
        for name, value in config.headers.items()
    }
    key = config.api_key.reveal() if config.api_key is not None else None
    headers = {
        **dict(_DEFAULT_HEADERS),
        **dict(credentials(config.dialect, key, config.auth_header)),
        **given,
    }
    base = config.base_url
    return Provider(
        name=config.name,
        upstream=_upstream(config, tls, repeat, pools),
        dialects=_DIALECTS.get(config.dialect, frozenset()),
        base_url=base or "",
        base_path=_path_of(base) if base is not None else b"/v1",
        headers=tuple(headers.items()),
        query=urlencode(
            [(name, value.reveal()) for name, value in config.query.items()], quote_via=quote
        ).encode(),
        extra_body={
            name: msgspec.Raw(msgspec.json.encode(value))
            for name, value in config.extra_body.items()
        },
        drop_body=frozenset(name.casefold() for name in _dropped_members(config)),
        first_content=config.first_token_timeout,
        disclose=config.disclose,
        json_edits=config.image_edits == "json",
        secrets=tuple(_secrets(config)),
        files=config.files,
        fetches_urls=config.fetches_urls,
        trace=config.trace and config.dialect in _OVER_HTTP,
    )


def _secrets(config: UpstreamConfig) -> Iterator[str]:
    """The upstream's credentials in every form that a text may hold them, longest first.

    The order matters because one may be the prefix of another.
    """
    found = set()
    for secret in (config.api_key, config.proxy):
        if secret is not None:
            found.add(secret.reveal())
    if config.proxy is not None:
        found.add(urlsplit(config.proxy.reveal()).password or "")
    if config.client_cert is not None:
        found.add(str(config.client_cert))
    given = {**config.headers, **config.query, **config.environment}
    for name, value in given.items():
        text = value.reveal().rpartition(" ")[2]
        if _CREDENTIAL.search(name) or (
            _LOOKS_RANDOM.fullmatch(text) and not _NO_CREDENTIAL.search(name)
        ):
            found.add(text)
    found = {written for secret in found for written in _encodings(secret)}
    yield from sorted((secret for secret in found if len(secret) >= _MIN_SECRET), key=len)[::-1]


def _encodings(secret: str) -> Iterator[str]:
    """A secret as text, in JSON, in a URL, and the password of a `Basic` credential."""
    yield secret
    quoted = msgspec.json.encode(secret).decode()[1:-1]
    yield from (quoted, quoted.replace("/", "\\/"))
    yield from (quote(secret), quote(secret, safe=""), quote_plus(secret))
    try:
        _, found, password = b64decode(secret, validate=True).decode("ascii").partition(":")
    except ValueError:
        return
    if found and password.isprintable():
        yield password


def _dropped_members(config: UpstreamConfig) -> tuple[str, ...]:
    return config.drop_body if config.stream_usage else (*config.drop_body, "stream_options")


def _upstream(config: UpstreamConfig, tls: TLS, repeat: bool, pools: Pools | None) -> Upstream:
    if config.dialect == "claude-cli":
        return _claude_cli(config)
    if config.dialect == "local-media":
        return LocalMediaUpstream()
    if config.base_url is None:
        return SimulatorUpstream()
    return upstream_for(
        config.base_url,
        limits=PoolLimits(
            connect=config.connect_timeout,
            first_byte=config.total_timeout,  # an unstreamed answer comes all at once, at its end
            idle=config.idle_timeout,
            total=config.total_timeout,
            connections=config.max_connections,
        ),
        transport=config.transport,
        ca=config.ca,
        client_cert=config.client_cert,
        proxy=config.proxy.reveal() if config.proxy is not None else None,
        tls=tls,
        repeat=repeat,
        pools=pools,
    )


def _claude_cli(config: UpstreamConfig) -> Upstream:
    environment = {name: value.reveal() for name, value in config.environment.items()}
    return ClaudeCLIUpstream(
        Program(command=config.command, environment=environment),
        processes=config.max_processes,
        waiting=config.max_waiting,
        prewarm=config.prewarm,
        first=config.first_token_timeout,
        idle=config.idle_timeout,
        total=config.total_timeout,
    )


def _path_of(base_url: str) -> bytes:
    return ("/" + base_url.split("://", 1)[1].partition("/")[2].strip("/")).rstrip("/").encode()
