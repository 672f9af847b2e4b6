"""POST /v1/responses/compact: by the upstream's endpoint, else by a translated summary."""

from middlewares.asgi import ASGIApp, Receive, Scope, Send
from middlewares.exchange import exchange_of
from middlewares.problem import Problem

_NO_ENDPOINT = (404, 405, 501)
"""Statuses of an upstream that lacks the endpoint."""


class CompactionForwarder:
    """Forwards a compaction; asks an upstream that lacks the endpoint for a summary instead.

    native: a forwarder that passes bytes. translated: one that translates.
    """

    def __init__(self, native: ASGIApp, translated: ASGIApp) -> None:
        self._native = native
        self._translated = translated

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            return await self._native(scope, receive, send)
        except Problem:
            attempts = exchange_of(scope).attempts
            if not attempts or attempts[-1].status not in _NO_ENDPOINT:
                raise
        await self._translated(scope, receive, send)
