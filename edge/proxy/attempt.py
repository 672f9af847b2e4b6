"""One attempt at one target: open the upstream response and send it to the client.

Theory of operation. An attempt goes through these phases:

    connecting   `Upstream.open` until the head is there
    holding      frames are read but not sent, until the first content; a failure here is still
                 answered with its own status, or by another target
    streaming    the head has left; each upstream read becomes at most one `send`; a failure is an
                 error event and then the end
    ended        the upstream response is closed in one `finally`

After `hold` seconds without content the head is sent early with a ping, and holding goes on. A
client that disconnects ends any phase (see `watchdog`), unless the upstream is drained
(`Exchange.on_hangup`): then the rest of its answer is counted, and not sent.
"""

from asyncio import CancelledError
from collections.abc import Awaitable
from functools import partial
from time import perf_counter

import msgspec

from edge.dialects.passthrough import UpstreamError
from edge.runtime.worker_thread import run_to_completion
from edge.upstreams import (
    ConnectFailed,
    Header,
    OutOfDescriptors,
    Response,
    SignedOut,
    TimedOut,
    UpstreamFailure,
)
from edge.upstreams.bodies import BodyTooLarge, read_all
from edge.upstreams.provider import Provider
from edge.upstreams.refusal import disclose
from middlewares.asgi import Receive, Scope, Send
from middlewares.disconnects import ClientDisconnected
from middlewares.exchange import Attempt, Exchange, Usage
from middlewares.problem import Problem

from .answer_memory import LARGE, HeldAnswer
from .response_form import event_stream, whole_answer
from .stream import BudgetCutOffStream, ResponseStream, release_request
from .translate import Translator
from .upstream_request import reason_of
from .watchdog import FirstTokenTimeout, Watchdog

_JSON: Header = (b"content-type", b"application/json")


class AttemptLimits(msgspec.Struct, frozen=True):
    """Bounds of time and size on every answer.

    hold: seconds the status line of a stream is held for its first content.
    keep_alive: seconds of silence on a stream after which a ping is sent.
    drain: seconds a drained upstream may go on after its client has disconnected.
    max_answer, max_vectors: bytes of an unstreamed answer, and of one at /v1/embeddings.
    max_stream: bytes that are read of a translated stream.
    """

    hold: float
    keep_alive: float
    drain: float
    max_answer: int
    max_vectors: int
    max_stream: int

    def after(self, seconds: float) -> "AttemptLimits":
        """The limits when `seconds` of the hold have passed."""
        return msgspec.structs.replace(self, hold=max(0.0, self.hold - seconds))


class UpstreamAttempt:
    """One attempt. record: its row in the log and the ledger. scope: of the request."""

    __slots__ = ("_exchange", "_limits", "_provider", "_record", "_scope", "_translator")

    def __init__(
        self,
        exchange: Exchange,
        record: Attempt,
        translator: Translator,
        provider: Provider,
        limits: AttemptLimits,
        scope: Scope,
    ) -> None:
        self._exchange = exchange
        self._scope = scope
        self._record = record
        self._translator = translator
        self._provider = provider
        self._limits = limits

    async def run(self, opening: Awaitable[Response], receive: Receive, send: Send) -> None:
        """Send the answer of `opening` to the client. Returns when it is sent, or the client has
        disconnected.

        Raises Problem for a failure of the upstream. Nothing of it was sent to the client unless
        `Exchange.first_content` is set.
        """
        exchange, record = self._exchange, self._record
        try:
            if exchange.stream:
                await self._run_stream(opening, receive, send)
            else:
                await self._run_unstreamed(opening, receive, send)
        except CancelledError:  # the service stops
            if not exchange.outcome:
                exchange.outcome = "cut" if exchange.first_content else "failed"
            record.error = "the service stops"
            raise
        except ClientDisconnected as gone:
            _clear_tracebacks(gone)
            if exchange.outcome != "completed":
                exchange.outcome = "hung_up"
            record.error = "the client left"
        except Problem as problem:
            record.problem = problem.kind
            raise
        except (FirstTokenTimeout, UpstreamFailure, UpstreamError) as raised:
            _clear_tracebacks(raised)
            raise self._record_failure(raised) from None
        finally:
            record.ended = now = perf_counter()
            if not exchange.first_content:
                exchange.upstream_seconds = now - exchange.attempts[0].started

    def _record_failure(
        self, raised: FirstTokenTimeout | UpstreamFailure | UpstreamError
    ) -> Problem:
        """Note that the attempt has failed. The Problem that its failure amounts to."""
        record, provider = self._record, self._provider
        if isinstance(raised, FirstTokenTimeout):
            record.error = str(raised)
            record.unanswered = not record.status
            problem = Problem("upstream_timeout", reason=reason_of(record.target, record.error))
        elif isinstance(raised, UpstreamFailure):
            record.error = provider.without_secrets(raised.reason)
            record.unanswered = raised.sent and not record.status
            problem = Problem(
                _kind_of(raised),
                reason=reason_of(record.target, record.error),
                held=not isinstance(raised, OutOfDescriptors),
            )
        else:
            record.error = provider.without_secrets(raised.reason)
            problem = Problem(
                raised.kind,
                retry_after=raised.wait,
                reason=reason_of(record.target, record.error),
            )
            if provider.disclose and raised.upstream_message:
                disclose(problem, provider.without_secrets(raised.upstream_message))
        record.problem = problem.kind
        return problem

    async def _run_unstreamed(
        self, opening: Awaitable[Response], receive: Receive, send: Send
    ) -> None:
        exchange = self._exchange
        held = HeldAnswer()
        try:
            body = await self._read_answer(opening, receive, held)
            release_request(exchange)
            if exchange.answer_record is not None:
                await exchange.answer_record.save(body)
            exchange.first_content = perf_counter()
            if exchange.outcome == "hung_up":
                return
            exchange.outcome = "completed"
            headers = [_JSON, (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            if not held.size:
                await send({"type": "http.response.body", "body": body})
            elif not await held.send(send, body):
                exchange.outcome = "hung_up"
        finally:
            held.close()

    async def _read_answer(
        self, opening: Awaitable[Response], receive: Receive, held: HeldAnswer
    ) -> bytes:
        """The client's body of an unstreamed answer. A disconnect meanwhile sets the outcome."""
        exchange = self._exchange
        vectors = exchange.row.codec == "embeddings"
        max_bytes = self._limits.max_vectors if vectors else self._limits.max_answer
        async with Watchdog(
            receive, drain=self._drain_seconds(), on_disconnect=self._on_disconnect
        ):
            response = await opening
            try:
                body = await read_all(response, max_bytes, held.grow)
            except BodyTooLarge as raised:
                if not vectors:
                    raise
                raise _too_many_vectors(exchange, raised.reason, max_bytes) from None
            finally:
                response.close()
            exchange.upstream_seconds = perf_counter() - exchange.attempts[0].started
            # Inside the watchdog: after a disconnect no other target is tried.
            if len(body) < LARGE:
                return _translate_answer(exchange, self._translator, body)
            step = partial(_translate_answer, exchange, self._translator, body)
            del body
            return await run_to_completion(step)

    def _on_disconnect(self) -> None:
        """Set the outcome when the client disconnects and the upstream is drained."""
        self._exchange.outcome = "hung_up"  # also if the drain is cut short

    def _run_stream(
        self, opening: Awaitable[Response], receive: Receive, send: Send
    ) -> Awaitable[None]:
        exchange = self._exchange
        kind = BudgetCutOffStream if exchange.cut_off else ResponseStream
        return self._relay_stream(
            kind(exchange, self._scope, self._translator, send), opening, receive
        )

    async def _relay_stream(
        self, stream: ResponseStream, opening: Awaitable[Response], receive: Receive
    ) -> None:
        limits = self._limits
        watchdog = Watchdog(
            receive,
            ping=stream.ping,
            hold=self._remaining_hold(),
            silence=limits.keep_alive,
            first_content=self._provider.first_content,
            drain=self._drain_seconds(),
            on_disconnect=stream.on_disconnect,
        )
        async with watchdog:
            response = await opening
            try:
                await stream.run(await self._events(response), watchdog)
            finally:
                response.close()
        await stream.finish()

    async def _events(self, response: Response) -> Response:
        """`response` as an event stream. Raises UpstreamError."""
        return await event_stream(response, self._translator.dialect, self._limits.max_stream)

    def _remaining_hold(self) -> float:
        """Seconds the status may still be held, over all attempts; the ping interval once it is
        sent."""
        exchange = self._exchange
        if exchange.headers_sent_early:
            return self._limits.keep_alive
        first = exchange.attempts[0]
        if first is self._record:
            return self._limits.hold
        return max(0.0, self._limits.hold - (self._record.started - first.started))

    def _drain_seconds(self) -> float:
        return self._limits.drain if self._exchange.on_hangup == "drain" else 0.0


def _translate_answer(exchange: Exchange, translator: Translator, body: bytes) -> bytes:
    """The client's body of an unstreamed answer. Sets its usage. Raises UpstreamError."""
    body, usage, exchange.usage_reported = translator.finish_body(
        whole_answer(body, translator.dialect)
    )
    exchange.usage = usage
    exchange.output_estimate = usage.output
    return body


def _too_many_vectors(exchange: Exchange, reason: str, max_bytes: int) -> Problem:
    """The problem of an embeddings answer over the limit. Its input is charged, and its target does
    not count as failed."""
    exchange.usage = Usage(input=exchange.estimate)
    return Problem(
        "request_too_large",
        message=f"The answer to this request is larger than {max_bytes} bytes. Send fewer inputs "
        'at once, or ask for `encoding_format` "base64" or fewer `dimensions`.',
        param="input",
        reason=reason,
        held=False,
    )


def _clear_tracebacks(raised: BaseException) -> None:
    """Drop the tracebacks of `raised` and its causes. Their frames refer to the exception, and the
    cycle would keep the request and its body until the next full garbage collection.
    """
    chain: BaseException | None = raised
    while chain is not None:
        chain.__traceback__ = None
        chain = chain.__context__


def _kind_of(failure: UpstreamFailure) -> str:
    if isinstance(failure, TimedOut):
        return "upstream_timeout"
    if isinstance(failure, SignedOut):
        return "upstream_signed_out"
    if isinstance(failure, ConnectFailed):
        return "upstream_unavailable"
    return "upstream_error"
