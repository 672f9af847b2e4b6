"""Checks of one upstream of a configuration.

Each function yields pairs: the key at fault within the upstream, and a sentence.
"""

import json
import re
import string
from collections.abc import Iterator
from urllib.parse import urlsplit

from edge.endpoints import ENDPOINTS, TAILS

from .model import UpstreamConfig
from .urls import ESCAPED

_CONTEXT_HEADERS = frozenset(("traceparent", "tracestate"))
"""Headers of a trace context; each attempt has its own."""
_TOKEN = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")
_OWN_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"}
)
_PLAIN = UpstreamConfig(name="plain", dialect="simulator")
_REMOTE = ("openai", "responses", "anthropic")
_ASKED = frozenset(("model", "stream", *(name for row in ENDPOINTS for name in row.required)))
"""Members of the caller that no upstream setting may replace or remove."""
NEEDED = _ASKED | {"n"}
"""Members that no setting of a model may remove."""
BOUNDS = frozenset(name for row in ENDPOINTS for name in row.bounds)
"""Members that reservations are computed from; they are sent as the caller wrote them."""
_UNMADE = _ASKED | BOUNDS | {"n", "best_of", "n_predict", "max_new_tokens", "stream_options"}
"""Members that `extra_body` must not set."""
_FOREIGN_REFERENCE = re.compile(
    r"os\.environ|process\.env|env\.[A-Z]|\$\{?\w+\}?$|\$\(|\{\{|\{env|%\w+%$|<[^>]*>$"
    r"|(?:vault|secret|secretref|ssm|op|gcpsm|awssm)://|(?:ENV|Env):|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+$"
)
"""References to variables and vaults in the syntax of other programs. Sent as a key, the provider
would refuse each request."""


def upstream_faults(upstream: UpstreamConfig) -> Iterator[tuple[str, str]]:
    """Key and sentence of each fault of an upstream."""
    remote = upstream.dialect in _REMOTE
    if remote and upstream.base_url is None:
        yield "base_url", f"is missing; dialect {upstream.dialect} needs it"
    if not remote:
        for key in ("base_url", "api_key", "ca", "client_cert", "proxy"):
            if getattr(upstream, key) is not None:
                yield key, f"is not used by dialect {upstream.dialect}; remove it"
    if upstream.files and not remote and upstream.dialect != "simulator":
        yield "files", f"is not used by dialect {upstream.dialect}; remove it"
    yield from _client_faults(upstream)
    if upstream.base_url is not None:
        path = urlsplit(upstream.base_url).path
        end = next((end for end in TAILS if path.endswith(end)), None)
        if end is not None:
            yield "base_url", f"ends in the path {end}, which Penstock appends itself; remove it"
    if upstream.api_key is not None:
        key = upstream.api_key.reveal()
        if _FOREIGN_REFERENCE.match(key):
            yield (
                "api_key",
                'looks like a reference that another program resolves; write "env:NAME" or '
                '"file:PATH"',
            )
        elif not is_visible(key):
            yield "api_key", "expected visible ASCII characters without spaces or line ends"
    yield from _body_faults(upstream)
    if upstream.auth_header is not None and upstream.api_key is None:
        yield "auth_header", "is not used without api_key; set the key or remove it"
    for name, value in upstream.query.items():
        if not name or not name.isprintable():
            yield f"query.{name}", "expected a printable name"
        if not value.reveal().isprintable():
            yield f"query.{name}", "expected printable text without line ends as its value"
    seen: set[str] = set()
    for name, value in upstream.headers.items():
        key = f"headers.{name}"
        text = value.reveal()
        if not name or not _TOKEN.issuperset(name):
            yield key, "expected a header name (RFC 9110 token)"
        elif name.lower() in _OWN_HEADERS:
            yield key, "is set by Penstock itself; remove it"
        elif name.lower() in _CONTEXT_HEADERS and upstream.trace:
            yield key, "is set by Penstock itself; remove it, or set trace = false"
        elif name.lower() in seen:
            yield key, "is there in another case too; keep one of them"
        if not text.isascii() or not text.isprintable():
            yield key, "expected printable ASCII characters without line ends as its value"
        seen.add(name.lower())
    for key in ("connect_timeout", "first_token_timeout", "idle_timeout", "total_timeout"):
        if not getattr(upstream, key):
            yield key, "expected more than 0 seconds"
    if upstream.transport == "native":
        for key in ("client_cert", "proxy"):
            if getattr(upstream, key) is not None:
                yield key, 'needs transport = "httpx"'
    if upstream.proxy is not None and not _is_proxy(upstream.proxy.reveal()):
        yield "proxy", f'expected a URL such as "http://proxy.example.com:3128"; write {ESCAPED}'


def _is_proxy(url: str) -> bool:
    """Whether `url` is that of a proxy, without an unescaped special character in its password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    known = parts.scheme in ("http", "https", "socks5") and bool(parts.hostname)
    rest = parts.path.strip("/") + parts.query + parts.fragment
    return known and not rest and parts.netloc.count("@") <= 1


def _body_faults(upstream: UpstreamConfig) -> Iterator[tuple[str, str]]:
    """Faults of `extra_body` and `drop_body`."""
    for name, value in upstream.extra_body.items():
        key = f"extra_body.{name}"
        if name.casefold() in _UNMADE:
            yield key, "cannot be set here: the cost of a request is computed from the caller's own"
        elif name in upstream.drop_body:
            yield key, "is in drop_body too; keep one of them"
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            yield key, "expected a JSON value: no date, nan or inf"
    for n, name in enumerate(upstream.drop_body):
        if name.casefold() in _ASKED | BOUNDS:
            key = f"drop_body[{n}]"
            yield key, f"{name} cannot be dropped: the cost of a request is computed from it"


def _client_faults(upstream: UpstreamConfig) -> Iterator[tuple[str, str]]:
    """Faults of settings that only the programs of this machine have, or do not have."""
    if upstream.dialect in ("claude-cli", "local-media"):
        for key in ("headers", "query", "extra_body", "drop_body"):
            if getattr(upstream, key):
                yield key, f"is not used by dialect {upstream.dialect}; remove it"
    if upstream.dialect != "claude-cli":
        for key in ("command", "environment", "max_processes", "max_waiting", "prewarm"):
            if getattr(upstream, key) != getattr(_PLAIN, key):
                yield key, f"is not used by dialect {upstream.dialect}; remove it"
    for name, value in upstream.environment.items():
        if not name.isascii() or not name.isidentifier():
            yield f"environment.{name}", "expected the name of a variable: letters, digits and _"
        if "\0" in value.reveal():
            yield f"environment.{name}", "expected a value without NUL"


def is_visible(text: str) -> bool:
    """Whether `text` is printable ASCII without spaces."""
    return text.isascii() and text.isprintable() and " " not in text
