"""Error handling: turn exceptions of inner layers into responses in the caller's dialect."""

import logging
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Iterable, Mapping

from .asgi import ASGIApp, Message, Receive, Scope, Send
from .body import discard_unread
from .error_kinds import KindChange, changed_kinds
from .exchange import ErrorStyle, exchange_of
from .problem import Problem
from .send_layer import SendLayer

_log = logging.getLogger(__name__)
_STYLE = ErrorStyle()
_WHOLE = (
    *(b"\ndata: [DONE]", b"\ndata:[DONE]"),
    *(b'"message_stop"', b'"response.completed"', b'"response.incomplete"'),
)
"""Success markers in the last message of a stream, by dialect."""
_STOPPED = "the service stops, and did not wait any longer"
_RESTARTING = "This service is being restarted. Please try again."


class ErrorsMiddleware:
    """Turn exceptions into error responses, or into an error event if a stream has begun.

    Before the response has begun, a `Problem` is its own response and any other exception becomes
    `internal`, logged with its traceback and the request id. After that, an event stream ends with
    an error event and never with a success marker. Any other body cannot be completed: the
    exception is raised to the server, which closes the connection.

    A cancellation is raised, unless `stopped` says that the service is stopping: then the answer is
    `upstream_unavailable`, in a stream that has begun an error event.

    kinds: changes of statuses, types, codes and texts, by the name of a kind in the table.
    unchanged: endpoints (`Exchange.endpoint`) for which these do not hold.
    branded, openai_members: see `ErrorStyle`.
    stopped: called at each cancellation. If the service stops, it calls `Task.uncancel` and returns
        true. A further cancellation while the answer is written ends the answer.

    The rest of a refused request's body is read and dropped for a while, if no layer has read it:
    else the connection could be reset before the client has read the answer.

    The empty last message of an event stream is held until the app has returned: Starlette's
    `BaseHTTPMiddleware` sends it although the app inside it failed, and raises only after that.

    Reads:   body_read, request_id, dialect
    Writes:  error_style
    Rejects: internal, upstream_unavailable
    Order:   inside metrics, logs and headers; outside all that may refuse or fail
    Cost:    wraps send (passed over in streams)
    """

    __slots__ = ("_stopped", "_style", "app")

    def __init__(
        self,
        app: ASGIApp,
        *,
        brand: str = _STYLE.brand,
        details: bool = False,
        kinds: Mapping[str, KindChange] | None = None,
        unchanged: Iterable[str] = (),
        branded: bool = False,
        openai_members: bool = False,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        if not brand:
            raise ValueError("brand '': expected the name that public messages carry")
        self.app = app
        self._style = ErrorStyle(
            brand,
            details,
            changed_kinds(kinds or {}),
            frozenset(unchanged),
            branded,
            openai_members,
        )
        self._stopped = stopped

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        exchange = exchange_of(scope)
        exchange.error_style = self._style
        watched = _WatchedSend(send)
        try:
            await self.app(scope, receive, watched.send)
        except Exception as raised:
            # A second name would make a cycle of this frame and the traceback, which stays until
            # the next garbage collection.
            if not isinstance(raised, Problem):
                _log.exception("request %s raised", exchange.request_id)
            if not await _answer(_problem_of(raised), watched, scope, receive):
                raise
        except CancelledError:
            if not self._stopped():
                raise
            problem = Problem("upstream_unavailable", message=_RESTARTING, reason=_STOPPED)
            try:
                answered = await _answer(problem, watched, scope, receive)
            except CancelledError:
                if not self._stopped():
                    raise
                answered = True  # there is no time to answer
            if not answered:
                raise
            return  # there is no time to read the rest of the body
        else:
            if watched.end is not None:
                await send(watched.end)
        if watched.refused and not exchange.body_read:
            await discard_unread(scope, receive)


class _WatchedSend(SendLayer):
    """`send` that notes the progress of a response. end: the held last message of a stream; whole:
    whether the one before it has a success marker."""

    started: bool = False
    streaming: bool = False
    ended: bool = False
    refused: bool = False
    end: Message | None = None
    whole: bool = False

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.body":
            if message.get("more_body"):
                self.whole = self.streaming and _is_whole(message.get("body", b""))
            elif self.streaming and not message.get("body"):
                self.end = message
                return _sent()
            else:
                self.ended = True
        elif message["type"] == "http.response.start":
            self.started = True
            self.refused = message["status"] >= 400
            for name, value in message.get("headers", ()):
                if name == b"content-type":
                    self.streaming = value.startswith(b"text/event-stream")
                    break
        return self.outer(message)


async def _answer(problem: Problem, sent: _WatchedSend, scope: Scope, receive: Receive) -> bool:
    """Answer with `problem` if still possible; whether the response is finished."""
    if not sent.started:
        await problem(scope, receive, sent.send)
    elif sent.end is not None and sent.whole:
        await sent.outer(sent.end)  # the answer was complete before the failure
    elif sent.streaming and not sent.ended:
        event = problem.event(exchange_of(scope))
        await sent.outer({"type": "http.response.body", "body": event})
    elif sent.ended:
        return True
    else:
        problem.cut(exchange_of(scope))
        return False
    return True


def _is_whole(last: bytes) -> bool:
    """Whether a stream whose last bytes are `last` has a success marker."""
    text = b"\n" + last  # JSON has no line ends, nor bare quotes in texts
    return any(mark in text for mark in _WHOLE)


async def _sent() -> None:
    """Stands for the `send` of a held message."""


def _problem_of(raised: Exception) -> Problem:
    if isinstance(raised, Problem):
        return raised
    return Problem("internal", reason=f"{type(raised).__name__}: {raised}")
