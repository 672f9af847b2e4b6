"""The bounds of one origin: every number has a unit and a default one can run with."""

import msgspec

STALE_WITHIN = 1.0
"""Seconds. A server that closed an idle connection before our request reached it lets us know
within a round trip. One that goes away later had the request, and may have worked on it and charged
for it (RFC 9110 section 9.2.2)."""


class PoolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Time limits are seconds, sizes are bytes. Raises ValueError for what cannot be meant.

    connect: waiting for a free connection, DNS, TCP and TLS together.
    first_byte: from the request's last byte until the response head is complete. Interim (1xx)
        responses do not count as an answer.
    idle: silence of the upstream inside a response body, or its refusal to take more of a request
        body. Does not run while we paused it because our own consumer lags, nor while the source
        of a streamed request body is the one to be waited for.
    total: from `open` to the last byte of the response, whatever happens in between.
    continue_after: how long `expect: 100-continue` waits before the body is sent anyway
        (RFC 9110 section 10.1.1).
    connections: open connections at a time; requests beyond wait in order of arrival.
    waiting: requests that may wait so; one more fails at once.
    keepalive: how long an unused connection is kept; a server's shorter `keep-alive: timeout=`
        wins.
    header_bytes: all of a response head, interim responses and trailers included.
    body_bytes: of a response body; 0 is no bound.
    buffer_bytes: of a response body received and not yet read; beyond it the socket is not read.
        One further read of the socket (at most 256 KiB) may come on top.
    """

    connect: float = 5.0
    first_byte: float = 120.0
    idle: float = 120.0
    total: float = 1800.0
    continue_after: float = 1.0
    connections: int = 1000
    waiting: int = 1000
    keepalive: float = 30.0
    header_bytes: int = 64 * 1024
    body_bytes: int = 0
    buffer_bytes: int = 256 * 1024

    def __post_init__(self) -> None:
        for name in ("connect", "first_byte", "idle", "total", "continue_after"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0 seconds, got {getattr(self, name)!r}")
        if not self.keepalive >= 0:
            raise ValueError(f"keepalive must be 0 or more seconds, got {self.keepalive!r}")
        for name in ("connections", "waiting", "header_bytes", "buffer_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        if self.body_bytes < 0:
            raise ValueError(f"body_bytes must be 0 (no bound) or more, got {self.body_bytes!r}")
