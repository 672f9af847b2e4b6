"""Requests of signed-in visitors through the layers behind `auth`.

The request keeps its exchange: it is limited, charged, counted and logged as one request of the
chosen key at the endpoint that it calls, under its own id.
"""

from starlette.responses import Response

from edge.endpoints import Endpoint
from middlewares.asgi import ASGIApp, Receive, Scope, Send
from middlewares.body import replay
from middlewares.exchange import Principal, exchange_of

_JSON = (b"content-type", b"application/json")
_VERSION = (b"anthropic-version", b"2023-06-01")


class InnerAnswer(Response):
    """The answer of an endpoint, streamed as the inner app sends it.

    app: `DashboardParts.inner`. row: the endpoint. principal: of `DashboardRequest.principal`,
    checked for this endpoint. body: of the request, JSON.
    """

    def __init__(self, app: ASGIApp, row: Endpoint, principal: Principal, body: bytes) -> None:
        super().__init__()
        self._app = app
        self._row = row
        self._principal = principal
        self._content = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        row = self._row
        exchange = exchange_of(scope)
        exchange.row = row
        exchange.endpoint = row.name
        exchange.dialect = row.dialect or "openai"
        exchange.principal = self._principal
        headers = [_JSON, (b"content-length", str(len(self._content)).encode())]
        if row.dialect == "anthropic":
            headers.append(_VERSION)
        inside = {
            **scope,
            "method": "POST",
            "path": row.path,
            "raw_path": row.path.encode(),
            "query_string": b"",
            "headers": headers,
        }
        await self._app(inside, replay(self._content, receive), send)
