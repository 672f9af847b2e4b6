"""The configured upstreams as providers: which implementation stands behind each."""

import re
import ssl
from base64 import b64decode
from collections.abc import Callable, Iterator
from functools import cache
from urllib.parse import quote, quote_plus, urlencode, urlsplit

import msgspec

from edge.config.load import Settings
from edge.config.model import UpstreamConfig as UpstreamOption
from edge.upstreams import Header, Upstream
from edge.upstreams.http1.limits import PoolLimits
from edge.upstreams.http1.pools import Pools
from middlewares.exchange import Dialect

from .claude_cli import ClaudeCLIUpstream, Program
from .http import upstream_for
from .provider import Provider, credentials
from .simulator import SimulatorUpstream
from .tls import tls_context

TLS = Callable[..., ssl.SSLContext]

_SPOKEN: dict[str, frozenset[Dialect]] = {
    "openai": frozenset(("openai",)),
    "anthropic": frozenset(("anthropic",)),
    "responses": frozenset(("responses",)),
    "claude-cli": frozenset(("anthropic",)),
    "simulator": frozenset(("openai", "anthropic", "responses")),
}
_CREDENTIAL = re.compile(r"key|token|secret|auth|sig|code|pass|cookie|cred|session", re.IGNORECASE)
"""Names of headers, parameters and variables whose values are credentials."""
_PLAIN = re.compile(r"version|beta|referer|title|agent|^accept|^content-type$", re.IGNORECASE)
"""Names whose values are none, whatever they look like."""
_RANDOM = re.compile(r"(?=\S*[A-Za-z])(?=\S*[0-9])\S{16,}")
"""Values that look like one under any other name."""
_SHORTEST = 8
"""Characters of a credential that is looked for in what an upstream says."""
_FIXED: tuple[Header, ...] = (
    (b"content-type", b"application/json"),
    (b"accept-encoding", b"identity"),
    (b"user-agent", b"penstock"),
)


def providers_of(settings: Settings, *, pools: Pools | None = None) -> dict[str, Provider]:
    """A provider for every configured upstream, by name. Opens no connection. pools: of this
    process, which bound all connections together.

    Those that trust the same authorities share a TLS context: to load the system's takes 0.2 s.
    """
    tls = cache(tls_context)
    repeat = settings.fallback.retry_unanswered
    return {option.name: _provider(option, tls, repeat, pools) for option in settings.upstreams}


def _provider(option: UpstreamOption, tls: TLS, repeat: bool, pools: Pools | None) -> Provider:
    given = {
        name.lower().encode("latin-1"): value.reveal().encode("latin-1")
        for name, value in option.headers.items()
    }
    key = option.api_key.reveal() if option.api_key is not None else None
    ours = {**dict(_FIXED), **dict(credentials(option.dialect, key, option.auth_header)), **given}
    base = option.base_url
    return Provider(
        name=option.name,
        upstream=_upstream(option, tls, repeat, pools),
        dialects=_SPOKEN.get(option.dialect, frozenset()),
        base_url=base or "",
        base_path=_path_of(base) if base is not None else b"/v1",
        headers=tuple(ours.items()),
        query=urlencode(
            [(name, value.reveal()) for name, value in option.query.items()], quote_via=quote
        ).encode(),
        extra_body={
            name: msgspec.Raw(msgspec.json.encode(value))
            for name, value in option.extra_body.items()
        },
        drop_body=frozenset(name.casefold() for name in _never_sent(option)),
        first_content=option.first_token_timeout,
        disclose=option.disclose,
        secrets=tuple(_secrets(option)),
    )


def _secrets(option: UpstreamOption) -> Iterator[str]:
    """Credentials that are sent or read, as an upstream or a library may write them, the longest
    first: one may begin as another does.
    """
    found = set()
    for secret in (option.api_key, option.proxy):
        if secret is not None:
            found.add(secret.reveal())
    if option.proxy is not None:
        found.add(urlsplit(option.proxy.reveal()).password or "")
    if option.client_cert is not None:
        found.add(str(option.client_cert))
    given = {**option.headers, **option.query, **option.environment}
    for name, value in given.items():
        text = value.reveal().rpartition(" ")[2]
        if _CREDENTIAL.search(name) or (_RANDOM.fullmatch(text) and not _PLAIN.search(name)):
            found.add(text)
    found = {written for secret in found for written in _written(secret)}
    yield from sorted((secret for secret in found if len(secret) >= _SHORTEST), key=len)[::-1]


def _written(secret: str) -> Iterator[str]:
    """A secret as it stands in texts, JSON, URLs, and behind `Basic`."""
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


def _never_sent(option: UpstreamOption) -> tuple[str, ...]:
    return option.drop_body if option.stream_usage else (*option.drop_body, "stream_options")


def _upstream(option: UpstreamOption, tls: TLS, repeat: bool, pools: Pools | None) -> Upstream:
    if option.dialect == "claude-cli":
        return _client(option)
    if option.base_url is None:
        return SimulatorUpstream()
    return upstream_for(
        option.base_url,
        limits=PoolLimits(
            connect=option.connect_timeout,
            first_byte=option.total_timeout,  # an unstreamed answer comes all at once, at its end
            idle=option.idle_timeout,
            total=option.total_timeout,
            connections=option.max_connections,
        ),
        transport=option.transport,
        ca=option.ca,
        client_cert=option.client_cert,
        proxy=option.proxy.reveal() if option.proxy is not None else None,
        tls=tls,
        repeat=repeat,
        pools=pools,
    )


def _client(option: UpstreamOption) -> Upstream:
    environment = {name: value.reveal() for name, value in option.environment.items()}
    return ClaudeCLIUpstream(
        Program(command=option.command, environment=environment),
        processes=option.max_processes,
        waiting=option.max_waiting,
        spare=option.prewarm,
        first=option.first_token_timeout,
        idle=option.idle_timeout,
        total=option.total_timeout,
    )


def _path_of(base_url: str) -> bytes:
    return ("/" + base_url.split("://", 1)[1].partition("/")[2].strip("/")).rstrip("/").encode()
