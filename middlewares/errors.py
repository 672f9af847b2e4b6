"""Turn whatever goes wrong inside into an answer in the caller's dialect."""

import logging
from collections.abc import Awaitable

from ._asgi import ASGIApp, Message, Receive, Scope, Send
from .exchange import Exchange, House
from .problem import Problem

_log = logging.getLogger(__name__)
_HOUSE = House()
_WHOLE = (
    *(b"\ndata: [DONE]", b"\ndata:[DONE]"),
    *(b'"message_stop"', b'"response.completed"', b'"response.incomplete"'),
)
"""What the last message of a stream holds when it has ended well, by dialect."""


class ErrorsMiddleware:
    """Everything inside may fail; nothing outside has to talk.

    Before the response has begun a raised `Problem` answers for itself and any other exception
    becomes `internal`, logged with its traceback under the request id. After it, an event stream
    ends with an error event and never with a success marker; any other body can only be broken
    off, so the exception goes on to the server, which closes the connection. Cancellation passes.

    The empty last message of an event stream waits until the app has returned: Starlette's
    `BaseHTTPMiddleware` sends it although the app inside has raised, and raises only then.

    Reads:   request_id, dialect
    Writes:  house
    Rejects: internal
    Order:   inside what stamps and counts, outside all that may refuse
    Cost:    wraps send
    """

    __slots__ = ("_house", "app")

    def __init__(self, app: ASGIApp, *, brand: str = _HOUSE.brand, details: bool = False) -> None:
        if not brand:
            raise ValueError("brand '': expected the name that public messages carry")
        self.app = app
        self._house = House(brand, details)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        exchange = Exchange.of(scope)
        exchange.house = self._house
        started = streaming = ended = False
        end: Message | None = None
        last: Message = {}

        def send_watched(message: Message) -> Awaitable[None]:
            nonlocal started, streaming, ended, end, last
            if message["type"] == "http.response.body":
                if message.get("more_body"):
                    last = message
                elif streaming and not message.get("body"):
                    end = message
                    return _sent()
                else:
                    ended = True
            elif message["type"] == "http.response.start":
                started = True
                for name, value in message.get("headers", ()):
                    if name == b"content-type":
                        streaming = value.startswith(b"text/event-stream")
                        break
            return send(message)

        try:
            await self.app(scope, receive, send_watched)
        except Exception as raised:
            # No second name for what was raised: its traceback holds this frame, and the two would
            # stay until the next garbage collection.
            if not isinstance(raised, Problem):
                _log.exception("request %s failed inside", exchange.request_id)
            if not started:
                await _problem_of(raised)(scope, receive, send)
            elif end is not None and _is_whole(last):
                await send(end)  # the answer was whole; what failed came after it
            elif streaming and not ended:
                event = _problem_of(raised).event(exchange)
                await send({"type": "http.response.body", "body": event})
            elif not ended:
                raise
        else:
            if end is not None:
                await send(end)


def _is_whole(last: Message) -> bool:
    """Whether a stream whose last message is `last` has ended well."""
    text: bytes = b"\n" + last.get("body", b"")  # JSON has no line ends, nor bare quotes in texts
    return any(mark in text for mark in _WHOLE)


async def _sent() -> None:
    """In place of a `send` that waits."""


def _problem_of(raised: Exception) -> Problem:
    if isinstance(raised, Problem):
        return raised
    return Problem("internal", reason=f"{type(raised).__name__}: {raised}")
