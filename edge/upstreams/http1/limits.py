"""Time, size and connection limits of one origin."""

import msgspec

STALE_WITHIN = 1.0
"""Seconds in which a loss means that the server closed the connection before our request arrived.

A later loss may follow work that the server has done and charged for (RFC 9110 section 9.2.2).
"""


class PoolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Time limits are seconds, sizes are bytes. Raises ValueError for a value out of range.

    connect: waiting for a free connection, DNS, TCP and TLS together.
    first_byte: from the request's last byte until the response head is complete. Interim (1xx)
        responses do not count as an answer.
    idle: silence of the upstream within a response body, or time without taking more of a request
        body. Does not run while reading is paused for a slow consumer, nor while waiting for the
        source of a streamed request body.
    total: from `open` to the last byte of the response.
    continue_after: how long `expect: 100-continue` waits before the body is sent anyway
        (RFC 9110 section 10.1.1).
    connections: open connections at a time; further requests wait in order of arrival.
    waiting: requests that may wait; one more fails at once.
    keepalive: how long an unused connection is kept; a shorter `keep-alive: timeout=` of the server
        wins.
    header_bytes: a response head with interim responses and trailers.
    body_bytes: a response body; 0 means no limit.
    buffer_bytes: received and unread bytes of a response body; beyond it the socket is not read.
        One more read of the socket (at most 256 KiB) may be added.
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
