"""Turn whatever goes wrong inside into an answer in the caller's dialect."""

import logging
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from .asgi import ASGIApp, Message, Receive, Scope, Send
from .body import discard_unread
from .exchange import ErrorStyle, exchange_of
from .problem import Problem

_log = logging.getLogger(__name__)
_HOUSE = ErrorStyle()
_WHOLE = (
    *(b"\ndata: [DONE]", b"\ndata:[DONE]"),
    *(b'"message_stop"', b'"response.completed"', b'"response.incomplete"'),
)
"""What the last message of a stream holds when it has ended well, by dialect."""
_STOPPED = "the service stops, and did not wait any longer"
_RESTARTING = "This service is being restarted. Please try again."


class ErrorsMiddleware:
    """Everything inside may fail; nothing outside has to talk.

    Before the response has begun a raised `Problem` answers for itself and any other exception
    becomes `internal`, logged with its traceback under the request id. After it, an event stream
    ends with an error event and never with a success marker; any other body can only be broken
    off, so the exception goes on to the server, which closes the connection.

    Cancellation passes, unless `stopped` says that it came because the service stops: then it is
    answered as `upstream_unavailable`, in a stream that has begun by an error event.

    stopped: asked at each cancellation, which it has undone (`Task.uncancel`) where it returns
        true. One that comes while the answer is written ends that.

    What a refused client still sends is read and dropped for a while, if nobody has read its body:
    else the connection might be reset before the client has read why.

    The empty last message of an event stream waits until the app has returned: Starlette's
    `BaseHTTPMiddleware` sends it although the app inside has raised, and raises only then.

    Reads:   body_read, request_id, dialect
    Writes:  error_style
    Rejects: internal, upstream_unavailable
    Order:   inside what stamps and counts, outside all that may refuse
    Cost:    wraps send
    """

    __slots__ = ("_house", "_stopped", "app")

    def __init__(
        self,
        app: ASGIApp,
        *,
        brand: str = _HOUSE.brand,
        details: bool = False,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        if not brand:
            raise ValueError("brand '': expected the name that public messages carry")
        self.app = app
        self._house = ErrorStyle(brand, details)
        self._stopped = stopped

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        exchange = exchange_of(scope)
        exchange.error_style = self._house
        started = streaming = ended = refused = False
        end: Message | None = None
        last: Message = {}

        def send_watched(message: Message) -> Awaitable[None]:
            nonlocal started, streaming, ended, refused, end, last
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
                refused = message["status"] >= 400
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
                _log.exception("request %s raised", exchange.request_id)
            state = _State(started, streaming, ended, end, last)
            if not await _answer(_problem_of(raised), state, scope, receive, send_watched, send):
                raise
        except CancelledError:
            if not self._stopped():
                raise
            problem = Problem("upstream_unavailable", message=_RESTARTING, reason=_STOPPED)
            state = _State(started, streaming, ended, end, last)
            try:
                heard = await _answer(problem, state, scope, receive, send_watched, send)
            except CancelledError:
                if not self._stopped():
                    raise
                heard = True  # nobody takes it
            if not heard:
                raise
            return  # there is no time for what the client still sends
        else:
            if end is not None:
                await send(end)
        if refused and not exchange.body_read:
            await discard_unread(scope, receive)


class _State(NamedTuple):
    """How far a response has come. end: the last message of a stream, which waits; last: the one
    before it."""

    started: bool
    streaming: bool
    ended: bool
    end: Message | None
    last: Message


async def _answer(
    problem: Problem, state: _State, scope: Scope, receive: Receive, send_watched: Send, send: Send
) -> bool:
    """Answer with `problem`, as far as that can be. Whether the caller has heard all it can."""
    if not state.started:
        await problem(scope, receive, send_watched)
    elif state.end is not None and _is_whole(state.last):
        await send(state.end)  # the answer was whole; what failed came after it
    elif state.streaming and not state.ended:
        event = problem.event(exchange_of(scope))
        await send({"type": "http.response.body", "body": event})
    else:
        return state.ended
    return True


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
