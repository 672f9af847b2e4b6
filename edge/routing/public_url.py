"""The URL at which callers reach this gateway."""

import re
from collections.abc import Sequence

from middlewares.asgi import Network, Scope, header

from .router import scheme_of

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?").fullmatch


def public_url(scope: Scope, configured: str | None, trusted: Sequence[Network]) -> str:
    """Scheme and host without a path, such as "https://llm.example.com".

    configured: `server.public_url`. trusted: proxies whose `x-forwarded-proto` is believed.
    """
    if configured is not None:
        return configured
    host = (header(scope, b"host") or b"").decode("latin-1")
    if not _HOST(host):
        server = scope.get("server") or ("127.0.0.1", None)
        name = f"[{server[0]}]" if ":" in server[0] else server[0]
        host = name if server[1] is None else f"{name}:{server[1]}"
    return f"{scheme_of(scope, trusted)}://{host}"
