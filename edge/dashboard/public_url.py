"""The URL at which browsers reach the dashboard."""

import re
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from edge.config.load import Settings
from edge.routing.router import scheme_of
from middlewares.asgi import Network, Scope, header, within

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?").fullmatch
_PORTS = {"http": 80, "https": 443}


def dashboard_url(scope: Scope, settings: Settings) -> str | None:
    """Scheme and host of the dashboard, such as "https://llm.example.com"; None if unknown.

    It is configured, or a trusted proxy names it in `x-forwarded-host`. The `Host` header, which
    the sender of a request chooses, decides only between the names of this very machine.
    """
    configured = settings.dashboard.public_url or settings.server.public_url
    if configured is not None:
        return origin_of(configured)
    trusted = settings.server.trusted_proxies
    scheme = scheme_of(scope, trusted)
    host = _forwarded_host(scope, trusted)
    if host is None:
        host = (header(scope, b"host") or b"").decode("latin-1")
        if not _HOST(host) or not is_loopback(f"{scheme}://{host}"):
            return None
    return origin_of(f"{scheme}://{host}")


def _forwarded_host(scope: Scope, trusted: Sequence[Network]) -> str | None:
    """The last `x-forwarded-host`, which the proxy wrote; None without a trusted proxy."""
    peer = scope.get("client")
    if not trusted or not peer or not within(peer[0], trusted):
        return None
    given = [value for name, value in scope["headers"] if name == b"x-forwarded-host"]
    host = given[-1].rpartition(b",")[2].strip().decode("latin-1") if given else ""
    return host if _HOST(host) else None


def origin_of(url: str) -> str | None:
    """The web origin of an http or https URL, as browsers write it (RFC 6454); None for others."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (
        "" if port is None or port == _PORTS[parts.scheme] else f":{port}"
    )


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine, for which browsers treat plain http as secure."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_secure(url: str | None) -> bool:
    """Whether browsers keep `Secure` cookies of this URL."""
    return url is not None and (url.startswith("https://") or is_loopback(url))


def next_page(text: str) -> str:
    """`text` if it is a path of the dashboard, to go on to after sign-in; else its first page."""
    path = text.partition("?")[0].partition("#")[0]
    below = path == "/app" or path.startswith("/app/")
    plain = text.isascii() and text.isprintable() and not set(text) & set("\\ \"'<>")
    if len(text) > 2000 or not below or not plain or "//" in path or "/." in path or "%" in path:
        return "/app"
    return text
